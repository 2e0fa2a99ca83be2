//! Access reviews: who can reach what, looked at again.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        duration::Seconds,
        name::Name,
        review::{
            Counts, Decision, Facts, OnDue, ReviewCause, ReviewState, ReviewVerdict,
            exercise::Exercise,
        },
    },
    ids::{ReviewId, ReviewItemId},
};

/// A review.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AccessReview {
    /// Its id.
    pub id: ReviewId,
    /// Where it is in its life.
    pub state: ReviewState,
    /// Why it was opened.
    pub cause: ReviewCause,
    /// Of whom alone; of everybody, if none.
    pub principal: Option<String>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Until when its items are to be decided.
    pub due_at: DateTime<Utc>,
    /// When it was said that the time is nearly over.
    pub announced_at: Option<DateTime<Utc>>,
    /// What happens then to what nobody decided, as it was said.
    pub on_due: Option<OnDue>,
    /// When what nobody decided in time was removed, or said aloud.
    pub settled_at: Option<DateTime<Utc>>,
    /// When somebody answered for it.
    pub signed_off_at: Option<DateTime<Utc>>,
    /// Who.
    pub signed_off_by: Option<String>,
    /// How far it is.
    pub counts: Counts,
}

/// What one principal can reach, or `anyone`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AccessReviewItem {
    /// Its id.
    pub id: ReviewItemId,
    /// Who: `person:alice`, `service:reports`, `ci:storefront`, or `anyone`.
    pub principal: String,
    /// The profile.
    pub profile: String,
    /// The rule of its `access.allow` that reaches them.
    pub rule: String,
    /// How it was used, on the day on which the review was opened.
    pub facts: Facts,
    /// Was it never used?
    pub never_used: bool,
    /// What became of it.
    pub decision: Option<Decision>,
}

/// A profile that a review is about.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AccessReviewProfile {
    /// Its name.
    pub profile: String,
    /// How its grants were exercised, by the statements that its target remembers. None until the target was asked.
    pub exercise: Option<Exercise>,
}

/// The profiles of a review.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AccessReviewProfiles {
    /// By name.
    pub items: Vec<AccessReviewProfile>,
}

/// `POST /v1/reviews`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenReview {
    /// Of whom alone, as `person:alice`; of everybody, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// `POST /v1/reviews/{id}/decisions`: either `items`, or a filter of those that wait.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// These items. All of them must be the caller's to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<ReviewItemId>>,
    /// Those of this principal, or of `anyone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Those of this profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Name>,
    /// Those that were never used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_used: bool,
    /// All that wait, where nothing else is said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// What becomes of them.
    pub verdict: ReviewVerdict,
    /// With `narrow`: how long a lease lasts at most from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Seconds>,
    /// Why.
    pub reason: String,
}

/// What came of it.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ReviewDecided {
    /// How many items were decided.
    pub decided: usize,
    /// How many of those that the filter meant are not the caller's to decide.
    pub left_out: usize,
    /// How many more wait still, because they cannot be decided so: they are that narrow already, or their profile was
    /// removed and another one has its name.
    pub unfit: usize,
    /// The review as it is now.
    pub review: AccessReview,
}

/// `POST /v1/reviews/{id}/sign-off`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignOff {
    /// What is to be remembered of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// `POST /v1/profiles/{name}/restore`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Whom it is given back to: `person:alice`, or `anyone`.
    pub principal: String,
    /// Why.
    pub reason: String,
}
