//! A profile: what one kind of caller may get.

use std::collections::BTreeMap;

use crate::{
    domain::{
        conditions::{self, Conditions},
        duration::Seconds,
        name::Name,
        principal::AllowRule,
        review::Bound,
        rights::{self, FailedChecks, Rights, context::Template, grant::Grant, preset},
        role,
        target::is_identifier,
        words::words,
    },
    ids::{ProfileId, TargetId},
};

words! {
    /// Where the rights of a profile begin. Its own grants come on top, within what the preset is for.
    Preset {
        /// SELECT on all tables and views of the named schemas, those to come included.
        Readonly = "readonly",
        /// SELECT, INSERT, UPDATE, DELETE there, and the sequences; no TRUNCATE, REFERENCES or TRIGGER.
        Readwrite = "readwrite",
        /// Everything in the named schemas, and what sessions make there belongs to the group role: to the
        /// schemas' owner, if `group_role` names it.
        Admin = "admin",
        /// Its grants alone; or a group role that exists already, which pgvalet grants nothing.
        Custom = "custom",
        /// The same rights as `admin`, for an emergency: with a reason, for an hour at most, and loudly.
        BreakGlass = "break-glass",
    }
}

words! {
    /// What becomes of the objects that a login owns when it is removed. Nothing is dropped.
    #[derive(Default)]
    OwnedObjects {
        /// The role [`role::GRAVEYARD`], which can do nothing, owns them.
        #[default]
        Graveyard = "graveyard",
        /// The same, and the profile's group role may go on working with the data in them. It does not own
        /// them: what an owner left behind (views, rules, index expressions) runs with the owner's rights,
        /// and any login of the group could alter and drop them.
        Group = "group",
    }
}

words! {
    /// Must a caller say why?
    #[derive(Default)]
    Reason {
        /// It may.
        #[default]
        Optional = "optional",
        /// It must.
        Required = "required",
    }
}

/// What a profile says, as it stands in the file and on the API.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileSpec {
    /// Its name.
    pub name: Name,
    /// What it is for, to be read by those who ask.
    #[serde(default)]
    pub description: String,
    /// The target's name.
    pub target: Name,
    /// The database.
    pub database: String,
    /// Where its rights begin.
    pub preset: Preset,
    /// The schemas that a preset covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// The existing group role of a `custom` profile, or the schemas' owner that an `admin` one works as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_role: Option<String>,
    /// How long a lease lasts when the caller does not say.
    pub ttl: Seconds,
    /// How long a lease lasts at most, renewals included.
    pub max_ttl: Seconds,
    /// How many sessions a leased login may have at once.
    pub connection_limit: i32,
    /// Settings of the leased login (`statement_timeout = "30s"`), with places to fill in
    /// (`"app.tenant_id" = "{claim.tenant_id}"`). Advisory: PostgreSQL lets the session change most of
    /// them, so that a policy which trusts one is no wall.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub settings: BTreeMap<String, Template>,
    /// What becomes of the objects that a login owns when it is removed.
    #[serde(default)]
    pub owned_objects: OwnedObjects,
    /// Who may ask. Nobody, unless a rule says so.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub allow: Vec<AllowRule>,
    /// Must the caller say why?
    #[serde(default)]
    pub reason: Reason,
    /// From where, when, how many, how often.
    #[serde(default, skip_serializing_if = "Conditions::are_none")]
    pub conditions: Conditions,
    /// What it gives inside the database.
    #[serde(default, skip_serializing_if = "Rights::is_empty")]
    pub rights: Rights,
}

impl ProfileSpec {
    /// The role that holds the profile's rights.
    #[must_use]
    pub fn group_role(&self) -> String {
        self.group_role.clone().unwrap_or_else(|| role::group_role(&self.name))
    }

    /// Is its group role somebody else's, so that pgvalet neither makes it nor grants it anything?
    #[must_use]
    pub const fn is_group_given(&self) -> bool {
        self.group_role.is_some()
    }

    /// May its group role own things? Sessions that may make some work as it, and a schemas' owner is named
    /// for what it owns.
    #[must_use]
    pub fn group_may_own(&self) -> bool {
        use crate::domain::rights::grant::Privilege;
        let makes = |one: &Privilege| matches!(one, Privilege::Create | Privilege::Temporary);
        matches!(self.preset, Preset::Admin | Preset::BreakGlass)
            || self.rights.grants.iter().any(|grant| grant.privileges.iter().any(makes))
    }

    /// Everything that its group role is to hold: the preset's grants and its own.
    #[must_use]
    pub fn grants(&self) -> Vec<Grant> {
        if self.is_group_given() {
            return Vec::new();
        }
        let mut grants = preset::grants(self.preset, &self.schemas);
        grants.extend(self.rights.grants.iter().cloned());
        grants
    }
}

