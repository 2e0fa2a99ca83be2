//! Writing the file.

use crate::domain::{
    admin_source::{AdminSource, AwsRds},
    administration::{Administration, Role},
    approval::{Needs, Step},
    ci::{IssuerSpec, rule::RuleSpec},
    conditions::Conditions,
    principal::AllowRule,
    profile::{OwnedObjects, ProfileSpec, Reason},
    rights::{
        Rights,
        check::Expect,
        context::Template,
        grant::{Grant, Selection},
        rls::{Policy, TableRls},
    },
    standing::StandingRoleSpec,
    target::TargetSpec,
};

/// What a file is written of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written<'a> {
    /// Its targets.
    pub targets: &'a [TargetSpec],
    /// Its profiles.
    pub profiles: &'a [ProfileSpec],
    /// Its standing roles.
    pub standing_roles: &'a [StandingRoleSpec],
    /// Who holds which role in pgvalet, if that is to be in it.
    pub administration: Option<&'a Administration>,
    /// Whose tokens of CI jobs are taken.
    pub issuers: &'a [IssuerSpec],
    /// What a job must be.
    pub ci_rules: &'a [RuleSpec],
}

/// Writes a file that applies to nothing new. Passwords and keys are not in it: a recorded target keeps
/// those that it has.
#[must_use]
pub fn write(written: &Written<'_>) -> String {
    let mut out = Vec::new();
    for target in written.targets {
        out.push(format!("[target.{}]", key(target.name.as_str())));
        if !target.environment.is_empty() {
            out.push(format!("environment = {}", quoted(&target.environment)));
        }
        out.push(format!("host = {}", quoted(&target.host)));
        out.push(format!("port = {}", target.port));
        out.push(format!("sslmode = {}", quoted(target.sslmode.as_str())));
        if let Some(pem) = &target.sslrootcert_pem {
            out.push(format!("sslrootcert = {}", quoted(pem)));
        }
        if let Some(pem) = &target.sslcert_pem {
            out.push(format!("sslcert = {}", quoted(pem)));
        }
        let source = target.admin_source.as_ref().map(source).unwrap_or_default();
        out.push(format!("admin = {{ user = {}{source} }}", quoted(&target.admin_user)));
        out.push(format!("databases = {}", list(&target.databases)));
        out.extend(target.max_live.map(|most| format!("max_live = {most}")));
        out.push(format!("scram_iterations = {}", target.scram_iterations));
        out.push(format!("rotate_admin = {}", quoted(&target.rotate_admin.to_string())));
        out.push(String::new());
    }
    for profile in written.profiles {
        write_profile(profile, &mut out);
        out.push(String::new());
    }
    for role in written.standing_roles {
        write_standing_role(role, &mut out);
        out.push(String::new());
    }
    if let Some(Administration(held)) = written.administration.filter(|held| !held.0.is_empty()) {
        out.push("[administration]".to_owned());
        let line = |(role, rules): (&Role, &Vec<AllowRule>)| {
            format!("{} = {}", role.as_str(), rule_list(rules))
        };
        out.extend(held.iter().map(line));
        out.push(String::new());
    }
    for issuer in written.issuers {
        write_issuer(issuer, &mut out);
        out.push(String::new());
    }
    for rule in written.ci_rules {
        write_ci_rule(rule, &mut out);
        out.push(String::new());
    }
    out.join("\n")
}

/// Where the daemon gets the password, as it follows the user.
fn source(source: &AdminSource) -> String {
    let inside = match source {
        AdminSource::Command(words) => format!("command = {}", list(words)),
        AdminSource::DaemonFile(path) => format!("daemon_file = {}", quoted(path)),
        AdminSource::AwsRds(AwsRds { region }) => {
            format!("aws_rds = {{ region = {} }}", quoted(region))
        }
        AdminSource::ClientCertificate => "client_certificate = true".to_owned(),
    };
    format!(", password = {{ {inside} }}")
}

