//! Asking for a lease: the answer, how long it lasts, the credential, and the role on the target.

use serde_json::{Value, json};

use crate::support::{
    milliseconds,
    people::lease_id,
    sessions::{psql, refusal, sign_in, text, try_text},
    world::World,
};

#[tokio::test]
async fn a_credential_works_in_psql_as_the_group_role() {
    let world = World::start().await;
    let issued = world.issue("read", json!({ "tool": "psql" })).await;
    let user = issued["credential"]["user"].as_str().unwrap();
    assert_eq!(issued["lease"]["state"], "active");
    assert_eq!(issued["lease"]["role"], user);

    let uri = issued["credential"]["uri"].as_str().unwrap();
    let query = "select current_user, session_user, count(*) > 1000 from orders";
    let said = psql(uri, query).await;
    assert!(said.ok, "{said:?}");
    assert_eq!(said.out, format!("pgvg_{}_read|{user}|t", world.name));

    let said = psql(uri, "delete from orders").await;
    assert!(!said.ok && said.err.contains("permission denied"), "{said:?}");
    // The login itself has no rights: they are the group's.
    let said = psql(uri, "set role none; select count(*) from orders").await;
    assert!(!said.ok && said.err.contains("permission denied"), "{said:?}");
    world.finish().await;
}

#[tokio::test]
async fn the_role_is_noinherit_in_one_group_and_owner_of_nothing() {
    let world = World::start().await;
    world.put_profile("read", json!({ "connection_limit": 2 })).await;
    let issued = world.issue("read", json!({})).await;
    let role = issued["credential"]["user"].as_str().unwrap();
    let mut target = world.on_target().await;
    let one = format!("(SELECT r FROM pg_roles r WHERE rolname = '{role}')");
    let mut look = async |query: &str| text(&mut target, &query.replace("ROLE", &one)).await;

    for (attribute, expected) in [
        ("rolinherit", "false"),
        ("rolcanlogin", "true"),
        ("rolsuper", "false"),
        ("rolcreaterole", "false"),
        ("rolcreatedb", "false"),
        ("rolreplication", "false"),
        ("rolbypassrls", "false"),
        ("rolconnlimit", "2"),
    ] {
        assert_eq!(look(&format!("SELECT (ROLE).{attribute}")).await, expected, "{attribute}");
    }
    let until = look("SELECT to_json((ROLE).rolvaliduntil)#>>'{}'").await;
    assert!(milliseconds(&issued["lease"]["expires_at"], &json!(until)).abs() <= 1, "{until}");
    assert_eq!(issued["credential"]["valid_until"], issued["lease"]["expires_at"]);

    let groups = look(
        "SELECT string_agg(roleid::regrole || ' ' || admin_option, ',')
         FROM pg_auth_members WHERE member = (ROLE).oid",
    )
    .await;
    assert_eq!(groups, format!("pgvg_{}_read false", world.name));
    let depends = "SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
                   AND refobjid = (ROLE).oid AND classid <> 'pg_auth_members'::regclass";
    assert_eq!(look(depends).await, "0", "it owns something, or was granted something");
    let granted = "SELECT count(*) FROM (
             SELECT (aclexplode(relacl)).grantee FROM pg_class
             UNION ALL SELECT (aclexplode(attacl)).grantee FROM pg_attribute
             UNION ALL SELECT (aclexplode(datacl)).grantee FROM pg_database
             UNION ALL SELECT (aclexplode(nspacl)).grantee FROM pg_namespace
             UNION ALL SELECT (aclexplode(proacl)).grantee FROM pg_proc
             UNION ALL SELECT (aclexplode(typacl)).grantee FROM pg_type
             UNION ALL SELECT (aclexplode(defaclacl)).grantee FROM pg_default_acl) AS all_grants
         WHERE grantee = (ROLE).oid";
    assert_eq!(look(granted).await, "0");
    let comment = look("SELECT shobj_description((ROLE).oid, 'pg_authid')").await;
    assert!(comment.contains(&lease_id(&issued)), "{comment}");

    let (_first, _second) = (sign_in(&issued).await.unwrap(), sign_in(&issued).await.unwrap());
    assert_eq!(refusal(&issued).await, "53300", "a third session, where two are allowed");
    world.finish().await;
}

