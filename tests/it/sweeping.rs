//! What a target has against what the record says, both ways.

use serde_json::{Value, json};

use crate::support::{
    chaos::{Break, Mode},
    eventually,
    people::lease_id,
    seconds,
    sessions::{sign_in, text, try_text},
    world::{Plan, World},
};

/// Sweeps the world's target: the findings that concern its own roles.
async fn sweep(world: &World, plan: bool) -> Vec<Value> {
    let ask = json!({ "targets": [world.name], "plan": plan });
    let swept = world.admin.post("/v1/sweep", &ask).await.expect(200);
    assert_eq!(swept["targets"][0]["fault"], Value::Null, "{swept}");
    let of_world = |found: &Value| {
        found["role"].as_str().unwrap().starts_with(&format!("pgv_{}-", world.name))
    };
    let mut findings = swept["targets"][0]["findings"].as_array().unwrap().clone();
    findings.retain(of_world);
    findings
}

fn kinds(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|found| found["kind"].as_str().unwrap()).collect()
}

fn user(issued: &Value) -> String {
    issued["credential"]["user"].as_str().unwrap().to_owned()
}

/// The kinds of entries that the audit has of these.
async fn audited(world: &World, kind: &str) -> Vec<Value> {
    let page = world.admin.get(&format!("/v1/audit?kind={kind}&limit=100")).await.expect(200);
    let event = |item: &Value| item["entry"]["event"].clone();
    page["items"].as_array().unwrap().iter().map(event).collect()
}

/// Makes a login by hand, as the target's admin, that looks like one of ours.
async fn make_by_hand(world: &World, role: &str, installation: &str) {
    let comment = format!(
        "pgvalet lease lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 login lgn_0190c5d3e1a27c41b1f5d0c2a1b3c4d5{installation}"
    );
    let shop = world.shop();
    let statements = [
        format!("SET ROLE {shop}"),
        format!("CREATE ROLE \"{role}\" LOGIN NOINHERIT PASSWORD 'by hand'"),
        format!("GRANT pgvg_{}_read TO \"{role}\"", world.name),
        format!("COMMENT ON ROLE \"{role}\" IS '{comment}'"),
    ];
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    world.target.run(&shop, &statements).await;
}

#[tokio::test]
async fn an_orphan_is_told_shut_out_and_removed_after_its_grace_and_others_are_left_alone() {
    let settings = "[sweep]\norphan_grace = \"3s\"";
    let world = World::with(Plan { settings, ..Plan::default() }).await;
    // So that the group role is there.
    let live = world.issue("read", json!({})).await;
    let id = text(&mut world.on_state().await, "SELECT id FROM installation").await;
    let role = |n: u32| format!("pgv_{}-read_eve_psql_00000000000{n}", world.name);
    make_by_hand(&world, &role(1), &format!(" installation {}", id.replace('-', ""))).await;
    let other = "0190c5d3e1a27c41b1f5d0c2a1b3c4d5";
    make_by_hand(&world, &role(2), &format!(" installation {other}")).await;
    make_by_hand(&world, &role(3), "").await;
    let mut session = world.target.connect(&world.shop(), &role(1), "by hand").await.unwrap();
    let mut target = world.on_target().await;
    let all = format!(
        "SELECT string_agg(r::text, ' ' ORDER BY r.oid) FROM pg_roles r WHERE rolname LIKE 'pgv\\_{}-%'",
        world.name
    );
    let before = text(&mut target, &all).await;

    let planned = sweep(&world, true).await;
    assert_eq!(kinds(&planned), ["orphan", "unmarked"], "{planned:?}");
    assert_eq!(text(&mut target, &all).await, before, "a plan changes nothing");
    assert_eq!(audited(&world, "orphan.found").await, Vec::<Value>::new());

    let found = sweep(&world, false).await;
    assert!(found[0]["done"].as_str().unwrap().starts_with("shut out"), "{found:?}");
    let refused = world.target.connect(&world.shop(), &role(1), "by hand").await;
    assert!(refused.is_err(), "an orphan in quarantine lets nobody in");
    assert!(try_text(&mut session, "SELECT 1").await.is_err(), "its session ended");
    let groups = format!(
        "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = '{}'",
        role(1)
    );
    assert_eq!(text(&mut target, &groups).await, "0");
    let metrics = world.admin.get("/metrics").await.text;
    assert!(metrics.contains("pgvalet_sweep_orphans 1"), "{metrics}");

    eventually("the orphan is removed", seconds(20), async || {
        sweep(&world, false).await;
        !world.roles().await.contains(&role(1))
    })
    .await;
    let removed = audited(&world, "orphan.removed").await;
    assert_eq!(removed[0]["proof"]["role_absent"], true, "{removed:?}");
    assert_eq!(audited(&world, "orphan.found").await.len(), 1);
    // Another installation's, and what says nothing, are as they were; so is the lease.
    world.target.connect(&world.shop(), &role(2), "by hand").await.unwrap();
    world.target.connect(&world.shop(), &role(3), "by hand").await.unwrap();
    sign_in(&live).await.unwrap();
    let drop = [format!("DROP ROLE \"{}\"", role(2)), format!("DROP ROLE \"{}\"", role(3))];
    world.target.run("postgres", &[&drop[0], &drop[1]]).await;
    world.finish().await;
}