fn write_profile(profile: &ProfileSpec, out: &mut Vec<String>) {
    let name = key(profile.name.as_str());
    out.push(format!("[profile.{name}]"));
    if !profile.description.is_empty() {
        out.push(format!("description = {}", quoted(&profile.description)));
    }
    out.push(format!("target = {}", quoted(profile.target.as_str())));
    out.push(format!("database = {}", quoted(&profile.database)));
    out.push(format!("preset = {}", quoted(profile.preset.as_str())));
    if !profile.schemas.is_empty() {
        out.push(format!("schemas = {}", list(&profile.schemas)));
    }
    if let Some(role) = &profile.group_role {
        out.push(format!("group_role = {}", quoted(role)));
    }
    out.push(format!("ttl = {}", quoted(&profile.ttl.to_string())));
    out.push(format!("max_ttl = {}", quoted(&profile.max_ttl.to_string())));
    out.push(format!("connection_limit = {}", profile.connection_limit));
    if profile.owned_objects != OwnedObjects::default() {
        out.push(format!("owned_objects = {}", quoted(profile.owned_objects.as_str())));
    }
    if !profile.settings.is_empty() {
        let pair = |(name, value): (&String, &Template)| {
            format!("{} = {}", key(name), quoted(value.as_str()))
        };
        let pairs: Vec<_> = profile.settings.iter().map(pair).collect();
        out.push(format!("settings = {{ {} }}", pairs.join(", ")));
    }
    let rights = &profile.rights;
    if !rights.harden.is_empty() {
        let words: Vec<_> = rights.harden.iter().map(|word| word.as_str().to_owned()).collect();
        out.push(format!("harden = {}", list(&words)));
    }
    if let Some(word) = rights.failed_checks {
        out.push(format!("failed_checks = {}", quoted(word.as_str())));
    }
    if let Some(word) = rights.drift {
        out.push(format!("drift = {}", quoted(word.as_str())));
    }
    out.push(format!("\n[profile.{name}.access]"));
    out.push(format!("allow = {}", rule_list(&profile.allow)));
    if profile.reason == Reason::Required {
        out.push("reason = \"required\"".to_owned());
    }
    write_conditions(&name, &profile.conditions, out);
    write_rights(&name, rights, out);
}

fn write_standing_role(role: &StandingRoleSpec, out: &mut Vec<String>) {
    let name = key(role.name.as_str());
    out.push(format!("[standing-role.{name}]"));
    if !role.description.is_empty() {
        out.push(format!("description = {}", quoted(&role.description)));
    }
    out.push(format!("profile = {}", quoted(role.profile.as_str())));
    out.push(format!("rotate = {}", quoted(&role.rotate.to_string())));
    out.push(format!("window = {}", quoted(&role.window.to_string())));
    if let Some(jitter) = role.jitter {
        out.push(format!("jitter = {}", quoted(&jitter.to_string())));
    }
    out.push(format!("grace = {}", quoted(&role.grace.to_string())));
    out.push(format!("\n[standing-role.{name}.access]"));
    out.push(format!("allow = {}", rule_list(&role.allow)));
}

fn write_issuer(issuer: &IssuerSpec, out: &mut Vec<String>) {
    out.push(format!("[issuer.{}]", key(issuer.name.as_str())));
    out.push(format!("kind = {}", quoted(issuer.kind.as_str())));
    if issuer.kind.system().url != Some(issuer.url.as_str()) {
        out.push(format!("url = {}", quoted(&issuer.url)));
    }
    for (key, text) in
        [("audience", &issuer.audience), ("jwks_url", &issuer.jwks_url), ("ca", &issuer.ca)]
    {
        out.extend(text.iter().map(|text| format!("{key} = {}", quoted(text))));
    }
    if let Ok(age) = issuer.max_age() {
        out.push(format!("max_age = {}", quoted(&age.to_string())));
    }
    if let Some(review) = &issuer.token_review {
        let (url, file) = (quoted(&review.url), quoted(&review.token_file));
        let ca = review.ca.iter().map(|pem| format!(", ca = {}", quoted(pem)));
        let ca = ca.collect::<String>();
        out.push(format!("token_review = {{ url = {url}, token_file = {file}{ca} }}"));
    }
}

