//! Standing roles, and the answer that carries the credential of one.

use chrono::{DateTime, Utc};

use crate::{
    api::leases::{Credential, ReceivedCredential},
    domain::{lease::State, standing::StandingRoleSpec},
    ids::{LeaseId, StandingRoleId},
};

/// A standing role. Never its password.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct StandingRole {
    /// Its id.
    pub id: StandingRoleId,
    /// Grows with each change of what it says.
    pub version: i32,
    /// Grows with each rotation; 0 before the first. A consumer that has seen this one has nothing to
    /// read.
    pub generation: i32,
    /// The target of its profile.
    pub target: String,
    /// The database of its profile.
    pub database: String,
    /// The login role that is handed out now.
    pub role: Option<String>,
    /// The lease of that login.
    pub lease_id: Option<LeaseId>,
    /// Where that is in its life.
    pub state: Option<State>,
    /// When that login stops by itself, if it is not rotated before.
    pub valid_until: Option<DateTime<Utc>>,
    /// When it was last rotated.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When it is rotated next.
    pub due_at: DateTime<Utc>,
    /// Is it to be rotated now?
    pub due: bool,
    /// Should it have been rotated by now, its window included?
    pub overdue: bool,
    /// What stood in the way of the latest try.
    pub blocked_by: Option<String>,
    /// What it says.
    #[serde(flatten)]
    pub spec: StandingRoleSpec,
}

/// `GET /v1/standing-roles/{name}/credential`.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct StandingCredential {
    /// The standing role.
    pub standing_role: StandingRole,
    /// What it hands out now.
    pub credential: Credential,
}

/// The same answer as a client reads it.
#[derive(Debug, serde::Deserialize)]
pub struct ReceivedStandingCredential {
    /// The standing role.
    pub standing_role: StandingRole,
    /// What it hands out now.
    pub credential: ReceivedCredential,
}

/// `POST /v1/standing-roles/{name}/rotate`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateStandingRole {
    /// Stop the login of before at once, not after the grace: somebody knows its password who should
    /// not. Consumers that use it are cut off until they have read the fresh one.
    #[serde(default)]
    pub now: bool,
}
