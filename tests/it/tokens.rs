//! API tokens: who may make which, how long they hold, and what guessing costs.

use serde_json::{Value, json};

use crate::support::{
    eventually, milliseconds,
    people::{Person, lease_id},
    seconds,
    world::{Plan, World},
};

#[tokio::test]
async fn a_token_is_made_listed_and_revoked_at_once_on_every_daemon() {
    let mut world = World::start().await;
    let mut second = world.another_daemon().await;
    let alice = world.person("alice", &["support"]).await;
    let elsewhere = alice.at(&second.url);
    let who = alice.get("/v1/whoami").await.expect(200);
    assert_eq!(who["principal"], "person:alice");
    assert_eq!((&who["groups"], &who["admin"]), (&json!(["support"]), &json!(false)));
    elsewhere.get("/v1/whoami").await.expect(200);

    let listed = alice.get("/v1/tokens").await;
    assert_eq!(world.secrets.found_in(&listed.text), Vec::<String>::new(), "a list with a secret");
    let listed = listed.expect(200);
    assert_eq!(listed["items"][0]["id"], who["token_id"]);
    assert_eq!(listed["items"][0]["revoked_at"], Value::Null);

    let path = format!("/v1/tokens/{}", who["token_id"].as_str().unwrap());
    alice.delete(&path).await.expect(204);
    alice.get("/v1/whoami").await.expect_problem(401, "token_refused");
    elsewhere.get("/v1/whoami").await.expect_problem(401, "token_refused");
    world.admin.delete(&path).await.expect(204);
    let listed = world.admin.get("/v1/tokens").await.expect(200);
    let mine =
        listed["items"].as_array().unwrap().iter().find(|item| item["id"] == who["token_id"]);
    assert!(mine.unwrap()["revoked_at"].is_string(), "{listed}");
    assert!(second.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn a_member_makes_tokens_for_itself_alone_and_none_that_outlives_its_own() {
    let world = World::start().await;
    let body = json!({ "name": "day", "principal": "person:bob", "ttl": "1h" });
    let made = world.admin.post("/v1/tokens", &body).await.expect(201);
    let bob = world.admin.with_token(made["secret"].as_str().unwrap());
    for more in [
        json!({ "principal": "person:carol" }),
        json!({ "principal": "person:bob" }),
        json!({ "groups": ["support"] }),
        json!({ "groups": [] }),
        json!({ "admin": true }),
        json!({ "admin": false }),
    ] {
        let mut body = json!({ "name": "more" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bob.post("/v1/tokens", &body).await.expect_problem(403, "admin_only");
    }
    let own_end = &made["token"]["expires_at"];
    for ttl in [json!("30d"), Value::Null] {
        let longer =
            bob.post("/v1/tokens", &json!({ "name": "longer", "ttl": ttl })).await.expect(201);
        assert_eq!(&longer["token"]["expires_at"], own_end);
        let longer = bob.with_token(longer["secret"].as_str().unwrap());
        let who = longer.get("/v1/whoami").await.expect(200);
        assert_eq!((&who["principal"], &who["admin"]), (&json!("person:bob"), &json!(false)));
    }
    let shorter = bob.post("/v1/tokens", &json!({ "name": "s", "ttl": "60s" })).await.expect(201);
    let token = &shorter["token"];
    assert_eq!(milliseconds(&token["created_at"], &token["expires_at"]), 60_000);
    for (body, at) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "a\nb" }), "name"),
        (json!({ "name": "x".repeat(101) }), "name"),
        (json!({ "name": "x", "ttl": "100y" }), "ttl"),
        (json!({ "name": "x", "principal": "alice" }), "principal"),
        (json!({ "name": "x", "principal": "person:A" }), "principal"),
        (json!({ "name": "x", "groups": ["ok", "Not ok"] }), "groups[1]"),
    ] {
        let told =
            world.admin.post("/v1/tokens", &body).await.expect_problem(422, "invalid_request");
        assert_eq!(told["faults"][0]["at"], at, "{told}");
    }
    world.finish().await;
}

