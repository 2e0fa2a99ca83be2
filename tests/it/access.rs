//! Under which conditions somebody gets a lease: from where, when, how many, how often; what a token carries;
//! and that each of it can be explained.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{
    eventually,
    people::lease_id,
    seconds,
    wire::{Judge, Moment, Point, Side, Verdict},
    world::{Plan, World},
};

/// Says that whoever connects from this machine is a proxy of ours.
const BEHIND_PROXY: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";

fn from(address: &str) -> [(&'static str, &str); 1] {
    [("x-forwarded-for", address)]
}

#[tokio::test]
async fn a_profile_is_given_out_to_its_networks_alone() {
    let world = World::with(Plan { top: BEHIND_PROXY, ..Plan::default() }).await;
    let conditions = json!({ "networks": ["10.0.0.0/8", "2001:db8::/32"] });
    world.put_profile("near", json!({ "conditions": conditions })).await;
    let alice = world.person("alice", &[]).await;
    let body = json!({ "profile": world.profile("near") });
    let ask = async |address: &str| {
        alice.call(reqwest::Method::POST, "/v1/leases", Some(&body), &from(address)).await
    };
    for inside in ["10.1.2.3", "192.0.2.1, 10.1.2.3", "2001:db8::7"] {
        ask(inside).await.expect(201);
    }
    // The leftmost address is what the caller itself wrote.
    for outside in ["192.0.2.1", "10.1.2.3, 192.0.2.1", "::ffff:192.0.2.1"] {
        let problem = ask(outside).await.expect_problem(403, "network_not_allowed");
        assert!(problem["detail"].as_str().unwrap().contains("192.0.2.1"), "{problem}");
    }
    // The connection itself is not in any of them.
    alice.post("/v1/leases", &body).await.expect_problem(403, "network_not_allowed");
    // Nor does a lease last longer, or get a fresh login, from elsewhere.
    let made = ask("10.1.2.3").await.expect(201);
    for what in ["renew", "rotate"] {
        let path = format!("/v1/leases/{}/{what}", lease_id(&made));
        let away =
            alice.call(reqwest::Method::POST, &path, Some(&json!({})), &from("192.0.2.1")).await;
        away.expect_problem(403, "network_not_allowed");
    }
    let entries = world.admin.get("/v1/audit?kind=lease.refused").await.expect(200);
    let trace = &entries["items"][0]["entry"]["event"]["trace"];
    let network = trace.as_array().unwrap().iter().find(|f| f["condition"] == "network").unwrap();
    assert_eq!(network["holds"], false, "{trace}");
    world.finish().await;
}

#[tokio::test]
async fn a_header_counts_only_from_a_proxy_of_ours() {
    let world = World::start().await;
    world.put_profile("near", json!({ "conditions": { "networks": ["10.0.0.0/8"] } })).await;
    let body = json!({ "profile": world.profile("near") });
    let alice = world.person("alice", &[]).await;
    let headers = from("10.1.2.3");
    let claimed = alice.call(reqwest::Method::POST, "/v1/leases", Some(&body), &headers);
    claimed.await.expect_problem(403, "network_not_allowed");
    world.finish().await;
}

#[tokio::test]
async fn outside_of_its_hours_a_profile_is_not_given_out() {
    let world = World::start().await;
    let now = chrono::Utc::now();
    // A part of the day that is certainly not now, and one that certainly is.
    let hour = |shift: i64| (now + chrono::TimeDelta::hours(shift)).format("%H:%M").to_string();
    let hours = |from: i64, to: i64| json!({ "hours": [{ "from": hour(from), "to": hour(to), "timezone": "UTC" }] });
    world.put_profile("later", json!({ "conditions": hours(6, 8) })).await;
    world.put_profile("around", json!({ "conditions": hours(-6, 6) })).await;
    let alice = world.person("alice", &[]).await;
    let later = alice.ask(&world.profile("later"), json!({})).await;
    let problem = later.expect_problem(403, "outside_hours");
    assert!(problem["detail"].as_str().unwrap().contains(&hour(6)), "{problem}");
    alice.ask(&world.profile("around"), json!({})).await.expect(201);
    world.finish().await;
}

#[tokio::test]
async fn of_many_who_ask_at_once_as_many_get_a_lease_as_may_live() {
    let world = World::start().await;
    world.put_profile("few", json!({ "conditions": { "max_live": 10, "max_live_each": 3 } })).await;
    let mut people = Vec::new();
    for name in ["ann", "ben", "cleo", "dan", "eve", "finn"] {
        let person = world.person(name, &[]).await;
        // A token that was never seen costs the daemon a while, and it takes few of these at once.
        person.get("/v1/whoami").await.expect(200);
        people.push(person);
    }
    let few = world.profile("few");
    let asking = people.iter().flat_map(|person| (0..10).map(move |_| person));
    let answers =
        futures_util::future::join_all(asking.map(|person| person.ask(&few, json!({})))).await;
    let (made, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 201);
    let of_limits = refused.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((made.len(), of_limits), (10, 50));
    for answer in refused {
        let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        answer.expect_problem(429, "limit_reached");
    }
    let mut each = std::collections::BTreeMap::new();
    for lease in world.live().await {
        *each.entry(lease["principal"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(each.values().all(|leases| *leases <= 3), "{each:?}");

    // Who gives one back makes room for one.
    let (id, asker) = (lease_id(&made[0].body), &made[0].body["lease"]["principal"]);
    world.admin.delete(&format!("/v1/leases/{id}")).await;
    world.gone(&id, 20).await;
    let name = asker.as_str().unwrap().trim_start_matches("person:").to_owned();
    let again = people
        [["ann", "ben", "cleo", "dan", "eve", "finn"].iter().position(|n| **n == name).unwrap()]
    .clone();
    again.ask(&few, json!({})).await.expect(201);
    again.ask(&few, json!({})).await.expect_problem(429, "limit_reached");
    world.finish().await;
}

#[tokio::test]
async fn limits_hold_across_daemons_targets_and_profiles() {
    // Between the count and the record of what was counted there is time enough for the other daemon.
    let judge: Judge = Arc::new(|point: &Point| {
        let records = point.side == Side::State && point.statement.starts_with("WITH INSERT");
        let holds = records && point.moment == Moment::Before;
        if holds { Verdict::Hold(seconds(1)) } else { Verdict::Pass }
    });
    let lease = "max_live_per_caller = 4";
    let mut world = World::with(Plan { lease, judge: Some(judge), ..Plan::default() }).await;
    world.put_profile("one", json!({})).await;
    world.put_profile("two", json!({})).await;
    let other = world.another_daemon().await;
    let alice = world.person("alice", &[]).await;
    let there = alice.at(&other.url);
    let (one, two) = (world.profile("one"), world.profile("two"));
    let mut asking = Vec::new();
    for _ in 0..5 {
        asking.push(alice.ask(&one, json!({})));
        asking.push(there.ask(&two, json!({})));
    }
    let answers = futures_util::future::join_all(asking).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 4, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!(refused, 6);

    // The target's own limit counts everybody's.
    let file = world.admin.get("/v1/export").await.expect(200)["text"].as_str().unwrap().to_owned();
    let limited = file.replacen("scram_iterations", "max_live = 5\nscram_iterations", 1);
    let file = json!({ "name": "limits.toml", "text": limited });
    world.admin.post("/v1/apply", &file).await.expect(200);
    let bob = world.person("bob", &[]).await;
    bob.ask(&one, json!({})).await.expect(201);
    let full = bob.ask(&one, json!({})).await.expect_problem(429, "limit_reached");
    assert!(full["detail"].as_str().unwrap().contains("max_live of the target"), "{full}");
    drop(other);
    world.finish().await;
}

#[tokio::test]
async fn a_rate_counts_what_was_begun_and_says_when_to_come_again() {
    let world = World::start().await;
    world.put_profile("slow", json!({ "conditions": { "rate": "3/3s" } })).await;
    let alice = world.person("alice", &[]).await;
    let slow = world.profile("slow");
    let answers = futures_util::future::join_all((0..8).map(|_| alice.ask(&slow, json!({})))).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 3);
    // Leases that are over count too: it is asking that is bounded.
    for lease in answers.iter().filter(|answer| answer.status == 201) {
        world.admin.delete(&format!("/v1/leases/{}", lease_id(&lease.body))).await;
    }
    let refused = alice.ask(&slow, json!({})).await;
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    refused.expect_problem(429, "limit_reached");
    // Somebody else's asking is their own.
    world.person("bob", &[]).await.ask(&slow, json!({})).await.expect(201);
    eventually("the window moves on", seconds(10), async || {
        alice.ask(&slow, json!({})).await.status == 201
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_and_makes_none_that_does_more() {
    let world = World::start().await;
    let scoped = async |scopes: Value| {
        let body = json!({ "name": "scoped", "scopes": scopes });
        let made = world.admin.post("/v1/tokens", &body).await.expect(201);
        world.admin.with_token(made["secret"].as_str().unwrap())
    };
    let reader = scoped(json!(["audit", "read"])).await;
    reader.get("/v1/audit").await.expect(200);
    reader.get("/v1/targets").await.expect(200);
    reader.post("/v1/sweep", &json!({})).await.expect_problem(403, "admin_only");
    let asked = reader.ask(&world.profile("read"), json!({})).await;
    asked.expect_problem(403, "token_not_for_asking");
    let asker = scoped(json!(["ask"])).await;
    asker.ask(&world.profile("read"), json!({})).await.expect(201);
    asker.get("/v1/audit").await.expect_problem(403, "admin_only");
    let more = json!({ "name": "more", "scopes": ["ask", "audit"] });
    asker.post("/v1/tokens", &more).await.expect_problem(422, "invalid_request");
    // Without a word, as much as the one it is made with.
    let made = asker.post("/v1/tokens", &json!({ "name": "same" })).await.expect(201);
    assert_eq!(made["token"]["scopes"], json!(["ask"]));
    let wrong = json!({ "name": "wrong", "scopes": ["everything"] });
    world.admin.post("/v1/tokens", &wrong).await.expect_problem(422, "invalid_request");
    world.finish().await;
}

#[tokio::test]
async fn others_leases_are_seen_by_readers_and_ended_by_responders() {
    let world = World::start().await;
    let file = "[administration]\nauditor = [\"person:ava\"]\nresponder = [\"person:rob\"]\n";
    let file = json!({ "name": "roles.toml", "text": file });
    world.admin.post("/v1/apply", &file).await.expect(200);
    let (ava, rob) = (world.person("ava", &[]).await, world.person("rob", &[]).await);
    let made =
        world.person("alice", &[]).await.ask(&world.profile("read"), json!({})).await.expect(201);
    let path = format!("/v1/leases/{}", lease_id(&made));
    ava.get(&path).await.expect(200);
    ava.delete(&path).await.expect_problem(403, "admin_only");
    // Whatever they may do with it: its credential is its holder's.
    for somebody in [&ava, &rob, &world.admin] {
        somebody.rotate(&lease_id(&made)).await.expect_problem(403, "not_yours");
    }
    ava.post("/v1/revocations", &json!({ "person": "alice" })).await.expect(200);
    assert_eq!(rob.get(&path).await.expect(200)["state"], "active", "an auditor ended it");
    world.person("mal", &[]).await.delete(&path).await.expect_problem(404, "not_found");
    rob.delete(&path).await;
    world.gone(&lease_id(&made), 20).await;
    // A file that says who administers takes the right to say so.
    let author =
        json!({ "name": "x.toml", "text": "[administration]\nadmin = [\"person:rob\"]\n" });
    rob.post("/v1/apply", &author).await.expect_problem(403, "admin_only");
    world.finish().await;
}

#[tokio::test]
async fn what_the_policy_says_can_be_asked_of_anybody_at_any_time() {
    let world = World::start().await;
    let conditions = json!({
        "networks": ["10.0.0.0/8"], "max_live_each": 1,
        "hours": [{ "days": ["mon"], "from": "08:00", "to": "18:00", "timezone": "Europe/Berlin" }],
    });
    let differs = json!({ "allow": ["group:engineering"], "conditions": conditions });
    world.put_profile("office", differs).await;
    let alice = world.person("alice", &["engineering"]).await;
    let base = format!("/v1/profiles/{}/access", world.profile("office"));
    let about = async |more: &str| {
        world.admin.get(&format!("{base}?principal=person:alice{more}")).await.expect(200)
    };
    let good = about("&at=2026-01-05T09:00:00Z&from=10.1.2.3").await;
    assert_eq!(good["allowed"], true, "{good}");
    let conditions: Vec<_> = good["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["condition"].as_str().unwrap())
        .collect();
    assert_eq!(conditions, ["rule", "network", "hours", "limits"]);
    for (more, missing) in [
        ("&at=2026-01-06T09:00:00Z&from=10.1.2.3", "hours"),
        ("&at=2026-01-05T09:00:00Z&from=192.0.2.1", "network"),
        ("&at=2026-01-05T09:00:00Z", "network"),
    ] {
        let bad = about(more).await;
        assert_eq!(bad["allowed"], false, "{bad}");
        let not: Vec<_> =
            bad["findings"].as_array().unwrap().iter().filter(|f| f["holds"] == false).collect();
        assert_eq!((not.len(), not[0]["condition"].as_str().unwrap()), (1, missing), "{bad}");
    }
    // Of oneself it may be asked; of others takes the right to read everything.
    let own = alice.get(&base).await.expect(200);
    assert_eq!((&own["principal"], &own["from"]), (&json!("person:alice"), &json!("127.0.0.1")));
    let bob = world.person("bob", &["engineering"]).await;
    bob.get(&format!("{base}?principal=person:alice")).await.expect_problem(403, "admin_only");
    let nobody = format!("{base}?principal=person:nobody");
    world.admin.get(&nobody).await.expect_problem(404, "not_found");
    let odd = format!("{base}?principal=alice");
    world.admin.get(&odd).await.expect_problem(422, "invalid_request");
    world.finish().await;
}
