//! Rotating: a fresh login under the same lease, the old one gone after a grace.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    eventually,
    people::lease_id,
    seconds,
    sessions::{is_shut_out, sign_in, text, try_text},
    world::{Plan, World},
};

fn short_grace() -> Plan {
    Plan { lease: "rotation_grace = \"1s\"", ..Plan::default() }
}

#[tokio::test]
async fn the_old_login_works_during_the_grace_and_not_after() {
    let grace = Plan { lease: "rotation_grace = \"4s\"", ..Plan::default() };
    let world = World::with(grace).await;
    let old = world.issue("read", json!({})).await;
    let id = lease_id(&old);
    let mut working = sign_in(&old).await.unwrap();

    let fresh = world.admin.rotate(&id).await.expect(200);
    assert_eq!(lease_id(&fresh), id);
    assert_ne!(fresh["credential"]["user"], old["credential"]["user"]);
    assert_ne!(fresh["credential"]["password"], old["credential"]["password"]);
    let mut fresh_session = sign_in(&fresh).await.unwrap();
    sign_in(&old).await.expect("it works during the grace");
    text(&mut working, "SELECT 1").await;

    eventually("the old login is shut out", seconds(20), async || is_shut_out(&old).await).await;
    eventually("its session is ended", seconds(20), async || {
        try_text(&mut working, "SELECT 1").await.is_err()
    })
    .await;
    let fresh_role = fresh["credential"]["user"].as_str().unwrap();
    eventually("its role is gone", seconds(20), async || world.roles().await == [fresh_role]).await;
    let lease = world.admin.lease(&id).await;
    assert_eq!((&lease["state"], &lease["role"]), (&json!("active"), &json!(fresh_role)));
    text(&mut fresh_session, "SELECT 1").await;
    world.finish().await;
}

#[tokio::test]
async fn rotating_five_times_at_once_leaves_one_login() {
    let world = World::with(short_grace()).await;
    let issued = world.issue("read", json!({})).await;
    let id = lease_id(&issued);
    let answers = join_all((0..5).map(|_| world.admin.rotate(&id))).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(!made.is_empty(), "{answers:?}");
    for answer in &answers {
        assert!([200, 409].contains(&answer.status), "{}", answer.text);
    }
    eventually("one login is left", seconds(15), async || world.roles().await.len() == 1).await;
    let lease = world.admin.lease(&id).await;
    assert_eq!(lease["state"], "active");
    assert_eq!(lease["role"], world.roles().await[0].as_str());
    let works = made.iter().find(|answer| answer.body["credential"]["user"] == lease["role"]);
    sign_in(&works.expect("its credential was handed out").body).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn to_revoke_ends_the_logins_that_are_in_their_grace_too() {
    let world = World::start().await;
    let old = world.issue("read", json!({})).await;
    let id = lease_id(&old);
    let fresh = world.admin.rotate(&id).await.expect(200);
    let (mut first, mut second) = (sign_in(&old).await.unwrap(), sign_in(&fresh).await.unwrap());
    assert_eq!(world.roles().await.len(), 2);
    world.admin.revoke(&id).await.expect(200);
    assert_eq!(world.roles().await, Vec::<String>::new());
    for session in [&mut first, &mut second] {
        try_text(session, "SELECT 1").await.unwrap_err();
    }
    assert!(is_shut_out(&old).await && is_shut_out(&fresh).await);
    world.admin.rotate(&id).await.expect_problem(409, "lease_over");
    world.finish().await;
}
