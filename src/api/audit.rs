//! Audit entries, pages of them, and what a check of the chain found.

use chrono::{DateTime, Utc};

use crate::domain::audit::Sealed;

/// One entry of the audit.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Its place in the chain; none while it is not sealed (milliseconds).
    pub position: Option<i64>,
    /// Its hash in the chain, hexadecimal.
    pub hash: Option<String>,
    /// What was recorded: `id`, `at`, `actor`, `request_id`, `source`, `event`.
    #[schema(value_type = Object)]
    pub entry: serde_json::Value,
}

/// `GET /v1/audit/verify`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Verification {
    /// Is every sealed entry as it was sealed, and every checkpoint's signature good?
    pub intact: bool,
    /// How many entries were looked at.
    pub entries: i64,
    /// The hash of the last good one, hexadecimal.
    pub head: String,
    /// The position of the first bad entry.
    pub first_bad: Option<i64>,
    /// What is wrong with it.
    pub fault: Option<String>,
    /// Checkpoints whose signature was checked.
    pub checkpoints: i64,
    /// Entries older than a few seconds that are not sealed yet.
    pub unsealed: i64,
    /// The key that checkpoints are signed with (Ed25519, hexadecimal): keep a copy elsewhere.
    pub public_key: String,
}

/// One line of `GET /v1/audit/export` (JSON lines): a sealed entry or a signed checkpoint.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum ExportLine {
    /// A sealed entry.
    Entry(Sealed),
    /// A signed head of the chain.
    Checkpoint(Checkpoint),
}

/// A signed head of the chain.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// The position of the entry that it signs.
    pub position: i64,
    /// That entry's hash, hexadecimal.
    pub head: String,
    /// When it was signed.
    pub signed_at: DateTime<Utc>,
    /// The key (Ed25519, hexadecimal).
    pub public_key: String,
    /// The signature, hexadecimal.
    pub signature: String,
}
