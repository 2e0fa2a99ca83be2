//! `decide()`: may this caller have this, and for how long. Default deny: a profile without rules is
//! for nobody, administrators included.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        access::Asked,
        administration::{Right, Rights},
        duration::Seconds,
        lease::{Granted, grant_ttl},
        principal::{AllowRule, Principal},
        profile::{Profile, Reason},
        rights::context::{self, MissingClaim},
        words::words,
    },
    ids::{PrincipalId, ProfileId},
};

/// What was decided.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// No; and everything that was looked at.
    Refuse(Refusal, Vec<Finding>),
    /// Yes.
    Allow(Approval),
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
    /// The profile wants a reason.
    ReasonNeeded,
    /// The profile's context names a claim that the caller does not have.
    ClaimMissing(String),
    /// The profile's checks failed, and it is not to be used until they pass. This is the first of them.
    ChecksFailed(String),
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
    /// None for a check.
    rule: Option<AllowRule>,
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
        /// Where the request comes from.
        Network = "network",
        /// When.
        Hours = "hours",
        /// The reason that was given.
        Reason = "reason",
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
    let seen = look(asked.reason.is_some(), of, profile);
    let trace: Vec<Finding> = seen.iter().map(|(finding, _)| finding.clone()).collect();
    if let Some(refusal) = seen.into_iter().find_map(|(_, refusal)| refusal) {
        return Decision::Refuse(refusal, trace);
    }
    let spec = &profile.spec;
    let Some(rule) = rule_for(of.principal, &spec.allow) else {
        return Decision::Refuse(Refusal::NoRule { rules: spec.allow.len() }, trace);
    };
    Decision::Allow(Approval {
        profile: profile.id,
        profile_version: profile.version,
        principal: of.principal.id,
        granted: grant_ttl(asked.ttl, spec.ttl, spec.max_ttl),
        rule: Some(rule.clone()),
        trace,
    })
}

