//! What leases leave behind on a target: nothing; and what one that cannot be removed does to the
//! others: nothing.

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    people::lease_id,
    seconds,
    sessions::{is_shut_out, text},
    world::World,
};

/// Leases from eight clients at once, who ask again when a busy machine makes them wait too long.
async fn issue_many(world: &World, tool: &str, count: usize) -> Vec<Value> {
    let profile = world.profile("read");
    let ask = async || {
        let mut issued = Value::Null;
        eventually("a lease is issued", seconds(60), async || {
            let answer = world.admin.ask(&profile, json!({ "tool": tool })).await;
            issued = answer.body;
            answer.status == 201
        })
        .await;
        issued
    };
    stream::iter(0..count).map(|_| ask()).buffer_unordered(8).collect().await
}

/// What the catalogues hold for this world, and for nobody: other tests use the cluster too.
async fn catalogues(world: &World) -> Vec<String> {
    let mut target = world.on_target().await;
    let ours = format!("SELECT oid FROM pg_roles WHERE rolname LIKE '%{}\\_%'", world.name);
    let of = |column: &str| {
        format!("({column} IN ({ours}) OR {column} NOT IN (SELECT oid FROM pg_roles))")
    };
    let mut found = Vec::new();
    for (what, table, is_ours) in [
        ("oid, relacl", "pg_class", "relacl IS NOT NULL".to_owned()),
        ("datacl", "pg_database", "datname = current_database()".to_owned()),
        ("defaclrole, defaclacl", "pg_default_acl", "true".to_owned()),
        (
            "roleid, member, grantor",
            "pg_auth_members",
            format!("({} OR {})", of("roleid"), of("member")),
        ),
        ("setrole, setconfig", "pg_db_role_setting", format!("setrole <> 0 AND {}", of("setrole"))),
        (
            "objoid, description",
            "pg_shdescription",
            format!("classoid = 'pg_authid'::regclass AND {}", of("objoid")),
        ),
        (
            "dbid, classid, objid, refobjid",
            "pg_shdepend",
            format!("refclassid = 'pg_authid'::regclass AND {}", of("refobjid")),
        ),
    ] {
        let rows = format!(
            "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), ''))
             FROM (SELECT {what} FROM {table} WHERE {is_ours}) t"
        );
        found.push(format!("{table}: {}", text(&mut target, &rows).await));
    }
    found
}

#[tokio::test]
async fn the_catalogues_end_as_they_began() {
    let world = World::start().await;
    // The first one prepares the profile.
    let first = world.issue("read", json!({})).await;
    world.admin.revoke(&lease_id(&first)).await.expect(200);
    let before = catalogues(&world).await;
    issue_many(&world, "many", 150).await;
    assert_ne!(catalogues(&world).await, before, "it looks at the wrong things");
    world.admin.post("/v1/revocations", &json!({ "tool": "many" })).await;
    eventually("all are gone", seconds(60), async || world.roles().await.is_empty()).await;
    assert_eq!(catalogues(&world).await, before);
    world.finish().await;
}

#[tokio::test]
async fn one_that_cannot_be_removed_holds_up_none_of_the_others() {
    let world = World::start().await;
    let issued = issue_many(&world, "many", 40).await;
    let (stuck, id) = (&issued[17], lease_id(&issued[17]));
    let role = stuck["credential"]["user"].as_str().unwrap();
    let closed = format!("{}_closed", world.name);
    world.target.run("postgres", &[&format!("CREATE DATABASE {closed}")]).await;
    let grant = format!("CREATE TABLE kept (id int); GRANT SELECT ON kept TO \"{role}\"");
    world.target.run(&closed, &[&grant]).await;
    let close = format!("ALTER DATABASE {closed} ALLOW_CONNECTIONS false");
    world.target.run("postgres", &[&close]).await;

    world.admin.post("/v1/revocations", &json!({ "tool": "many" })).await;
    eventually("the others are gone", seconds(60), async || world.roles().await == [role]).await;
    eventually("the others are proven gone", seconds(20), async || world.live().await.len() == 1)
        .await;
    eventually("it is named", seconds(20), async || {
        let lease = world.admin.lease(&id).await;
        lease["blocked_by"].as_str().is_some_and(|why| why.contains(&closed))
    })
    .await;
    assert!(is_shut_out(stuck).await);
    assert!(world.admin.audit_of(&id).await.contains(&"login.blocked".to_owned()));

    world.target.drop_database(&closed).await;
    let lease = world.gone(&id, 60).await;
    assert_eq!(lease["proof"]["role_absent"], true);
    world.finish().await;
}
