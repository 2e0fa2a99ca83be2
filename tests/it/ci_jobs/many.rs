//! Many jobs at once, and one token at several places at once.

use std::{collections::BTreeSet, time::Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    ci_jobs::{job, let_storefront_in, storefront, storefront_but},
    support::{
        chaos::Mode,
        issuer::Issuer,
        people::lease_id,
        world::{Plan, World},
    },
};

#[tokio::test]
async fn two_hundred_jobs_at_once_get_a_lease_each_and_end_it() {
    let world = World::with(Plan { log: "info", ..Plan::default() }).await;
    let issuer = Issuer::start().await;
    let_storefront_in(&world, &issuer).await;
    // The group role is made by the first who asks.
    let first = job(&world, &issuer.token(&storefront()));
    first.ask(&world.profile("read"), json!({})).await.expect(201);

    let tokens: Vec<String> = (0..200)
        .map(|n| issuer.token(&storefront_but(json!({ "run_id": format!("run {n}") }))))
        .collect();
    let jobs: Vec<_> = tokens.iter().map(|token| job(&world, token)).collect();
    let began = Instant::now();
    let profile = world.profile("read");
    let answers = join_all(jobs.iter().map(|job| job.ask(&profile, json!({})))).await;
    let issued: Vec<Value> = answers.into_iter().map(|answer| answer.expect(201)).collect();
    println!("200 leases in {:?}", began.elapsed());
    let users: BTreeSet<&str> =
        issued.iter().map(|issued| issued["credential"]["user"].as_str().unwrap()).collect();
    assert_eq!(users.len(), 200);

    // None a second time.
    let again = join_all(jobs.iter().map(|job| job.ask(&profile, json!({})))).await;
    for answer in again {
        answer.expect_problem(401, "token_spent");
    }
    let ids: Vec<String> = issued.iter().map(lease_id).collect();
    let ends = join_all(jobs.iter().zip(&ids).map(|(job, id)| job.revoke(id))).await;
    for answer in ends {
        assert!([200, 202].contains(&answer.status), "{}", answer.text);
    }
    for id in &ids {
        world.gone(id, 60).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn one_token_at_two_daemons_at_once_gives_one_lease() {
    let mut world = World::start().await;
    let issuer = Issuer::start().await;
    let_storefront_in(&world, &issuer).await;
    let mut second = world.another_daemon().await;
    let profile = world.profile("read");
    for with_jti in [true, false, true, false] {
        let differs = if with_jti { json!({}) } else { json!({ "jti": null }) };
        let run = format!("run {}", uuid::Uuid::now_v7());
        let mut claims = storefront_but(differs);
        claims["run_id"] = json!(run);
        let here = job(&world, &issuer.token(&claims));
        let there = here.at(&second.url);
        let both = [&here, &there, &here, &there, &here, &there];
        let answers = join_all(both.iter().map(|job| job.ask(&profile, json!({})))).await;
        let (good, bad): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!(good.len(), 1, "{with_jti}");
        for answer in bad {
            answer.expect_problem(401, "token_spent");
        }
        let leases = here.get("/v1/leases").await.expect(200);
        assert_eq!(leases["items"].as_array().unwrap().len(), 1);
    }
    assert!(second.stop().await.success(), "{}", second.log());
    world.finish().await;
}

#[tokio::test]
async fn a_token_is_not_spent_on_what_was_refused_or_failed() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let_storefront_in(&world, &issuer).await;
    let profile = world.profile("read");
    // Not allowed (`anyone` is nobody's job); then at its limit; then a target that does not answer.
    let one = job(&world, &issuer.token(&storefront()));
    one.ask(&world.profile("write"), json!({})).await.expect_problem(403, "not_allowed");
    let lease =
        json!({ "allow": ["ci:storefront-main", "anyone"], "conditions": { "max_live": 1 } });
    world.put_profile("read", lease).await;
    let taken = world.issue("read", json!({})).await;
    one.ask(&profile, json!({})).await.expect_problem(429, "limit_reached");
    world.admin.revoke(&lease_id(&taken)).await.expect(200);
    world.target_path.set(Mode::Refuse);
    let failed = one.ask(&profile, json!({})).await;
    assert!([502, 503, 504].contains(&failed.status), "{}", failed.text);
    world.target_path.set(Mode::Pass);
    crate::support::eventually(
        "the target answers again",
        crate::support::seconds(60),
        async || {
            let answer = one.ask(&profile, json!({})).await;
            assert_ne!(answer.body["code"], "token_spent", "{}", answer.text);
            answer.status == 201
        },
    )
    .await;
    one.ask(&profile, json!({})).await.expect_problem(401, "token_spent");
    world.finish().await;
}