fn write_ci_rule(rule: &RuleSpec, out: &mut Vec<String>) {
    out.push(format!("[ci.{}]", key(rule.name.as_str())));
    if !rule.description.is_empty() {
        out.push(format!("description = {}", quoted(&rule.description)));
    }
    out.push(format!("issuer = {}", quoted(rule.issuer.as_str())));
    out.extend(rule.audience.iter().map(|text| format!("audience = {}", quoted(text))));
    for (key, texts) in &rule.matchers {
        out.push(match texts.as_slice() {
            [one] => format!("{key} = {}", quoted(one)),
            several => format!("{key} = {}", list(several)),
        });
    }
    if !rule.claims.is_empty() {
        let pair =
            |(name, text): (&String, &String)| format!("{} = {}", quoted(name), quoted(text));
        let pairs: Vec<_> = rule.claims.iter().map(pair).collect();
        out.push(format!("claims = {{ {} }}", pairs.join(", ")));
    }
}

fn write_conditions(profile: &str, conditions: &Conditions, out: &mut Vec<String>) {
    if !conditions.networks.is_empty() {
        let networks: Vec<_> = conditions.networks.iter().map(ToString::to_string).collect();
        out.push(format!("networks = {}", list(&networks)));
    }
    let limits = [("max_live", conditions.max_live), ("max_live_each", conditions.max_live_each)];
    out.extend(limits.iter().filter_map(|(key, limit)| Some(format!("{key} = {}", (*limit)?))));
    out.extend(conditions.rate.map(|rate| format!("rate = {}", quoted(&rate.to_string()))));
    if conditions.ticket != Reason::default() {
        out.push(format!("ticket = {}", quoted(conditions.ticket.as_str())));
    }
    out.extend(conditions.approval.as_ref().map(written_approval));
    for hours in &conditions.hours {
        out.push(format!("\n[[profile.{profile}.access.hours]]"));
        if !hours.days.is_empty() {
            let days: Vec<_> = hours.days.iter().map(|day| day.as_str().to_owned()).collect();
            out.push(format!("days = {}", list(&days)));
        }
        out.push(format!("from = {}", quoted(&hours.from.to_string())));
        out.push(format!("to = {}", quoted(&hours.to.to_string())));
        out.push(format!("timezone = {}", quoted(&hours.timezone.to_string())));
    }
}

fn written_approval(needs: &Needs) -> String {
    let step = |step: &Step| format!("from = {}, count = {}", rule_list(&step.from), step.count);
    let steps = match needs.steps.as_slice() {
        [one] => step(one),
        several => {
            let steps: Vec<_> = several.iter().map(|one| format!("{{ {} }}", step(one))).collect();
            format!("steps = [{}]", steps.join(", "))
        }
    };
    format!(
        "approval = {{ {steps}, lapse_after = {}, use_within = {}, in_chat = {} }}",
        quoted(&needs.lapse_after.to_string()),
        quoted(&needs.use_within.to_string()),
        quoted(needs.in_chat.as_str())
    )
}

fn rule_list(rules: &[AllowRule]) -> String {
    list(&rules.iter().map(AllowRule::to_string).collect::<Vec<_>>())
}

