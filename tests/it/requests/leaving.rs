//! Whoever is shut out agrees to nothing and asks for nothing any more: not with what they said before either, as long as
//! nobody used it, and not in the moment in which they are shut out.

use futures_util::future::join;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::{
    requests::{approve, approver, claim, events, guarded, needing, request, state},
    support::{
        chaos::Mode,
        eventually,
        people::{Answer, lease_id},
        seconds,
        sessions::{text, try_text},
        world::{Plan, World},
    },
};

async fn disable(world: &World, name: &str) {
    let path = format!("/v1/principals/person:{name}/disable");
    world.admin.post(&path, &Value::Null).await.expect(204);
}

/// What is answered to somebody who asks it while a transaction that shuts a person out is not committed yet.
async fn while_shut_out(world: &World, name: &str, asking: impl Future<Output = Answer>) -> Answer {
    let mut shutting_out = world.on_state().await;
    shutting_out.execute("BEGIN").await.unwrap();
    let statement = "UPDATE principal SET disabled_at = now() WHERE subject = $1";
    let done = sqlx::query(statement).bind(name).execute(&mut shutting_out).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    let committing = async {
        let mut state = world.on_state().await;
        eventually("it is waited for", seconds(20), async || {
            let waiting = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                           WHERE NOT l.granted AND a.datname = current_database()";
            try_text(&mut state, waiting).await.unwrap() == "true"
        })
        .await;
        shutting_out.execute("COMMIT").await.unwrap();
    };
    join(asking, committing).await.0
}

#[tokio::test]
async fn what_somebody_agreed_to_who_was_shut_out_since_is_not_fetched() {
    let world = World::start().await;
    guarded(&world).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let dan = approver(&world, "dan", &["dba"]).await;
    let guarded = world.profile("guarded");
    let used = request(&ann, &guarded, json!({ "reason": "used" })).await;
    approve(&dora, &used).await.expect(200);
    claim(&ann, &used).await.expect(201);
    let unused = request(&ann, &guarded, json!({ "reason": "unused" })).await;
    approve(&dora, &unused).await.expect(200);

    disable(&world, "dora").await;
    claim(&ann, &unused).await.expect_problem(409, "request_pending");
    let shown = ann.get(&format!("/v1/requests/{unused}")).await.expect(200);
    assert_eq!((&shown["state"], &shown["open_step"]), (&json!("pending"), &json!(0)), "{shown}");
    assert!(shown["votes"][0]["void_at"].is_string(), "it says why: {shown}");
    let told = events(&world, "request.agreement-void").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["request_id"], &told[0]["principal"], &told[0]["from"]),
        (&json!(unused), &json!("person:dora"), &json!("approved"))
    );
    // What was used stays used.
    assert_eq!(state(&ann, &used).await, "claimed");
    assert_eq!(
        ann.get(&format!("/v1/requests/{used}")).await.body["votes"][0]["void_at"],
        json!(null)
    );

    // Somebody else agrees in their place.
    let approved = approve(&dan, &unused).await.expect(200);
    assert_eq!(approved["state"], "approved");
    let issued = claim(&ann, &unused).await.expect(201);
    let because = issued["ttl"]["because"].as_str().unwrap();
    assert!(because.contains("person:dan") && !because.contains("dora"), "{because}");
    world.finish().await;
}

