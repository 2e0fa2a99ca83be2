//! The same `Idempotency-Key` twice makes one lease.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{chaos::Mode, people::lease_id, world::World};

#[tokio::test]
async fn the_second_answer_is_the_same_lease_without_its_credential() {
    let world = World::start().await;
    let profile = world.profile("read");
    let first = world.admin.ask_with_key("k1", &profile, json!({})).await.expect(201);
    let second = world.admin.ask_with_key("k1", &profile, json!({})).await.expect(200);
    assert_eq!(lease_id(&first), lease_id(&second));
    assert!(second["credential"].is_null(), "{second}");
    assert_eq!(world.roles().await.len(), 1);

    let other = world.admin.ask_with_key("k1", &profile, json!({ "ttl": "1m" })).await;
    other.expect_problem(422, "idempotency_key_reused");
    // A key is its caller's own.
    let alice = world.person("alice", &[]).await;
    let hers = alice.ask_with_key("k1", &profile, json!({})).await.expect(201);
    assert_ne!(lease_id(&first), lease_id(&hers));
    // A lease that ended is still the answer to its key: the wish was fulfilled.
    world.admin.revoke(&lease_id(&first)).await.expect(200);
    let third = world.admin.ask_with_key("k1", &profile, json!({})).await.expect(200);
    assert_eq!(third["lease"]["state"], "revoked");
    world.finish().await;
}

#[tokio::test]
async fn twenty_at_once_with_one_key_are_one_lease() {
    let world = World::start().await;
    let profile = world.profile("read");
    let asked = (0..20).map(|_| world.admin.ask_with_key("at-once", &profile, json!({})));
    let answers = join_all(asked).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(made.len(), 1);
    let id = lease_id(&made[0].body);
    for answer in &answers {
        match answer.status {
            200 | 201 => assert_eq!(lease_id(&answer.body), id),
            409 => {
                assert_eq!(answer.body["code"], "request_in_progress", "{}", answer.text);
                assert!(answer.headers.contains_key("retry-after"));
            }
            _ => panic!("{}", answer.text),
        }
    }
    assert_eq!(world.roles().await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn the_key_of_a_failed_try_can_be_used_again() {
    let world = World::start().await;
    let profile = world.profile("read");
    world.issue("read", json!({})).await;
    world.target_path.set(Mode::Refuse);
    let failed = world.admin.ask_with_key("again", &profile, json!({})).await;
    failed.expect_problem(503, "target_unreachable");
    world.target_path.set(Mode::Pass);
    let made = world.admin.ask_with_key("again", &profile, json!({})).await.expect(201);
    assert!(made["credential"]["password"].is_string());
    world.finish().await;
}