#[tokio::test]
async fn row_level_security_sees_the_group_role() {
    let world = World::start().await;
    for (profile, tenants) in [("acme", "1"), ("read", "1,2")] {
        let mut session = sign_in(&world.issue(profile, json!({})).await).await.unwrap();
        let seen = "SELECT string_agg(DISTINCT tenant_id::text, ',') FROM orders";
        assert_eq!(text(&mut session, seen).await, tenants, "{profile}");
    }
    let mut session = sign_in(&world.issue("write", json!({})).await).await.unwrap();
    let update = "WITH done AS (UPDATE orders SET note = 'x' WHERE id = 1 RETURNING 1) SELECT 1";
    sqlx::raw_sql(update).execute(&mut session).await.unwrap();
    let refused = try_text(&mut session, "SELECT pg_read_file('/etc/hostname')").await;
    assert!(refused.is_err());
    sqlx::raw_sql("TRUNCATE orders CASCADE").execute(&mut session).await.unwrap_err();
    sqlx::raw_sql("CREATE TABLE public.mine ()").execute(&mut session).await.unwrap_err();
    world.finish().await;
}

#[tokio::test]
async fn the_answer_names_the_rule_that_gave_the_length() {
    let world = World::start().await;
    world.put_profile("read", json!({ "ttl": "10m", "max_ttl": "30m" })).await;
    for (asked, rule, seconds) in [
        (json!({ "ttl": "2h" }), "profile_max_ttl", 1800),
        (json!({ "ttl": "30m" }), "asked", 1800),
        (json!({ "ttl": "90s" }), "asked", 90),
        (json!({}), "profile_ttl", 600),
    ] {
        let issued = world.issue("read", asked.clone()).await;
        assert_eq!(issued["ttl"]["rule"], rule, "{asked}: {}", issued["ttl"]);
        let lease = &issued["lease"];
        assert_eq!(milliseconds(&lease["created_at"], &lease["expires_at"]), seconds * 1000);
        assert_eq!(milliseconds(&lease["created_at"], &lease["max_expires_at"]), 1_800_000);
        if rule == "profile_max_ttl" {
            let words = issued["ttl"].to_string();
            assert!(words.contains("max_ttl") && words.contains("30m"), "{words}");
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_refusal_is_clear_audited_and_makes_nothing() {
    let world = World::start().await;
    world.put_profile("read", json!({ "allow": ["group:support"] })).await;
    world.put_profile("write", json!({ "preset": "readwrite", "reason": "required" })).await;
    let alice = world.person("alice", &[]).await;
    let read = world.profile("read");
    alice.ask(&read, json!({})).await.expect_problem(403, "not_allowed");
    let sam = world.person("sam", &["support"]).await;
    let issued = sam.ask(&read, json!({})).await.expect(201);
    assert_eq!(issued["lease"]["principal"], "person:sam");
    alice.ask(&world.profile("write"), json!({})).await.expect_problem(422, "reason_required");
    let unknown = alice.ask(&world.profile("writ"), json!({})).await;
    let unknown = unknown.expect_problem(404, "not_found");
    assert!(unknown["detail"].as_str().unwrap().contains("did you mean"), "{unknown}");

    let refused = world.admin.get("/v1/audit?kind=lease.refused").await.expect(200);
    let codes: Vec<&Value> = refused["items"].as_array().unwrap().iter().collect();
    let codes: Vec<&str> =
        codes.iter().map(|item| item["entry"]["event"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["reason_required", "not_allowed"]);
    assert_eq!(world.roles().await.len(), 1);
    world.finish().await;
}
