//! Profiles as code: the TOML file read, with every fault at once, and written.
//!
//! Keys that belong to the language but not to this release are refused by name: a profile whose
//! column grants or row policies were silently left out would give more than its author meant.

use crate::{
    document::{Document, Faults, Places, Table},
    domain::{
        conditions::Conditions,
        duration::Seconds,
        name::Name,
        plan::Desired,
        principal::AllowRule,
        profile::{self, DEFAULT_CONNECTION_LIMIT, OwnedObjects, Preset, ProfileSpec, Reason},
        rights::rls::contradictions,
        schedule::Schedule,
        standing::{self, StandingRoleSpec},
    },
};

const WRITE_SCHEDULE: &str =
    "a length of time such as \"90d\", a cron expression of six fields, or \"never\"";

mod access;
mod ci;
mod rights;
mod target;
mod write;

pub use self::write::{Written, write};

const LATER: &str = "it comes with a later release";

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it, with line and column.
pub fn read(name: &str, text: &str) -> Result<Desired, Faults> {
    let (desired, faults) = Document::parse(name, text)?.read(|root| {
        let mut places = Places::default();
        root.not_yet("person", LATER);
        let administration = access::read_administration(root);
        let targets = root.map_of_tables("target").into_iter();
        let targets = targets.filter_map(|(name, table)| target::read(&name, table)).collect();
        let profiles = root.map_of_tables("profile").into_iter();
        let profiles = profiles.filter_map(|(name, table)| read_profile(&name, table, &mut places));
        let profiles: Vec<ProfileSpec> = profiles.collect();
        for (n, path, message) in contradictions(&profiles) {
            let name = profiles.get(n).map(|profile| profile.name.as_str()).unwrap_or_default();
            root.fault_near(&places, &format!("profile.{name}.{path}"), &message);
        }
        let roles = root.map_of_tables("standing-role").into_iter();
        let roles = roles.filter_map(|(name, table)| read_standing_role(&name, table)).collect();
        let issuers = ci::read_issuers(root);
        let ci_rules = ci::read_rules(root, &issuers);
        Desired {
            targets,
            profiles,
            standing_roles: roles,
            administration,
            issuers,
            ci_rules,
            places,
        }
    });
    faults.or_value(desired)
}

fn read_profile(name: &str, mut table: Table, places: &mut Places) -> Option<ProfileSpec> {
    let name = checked_name(name, &table);
    table.not_yet("guard", LATER);
    table.require(&["target", "database", "preset", "ttl"]);
    let description = table.optional_string("description").unwrap_or_default();
    let target = table.parsed("target", "the name of a target", str::parse::<Name>);
    let database = table.optional_string("database");
    let preset = table.one_of("preset", Preset::ALL).and_then(Preset::from_text);
    let schemas = table.strings("schemas").unwrap_or_default();
    let group_role = table.optional_string("group_role");
    let ttl = table.parsed("ttl", "a length of time such as \"1h\"", str::parse::<Seconds>);
    let max_ttl = table.parsed("max_ttl", "a length of time such as \"8h\"", str::parse::<Seconds>);
    let limit = table.integer_in("connection_limit", 1_i32..=1000);
    let settings = rights::templates(&mut table, "settings");
    let owned_objects = table.one_of("owned_objects", OwnedObjects::ALL);
    let owned_objects = owned_objects.and_then(OwnedObjects::from_text).unwrap_or_default();
    let (allow, reason, conditions) = read_access(&mut table);
    let mut found = rights::Found::default();
    let rights = rights::read(&mut table, &mut found);
    for key in ["target", "database", "preset", "schemas", "group_role", "settings", ""] {
        found.keep(&table, "", key);
    }
    let ttl = ttl?;
    let spec = ProfileSpec {
        name: name?,
        description,
        target: target?,
        database: database?,
        preset: preset?,
        schemas,
        group_role,
        ttl,
        max_ttl: max_ttl.unwrap_or(ttl),
        connection_limit: limit.unwrap_or(DEFAULT_CONNECTION_LIMIT),
        settings,
        owned_objects,
        allow,
        reason,
        conditions,
        rights,
    };
    for (key, message) in profile::faults(&spec) {
        table.fault_near(&found.0, &key, &message);
    }
    places.keep_within(table.path(), found.0);
    Some(spec)
}

