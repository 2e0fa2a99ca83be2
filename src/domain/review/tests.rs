//! Who reaches what, what is left of it, who may decide, and what a file of it looks like.

use std::collections::BTreeMap;

use super::*;
use crate::{
    domain::{
        conditions::Conditions,
        principal::LOCAL_ISSUER,
        profile::{OwnedObjects, Preset, ProfileSpec, Reason},
        standing::{StandingRole, StandingRoleSpec},
    },
    ids::TargetId,
};

fn principal(kind: Kind, name: &str, groups: &[&str]) -> Principal {
    Principal {
        id: PrincipalId::new(),
        issuer: LOCAL_ISSUER.to_owned(),
        subject: name.parse().unwrap(),
        kind,
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        admin: false,
        claims: BTreeMap::new(),
        acts_for: None,
    }
}

fn profile(name: &str, allow: &[&str]) -> Profile {
    Profile {
        id: ProfileId::new(),
        target_id: TargetId::new(),
        version: 1,
        prepared_version: None,
        failed_checks: Vec::new(),
        settable: Vec::new(),
        bounds: Vec::new(),
        spec: ProfileSpec {
            name: name.parse().unwrap(),
            description: String::new(),
            target: "shop".parse().unwrap(),
            database: "shop".to_owned(),
            preset: Preset::Readonly,
            schemas: vec!["public".to_owned()],
            group_role: None,
            ttl: Seconds::HOUR,
            max_ttl: Seconds::HOUR,
            connection_limit: 1,
            settings: BTreeMap::new(),
            owned_objects: OwnedObjects::Graveyard,
            allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
            reason: Reason::Optional,
            conditions: Conditions::default(),
            rights: crate::domain::rights::Rights::default(),
        },
    }
}

fn bound(of: Option<&Principal>, max_ttl: Option<i64>) -> Bound {
    Bound {
        principal_id: of.map(|of| of.id),
        principal: of.map_or_else(|| ANYONE.to_owned(), ToString::to_string),
        max_ttl: max_ttl.map(|n| Seconds::new(n).unwrap()),
        item: ReviewItemId::new(),
        at: DateTime::UNIX_EPOCH,
    }
}

#[test]
fn groups_are_their_members_and_anyone_is_one_item() {
    let (ann, bob) =
        (principal(Kind::Person, "ann", &["dba"]), principal(Kind::Person, "bob", &[]));
    let reports = principal(Kind::Service, "reports", &[]);
    let main = principal(Kind::Ci, "main", &[]);
    let principals = [main, reports, bob.clone(), ann.clone()];
    let mut profiles = [
        profile("write", &["group:dba", "service:reports", "ci:main"]),
        profile("read", &["anyone", "person:bob"]),
    ];
    let told = |profiles: &[Profile]| {
        let reach = |reach: &Reach<'_>| {
            let who = reach.principal.map_or_else(|| ANYONE.to_owned(), ToString::to_string);
            format!("{} {who} {}", reach.profile.spec.name, reach.rule)
        };
        let (named, anyone) = (reaches(profiles, &[], &principals), open_to_anyone(profiles, &[]));
        named.iter().chain(&anyone).map(reach).collect::<Vec<_>>()
    };
    let all = [
        "read person:bob person:bob",
        "write ci:main ci:main",
        "write person:ann group:dba",
        "write service:reports service:reports",
        "read anyone anyone",
    ];
    assert_eq!(told(&profiles), all);
    // What was narrowed is there still; what was removed is not.
    profiles[0].bounds = vec![bound(Some(&ann), Some(60))];
    profiles[1].bounds = vec![bound(Some(&bob), None), bound(None, None)];
    assert_eq!(told(&profiles), &all[1..4]);
}

#[test]
fn the_tightest_bound_holds_and_that_of_anyone_for_those_whom_nothing_else_names() {
    let (ann, bob) =
        (principal(Kind::Person, "ann", &["dba"]), principal(Kind::Person, "bob", &[]));
    let mut profile = profile("read", &["anyone", "group:dba"]);
    assert_eq!(bound_of(&profile, &ann), None);
    profile.bounds = vec![bound(Some(&bob), Some(60)), bound(None, None)];
    assert_eq!(bound_of(&profile, &ann), None, "a rule names her");
    assert_eq!(bound_of(&profile, &bob), Some(&profile.bounds[1]));
    profile.bounds = vec![bound(Some(&ann), Some(60)), bound(None, Some(120))];
    assert_eq!(bound_of(&profile, &ann), Some(&profile.bounds[0]));
    assert_eq!(bound_of(&profile, &bob), Some(&profile.bounds[1]));
}

