//! A lease ends by itself, on time, whatever is done with it.

use chrono::Utc;
use pgvalet::ids::LeaseId;
use serde_json::json;

use crate::support::{
    eventually, in_time, instant, late,
    people::lease_id,
    seconds,
    sessions::{is_shut_out, psql, psql_command, refusal, sign_in, try_text},
    world::World,
};

#[tokio::test]
async fn five_seconds_in_psql_are_over_within_one_more() {
    let world = World::start().await;
    in_time(seconds(1), async || {
        let issued = world.issue("read", json!({ "ttl": "5s", "tool": "psql" })).await;
        let uri = issued["credential"]["uri"].as_str().unwrap();

        let busy = "DO $$ BEGIN LOOP PERFORM count(*) FROM orders; PERFORM pg_sleep(0.02); END LOOP; END $$";
        let ended = psql_command(uri, busy).output().await.unwrap();
        let session = Utc::now() - instant(&issued["lease"]["expires_at"]);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains("terminating connection"), "{said}");

        let again = psql(uri, "select 1").await;
        assert!(!again.ok, "{again:?}");
        let lease = world.gone(&lease_id(&issued), 20).await;
        assert_eq!(lease["cause"], "expired");
        assert_eq!(world.roles().await, Vec::<String>::new());
        late(&lease).max(session.to_std().expect("the session lasts as long as the lease"))
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn an_expired_lease_has_its_proof_and_each_step_in_the_audit() {
    let world = World::start().await;
    let issued = world.issue("read", json!({ "ttl": "4s" })).await;
    let id = lease_id(&issued);
    let mut idle = sign_in(&issued).await.unwrap();
    let lease = world.gone(&id, 20).await;

    assert_eq!((&lease["cause"], &lease["blocked_by"]), (&json!("expired"), &json!(null)));
    let proof = &lease["proof"];
    assert_eq!(proof["role"], issued["credential"]["user"]);
    assert_eq!((&proof["role_absent"], &proof["sessions_left"]), (&json!(true), &json!(0)));
    assert_eq!(proof["sessions_ended"], 1);
    try_text(&mut idle, "SELECT 1").await.unwrap_err();
    assert_eq!(refusal(&issued).await, "28P01");

    let steps = ["lease.intended", "lease.activated", "lease.revoking", "login.revoking"];
    let steps = [&steps[..], &["login.removed", "lease.revoked"]].concat();
    assert_eq!(world.admin.audit_of(&id).await, steps);
    eventually("the audit is sealed", seconds(20), async || {
        let verified = world.admin.get("/v1/audit/verify").await.expect(200);
        assert_eq!(verified["intact"], true, "{verified}");
        verified["entries"].as_u64().unwrap() > 6 && verified["unsealed"] == 0
    })
    .await;
    let listed = world.admin.get("/v1/leases?state=revoked").await.expect(200);
    assert_eq!(listed["items"][0]["id"], id.as_str());
    world.finish().await;
}

#[tokio::test]
async fn the_target_itself_shuts_the_login_out_when_the_daemon_cannot() {
    let mut world = World::start().await;
    let issued = world.issue("read", json!({ "ttl": "2s" })).await;
    world.daemon.kill();
    eventually("VALID UNTIL ends the login", seconds(20), async || is_shut_out(&issued).await)
        .await;
    assert!(Utc::now() >= instant(&issued["lease"]["expires_at"]));
    assert_eq!(world.roles().await.len(), 1, "nobody was there to remove it");

    world.start_daemon().await;
    let lease = world.gone(&lease_id(&issued), 20).await;
    assert_eq!(lease["cause"], "expired");
    world.finish().await;
}

/// All that are due are recorded in one transaction: one whose row somebody keeps locked (a daemon that
/// stands still amid a transaction) must not keep the others waiting.
#[tokio::test]
async fn a_lease_whose_row_is_locked_holds_up_no_other() {
    let world = World::start().await;
    let mut state = world.on_state().await;
    in_time(seconds(2), async || {
        let locked = lease_id(&world.issue("read", json!({ "ttl": "3s" })).await);
        let free = lease_id(&world.issue("read", json!({ "ttl": "3s" })).await);
        let id: LeaseId = locked.parse().unwrap();
        let lock = format!("BEGIN; SELECT FROM lease WHERE id = '{}' FOR UPDATE", id.uuid());
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut state).await.unwrap();

        let lease = world.gone(&free, 20).await;
        assert_eq!(world.admin.lease(&locked).await["state"], "active");
        sqlx::raw_sql("ROLLBACK").execute(&mut state).await.unwrap();
        assert_eq!(world.gone(&locked, 20).await["cause"], "expired");
        late(&lease)
    })
    .await;
    drop(state);
    world.finish().await;
}
