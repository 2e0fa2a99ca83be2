//! What is agreed to is this, for them, now and once; and whoever asked must be eligible still.

use serde_json::{Value, json};

use crate::{
    requests::{act, approve, approver, claim, events, guarded, needing, request, state},
    support::{
        chaos::Mode,
        eventually,
        people::lease_id,
        seconds,
        world::{Plan, World},
    },
};

#[tokio::test]
async fn anything_but_what_was_agreed_to_is_refused_and_audited() {
    let world = World::start().await;
    guarded(&world).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let profile = world.profile("guarded");
    let id = request(&ann, &profile, json!({ "ttl": "30m", "tool": "psql" })).await;
    approve(&dora, &id).await.expect(200);
    for (what, wanted) in [
        ("database", json!({ "database": "other" })),
        ("31 m", json!({ "ttl": "31m" })),
        ("profile", json!({ "profile": world.profile("write") })),
        ("tool", json!({ "tool": "cursor" })),
    ] {
        let answer = act(&ann, &id, "claim", wanted).await;
        let problem = answer.expect_problem(403, "not_as_agreed");
        println!("{what}: {problem}");
    }
    assert_eq!(events(&world, "request.refused").await.len(), 4);
    assert!(world.roles().await.is_empty());
    // Less is as agreed.
    let same = json!({ "database": world.shop(), "profile": profile, "tool": "psql", "ttl": "5m" });
    let issued = act(&ann, &id, "claim", same).await.expect(201);
    assert_eq!(issued["ttl"]["granted"], "5m");
    act(&ann, &id, "claim", json!({})).await.expect_problem(409, "request_over");
    world.finish().await;
}

