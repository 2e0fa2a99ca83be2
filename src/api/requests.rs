//! Requests that others must agree to.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        approval::Needs,
        request::{State, Vote},
    },
    ids::{AccessRequestId, LeaseId},
};

/// A request. Never a secret.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Request {
    /// Its id.
    pub id: AccessRequestId,
    /// Where it is in its life.
    pub state: State,
    /// Who asked, in words.
    pub principal: String,
    /// The profile.
    pub profile: String,
    /// The target.
    pub target: String,
    /// The target's environment.
    pub environment: String,
    /// The database.
    pub database: String,
    /// The tool that will use it.
    pub tool: String,
    /// For how long, once it is fetched: what was asked for, or what they agreed to if that is less.
    pub ttl: String,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// The lease that is to last longer, if it is not a new one that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<LeaseId>,
    /// Who must agree, and until when.
    pub needs: Needs,
    /// What was said so far, oldest first.
    pub votes: Vec<Vote>,
    /// The step of `needs` that waits for somebody: the first is 0. None once there is none.
    pub open_step: Option<usize>,
    /// From when it is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<DateTime<Utc>>,
    /// When it was asked.
    pub created_at: DateTime<Utc>,
    /// When it lapses if nobody answers.
    pub lapse_at: DateTime<Utc>,
    /// When it was decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// Until when the lease may be fetched, once they agreed.
    pub use_by: Option<DateTime<Utc>>,
    /// The lease that came of it.
    pub lease_id: Option<LeaseId>,
}

/// `POST /v1/requests/{id}/approve`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// For no longer than this; as long as was asked for, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// `POST /v1/requests/{id}/deny`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// Why: whoever asked reads it.
    pub comment: String,
}

/// `POST /v1/requests/{id}/claim`. What is said must be what was agreed to; what is not said is it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// For how long: no longer than was agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}