#[test]
fn who_reached_something_and_changes_groups_is_looked_at() {
    let profiles = [profile("write", &["group:dba", "group:ops"]), profile("read", &["anyone"])];
    let mut now = principal(Kind::Person, "ann", &["ops"]);
    let with = |groups: &[&str]| Principal {
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        ..now.clone()
    };
    for (before, is_moved) in
        [(&["dba"][..], true), (&["ops"], false), (&["ops", "ops"], false), (&[], false)]
    {
        assert_eq!(moved((&profiles, &[]), &with(before), &now), is_moved, "{before:?}");
    }
    let before = with(&["dba"]);
    now.groups = vec!["marketing".parse().unwrap()];
    assert!(!moved((&profiles, &[]), &before, &now), "nothing is left to look at");
}

fn item(of: Option<&Principal>) -> Item {
    Item {
        id: ReviewItemId::new(),
        profile_id: None,
        profile: "write".to_owned(),
        principal_id: of.map(|of| of.id),
        principal: of.map_or_else(|| ANYONE.to_owned(), ToString::to_string),
        acts_for: of.and_then(|of| of.acts_for),
        token_makers: Vec::new(),
        rule: "group:dba".to_owned(),
        facts: Facts::default(),
        decision: None,
    }
}

fn decision(reason: &str) -> Decision {
    Decision {
        verdict: ReviewVerdict::Keep,
        max_ttl: None,
        reason: reason.to_owned(),
        by: "person:dora".to_owned(),
        via: Some(Via::Page),
        at: DateTime::UNIX_EPOCH,
    }
}

#[test]
fn nobody_decides_about_what_is_theirs() {
    let (ann, dora) = (principal(Kind::Person, "ann", &[]), principal(Kind::Person, "dora", &[]));
    let bot = principal(Kind::Service, "bot", &[]);
    let agent = Principal { acts_for: Some(dora.id), ..bot.clone() };
    let by = Decider { principal: &dora, via: Some(Via::Page), token_makers: &[] };
    let of_dora = Item { token_makers: vec![dora.id], ..item(Some(&ann)) };
    let decided = Item { decision: Some(decision("yes")), ..item(Some(&ann)) };
    for (what, item, by, answer) in [
        ("somebody else's", item(Some(&ann)), by, Ok(())),
        ("anyone's", item(None), by, Ok(())),
        ("their own", item(Some(&dora)), by, Err(NotTheirs::Own)),
        ("their agent's", item(Some(&agent)), by, Err(NotTheirs::ActsForThem)),
        (
            "with a token that they made",
            item(Some(&ann)),
            Decider { token_makers: &[ann.id], ..by },
            Err(NotTheirs::OwnToken),
        ),
        (
            "a service's",
            item(Some(&ann)),
            Decider { principal: &bot, ..by },
            Err(NotTheirs::NoPerson),
        ),
        ("any token", item(Some(&ann)), Decider { via: None, ..by }, Err(NotTheirs::NotByThis)),
        ("with a token that is of their making", of_dora, by, Err(NotTheirs::OwnToken)),
        ("decided", decided, by, Err(NotTheirs::Decided)),
    ] {
        assert_eq!(may_decide(&item, by), answer, "{what}");
    }
}

#[test]
fn a_reason_is_no_formula_and_no_markup() {
    let review = Review {
        id: ReviewId::new(),
        state: ReviewState::Open,
        cause: ReviewCause::Asked,
        principal: None,
        opened_at: DateTime::UNIX_EPOCH,
        due_at: DateTime::UNIX_EPOCH,
        announced_at: None,
        on_due: None,
        settled_at: None,
        signed_off_at: None,
        signed_off_by: None,
        counts: Counts::default(),
    };
    for (reason, cell) in [
        ("fine", ",fine,"),
        ("=HYPERLINK(\"x\")", ",\"'=HYPERLINK(\"\"x\"\")\","),
        ("@x", ",\"'@x\","),
        ("-1", ",\"'-1\","),
        ("+1", ",\"'+1\","),
        ("\tx", ",\"'\tx\","),
        ("a, b\nc", ",\"a, b\nc\","),
    ] {
        let item = Item { decision: Some(decision(reason)), ..item(None) };
        let text = csv(&review, std::slice::from_ref(&item), &BTreeMap::new());
        assert!(text.contains(cell), "{text}");
        assert_eq!(text.split("\r\n").count(), 3, "{text}");
    }
    let item = Item { decision: Some(decision("a|b\n![x](y) <b>")), ..item(None) };
    let grant = exercise::Grant {
        schema: "shop".to_owned(),
        relation: "a|b".to_owned(),
        privileges: [exercise::Privilege::Update].into(),
    };
    let known = exercise::Reading::of(vec![grant]).end(None, None);
    let exercised = BTreeMap::from([("p".to_owned(), exercise::Exercise::Known(known))]);
    let text = markdown(&review, &[item], &exercised);
    assert!(text.contains("\n  - shop.a\\|b: update never\n"), "{text}");
    assert!(text.contains(r"a\|b \!\[x\](y) \<b\>"), "{text}");
}