#[tokio::test]
async fn a_profile_that_was_changed_since_is_not_what_was_agreed_to() {
    let world = World::start().await;
    guarded(&world).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let id = request(&ann, &world.profile("guarded"), json!({})).await;
    approve(&dora, &id).await.expect(200);
    let conditions = needing(1, &["group:dba"]);
    let differs = json!({ "conditions": conditions, "preset": "readwrite" });
    world.put_profile("guarded", differs).await;
    claim(&ann, &id).await.expect_problem(403, "not_as_agreed");
    world.admin.delete(&format!("/v1/profiles/{}", world.profile("guarded"))).await.expect(204);
    claim(&ann, &id).await.expect_problem(404, "not_found");
    assert!(world.roles().await.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn whoever_lost_what_it_takes_gets_nothing_though_others_agreed() {
    let world = World::start().await;
    let conditions = needing(1, &["group:dba"]);
    let spec = json!({ "allow": ["group:engineering"], "conditions": conditions });
    world.put_profile("guarded", spec).await;
    let ann = world.person("ann", &["engineering"]).await;
    let dora = approver(&world, "dora", &["dba"]).await;
    let id = request(&ann, &world.profile("guarded"), json!({})).await;
    approve(&dora, &id).await.expect(200);
    let groups = |groups: Value| json!({ "groups": groups });
    let path = "/v1/principals/person:ann/groups";
    world.admin.put(path, &groups(json!([]))).await.expect(204);
    claim(&ann, &id).await.expect_problem(403, "not_allowed");
    // Who has it again may use it: it is not spent.
    world.admin.put(path, &groups(json!(["engineering"]))).await.expect(204);
    claim(&ann, &id).await.expect(201);
    // An approver who is none any more agrees to nothing.
    let id = request(&ann, &world.profile("guarded"), json!({})).await;
    world.admin.put("/v1/principals/person:dora/groups", &groups(json!([]))).await.expect(204);
    approve(&dora, &id).await.expect_problem(404, "not_found");
    world.finish().await;
}

#[tokio::test]
async fn a_wish_says_what_the_profile_wants_and_from_when() {
    let world = World::start().await;
    let mut conditions = needing(1, &["group:dba"]);
    conditions["ticket"] = json!("required");
    let spec = json!({ "reason": "required", "conditions": conditions });
    world.put_profile("guarded", spec).await;
    let guarded = world.profile("guarded");
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    ann.ask(&guarded, json!({})).await.expect_problem(422, "reason_required");
    let reason = json!({ "reason": "INC-1" });
    ann.ask(&guarded, reason).await.expect_problem(422, "ticket_required");
    let now = chrono::Utc::now();
    let wish = |start: chrono::DateTime<chrono::Utc>| json!({ "reason": "INC-1", "ticket": "OPS-7", "start_at": start.to_rfc3339() });
    for wrong in [now - chrono::TimeDelta::hours(1), now + chrono::TimeDelta::days(31)] {
        let problem = ann.ask(&guarded, wish(wrong)).await.expect_problem(422, "invalid_request");
        assert_eq!(problem["faults"][0]["at"], "start_at", "{problem}");
    }
    let start = now + chrono::TimeDelta::seconds(6);
    let id = request(&ann, &guarded, wish(start)).await;
    let approved = approve(&dora, &id).await.expect(200);
    let use_by: chrono::DateTime<chrono::Utc> =
        approved["use_by"].as_str().unwrap().parse().unwrap();
    // To the microsecond, as it is recorded.
    let hour = chrono::TimeDelta::hours(1) - chrono::TimeDelta::milliseconds(1);
    assert!(use_by >= start + hour, "the hour begins at the start: {use_by}");
    claim(&ann, &id).await.expect_problem(409, "too_early");
    eventually("it is time", seconds(20), async || {
        act(&ann, &id, "claim", json!({})).await.status == 201
    })
    .await;
    // Where nobody must agree, it is asked for when it is time.
    let start = json!({ "start_at": (now + chrono::TimeDelta::hours(1)).to_rfc3339() });
    ann.ask(&world.profile("read"), start.clone()).await.expect_problem(422, "invalid_request");
    // Also where it was asked for just before, and what to answer is known.
    let issued = ann.ask(&world.profile("read"), json!({})).await.expect(201);
    ann.ask(&world.profile("read"), start).await.expect_problem(422, "invalid_request");
    assert_eq!(
        ann.get("/v1/leases?state=live").await.expect(200)["items"].as_array().unwrap().len(),
        2,
        "{issued}"
    );
    world.finish().await;
}

#[tokio::test]
async fn the_same_key_asks_once() {
    let world = World::start().await;
    guarded(&world).await;
    let ann = world.person("ann", &[]).await;
    let guarded = world.profile("guarded");
    let first = ann.ask_with_key("once", &guarded, json!({})).await.expect(202);
    let second = ann.ask_with_key("once", &guarded, json!({})).await.expect(202);
    assert_eq!(first["id"], second["id"]);
    let other = ann.ask_with_key("once", &guarded, json!({ "reason": "x" })).await;
    other.expect_problem(422, "idempotency_key_reused");
    // What asks in a loop does not bury the others.
    for n in 0..19 {
        request(&ann, &guarded, json!({ "reason": n.to_string() })).await;
    }
    let more = json!({ "reason": "and one more" });
    ann.ask(&guarded, more).await.expect_problem(429, "too_many_requests");
    // The same wish again is the same request.
    let same = ann.ask(&guarded, json!({})).await.expect(202);
    assert_eq!(same["id"], first["id"]);
    world.finish().await;
}

#[tokio::test]
async fn what_fails_on_the_target_is_not_spent_and_ends_as_failed_when_its_time_is_over() {
    let lease = "issue_deadline = \"2s\"";
    let world = World::with(Plan { lease, ..Plan::default() }).await;
    let conditions = json!({ "approval": {
        "steps": [{ "from": ["group:dba"], "count": 1 }], "lapse_after": "1h", "use_within": "15s",
    } });
    world.put_profile("guarded", json!({ "conditions": conditions })).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    // Prepared, so that what fails is the making of the login.
    let ready = request(&ann, &world.profile("guarded"), json!({})).await;
    approve(&dora, &ready).await.expect(200);
    let issued = claim(&ann, &ready).await.expect(201);
    ann.revoke(&lease_id(&issued)).await.expect(200);

    let again = request(&ann, &world.profile("guarded"), json!({})).await;
    let never = request(&ann, &world.profile("guarded"), json!({ "reason": "never" })).await;
    approve(&dora, &again).await.expect(200);
    approve(&dora, &never).await.expect(200);
    world.target_path.set(Mode::Refuse);
    for id in [&again, &never] {
        let failed = claim(&ann, id).await;
        assert!(failed.status >= 500, "{}", failed.text);
    }
    world.target_path.set(Mode::Pass);
    eventually("it is there again, and is fetched", seconds(14), async || {
        claim(&ann, &again).await.status == 201
    })
    .await;
    eventually("the other one failed", seconds(40), async || state(&ann, &never).await == "failed")
        .await;
    assert_eq!(events(&world, "request.failed").await.len(), 1);
    world.finish().await;
}
