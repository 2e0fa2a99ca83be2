//! What is decided holds at once, and stays.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    requests::approver,
    reviews::{
        decide, events, items, open, profile_for, reviewed_world, second_admin, shown, sign_off,
    },
    support::{
        people::lease_id,
        sessions::{is_shut_out, sign_in},
        world::World,
    },
};

#[tokio::test]
async fn removed_is_removed_narrowed_is_capped_and_kept_stays() {
    let (world, dora) = reviewed_world().await;
    let profile = profile_for(&world, "guarded", &["group:dba"]).await;
    let mut people = Vec::new();
    for name in ["ann", "bob", "carl"] {
        people.push(world.person(name, &["dba"]).await);
    }
    let [ann, bob, carl] = &people[..] else { panic!("three") };
    let issued = ann.ask(&profile, json!({})).await.expect(201);
    let long = bob.ask(&profile, json!({ "ttl": "1h" })).await.expect(201);
    sign_in(&issued).await.unwrap();

    let id = open(&dora, None).await;
    dora.post("/v1/reviews", &json!({})).await.expect_problem(409, "review_open");
    let found = items(&dora, &id, &format!("&profile={profile}")).await;
    let whose: Vec<_> = found.iter().map(|item| item["principal"].as_str().unwrap()).collect();
    assert_eq!(whose, ["person:ann", "person:bob", "person:carl"]);
    assert_eq!(found[0]["rule"], "group:dba");
    assert_eq!((&found[0]["facts"]["leases"], &found[0]["facts"]["live"]), (&json!(1), &json!(1)));
    assert_eq!((&found[0]["never_used"], &found[2]["never_used"]), (&json!(false), &json!(true)));
    assert_eq!(items(&dora, &id, "&never_used=true&principal=person:carl").await.len(), 1);
    // The world's own profiles are for anyone: one item each, of nobody in particular.
    let open = items(&dora, &id, "&principal=anyone").await;
    let profiles: BTreeSet<_> = open.iter().map(|item| item["profile"].as_str().unwrap()).collect();
    assert_eq!(profiles.len(), open.len(), "{open:?}");
    assert!(!open.is_empty() && !profiles.contains(profile.as_str()), "{open:?}");

    let item = |n: usize| json!([found[n]["id"]]);
    let remove = json!({ "items": item(0), "verdict": "remove", "reason": "moved to sales" });
    decide(&dora, &id, remove.clone()).await.expect(200);
    let narrow = |ttl: Value| json!({ "items": item(1), "verdict": "narrow", "max_ttl": ttl, "reason": "short reads" });
    decide(&dora, &id, narrow(json!("8h"))).await.expect_problem(422, "invalid_request");
    decide(&dora, &id, narrow(Value::Null)).await.expect_problem(422, "invalid_request");
    decide(&dora, &id, narrow(json!("10m"))).await.expect(200);
    let keep = json!({ "items": item(2), "verdict": "keep", "reason": "on call" });
    decide(&dora, &id, keep).await.expect(200);
    decide(&dora, &id, remove).await.expect_problem(409, "decided_already");

    // The live lease went with it, and there is no other.
    let gone = world.gone(&lease_id(&issued), 20).await;
    assert_eq!(gone["cause"], "revoked");
    assert!(is_shut_out(&issued).await);
    let refused = ann.ask(&profile, json!({})).await.expect_problem(403, "removed_by_review");
    assert!(refused["detail"].as_str().unwrap().contains("review"), "{refused}");
    let path = format!("/v1/profiles/{profile}/access");
    let access = ann.get(&path).await.expect(200);
    let finding =
        access["findings"].as_array().unwrap().iter().find(|f| f["condition"] == "review");
    assert_eq!(finding.unwrap()["holds"], false, "{access}");
    // A lease of bob's is short, and none is renewed beyond it; the one that lives is not cut off.
    let short = bob.ask(&profile, json!({ "ttl": "1h" })).await.expect(201);
    assert_eq!(
        (&short["ttl"]["granted"], &short["ttl"]["rule"]),
        (&json!("10m"), &json!("review"))
    );
    bob.renew(&lease_id(&short), json!({ "ttl": "1h" }))
        .await
        .expect_problem(409, "renewal_exhausted");
    bob.renew(&lease_id(&long), json!({ "ttl": "2h" }))
        .await
        .expect_problem(409, "renewal_exhausted");
    let kept = carl.ask(&profile, json!({ "ttl": "2h" })).await.expect(201);
    assert_eq!(kept["ttl"]["granted"], "2h");

    // The same file again gives nothing back, and nothing is to be changed by it.
    world.put_profile("guarded", json!({ "allow": ["group:dba"] })).await;
    world.put_profile("guarded", json!({ "allow": ["group:dba", "person:ann"] })).await;
    ann.ask(&profile, json!({})).await.expect_problem(403, "removed_by_review");
    let record = world.admin.get(&format!("/v1/profiles/{profile}")).await.expect(200);
    assert_eq!(record["bounds"][0]["principal"], "person:ann", "{record}");
    assert_eq!(carl.get(&format!("/v1/profiles/{profile}")).await.body["bounds"], Value::Null);
    let exported = world.admin.get("/v1/export").await.expect(200);
    assert!(!exported["text"].as_str().unwrap().contains("bounds"));

    // Given back by whoever looks after profiles, with a reason.
    let back = json!({ "principal": "person:ann", "reason": "back from sales" });
    let restore = format!("/v1/profiles/{profile}/restore");
    ann.post(&restore, &back).await.expect_problem(403, "admin_only");
    // Who made her token could use what is given back to her.
    world.admin.post(&restore, &back).await.expect_problem(403, "own_token");
    let boss = second_admin(&world).await;
    boss.post(&restore, &back).await.expect(200);
    boss.post(&restore, &back).await.expect_problem(404, "not_found");
    ann.ask(&profile, json!({})).await.expect(201);
    assert_eq!(events(&world, "review.restored").await[0]["reason"], "back from sales");
    assert_eq!(events(&world, "review.decided").await.len(), 3);
    world.finish().await;
}