#[test]
fn what_was_taken_away_is_given_back_by_another() {
    let (ann, dora) =
        (principal(Kind::Person, "ann", &["dba"]), principal(Kind::Person, "dora", &[]));
    let write = profile("write", &["anyone", "group:dba"]);
    let by = Decider { principal: &dora, via: None, token_makers: &[] };
    assert_eq!(may_restore((&write, &[]), Some((&ann, &[])), by), Ok(()));
    assert_eq!(may_restore((&write, &[]), Some((&dora, &[])), by), Err(NotTheirs::Own));
    let made = Decider { token_makers: &[ann.id], ..by };
    assert_eq!(may_restore((&write, &[]), Some((&ann, &[])), made), Err(NotTheirs::OwnToken));
    let of_hers = may_restore((&write, &[]), Some((&ann, &[dora.id])), by);
    assert_eq!(of_hers, Err(NotTheirs::OwnToken), "she made ann's token");
    assert_eq!(may_restore((&write, &[]), None, by), Err(NotTheirs::Own), "nothing else names her");
    assert_eq!(may_restore((&write, &[]), None, Decider { principal: &ann, ..by }), Ok(()));
}

#[test]
fn a_bound_is_tighter_than_what_holds() {
    let ann = principal(Kind::Person, "ann", &["dba"]);
    let mut write = profile("write", &["group:dba"]);
    let narrow = |n| bound(Some(&ann), Some(n));
    let for_ann = |write: &Profile, n: Option<i64>| {
        is_tighter(write, Some(ann.id), n.map(|n| Seconds::new(n).unwrap()))
    };
    assert_eq!(for_ann(&write, Some(60)), Ok(()));
    assert_eq!(for_ann(&write, Some(3600)), Err(Some(Seconds::HOUR)));
    write.bounds = vec![narrow(600)];
    assert_eq!(for_ann(&write, Some(599)), Ok(()));
    assert!(for_ann(&write, Some(600)).is_err());
    write.bounds = vec![bound(Some(&ann), None)];
    assert_eq!(for_ann(&write, Some(1)), Err(None), "what was removed is not given back");
    assert_eq!(for_ann(&write, None), Ok(()));
    assert_eq!(is_tighter(&write, None, Seconds::new(60).ok()), Ok(()), "somebody else's");
}

#[test]
fn standing_roles_are_reached_too_and_taken_away_with_their_profile() {
    let (ann, bob) =
        (principal(Kind::Person, "ann", &["dba"]), principal(Kind::Person, "bob", &[]));
    let mut write = profile("write", &["group:dba"]);
    let spec = StandingRoleSpec {
        name: "etl".parse().unwrap(),
        description: String::new(),
        profile: "write".parse().unwrap(),
        rotate: crate::domain::schedule::Schedule::ninety_days(),
        window: Seconds::HOUR,
        jitter: None,
        grace: Seconds::HOUR,
        allow: vec!["person:ann".parse().unwrap(), "person:bob".parse().unwrap()],
    };
    let role = StandingRole {
        id: crate::ids::StandingRoleId::new(),
        version: 1,
        spec: spec.clone(),
        principal_id: PrincipalId::new(),
        target: "shop".to_owned(),
        database: "shop".to_owned(),
        present: None,
        generation: 0,
        rotated_at: None,
        due_at: DateTime::UNIX_EPOCH,
        blocked_by: None,
    };
    let standing = [role];
    let principals = [ann.clone(), bob.clone()];
    let rules = |write: &Profile| -> Vec<String> {
        let found = reaches(std::slice::from_ref(write), &standing, &principals);
        found.into_iter().map(|reach| reach.rule).collect()
    };
    assert_eq!(
        rules(&write),
        ["group:dba, person:ann (standing role etl)", "person:bob (standing role etl)"]
    );
    assert!(!is_kept_from(&spec, &write, &bob));
    write.bounds = vec![bound(Some(&bob), None), bound(Some(&ann), Some(60))];
    assert!(is_kept_from(&spec, &write, &bob));
    assert!(!is_kept_from(&spec, &write, &ann), "a shorter lease is none of a standing role's");
    assert_eq!(rules(&write).len(), 1);
}