/// Everything that [`decide`] looks at, whether or not the first of it says no already.
#[must_use]
pub fn explain(has_reason: bool, of: Circumstances<'_>, profile: &Profile) -> Vec<Finding> {
    look(has_reason, of, profile).into_iter().map(|(finding, _)| finding).collect()
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

fn look(has_reason: bool, of: Circumstances<'_>, profile: &Profile) -> Vec<Seen> {
    let spec = &profile.spec;
    let mut seen = look_at_asker(of, profile);
    let mut note = |condition, why, refusal| seen.push(found(condition, why, refusal));
    if spec.reason == Reason::Required {
        let why = if has_reason { "one is given" } else { "one is needed, and none is given" };
        note(Condition::Reason, why.to_owned(), (!has_reason).then_some(Refusal::ReasonNeeded));
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
        rule: None,
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        domain::{
            administration::{Administration, Scopes},
            conditions::{Conditions, Day, Hours},
            principal::{Kind, LOCAL_ISSUER},
            profile::{OwnedObjects, Preset, ProfileSpec},
        },
        ids::TargetId,
    };

    fn caller(admin: bool) -> Principal {
        Principal {
            id: PrincipalId::new(),
            issuer: LOCAL_ISSUER.to_owned(),
            subject: "alice".parse().unwrap(),
            kind: Kind::Person,
            groups: vec!["engineering".parse().unwrap()],
            admin,
            claims: BTreeMap::new(),
        }
    }

    fn profile(allow: &[&str], reason: Reason) -> Profile {
        Profile {
            id: ProfileId::new(),
            target_id: TargetId::new(),
            version: 3,
            prepared_version: Some(3),
            failed_checks: Vec::new(),
            settable: Vec::new(),
            spec: ProfileSpec {
                name: "shop-read".parse().unwrap(),
                description: String::new(),
                target: "shop".parse().unwrap(),
                database: "shop".to_owned(),
                preset: Preset::Readonly,
                schemas: vec!["public".to_owned()],
                group_role: None,
                ttl: Seconds::new(60).unwrap(),
                max_ttl: Seconds::new(120).unwrap(),
                connection_limit: 1,
                settings: BTreeMap::new(),
                owned_objects: OwnedObjects::Graveyard,
                allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
                reason,
                conditions: Conditions::default(),
                rights: crate::domain::rights::Rights::default(),
            },
        }
    }

    fn rights(admin: bool) -> Rights {
        Administration::default().rights_of(&caller(admin), &Scopes::default())
    }

    fn here(principal: &Principal) -> Circumstances<'_> {
        Circumstances {
            principal,
            source: Some("10.0.0.7".parse().unwrap()),
            now: "2026-01-05T09:00:00Z".parse().unwrap(),
        }
    }

    fn asked(reason: Option<&str>) -> Asked {
        Asked {
            profile: "shop-read".parse().unwrap(),
            ttl: None,
            tool: "psql".parse().unwrap(),
            reason: reason.map(str::to_owned),
            ticket: None,
        }
    }

    #[test]
    fn decides_by_the_first_rule_that_holds() {
        use Reason::{Optional, Required};
        let no_rule = |rules| Some(Refusal::NoRule { rules });
        for (sentence, allow, reason, given, refusal) in [
            ("no rules: nobody", &[][..], Optional, None, no_rule(0)),
            ("a rule for others", &["group:dba"], Optional, None, no_rule(1)),
            ("a rule for the group", &["group:engineering"], Optional, None, None),
            ("a reason is missing", &["anyone"], Required, None, Some(Refusal::ReasonNeeded)),
            ("a reason is given", &["anyone"], Required, Some("INC-1"), None),
            ("no rule, reason or not", &["group:dba"], Required, None, no_rule(1)),
        ] {
            let decision = decide(&asked(given), here(&caller(false)), &profile(allow, reason));
            match (decision, refusal) {
                (Decision::Refuse(got, _), Some(wanted)) => assert_eq!(got, wanted, "{sentence}"),
                (Decision::Allow(_), None) => {}
                (got, wanted) => panic!("{sentence}: {got:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn where_and_when_count_after_who_and_all_is_told() {
        let office = Hours {
            days: vec![Day::Mon],
            from: "08:00".parse().unwrap(),
            to: "18:00".parse().unwrap(),
            timezone: "UTC".parse().unwrap(),
        };
        let mut profile = profile(&["group:engineering"], Reason::Required);
        profile.spec.conditions.networks = vec!["10.0.0.0/8".parse().unwrap()];
        profile.spec.conditions.hours = vec![office];
        let alice = caller(false);
        let elsewhere =
            Circumstances { source: Some("192.0.2.1".parse().unwrap()), ..here(&alice) };
        let later = Circumstances { now: "2026-01-06T09:00:00Z".parse().unwrap(), ..here(&alice) };
        let told = |of: Circumstances<'_>, reason| match decide(&asked(reason), of, &profile) {
            Decision::Allow(approval) => (None, approval.trace().to_vec()),
            Decision::Refuse(refusal, trace) => (Some(refusal), trace),
        };
        let (refusal, trace) = told(here(&alice), Some("INC-1"));
        assert_eq!(refusal, None);
        assert!(trace.iter().all(|finding| finding.holds), "{trace:?}");
        let looked_at: Vec<_> = trace.iter().map(|finding| finding.condition).collect();
        use Condition::{Hours as When, Network, Reason as Why, Rule};
        assert_eq!(looked_at, [Rule, Network, When, Why]);

        let (refusal, _) = told(elsewhere, Some("INC-1"));
        assert_eq!(refusal, Some(Refusal::Network(elsewhere.source)));
        let (refusal, _) = told(later, Some("INC-1"));
        assert!(matches!(refusal, Some(Refusal::Hours(_))), "{refusal:?}");
        // The first that is not met is the answer, and the others are in the trace.
        let nowhere = Circumstances { source: None, ..later };
        let (refusal, trace) = told(nowhere, None);
        assert_eq!(refusal, Some(Refusal::Network(None)));
        let unmet: Vec<_> = trace.iter().filter(|f| !f.holds).map(|f| f.condition).collect();
        assert_eq!(unmet, [Network, When, Why]);
        assert_eq!(explain(false, nowhere, &profile), trace);
    }

    #[test]
    fn what_was_allowed_goes_on_only_while_a_rule_holds() {
        let refused = |principal: Option<Principal>, allow: &[&str]| {
            let now = "2026-01-05T09:00:00Z".parse().unwrap();
            still_refused(principal.as_ref(), (None, now), &profile(allow, Reason::Required))
                .map(|(refusal, _)| refusal)
        };
        let no_rule = Some(Refusal::NoRule { rules: 1 });
        assert_eq!(refused(Some(caller(false)), &["group:engineering"]), None);
        assert_eq!(refused(Some(caller(true)), &["group:dba"]), no_rule);
        assert_eq!(refused(None, &["anyone"]), no_rule);
    }

    #[test]
    fn failed_checks_block_whom_a_rule_allows_and_not_the_next_check() {
        let mut failed = profile(&["anyone"], Reason::Required);
        failed.failed_checks = vec!["the wall".to_owned(), "another".to_owned()];
        let refused = decide(&asked(Some("x")), here(&caller(true)), &failed);
        let Decision::Refuse(refusal, _) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal, Refusal::ChecksFailed("the wall".to_owned()));
        let approval =
            approve_check(&caller(true), &rights(true), &failed).expect("an administrator checks");
        assert!(approval.is_for_check());
        assert_eq!(approval.granted().granted.get(), 120);
        assert!(approve_check(&caller(false), &rights(false), &failed).is_none());
        failed.spec.rights.failed_checks = Some(crate::domain::rights::FailedChecks::Warn);
        assert!(matches!(
            decide(&asked(Some("x")), here(&caller(true)), &failed),
            Decision::Allow(_)
        ));
    }

    #[test]
    fn an_administrator_gets_no_lease_without_a_rule() {
        let decision =
            decide(&asked(None), here(&caller(true)), &profile(&["group:dba"], Reason::Optional));
        assert!(matches!(decision, Decision::Refuse(Refusal::NoRule { .. }, _)));
    }
}