#[tokio::test]
async fn anyone_is_one_item_and_does_not_touch_whom_a_rule_names() {
    let (world, dora) = reviewed_world().await;
    let profile = profile_for(&world, "wide", &["anyone", "group:dba"]).await;
    let (ann, eve) = (world.person("ann", &["dba"]).await, world.person("eve", &[]).await);
    let (of_ann, of_eve) = (
        ann.ask(&profile, json!({})).await.expect(201),
        eve.ask(&profile, json!({})).await.expect(201),
    );
    let id = open(&dora, None).await;
    let found = items(&dora, &id, &format!("&profile={profile}&principal=anyone")).await;
    assert_eq!(found[0]["facts"]["leases"], 1, "those whom no other rule names: {found:?}");
    let body = json!({ "items": [found[0]["id"]], "verdict": "remove", "reason": "too wide" });
    decide(&dora, &id, body).await.expect(200);
    world.gone(&lease_id(&of_eve), 20).await;
    eve.ask(&profile, json!({})).await.expect_problem(403, "removed_by_review");
    assert_eq!(ann.lease(&lease_id(&of_ann)).await["state"], "active");
    ann.ask(&profile, json!({})).await.expect(201);
    world.finish().await;
}

#[tokio::test]
async fn five_hundred_items_by_reviewers_none_of_whom_decides_about_themselves() {
    let (world, dora) = reviewed_world().await;
    let dan = approver(&world, "dan", &["security"]).await;
    let rules = ["group:dba", "group:security"];
    for n in 0..10 {
        profile_for(&world, &format!("p{n}"), &rules).await;
    }
    let mut state = world.on_state().await;
    let people = "INSERT INTO principal (id, issuer, subject, kind, groups, created_at)
                  SELECT gen_random_uuid(), 'local', 'member-' || n, 'person', '{dba}', now() FROM generate_series(1, 48) n";
    sqlx::raw_sql(people).execute(&mut state).await.unwrap();
    let id = open(&dora, None).await;
    let counts = shown(&dora, &id).await["counts"].clone();
    // The world's own profiles are for anyone: their items come on top.
    assert!(counts["items"].as_i64().unwrap() >= 500, "{counts}");
    let mut found = items(&dora, &id, "").await;
    found.retain(|item| item["principal"] != "anyone");
    assert_eq!(found.len(), 500, "{counts}");

    // With an ordinary token, or as nobody of theirs, nothing is decided.
    let keep = json!({ "all": true, "verdict": "keep", "reason": "as last quarter" });
    let plain = world.person("dora", &["security"]).await;
    decide(&plain, &id, keep.clone()).await.expect_problem(403, "not_by_this_token");
    let eve = approver(&world, "eve", &[]).await;
    decide(&eve, &id, keep.clone()).await.expect_problem(403, "not_a_reviewer");
    eve.get(&format!("/v1/reviews/{id}")).await.expect_problem(403, "not_a_reviewer");

    // Her own are left out of many at once, and refused when they are named.
    let own = items(&dora, &id, "&principal=person:dora").await;
    assert_eq!(own.len(), 10);
    let named = json!({ "items": [own[0]["id"]], "verdict": "keep", "reason": "mine" });
    decide(&dora, &id, named).await.expect_problem(403, "own_item");
    let done = decide(&dora, &id, keep.clone()).await.expect(200);
    assert_eq!(
        (&done["left_out"], &done["review"]["counts"]["undecided"]),
        (&json!(10), &json!(10))
    );
    sign_off(&dora, &id).await.expect_problem(409, "review_undecided");
    let done = decide(&dan, &id, keep.clone()).await.expect(200);
    assert_eq!((&done["decided"], &done["left_out"]), (&json!(10), &json!(0)));
    let over = sign_off(&dora, &id).await.expect(200);
    assert_eq!(
        (&over["state"], &over["signed_off_by"]),
        (&json!("signed-off"), &json!("person:dora"))
    );
    decide(&dan, &id, keep).await.expect_problem(409, "review_over");
    let said = &events(&world, "review.signed-off").await[0];
    assert_eq!(said["counts"]["kept"], counts["items"]);
    world.finish().await;
}

