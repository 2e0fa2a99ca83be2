//! Targets, profiles, tokens, and all of it as code.

use std::{collections::BTreeMap, num::NonZeroU32};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        admin_source::AdminSource, administration::Right, name::Name, plan::Action,
        profile::ProfileSpec, review::Bound, schedule::Schedule, session::Client,
        target::TargetSpec,
    },
    ids::{PrincipalId, ProfileId, TargetId, TokenId},
    secret::Secret,
};

/// Who the caller is: `GET /v1/whoami`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Whoami {
    /// The principal's id.
    pub principal_id: PrincipalId,
    /// Its name, as `person:alice`.
    pub principal: String,
    /// Who vouches for it.
    pub issuer: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// What is claimed of it, by name.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    /// Does it hold every right, whatever the roles say?
    pub admin: bool,
    /// What it may administer with this token.
    #[serde(default)]
    pub rights: Vec<Right>,
    /// May it ask for leases with this token?
    #[serde(default = "yes")]
    pub may_ask: bool,
    /// The token it came with, if it was one of pgvalet's.
    pub token_id: Option<TokenId>,
    /// The name of the client's certificate by which it signed in, if it did by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// What that is for, if a sign-in made it: it ends with the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Client>,
    /// When what it came with ends.
    pub token_expires_at: Option<DateTime<Utc>>,
}

/// A target. Never its admin's password.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// Grows with each change.
    pub version: i32,
    /// How the password of its administrator stands.
    #[serde(default)]
    pub admin_rotation: AdminRotation,
    /// What is known of it.
    #[serde(flatten)]
    pub spec: TargetSpec,
}

/// How the password of a target's administrator stands.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AdminRotation {
    /// When it was last renewed.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When it is to be renewed next; none if never by itself.
    pub due_at: Option<DateTime<Utc>>,
    /// What stood in the way of the latest try.
    pub blocked_by: Option<String>,
    /// Since when the target refuses every password that is recorded: give it the one that holds.
    pub refused_at: Option<DateTime<Utc>>,
}

/// `PUT /v1/targets/{name}`.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutTarget {
    /// What it is for: a label.
    #[serde(default)]
    pub environment: String,
    /// Host name, address, or the folder of a Unix socket.
    pub host: String,
    /// Port; 5432 if left out.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is protected; `verify-full` if left out.
    #[serde(default)]
    pub sslmode: Option<crate::domain::target::SslMode>,
    /// The certificates to trust, as PEM.
    #[serde(default)]
    pub sslrootcert_pem: Option<String>,
    /// The certificate to show there, as PEM.
    #[serde(default)]
    pub sslcert_pem: Option<String>,
    /// Its key, as PEM. Needed with a certificate that is new; kept sealed.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    pub ssl_key: Option<Secret<String>>,
    /// The role that pgvalet signs in as.
    pub admin_user: String,
    /// Its password. Needed for a new target; left out, the recorded one stays.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    pub admin_password: Option<Secret<String>>,
    /// Where the daemon gets the password whenever it connects, in place of keeping one. What may be named
    /// is the daemon's own configuration's to say.
    #[serde(default)]
    pub admin_source: Option<AdminSource>,
    /// The databases that profiles may name.
    pub databases: Vec<String>,
    /// How many leases may live on it at once; as many as will, if left out.
    #[serde(default)]
    pub max_live: Option<i32>,
    /// How often a login's password is hashed; 4096 if left out.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    pub scram_iterations: Option<NonZeroU32>,
    /// When the administrator's password is renewed; every 90 days if left out. Unless it is `never`,
    /// a password that is sent here is renewed at once.
    #[serde(default)]
    pub rotate_admin: Option<Schedule>,
}

/// A profile.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// Grows with each change.
    pub version: i32,
    /// Does the target hold what this version says?
    pub prepared: bool,
    /// The checks that failed when they were last run on this version.
    #[serde(default)]
    pub failed_checks: Vec<String>,
    /// What access reviews left of what it says: for those who may read everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<Bound>,
    /// The role that holds its rights. A `custom` profile names it itself.
    pub effective_group_role: String,
    /// What it says.
    #[serde(flatten)]
    pub spec: ProfileSpec,
}

/// `POST /v1/plan` and `POST /v1/apply`: targets and profiles as code.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// The file's name, for the messages.
    pub name: String,
    /// The file: TOML.
    pub text: String,
    /// The passwords, keys and certificates that the file names (`{ file = "…" }` or `{ env = "…" }`), by that
    /// name, read by the caller: the daemon does not read files on a caller's word. To plan, certificates are
    /// enough.
    #[serde(default, skip_serializing)]
    #[schema(value_type = BTreeMap<String, String>, write_only)]
    pub secrets: BTreeMap<String, Secret<String>>,
}

/// One line of a plan, or of what an apply did.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PlanLine {
    /// `target`, `profile` or `standing-role`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: Action,
    /// The names of what differs.
    pub changed: Vec<String>,
    /// The statements for the target: to be run, or run.
    pub statements: Vec<String>,
    /// What to know before saying yes.
    pub notes: Vec<String>,
}

/// The answer to `POST /v1/plan` and `POST /v1/apply`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Plan {
    /// Line by line, in the file's order, targets first.
    pub lines: Vec<PlanLine>,
    /// Does anything change?
    pub changes: bool,
}

/// `POST /v1/adopt`: whose grants to write down.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// The target.
    pub target: Name,
    /// One of its databases.
    pub database: String,
    /// The roles; all that hold something there and cannot sign in, if none is named.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// `GET /v1/export`, `POST /v1/adopt`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Export {
    /// All targets and profiles as TOML that applies to nothing new.
    pub text: String,
}

/// A token. Never its secret.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// Whose it is, as `person:alice`.
    pub principal: String,
    /// May its principal administer?
    pub admin: bool,
    /// The groups of its principal.
    pub groups: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// `api`, or `session` if a sign-in made it.
    #[serde(default)]
    pub kind: String,
    /// What it carries of its principal's rights; all, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// `POST /v1/tokens`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for.
    pub name: String,
    /// Whose it is (`person:alice`, `service:ci`): recorded if it is new. The caller's own, if left
    /// out; only administrators may name another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The groups that the principal is in from now on; as they were, if left out. Administrators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// What is claimed of the principal from now on, by name (`tenant_id`): what the context of profiles is
    /// filled with. As it was, if left out. Administrators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<BTreeMap<String, String>>,
    /// May the principal administer from now on? As it was, if left out. Administrators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    /// The person that the service acts for from now on (`person:alice`), as an AI tool does: that person agrees to
    /// none of its requests. As it was, if left out. Administrators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acts_for: Option<String>,
    /// For how long (`90d`); 90 days if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// What it is to carry of its principal's rights: `ask`, `approve` (agreeing to other people's requests, which
    /// no token carries that does not say so), and the rights to administer; as much as the
    /// token it is made with, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

const fn yes() -> bool {
    true
}

/// A new token with its secret, which is shown once.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct CreatedToken {
    /// The token.
    pub token: Token,
    /// What to send as `Authorization: Bearer …`.
    pub secret: String,
}

/// The same as a client reads it.
#[derive(Debug, serde::Deserialize)]
pub struct ReceivedToken {
    /// The token.
    pub token: Token,
    /// Its secret.
    pub secret: Secret<String>,
}

/// The answer to `GET /v1/targets/{name}/hba`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PgHba {
    /// The target.
    pub target: Name,
    /// Lines for its `pg_hba.conf`, with comments.
    pub text: String,
}
