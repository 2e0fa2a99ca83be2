//! Revoking: out within seconds, and out for good.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};

use crate::support::{
    eventually,
    people::lease_id,
    seconds,
    sessions::{is_shut_out, refusal, sign_in, text, try_text},
    world::World,
};

#[tokio::test]
async fn whatever_a_session_does_it_is_out_and_stays_out() {
    let world = World::start().await;
    world.put_profile("read", json!({ "connection_limit": 10 })).await;
    let issued = world.issue("read", json!({})).await;
    let id = lease_id(&issued);

    let mut in_transaction = sign_in(&issued).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE")
        .execute(&mut in_transaction)
        .await
        .unwrap();
    let mut in_query = sign_in(&issued).await.unwrap();
    let long_query =
        tokio::spawn(async move { try_text(&mut in_query, "SELECT pg_sleep(60)").await });
    let stop = Arc::new(AtomicBool::new(false));
    let (stopping, again) = (Arc::clone(&stop), issued.clone());
    let entered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&entered);
    let reconnecting = tokio::spawn(async move {
        while !stopping.load(Ordering::Relaxed) {
            if let Ok(mut session) = sign_in(&again).await {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = try_text(&mut session, "SELECT count(*) FROM orders").await;
            }
        }
    });
    eventually("the reconnecting client comes in", seconds(20), async || {
        entered.load(Ordering::Relaxed) > 0
    })
    .await;

    let began = Instant::now();
    let revocation = world.admin.revoke(&id).await.expect(200);
    assert!(began.elapsed() < seconds(2), "it took {:?}", began.elapsed());
    let lease = &revocation["leases"][0];
    assert_eq!((&lease["state"], &lease["cause"]), (&json!("revoked"), &json!("revoked")));
    assert!(lease["proof"]["sessions_ended"].as_i64().unwrap() >= 2, "{lease}");
    assert_eq!(lease["proof"]["sessions_left"], 0);
    assert!(long_query.await.unwrap().is_err());
    try_text(&mut in_transaction, "SELECT 1").await.unwrap_err();
    for _ in 0..20 {
        assert!(is_shut_out(&issued).await);
    }
    stop.store(true, Ordering::Relaxed);
    reconnecting.await.unwrap();
    let mut target = world.on_target().await;
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'",
        issued["credential"]["user"].as_str().unwrap()
    );
    assert_eq!(text(&mut target, &sessions).await, "0");
    assert_eq!(refusal(&issued).await, "28P01");

    let twice = world.admin.revoke(&id).await.expect(200);
    assert_eq!(twice["leases"][0]["ended_at"], lease["ended_at"]);
    world.finish().await;
}

#[tokio::test]
async fn sets_are_revoked_by_person_tool_profile_and_target() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice", &[]).await, world.person("bob", &[]).await);
    let (read, write) = (world.profile("read"), world.profile("write"));
    let revoke = async |set: Value| {
        let answer = world.admin.post("/v1/revocations", &set).await.expect(200);
        let mut ids: Vec<_> = answer["leases"].as_array().unwrap().iter().map(id_of).collect();
        let counts = if ids.is_empty() { json!({}) } else { json!({ "revoked": ids.len() }) };
        assert_eq!(answer["counts"], counts, "{set}");
        ids.sort();
        ids
    };
    let of_alice = lease_id(&alice.ask(&read, json!({ "tool": "psql" })).await.expect(201));
    let of_bob = lease_id(&bob.ask(&read, json!({ "tool": "psql" })).await.expect(201));
    let of_cursor = lease_id(&bob.ask(&write, json!({ "tool": "cursor" })).await.expect(201));
    let second = lease_id(&bob.ask(&write, json!({ "tool": "psql" })).await.expect(201));
    let third = lease_id(&alice.ask(&read, json!({ "tool": "psql" })).await.expect(201));

    world.admin.post("/v1/revocations", &json!({})).await.expect_problem(422, "invalid_request");
    assert_eq!(world.live().await.len(), 5);
    assert_eq!(revoke(json!({ "tool": "cursor" })).await, [of_cursor]);
    assert_eq!(revoke(json!({ "person": "alice", "tool": "nothing" })).await, [""; 0]);
    assert_eq!(revoke(json!({ "person": "person:alice" })).await, [of_alice, third]);
    assert_eq!(revoke(json!({ "profile": write })).await, [second]);
    assert_eq!(revoke(json!({ "target": world.name })).await, [of_bob]);
    assert_eq!(world.live().await.len(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_person_revokes_nothing_of_others_with_a_set() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice", &[]).await, world.person("bob", &[]).await);
    let read = world.profile("read");
    let of_alice = lease_id(&alice.ask(&read, json!({})).await.expect(201));
    let of_bob = lease_id(&bob.ask(&read, json!({})).await.expect(201));
    let answer = bob.post("/v1/revocations", &json!({ "profile": read })).await.expect(200);
    assert_eq!(
        answer["leases"].as_array().unwrap().iter().map(id_of).collect::<Vec<_>>(),
        [of_bob]
    );
    assert_eq!(world.admin.lease(&of_alice).await["state"], "active");
    world.finish().await;
}

fn id_of(lease: &Value) -> String {
    lease["id"].as_str().unwrap().to_owned()
}
