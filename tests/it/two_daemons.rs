//! Two daemons on one state database.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    eventually, late,
    people::lease_id,
    seconds,
    sessions::{is_shut_out, try_text},
    world::World,
};

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
    let lease = world.gone(&lease_id(&short), 60).await;
    assert_eq!(lease["cause"], "expired");
    // It looks every 5 s for what another recorded; the rest is the removal on a busy machine.
    assert!(late(&lease) < seconds(12), "{lease} {}", second.log());

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
    let lease = world.gone(&lease_id(&issued), 60).await;
    assert_eq!(lease["cause"], "expired");
    // It looks every 5 s for what another recorded; the rest is the removal on a busy machine.
    assert!(late(&lease) < seconds(12), "{lease} {}", second.log());

    world.daemon.signal(Signal::CONT);
    world.admin = here;
    assert_eq!(world.admin.lease(&lease_id(&issued)).await, lease);
    let fresh = world.issue("read", json!({})).await;
    world.admin.revoke(&lease_id(&fresh)).await.expect(200);
    assert!(second.stop().await.success());
    world.finish().await;
}

/// Stopped at any point of what it does, and woken a minute or a moment later: its claims are over by
/// then and others have done its work, which must not be done, recorded or told a second time.
#[tokio::test]
async fn one_that_is_paused_amid_many_removals_does_none_of_them_twice() {
    let mut world = World::start().await;
    let mut second = world.another_daemon().await;
    let ids: Vec<_> = issue_many(&world, 24, "8s").await.iter().map(lease_id).collect();
    let mut state = world.on_state().await;
    eventually("the first login is gone", seconds(30), async || {
        let gone = "SELECT count(*) FROM login WHERE state = 'revoked'";
        try_text(&mut state, gone).await.unwrap() != "0"
    })
    .await;
    world.daemon.signal(Signal::STOP);
    let here = world.admin.clone();
    world.admin = here.at(&second.url);
    // Paused amid a transaction it holds locks until the database ends that, and its claims until they are over.
    for id in &ids {
        world.gone(id, 150).await;
    }
    world.daemon.signal(Signal::CONT);
    world.admin = here;
    // Connections that stood still amid a request are ended, ours to it and its to the databases; so
    // each look is over a new one.
    let ready = format!("{}/readyz", world.daemon.url);
    eventually("it is ready again", seconds(20), async || {
        reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    assert!(second.stop().await.success(), "{}", second.log());
    let passed = "SELECT count(*) FROM audit_entry WHERE kind = 'login.removed'";
    let removed: usize = try_text(&mut state, passed).await.unwrap().parse().unwrap();
    assert!(removed >= ids.len(), "{removed} removals are on record");
    let twice = "SELECT count(*) FROM (
        SELECT FROM audit_entry WHERE kind IN ('login.removed', 'lease.revoked', 'login.revoking', 'lease.revoking')
        GROUP BY kind, lease_id HAVING count(*) <> 1) AS twice";
    assert_eq!(try_text(&mut state, twice).await.unwrap(), "0", "something was recorded twice");
    drop(state);
    world.finish().await;
}

/// A few at a time: a machine that runs other tests as well is slow to answer all at once.
async fn issue_many(world: &World, count: usize, ttl: &str) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < count {
        let one = |_| world.issue("read", json!({ "ttl": ttl }));
        all.extend(futures_util::future::join_all((0..4).map(one)).await);
    }
    all
}
