//! No password and no token stands anywhere but in the answer that handed it out.

use pgvalet::{
    config::MasterKeys,
    store::seal::{KeyRing, Place},
};
use serde_json::json;

use crate::{
    standing,
    support::{
        people::lease_id,
        sessions::{psql, sign_in},
        world::World,
    },
};

/// Every row of every table, as text.
const DUMP: &str = "\
SELECT coalesce(string_agg(query_to_xml(format('SELECT * FROM %I.%I', schemaname, tablename), true, false, '')::text, ''), '')
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";

#[tokio::test]
async fn no_secret_is_in_a_log_a_row_or_the_audit() {
    let world = World::start().await;
    let alice = world.person("alice", &[]).await;
    let issued = alice.ask(&world.profile("read"), json!({ "tool": "psql" })).await.expect(201);
    let uri = issued["credential"]["uri"].as_str().unwrap();
    assert!(psql(uri, "select count(*) from orders").await.ok);
    let rotated = alice.rotate(&lease_id(&issued)).await.expect(200);
    sign_in(&rotated).await.unwrap();
    alice.renew(&lease_id(&issued), json!({ "ttl": "2h" })).await.expect(200);
    // What somebody sends by mistake is no better to keep than what is right.
    let wrong = format!("pgv_{}_{}", "0".repeat(32), "Z9".repeat(21) + "Q");
    world.admin.with_token(&wrong).get("/v1/whoami").await.expect_problem(401, "token_refused");
    let mut broken = issued.clone();
    broken["credential"]["password"] = json!("not-the-password-4711");
    world.secrets.remember("not-the-password-4711");
    sign_in(&broken).await.unwrap_err();
    alice.revoke(&lease_id(&issued)).await.expect(200);
    standing::put(&world, json!({})).await.expect(201);
    standing::generation(&world, 1).await;
    sign_in(&standing::read(&world.admin, &world).await).await.unwrap();
    renew_and_remember_the_admins(&world).await;
    let export = world.admin.get("/v1/audit/export").await;
    assert_eq!(export.status, 200);

    let mut state = world.on_state().await;
    let rows: String = sqlx::query_scalar(DUMP).fetch_one(&mut state).await.unwrap();
    let places = [
        ("the target's log", world.target.log(), "CREATE ROLE \"pgv_"),
        ("the state database's log", world.state().log(), "INSERT INTO lease"),
        ("the daemon's log", world.daemon.log(), "lease.activated"),
        ("the state database", rows, "standing-role.read"),
        ("the audit", export.text, "lease.activated"),
    ];
    assert!(world.secrets.all().len() >= 8, "{}", world.secrets.all().len());
    for (place, text, is_what_we_think) in &places {
        assert!(text.contains(is_what_we_think), "{place} does not hold what it should");
        let found = world.secrets.found_in(text);
        assert_eq!(found, Vec::<String>::new(), "{place}");
        let mut hex = Vec::new();
        for secret in world.secrets.all() {
            let digits: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            hex.extend(text.contains(&digits).then_some(secret));
        }
        assert_eq!(hex, Vec::<String>::new(), "{place}, in hexadecimal");
    }
    standing::remove(&world).await;
    world.finish().await;
}

/// The admin's password that nobody is told: it is opened with the master key, to be looked for.
async fn renew_and_remember_the_admins(world: &World) {
    let renew = format!("/v1/targets/{}/rotate-admin", world.name);
    world.admin.post(&renew, &json!({})).await.expect(200);
    let keys = MasterKeys::parse(&world.master_keys()).unwrap();
    let ring = KeyRing::new(&keys).unwrap();
    let mut state = world.on_state().await;
    let (row, sealed): (uuid::Uuid, Vec<u8>) =
        sqlx::query_as("SELECT id, admin_password FROM target")
            .fetch_one(&mut state)
            .await
            .unwrap();
    let place = Place { table: "target", row, column: "admin_password" };
    world.secrets.remember(ring.open(place, &sealed).unwrap().expose());
}
