//! A wish for a lease that others must agree to: what it binds, what was said to it, and where it is in its life.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{approval::Needs, duration::Seconds, lease::Granted, words::words},
    ids::{AccessRequestId, LeaseId, PrincipalId, ProfileId, TargetId},
};

words! {
    /// Where a request is in its life.
    State {
        /// Others have not agreed yet.
        Pending = "pending",
        /// They did; the lease was not fetched yet.
        Approved = "approved",
        /// Somebody said no.
        Denied = "denied",
        /// Whoever asked does not want it any more.
        Withdrawn = "withdrawn",
        /// Its time was over: nobody answered, or nobody fetched the lease.
        Lapsed = "lapsed",
        /// The lease was fetched, or lasts longer.
        Claimed = "claimed",
        /// It was agreed to, and the lease could not be made until its time was over.
        Failed = "failed",
    }
}

impl State {
    /// Does it wait for somebody?
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }
}

words! {
    /// What somebody said to a request.
    Verdict {
        /// Yes.
        Agreed = "agreed",
        /// No.
        Denied = "denied",
    }
}

words! {
    /// By which way they said it.
    Via {
        /// The API, with a token made for that.
        Api = "api",
        /// The command line, in a session.
        CommandLine = "command-line",
        /// A page, in a session.
        Page = "page",
        /// Slack.
        Slack = "slack",
    }
}

/// What one person said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Vote {
    /// Who.
    pub principal_id: PrincipalId,
    /// Who, in words.
    pub principal: String,
    /// In which step: the first is 0.
    pub step: i32,
    /// What.
    pub verdict: Verdict,
    /// And why.
    pub comment: Option<String>,
    /// By which way.
    pub via: Via,
    /// When.
    pub at: DateTime<Utc>,
    /// Since when it counts no more: they were shut out, and it was not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_at: Option<DateTime<Utc>>,
}

impl Vote {
    /// Does it count as a yes?
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.verdict == Verdict::Agreed && self.void_at.is_none()
    }
}

/// A request as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: AccessRequestId,
    /// Where it is in its life.
    pub state: State,
    /// Who asked.
    pub principal_id: PrincipalId,
    /// Who asked, in words.
    pub principal: String,
    /// Whom they act for, if they act for a person.
    pub acts_for: Option<PrincipalId>,
    /// Who made the token that it was asked with, if others did; who made what that was made with; and for whom these
    /// act.
    pub asker_makers: Vec<PrincipalId>,
    /// For which profile; none once it was removed.
    pub profile_id: Option<ProfileId>,
    /// Its name.
    pub profile: String,
    /// The version of it that was asked for.
    pub profile_version: i32,
    /// Its target.
    pub target_id: TargetId,
    /// The target's name.
    pub target: String,
    /// The target's environment.
    pub environment: String,
    /// The database.
    pub database: String,
    /// The tool that will use it.
    pub tool: String,
    /// For how long, and by which rule.
    pub ttl: Granted,
    /// For how long they agreed to, if that is shorter.
    pub agreed: Option<Seconds>,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// The lease that is to last longer, if it is not a new one that is asked for.
    pub extends: Option<LeaseId>,
    /// Who must agree.
    pub needs: Needs,
    /// What was said so far, oldest first.
    pub votes: Vec<Vote>,
    /// From when it is wanted.
    pub start_at: Option<DateTime<Utc>>,
    /// When it was asked.
    pub created_at: DateTime<Utc>,
    /// When it lapses if nobody answers.
    pub lapse_at: DateTime<Utc>,
    /// When it was decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// Until when the lease may be fetched.
    pub use_by: Option<DateTime<Utc>>,
    /// The lease that came of it.
    pub lease_id: Option<LeaseId>,
}

impl Request {
    /// How long a lease that comes of it lasts: what was asked for, or less.
    #[must_use]
    pub fn length(&self) -> Seconds {
        self.agreed.unwrap_or(self.ttl.granted)
    }

    /// Who agreed, in words.
    #[must_use]
    pub fn agreed_by(&self) -> String {
        let agreed = self.votes.iter().filter(|vote| vote.agrees());
        agreed.map(|vote| vote.principal.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The same, as it is at this instant: one whose time is over lapsed, though nobody recorded it yet.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        if self.is_due(now) {
            self.state = State::Lapsed;
        }
        self
    }

    /// Is its time over?
    #[must_use]
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        match self.state {
            State::Pending => self.lapse_at <= now,
            State::Approved => self.use_by.is_none_or(|by| by <= now),
            _ => false,
        }
    }

    /// Until when what is agreed to now may be used. What is wanted later may be used from then on.
    #[must_use]
    pub fn use_by(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.start_at.map_or(now, |start| start.max(now)) + self.needs.use_within.delta()
    }
}

/// How far ahead a lease may be asked for.
pub const FURTHEST_START: TimeDelta = TimeDelta::days(30);

/// How many requests of one principal may be open at once: what asks in a loop is not to bury the others.
pub const MOST_OPEN: i64 = 20;
