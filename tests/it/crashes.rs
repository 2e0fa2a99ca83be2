//! The daemon is killed between the intent and the answer. Whatever was done by then, after the next
//! start no role is left, and the lease is revoked because it failed.

use serde_json::{Value, json};

use crate::support::{
    chaos::{Break, Mode, Proxy},
    eventually,
    people::lease_id,
    seconds,
    sessions::sign_in,
    world::{Plan, World},
};

/// The statement that makes a leased login.
const CREATE: &str = "CREATE ROLE \"pgv_";

/// Kills the daemon when the asking for a lease came to this break on the way to the target, or to the
/// state database; starts it again; gives the lease once it is gone.
async fn killed_at(path: fn(&World) -> &Proxy, mode: Mode, role_was_made: bool) {
    killed_in(path, mode, Making::InABatch, role_was_made).await;
}

/// How the login is being made: a daemon that just started makes its first one alone.
#[derive(PartialEq)]
enum Making {
    InABatch,
    Alone,
}

async fn killed_in(path: fn(&World) -> &Proxy, mode: Mode, making: Making, role_was_made: bool) {
    let plan = Plan { lease: "issue_deadline = \"2s\"", ..Plan::default() };
    let mut world = World::with(plan).await;
    // So that the profile is prepared, and the next wish begins with the login at once.
    let first = world.issue("read", json!({})).await;
    let first_role = first["credential"]["user"].as_str().unwrap().to_owned();
    if making == Making::Alone {
        world.daemon.kill();
        world.start_daemon().await;
    }

    path(&world).set(mode);
    let (person, profile) = (world.admin.clone(), world.profile("read"));
    let asking = tokio::spawn(async move {
        let wish = json!({ "profile": profile });
        person.try_call(reqwest::Method::POST, "/v1/leases", Some(&wish), &[]).await
    });
    path(&world).broken().await;
    if role_was_made {
        eventually("the role is there", seconds(20), async || world.roles().await.len() == 2).await;
    }
    world.daemon.kill();
    assert!(asking.await.unwrap().is_err(), "an answer from a daemon that was killed");
    path(&world).set(Mode::Pass);
    world.start_daemon().await;

    let is_other = |lease: &Value| lease["role"] != first_role.as_str();
    let lease = world.live().await.into_iter().find(is_other).expect("the intent is on record");
    let lease = world.gone(lease["id"].as_str().unwrap(), 30).await;
    assert_eq!(lease["cause"], "failed");
    assert_eq!(lease["proof"]["role_absent"], true);
    assert_eq!(lease["proof"]["sessions_left"], 0);
    assert_eq!(world.roles().await, [first_role], "only the lease of before is left");
    world.finish().await;
}

#[tokio::test]
async fn killed_right_after_the_intent() {
    let after = Break::hang_after(&["lease.intended"]);
    killed_at(|world| &world.state_path, after, false).await;
}

#[tokio::test]
async fn killed_before_the_role_is_made() {
    killed_at(|world| &world.target_path, Break::hang_before(&[CREATE]), false).await;
}

#[tokio::test]
async fn killed_while_the_role_is_made() {
    let before_commit = Break::hang_before(&[CREATE, "COMMIT"]);
    killed_in(|world| &world.target_path, before_commit, Making::Alone, false).await;
}

#[tokio::test]
async fn killed_after_the_commit_whose_answer_did_not_come() {
    killed_at(|world| &world.target_path, Break::hang_after(&[CREATE]), true).await;
}

#[tokio::test]
async fn killed_after_the_commit_of_a_login_made_alone() {
    let after_commit = Break::hang_after(&[CREATE, "COMMIT"]);
    killed_in(|world| &world.target_path, after_commit, Making::Alone, true).await;
}

#[tokio::test]
async fn killed_between_the_role_and_its_activation() {
    let activation = Break::hang_before(&["lease.activated"]);
    killed_at(|world| &world.state_path, activation, true).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_on_the_way_from_the_target_leaves_nothing() {
    let world = World::start().await;
    world.issue("read", json!({})).await;
    for mode in [Break::cut_before(&[CREATE]), Break::cut_after(&[CREATE])] {
        world.target_path.set(mode.clone());
        let answer = world.admin.ask(&world.profile("read"), json!({})).await;
        if answer.status == 201 {
            // It looked again, found its own role, and set it right.
            sign_in(&answer.body).await.unwrap();
            world.admin.revoke(&lease_id(&answer.body)).await.expect(200);
        } else {
            assert!((502..=504).contains(&answer.status), "{mode:?}: {}", answer.text);
        }
        world.target_path.set(Mode::Pass);
        eventually("only the first lease is left", seconds(20), async || {
            world.roles().await.len() == 1 && world.live().await.len() == 1
        })
        .await;
    }
    world.finish().await;
}

/// What went wrong once: the time for making the login was counted from after the intent was recorded,
/// so that an intent whose commit took long was given up, proven gone, and made only then.
#[tokio::test]
async fn an_intent_that_is_recorded_late_makes_no_role() {
    let plan = Plan { lease: "issue_deadline = \"1s\"", ..Plan::default() };
    let world = World::with(plan).await;
    world.issue("read", json!({})).await;
    let roles = world.roles().await;

    let mut state = world.on_state().await;
    let lock = "BEGIN; LOCK TABLE audit_entry IN SHARE ROW EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut state).await.unwrap();
    let (person, profile) = (world.admin.clone(), world.profile("read"));
    let asking = tokio::spawn(async move {
        let wish = json!({ "profile": profile });
        person.try_call(reqwest::Method::POST, "/v1/leases", Some(&wish), &[]).await
    });
    let began = std::time::Instant::now();
    eventually("its time is over", seconds(10), async || began.elapsed() > seconds(5)).await;
    sqlx::raw_sql("COMMIT").execute(&mut state).await.unwrap();

    let answer = asking.await.unwrap().unwrap();
    answer.expect_problem(504, "timed_out");
    assert_eq!(world.roles().await, roles, "no role was made after its time");
    world.finish().await;
}
