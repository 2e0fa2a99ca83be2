//! Sweeps: what a target has against what the record says.

use chrono::{DateTime, Utc};

use crate::{
    domain::{name::Name, sweep::Kind},
    ids::LeaseId,
};

/// Which targets to sweep, and whether to act.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskForSweep {
    /// Which targets; all if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Name>,
    /// Only show what would be done.
    #[serde(default)]
    pub plan: bool,
}

/// A yes to what a plan showed.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptPlan {
    /// The `plan` of the answer that showed it.
    pub plan: String,
}

/// What a sweep found and did.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Sweep {
    /// Why nothing is removed at present, if so. A sweep then only shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caution: Option<Caution>,
    /// What stands for all that would be taken away; only if all targets were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Each target.
    pub targets: Vec<SweptTarget>,
}

/// Why nothing is removed until an administrator says yes.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Caution {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub because: String,
}

/// One target.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct SweptTarget {
    /// Its name.
    pub target: String,
    /// Why it could not be looked at. That proves nothing, and nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How many roles it has that look like logins of pgvalet.
    pub logins: usize,
    /// What was found. The password of a login cannot be seen.
    pub findings: Vec<Finding>,
}

/// A finding.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// The role; of foreign ones, the installation.
    pub role: String,
    /// The lease, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<LeaseId>,
    /// In words.
    pub what: String,
    /// What was done, or would be, in words.
    pub done: String,
    /// Could it not be done? The next sweep tries again.
    pub failed: bool,
}
