//! Who decides, and what becomes of it.

use serde_json::{Value, json};

use crate::{
    requests::{act, approve, approver, claim, deny, events, guarded, needing, request, state},
    support::{
        eventually,
        people::{Person, lease_id},
        seconds,
        sessions::{sign_in, text},
        world::World,
    },
};

#[tokio::test]
async fn what_somebody_else_agreed_to_is_fetched_once_and_its_clock_starts_then() {
    let world = World::start().await;
    guarded(&world).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let wish = json!({ "ttl": "30m", "tool": "psql", "reason": "INC-123", "ticket": "OPS-7" });
    let asked = ann.ask(&world.profile("guarded"), wish).await;
    let id = asked.body["id"].as_str().unwrap().to_owned();
    assert_eq!(asked.headers["location"], format!("/v1/requests/{id}"));
    let waiting = asked.expect(202);
    assert_eq!(waiting["state"], "pending");
    assert_eq!((&waiting["ttl"], &waiting["reason"]), (&json!("30m"), &json!("INC-123")));
    assert!(world.roles().await.is_empty(), "nothing is made before");
    claim(&ann, &id).await.expect_problem(409, "request_pending");

    // Who may decide finds it; others do not know of it.
    let to_decide = async |who: &Person| {
        let page = who.get("/v1/requests?to_decide=true").await.expect(200);
        page["items"].as_array().unwrap().len()
    };
    let eve = world.person("eve", &[]).await;
    assert_eq!((to_decide(&dora).await, to_decide(&ann).await, to_decide(&eve).await), (1, 0, 0));
    eve.get(&format!("/v1/requests/{id}")).await.expect_problem(404, "not_found");
    approve(&eve, &id).await.expect_problem(404, "not_found");

    let body = json!({ "comment": "for the incident" });
    let approved = act(&dora, &id, "approve", body).await.expect(200);
    assert_eq!(approved["state"], "approved");
    assert_eq!(approved["votes"][0]["principal"], "person:dora");
    assert!(world.roles().await.is_empty(), "the clock starts when it is fetched");
    claim(&dora, &id).await.expect_problem(403, "not_your_request");

    let before = chrono::Utc::now();
    let issued = claim(&ann, &id).await.expect(201);
    let ends: chrono::DateTime<chrono::Utc> =
        issued["lease"]["expires_at"].as_str().unwrap().parse().unwrap();
    let left = (ends - before).num_seconds();
    assert!((1795..=1830).contains(&left), "{left}");
    assert_eq!(issued["lease"]["reason"], "INC-123");
    assert_eq!(issued["lease"]["tool"], "psql");
    let mut session = sign_in(&issued).await.unwrap();
    assert_eq!(text(&mut session, "SELECT 1").await, "1");
    assert_eq!(state(&ann, &id).await, "claimed");
    let again = claim(&ann, &id).await.expect_problem(409, "request_over");
    assert!(again["detail"].as_str().unwrap().contains("rotate"), "{again}");

    let intended = &events(&world, "lease.intended").await[0];
    assert_eq!(intended["request_id"], id.as_str());
    assert_eq!(events(&world, "request.approved").await[0]["comment"], "for the incident");
    let refused = events(&world, "request.refused").await;
    let codes: Vec<_> = refused.iter().map(|event| event["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["request_over", "not_your_request", "not_found", "request_pending"]);
    drop(session);
    world.finish().await;
}

#[tokio::test]
async fn nobody_agrees_to_their_own_request_in_any_guise() {
    let world = World::start().await;
    let from = ["group:dba", "anyone"];
    let needs = needing(1, &from);
    world.put_profile("guarded", json!({ "conditions": needs })).await;
    let guarded = world.profile("guarded");

    // Not as an administrator, nor with a second token, nor as a member of a second group.
    let boss = approver(&world, "boss", &["dba"]).await;
    let make_admin = json!({ "name": "t", "principal": "person:boss", "admin": true });
    world.admin.post("/v1/tokens", &make_admin).await.expect(201);
    let id = request(&boss, &guarded, json!({})).await;
    approve(&boss, &id).await.expect_problem(403, "own_request");
    deny(&boss, &id).await.expect_problem(403, "own_request");
    let second = approver(&world, "boss", &["dba", "leads"]).await;
    approve(&second, &id).await.expect_problem(403, "own_request");

    // Nor with a token that they made for somebody else.
    let wish = json!({
        "name": "t", "principal": "person:puppet", "groups": ["dba"], "scopes": ["ask", "approve"],
    });
    let full = json!({ "name": "t", "principal": "person:boss" });
    let full = world.admin.post("/v1/tokens", &full).await.expect(201);
    let full = world.admin.with_token(full["secret"].as_str().unwrap());
    let puppet = full.post("/v1/tokens", &wish).await.expect(201);
    let puppet = world.admin.with_token(puppet["secret"].as_str().unwrap());
    approve(&puppet, &id).await.expect_problem(403, "own_token");
    // Nor with one that was made with such a one.
    let registrar = json!({ "name": "t", "principal": "person:puppet", "admin": true });
    let registrar = full.post("/v1/tokens", &registrar).await.expect(201);
    let registrar = world.admin.with_token(registrar["secret"].as_str().unwrap());
    let wish = json!({
        "name": "t", "principal": "person:another", "groups": ["dba"], "scopes": ["ask", "approve"],
    });
    let another = registrar.post("/v1/tokens", &wish).await.expect(201);
    let another = world.admin.with_token(another["secret"].as_str().unwrap());
    approve(&another, &id).await.expect_problem(403, "own_token");

    // Nor by an agent: services agree to nothing, and a person does not agree to what their agent asked for.
    let agent = json!({
        "name": "agent", "principal": "service:cursor", "acts_for": "person:boss", "groups": ["dba"],
        "scopes": ["ask", "approve"],
    });
    let agent = world.admin.post("/v1/tokens", &agent).await.expect(201);
    let agent = world.admin.with_token(agent["secret"].as_str().unwrap());
    approve(&agent, &id).await.expect_problem(404, "not_found");
    let made = events(&world, "token.created").await;
    let of = |name: &str| made.iter().find(|event| event["principal"] == name).unwrap();
    assert_eq!(of("service:cursor")["acts_for"], of("person:boss")["principal_id"], "on record");
    let of_agent = request(&agent, &guarded, json!({})).await;
    approve(&boss, &of_agent).await.expect_problem(403, "own_agent");
    let service = json!({ "name": "t", "principal": "service:other", "groups": ["dba"], "scopes": ["approve"] });
    let service = world.admin.post("/v1/tokens", &service).await.expect(201);
    let service = world.admin.with_token(service["secret"].as_str().unwrap());
    approve(&service, &id).await.expect_problem(404, "not_found");

    // A token that carries everything agrees to nothing, and makes none for its own that does.
    let dora = world.person("dora", &["dba"]).await;
    approve(&dora, &id).await.expect_problem(403, "not_by_this_token");
    let own = json!({ "name": "t", "scopes": ["ask", "approve"] });
    let refused = dora.post("/v1/tokens", &own).await.expect_problem(422, "invalid_request");
    assert_eq!(refused["faults"][0]["at"], "scopes", "{refused}");

    assert_eq!(state(&boss, &id).await, "pending");
    let refused = events(&world, "request.refused").await;
    assert_eq!(refused.len(), 9, "{refused:?}");
    world.finish().await;
}

#[tokio::test]
async fn nobody_decides_about_what_was_asked_with_a_token_that_they_made_for_another() {
    let world = World::start().await;
    guarded(&world).await;
    let guarded = world.profile("guarded");
    let dora = approver(&world, "dora", &["dba"]).await;
    let boss = approver(&world, "boss", &["dba"]).await;
    let token = async |by: &Person, principal: &str, more: Value| {
        let mut body = json!({ "name": "t", "principal": principal });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = by.post("/v1/tokens", &body).await.expect(201);
        by.with_token(made["secret"].as_str().unwrap())
    };
    let full = token(&world.admin, "person:boss", json!({ "admin": true })).await;
    // For a service, for a person, and with a token that they made before.
    let service = token(&full, "service:deploy", json!({})).await;
    let bob = token(&full, "person:bob", json!({})).await;
    let registrar = token(&full, "person:registrar", json!({ "admin": true })).await;
    let later = token(&registrar, "service:later", json!({})).await;
    // An agent of theirs made it.
    let agent = json!({ "acts_for": "person:boss", "admin": true });
    let agent = token(&world.admin, "service:agent", agent).await;
    let by_agent = token(&agent, "service:by-agent", json!({})).await;
    let asked = [&service, &bob, &later, &by_agent];
    let mut ids = Vec::new();
    for who in asked {
        ids.push(request(who, &guarded, json!({})).await);
    }
    for id in &ids {
        let refused = approve(&boss, id).await.expect_problem(403, "lent_token");
        assert!(refused["detail"].as_str().unwrap().contains("you made the token"), "{refused}");
        deny(&boss, id).await.expect_problem(403, "lent_token");
    }
    assert_eq!(events(&world, "request.refused").await.len(), 2 * ids.len());
    let to_decide = boss.get("/v1/requests?to_decide=true").await.expect(200);
    assert_eq!(to_decide["items"], json!([]), "nor is it theirs to decide");
    // Somebody else does; and what was asked with a token of one's own is decided by whoever may.
    approve(&dora, &ids[0]).await.expect(200);
    claim(&service, &ids[0]).await.expect(201);
    let own = token(&world.admin, "service:deploy", json!({})).await;
    let id = request(&own, &guarded, json!({ "reason": "own" })).await;
    approve(&boss, &id).await.expect(200);
    // But who agreed does not fetch it, with a token that they made for whoever asked.
    let refused = claim(&service, &id).await.expect_problem(403, "not_as_agreed");
    assert!(refused["detail"].as_str().unwrap().contains("person:boss agreed to it"), "{refused}");
    let claimed = claim(&own, &id).await.expect(201);
    // Nor has them a fresh login made in its place, which is as good.
    let rotate = format!("/v1/leases/{}/rotate", lease_id(&claimed));
    service.post(&rotate, &json!({})).await.expect_problem(403, "not_as_agreed");
    own.post(&rotate, &json!({})).await.expect(200);
    world.finish().await;
}

#[tokio::test]
async fn several_agree_one_after_the_other_and_one_no_is_enough() {
    let world = World::start().await;
    let approval = json!({ "approval": {
        "steps": [{ "from": ["group:leads"], "count": 2 }, { "from": ["group:dba"], "count": 1 }],
        "lapse_after": "4h", "use_within": "1h",
    } });
    world.put_profile("guarded", json!({ "conditions": approval })).await;
    let guarded = world.profile("guarded");
    let ann = world.person("ann", &[]).await;
    let lea = approver(&world, "lea", &["leads"]).await;
    let leo = approver(&world, "leo", &["leads", "dba"]).await;
    let dora = approver(&world, "dora", &["dba"]).await;

    let id = request(&ann, &guarded, json!({ "ttl": "30m" })).await;
    // It is not the second step's turn.
    approve(&dora, &id).await.expect_problem(403, "not_an_approver");
    let longer = act(&lea, &id, "approve", json!({ "ttl": "31m" })).await;
    longer.expect_problem(422, "invalid_request");
    let first = act(&lea, &id, "approve", json!({ "ttl": "20m" })).await.expect(200);
    assert_eq!((&first["state"], &first["open_step"]), (&json!("pending"), &json!(0)));
    approve(&lea, &id).await.expect_problem(409, "decided_already");
    let second = act(&leo, &id, "approve", json!({ "ttl": "10m" })).await.expect(200);
    assert_eq!(second["open_step"], 1);
    // Who agreed in one step is not asked again in the next.
    approve(&leo, &id).await.expect_problem(409, "decided_already");
    let last = approve(&dora, &id).await.expect(200);
    assert_eq!((&last["state"], &last["ttl"]), (&json!("approved"), &json!("10m")));
    approve(&dora, &id).await.expect_problem(409, "request_over");
    let issued = claim(&ann, &id).await.expect(201);
    assert_eq!(issued["ttl"]["rule"], "agreed");
    assert!(issued["ttl"]["because"].as_str().unwrap().contains("person:dora"), "{issued}");

    let id = request(&ann, &guarded, json!({})).await;
    approve(&lea, &id).await.expect(200);
    act(&leo, &id, "deny", json!({ "comment": "  " })).await.expect_problem(422, "invalid_request");
    let denied = act(&leo, &id, "deny", json!({ "comment": "ask for read" })).await.expect(200);
    assert_eq!(denied["state"], "denied");
    assert_eq!(denied["votes"][1]["comment"], "ask for read");
    let over = claim(&ann, &id).await.expect_problem(409, "request_over");
    assert!(over["detail"].as_str().unwrap().contains("denied"), "{over}");
    world.finish().await;
}

#[tokio::test]
async fn what_waits_or_is_not_used_lapses_and_what_is_not_wanted_is_withdrawn() {
    let world = World::start().await;
    let approval = |lapse: &str, used: &str| {
        json!({ "conditions": { "approval": {
            "steps": [{ "from": ["group:dba"], "count": 1 }], "lapse_after": lapse, "use_within": used,
        } } })
    };
    world.put_profile("brief", approval("1s", "1h")).await;
    world.put_profile("unused", approval("1h", "1s")).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);

    let unanswered = request(&ann, &world.profile("brief"), json!({})).await;
    let unused = request(&ann, &world.profile("unused"), json!({})).await;
    approve(&dora, &unused).await.expect(200);
    for id in [&unanswered, &unused] {
        eventually("it lapses", seconds(20), async || state(&ann, id).await == "lapsed").await;
    }
    approve(&dora, &unanswered).await.expect_problem(409, "request_over");
    claim(&ann, &unused).await.expect_problem(409, "request_over");
    eventually("both are recorded", seconds(20), async || {
        events(&world, "request.lapsed").await.len() == 2
    })
    .await;
    let from = |event: &Value| event["from"].as_str().unwrap().to_owned();
    let mut lapsed: Vec<_> = events(&world, "request.lapsed").await.iter().map(from).collect();
    lapsed.sort();
    assert_eq!(lapsed, ["approved", "pending"]);

    guarded(&world).await;
    let waits = request(&ann, &world.profile("guarded"), json!({})).await;
    let agreed = request(&ann, &world.profile("guarded"), json!({ "reason": "x" })).await;
    approve(&dora, &agreed).await.expect(200);
    act(&dora, &waits, "withdraw", json!({})).await.expect_problem(403, "not_your_request");
    let eve = world.person("eve", &[]).await;
    act(&eve, &waits, "withdraw", json!({})).await.expect_problem(404, "not_found");
    let tried = events(&world, "request.refused").await;
    let tried: Vec<_> =
        tried.iter().take(2).map(|event| (&event["what"], &event["code"])).collect();
    let withdraw = json!("withdraw");
    assert_eq!(
        tried,
        [(&withdraw, &json!("not_found")), (&withdraw, &json!("not_your_request"))],
        "that somebody tried is on record"
    );
    for id in [&waits, &agreed, &agreed] {
        let withdrawn = act(&ann, id, "withdraw", json!({})).await.expect(200);
        assert_eq!(withdrawn["state"], "withdrawn");
    }
    approve(&dora, &waits).await.expect_problem(409, "request_over");
    claim(&ann, &agreed).await.expect_problem(409, "request_over");
    // Whoever is shut out wants nothing any more.
    let of_ben = world.person("ben", &[]).await;
    let id = request(&of_ben, &world.profile("guarded"), json!({})).await;
    world.admin.post("/v1/principals/person:ben/disable", &Value::Null).await.expect(204);
    assert_eq!(state(&world.admin, &id).await, "withdrawn");
    world.finish().await;
}

#[tokio::test]
async fn a_lease_lasts_longer_when_they_agree_to_that() {
    let world = World::start().await;
    guarded(&world).await;
    let (ann, dora) = (world.person("ann", &[]).await, approver(&world, "dora", &["dba"]).await);
    let id = request(&ann, &world.profile("guarded"), json!({ "ttl": "10m" })).await;
    approve(&dora, &id).await.expect(200);
    let issued = claim(&ann, &id).await.expect(201);
    let lease = lease_id(&issued);
    let path = format!("/v1/leases/{lease}/renew");
    world.admin.post(&path, &json!({ "ttl": "1h" })).await.expect_problem(409, "needs_agreement");
    let waits = ann.post(&path, &json!({ "ttl": "1h" })).await.expect(202);
    assert_eq!(waits["extends"], lease.as_str());
    let id = waits["id"].as_str().unwrap().to_owned();
    let ends = async || ann.lease(&lease).await["expires_at"].clone();
    let before = ends().await;
    approve(&dora, &id).await.expect(200);
    assert_eq!(ends().await, before, "nothing changes before it is claimed");
    let renewed = claim(&ann, &id).await.expect(200);
    assert_ne!(renewed["lease"]["expires_at"], before);
    claim(&ann, &id).await.expect_problem(409, "request_over");
    // Given back before its time.
    ann.revoke(&lease).await.expect(200);
    world.finish().await;
}
