//! How the installation stands: `GET /v1/status`.

use chrono::{DateTime, Utc};

/// How it stands now.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Status {
    /// When this was counted.
    pub at: DateTime<Utc>,
    /// The version of the daemon that answers.
    pub version: String,
    /// Leases that are not over.
    pub leases: LeaseCounts,
    /// Logins whose end is so long ago that they should be gone.
    pub logins_overdue: i64,
    /// Logins whose removal was tried in vain; it is tried again.
    pub logins_stuck: i64,
    /// Audit entries that should be sealed by now.
    pub audit_unsealed: i64,
    /// Audit entries that others were not told of yet.
    pub audit_untold: i64,
    /// What happened in the last minute, by all daemons.
    pub last_minute: LastMinute,
    /// What waits for a turn in the daemon that answers.
    pub queues: Vec<QueueDepth>,
    /// The targets, by name.
    pub targets: Vec<TargetStatus>,
    /// The daemon's own parts: the state database, and the loops.
    pub parts: Vec<PartStatus>,
}

/// Leases by state.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct LeaseCounts {
    /// Being made.
    pub provisioning: i64,
    /// Working.
    pub active: i64,
    /// Being ended.
    pub revoking: i64,
}

/// Counts of the last 60 seconds.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct LastMinute {
    /// Leases that were issued.
    pub issued: i64,
    /// Leases that were asked for and refused.
    pub refused: i64,
    /// Leases whose login could not be made.
    pub failed: i64,
    /// Leases that were renewed.
    pub renewed: i64,
    /// Leases that were given a fresh login.
    pub rotated: i64,
    /// Logins that were removed, with proof.
    pub removed: i64,
}

/// A queue.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct QueueDepth {
    /// What it is of: `creations`, `intents`, `activations`, `removals`.
    pub queue: String,
    /// How many wait.
    pub waiting: u64,
}

/// A target.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Leases there that are not over.
    pub leases: i64,
    /// Is it ready?
    pub ready: bool,
    /// How it is.
    pub detail: String,
}

/// A part of the daemon.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PartStatus {
    /// Its name.
    pub name: String,
    /// Does it do what it is there for?
    pub ready: bool,
    /// How it is.
    pub detail: String,
}
