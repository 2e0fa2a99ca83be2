//! Two daemons on one state database.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{milliseconds, people::lease_id, sessions::is_shut_out, world::World};

#[tokio::test]
async fn a_lease_of_one_is_revoked_through_the_other_and_ends_without_its_maker() {
    let mut world = World::start().await;
    let mut second = world.another_daemon().await;
    let there = world.admin.at(&second.url);

    let issued = world.issue("read", json!({})).await;
    let revoked = there.revoke(&lease_id(&issued)).await.expect(200);
    assert_eq!(revoked["leases"][0]["proof"]["role_absent"], true);
    assert!(is_shut_out(&issued).await);
    assert_eq!(world.admin.lease(&lease_id(&issued)).await["state"], "revoked");

    let short = world.issue("read", json!({ "ttl": "2s" })).await;
    world.daemon.kill();
    world.admin = there;
    let lease = world.gone(&lease_id(&short), 15).await;
    assert_eq!(lease["cause"], "expired");
    // It looks every 5 s for what another recorded; the rest is the removal on a busy machine.
    let late = milliseconds(&lease["expires_at"], &lease["ended_at"]);
    assert!((0..8000).contains(&late), "{late} ms late {}", second.log());

    world.start_daemon().await;
    assert!(second.stop().await.success(), "{}", second.log());
    assert_eq!(second.lines_at("ERROR"), Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_token_that_is_revoked_at_one_is_refused_by_the_other_at_once() {
    let mut world = World::start().await;
    let mut second = world.another_daemon().await;
    let alice = world.person("alice", &[]).await;
    let there = alice.at(&second.url);
    // Both have seen the token, and remember it.
    let known = alice.get("/v1/whoami").await.expect(200);
    assert_eq!(there.get("/v1/whoami").await.expect(200), known);
    let id = known["token_id"].as_str().unwrap();
    world.admin.at(&second.url).delete(&format!("/v1/tokens/{id}")).await.expect(204);
    alice.get("/v1/whoami").await.expect_problem(401, "token_refused");
    there.get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert!(second.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn one_that_sleeps_through_an_expiry_is_stood_in_for_and_does_no_harm_when_it_wakes() {
    let mut world = World::start().await;
    let mut second = world.another_daemon().await;
    let issued = world.issue("read", json!({ "ttl": "2s" })).await;
    let here = world.admin.clone();
    world.daemon.signal(Signal::STOP);
    world.admin = here.at(&second.url);
    let lease = world.gone(&lease_id(&issued), 15).await;
    assert_eq!(lease["cause"], "expired");
    // It looks every 5 s for what another recorded; the rest is the removal on a busy machine.
    let late = milliseconds(&lease["expires_at"], &lease["ended_at"]);
    assert!((0..8000).contains(&late), "{late} ms late {}", second.log());

    world.daemon.signal(Signal::CONT);
    world.admin = here;
    assert_eq!(world.admin.lease(&lease_id(&issued)).await, lease);
    let fresh = world.issue("read", json!({})).await;
    world.admin.revoke(&lease_id(&fresh)).await.expect(200);
    assert!(second.stop().await.success());
    world.finish().await;
}
