//! What happens to requests that others must agree to.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        lease::Granted,
        policy::Finding,
        request::{State, Via},
    },
    ids::{AccessRequestId, LeaseId, PrincipalId},
};

/// What happened to a request. The name of each in the audit is fixed for ever.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are what their names say, and are listed in the API")]
pub enum RequestEvent {
    /// A wish for a lease waits for others to agree; or, with `extends`, the wish that one lasts longer.
    #[serde(rename = "request.created")]
    Created {
        request_id: AccessRequestId,
        profile: String,
        target: String,
        database: String,
        tool: String,
        reason: Option<String>,
        ticket: Option<String>,
        ttl: Box<Granted>,
        needs: String,
        extends: Option<LeaseId>,
        start_at: Option<DateTime<Utc>>,
        lapse_at: DateTime<Utc>,
        trace: Vec<Finding>,
    },
    /// Somebody agreed, and more must.
    #[serde(rename = "request.agreed")]
    Agreed {
        request_id: AccessRequestId,
        step: usize,
        comment: Option<String>,
        via: Via,
        seconds: Option<i64>,
    },
    /// Somebody agreed, and that was enough.
    #[serde(rename = "request.approved")]
    Approved {
        request_id: AccessRequestId,
        step: usize,
        comment: Option<String>,
        via: Via,
        seconds: i64,
        use_by: DateTime<Utc>,
    },
    /// Somebody said no.
    #[serde(rename = "request.denied")]
    Denied { request_id: AccessRequestId, step: usize, comment: String, via: Via },
    /// Whoever asked does not want it any more.
    #[serde(rename = "request.withdrawn")]
    Withdrawn { request_id: AccessRequestId },
    /// Its time was over: `from` says what it waited for.
    #[serde(rename = "request.lapsed")]
    Lapsed { request_id: AccessRequestId, from: State },
    /// Somebody who agreed was shut out before it was used: that counts no more, and others must agree again if it was
    /// enough.
    #[serde(rename = "request.agreement-void")]
    AgreementVoid {
        request_id: AccessRequestId,
        principal_id: PrincipalId,
        principal: String,
        from: State,
    },
    /// The lease was asked for that others agreed to, or lasts longer.
    #[serde(rename = "request.claimed")]
    Claimed { request_id: AccessRequestId, lease_id: LeaseId },
    /// Others agreed, and the lease could not be made until the time for it was over.
    #[serde(rename = "request.failed")]
    Failed { request_id: AccessRequestId },
    /// Somebody tried with a request what they may not.
    #[serde(rename = "request.refused")]
    Refused { request_id: AccessRequestId, what: String, code: String, why: String },
}
