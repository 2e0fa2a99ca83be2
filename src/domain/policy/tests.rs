//! Decisions, each with its reason.

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
        acts_for: None,
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
        bounds: Vec::new(),
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
        start_at: None,
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
    let elsewhere = Circumstances { source: Some("192.0.2.1".parse().unwrap()), ..here(&alice) };
    let later = Circumstances { now: "2026-01-06T09:00:00Z".parse().unwrap(), ..here(&alice) };
    let told = |of: Circumstances<'_>, reason| match decide(&asked(reason), of, &profile) {
        Decision::Allow(approval) => (None, approval.trace().to_vec()),
        Decision::Refuse(refusal, trace) => (Some(refusal), trace),
        Decision::NeedsAgreement(wanting) => panic!("{wanting:?}"),
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
    assert_eq!(explain(Said { reason: false, ticket: false }, nowhere, &profile), trace);
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
    assert!(matches!(decide(&asked(Some("x")), here(&caller(true)), &failed), Decision::Allow(_)));
}

#[test]
fn an_administrator_gets_no_lease_without_a_rule() {
    let decision =
        decide(&asked(None), here(&caller(true)), &profile(&["group:dba"], Reason::Optional));
    assert!(matches!(decision, Decision::Refuse(Refusal::NoRule { .. }, _)));
}
