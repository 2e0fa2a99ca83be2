//! A session that does not want to go, on every version.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use crate::support::{
    eventually, in_time,
    people::lease_id,
    postgres::Postgres,
    seconds,
    sessions::{Reconnecting, is_shut_out, refusal, sign_in, text, try_text},
    versions::every_version,
    world::{Plan, World},
};

/// What sessions are busy with, and where `pg_stat_activity` shows that they are.
const BUSY: [(&str, &str); 5] = [
    ("SELECT pg_sleep(600)", "active"),
    ("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$", "active"),
    (
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
        "active",
    ),
    ("LISTEN somebody", "idle"),
    (
        "SET ROLE NONE; BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '1MB'; ALTER ROLE CURRENT_USER PASSWORD NULL",
        "idle in transaction",
    ),
];

#[tokio::test]
async fn whatever_sessions_are_busy_with_they_are_out_within_two_seconds_and_stay_out() {
    // One after another: two seconds are short when six servers share the machine.
    for target in every_version().await {
        in_time(seconds(2), async || shut_out(Arc::clone(&target)).await).await;
    }
}

/// Revokes a lease with sessions that do not want to go; gives how long that took.
async fn shut_out(target: Arc<Postgres>) -> Duration {
    let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
    world.put_profile("read", json!({ "connection_limit": 20 })).await;
    let issued = world.issue("read", json!({})).await;
    let reconnecting = Reconnecting::start(&issued).await;
    let (tasks, idle) = busy(&issued).await;
    let mut target = world.on_target().await;
    let role = issued["credential"]["user"].as_str().unwrap();
    are_seen(&mut target, role).await;

    let began = Instant::now();
    let revoked = world.admin.revoke(&lease_id(&issued)).await.expect(200);
    let took = began.elapsed();
    let lease = &revoked["leases"][0];
    assert_eq!((&lease["state"], &lease["cause"]), (&json!("revoked"), &json!("revoked")));
    assert!(lease["proof"]["sessions_ended"].as_i64() >= Some(5), "{revoked}");
    assert_eq!(lease["proof"]["sessions_left"], 0);
    have_ended(tasks, idle).await;
    stays_out(&issued, reconnecting, &mut target, role).await;
    let twice = world.admin.revoke(&lease_id(&issued)).await.expect(200);
    assert_eq!(twice["leases"][0]["ended_at"], lease["ended_at"]);
    world.finish().await;
    took
}

/// Sessions in which something goes on: those whose statement ends when they do, and those that wait for one.
async fn busy(issued: &Value) -> (Vec<JoinHandle<sqlx::Error>>, Vec<PgConnection>) {
    let mut tasks = Vec::new();
    for (sql, _) in &BUSY[..3] {
        let mut session = sign_in(issued).await.unwrap();
        tasks.push(tokio::spawn(async move {
            sqlx::raw_sql(*sql).execute(&mut session).await.unwrap_err()
        }));
    }
    let mut idle = Vec::new();
    for (sql, _) in &BUSY[3..] {
        let mut session = sign_in(issued).await.unwrap();
        sqlx::raw_sql(*sql).execute(&mut session).await.unwrap();
        idle.push(session);
    }
    (tasks, idle)
}

/// Waits until the target shows each of them as what it is.
async fn are_seen(target: &mut PgConnection, role: &str) {
    for (sql, state) in BUSY {
        eventually(sql, seconds(20), async || {
            let seen = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state = '{state}' AND query = $q${sql}$q$"
            );
            text(target, &seen).await == "1"
        })
        .await;
    }
}

/// Every one of the sessions is over.
async fn have_ended(tasks: Vec<JoinHandle<sqlx::Error>>, idle: Vec<PgConnection>) {
    for task in tasks {
        task.await.unwrap();
    }
    for mut session in idle {
        try_text(&mut session, "SELECT 1").await.unwrap_err();
    }
}

/// Nobody gets in any more, neither who tries all the time.
async fn stays_out(
    issued: &Value,
    reconnecting: Reconnecting,
    target: &mut PgConnection,
    role: &str,
) {
    for _ in 0..10 {
        assert!(is_shut_out(issued).await);
    }
    reconnecting.stop().await;
    let left = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' OR (backend_type = 'client backend' AND usename IS NULL AND usesysid IS NOT NULL)"
    );
    assert_eq!(text(target, &left).await, "0");
    assert_eq!(refusal(issued).await, "28P01");
}