#[tokio::test]
async fn of_several_who_agreed_only_those_count_who_are_let_in() {
    let world = World::start().await;
    world.put_profile("guarded", json!({ "conditions": needing(2, &["group:dba"]) })).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let (dan, dave) =
        (approver(&world, "dan", &["dba"]).await, approver(&world, "dave", &["dba"]).await);
    let id = request(&ann, &world.profile("guarded"), json!({})).await;
    approve(&dora, &id).await.expect(200);
    disable(&world, "dora").await;
    assert_eq!(approve(&dan, &id).await.expect(200)["state"], "pending", "one of two");
    // Let in again, they say it again, if they still think so.
    world.admin.post("/v1/principals/person:dora/enable", &Value::Null).await.expect(204);
    approve(&dan, &id).await.expect_problem(409, "decided_already");
    assert_eq!(approve(&dora, &id).await.expect(200)["state"], "approved");
    disable(&world, "dan").await;
    claim(&ann, &id).await.expect_problem(409, "request_pending");
    assert_eq!(approve(&dave, &id).await.expect(200)["state"], "approved");
    claim(&ann, &id).await.expect(201);
    assert_eq!(events(&world, "request.agreement-void").await.len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn who_is_shut_out_in_this_moment_neither_agrees_nor_asks() {
    let world = World::start().await;
    guarded(&world).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let guarded = world.profile("guarded");
    let id = request(&ann, &guarded, json!({})).await;
    let answer = while_shut_out(&world, "dora", approve(&dora, &id)).await;
    answer.expect_problem(401, "token_refused");
    assert_eq!(state(&ann, &id).await, "pending");
    let asking = ann.ask(&guarded, json!({ "reason": "another" }));
    while_shut_out(&world, "ann", asking).await.expect_problem(401, "token_refused");
    let mut recorded = world.on_state().await;
    assert_eq!(text(&mut recorded, "SELECT count(*) FROM request").await, "1");
    world.finish().await;
}

#[tokio::test]
async fn sealed_codes_are_neither_made_by_nor_for_who_is_shut_out_in_this_moment() {
    let world = World::start().await;
    world.person("ann", &[]).await;
    world.person("bob", &[]).await;
    let rita = json!({ "name": "t", "principal": "person:rita", "admin": true });
    let rita = world.admin.post("/v1/tokens", &rita).await.expect(201);
    let rita = world.admin.with_token(rita["secret"].as_str().unwrap());
    let make = |who: &crate::support::people::Person, whose: &str| {
        let (who, body) = (who.clone(), json!({ "person": format!("person:{whose}"), "count": 1 }));
        async move { who.post("/v1/emergency-codes", &body).await }
    };
    let answer = while_shut_out(&world, "bob", make(&world.admin, "bob")).await;
    answer.expect_problem(409, "person_disabled");
    let answer = while_shut_out(&world, "rita", make(&rita, "ann")).await;
    answer.expect_problem(401, "token_refused");
    let sets = world.admin.get("/v1/emergency-codes").await.expect(200);
    assert_eq!(sets["items"], json!([]));
    // And what is answered to whoever makes some is what is listed.
    let made = make(&world.admin, "ann").await.expect(201);
    let listed = world.admin.get("/v1/emergency-codes").await.expect(200);
    for field in ["principal", "made", "left", "profiles", "made_by", "ends_at"] {
        assert_eq!(made["set"][field], listed["items"][0][field], "{field}: {made} {listed}");
    }
    for code in made["codes"].as_array().unwrap() {
        world.secrets.remember(code.as_str().unwrap());
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_there_again_after_its_lease_failed_is_open_for_everybody_who_looks() {
    let lease = "issue_deadline = \"2s\"";
    let world = World::with(Plan { lease, ..Plan::default() }).await;
    guarded(&world).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let guarded = world.profile("guarded");
    // Prepared, so that what fails is the making of the login.
    let ready = request(&ann, &guarded, json!({})).await;
    approve(&dora, &ready).await.expect(200);
    let issued = claim(&ann, &ready).await.expect(201);
    ann.revoke(&lease_id(&issued)).await.expect(200);

    let id = request(&ann, &guarded, json!({ "reason": "again" })).await;
    approve(&dora, &id).await.expect(200);
    world.target_path.set(Mode::Refuse);
    assert!(claim(&ann, &id).await.status >= 500);
    world.target_path.set(Mode::Pass);
    let same = ann.ask(&guarded, json!({ "reason": "again" })).await.expect(202);
    assert_eq!((&same["id"], &same["state"]), (&json!(id), &json!("approved")), "{same}");
    // The one who agreed leaves, and so what they agreed to is not there any more, though it was tried.
    world.admin.post("/v1/principals/person:dora/offboarding", &json!({})).await.expect(200);
    let report = world.admin.get("/v1/principals/person:dora/offboarding").await.expect(200);
    let given = report["approvals_given"].as_array().unwrap();
    let states: Vec<_> = given.iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["pending", "claimed"], "{report}");
    claim(&ann, &id).await.expect_problem(409, "request_pending");
    disable(&world, "ann").await;
    assert_eq!(state(&world.admin, &id).await, "withdrawn");
    world.finish().await;
}

#[tokio::test]
async fn what_was_used_is_not_looked_at_for_ever() {
    let world = World::start().await;
    let needs = json!({ "approval": {
        "steps": [{ "from": ["group:dba"], "count": 1 }], "lapse_after": "1h", "use_within": "5s",
    } });
    world.put_profile("guarded", json!({ "conditions": needs })).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let id = request(&ann, &world.profile("guarded"), json!({})).await;
    approve(&dora, &id).await.expect(200);
    claim(&ann, &id).await.expect(201);
    let mut recorded = world.on_state().await;
    eventually("nothing more comes of it", seconds(60), async || {
        let open = "SELECT count(*) FROM request WHERE ended_at IS NULL";
        try_text(&mut recorded, open).await.unwrap() == "0"
    })
    .await;
    assert_eq!(state(&ann, &id).await, "claimed");
    assert_eq!(events(&world, "request.lapsed").await, Vec::<Value>::new());
    world.finish().await;
}