fn read_standing_role(name: &str, mut table: Table) -> Option<StandingRoleSpec> {
    let name = checked_name(name, &table);
    table.require(&["profile"]);
    let description = table.optional_string("description").unwrap_or_default();
    let profile = table.parsed("profile", "the name of a profile", str::parse::<Name>);
    let rotate = table.parsed("rotate", WRITE_SCHEDULE, str::parse::<Schedule>);
    let mut length =
        |key| table.parsed(key, "a length of time such as \"1h\"", str::parse::<Seconds>);
    let (window, jitter, grace) = (length("window"), length("jitter"), length("grace"));
    let allow = table.table("access").map(|mut access| read_allow(&mut access)).unwrap_or_default();
    let spec = StandingRoleSpec {
        name: name?,
        description,
        profile: profile?,
        rotate: rotate.unwrap_or_else(Schedule::ninety_days),
        window: window.unwrap_or(Seconds::HOUR),
        jitter,
        grace: grace.unwrap_or(Seconds::HOUR),
        allow,
    };
    for (key, message) in standing::faults(&spec) {
        table.fault(key, &message);
    }
    Some(spec)
}

fn read_access(profile: &mut Table) -> (Vec<AllowRule>, Reason, Conditions) {
    let Some(mut access) = profile.table("access") else {
        return (Vec::new(), Reason::Optional, Conditions::default());
    };
    let allow = read_allow(&mut access);
    let reason =
        access.one_of("reason", Reason::ALL).and_then(Reason::from_text).unwrap_or_default();
    (allow, reason, access::read_conditions(&mut access))
}

fn read_allow(access: &mut Table) -> Vec<AllowRule> {
    read_rules(access, "allow")
}

fn read_rules(table: &mut Table, key: &'static str) -> Vec<AllowRule> {
    let mut rules = Vec::new();
    for text in table.strings(key).unwrap_or_default() {
        match text.parse() {
            Ok(rule) => rules.push(rule),
            Err(e) => table.fault(key, &format!("{e}")),
        }
    }
    rules
}

