//! Access reviews: what rules let somebody reach is looked at by others, item by item: kept, narrowed or removed, each
//! with a reason.
//!
//! What is taken away is a bound that the record keeps beside the profile, and not a change of its rules: those are
//! somebody's file, which is applied again and must not give it back. Nobody decides about what they reach themselves.

pub mod exercise;
mod export;
mod reach;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use self::reach::named_by;
pub use self::{
    export::{csv, markdown},
    reach::{Reach, bound_of, is_kept_from, moved, open_to_anyone, reaches, users},
};
use crate::{
    domain::{
        approval::{Decider, Owner, Tie},
        duration::Seconds,
        principal::{AllowRule, Kind, Principal},
        profile::Profile,
        request::Via,
        standing::StandingRole,
        words::words,
    },
    ids::{PrincipalId, ProfileId, ReviewId, ReviewItemId},
};

words! {
    /// Where a review is in its life.
    ReviewState {
        /// Items are decided.
        Open = "open",
        /// All were, and somebody answers for it.
        SignedOff = "signed-off",
    }
}

words! {
    /// Why a review was opened.
    ReviewCause {
        /// It was time.
        Schedule = "schedule",
        /// Somebody asked for it.
        Asked = "asked",
        /// The groups of somebody who could reach something changed.
        Groups = "groups",
        /// Somebody is let in again who was shut out.
        LetInAgain = "let-in-again",
    }
}

words! {
    /// What becomes of an item.
    ReviewVerdict {
        /// It stays as it is.
        Keep = "keep",
        /// It stays, for a shorter time at once.
        Narrow = "narrow",
        /// It is taken away.
        Remove = "remove",
    }
}

words! {
    /// What becomes of items that nobody decided in time.
    OnDue {
        /// It is said aloud, and they go on waiting.
        Escalate = "escalate",
        /// They are removed.
        Remove = "remove",
    }
}

words! {
    /// Why somebody may not decide.
    NotTheirs {
        /// It is what they reach themselves.
        Own = "own_item",
        /// It is what an agent reaches that acts for them, or the person that they act for.
        ActsForThem = "own_agent",
        /// One of the two made a token of the other's.
        OwnToken = "own_token",
        /// They are no person.
        NoPerson = "persons_only",
        /// What they came with decides nothing.
        NotByThis = "not_by_this_token",
        /// They are no reviewer.
        NotNamed = "not_a_reviewer",
        /// Somebody decided it already.
        Decided = "decided_already",
        /// The review was signed off.
        Over = "review_over",
        /// Items wait to be decided.
        Undecided = "review_undecided",
        /// The profile was removed since, and another one has its name.
        ProfileReplaced = "profile_replaced",
    }
}

/// A review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// Where it is in its life.
    pub state: ReviewState,
    /// Why it was opened.
    pub cause: ReviewCause,
    /// Of whom alone, in words; of everybody, if none.
    pub principal: Option<String>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Until when its items are to be decided.
    pub due_at: DateTime<Utc>,
    /// When it was said that the time is nearly over.
    pub announced_at: Option<DateTime<Utc>>,
    /// What happens then to what nobody decided, as it was said.
    pub on_due: Option<OnDue>,
    /// When the setting for what nobody decided in time was carried out.
    pub settled_at: Option<DateTime<Utc>>,
    /// When it was signed off.
    pub signed_off_at: Option<DateTime<Utc>>,
    /// By whom, in words.
    pub signed_off_by: Option<String>,
    /// How far it is.
    pub counts: Counts,
}

impl Review {
    /// What waits in it, for those who are to decide it.
    #[must_use]
    pub fn waiting_in_words(&self) -> String {
        let of = self.principal.as_deref().unwrap_or("everybody");
        let (left, all) = (self.counts.undecided, self.counts.items);
        if left == 0 {
            return format!("{} of {of}: all of {all} decided, to be signed off", self.id);
        }
        let due = self.due_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("{} of {of}: {left} of {all} undecided, due {due}", self.id)
    }
}

/// How many items a review has, and what became of them.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
pub struct Counts {
    /// All of them.
    pub items: i64,
    /// Those that wait.
    pub undecided: i64,
    /// Those that were kept.
    pub kept: i64,
    /// Those that were narrowed.
    pub narrowed: i64,
    /// Those that were removed.
    pub removed: i64,
}

/// What is known of how somebody used a profile, on the day on which the review was opened.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
pub struct Facts {
    /// Leases of the last 90 days, of each of whom up to 1,000 are counted.
    pub leases: i64,
    /// When the last lease was issued; never, if none.
    pub last_used: Option<DateTime<Utc>>,
    /// Leases that were live.
    pub live: i64,
}

/// How far back leases are counted.
pub const COUNTED: TimeDelta = TimeDelta::days(90);

