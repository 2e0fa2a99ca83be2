//! The password of a target's administrator: renewed, rolled forward after a crash, agreed on by all
//! daemons, and left alone when it is refused.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    standing::pgvalet,
    support::{
        chaos::{Break, Mode, Proxy},
        eventually,
        people::lease_id,
        postgres::own_cluster,
        seconds,
        sessions::{sign_in, text, try_text},
        world::{Plan, World},
    },
    targets::admin_password,
};

/// The world's target, as it is recorded.
async fn target(world: &World) -> Value {
    world.admin.get(&format!("/v1/targets/{}", world.name)).await.expect(200)
}

/// Records the world's target anew, with what differs.
async fn put(world: &World, differs: Value) -> Value {
    let shop = world.shop();
    let mut body = json!({
        "environment": "test", "host": "127.0.0.1", "port": world.target_path.port(),
        "sslmode": "disable", "admin_user": shop, "databases": [shop],
    });
    body.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
    world.admin.put(&format!("/v1/targets/{}", world.name), &body).await.expect(200)
}

/// The verifier on the target: another one after each change.
async fn verifier(world: &World) -> String {
    let mut session = world.on_target().await;
    let query = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", world.shop());
    text(&mut session, &query).await
}

async fn lets_in(world: &World, password: &str) -> bool {
    world.target.connect(&world.shop(), &world.shop(), password).await.is_ok()
}

/// Waits until the password was renewed after this.
async fn renewed_after(world: &World, before: &Value) -> Value {
    let mut found = Value::Null;
    eventually("the password is renewed", seconds(60), async || {
        found = target(world).await["admin_rotation"].clone();
        !found["rotated_at"].is_null() && found["rotated_at"] != before["rotated_at"]
    })
    .await;
    found
}

async fn due_now(world: &World) {
    let mut state = world.on_state().await;
    let update = "UPDATE admin_rotation SET due_at = now(), again_at = now()";
    sqlx::raw_sql(update).execute(&mut state).await.unwrap();
}

#[tokio::test]
async fn what_a_person_typed_is_renewed_at_once_unless_told_not_to() {
    let world = World::start().await;
    let typed = admin_password(&world);
    assert_eq!(target(&world).await["admin_rotation"]["rotated_at"], Value::Null, "never is never");
    assert!(lets_in(&world, &typed).await);
    let working = world.issue("read", json!({})).await;

    put(&world, json!({ "admin_password": typed, "rotate_admin": "90d" })).await;
    let stands = renewed_after(&world, &Value::Null).await;
    assert!(!lets_in(&world, &typed).await, "what was typed is over");
    assert!(stands["due_at"].as_str() > stands["rotated_at"].as_str(), "{stands}");
    assert_eq!(stands["refused_at"], Value::Null);
    world.admin.revoke(&lease_id(&working)).await.expect(200);
    sign_in(&world.issue("read", json!({})).await).await.unwrap();

    let before = verifier(&world).await;
    let (status, _, told) = pgvalet(&world, &["target", "rotate-admin", &world.name]).await;
    assert!(status == 0 && told.contains("is renewed"), "{told}");
    assert_ne!(verifier(&world).await, before);
    let (_, shown, _) = pgvalet(&world, &["target", "show", &world.name]).await;
    assert!(shown.contains("last renewed") && shown.contains("90d"), "{shown}");
    sign_in(&world.issue("read", json!({})).await).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn who_asks_for_leases_meanwhile_sees_no_error() {
    let mut world = World::start().await;
    let mut second = world.another_daemon().await;
    let there = world.admin.at(&second.url);
    // Both know the password of before.
    world.issue("read", json!({})).await;
    there.ask(&world.profile("read"), json!({})).await.expect(201);
    for _ in 0..3 {
        let renew = format!("/v1/targets/{}/rotate-admin", world.name);
        let (nothing, profile) = (json!({}), world.profile("read"));
        let renewing = world.admin.post(&renew, &nothing);
        let asking = (0..12).map(|n| {
            let person = if n % 2 == 0 { &world.admin } else { &there };
            person.ask(&profile, json!({}))
        });
        let (renewed, asked) = tokio::join!(renewing, join_all(asking));
        renewed.expect(200);
        for answer in asked {
            assert_eq!(answer.status, 201, "{}", answer.text);
        }
        // Without a connection that is open still, both must sign in with the fresh one.
        let mut session = world.on_target().await;
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
            world.shop()
        );
        text(&mut session, &end).await;
        for person in [&world.admin, &there] {
            eventually("it issues", seconds(20), async || {
                person.ask(&profile, json!({})).await.status == 201
            })
            .await;
        }
    }
    assert!(second.stop().await.success(), "{}", second.log());
    assert_eq!(second.lines_at("ERROR"), Vec::<String>::new());
    world.finish().await;
}