/// A profile as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// Its target.
    pub target_id: TargetId,
    /// Grows with each change.
    pub version: i32,
    /// The version whose group role and grants were last made on the target, if any.
    pub prepared_version: Option<i32>,
    /// The checks that failed when they were last run, if they were on this version.
    pub failed_checks: Vec<String>,
    /// Which of the settings of the server's log its logins may be given, as the target last said.
    pub settable: Vec<String>,
    /// What access reviews left of what it says.
    pub bounds: Vec<Bound>,
    /// What it says.
    pub spec: ProfileSpec,
}

impl Profile {
    /// The first check that keeps it from giving leases.
    #[must_use]
    pub fn blocked_by(&self) -> Option<&str> {
        let blocks = self.spec.rights.failed_checks != Some(FailedChecks::Warn);
        self.failed_checks.first().filter(|_| blocks).map(String::as_str)
    }

    /// Does the target hold what this version of the profile says?
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.prepared_version == Some(self.version)
    }
}

impl serde::Serialize for AllowRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for AllowRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the `connection_limit` of a profile is when the file does not say.
pub const DEFAULT_CONNECTION_LIMIT: i32 = 5;

/// Sessions of one login, at most: a lease is for one caller, and an unbounded one could use up the
/// server's `max_connections`.
const MOST_CONNECTIONS: i32 = 1000;

/// Settings that a profile may not give a login: `role` is how its sessions start as the group role,
/// and the others would change who it is or where names lead.
const OURS: [&str; 3] = ["role", "session_authorization", "is_superuser"];

/// An emergency that lasts longer is a job for a profile of its own.
const LONGEST_BREAK_GLASS: i64 = 3600;

/// Settings that decide which code a session runs.
const DECIDES: [&str; 3] = ["search_path", "local_preload_libraries", "session_preload_libraries"];

/// What is wrong with a profile; empty if nothing is. Each fault names the key it is about.
#[must_use]
pub fn faults(spec: &ProfileSpec) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if !is_identifier(&spec.database) {
        faults.push(("database", "must be the name of a database".to_owned()));
    }
    faults.extend(faults_of_rights(spec));
    for schema in &spec.schemas {
        if !is_identifier(schema) || schema.starts_with("pg_") || schema == "information_schema" {
            faults
                .push(("schemas", format!("`{schema}` cannot be used: name schemas of your own")));
        }
    }
    if spec.ttl > spec.max_ttl {
        faults.push(("ttl", format!("{} is longer than max_ttl, {}", spec.ttl, spec.max_ttl)));
    }
    if spec.preset == Preset::BreakGlass {
        if spec.reason != Reason::Required {
            faults.push((
                "access.reason",
                "must be \"required\" with the preset `break-glass`".to_owned(),
            ));
        }
        if spec.conditions.approval.is_some() {
            faults.push((
                "access.approval",
                "stands in the way of an emergency: leave it out with the preset `break-glass`; what is done is looked at afterwards".to_owned(),
            ));
        }
        if spec.max_ttl.get() > LONGEST_BREAK_GLASS {
            faults.push(("max_ttl", "is at most \"1h\" with the preset `break-glass`".to_owned()));
        }
    }
    if !(1..=MOST_CONNECTIONS).contains(&spec.connection_limit) {
        faults.push(("connection_limit", format!("must be 1 to {MOST_CONNECTIONS}")));
    }
    for (key, value) in &spec.settings {
        faults.extend(setting_fault(key, value).map(|fault| ("settings", fault)));
    }
    faults.extend(conditions::faults(&spec.conditions));
    let mut faults: Vec<_> =
        faults.into_iter().map(|(key, message)| (key.to_owned(), message)).collect();
    faults.extend(rights::faults(&spec.rights));
    faults
}

/// A preset, the schemas and the group role have to fit each other, and the grants the preset.
fn faults_of_rights(spec: &ProfileSpec) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let preset = spec.preset.as_str();
    let own = !spec.rights.grants.is_empty();
    match (spec.preset, &spec.group_role) {
        (Preset::Custom, None) if !own => faults.push(("group_role", "is needed by the preset `custom` without grants: name the existing NOLOGIN role that holds the rights, or write `[[profile.NAME.grant]]`".to_owned())),
        (Preset::Custom, _) if !spec.schemas.is_empty() => faults.push(("schemas", "belongs to the other presets; a custom profile has what its grants say".to_owned())),
        (Preset::Custom, _) => {}
        (Preset::Readonly | Preset::Readwrite | Preset::BreakGlass, Some(_)) => faults.push(("group_role", "belongs to the presets `custom` and `admin`; with the others pgvalet makes the role itself".to_owned())),
        (Preset::Admin | Preset::BreakGlass, _) if spec.schemas.is_empty() => faults.push(("schemas", format!("is needed by the preset `{preset}`: name the schemas it covers"))),
        (Preset::Readonly | Preset::Readwrite, _) if spec.schemas.is_empty() && !own => faults.push(("schemas", format!("is needed by the preset `{preset}`: name the schemas it covers, or write `[[profile.NAME.grant]]`"))),
        _ => {}
    }
    if let Some(name) = &spec.group_role {
        if !is_identifier(name) {
            faults.push(("group_role", "must be a role name of 1 to 63 bytes".to_owned()));
        } else if name.starts_with("pg_")
            || name.starts_with(role::LOGIN_PREFIX)
            || name.starts_with(role::GROUP_PREFIX)
            || name == role::GRAVEYARD
        {
            faults.push((
                "group_role",
                format!("`{name}` is PostgreSQL's or pgvalet's own: name a role of yours"),
            ));
        }
        if own {
            faults.push(("grant", format!("the rights of `{name}` are its owner's: leave `group_role` out, and pgvalet makes a role of its own for these grants")));
        }
    }
    if let Some(most) = preset::most(spec.preset) {
        let beyond = spec.rights.grants.iter().flat_map(Grant::privileges);
        for privilege in beyond.filter(|privilege| !most.contains(privilege)) {
            faults.push(("grant", format!("`{}` is more than the preset `{preset}` is for: leave it out, or take the preset `custom`", privilege.as_str())));
        }
    }
    faults
}