fn checked_name(name: &str, table: &Table) -> Option<Name> {
    match name.parse() {
        Ok(name) => Some(name),
        Err(e) => {
            table.fault("", &format!("{e}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[target.shop]
environment = "dev"
host = "127.0.0.1"
port = 5433
sslmode = "disable"
admin = { user = "pgvalet_admin", password = { file = "shop.secret" } }
databases = ["shop"]
max_live = 200
scram_iterations = 1
rotate_admin = "0 0 3 1 */3 *"

[profile.shop-read]
description = "Read \"everything\""
target = "shop"
database = "shop"
preset = "readonly"
schemas = ["public"]
ttl = "1h"
max_ttl = "8h"
connection_limit = 3
settings = { statement_timeout = "30s", "app.kind" = "x" }
harden = ["no-public-create"]
failed_checks = "warn"
drift = "mend"

[profile.shop-read.access]
allow = ["group:engineering", "person:alice", "ci:storefront-main"]
reason = "required"
networks = ["10.0.0.0/8", "2001:db8::/32"]
max_live = 50
max_live_each = 2
rate = "10/1h"
ticket = "required"
approval = { from = ["group:dba"], count = 2, lapse_after = "4h", use_within = "30m", in_chat = "link" }

[[profile.shop-read.access.hours]]
days = ["mon", "fri"]
from = "08:00"
to = "18:00"
timezone = "Europe/Berlin"

[[profile.shop-read.grant]]
schema = "sales"
tables = ["inv_*", "customers"]
columns_except = ["email"]
privileges = ["select"]

[[profile.shop-read.grant]]
schema = "sales"
functions = "all"
revoke_public = true

[[profile.shop-read.rls]]
schema = "sales"
tables = "all"
force = false

[[profile.shop-read.rls.policy]]
name = "wall"
form = "tenant"
column = "tenant_id"

[[profile.shop-read.rls.policy]]
name = "hours"
form = "office-hours"
days = ["mon"]
timezone = "UTC"

[profile.shop-read.log]
"pgaudit.log" = "write"

[profile.shop-read.context]
tenant_id = "{claim.tenant_id}"

[[profile.shop-read.check]]
sql = "select email from sales.customers"
as = { tenant_id = "1" }
expect = "denied"

[[profile.shop-read.check]]
name = "one"
sql = "select 1"
expect = { value = "" }

[profile.support]
target = "shop"
database = "shop"
preset = "custom"
group_role = "shop_support"
ttl = "15m"
owned_objects = "group"

[profile.support.access]
approval = { steps = [{ from = ["group:leads"] }, { from = ["person:olivia"], count = 1 }] }

[standing-role.shop-api]
description = "The shop's own program"
profile = "shop-read"
rotate = "30d"
jitter = "2h"
grace = "10m"

[standing-role.shop-api.access]
allow = ["service:shop-api"]

[standing-role.shop-job]
profile = "support"

[administration]
auditor = ["group:security"]
operator = ["group:dba", "person:olivia"]

[issuer.github]
kind = "github"
audience = "https://pgvalet.example.org"

[issuer.cluster]
kind = "kubernetes"
url = "https://cluster.example"
audience = "pgvalet"
max_age = "1h"
ca = "a certificate"
token_review = { url = "https://10.0.0.1", token_file = "/run/token", ca = "another" }

[issuer.spire]
kind = "generic"
url = "spire.example"
jwks_url = "https://spire.example/keys"

[ci.storefront-main]
description = "Deploys of the storefront"
issuer = "github"
repository_id = 74
repository_owner_id = "65"
ref = ["refs/heads/main", "refs/heads/release/*"]

[ci.job]
issuer = "cluster"
namespace = "shop"
serviceaccount_uid = "01234567-89ab-cdef-0123-456789abcdef"

[ci.reports]
issuer = "spire"
audience = "pgvalet-reports"
subject = "spiffe://example.org/reports"
claims = { environment = "prod", "odd name" = "x" }
"#;

    #[test]
    fn a_written_file_reads_back_the_same() {
        let desired = read("profiles.toml", GOOD).unwrap();
        assert_eq!(desired.targets[0].sent.password.as_deref(), Some("file:shop.secret"));
        assert_eq!(desired.profiles[1].max_ttl, desired.profiles[1].ttl);
        let targets: Vec<_> = desired.targets.iter().map(|target| target.spec.clone()).collect();
        let again = read(
            "export.toml",
            &write(&Written {
                targets: &targets,
                profiles: &desired.profiles,
                standing_roles: &desired.standing_roles,
                administration: desired.administration.as_ref(),
                issuers: &desired.issuers,
                ci_rules: &desired.ci_rules,
            }),
        )
        .unwrap();
        assert_eq!(again.administration, desired.administration);
        assert_eq!((&again.issuers, &again.ci_rules), (&desired.issuers, &desired.ci_rules));
        assert_eq!((desired.issuers.len(), desired.ci_rules.len()), (3, 3));
        assert_eq!(again.standing_roles, desired.standing_roles);
        assert_eq!(desired.standing_roles[1].rotate, Schedule::ninety_days());
        assert_eq!(again.profiles, desired.profiles);
        assert_eq!(again.targets[0].spec, targets[0]);
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let text = r#"
[target.shop]
host = "db.example"
sslmode = "prefer"
databases = []
scram_iterations = 0
admin = { user = "a", password = "typed right here" }

[profile.shop-read]
target = "shop"
database = "shop"
preset = "readonly"
ttl = "forever"
max_tll = "8h"

[[profile.shop-read.grant]]
schema = "sales"
tables = ["orders"]
privileges = ["selct"]

[profile.shop-read.access]
allow = ["everyone", "ci:Main"]

[standing-role.api]
profile = "shop-read"
rotate = "never"
"#;
        let faults = read("p.toml", text).unwrap_err();
        let lines: Vec<_> =
            faults.as_slice().iter().map(|f| (f.line.unwrap(), f.key.as_str())).collect();
        for expected in [
            (4, "target.shop.sslmode"),
            (6, "target.shop.scram_iterations"),
            (7, "target.shop.admin.password"),
            (13, "profile.shop-read.ttl"),
            (14, "profile.shop-read.max_tll"),
            (19, "profile.shop-read.grant[0].privileges"),
            (22, "profile.shop-read.access.allow"),
            (26, "standing-role.api.rotate"),
        ] {
            assert!(lines.contains(&expected), "{expected:?} not in {lines:#?}");
        }
        let all = faults.to_string();
        assert!(all.contains("did you mean `select`"), "{all}");
        assert!(all.contains("did you mean `max_ttl`"), "{all}");
        assert!(!all.contains("typed right here"), "{all}");
    }

    #[test]
    fn two_profiles_cannot_make_one_policy() {
        let profile = |name: &str, tables: &str| {
            format!(
                "[profile.{name}]\ntarget = \"t\"\ndatabase = \"d\"\npreset = \"readonly\"\nschemas = [\"s\"]\nttl = \"1h\"\n\
                 [[profile.{name}.rls]]\nschema = \"s\"\ntables = {tables}\n\
                 [[profile.{name}.rls.policy]]\nform = \"all-rows\"\nname = \"p\"\n"
            )
        };
        let both = |one, other| read("p.toml", &(profile("a", one) + &profile("b", other)));
        both("[\"x\"]", "[\"y\"]").unwrap();
        let faults = both("[\"x*\"]", "[\"xy\"]").unwrap_err();
        let [fault] = faults.as_slice() else { panic!("{faults}") };
        assert_eq!((fault.line, fault.key.as_str()), (Some(24), "profile.b.rls[0].policy[0].name"));
        assert!(fault.message.contains("profile `a` makes a policy `p`"), "{fault}");
    }
}
