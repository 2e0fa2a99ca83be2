//! The life of a lease on every version of PostgreSQL, and with the state database on the oldest and
//! the newest.

use serde_json::{Value, json};

use crate::support::{
    eventually, late, milliseconds,
    people::lease_id,
    seconds,
    sessions::{psql, refusal, sign_in, text, try_text},
    versions::{every_version, on_every_version, version},
    world::{Plan, World},
};

/// Run by itself before all others, this fetches what the system lacks.
#[tokio::test]
async fn every_version_answers_as_what_it_is() {
    for postgres in every_version().await {
        let mut session = postgres.superuser("postgres").await;
        let said = text(&mut session, "current_setting('server_version_num')::int / 10000").await;
        assert_eq!(said, postgres.major().to_string());
    }
}

#[tokio::test]
async fn a_lease_lives_and_ends_on_every_version() {
    on_every_version(async |target| {
        live_and_end(Plan { shop_on: Some(target), ..Plan::default() }).await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_lives_and_ends_with_its_record_on_the_oldest_and_the_newest() {
    for major in [13, 18] {
        let Some(state) = version(major).await else { continue };
        live_and_end(Plan { state_on: Some(state), ..Plan::default() }).await;
    }
}

/// Issued, used, renewed, rotated, expired, and after a kill revoked.
async fn live_and_end(plan: Plan) {
    let mut world = World::with(Plan { lease: "rotation_grace = \"1s\"", ..plan }).await;
    let issued = used_and_renewed(&world).await;
    let fresh = rotated(&world, &issued).await;
    expired(&world).await;
    world.daemon.kill();
    world.start_daemon().await;
    revoked(&world, &fresh).await;
    world.finish().await;
}

async fn used_and_renewed(world: &World) -> Value {
    let issued = world.issue("read", json!({ "ttl": "1m" })).await;
    let uri = issued["credential"]["uri"].as_str().unwrap();
    let group = format!("pgvg_{}_read", world.name);
    let said = psql(uri, "SELECT current_user, count(*) > 0 FROM orders").await;
    assert_eq!(said.out, format!("{group}|t"), "{said:?}");
    let denied = psql(uri, "DELETE FROM orders").await;
    assert!(denied.err.contains("permission denied"), "{denied:?}");
    holds_nothing_itself(world, issued["credential"]["user"].as_str().unwrap(), &group).await;

    let renewed = world.admin.renew(&lease_id(&issued), json!({ "ttl": "1h" })).await.expect(200);
    let moved = milliseconds(&issued["lease"]["expires_at"], &renewed["lease"]["expires_at"]);
    assert!(moved > 50 * 60_000, "{renewed}");
    issued
}

async fn rotated(world: &World, issued: &Value) -> Value {
    let id = lease_id(issued);
    let mut session = sign_in(issued).await.unwrap();
    let fresh = world.admin.rotate(&id).await.expect(200);
    assert_eq!(lease_id(&fresh), id);
    let fresh_role = fresh["credential"]["user"].as_str().unwrap();
    sign_in(&fresh).await.unwrap();
    eventually("the old login is gone", seconds(20), async || world.roles().await == [fresh_role])
        .await;
    try_text(&mut session, "SELECT 1").await.unwrap_err();
    fresh
}

async fn expired(world: &World) {
    // Long enough to sign in with, though six servers share the machine; `expiry` looks how soon it ends.
    let short = world.issue("write", json!({ "ttl": "8s" })).await;
    let mut session = sign_in(&short).await.unwrap();
    let lease = world.gone(&lease_id(&short), 60).await;
    assert_eq!(lease["cause"], "expired");
    assert!(late(&lease) < seconds(60), "{lease}");
    is_proven_gone(world, &lease).await;
    try_text(&mut session, "SELECT 1").await.unwrap_err();
}

async fn revoked(world: &World, issued: &Value) {
    let mut session = sign_in(issued).await.unwrap();
    let revoked = world.admin.revoke(&lease_id(issued)).await.expect(200);
    is_proven_gone(world, &revoked["leases"][0]).await;
    try_text(&mut session, "SELECT 1").await.unwrap_err();
    assert_eq!(refusal(issued).await, "28P01");
    assert_eq!(world.roles().await, Vec::<String>::new());
}

/// A member of the one group and nothing else, that inherits nothing.
async fn holds_nothing_itself(world: &World, role: &str, group: &str) {
    let mut target = world.on_target().await;
    let groups = format!(
        "SELECT string_agg(roleid::regrole::text, ',') FROM pg_auth_members WHERE member = '{role}'::regrole"
    );
    assert_eq!(text(&mut target, &groups).await, group);
    let powers = format!(
        "SELECT rolinherit OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
         FROM pg_roles WHERE rolname = '{role}'"
    );
    assert_eq!(text(&mut target, &powers).await, "false");
    let held = format!(
        "SELECT count(*) FROM pg_shdepend WHERE refobjid = '{role}'::regrole \
         AND classid NOT IN ('pg_auth_members'::regclass)"
    );
    assert_eq!(text(&mut target, &held).await, "0");
}

/// The proof says so, and the target does.
async fn is_proven_gone(world: &World, lease: &Value) {
    let proof = &lease["proof"];
    assert_eq!((&proof["role_absent"], &proof["sessions_left"]), (&json!(true), &json!(0)));
    assert!(proof["sessions_ended"].as_i64().unwrap() >= 1, "{lease}");
    let role = proof["role"].as_str().unwrap();
    let left = format!(
        "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = '{role}')
              + (SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}')"
    );
    assert_eq!(text(&mut world.on_target().await, &left).await, "0");
}