/// A setting's name is an identifier, perhaps with a dot (a customised option); its value one line.
fn setting_fault(key: &str, value: &Template) -> Option<String> {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if key.len() > 63 || !key.split('.').all(plain) {
        return Some(format!("`{key}` is not the name of a setting (lower case)"));
    }
    if OURS.contains(&key) {
        return Some(format!("`{key}` is set by pgvalet itself"));
    }
    if DECIDES.contains(&key) && !value.is_plain() {
        return Some(format!("`{key}` decides where names lead, and cannot be made from claims"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rights::grant::{Privilege, Selection};

    fn spec() -> ProfileSpec {
        ProfileSpec {
            name: "shop-read".parse().unwrap(),
            description: String::new(),
            target: "shop".parse().unwrap(),
            database: "shop".to_owned(),
            preset: Preset::Readonly,
            schemas: vec!["public".to_owned()],
            group_role: None,
            ttl: Seconds::new(3600).unwrap(),
            max_ttl: Seconds::new(7200).unwrap(),
            connection_limit: 3,
            settings: BTreeMap::new(),
            owned_objects: OwnedObjects::Graveyard,
            allow: Vec::new(),
            reason: Reason::Optional,
            conditions: Conditions::default(),
            rights: Rights::default(),
        }
    }

    fn set(spec: &mut ProfileSpec, key: &str, value: &str) {
        spec.settings.insert(key.to_owned(), value.parse().unwrap());
    }

    fn grant(privilege: Privilege) -> Grant {
        Grant {
            schema: Some("sales".to_owned()),
            tables: Some(Selection::Named(vec!["orders".to_owned()])),
            privileges: vec![privilege],
            ..Grant::default()
        }
    }

    #[test]
    fn a_sound_profile_has_no_faults() {
        assert_eq!(faults(&spec()), []);
    }

    #[test]
    fn each_fault_names_its_key() {
        type Change = fn(&mut ProfileSpec);
        let cases: [(&str, Change); 16] = [
            ("database", |s| s.database.clear()),
            ("schemas", |s| s.schemas.clear()),
            ("schemas", |s| s.schemas.push("pg_catalog".to_owned())),
            ("group_role", |s| s.group_role = Some("x".to_owned())),
            ("ttl", |s| s.ttl = Seconds::new(7201).unwrap()),
            ("connection_limit", |s| s.connection_limit = 0),
            ("connection_limit", |s| s.connection_limit = -1),
            ("settings", |s| set(s, "role", "postgres")),
            ("settings", |s| set(s, "a b", "1")),
            ("settings", |s| set(s, "search_path", "{claim.schema}")),
            ("group_role", |s| {
                s.preset = Preset::Custom;
                s.schemas.clear();
                s.group_role = Some("pg_read_all_data".to_owned());
            }),
            ("group_role", |s| {
                s.preset = Preset::Custom;
                s.schemas.clear();
                s.group_role = Some(role::GRAVEYARD.to_owned());
            }),
            ("grant", |s| s.rights.grants.push(grant(Privilege::Insert))),
            ("grant", |s| {
                s.preset = Preset::Custom;
                s.schemas.clear();
                s.group_role = Some("shop_support".to_owned());
                s.rights.grants.push(grant(Privilege::Select));
            }),
            ("access.reason", |s| {
                s.preset = Preset::BreakGlass;
                (s.ttl, s.max_ttl) = (Seconds::new(60).unwrap(), Seconds::new(60).unwrap());
            }),
            ("grant[0].privileges", |s| {
                s.rights.grants.push(Grant {
                    columns: Some(vec!["a".to_owned()]),
                    privileges: vec![Privilege::Usage],
                    ..grant(Privilege::Select)
                })
            }),
        ];
        for (key, change) in cases {
            let mut broken = spec();
            change(&mut broken);
            let found: Vec<_> = faults(&broken).into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, [key]);
        }
    }
}
