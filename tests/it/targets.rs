//! Targets and profiles against real servers: what cannot be signed in to is not recorded, and what
//! a profile says is what its leases may.

use pgvalet::dev::shop;
use serde_json::{Value, json};

use crate::support::{
    people::lease_id,
    sessions::{is_shut_out, sign_in, text, try_text},
    world::World,
};

/// The password of the admin role of this world's shop.
pub(crate) fn admin_password(world: &World) -> String {
    // A world remembers the password of the state's owner first, and this one second.
    world.secrets.all()[1].clone()
}

/// The world's target, to be recorded under another name, but for what differs.
fn target(world: &World, differs: Value) -> Value {
    let mut body = json!({
        "host": "127.0.0.1", "port": world.target_path.port(), "sslmode": "disable",
        "admin_user": world.shop(), "admin_password": admin_password(world),
        "databases": [world.shop()], "rotate_admin": "never",
    });
    body.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn what_cannot_be_signed_in_to_is_not_recorded() {
    let world = World::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let before = world.admin.get("/v1/targets").await.expect(200);
    let path = format!("/v1/targets/{}-other", world.name);
    for (differs, status, code) in [
        (json!({ "admin_password": "wrong" }), 502, "target_refused_admin"),
        (json!({ "admin_user": "nobody_here" }), 502, "target_refused_admin"),
        (json!({ "port": closed }), 503, "target_unreachable"),
        (json!({ "databases": ["no_such_database"] }), 502, "database_missing"),
        (json!({ "sslmode": "verify-full" }), 502, "target_tls_failed"),
        (json!({ "admin_password": null }), 422, "invalid_request"),
        (json!({ "databases": [] }), 422, "invalid_request"),
        (json!({ "databases": ["a\u{0}"] }), 422, "invalid_request"),
        (json!({ "host": "" }), 422, "invalid_request"),
        (json!({ "host": "a b;c" }), 422, "invalid_request"),
        (json!({ "admin_user": "\u{0}" }), 422, "invalid_request"),
        (
            json!({ "sslmode": "verify-full", "sslrootcert_pem": "no certificate" }),
            422,
            "invalid_request",
        ),
        (json!({ "port": 0 }), 422, "invalid_request"),
        (json!({ "port": 70000 }), 422, "invalid_request"),
    ] {
        let answer = world.admin.put(&path, &target(&world, differs.clone())).await;
        let got = (answer.status, answer.body["code"].as_str().unwrap_or_default());
        assert_eq!(got, (status, code), "{differs}: {}", answer.text);
        world.admin.get(&path).await.expect_problem(404, "not_found");
    }
    // Nor does a change that fails take away what holds.
    let own = format!("/v1/targets/{}", world.name);
    let wrong = target(&world, json!({ "admin_password": "wrong" }));
    world.admin.put(&own, &wrong).await.expect_problem(502, "target_refused_admin");
    assert_eq!(world.admin.get("/v1/targets").await.expect(200), before);
    world.issue("read", json!({})).await;
    world.finish().await;
}

/// What PostgreSQL keeps of an issued login's password was hashed so often, and lets it in.
async fn assert_verifier(world: &World, issued: &Value, iterations: u32) {
    let user = issued["credential"]["user"].as_str().unwrap();
    let query = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'");
    let verifier = text(&mut world.on_target().await, &query).await;
    assert!(verifier.starts_with(&format!("SCRAM-SHA-256${iterations}:")), "not {iterations}");
    sign_in(issued).await.unwrap();
}

#[tokio::test]
async fn a_target_has_its_own_number_of_iterations() {
    let world = World::start().await;
    let own = format!("/v1/targets/{}", world.name);
    assert_eq!(world.admin.get(&own).await.expect(200)["scram_iterations"], 4096);
    for wrong in [1_000_001, 0, -1] {
        let body = target(&world, json!({ "scram_iterations": wrong }));
        world.admin.put(&own, &body).await.expect_problem(422, "invalid_request");
    }
    assert_verifier(&world, &world.issue("read", json!({})).await, 4096).await;
    let one = target(&world, json!({ "scram_iterations": 1 }));
    assert_eq!(world.admin.put(&own, &one).await.expect(200)["scram_iterations"], 1);
    assert_verifier(&world, &world.issue("read", json!({})).await, 1).await;
    let export = world.admin.get("/v1/export").await.expect(200);
    let export = export["text"].as_str().unwrap();
    assert!(export.contains("scram_iterations = 1\n"), "{export}");
    let code = |text: String| json!({ "name": "t.toml", "text": text, "secrets": {} });
    let same = world.admin.post("/v1/plan", &code(export.to_owned())).await.expect(200);
    assert_eq!(same["changes"], false, "{same}");
    let other = export.replace("scram_iterations = 1\n", "scram_iterations = 2\n");
    let other = world.admin.post("/v1/plan", &code(other)).await.expect(200);
    assert_eq!(other["lines"][0]["changed"], json!(["scram_iterations"]), "{other}");
    world.finish().await;
}

#[tokio::test]
async fn what_is_in_use_is_not_removed() {
    let world = World::start().await;
    let own = format!("/v1/targets/{}", world.name);
    world.admin.delete(&own).await.expect_problem(409, "target_in_use");
    let lease = lease_id(&world.issue("read", json!({})).await);
    let read = format!("/v1/profiles/{}", world.profile("read"));
    world.admin.delete(&read).await.expect_problem(409, "profile_in_use");
    world.admin.revoke(&lease).await.expect(200);
    for name in ["read", "write", "acme"] {
        let path = format!("/v1/profiles/{}", world.profile(name));
        world.admin.delete(&path).await.expect(204);
        world.admin.get(&path).await.expect_problem(404, "not_found");
    }
    world.admin.ask(&world.profile("read"), json!({})).await.expect_problem(404, "not_found");
    world.admin.delete(&own).await.expect(204);
    world.admin.get(&own).await.expect_problem(404, "not_found");
    // The lease that was keeps its history.
    assert_eq!(world.admin.lease(&lease).await["target"], world.name);
    let again = target(&world, json!({}));
    world.admin.put(&own, &again).await.expect(201);
    world.finish().await;
}

#[tokio::test]
async fn names_that_would_share_a_group_role_are_refused() {
    let world = World::start().await;
    world.put_profile("a-b", json!({})).await;
    let path = format!("/v1/profiles/{}-a_b", world.name);
    let spec = json!({
        "name": format!("{}-a_b", world.name), "target": world.name, "database": world.shop(),
        "preset": "readwrite", "schemas": ["public"], "ttl": "1h", "max_ttl": "1h",
        "connection_limit": 1,
    });
    world.admin.put(&path, &spec).await.expect_problem(409, "group_role_taken");
    world.admin.get(&path).await.expect_problem(404, "not_found");
    world.finish().await;
}

#[tokio::test]
async fn a_custom_profile_needs_a_group_role_that_is_there_and_safe() {
    let world = World::start().await;
    let (name, shop) = (&world.name, world.shop());
    let custom = |role: &str| json!({ "preset": "custom", "schemas": [], "group_role": role });
    let ask = async |role: &str| {
        let mut spec = json!({
            "name": world.profile("own"), "target": name, "database": shop, "ttl": "1h",
            "max_ttl": "1h", "connection_limit": 1, "allow": ["anyone"],
        });
        spec.as_object_mut().unwrap().extend(custom(role).as_object().unwrap().clone());
        world.admin.put(&format!("/v1/profiles/{}", world.profile("own")), &spec).await
    };
    let told = ask(&format!("{name}_none")).await.expect_problem(422, "invalid_request");
    assert_eq!(told["faults"][0]["at"], "group_role");
    let bad = format!(
        "CREATE ROLE {name}_bad SUPERUSER; CREATE ROLE {name}_good;
                       GRANT USAGE ON SCHEMA public TO {name}_good;
                       GRANT SELECT ON customers TO {name}_good"
    );
    world.target.run(&shop, &[&bad]).await;
    ask(&format!("{name}_bad")).await.expect_problem(502, "group_role_unsafe");
    let asked = world.admin.ask(&world.profile("own"), json!({})).await;
    asked.expect_problem(502, "group_role_unsafe");
    let answer = ask(&format!("{name}_good")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut session = sign_in(&world.issue("own", json!({})).await).await.unwrap();
    assert_eq!(text(&mut session, "SELECT current_user").await, format!("{name}_good"));
    text(&mut session, "SELECT count(*) FROM customers").await;
    try_text(&mut session, "SELECT count(*) FROM orders").await.unwrap_err();
    drop(session);
    let all = json!({ "target": name });
    world.admin.post("/v1/revocations", &all).await.expect(200);
    let gone = format!("DROP OWNED BY {name}_good; DROP ROLE {name}_good, {name}_bad");
    world.target.run(&shop, &[&gone]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_change_of_a_profile_reaches_the_leases_that_live() {
    let world = World::start().await;
    let shop = world.shop();
    let mut session = sign_in(&world.issue("read", json!({})).await).await.unwrap();
    let update = "UPDATE orders SET note = 'x' WHERE id = 1";
    let to_come = format!(
        "SET ROLE {owner}; CREATE TABLE public.made_later (x serial); INSERT INTO made_later DEFAULT VALUES",
        owner = shop::OWNER
    );
    sqlx::raw_sql(update).execute(&mut session).await.unwrap_err();
    world.target.run(&shop, &[&to_come]).await;
    assert_eq!(text(&mut session, "SELECT count(*) FROM made_later").await, "1");
    sqlx::raw_sql("INSERT INTO made_later DEFAULT VALUES").execute(&mut session).await.unwrap_err();

    world.put_profile("read", json!({ "preset": "readwrite" })).await;
    sqlx::raw_sql(update).execute(&mut session).await.unwrap();
    let more = "INSERT INTO made_later DEFAULT VALUES; DELETE FROM made_later WHERE x = 1";
    sqlx::raw_sql(more).execute(&mut session).await.unwrap();
    world.target.run(&shop, &[&to_come.replace("made_later", "made_last")]).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(more.replace("made_later", "made_last")))
        .execute(&mut session)
        .await
        .unwrap();

    world.put_profile("read", json!({ "preset": "readonly" })).await;
    sqlx::raw_sql(update).execute(&mut session).await.unwrap_err();
    for table in ["made_later", "made_last"] {
        assert_eq!(text(&mut session, &format!("SELECT count(*) FROM {table}")).await, "1");
        let insert = format!("INSERT INTO {table} VALUES (9)");
        sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut session).await.unwrap_err();
    }
    world.target.run(&shop, &[&to_come.replace("made_later", "made_at_last")]).await;
    assert_eq!(text(&mut session, "SELECT count(*) FROM made_at_last").await, "1");
    let insert = "INSERT INTO made_at_last VALUES (9)";
    sqlx::raw_sql(insert).execute(&mut session).await.unwrap_err();
    let next = "SELECT nextval('made_at_last_x_seq')";
    sqlx::raw_sql(next).execute(&mut session).await.unwrap_err();
    world.finish().await;
}

#[tokio::test]
async fn a_database_that_is_not_open_to_everybody_is_open_to_its_leases() {
    let world = World::start().await;
    let shop = world.shop();
    let close = format!("REVOKE CONNECT ON DATABASE {shop} FROM PUBLIC");
    world.target.run("postgres", &[&close]).await;
    for _ in 0..2 {
        let issued = world.issue("read", json!({})).await;
        let mut session = sign_in(&issued).await.unwrap();
        text(&mut session, "SELECT count(*) FROM orders").await;
        drop(session);
        let revoked = world.admin.revoke(&lease_id(&issued)).await.expect(200);
        assert_eq!(revoked["counts"]["revoked"], 1);
        assert!(is_shut_out(&issued).await);
    }
    world.finish().await;
}
