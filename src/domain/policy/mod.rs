//! `decide()`: may this caller have this, and for how long. Default deny: a profile without rules is
//! for nobody, administrators included.

mod claim;

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        access::Asked,
        administration::{Right, Rights},
        approval::Needs,
        duration::Seconds,
        lease::{Granted, TtlRule, grant_ttl},
        principal::{AllowRule, Principal},
        profile::{Profile, Reason},
        request, review,
        rights::context::{self, MissingClaim},
        words::words,
    },
    ids::{AccessRequestId, PrincipalId, ProfileId},
};

pub use self::claim::{Wanted, decide_claim};

/// What was decided.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// No; and everything that was looked at.
    Refuse(Refusal, Vec<Finding>),
    /// Not before others agree.
    NeedsAgreement(Wanting),
    /// Yes.
    Allow(Approval),
}

/// What waits for others to agree.
#[derive(Debug)]
pub struct Wanting {
    /// Who must.
    pub needs: Needs,
    /// How long it would be, and by which rule.
    pub granted: Granted,
    /// Everything that was looked at.
    pub trace: Vec<Finding>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No rule of the profile holds for the caller.
    NoRule {
        /// Rules that the profile has. How many, not which: who else may ask is not the caller's business.
        rules: usize,
    },
    /// The request comes from a network that the profile does not name, or from nowhere known.
    Network(Option<IpAddr>),
    /// It is not the time for it; these are the hours.
    Hours(String),
    /// As many leases as may be are there already, or were asked for lately.
    Limit(Reached),
    /// What the caller came with is not for asking.
    NotForAsking,
    /// The caller came with a sealed code, which does not open this profile.
    NotByCode,
    /// The profile wants a reason.
    ReasonNeeded,
    /// The profile wants a ticket.
    TicketNeeded,
    /// It is not what others agreed to: what differs.
    NotAsAgreed(String),
    /// What others agreed to is over, or was never agreed to.
    RequestOver(request::State),
    /// It was asked for from then on.
    TooEarly(DateTime<Utc>),
    /// The profile's context names a claim that the caller does not have.
    ClaimMissing(String),
    /// The profile's checks failed, and it is not to be used until they pass. This is the first of them.
    ChecksFailed(String),
    /// An access review took it away: what stands in `bounds` of the profile.
    RemovedByReview,
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Which, as it is called where it is set.
    pub limit: Limit,
    /// What it is.
    pub most: i32,
    /// When there may be room again, in seconds: when the next counted lease ends, or leaves the window.
    pub retry_after_seconds: u64,
}

words! {
    /// What bounds the leases of a caller, a profile, a target.
    Limit {
        /// Under one profile, at once.
        Profile = "access.max_live",
        /// Of one caller under one profile, at once.
        Each = "access.max_live_each",
        /// Of one caller under one profile, in a length of time.
        Rate = "access.rate",
        /// On one target, at once.
        Target = "max_live of the target",
        /// Of one caller under all profiles, at once.
        Caller = "max_live_per_caller in [lease]",
    }
}

/// The right to issue one lease. Only [`decide`] and [`approve_check`] make one, and `app::issue` takes it
/// by value, so that nothing is issued that was not decided.
#[derive(Debug)]
pub struct Approval {
    profile: ProfileId,
    profile_version: i32,
    principal: PrincipalId,
    granted: Granted,
    max_ttl: Seconds,
    /// None for a check.
    rule: Option<AllowRule>,
    /// What others agreed to, if they had to.
    request: Option<AccessRequestId>,
    trace: Vec<Finding>,
}

impl Approval {
    /// The profile it is for.
    #[must_use]
    pub const fn profile(&self) -> ProfileId {
        self.profile
    }

    /// The version of the profile that was looked at.
    #[must_use]
    pub const fn profile_version(&self) -> i32 {
        self.profile_version
    }

    /// The principal it is for.
    #[must_use]
    pub const fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// How long, and by which rule.
    #[must_use]
    pub const fn granted(&self) -> &Granted {
        &self.granted
    }

    /// How long it lasts at most, renewals included.
    #[must_use]
    pub const fn max_ttl(&self) -> Seconds {
        self.max_ttl
    }

    /// The request that others agreed to, which it is used up by.
    #[must_use]
    pub const fn request(&self) -> Option<AccessRequestId> {
        self.request
    }

    /// Is it for a check of the profile?
    #[must_use]
    pub const fn is_for_check(&self) -> bool {
        self.rule.is_none()
    }

    /// Everything that was looked at.
    #[must_use]
    pub fn trace(&self) -> &[Finding] {
        &self.trace
    }

