//! Somebody leaves: what they had, and what is seen to be gone of it.

use chrono::{DateTime, Utc};

use crate::{
    api::leases::Lease,
    domain::{lease::Proof, request::State},
    ids::{AccessRequestId, LeaseId, OffboardingId, PrincipalId, TokenId},
};

/// `POST` and `GET /v1/principals/{which}/offboarding`: how it stands now.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Offboarding {
    /// Its id.
    pub id: OffboardingId,
    /// Who leaves, as `person:alice`.
    pub principal: String,
    /// The same, by id.
    pub principal_id: PrincipalId,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// Who said so.
    pub started_by: String,
    /// Is nothing left of them? They are shut out, and each login was seen to be gone.
    pub complete: bool,
    /// When that was recorded.
    pub finished_at: Option<DateTime<Utc>>,
    /// When they were let in again, if they were.
    pub ended_at: Option<DateTime<Utc>>,
    /// How many logins were seen to be gone.
    pub proofs: usize,
    /// How many were not yet.
    pub pending: usize,
    /// Which targets have something left, and what stands in the way.
    pub pending_targets: Vec<PendingTarget>,
    /// What they can sign in with no more.
    pub shut_out: ShutOut,
    /// Their leases that were not over when they left.
    pub leases: Vec<Lease>,
    /// The passwords of standing roles that they were given, and that held when they left.
    pub standing_secrets: Vec<StandingSecret>,
    /// Requests of theirs that were withdrawn.
    pub requests_withdrawn: Vec<AccessRequestId>,
    /// What they agreed to, latest first: look at it again.
    pub approvals_given: Vec<ApprovalGiven>,
    /// For whom sealed codes were withdrawn, since the leaver had made and seen them: they need new ones.
    pub codes_withdrawn: Vec<String>,
    /// Where files still name them.
    pub still_named: Vec<StillNamed>,
    /// Tokens that they made for others, have seen, and that hold: replace them.
    pub tokens_made: Vec<MadeToken>,
}

/// A target that has something left.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PendingTarget {
    /// The target.
    pub target: String,
    /// How many logins.
    pub logins: usize,
    /// What stands in the way. Empty while nothing does: it is being done.
    pub why: Vec<String>,
}

/// What they can sign in with no more.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ShutOut {
    /// When they were shut out.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Sessions that were ended.
    pub sessions_ended: i64,
    /// API tokens that are refused.
    pub tokens: i64,
    /// Names of client certificates that are refused.
    pub certificates: Vec<String>,
    /// Identities that are refused, as `KEY of ISSUER`.
    pub identities: Vec<String>,
    /// Services that acted for them, and were shut out with them.
    pub agents: Vec<String>,
    /// Groups that they were in.
    pub groups: Vec<String>,
}

/// A password of a standing role that they were given.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct StandingSecret {
    /// The standing role.
    pub standing_role: String,
    /// The target.
    pub target: String,
    /// When they last read it.
    pub read_at: DateTime<Utc>,
    /// The lease of the login whose password it is.
    pub lease_id: LeaseId,
    /// The login.
    pub role: Option<String>,
    /// Does the standing role hand out another one by now?
    pub replaced: bool,
    /// What stands in the way.
    pub blocked_by: Option<String>,
    /// What was seen when the login was gone.
    pub proof: Option<Proof>,
}

/// Something that they agreed to.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ApprovalGiven {
    /// The request.
    pub request_id: AccessRequestId,
    /// Who had asked.
    pub principal: String,
    /// For which profile.
    pub profile: String,
    /// When they agreed.
    pub at: DateTime<Utc>,
    /// Where the request is in its life.
    pub state: State,
    /// The lease that came of it.
    pub lease_id: Option<LeaseId>,
}

/// Where a file still names them.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct StillNamed {
    /// Where, as `profile.shop-read.access.allow`.
    pub place: String,
    /// What names them.
    pub rule: String,
}

/// A token that they made for somebody else.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct MadeToken {
    /// Its id.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// Whose it is.
    pub principal: String,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}
