use super::*;

const INSTALLATION: Uuid = Uuid::from_u128(1);

fn by() -> By {
    By { installation: INSTALLATION, skew: TimeDelta::zero() }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap()
}

fn record(state: State) -> Recorded {
    Recorded {
        login_id: LoginId::new(),
        lease_id: LeaseId::new(),
        role: "pgv_shop_alice_psql_0123456789ab".to_owned(),
        oid: Some(7),
        state,
        valid_until: at(3600),
        group_role: "pgvg_shop".to_owned(),
        connection_limit: 3,
        settings: [("search_path", "\"$user\", shop"), ("statement_timeout", "30s")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

fn seen(record: &Recorded) -> Seen {
    let mark =
        Mark { lease: record.lease_id, login: record.login_id, installation: Some(INSTALLATION) };
    Seen {
        oid: 7,
        role: record.role.clone(),
        comment: Some(mark.to_string()),
        may_sign_in: true,
        inherits: false,
        powers: Vec::new(),
        connection_limit: 3,
        valid_until: Some(at(3600)),
        settings: ["role=pgvg_shop", "search_path=\"$user\", shop", "statement_timeout=30s"]
            .map(str::to_owned)
            .to_vec(),
        database_settings: Vec::new(),
        memberships: vec![Membership {
            group: "pgvg_shop".to_owned(),
            is_admin: false,
            inherits: false,
            is_connect: false,
        }],
        members: Vec::new(),
    }
}

fn of(record: &Recorded) -> HashMap<String, Recorded> {
    HashMap::from([(record.role.clone(), record.clone())])
}

fn put_back(login: &Seen, record: &Recorded) -> PutBack {
    match compare(by(), std::slice::from_ref(login), &of(record)).as_slice() {
        [Finding { kind: Kind::Changed, act: Act::PutBack(_, _, back), .. }] => back.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_as_recorded_is_no_finding() {
    let record = record(State::Active);
    let mut login = seen(&record);
    assert_eq!(compare(by(), &[login.clone()], &of(&record)), []);
    // Logins that were made by functions have no `role`, and old ones no installation.
    login.settings.remove(0);
    login.comment = None;
    assert_eq!(compare(by(), &[login], &of(&record)), []);
}

#[test]
fn whose_a_role_is_decides_what_is_done() {
    let recorded = record(State::Active);
    let ours = seen(&recorded);
    let nobody = HashMap::new();
    let act = |login: &Seen| {
        let found = compare(by(), std::slice::from_ref(login), &nobody);
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        (finding.kind, finding.act.clone())
    };
    assert_eq!(act(&ours), (Kind::Orphan, Act::Quarantine));
    let mighty = Seen { powers: vec!["SUPERUSER"], ..ours.clone() };
    assert_eq!(act(&mighty), (Kind::Orphan, Act::Nothing));
    let mark =
        |installation| Mark { lease: recorded.lease_id, login: recorded.login_id, installation };
    let theirs = mark(Some(Uuid::from_u128(2))).to_string();
    let theirs = Seen { comment: Some(theirs), ..ours.clone() };
    assert_eq!(act(&theirs), (Kind::Foreign, Act::Nothing));
    for comment in [None, Some("mine".to_owned()), Some(mark(None).to_string())] {
        let login = Seen { comment, ..ours.clone() };
        assert_eq!(act(&login), (Kind::Unmarked, Act::Nothing));
    }
    let unlike = Seen { role: "pgv_mine".to_owned(), ..ours };
    assert_eq!(compare(by(), &[unlike], &nobody), []);
}

#[test]
fn only_an_active_login_can_be_lost_or_changed() {
    for state in [State::Provisioning, State::Revoking, State::Revoked] {
        let record = record(state);
        assert_eq!(compare(by(), &[], &of(&record)), [], "{state:?}");
        let odd = Seen { inherits: true, oid: 8, ..seen(&record) };
        let kinds: Vec<_> =
            compare(by(), &[odd], &of(&record)).into_iter().map(|found| found.kind).collect();
        let left = if state == State::Revoked { vec![Kind::LeftOver] } else { Vec::new() };
        assert_eq!(kinds, left, "{state:?}");
    }
    let record = record(State::Active);
    let lost = Act::Lose(record.login_id, record.lease_id);
    assert_eq!(compare(by(), &[], &of(&record))[0].act, lost);
    let other = Seen { oid: 8, ..seen(&record) };
    assert_eq!(compare(by(), &[other], &of(&record))[0].act, lost);
}

#[test]
fn what_gives_more_is_told_from_what_gives_less() {
    let record = record(State::Active);
    let login = seen(&record);
    let other = Membership {
        group: "boss".to_owned(),
        is_admin: false,
        inherits: false,
        is_connect: false,
    };
    let mut joined = login.clone();
    joined.memberships.push(other);
    let mut admin = login.clone();
    admin.memberships[0].is_admin = true;
    for more in [
        Seen { powers: vec!["CREATEROLE"], ..login.clone() },
        Seen { inherits: true, ..login.clone() },
        Seen { connection_limit: -1, ..login.clone() },
        Seen { valid_until: None, ..login.clone() },
        Seen { valid_until: Some(at(3611)), ..login.clone() },
        Seen { members: vec!["eve".to_owned()], ..login.clone() },
        joined,
        admin,
    ] {
        assert!(put_back(&more, &record).has_more, "{more:?}");
    }
    for less in [
        Seen { connection_limit: 0, ..login.clone() },
        Seen { valid_until: Some(at(3589)), ..login.clone() },
        Seen { settings: Vec::new(), ..login.clone() },
        Seen { database_settings: vec!["shop".to_owned()], ..login.clone() },
    ] {
        assert!(!put_back(&less, &record).has_more, "{less:?}");
    }
    for shut in [
        Seen { may_sign_in: false, ..login.clone() },
        Seen { memberships: Vec::new(), ..login.clone() },
    ] {
        let found = compare(by(), &[shut], &of(&record));
        assert_eq!((found[0].kind, found[0].act.clone()), (Kind::ShutOut, Act::Nothing));
    }
    let skewed = By { skew: TimeDelta::minutes(5), ..by() };
    let late = Seen { valid_until: Some(at(3600 + 300)), ..login };
    assert_eq!(compare(skewed, &[late], &of(&record)), []);
}

#[test]
fn what_moved_meanwhile_is_left_for_the_next_time() {
    let record = record(State::Active);
    let login = seen(&record);
    let none = HashMap::new();
    let check = |before: &HashMap<_, _>, seen: &[Seen], after: &HashMap<_, _>| {
        let first = compare(by(), seen, before);
        assert!(!first.is_empty());
        confirmed(by(), seen, before, after, first)
    };
    let of_state = |state| of(&Recorded { state, ..record.clone() });
    // Made between the reading of the record and the look at the target.
    for state in [State::Provisioning, State::Active] {
        assert_eq!(check(&none, std::slice::from_ref(&login), &of_state(state)), []);
    }
    // Ended meanwhile: its role is gone because it should be.
    assert_eq!(check(&of(&record), &[], &of_state(State::Revoking)), []);
    // Renewed meanwhile.
    let renewed = Recorded { valid_until: at(7200), ..record.clone() };
    let longer = Seen { valid_until: Some(at(7200)), ..login.clone() };
    assert_eq!(check(&of(&record), &[longer], &of(&renewed)), []);
    // Still true.
    assert_eq!(check(&of(&record), &[], &of(&record))[0].kind, Kind::Lost);
    let gone = of_state(State::Revoked);
    assert_eq!(check(&none, &[login], &gone)[0].kind, Kind::LeftOver);
}

#[test]
fn a_plan_stands_for_what_would_be_taken_away() {
    let record = record(State::Active);
    let orphan = compare(by(), &[seen(&record)], &HashMap::new()).remove(0);
    let unmarked = Finding { kind: Kind::Unmarked, ..orphan.clone() };
    let id = |findings: Vec<&Finding>, silent| plan_id([("shop", silent, findings)].into_iter());
    let plan = id(vec![&orphan], false);
    assert_eq!(plan.len(), 16);
    assert_eq!(id(vec![&orphan, &unmarked], false), plan);
    assert_ne!(id(vec![&orphan], true), plan);
    assert_ne!(id(vec![], false), plan);
}
