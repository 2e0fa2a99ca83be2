//! The state database is restored from a backup, or the clock jumps: nothing is removed unasked.

use chrono::Utc;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    eventually, instant,
    people::lease_id,
    seconds,
    sessions::{sign_in, text},
    world::{Plan, World},
};

/// Leases that the backup does not know.
const LATER: usize = 200;

async fn record_part(world: &World) -> String {
    let ready = world.admin.get("/readyz").await.expect(200);
    let parts = ready["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == "record").expect("a part");
    part["detail"].as_str().unwrap().to_owned()
}

/// Answers of `/readyz` are given again for two seconds.
async fn is_believed(world: &World) {
    let believed = async || record_part(world).await == "is believed";
    eventually("the record is believed", seconds(20), believed).await;
}

async fn planned(world: &World) -> Value {
    world.admin.post("/v1/sweep", &json!({ "plan": true })).await.expect(200)
}

/// How many findings of a kind there are on the world's target.
fn count(swept: &Value, kind: &str) -> usize {
    let findings = swept["targets"][0]["findings"].as_array().unwrap();
    findings.iter().filter(|found| found["kind"] == kind).count()
}

#[tokio::test]
async fn after_a_restore_nothing_is_removed_without_a_yes_and_after_it_the_books_balance() {
    let settings = "[sweep]\norphan_grace = \"0s\"";
    let mut world = World::with(Plan { settings, ..Plan::default() }).await;
    let (state, backup) = (format!("{}_state", world.name), format!("{}_backup", world.name));
    // Known to the backup: one that lives on, one that is renewed after it, one that is revoked.
    let kept = world.issue("read", json!({})).await;
    let renewed = world.issue("read", json!({ "ttl": "15s" })).await;
    let revoked = world.issue("read", json!({})).await;
    assert!(world.daemon.stop().await.success());
    let copy = |to: &str, from: &str| format!("CREATE DATABASE {to} TEMPLATE {from} OWNER {state}");
    world.state().run("postgres", &[&copy(&backup, &state)]).await;
    world.start_daemon().await;
    world.admin.renew(&lease_id(&renewed), json!({ "ttl": "1h" })).await.expect(200);
    world.admin.revoke(&lease_id(&revoked)).await.expect(200);
    let profile = world.profile("read");
    let mut later = Vec::new();
    while later.len() < LATER {
        let asked = (0..8).map(|_| world.admin.ask(&profile, json!({})));
        later.extend(join_all(asked).await.into_iter().map(|answer| answer.expect(201)));
    }
    assert_eq!(count(&planned(&world).await, "orphan"), 0);
    is_believed(&world).await;
    let first_end = instant(&renewed["lease"]["expires_at"]);
    eventually("its first end is over", seconds(20), async || Utc::now() > first_end).await;
    world.daemon.kill();

    world.state().drop_database(&state).await;
    world.state().run("postgres", &[&copy(&state, &backup)]).await;
    world.state().drop_database(&backup).await;
    world.start_daemon().await;
    eventually("it is cautious", seconds(20), async || {
        record_part(&world).await.starts_with("cautious since")
    })
    .await;
    let roles = world.roles().await.len();
    assert_eq!(roles, LATER + 2);
    let metrics = world.admin.get("/metrics").await.text;
    assert!(metrics.contains("pgvalet_cautious 1"), "{metrics}");

    // It issues, and ends what was made since, or what somebody revokes.
    let short = world.issue("read", json!({ "ttl": "1s" })).await;
    world.gone(&lease_id(&short), 20).await;
    // A sweep that nobody said yes to only shows, and the lease that was renewed is left alone.
    let swept = world.admin.post("/v1/sweep", &json!({})).await.expect(200);
    assert!(swept["caution"]["because"].is_string(), "{swept}");
    assert_eq!(count(&swept, "orphan"), LATER);
    assert_eq!(count(&swept, "held"), 1);
    assert_eq!(count(&swept, "lost"), 1);
    assert_eq!(world.roles().await.len(), roles);
    for live in [&kept, &renewed, &later[0], &later[LATER - 1]] {
        sign_in(live).await.unwrap();
    }
    // Nor does another start forget it.
    assert!(world.daemon.stop().await.success());
    world.start_daemon().await;
    assert!(record_part(&world).await.starts_with("cautious since"));

    let plan = planned(&world).await["plan"].as_str().unwrap().to_owned();
    let other = world.admin.post("/v1/sweep/accept", &json!({ "plan": "0000000000000000" })).await;
    other.expect_problem(409, "plan_changed");
    world.admin.post("/v1/sweep/accept", &json!({ "plan": plan })).await.expect(200);
    eventually("the books balance", seconds(60), async || {
        world.admin.post("/v1/sweep", &json!({})).await.expect(200);
        world.roles().await == [kept["credential"]["user"].as_str().unwrap()]
    })
    .await;
    assert_eq!(world.gone(&lease_id(&renewed), 20).await["cause"], "expired");
    assert_eq!(world.gone(&lease_id(&revoked), 20).await["cause"], "lost");
    sign_in(&kept).await.unwrap();
    is_believed(&world).await;
    let orphans = "SELECT count(*) FILTER (WHERE (proof ->> 'role_absent')::boolean) FROM orphan";
    assert_eq!(text(&mut world.on_state().await, orphans).await, LATER.to_string());
    world.finish().await;
}

#[tokio::test]
async fn a_clock_that_went_back_makes_the_daemon_cautious() {
    let mut world = World::start().await;
    let issued = world.issue("read", json!({ "ttl": "5m" })).await;
    assert!(world.daemon.stop().await.success());
    let mut state = world.on_state().await;
    let later = "UPDATE installation SET seen_at = now() + interval '1 hour'";
    sqlx::raw_sql(later).execute(&mut state).await.unwrap();
    world.start_daemon().await;
    eventually("it is cautious", seconds(20), async || {
        record_part(&world).await.contains("clock went back")
    })
    .await;
    let plan = planned(&world).await["plan"].as_str().unwrap().to_owned();
    // What a person revokes is removed all the same.
    world.admin.revoke(&lease_id(&issued)).await.expect(200);
    world.admin.post("/v1/sweep/accept", &json!({ "plan": plan })).await.expect(200);
    is_believed(&world).await;
    world.finish().await;
}