/// Kills the daemon when the renewal came to this break; after the next start it is made.
async fn killed_at(way: fn(&World) -> &Proxy, mode: Mode) {
    let mut world = World::start().await;
    put(&world, json!({ "rotate_admin": "90d" })).await;
    let first = renewed_after(&world, &Value::Null).await;
    way(&world).set(mode);
    due_now(&world).await;
    way(&world).broken().await;
    world.daemon.kill();
    way(&world).set(Mode::Pass);
    world.start_daemon().await;
    renewed_after(&world, &first).await;
    sign_in(&world.issue("read", json!({})).await).await.unwrap();
    let mut state = world.on_state().await;
    let left = "SELECT count(*) FROM admin_rotation WHERE next_password IS NOT NULL";
    assert_eq!(try_text(&mut state, left).await.unwrap(), "0", "what was on its way is forgotten");
    world.finish().await;
}

const ALTER: &str = "ALTER ROLE SESSION_USER PASSWORD";

#[tokio::test]
async fn killed_before_the_next_password_is_written_down() {
    killed_at(|world| &world.state_path, Break::hang_before(&["target.admin-rotating"])).await;
}

#[tokio::test]
async fn killed_after_the_next_password_was_written_down() {
    let after = Break::hang_after(&["target.admin-rotating", "COMMIT"]);
    killed_at(|world| &world.state_path, after).await;
}

#[tokio::test]
async fn killed_before_the_password_is_set() {
    killed_at(|world| &world.target_path, Break::hang_before(&[ALTER])).await;
}

#[tokio::test]
async fn killed_while_the_password_is_set() {
    killed_at(|world| &world.target_path, Break::hang_before(&[ALTER, "COMMIT"])).await;
}

#[tokio::test]
async fn killed_after_the_password_was_set() {
    killed_at(|world| &world.target_path, Break::hang_after(&[ALTER, "COMMIT"])).await;
}

#[tokio::test]
async fn killed_before_the_password_is_promoted() {
    killed_at(|world| &world.state_path, Break::hang_before(&["target.admin-rotated"])).await;
}

