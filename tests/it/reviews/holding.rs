//! What a review took away is not got back by a way round it.

use serde_json::json;

use crate::{
    reviews::{decide, items, open, profile_for, reviewed_world, second_admin},
    standing,
    support::{
        eventually, seconds,
        sessions::{is_shut_out, sign_in},
    },
};

#[tokio::test]
async fn a_later_review_gives_nothing_back() {
    let (world, dora) = reviewed_world().await;
    let profile = profile_for(&world, "guarded", &["person:ann", "person:bob"]).await;
    let ann = world.person("ann", &[]).await;
    world.person("bob", &[]).await;
    let (of_all, of_ann) = (open(&dora, None).await, open(&dora, Some("person:ann")).await);
    let of_both = format!("&profile={profile}");
    let remove = json!({ "principal": "person:ann", "verdict": "remove", "reason": "left" });
    decide(&dora, &of_all, remove).await.expect(200);
    let item = items(&dora, &of_ann, &of_both).await[0]["id"].clone();
    let narrow =
        json!({ "items": [item], "verdict": "narrow", "max_ttl": "10m", "reason": "reads" });
    let refused = decide(&dora, &of_ann, narrow).await.expect_problem(422, "invalid_request");
    assert!(refused["faults"][0]["message"].as_str().unwrap().contains("restore"), "{refused}");
    ann.ask(&profile, json!({})).await.expect_problem(403, "removed_by_review");
    // Of many at once it is left as it is, and the others are decided.
    let all =
        |ttl: &str| json!({ "all": true, "verdict": "narrow", "max_ttl": ttl, "reason": "x" });
    let done = decide(&dora, &of_ann, all("10m")).await.expect(200);
    assert_eq!((&done["decided"], &done["unfit"]), (&json!(0), &json!(1)), "{done}");
    let only_bob = json!({
        "profile": profile, "verdict": "narrow", "max_ttl": "10m", "reason": "reads",
    });
    let done = decide(&dora, &of_all, only_bob).await.expect(200);
    assert_eq!((&done["decided"], &done["unfit"]), (&json!(1), &json!(0)), "{done}");
    world.finish().await;
}

#[tokio::test]
async fn a_profile_that_is_recorded_again_was_not_looked_at() {
    let (world, dora) = reviewed_world().await;
    let profile = profile_for(&world, "guarded", &["person:ann"]).await;
    let ann = world.person("ann", &[]).await;
    let id = open(&dora, Some("person:ann")).await;
    let path = format!("/v1/profiles/{profile}");
    world.admin.delete(&path).await.expect(204);
    profile_for(&world, "guarded", &["person:ann"]).await;
    let with =
        |verdict: &str| json!({ "principal": "person:ann", "verdict": verdict, "reason": "x" });
    let named = items(&dora, &id, "").await[0]["id"].clone();
    let remove = json!({ "items": [named], "verdict": "remove", "reason": "x" });
    decide(&dora, &id, remove).await.expect_problem(409, "profile_replaced");
    let done = decide(&dora, &id, with("remove")).await.expect(200);
    assert_eq!((&done["decided"], &done["unfit"]), (&json!(0), &json!(1)), "{done}");
    ann.ask(&profile, json!({})).await.expect(201);
    decide(&dora, &id, with("keep")).await.expect(200);
    // A new one looks at what is there now. What it takes away outlives the profile: it is given back first.
    crate::reviews::sign_off(&dora, &id).await.expect(200);
    let anew = open(&dora, Some("person:ann")).await;
    decide(&dora, &anew, with("remove")).await.expect(200);
    eventually("nothing is live", seconds(20), async || world.live().await.is_empty()).await;
    world.admin.delete(&path).await.expect_problem(409, "profile_reviewed");
    let back = json!({ "principal": "person:ann", "reason": "the profile goes" });
    let boss = second_admin(&world).await;
    boss.post(&format!("{path}/restore"), &back).await.expect(200);
    world.admin.delete(&path).await.expect(204);
    world.finish().await;
}

#[tokio::test]
async fn a_standing_role_is_no_way_round_a_review() {
    let (world, dora) = reviewed_world().await;
    let rules = json!({ "allow": ["person:ann", "person:bob"], "grace": "1h" });
    standing::put(&world, rules).await.expect(201);
    standing::generation(&world, 1).await;
    let (ann, bob) = (world.person("ann", &[]).await, world.person("bob", &[]).await);
    let known = standing::read(&ann, &world).await;
    sign_in(&known).await.unwrap();
    let id = open(&dora, Some("person:ann")).await;
    let found = items(&dora, &id, "").await;
    let rule = format!("person:ann (standing role {}-app)", world.name);
    assert_eq!((found.len(), &found[0]["rule"]), (1, &json!(rule)), "{found:?}");
    assert_eq!(found[0]["never_used"], false, "to read the password is to use it: {found:?}");
    let remove = json!({ "all": true, "verdict": "remove", "reason": "left the team" });
    decide(&dora, &id, remove).await.expect(200);
    let path = format!("{}/credential", standing::path(&world));
    ann.get(&path).await.expect_problem(403, "not_allowed");
    // What she knows is replaced, and stops without the role's grace; others read on.
    standing::generation(&world, 2).await;
    let fresh = standing::read(&bob, &world).await;
    assert_ne!(fresh["credential"]["user"], known["credential"]["user"]);
    eventually("what she knew is shut out", seconds(40), async || is_shut_out(&known).await).await;
    standing::remove(&world).await;
    world.finish().await;
}
