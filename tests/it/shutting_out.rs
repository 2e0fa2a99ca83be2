//! A session that does not want to go, on every version.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::{
    eventually,
    people::lease_id,
    seconds,
    sessions::{is_shut_out, sign_in, text, try_text},
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
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        world.put_profile("read", json!({ "connection_limit": 20 })).await;
        let issued = world.issue("read", json!({})).await;
        let reconnecting = Reconnecting::start(&issued).await;
        let mut tasks = Vec::new();
        for (sql, _) in &BUSY[..3] {
            let mut session = sign_in(&issued).await.unwrap();
            tasks.push(tokio::spawn(async move {
                sqlx::raw_sql(*sql).execute(&mut session).await.unwrap_err()
            }));
        }
        let mut idle: Vec<PgConnection> = Vec::new();
        for (sql, _) in &BUSY[3..] {
            let mut session = sign_in(&issued).await.unwrap();
            sqlx::raw_sql(*sql).execute(&mut session).await.unwrap();
            idle.push(session);
        }
        let mut target = world.on_target().await;
        let role = issued["credential"]["user"].as_str().unwrap();
        for (sql, state) in BUSY {
            eventually(sql, seconds(20), async || {
                let seen = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state = '{state}' AND query = $q${sql}$q$"
                );
                text(&mut target, &seen).await == "1"
            })
            .await;
        }

        let began = Instant::now();
        let revoked = world.admin.revoke(&lease_id(&issued)).await.expect(200);
        assert!(began.elapsed() < seconds(2), "{}: {:?}", world.target.major(), began.elapsed());
        let proof = &revoked["leases"][0]["proof"];
        assert!(proof["sessions_ended"].as_i64() >= Some(5), "{revoked}");
        for task in tasks {
            task.await.unwrap();
        }
        for mut session in idle {
            try_text(&mut session, "SELECT 1").await.unwrap_err();
        }
        for _ in 0..10 {
            assert!(is_shut_out(&issued).await);
        }
        reconnecting.stop().await;
        let left = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' OR (backend_type = 'client backend' AND usename IS NULL AND usesysid IS NOT NULL)"
        );
        assert_eq!(text(&mut target, &left).await, "0");
        world.finish().await;
    }
}

/// A client that comes back as fast as it can.
struct Reconnecting {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Reconnecting {
    async fn start(issued: &Value) -> Self {
        let (stop, entered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, counted, issued) = (Arc::clone(&stop), Arc::clone(&entered), issued.clone());
        let task = tokio::spawn(async move {
            while !stopping.load(Ordering::Relaxed) {
                if let Ok(mut session) = sign_in(&issued).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = try_text(&mut session, "SELECT count(*) FROM orders").await;
                }
            }
        });
        eventually("the reconnecting client comes in", seconds(20), async || {
            entered.load(Ordering::Relaxed) > 0
        })
        .await;
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