#[tokio::test]
async fn killed_after_the_password_was_promoted() {
    let after = Break::hang_after(&["target.admin-rotated", "COMMIT"]);
    killed_at(|world| &world.state_path, after).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_does_not_shut_us_out() {
    let world = World::start().await;
    for mode in [Break::cut_before(&[ALTER, "COMMIT"]), Break::cut_after(&[ALTER, "COMMIT"])] {
        let before = target(&world).await["admin_rotation"].clone();
        world.target_path.set(mode);
        world.admin.post(&format!("/v1/targets/{}/rotate-admin", world.name), &json!({})).await;
        world.target_path.set(Mode::Pass);
        renewed_after(&world, &before).await;
        sign_in(&world.issue("read", json!({})).await).await.unwrap();
    }
    world.finish().await;
}

/// Sign-ins of the shop's admin that the server refused.
fn refusals(world: &World, cluster: &crate::support::postgres::Postgres) -> usize {
    let refused = format!("password authentication failed for user \"{}\"", world.shop());
    cluster.log().matches(&refused).count()
}

#[tokio::test]
async fn a_password_changed_behind_our_back_is_told_and_not_tried_on_and_on() {
    let (cluster, _folder) = own_cluster().await;
    let plan = Plan { shop_on: Some(std::sync::Arc::clone(&cluster)), ..Plan::default() };
    let world = World::with(plan).await;
    put(&world, json!({ "rotate_admin": "90d" })).await;
    renewed_after(&world, &Value::Null).await;
    let by_hand = pgvalet::rng::password().unwrap();
    world.secrets.remember(by_hand.expose());
    let salt = pgvalet::rng::bytes().unwrap();
    let hash = pgvalet::target::scram::verifier(
        &by_hand,
        salt,
        pgvalet::target::scram::DEFAULT_ITERATIONS,
    );
    let alter = format!("ALTER ROLE {} PASSWORD '{}'", world.shop(), hash.text());
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        world.shop()
    );
    cluster.run("postgres", &[&alter, &end]).await;

    eventually("the target is marked", seconds(60), async || {
        !target(&world).await["admin_rotation"]["refused_at"].is_null()
    })
    .await;
    for _ in 0..20 {
        let refused = world.admin.ask(&world.profile("read"), json!({})).await;
        let code = refused.body["code"].as_str().unwrap();
        assert!(["target_refused_admin", "target_left_alone"].contains(&code), "{}", refused.text);
    }
    // Some to find out, and one after each pause: not one for each that asks.
    let tried = refusals(&world, &cluster);
    assert!((1..=12).contains(&tried), "{tried} sign-ins were refused");
    due_now(&world).await;
    eventually("the renewal says why not", seconds(20), async || {
        let stands = target(&world).await["admin_rotation"].clone();
        stands["blocked_by"].as_str().is_some_and(|why| why.contains("sign in"))
    })
    .await;
    assert!(refusals(&world, &cluster) <= 18, "a password was set that nobody can sign in to set");

    put(&world, json!({ "admin_password": by_hand.expose(), "rotate_admin": "never" })).await;
    sign_in(&world.issue("read", json!({})).await).await.unwrap();
    eventually("the mark is gone", seconds(40), async || {
        target(&world).await["admin_rotation"]["refused_at"].is_null()
    })
    .await;
    let page = world.admin.get("/v1/audit?kind=target.admin-refused").await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    // What it logged about it is what this test is about.
    let all = json!({ "target": world.name });
    world.admin.post("/v1/revocations", &all).await;
    eventually("every login is removed", seconds(30), async || world.roles().await.is_empty())
        .await;
    let mut world = world;
    assert!(world.daemon.stop().await.success());
    cluster.stop().await;
}

#[tokio::test]
async fn an_admin_that_two_targets_share_is_not_renewed_for_one() {
    let world = World::start().await;
    let other = format!("/v1/targets/{}-other", world.name);
    let body = json!({
        "host": "127.0.0.1", "port": world.target_path.port(), "sslmode": "disable",
        "admin_user": world.shop(), "admin_password": admin_password(&world),
        "databases": [world.shop()],
    });
    world.admin.put(&other, &body).await.expect(201);
    let renew = format!("/v1/targets/{}/rotate-admin", world.name);
    world.admin.post(&renew, &json!({})).await.expect_problem(409, "admin_is_shared");
    eventually("it says why not", seconds(20), async || {
        let stands = world.admin.get(&other).await.expect(200)["admin_rotation"].clone();
        stands["blocked_by"].as_str().is_some_and(|why| why.contains(&world.name))
    })
    .await;
    assert!(lets_in(&world, &admin_password(&world)).await);
    world.admin.delete(&other).await.expect(204);
    world.finish().await;
}