/// A name with a dot would be two keys.
fn key(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn write_rights(profile: &str, rights: &Rights, out: &mut Vec<String>) {
    for grant in &rights.grants {
        write_grant(profile, grant, out);
    }
    for rls in &rights.rls {
        write_rls(profile, rls, out);
    }
    if !rights.log.is_empty() {
        out.push(format!("\n[profile.{profile}.log]"));
        out.extend(
            rights.log.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))),
        );
    }
    if !rights.context.is_empty() {
        out.push(format!("\n[profile.{profile}.context]"));
        let line = |(name, template): (&String, &_)| {
            format!("{name} = {}", quoted(&format!("{template}")))
        };
        out.extend(rights.context.iter().map(line));
    }
    for check in &rights.checks {
        out.push(format!("\n[[profile.{profile}.check]]"));
        if !check.name.is_empty() {
            out.push(format!("name = {}", quoted(&check.name)));
        }
        out.push(format!("sql = {}", quoted(&check.sql)));
        if !check.claims.is_empty() {
            let pairs: Vec<_> = check
                .claims
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), quoted(value)))
                .collect();
            out.push(format!("as = {{ {} }}", pairs.join(", ")));
        }
        out.push(match &check.expect {
            Expect::Allowed => "expect = \"allowed\"".to_owned(),
            Expect::Denied => "expect = \"denied\"".to_owned(),
            Expect::Rows(rows) => format!("expect = {{ rows = {rows} }}"),
            Expect::Value(value) => format!("expect = {{ value = {} }}", quoted(value)),
        });
    }
}

fn write_grant(profile: &str, grant: &Grant, out: &mut Vec<String>) {
    out.push(format!("\n[[profile.{profile}.grant]]"));
    if grant.database {
        out.push("database = true".to_owned());
    }
    if let Some(schema) = &grant.schema {
        out.push(format!("schema = {}", quoted(schema)));
    }
    for (name, selection) in [
        ("tables", &grant.tables),
        ("sequences", &grant.sequences),
        ("functions", &grant.functions),
        ("types", &grant.types),
    ] {
        if let Some(selection) = selection {
            out.push(format!("{name} = {}", selected(selection)));
        }
    }
    for (name, names) in [
        ("columns", &grant.columns),
        ("columns_except", &grant.columns_except),
        ("languages", &grant.languages),
        ("foreign_servers", &grant.foreign_servers),
        ("foreign_data_wrappers", &grant.foreign_data_wrappers),
        ("parameters", &grant.parameters),
    ] {
        if let Some(names) = names {
            out.push(format!("{name} = {}", list(names)));
        }
    }
    let privileges: Vec<_> = grant.privileges.iter().map(|one| one.as_str().to_owned()).collect();
    if !privileges.is_empty() {
        out.push(format!("privileges = {}", list(&privileges)));
    }
    if grant.revoke_public {
        out.push("revoke_public = true".to_owned());
    }
}

fn write_rls(profile: &str, rls: &TableRls, out: &mut Vec<String>) {
    out.push(format!("\n[[profile.{profile}.rls]]"));
    out.push(format!("schema = {}", quoted(&rls.schema)));
    out.push(format!("tables = {}", selected(&rls.tables)));
    if !rls.force {
        out.push("force = false".to_owned());
    }
    for policy in &rls.policies {
        write_policy(profile, policy, out);
    }
}

fn write_policy(profile: &str, policy: &Policy, out: &mut Vec<String>) {
    out.push(format!("\n[[profile.{profile}.rls.policy]]"));
    out.push(format!("name = {}", quoted(&policy.name)));
    let words = [
        ("form", policy.form.map(|word| word.as_str())),
        ("effect", policy.effect.map(|word| word.as_str())),
        ("command", policy.command.map(|word| word.as_str())),
        ("using", policy.using.as_deref()),
        ("with_check", policy.with_check.as_deref()),
        ("column", policy.column.as_deref()),
        ("claim", policy.claim.as_deref()),
        ("function", policy.function.as_deref()),
        ("from", policy.from.as_deref()),
        ("to", policy.to.as_deref()),
        ("timezone", policy.timezone.as_deref()),
    ];
    out.extend(
        words.iter().filter_map(|(name, word)| Some(format!("{name} = {}", quoted((*word)?)))),
    );
    for (name, names) in
        [("roles", &policy.roles), ("values", &policy.values), ("days", &policy.days)]
    {
        if !names.is_empty() {
            out.push(format!("{name} = {}", list(names)));
        }
    }
}

fn selected(selection: &Selection) -> String {
    match selection {
        Selection::All(_) => quoted("all"),
        Selection::Named(names) => list(names),
    }
}
