//! `decide()`: may this caller have this, and for how long. Default deny: a profile without rules is
//! for nobody, administrators included.

use crate::{
    domain::{
        access::Asked,
        duration::Seconds,
        lease::{Granted, grant_ttl},
        principal::{AllowRule, Principal},
        profile::{Profile, Reason},
        rights::context::{self, MissingClaim},
    },
    ids::{PrincipalId, ProfileId},
};

/// What was decided.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// No.
    Refuse(Refusal),
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
    /// The profile wants a reason.
    ReasonNeeded,
    /// The profile's context names a claim that the caller does not have.
    ClaimMissing(String),
    /// The profile's checks failed, and it is not to be used until they pass. This is the first of them.
    ChecksFailed(String),
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

    /// What allowed it, in words: the rule, or that it is a check.
    #[must_use]
    pub fn allowed_by(&self) -> String {
        self.rule
            .as_ref()
            .map_or_else(|| "check by an administrator".to_owned(), AllowRule::to_string)
    }
}

/// Decides.
pub fn decide(asked: &Asked, caller: &Principal, profile: &Profile) -> Decision {
    let spec = &profile.spec;
    let Some(rule) = spec.allow.iter().find(|rule| rule.matches(caller)) else {
        return Decision::Refuse(Refusal::NoRule { rules: spec.allow.len() });
    };
    if spec.reason == Reason::Required && asked.reason.is_none() {
        return Decision::Refuse(Refusal::ReasonNeeded);
    }
    if let Some(MissingClaim(claim)) = context::missing(spec, caller) {
        return Decision::Refuse(Refusal::ClaimMissing(claim));
    }
    if let Some(check) = profile.blocked_by() {
        return Decision::Refuse(Refusal::ChecksFailed(check.to_owned()));
    }
    Decision::Allow(Approval {
        profile: profile.id,
        profile_version: profile.version,
        principal: caller.id,
        granted: grant_ttl(asked.ttl, spec.ttl, spec.max_ttl),
        rule: Some(rule.clone()),
    })
}

/// How long the lease of a check lives at most: what is left of one whose daemon was stopped is over then.
const CHECK_TTL: i64 = 120;

/// A lease for the checks of a profile, which must work where [`decide`] says no: nobody may ask for the
/// profile yet, or its checks failed. For an administrator alone, who never sees the credential: it stays in the
/// daemon, which runs in it what the profile's file says, and rolls back. None for anybody else.
#[must_use]
pub fn approve_check(caller: &Principal, profile: &Profile) -> Option<Approval> {
    let ttl = Seconds::new(CHECK_TTL).ok()?;
    caller.admin.then(|| Approval {
        profile: profile.id,
        profile_version: profile.version,
        principal: caller.id,
        granted: grant_ttl(Some(ttl), profile.spec.ttl, profile.spec.max_ttl),
        rule: None,
    })
}

/// Why a lease may not be made longer or given a fresh login now; none if it may. A principal that is
/// gone or disabled gets nothing.
#[must_use]
pub fn still_refused(principal: Option<&Principal>, profile: &Profile) -> Option<Refusal> {
    let allow = &profile.spec.allow;
    let holds = principal.is_some_and(|principal| allow.iter().any(|rule| rule.matches(principal)));
    (!holds).then_some(Refusal::NoRule { rules: allow.len() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        domain::{
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
                rights: crate::domain::rights::Rights::default(),
            },
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
            let decision = decide(&asked(given), &caller(false), &profile(allow, reason));
            match (decision, refusal) {
                (Decision::Refuse(got), Some(wanted)) => assert_eq!(got, wanted, "{sentence}"),
                (Decision::Allow(_), None) => {}
                (got, wanted) => panic!("{sentence}: {got:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn what_was_allowed_goes_on_only_while_a_rule_holds() {
        let refused = |principal: Option<Principal>, allow: &[&str]| {
            still_refused(principal.as_ref(), &profile(allow, Reason::Required))
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
        let refused = decide(&asked(Some("x")), &caller(true), &failed);
        let Decision::Refuse(refusal) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal, Refusal::ChecksFailed("the wall".to_owned()));
        let approval = approve_check(&caller(true), &failed).expect("an administrator checks");
        assert!(approval.is_for_check());
        assert_eq!(approval.granted().granted.get(), 120);
        assert!(approve_check(&caller(false), &failed).is_none());
        failed.spec.rights.failed_checks = Some(crate::domain::rights::FailedChecks::Warn);
        assert!(matches!(decide(&asked(Some("x")), &caller(true), &failed), Decision::Allow(_)));
    }

    #[test]
    fn an_administrator_gets_no_lease_without_a_rule() {
        let decision =
            decide(&asked(None), &caller(true), &profile(&["group:dba"], Reason::Optional));
        assert!(matches!(decision, Decision::Refuse(Refusal::NoRule { .. })));
    }
}
