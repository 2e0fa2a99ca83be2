//! What happens to access reviews.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        duration::Seconds,
        request::Via,
        review::{Counts, OnDue, ReviewCause, ReviewVerdict},
    },
    ids::{PrincipalId, ReviewId, ReviewItemId},
};

/// What happened to a review. The name of each in the audit is fixed for ever.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are what their names say, and are listed in the API")]
pub enum ReviewEvent {
    /// A review was opened: of everybody, or of one principal.
    #[serde(rename = "review.opened")]
    Opened {
        review_id: ReviewId,
        cause: ReviewCause,
        principal: Option<String>,
        items: usize,
        due_at: DateTime<Utc>,
    },
    /// Somebody whose review is open reaches more by now, which is looked at in it.
    #[serde(rename = "review.extended")]
    Extended { review_id: ReviewId, cause: ReviewCause, principal: String, items: usize },
    /// An item was decided. Without `via`: by pgvalet, when the time was over.
    #[serde(rename = "review.decided")]
    Decided {
        review_id: ReviewId,
        item_id: ReviewItemId,
        principal_id: Option<PrincipalId>,
        principal: String,
        profile: String,
        rule: String,
        verdict: ReviewVerdict,
        max_ttl: Option<Seconds>,
        reason: String,
        via: Option<Via>,
    },
    /// The time is nearly over, and items wait.
    #[serde(rename = "review.due-soon")]
    DueSoon { review_id: ReviewId, due_at: DateTime<Utc>, undecided: i64, on_due: OnDue },
    /// The time is over, and items wait.
    #[serde(rename = "review.escalated")]
    Escalated { review_id: ReviewId, undecided: i64 },
    /// The time is over, and the items that waited were removed.
    #[serde(rename = "review.lapsed-items-removed")]
    LapsedItemsRemoved { review_id: ReviewId, removed: usize },
    /// Everything is decided, and somebody answers for it.
    #[serde(rename = "review.signed-off")]
    SignedOff { review_id: ReviewId, counts: Counts, comment: Option<String>, via: Option<Via> },
    /// What a review took away was given back.
    #[serde(rename = "review.restored")]
    Restored {
        principal_id: Option<PrincipalId>,
        principal: String,
        profile: String,
        item_id: ReviewItemId,
        reason: String,
    },
}