#[tokio::test]
async fn guesses_are_slowed_down_and_recorded_without_the_token() {
    let settings = "[throttle]\nfailures_per_minute = 3";
    let world = World::with(Plan { settings, ..Plan::default() }).await;
    let known = world.person("known", &[]).await;
    known.get("/v1/whoami").await.expect(200);
    let fresh = world.person("fresh", &[]).await;

    let id = known.token.split('_').nth(1).unwrap();
    let guesses = [
        format!("pgv_{}_{}", "0".repeat(32), "a".repeat(43)),
        format!("pgv_{id}_{}", "b".repeat(43)),
        "not-even-a-token".to_owned(),
    ];
    let mut words = Vec::new();
    for guess in &guesses {
        let told = world.admin.with_token(guess).get("/v1/whoami").await;
        let told = told.expect_problem(401, "token_refused");
        words.push(told["detail"].clone());
    }
    assert!(words.iter().all(|said| *said == words[0]), "{words:?}");
    for caller in [world.admin.with_token(&guesses[1]), fresh] {
        let told = caller.get("/v1/whoami").await;
        let wait: u64 = told.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        told.expect_problem(429, "throttled");
    }
    known.get("/v1/whoami").await.expect(200);
    known.ask(&world.profile("read"), json!({})).await.expect(201);

    let refused = world.admin.get("/v1/audit?kind=token.refused").await;
    assert_eq!(world.secrets.found_in(&refused.text), Vec::<String>::new());
    let refused = refused.expect(200);
    let whys: Vec<&Value> = refused["items"].as_array().unwrap().iter().collect();
    let whys: Vec<&str> =
        whys.iter().map(|item| item["entry"]["event"]["why"].as_str().unwrap()).collect();
    assert_eq!(whys, ["no such token", "wrong secret", "no such token"]);
    assert!(refused["items"][0]["entry"]["source"].is_string(), "{refused}");
    let throttled = world.admin.get("/v1/audit?kind=source.throttled").await.expect(200);
    assert_eq!(throttled["items"].as_array().unwrap().len(), 1, "told once: {throttled}");
    world.finish().await;
}

/// Every item of a list, a page at a time; `between` is done after the first.
async fn pages(
    caller: &Person,
    path: &str,
    limit: usize,
    between: impl AsyncFnOnce(),
) -> Vec<String> {
    let mut between = Some(between);
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("{path}?limit={limit}{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        ids.extend(items.iter().map(|item| {
            let id = item.get("id").unwrap_or(&item["entry"]["id"]);
            id.as_str().unwrap().to_owned()
        }));
        match page["next_cursor"].as_str() {
            Some(next) => {
                assert_eq!(items.len(), limit);
                cursor = format!("&cursor={next}");
            }
            None => return ids,
        }
        if let Some(between) = between.take() {
            between().await;
        }
    }
}

#[tokio::test]
async fn lists_come_in_pages_without_gaps_or_doubles() {
    let world = World::start().await;
    world.put_profile("read", json!({ "ttl": "1h", "max_ttl": "1h" })).await;
    let mut made = Vec::new();
    for _ in 0..60 {
        made.push(lease_id(&world.issue("read", json!({})).await));
    }
    made.reverse();
    for limit in [7, 60, 200] {
        let seen = pages(&world.admin, "/v1/leases", limit, async || {
            // A new one comes in front, where the pages to come do not look.
            world.issue("read", json!({})).await;
        })
        .await;
        let skip = seen.len() - made.len();
        assert_eq!(seen[skip..], made[..], "by {limit}");
    }
    let mut audit = world.admin.get("/v1/audit/verify").await.expect(200);
    eventually("all is sealed", seconds(20), async || {
        audit = world.admin.get("/v1/audit/verify").await.expect(200);
        audit["unsealed"] == 0
    })
    .await;
    let all = audit["entries"].as_u64().unwrap();
    for limit in [50, 13] {
        let seen = pages(&world.admin, "/v1/audit", limit, async || {}).await;
        let once: std::collections::BTreeSet<&String> = seen.iter().collect();
        assert_eq!(once.len(), seen.len(), "doubles");
        assert_eq!(seen.len() as u64, all);
    }
    for path in ["/v1/profiles", "/v1/tokens", "/v1/targets"] {
        let whole = pages(&world.admin, path, 200, async || {}).await;
        assert_eq!(pages(&world.admin, path, 1, async || {}).await, whole, "{path}");
    }
    world.finish().await;
}