/// What one principal can reach, or `anyone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: ReviewItemId,
    /// The profile, if it is still there.
    pub profile_id: Option<ProfileId>,
    /// Its name.
    pub profile: String,
    /// Whose; `anyone`'s, if none.
    pub principal_id: Option<PrincipalId>,
    /// In words: `person:alice`, or `anyone`.
    pub principal: String,
    /// The person that it acts for.
    pub acts_for: Option<PrincipalId>,
    /// Who made tokens for them that are still good.
    pub token_makers: Vec<PrincipalId>,
    /// The rule that reaches them.
    pub rule: String,
    /// How it was used.
    pub facts: Facts,
    /// What became of it.
    pub decision: Option<Decision>,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Decision {
    /// What.
    pub verdict: ReviewVerdict,
    /// How long a lease lasts at most from now on, if it was narrowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Seconds>,
    /// Why.
    pub reason: String,
    /// Who decided, in words; pgvalet, if nobody did in time.
    pub by: String,
    /// By which way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// When.
    pub at: DateTime<Utc>,
}

/// What reviews left of somebody's access under a profile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Whose; of those whom the rule `anyone` alone allows, if none.
    pub principal_id: Option<PrincipalId>,
    /// In words.
    pub principal: String,
    /// How long a lease lasts at most; there is none at all, if none.
    pub max_ttl: Option<Seconds>,
    /// The item that was decided.
    pub item: ReviewItemId,
    /// When.
    pub at: DateTime<Utc>,
}

/// How the rule `anyone` is named where a principal would be.
pub const ANYONE: &str = "anyone";

impl Bound {
    /// Is there nothing left?
    #[must_use]
    pub const fn removes(&self) -> bool {
        self.max_ttl.is_none()
    }
}

/// Would a bound of this length be tighter than what holds of somebody already? If not, this is how long a lease of theirs
/// lasts at most now; none if all was taken away.
///
/// # Errors
/// That length.
pub fn is_tighter(
    profile: &Profile,
    whose: Option<PrincipalId>,
    max_ttl: Option<Seconds>,
) -> Result<(), Option<Seconds>> {
    let Some(wanted) = max_ttl else { return Ok(()) };
    let before = profile.bounds.iter().find(|before| before.principal_id == whose);
    let longest = before.map_or(Some(profile.spec.max_ttl), |before| before.max_ttl);
    if longest.is_some_and(|longest| wanted < longest) { Ok(()) } else { Err(longest) }
}

impl Facts {
    /// What is known of several together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            leases: self.leases + other.leases,
            last_used: self.last_used.max(other.last_used),
            live: self.live + other.live,
        }
    }
}

/// May somebody who is a reviewer decide about this item?
///
/// # Errors
/// Why not.
pub fn may_decide(item: &Item, by: Decider<'_>) -> Result<(), NotTheirs> {
    may_answer(by)?;
    if let Some(id) = item.principal_id {
        let Item { acts_for, token_makers, .. } = item;
        is_of_another(by, Owner { id, acts_for: *acts_for, token_makers })?;
    }
    if item.decision.is_some() {
        return Err(NotTheirs::Decided);
    }
    Ok(())
}

/// May somebody give back what a review took away of this principal's, with those who made tokens of theirs, or of
/// `anyone`'s, under this profile and the standing roles that work under it?
///
/// # Errors
/// Why not.
pub fn may_restore(
    (profile, standing): (&Profile, &[StandingRole]),
    whose: Option<(&Principal, &[PrincipalId])>,
    by: Decider<'_>,
) -> Result<(), NotTheirs> {
    if let Some((Principal { id, acts_for, .. }, token_makers)) = whose {
        return is_of_another(by, Owner { id: *id, acts_for: *acts_for, token_makers });
    }
    let theirs = |allow: &[AllowRule]| {
        allow.contains(&AllowRule::Anyone) && named_by(allow, by.principal).is_none()
    };
    let is_theirs =
        theirs(&profile.spec.allow) || standing.iter().any(|role| theirs(&role.spec.allow));
    if is_theirs { Err(NotTheirs::Own) } else { Ok(()) }
}

fn is_of_another(by: Decider<'_>, owner: Owner<'_>) -> Result<(), NotTheirs> {
    match by.tie_to(owner) {
        Some(Tie::Same) => Err(NotTheirs::Own),
        Some(Tie::ActsForThem) => Err(NotTheirs::ActsForThem),
        Some(Tie::OwnToken | Tie::LentToken) => Err(NotTheirs::OwnToken),
        None => Ok(()),
    }
}

/// May they answer for anything in a review, with what they came with?
///
/// # Errors
/// Why not.
pub fn may_answer(by: Decider<'_>) -> Result<(), NotTheirs> {
    if by.principal.kind != Kind::Person {
        return Err(NotTheirs::NoPerson);
    }
    by.via.map(drop).ok_or(NotTheirs::NotByThis)
}

#[cfg(test)]
mod tests;
