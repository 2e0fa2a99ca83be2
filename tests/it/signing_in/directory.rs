//! Whom pgvalet knows: names are not keys, nobody inherits anything, and administrators look after people.

use serde_json::{Value, json};

use crate::support::{
    browser::{click_device, device_session, nobody, poll, world_with_provider},
    people::{Answer, lease_id},
    world::World,
};

async fn try_device(
    world: &World,
    provider: &pgvalet::dev::provider::Provider,
    subject: &str,
) -> Answer {
    let at = nobody(world);
    let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
    click_device(provider, begun["user_code"].as_str().unwrap(), subject).await;
    poll(&at, &begun).await
}

#[tokio::test]
async fn a_name_that_is_taken_is_given_to_nobody_else_until_an_administrator_says_who_it_is() {
    let (world, provider) = world_with_provider("").await;
    let local = world.person("ada", &["dba"]).await;
    let refused = try_device(&world, &provider, "sub-ada").await.expect_problem(403, "name_taken");
    let command = format!(
        "pgvalet person link person:NAME --issuer {} --subject 'sub-ada'",
        provider.issuer()
    );
    assert!(refused["detail"].as_str().unwrap().contains(&command), "{refused}");

    let link = json!({ "issuer": provider.issuer(), "subject": "sub-ada" });
    world.admin.post("/v1/principals/person:ada/identities", &link).await.expect(204);
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let (one, other) =
        (ada.get("/v1/whoami").await.expect(200), local.get("/v1/whoami").await.expect(200));
    assert_eq!(one["principal_id"], other["principal_id"]);
    assert_eq!(one["groups"], json!(["acme", "dba"]));
    let again = world.admin.post("/v1/principals/person:ada/identities", &link).await;
    again.expect_problem(409, "identity_taken");

    // Unlinked, she is nobody here, and her session is over; the local token is not.
    let path = format!(
        "/v1/principals/person:ada/identities?issuer={}&subject=sub-ada",
        provider.issuer()
    );
    world.admin.delete(&path).await.expect(204);
    ada.get("/v1/whoami").await.expect_problem(401, "token_refused");
    local.get("/v1/whoami").await.expect(200);
    world.admin.delete(&path).await.expect_problem(404, "not_found");
    world.finish().await;
}

#[tokio::test]
async fn who_is_called_something_else_stays_who_they_are_and_a_name_given_anew_gives_nothing() {
    let (world, provider) = world_with_provider("").await;
    let before = device_session(&nobody(&world), &provider, "sub-ada").await;
    let before = before.get("/v1/whoami").await.expect(200);
    provider.rename("sub-ada", "ada.byron");
    let after = device_session(&nobody(&world), &provider, "sub-ada").await;
    let after = after.get("/v1/whoami").await.expect(200);
    assert_eq!(
        (&after["principal_id"], &after["principal"]),
        (&before["principal_id"], &json!("person:ada"))
    );
    let shown = world.admin.get("/v1/principals/person:ada").await.expect(200);
    assert_eq!(shown["identities"][0]["user_name"], "ada.byron");
    // The provider gives her former name to somebody else.
    provider.rename("sub-gus", "ada");
    try_device(&world, &provider, "sub-gus").await.expect_problem(403, "name_taken");
    provider.rename("sub-gus", "Ünbekannt");
    try_device(&world, &provider, "sub-gus").await.expect_problem(403, "no_name");
    world.finish().await;
}

#[tokio::test]
async fn somebody_is_shut_out_at_once_and_let_in_again() {
    let (mut world, provider) = world_with_provider("").await;
    let mut second = world.another_daemon().await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let made = ada.post("/v1/tokens", &json!({ "name": "job", "ttl": "30d" })).await.expect(201);
    let job = ada.with_token(made["secret"].as_str().unwrap());
    let lease = lease_id(&job.ask(&world.profile("read"), json!({})).await.expect(201));
    let shown = world.admin.get("/v1/principals/person:ada").await.expect(200);
    assert_eq!(
        (&shown["sessions"], &shown["tokens"], &shown["live_leases"], &shown["provider_groups"]),
        (&json!(1), &json!(1), &json!(1), &json!(["acme"])),
        "{shown}"
    );

    world.admin.post("/v1/principals/person:ada/disable", &Value::Null).await.expect(204);
    ada.at(&second.url).get("/v1/whoami").await.expect_problem(401, "token_refused");
    job.at(&second.url).get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert_eq!(world.gone(&lease, 20).await["cause"], "revoked");
    try_device(&world, &provider, "sub-ada").await.expect_problem(403, "person_disabled");
    let shown = world.admin.get("/v1/principals/person:ada").await.expect(200);
    assert!(shown["disabled_at"].is_string(), "{shown}");

    world.admin.post("/v1/principals/person:ada/enable", &Value::Null).await.expect(204);
    job.get("/v1/whoami").await.expect(200);
    ada.get("/v1/whoami").await.expect_problem(401, "token_refused");
    device_session(&nobody(&world), &provider, "sub-ada").await;

    let own = world.admin.get("/v1/whoami").await.expect(200)["principal_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let own = world.admin.post(&format!("/v1/principals/{own}/disable"), &Value::Null).await;
    own.expect_problem(409, "disable_oneself");
    assert!(second.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn a_token_made_in_a_session_outlives_it_and_no_token_lasts_for_ever() {
    let (world, provider) = world_with_provider("").await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let made = ada.post("/v1/tokens", &json!({ "name": "job", "ttl": "30d" })).await.expect(201);
    let job = ada.with_token(made["secret"].as_str().unwrap());
    let other = device_session(&nobody(&world), &provider, "sub-ada").await;
    let ended = ada.delete("/v1/sessions").await.expect(200);
    assert_eq!(ended, json!({ "sessions": 2 }));
    for session in [&ada, &other] {
        session.get("/v1/whoami").await.expect_problem(401, "token_refused");
    }
    job.get("/v1/whoami").await.expect(200);
    let long = world.admin.post("/v1/tokens", &json!({ "name": "long", "ttl": "366d" })).await;
    let problem = long.expect_problem(422, "invalid_request");
    let fault = problem["faults"][0]["message"].as_str().unwrap();
    assert!(fault.contains("365 days"), "{problem}");
    world.finish().await;
}

#[tokio::test]
async fn whoever_looks_after_people_does_not_become_more_through_one_of_them() {
    let (world, provider) = world_with_provider("").await;
    let registrar = world.person("registrar", &["registrars"]).await;
    let roles = json!({ "name": "roles.toml", "text": "[administration]\nregistrar = [\"group:registrars\"]\nadmin = [\"group:root\"]\n" });
    world.admin.post("/v1/apply", &roles).await.expect(200);
    world.person("bob", &[]).await;
    let link = |subject: &str| json!({ "issuer": provider.issuer(), "subject": subject });
    registrar.post("/v1/principals/person:bob/identities", &link("sub-gus")).await.expect(204);
    let administrator = world.admin.get("/v1/whoami").await.expect(200);
    let name = administrator["principal"].as_str().unwrap();
    let path = format!("/v1/principals/{name}/identities");
    registrar.post(&path, &link("sub-mia")).await.expect_problem(403, "admin_only");
    let token = json!({ "name": "as admin", "principal": name });
    registrar.post("/v1/tokens", &token).await.expect_problem(403, "admin_only");
    let root = json!({ "groups": ["root"] });
    let refused = registrar.put("/v1/principals/person:registrar/groups", &root).await;
    refused.expect_problem(403, "admin_only");
    assert_eq!(registrar.get("/v1/whoami").await.expect(200)["groups"], json!(["registrars"]));
    world.finish().await;
}
