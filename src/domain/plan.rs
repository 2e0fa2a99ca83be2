//! Profiles as code: what a file asks for against what is recorded, as a list of changes.

use crate::{
    document::{Fault, Places},
    domain::{
        administration::{Administration, Role},
        ci::{IssuerSpec, rule::RuleSpec},
        name::Name,
        profile::{Profile, ProfileSpec},
        standing::{StandingRole, StandingRoleSpec},
        target::{Target, TargetSpec},
    },
};

/// What a file asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Its targets, in the file's order.
    pub targets: Vec<DesiredTarget>,
    /// Its profiles, in the file's order.
    pub profiles: Vec<ProfileSpec>,
    /// Its standing roles, in the file's order.
    pub standing_roles: Vec<StandingRoleSpec>,
    /// Who is to hold which role in pgvalet, if the file says: all of it, in place of what is recorded.
    pub administration: Option<Administration>,
    /// Whose tokens of CI jobs are taken, in the file's order.
    pub issuers: Vec<IssuerSpec>,
    /// What a job must be, in the file's order.
    pub ci_rules: Vec<RuleSpec>,
    /// Where the keys stand whose faults only a target can know, by their whole path
    /// (`profile.shop-read.grant[0].tables`). Their messages are empty.
    pub places: Places,
}

impl Desired {
    /// A fault at the key's place: at that of the nearest table around it whose place is known.
    #[must_use]
    pub fn fault_at(&self, file: &str, path: &str, message: String) -> Fault {
        match self.places.nearest(path) {
            Some(place) => Fault { message, key: path.to_owned(), ..place.clone() },
            None => Fault::without_position(file, path, message),
        }
    }
}

/// A target as a file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredTarget {
    /// What is known of it.
    pub spec: TargetSpec,
    /// What the caller sends along for it.
    pub sent: SentAlong,
}

/// The names under which the caller sends along what is not in the file itself (`file:…`, `env:…`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentAlong {
    /// The admin's password.
    pub password: Option<String>,
    /// The key of the certificate that is shown to the target.
    pub ssl_key: Option<String>,
    /// That certificate.
    pub ssl_cert: Option<String>,
    /// The authorities that are trusted.
    pub ssl_root_cert: Option<String>,
}

/// What a change does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is new.
    Create,
    /// It differs.
    Change,
    /// It is as it should be.
    Keep,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// The names of what differs.
    pub changed: Vec<&'static str>,
}

/// What becomes of one target. A password sent along counts as a change only if there is none yet
/// or the caller means it: whether it is the recorded one cannot be seen without opening the seal.
#[must_use]
pub fn target_change(desired: &TargetSpec, recorded: Option<&Target>) -> Change {
    let Some(Target { spec: now, .. }) = recorded else {
        return Change { action: Action::Create, changed: Vec::new() };
    };
    let changed = differing(&[
        ("environment", desired.environment == now.environment),
        ("host", desired.host == now.host),
        ("port", desired.port == now.port),
        ("sslmode", desired.sslmode == now.sslmode),
        ("sslrootcert", desired.sslrootcert_pem == now.sslrootcert_pem),
        ("sslcert", desired.sslcert_pem == now.sslcert_pem),
        ("admin.password", desired.admin_source == now.admin_source),
        ("admin.user", desired.admin_user == now.admin_user),
        ("databases", desired.databases == now.databases),
        ("max_live", desired.max_live == now.max_live),
        ("scram_iterations", desired.scram_iterations == now.scram_iterations),
        ("rotate_admin", desired.rotate_admin == now.rotate_admin),
    ]);
    change(changed)
}

/// What becomes of one profile.
#[must_use]
pub fn profile_change(desired: &ProfileSpec, recorded: Option<&Profile>) -> Change {
    let Some(Profile { spec: now, .. }) = recorded else {
        return Change { action: Action::Create, changed: Vec::new() };
    };
    let changed = differing(&[
        ("description", desired.description == now.description),
        ("target", desired.target == now.target),
        ("database", desired.database == now.database),
        ("preset", desired.preset == now.preset),
        ("schemas", desired.schemas == now.schemas),
        ("group_role", desired.group_role == now.group_role),
        ("ttl", desired.ttl == now.ttl),
        ("max_ttl", desired.max_ttl == now.max_ttl),
        ("connection_limit", desired.connection_limit == now.connection_limit),
        ("settings", desired.settings == now.settings),
        ("owned_objects", desired.owned_objects == now.owned_objects),
        ("access.allow", desired.allow == now.allow),
        ("access.reason", desired.reason == now.reason),
        ("access", desired.conditions == now.conditions),
        ("grant", desired.rights.grants == now.rights.grants),
        ("rls", desired.rights.rls == now.rights.rls),
        ("harden", desired.rights.harden == now.rights.harden),
        ("log", desired.rights.log == now.rights.log),
        ("context", desired.rights.context == now.rights.context),
        ("check", desired.rights.checks == now.rights.checks),
        ("failed_checks", desired.rights.failed_checks == now.rights.failed_checks),
        ("drift", desired.rights.drift == now.rights.drift),
    ]);
    change(changed)
}