    /// What allowed it, in words: the rule, or that it is a check.
    #[must_use]
    pub fn allowed_by(&self) -> String {
        self.rule
            .as_ref()
            .map_or_else(|| "check by an administrator".to_owned(), AllowRule::to_string)
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// What was looked at.
    pub condition: Condition,
    /// Is it met?
    pub holds: bool,
    /// What was seen, for a person to read.
    pub why: String,
}

words! {
    /// What is looked at, in this order: the first that is not met is the answer.
    Condition {
        /// The caller: is it disabled?
        Principal = "principal",
        /// A rule of `access.allow`.
        Rule = "rule",
        /// What access reviews left of it.
        Review = "review",
        /// Where the request comes from.
        Network = "network",
        /// When.
        Hours = "hours",
        /// The reason that was given.
        Reason = "reason",
        /// The ticket that was given.
        Ticket = "ticket",
        /// Who must agree.
        Approval = "approval",
        /// What is claimed of the caller.
        Claims = "claims",
        /// The profile's checks.
        Checks = "checks",
        /// How many leases live, and how often was asked.
        Limits = "limits",
    }
}

/// Who asks, from where, and when.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// From where.
    pub source: Option<IpAddr>,
    /// When.
    pub now: DateTime<Utc>,
}

/// Decides. How many leases live is not looked at here: only the transaction that records one more can know.
pub fn decide(asked: &Asked, of: Circumstances<'_>, profile: &Profile) -> Decision {
    let said = Said { reason: asked.reason.is_some(), ticket: asked.ticket.is_some() };
    let (rule, trace) = match allowed(look(said, of, profile), of, profile) {
        Ok(allowed) => allowed,
        Err((refusal, trace)) => return Decision::Refuse(refusal, trace),
    };
    let spec = &profile.spec;
    let granted = narrowed(grant_ttl(asked.ttl, spec.ttl, spec.max_ttl), of.principal, profile);
    if let Some(needs) = &spec.conditions.approval {
        return Decision::NeedsAgreement(Wanting { needs: needs.clone(), granted, trace });
    }
    Decision::Allow(Approval {
        profile: profile.id,
        profile_version: profile.version,
        principal: of.principal.id,
        granted,
        max_ttl: longest(of.principal, profile),
        rule: Some(rule),
        request: None,
        trace,
    })
}

/// How long a lease of theirs lasts at most: what the profile says, or what a review left of it.
fn longest(principal: &Principal, profile: &Profile) -> Seconds {
    let left = review::bound_of(profile, principal).and_then(|bound| bound.max_ttl);
    left.map_or(profile.spec.max_ttl, |left| left.min(profile.spec.max_ttl))
}

/// The same length, or the one that a review narrowed it to.
fn narrowed(granted: Granted, principal: &Principal, profile: &Profile) -> Granted {
    let longest = longest(principal, profile);
    if granted.granted <= longest {
        return granted;
    }
    let because = format!("an access review narrowed it to {longest}");
    Granted { granted: longest, rule: TtlRule::Review, because, ..granted }
}

/// What was said with a wish.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    /// Is there a reason?
    pub reason: bool,
    /// Is there a ticket?
    pub ticket: bool,
}

/// Everything that [`decide`] looks at, whether or not the first of it says no already.
#[must_use]
pub fn explain(said: Said, of: Circumstances<'_>, profile: &Profile) -> Vec<Finding> {
    look(said, of, profile).into_iter().map(|(finding, _)| finding).collect()
}

/// The rule that holds, if nothing that was seen says no.
fn allowed(
    seen: Vec<Seen>,
    of: Circumstances<'_>,
    profile: &Profile,
) -> Result<(AllowRule, Vec<Finding>), (Refusal, Vec<Finding>)> {
    let trace: Vec<Finding> = seen.iter().map(|(finding, _)| finding.clone()).collect();
    if let Some(refusal) = seen.into_iter().find_map(|(_, refusal)| refusal) {
        return Err((refusal, trace));
    }
    match rule_for(of.principal, &profile.spec.allow) {
        Some(rule) => Ok((rule.clone(), trace)),
        None => Err((Refusal::NoRule { rules: profile.spec.allow.len() }, trace)),
    }
}

fn rule_for<'a>(principal: &Principal, allow: &'a [AllowRule]) -> Option<&'a AllowRule> {
    allow.iter().find(|rule| rule.matches(principal))
}

type Seen = (Finding, Option<Refusal>);