#[tokio::test]
async fn an_agent_is_not_reviewed_by_whom_it_acts_for() {
    let (world, dora) = reviewed_world().await;
    let dan = approver(&world, "dan", &["security"]).await;
    let profile = profile_for(&world, "tools", &["service:bot"]).await;
    let bot = json!({ "name": "bot", "principal": "service:bot", "acts_for": "person:dora" });
    world.admin.post("/v1/tokens", &bot).await.expect(201);
    let id = open(&dora, Some("service:bot")).await;
    let found = items(&dora, &id, &format!("&profile={profile}")).await;
    let keep = json!({ "items": [found[0]["id"]], "verdict": "keep", "reason": "good bot" });
    decide(&dora, &id, keep.clone()).await.expect_problem(403, "own_agent");
    decide(&dan, &id, keep).await.expect(200);
    world.finish().await;
}

#[tokio::test]
async fn what_others_agreed_to_outlives_a_review_of_somebody_else() {
    let (world, dora) = reviewed_world().await;
    let needs = json!({ "approval": {
        "steps": [{ "from": ["group:security"], "count": 1 }], "lapse_after": "1h", "use_within": "1h",
    } });
    world.put_profile("agreed", json!({ "allow": ["group:dba"], "conditions": needs })).await;
    let profile = world.profile("agreed");
    let (ann, bob) = (world.person("ann", &["dba"]).await, world.person("bob", &["dba"]).await);
    let mut asked = Vec::new();
    for who in [&ann, &bob] {
        let request = who.ask(&profile, json!({})).await.expect(202);
        let id = request["id"].as_str().unwrap().to_owned();
        crate::requests::approve(&dora, &id).await.expect(200);
        asked.push(id);
    }
    let id = open(&dora, None).await;
    let body = json!({ "principal": "person:ann", "verdict": "remove", "reason": "left the team" });
    decide(&dora, &id, body).await.expect(200);
    let claim = async |who: &crate::support::people::Person, id: &str| {
        who.post(&format!("/v1/requests/{id}/claim"), &json!({})).await
    };
    claim(&ann, &asked[0]).await.expect_problem(403, "removed_by_review");
    claim(&bob, &asked[1]).await.expect(201);
    world.finish().await;
}

#[tokio::test]
async fn a_review_leaves_the_daemon_as_a_table_that_runs_nothing() {
    let (world, dora) = reviewed_world().await;
    profile_for(&world, "guarded", &["person:ann"]).await;
    world.person("ann", &[]).await;
    let id = open(&dora, Some("person:ann")).await;
    let body =
        json!({ "all": true, "verdict": "keep", "reason": "=HYPERLINK(\"http://example.org\")" });
    decide(&dora, &id, body).await.expect(200);
    sign_off(&dora, &id).await.expect(200);
    let csv = dora.get(&format!("/v1/reviews/{id}/export?format=csv")).await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert!(csv.text.contains(",\"'=HYPERLINK(\"\"http://example.org\"\")\","), "{}", csv.text);
    let markdown = dora.get(&format!("/v1/reviews/{id}/export?format=markdown")).await;
    assert!(markdown.text.contains("| person:ann |"), "{}", markdown.text);
    assert!(markdown.text.contains("Signed off: by person:dora"), "{}", markdown.text);
    world.finish().await;
}

/// Without the setting, those review who may say who holds which role.
#[tokio::test]
async fn administrators_review_where_nobody_is_named() {
    let world = World::start().await;
    let member = world.person("member", &[]).await;
    member.get("/v1/reviews").await.expect_problem(403, "admin_only");
    member.post("/v1/reviews", &json!({})).await.expect_problem(403, "admin_only");
    let id = open(&world.admin, None).await;
    let keep = json!({ "all": true, "verdict": "keep", "reason": "fine" });
    decide(&world.admin, &id, keep.clone()).await.expect_problem(403, "not_by_this_token");
    let wish = json!({ "name": "reviews", "principal": "person:boss", "admin": true, "scopes": ["read", "roles", "approve"] });
    let made = world.admin.post("/v1/tokens", &wish).await.expect(201);
    let reviewer = world.admin.with_token(made["secret"].as_str().unwrap());
    decide(&reviewer, &id, keep).await.expect(200);
    sign_off(&reviewer, &id).await.expect(200);
    world.finish().await;
}