#[tokio::test]
async fn what_was_changed_by_hand_is_put_back_and_what_cannot_be_ends() {
    let world = World::start().await;
    let issued = world.issue("read", json!({})).await;
    world.issue("write", json!({})).await;
    let role = user(&issued);
    let mut target = world.on_target().await;
    let state = format!(
        "SELECT concat_ws(' ', rolcanlogin, rolinherit, rolcreatedb, rolconnlimit, rolvaliduntil, rolconfig,
            (SELECT string_agg(m.roleid::regrole::text, ' ') FROM pg_auth_members m WHERE m.member = r.oid))
         FROM pg_roles r WHERE rolname = '{role}'"
    );
    let before = text(&mut target, &state).await;
    assert_eq!(sweep(&world, false).await, Vec::<Value>::new(), "all is as it should be");
    for change in [
        "ALTER ROLE $ VALID UNTIL 'infinity'".to_owned(),
        "ALTER ROLE $ VALID UNTIL '2001-01-01'".to_owned(),
        "ALTER ROLE $ CONNECTION LIMIT -1".to_owned(),
        "ALTER ROLE $ INHERIT".to_owned(),
        "ALTER ROLE $ SET work_mem = '1GB'".to_owned(),
        "ALTER ROLE $ RESET role".to_owned(),
        format!("GRANT pgvg_{}_write TO $", world.name),
        format!("GRANT pgvg_{}_read TO $ WITH ADMIN OPTION", world.name),
    ] {
        world.target.run("postgres", &[&change.replace('$', &format!("\"{role}\""))]).await;
        let found = sweep(&world, false).await;
        if change.contains("RESET role") {
            // Where logins are made by functions there is none.
            assert_eq!(found, Vec::<Value>::new());
            let set = format!("ALTER ROLE \"{role}\" SET role = 'pgvg_{}_read'", world.name);
            world.target.run("postgres", &[&set]).await;
            continue;
        }
        assert_eq!(kinds(&found), ["changed"], "{change}: {found:?}");
        assert_eq!(found[0]["done"], "put back", "{change}");
        assert_eq!(text(&mut target, &state).await, before, "{change}");
    }
    assert_eq!(audited(&world, "login.put_back").await.len(), 7);
    sign_in(&issued).await.unwrap();

    // What only takes away is told, and left so.
    world.target.run("postgres", &[&format!("ALTER ROLE \"{role}\" NOLOGIN")]).await;
    assert_eq!(kinds(&sweep(&world, false).await), ["shut-out"]);
    assert!(sign_in(&issued).await.is_err());

    // Our admin cannot take SUPERUSER, so the lease ends, and says what is in the way.
    world.target.run("postgres", &[&format!("ALTER ROLE \"{role}\" SUPERUSER")]).await;
    let found = sweep(&world, false).await;
    assert_eq!(found[0]["done"], "could not be put back: its lease ends", "{found:?}");
    eventually("what is in the way is named", seconds(10), async || {
        let lease = world.admin.lease(&lease_id(&issued)).await;
        lease["blocked_by"].as_str().is_some_and(|why| why.contains("SUPERUSER"))
    })
    .await;
    world.target.run("postgres", &[&format!("ALTER ROLE \"{role}\" NOSUPERUSER")]).await;
    world.gone(&lease_id(&issued), 30).await;
    assert_eq!(audited(&world, "login.beyond_lease").await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_lease_whose_role_is_gone_is_lost_and_its_sessions_end() {
    let world = World::start().await;
    let issued = world.issue("read", json!({})).await;
    let other = world.issue("read", json!({})).await;
    let mut session = sign_in(&issued).await.unwrap();
    let (role, id) = (user(&issued), lease_id(&issued));
    world.target.run("postgres", &[&format!("DROP ROLE \"{role}\"")]).await;
    assert!(try_text(&mut session, "SELECT 1").await.is_ok(), "the session goes on");

    let planned = sweep(&world, true).await;
    assert_eq!(kinds(&planned), ["lost", "sessions"], "{planned:?}");
    assert_eq!(world.admin.lease(&id).await["state"], "active", "a plan changes nothing");
    let found = sweep(&world, false).await;
    assert_eq!(found[0]["done"], "recorded as lost", "{found:?}");
    let lease = world.gone(&id, 20).await;
    assert_eq!(lease["cause"], "lost");
    assert_eq!(lease["proof"]["role_absent"], true);
    assert!(try_text(&mut session, "SELECT 1").await.is_err(), "the session was ended");
    assert_eq!(world.admin.lease(&lease_id(&other)).await["state"], "active");
    assert_eq!(sweep(&world, false).await, Vec::<Value>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_session_of_a_lease_that_is_over_is_ended() {
    let world = World::start().await;
    let issued = world.issue("read", json!({})).await;
    let (role, id) = (user(&issued), lease_id(&issued));
    let revoked = world.admin.revoke(&id).await.expect(200);
    assert_eq!(revoked["leases"][0]["state"], "revoked");
    // A role that came back: its session, and then the session without the role, which has the OID
    // of the login as recorded.
    make_by_hand(&world, &role, "").await;
    let left = sweep(&world, false).await;
    assert_eq!(kinds(&left), ["left-over"], "{left:?}");
    let lease = world.gone(&id, 20).await;
    assert_eq!(lease["proof"]["role_absent"], true);
    eventually("the role is gone", seconds(20), async || world.roles().await.is_empty()).await;
    make_by_hand(&world, &role, "").await;
    let mut session = world.target.connect(&world.shop(), &role, "by hand").await.unwrap();
    let oid = text(&mut session, "SELECT oid FROM pg_roles WHERE rolname = session_user").await;
    world.target.run("postgres", &[&format!("DROP ROLE \"{role}\"")]).await;
    let mut state = world.on_state().await;
    let recorded = format!("UPDATE login SET role_oid = {oid} WHERE role_name = '{role}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(recorded)).execute(&mut state).await.unwrap();
    assert_eq!(kinds(&sweep(&world, false).await), ["sessions"]);
    assert!(try_text(&mut session, "SELECT 1").await.is_err(), "the session was ended");
    assert_eq!(audited(&world, "sessions.ended").await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_login_in_the_making_is_no_orphan_and_a_silent_target_loses_nothing() {
    let world = World::with(Plan { lease: "issue_deadline = \"5s\"", ..Plan::default() }).await;
    let issued = world.issue("read", json!({})).await;
    world.target_path.set(Break::hang_after(&["CREATE ROLE \"pgv_", "COMMIT"]));
    let (person, profile) = (world.admin.clone(), world.profile("read"));
    let asking = tokio::spawn(async move { person.ask(&profile, json!({})).await });
    world.target_path.broken().await;
    eventually("the role is there", seconds(20), async || world.roles().await.len() == 2).await;
    assert_eq!(sweep(&world, false).await, Vec::<Value>::new());
    asking.await.unwrap();
    assert_eq!(audited(&world, "orphan.found").await, Vec::<Value>::new());

    world.target_path.set(Mode::Refuse);
    let ask = json!({ "targets": [world.name] });
    let swept = world.admin.post("/v1/sweep", &ask).await.expect(200);
    assert!(swept["targets"][0]["fault"].is_string(), "{swept}");
    assert_eq!(swept["targets"][0]["findings"], json!([]));
    world.target_path.set(Mode::Pass);
    assert_eq!(world.admin.lease(&lease_id(&issued)).await["state"], "active");
    sign_in(&issued).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn only_administrators_sweep_and_the_schedule_does_so_by_itself() {
    let settings = "[sweep]\nschedule = \"* * * * * *\"\norphan_grace = \"0s\"";
    let world = World::with(Plan { settings, ..Plan::default() }).await;
    let alice = world.person("alice", &[]).await;
    alice.post("/v1/sweep", &json!({})).await.expect(403);
    alice.post("/v1/sweep/accept", &json!({ "plan": "x" })).await.expect(403);
    let accept = world.admin.post("/v1/sweep/accept", &json!({ "plan": "x" })).await;
    accept.expect_problem(409, "not_cautious");
    let unknown = world.admin.post("/v1/sweep", &json!({ "targets": ["nowhere"] })).await;
    unknown.expect(404);

    let issued = world.issue("read", json!({})).await;
    world.target.run("postgres", &[&format!("DROP ROLE \"{}\"", user(&issued))]).await;
    let lease = world.gone(&lease_id(&issued), 40).await;
    assert_eq!(lease["cause"], "lost");
    world.finish().await;
}