/// Who asks, from where and when: what counts for as long as a lease lasts.
fn look_at_asker(of: Circumstances<'_>, profile: &Profile) -> Vec<Seen> {
    let spec = &profile.spec;
    let rule = rule_for(of.principal, &spec.allow);
    let why = match rule {
        Some(rule) => format!("`{rule}` allows {}", of.principal),
        None if spec.allow.is_empty() => "it allows nobody".to_owned(),
        None => format!("none of its {} rules names {}", spec.allow.len(), of.principal),
    };
    let refusal = rule.is_none().then_some(Refusal::NoRule { rules: spec.allow.len() });
    let mut seen = vec![found(Condition::Rule, why, refusal)];
    if let Some(bound) = review::bound_of(profile, of.principal) {
        let at = bound.at.format("%Y-%m-%d");
        let (why, refusal) = match bound.max_ttl {
            Some(ttl) => (format!("an access review narrowed it to {ttl} on {at}"), None),
            None => {
                let why = format!("an access review took it away on {at}");
                (why, Some(Refusal::RemovedByReview))
            }
        };
        seen.push(found(Condition::Review, why, refusal));
    }
    let conditions = &spec.conditions;
    if !conditions.networks.is_empty() {
        let from = of.source.map_or_else(|| "nowhere known".to_owned(), |ip| ip.to_string());
        let holds = conditions.take_from(of.source);
        let is = if holds { "is" } else { "is not" };
        let why = format!("{from} {is} in {}", listed(&conditions.networks));
        seen.push(found(Condition::Network, why, (!holds).then_some(Refusal::Network(of.source))));
    }
    if !conditions.hours.is_empty() {
        let holds = conditions.take_at(of.now);
        let is = if holds { "is" } else { "is not" };
        let (now, hours) = (of.now.format("%a %Y-%m-%d %H:%M UTC"), listed(&conditions.hours));
        let why = format!("{now} {is} within {hours}");
        seen.push(found(Condition::Hours, why, (!holds).then_some(Refusal::Hours(hours))));
    }
    seen
}

fn found(condition: Condition, why: String, refusal: Option<Refusal>) -> Seen {
    (Finding { condition, holds: refusal.is_none(), why }, refusal)
}

fn look(said: Said, of: Circumstances<'_>, profile: &Profile) -> Vec<Seen> {
    let spec = &profile.spec;
    let mut seen = look_at_asker(of, profile);
    let mut note = |condition, why, refusal| seen.push(found(condition, why, refusal));
    if spec.reason == Reason::Required {
        let refusal = (!said.reason).then_some(Refusal::ReasonNeeded);
        note(Condition::Reason, given_or_not(said.reason), refusal);
    }
    if spec.conditions.ticket == Reason::Required {
        let refusal = (!said.ticket).then_some(Refusal::TicketNeeded);
        note(Condition::Ticket, given_or_not(said.ticket), refusal);
    }
    if let Some(needs) = &spec.conditions.approval {
        note(Condition::Approval, format!("{} must agree", needs.in_words()), None);
    }
    match context::missing(spec, of.principal) {
        Some(MissingClaim(claim)) => {
            let why = format!("`{claim}` is not claimed of {}", of.principal);
            note(Condition::Claims, why, Some(Refusal::ClaimMissing(claim)));
        }
        None if context::is_filled_with_claims(spec) => {
            note(Condition::Claims, "what its context names is claimed".to_owned(), None);
        }
        None => {}
    }
    if let Some(check) = profile.blocked_by() {
        let refusal = Refusal::ChecksFailed(check.to_owned());
        note(Condition::Checks, format!("its check `{check}` failed"), Some(refusal));
    }
    seen
}

fn given_or_not(is_given: bool) -> String {
    if is_given { "one is given" } else { "one is needed, and none is given" }.to_owned()
}

fn listed<T: std::fmt::Display>(things: &[T]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// How long the lease of a check lives at most: what is left of one whose daemon was stopped is over then.
const CHECK_TTL: i64 = 120;

/// A lease for the checks of a profile, which must work where [`decide`] says no: nobody may ask for the
/// profile yet, or its checks failed. For those who look after profiles alone, who never see the credential: it stays in the
/// daemon, which runs in it what the profile's file says, and rolls back. None for anybody else.
#[must_use]
pub fn approve_check(caller: &Principal, rights: &Rights, profile: &Profile) -> Option<Approval> {
    let ttl = Seconds::new(CHECK_TTL).ok()?;
    rights.include(Right::Profiles).then(|| Approval {
        profile: profile.id,
        profile_version: profile.version,
        principal: caller.id,
        granted: grant_ttl(Some(ttl), profile.spec.ttl, profile.spec.max_ttl),
        max_ttl: profile.spec.max_ttl,
        rule: None,
        request: None,
        trace: Vec::new(),
    })
}

/// Why a lease may not be made longer or given a fresh login now, and what was looked at; none if it may. A
/// principal that is gone or disabled gets nothing, and where and when it is asked counts as it does for a new
/// lease.
#[must_use]
pub fn still_refused(
    principal: Option<&Principal>,
    (source, now): (Option<IpAddr>, DateTime<Utc>),
    profile: &Profile,
) -> Option<(Refusal, Vec<Finding>)> {
    let Some(principal) = principal else {
        return Some((Refusal::NoRule { rules: profile.spec.allow.len() }, Vec::new()));
    };
    let seen = look_at_asker(Circumstances { principal, source, now }, profile);
    let trace = seen.iter().map(|(finding, _)| finding.clone()).collect();
    let refusal = seen.into_iter().find_map(|(_, refusal)| refusal)?;
    Some((refusal, trace))
}

#[cfg(test)]
mod tests;
