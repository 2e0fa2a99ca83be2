//! A database is not there, or something stands in the way: clear answers, nothing half-made, and
//! work that goes on by itself.

use std::sync::Arc;

use chrono::Utc;
use serde_json::json;

use crate::support::{
    chaos::Mode,
    eventually, instant,
    people::lease_id,
    postgres::own_cluster,
    seconds,
    sessions::sign_in,
    world::{Plan, World},
};

#[tokio::test]
async fn a_stopped_target_is_told_and_what_ended_meanwhile_is_removed_when_it_is_back() {
    let (postgres, _folder) = own_cluster().await;
    let plan = Plan { shop_on: Some(Arc::clone(&postgres)), ..Plan::default() };
    let world = World::with(plan).await;
    let short = world.issue("read", json!({ "ttl": "2s" })).await;
    let long = world.issue("read", json!({})).await;

    postgres.stop().await;
    let refused = world.admin.ask(&world.profile("read"), json!({})).await;
    refused.expect_problem(503, "target_unreachable");
    eventually("the short lease is over", seconds(20), async || {
        let lease = world.admin.lease(&lease_id(&short)).await;
        lease["state"] == "revoking" && Utc::now() > instant(&lease["expires_at"])
    })
    .await;
    assert_eq!(world.admin.lease(&lease_id(&long)).await["state"], "active");
    let ready = world.admin.get("/readyz").await;
    assert!(ready.text.contains(&format!("target {}", world.name)), "{}", ready.text);

    postgres.start_again().await;
    let lease = world.gone(&lease_id(&short), 60).await;
    assert_eq!(lease["cause"], "expired");
    sign_in(&long).await.unwrap();
    let fresh = world.issue("read", json!({})).await;
    sign_in(&fresh).await.unwrap();
    eventually("the failed wish is cleared up", seconds(15), async || {
        world.live().await.len() == 2
    })
    .await;
    assert_eq!(world.roles().await.len(), 2);
    world.finish().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_stopped_state_database_is_told_and_the_daemon_recovers() {
    let (postgres, _folder) = own_cluster().await;
    let plan = Plan { state_on: Some(Arc::clone(&postgres)), ..Plan::default() };
    let world = World::with(plan).await;
    let issued = world.issue("read", json!({ "ttl": "6s" })).await;
    postgres.stop().await;
    let refused = world.admin.ask(&world.profile("read"), json!({})).await;
    refused.expect_problem(503, "state_unavailable");
    let ready = world.admin.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("state database"), "{}", ready.text);
    assert_eq!(world.admin.get("/healthz").await.status, 200);

    postgres.start_again().await;
    eventually("it is ready again", seconds(10), async || {
        world.admin.get("/readyz").await.status == 200
    })
    .await;
    world.issue("read", json!({})).await;
    let lease = world.gone(&lease_id(&issued), 60).await;
    assert_eq!(lease["cause"], "expired");
    world.finish().await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_state_database_that_hangs_is_told_in_time() {
    let world = World::start().await;
    world.issue("read", json!({})).await;
    world.state_path.set(Mode::Hang);
    let ready = world.admin.get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text);
    world.state_path.set(Mode::Pass);
    eventually("it is ready again", seconds(20), async || {
        world.admin.get("/readyz").await.status == 200
    })
    .await;
    world.issue("read", json!({})).await;
    world.finish().await;
}