/// What becomes of one standing role.
#[must_use]
pub fn standing_role_change(desired: &StandingRoleSpec, recorded: Option<&StandingRole>) -> Change {
    let Some(StandingRole { spec: now, .. }) = recorded else {
        return Change { action: Action::Create, changed: Vec::new() };
    };
    let changed = differing(&[
        ("description", desired.description == now.description),
        ("profile", desired.profile == now.profile),
        ("rotate", desired.rotate == now.rotate),
        ("window", desired.window == now.window),
        ("jitter", desired.jitter == now.jitter),
        ("grace", desired.grace == now.grace),
        ("access.allow", desired.allow == now.allow),
    ]);
    change(changed)
}

/// What becomes of who holds which role in pgvalet.
#[must_use]
pub fn administration_change(desired: &Administration, recorded: &Administration) -> Change {
    let holders = |of: &Administration, role: &Role| of.0.get(role).cloned().unwrap_or_default();
    let differs = |role: &&Role| holders(desired, role) != holders(recorded, role);
    change(Role::VALUES.iter().filter(differs).map(|role| role.as_str()).collect())
}

/// What becomes of one issuer.
#[must_use]
pub fn issuer_change(desired: &IssuerSpec, recorded: Option<&IssuerSpec>) -> Change {
    let Some(now) = recorded else {
        return Change { action: Action::Create, changed: Vec::new() };
    };
    change(differing(&[
        ("kind", desired.kind == now.kind),
        ("url", desired.url == now.url),
        ("audience", desired.audience == now.audience),
        ("jwks_url", desired.jwks_url == now.jwks_url),
        ("ca", desired.ca == now.ca),
        ("max_age", desired.max_age == now.max_age),
        ("token_review", desired.token_review == now.token_review),
    ]))
}

/// What becomes of one rule for CI jobs.
#[must_use]
pub fn ci_rule_change(desired: &RuleSpec, recorded: Option<&RuleSpec>) -> Change {
    let Some(now) = recorded else {
        return Change { action: Action::Create, changed: Vec::new() };
    };
    change(differing(&[
        ("description", desired.description == now.description),
        ("issuer", desired.issuer == now.issuer),
        ("audience", desired.audience == now.audience),
        ("matchers", desired.matchers == now.matchers),
        ("claims", desired.claims == now.claims),
    ]))
}

/// Keys of a target that decide where its admin's password is sent, and whether there is one. If one
/// changes, the password must be given again: whoever may change targets could otherwise have it sent to
/// themselves.
const LEADS_PASSWORD: [&str; 6] =
    ["host", "port", "sslmode", "sslrootcert", "admin.user", "admin.password"];

/// Does a change of these keys ask for the password again?
#[must_use]
pub fn needs_password(changed: &[&str]) -> bool {
    changed.iter().any(|key| LEADS_PASSWORD.contains(key))
}

/// Does a change of these keys ask for the key of the certificate that is shown? It is that of one certificate.
#[must_use]
pub fn needs_ssl_key(changed: &[&str]) -> bool {
    changed.contains(&"sslcert")
}

/// A profile of the file that names a target which is neither in the file nor recorded.
#[must_use]
pub fn names_unknown_target<'a>(
    profile: &'a ProfileSpec,
    desired: &Desired,
    recorded: &[Target],
) -> Option<&'a Name> {
    let known = desired.targets.iter().any(|t| t.spec.name == profile.target)
        || recorded.iter().any(|t| t.spec.name == profile.target);
    (!known).then_some(&profile.target)
}

fn differing(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    keys.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect()
}

fn change(changed: Vec<&'static str>) -> Change {
    let action = if changed.is_empty() { Action::Keep } else { Action::Change };
    Change { action, changed }
}
