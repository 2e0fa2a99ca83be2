//! A target that cannot be signed in to is left alone, said to be so at once, and used again by itself;
//! one that is not the cluster it was is not touched.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::{
    chaos::Mode,
    eventually,
    people::{Answer, lease_id},
    seconds,
    sessions::sign_in,
    world::World,
};

async fn ask(world: &World) -> Answer {
    world.admin.ask(&world.profile("read"), json!({})).await
}

async fn until_left_alone(world: &World, code: &str) {
    eventually("the target is left alone", seconds(30), async || {
        let answer = ask(world).await;
        let told = answer.body["code"].as_str().unwrap_or_default().to_owned();
        assert!(told == code || told == "target_left_alone", "{}", answer.text);
        if told == "target_left_alone" {
            assert_eq!(answer.status, 503);
            let retry: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=61).contains(&retry), "{retry}");
        }
        told == "target_left_alone"
    })
    .await;
}

async fn run(connection: &mut PgConnection, statement: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await.unwrap();
}

#[tokio::test]
async fn a_target_that_is_away_is_left_alone_and_used_again_once_it_is_back() {
    let world = World::start().await;
    let issued = world.issue("read", json!({})).await;
    world.target_path.set(Mode::Refuse);
    until_left_alone(&world, "target_unreachable").await;
    let ready = world.admin.get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text);

    world.admin.delete(&format!("/v1/leases/{}", lease_id(&issued))).await.expect(202);
    let lease = world.admin.lease(&lease_id(&issued)).await;
    assert_eq!(lease["state"], "revoking");
    assert!(lease["blocked_by"].as_str().unwrap().contains(&world.name), "{lease}");

    world.target_path.set(Mode::Pass);
    world.gone(&lease_id(&issued), 30).await;
    let fresh = world.issue("read", json!({})).await;
    sign_in(&fresh).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn an_admin_that_is_refused_is_not_tried_on_and_a_new_password_is_tried_at_once() {
    let world = World::start().await;
    let mut target = world.on_target().await;
    let shop = world.shop();
    let password = "a-password-of-this-test-alone";
    run(&mut target, format!("ALTER ROLE {shop} PASSWORD '{password}'")).await;
    // The connections that stand were let in before.
    world.target_path.set(Mode::Refuse);
    until_left_alone(&world, "target_unreachable").await;
    world.target_path.set(Mode::Pass);
    eventually("it says what is wrong", seconds(30), async || {
        let answer = ask(&world).await;
        ["target_refused_admin", "target_left_alone"]
            .contains(&answer.body["code"].as_str().unwrap())
            && answer.text.contains("does not let")
    })
    .await;

    let spec = json!({
        "environment": "test", "host": "127.0.0.1", "port": world.target_path.port(),
        "sslmode": "disable", "admin_user": shop, "admin_password": password, "databases": [shop],
    });
    world.admin.put(&format!("/v1/targets/{}", world.name), &spec).await.expect(200);
    world.issue("read", json!({})).await;
    world.finish().await;
}

#[tokio::test]
async fn an_address_that_leads_to_another_cluster_is_not_touched() {
    let mut world = World::start().await;
    let issued = world.issue("read", json!({})).await;
    // As if the address had led to another one when it was recorded.
    let mut state = world.on_state().await;
    run(&mut state, "UPDATE target SET cluster_id = cluster_id + 1".to_owned()).await;
    world.daemon.kill();
    world.start_daemon().await;
    ask(&world).await.expect_problem(502, "target_is_another_cluster");
    world.admin.delete(&format!("/v1/leases/{}", lease_id(&issued))).await.expect(202);
    let mut lease = Value::Null;
    eventually("it says why it is not removed", seconds(15), async || {
        lease = world.admin.lease(&lease_id(&issued)).await;
        lease["blocked_by"].is_string()
    })
    .await;
    assert!(
        lease["blocked_by"].as_str().unwrap().contains("another PostgreSQL cluster"),
        "{lease}"
    );
    assert!(
        world.roles().await.contains(&issued["credential"]["user"].as_str().unwrap().to_owned())
    );

    run(&mut state, "UPDATE target SET cluster_id = cluster_id - 1".to_owned()).await;
    drop(state);
    world.daemon.kill();
    world.start_daemon().await;
    world.gone(&lease_id(&issued), 30).await;
    world.finish().await;
}
