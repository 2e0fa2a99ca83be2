//! Leases; the one answer that carries a secret.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{
    domain::lease::{Cause, Granted, Proof, State},
    ids::{LeaseId, PrincipalId},
    secret::Secret,
};

/// `POST /v1/leases`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskForLease {
    /// The profile.
    #[schema(example = "shop-read")]
    pub profile: String,
    /// For how long (`30m`); the profile's `ttl` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// The tool that will use it: a label, shown in the role's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ticket it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// From when it is wanted, where others must agree first: at most 30 days ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<DateTime<Utc>>,
}

/// A lease. Never a secret.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Where it is in its life.
    pub state: State,
    /// Why it ended, or is ending.
    pub cause: Option<Cause>,
    /// The profile.
    pub profile: String,
    /// The target.
    pub target: String,
    /// The database.
    pub database: String,
    /// The login role on the target.
    pub role: Option<String>,
    /// The role that its sessions work as.
    pub group_role: String,
    /// Who asked.
    pub principal_id: PrincipalId,
    /// Who asked, in words.
    pub principal: String,
    /// The tool.
    pub tool: String,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// The CI job that asked, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it ends at the latest, however often it is renewed.
    pub max_expires_at: DateTime<Utc>,
    /// When it was seen to be gone.
    pub ended_at: Option<DateTime<Utc>>,
    /// What stands in the way of its removal.
    pub blocked_by: Option<String>,
    /// What was seen on the target when its last login was gone.
    pub proof: Option<Proof>,
}

/// The credential: handed out once, in the answer that made it.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct Credential {
    /// Host name, address, or the folder of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// The login role.
    pub user: String,
    /// Its password, in plain text: this answer is the only place where it ever stands.
    pub password: String,
    /// libpq's `sslmode`.
    pub sslmode: String,
    /// The certificates to trust, as PEM, where the target has its own authority.
    pub sslrootcert_pem: Option<String>,
    /// libpq's `options`: what starts the session as the group role.
    pub options: String,
    /// When the login stops by itself.
    pub valid_until: DateTime<Utc>,
    /// All of it as one connection string.
    pub uri: String,
}

impl Credential {
    /// The same with its connection string: a URI as libpq reads it
    /// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>).
    #[must_use]
    pub fn with_uri(mut self) -> Self {
        let escaped = |text: &str| percent_encoded(text);
        // The folder of a Unix socket has no place among the hosts of a URI: it is a parameter.
        let socket = self.host.starts_with('/');
        let host = if socket {
            String::new()
        } else if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            escaped(&self.host)
        };
        let port = if socket { String::new() } else { format!(":{}", self.port) };
        let folder = if socket {
            format!("host={}&port={}&", escaped(&self.host), self.port)
        } else {
            String::new()
        };
        self.uri = format!(
            "postgresql://{}:{}@{host}{port}/{}?{folder}sslmode={}&application_name=pgvalet&options={}",
            escaped(&self.user),
            escaped(&self.password),
            escaped(&self.database),
            self.sslmode,
            escaped(&self.options),
        );
        self
    }
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
fn percent_encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(letter).collect()
}

/// The credential as a client reads it.
#[derive(Debug, serde::Deserialize)]
pub struct ReceivedCredential {
    /// Host name, address, or the folder of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// The login role.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
    /// libpq's `sslmode`.
    pub sslmode: String,
    /// The certificates to trust, as PEM.
    pub sslrootcert_pem: Option<String>,
    /// libpq's `options`.
    pub options: String,
    /// When the login stops by itself.
    pub valid_until: DateTime<Utc>,
    /// All of it as one connection string.
    pub uri: Secret<String>,
}

/// The answer to `POST /v1/leases` and `POST /v1/leases/{id}/rotate`.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct Issued {
    /// The lease.
    pub lease: Lease,
    /// How long it lasts, and by which rule.
    pub ttl: Option<Granted>,
    /// The credential; none if this very request was answered before (same `Idempotency-Key`): it is
    /// handed out once. Rotate the lease for a fresh one, or revoke it.
    pub credential: Option<Credential>,
}

/// The same answer as a client reads it.
#[derive(Debug, serde::Deserialize)]
pub struct ReceivedIssued {
    /// The lease.
    pub lease: Lease,
    /// How long it lasts, and by which rule.
    pub ttl: Option<Granted>,
    /// The credential.
    pub credential: Option<ReceivedCredential>,
}

/// `POST /v1/leases/{id}/renew`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// For how long from now; the profile's `ttl` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// The answer to a renewal.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Renewed {
    /// The lease with its new end.
    pub lease: Lease,
    /// The rule that gave it its end.
    pub rule: crate::domain::lease::TtlRule,
    /// The rule in words.
    pub because: String,
}

/// `POST /v1/revocations`: every live lease that meets all that is given. At least one must be.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeSet {
    /// Leases of this person or service (`person:alice`, or just `alice`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Leases for this tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Leases under this profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Leases on this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The answer to `POST /v1/revocations` and `DELETE /v1/leases/{id}`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Revocation {
    /// The leases, each with its state now: `revoked` with its proof, or still `revoking`.
    pub leases: Vec<Lease>,
    /// How many are in which state.
    pub counts: BTreeMap<String, usize>,
}
