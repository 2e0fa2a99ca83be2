//! The provider's provisioning: who is there and who is not, in SCIM's own words.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    browser::{device_session, nobody, world_with_provider},
    people::{Answer, Person, lease_id},
    world::World,
};

const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

async fn patch(by: &Person, id: &str, operations: Value) -> Answer {
    let body = json!({ "schemas": [PATCH], "Operations": operations });
    let kind = [("Content-Type", "application/scim+json")];
    by.call(Method::PATCH, &format!("/scim/v2/Users/{id}"), Some(&body), &kind).await
}

async fn provisioner(world: &World) -> Person {
    let body =
        json!({ "name": "scim", "principal": "service:scim", "admin": true, "scopes": ["people"] });
    let made = world.admin.post("/v1/tokens", &body).await.expect(201);
    world.admin.with_token(made["secret"].as_str().unwrap())
}

#[track_caller]
fn expect_error(answer: Answer, status: u16, word: Option<&str>) {
    assert_eq!(answer.headers["content-type"], "application/scim+json", "{}", answer.text);
    let body = answer.expect(status);
    assert_eq!(body["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]));
    assert_eq!(
        (&body["status"], body["scimType"].as_str()),
        (&json!(status.to_string()), word),
        "{body}"
    );
}

#[tokio::test]
async fn who_is_taken_out_is_out_at_once_whatever_form_it_is_said_in() {
    let (world, provider) = world_with_provider("").await;
    let scim = provisioner(&world).await;
    for operations in [
        json!([{ "op": "replace", "path": "active", "value": false }]),
        json!([{ "op": "Replace", "path": "active", "value": "False" }]),
        json!([{ "op": "replace", "value": { "active": false } }]),
    ] {
        let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
        let lease = lease_id(&ada.ask(&world.profile("read"), json!({})).await.expect(201));
        let found =
            scim.get("/scim/v2/Users?filter=externalId%20eq%20%22sub-ada%22").await.expect(200);
        let id = found["Resources"][0]["id"].as_str().unwrap();
        let changed = patch(&scim, id, operations).await;
        assert_eq!(changed.headers["content-type"], "application/scim+json");
        assert_eq!(changed.expect(200)["active"], false);
        ada.get("/v1/whoami").await.expect_problem(401, "token_refused");
        assert_eq!(world.gone(&lease, 20).await["cause"], "revoked");
        let back =
            patch(&scim, id, json!([{ "op": "replace", "path": "active", "value": true }])).await;
        assert_eq!(back.expect(200)["active"], true);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_user_is_made_found_changed_and_taken_out() {
    let (world, provider) = world_with_provider("").await;
    let scim = provisioner(&world).await;
    let config = scim.get("/scim/v2/ServiceProviderConfig").await.expect(200);
    assert_eq!(config["patch"]["supported"], true);
    let user = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada@example.org",
        "externalId": "sub-ada", "active": true, "name": { "givenName": "Ada" },
        "emails": [{ "value": "ada@example.org", "primary": true }],
    });
    let made = scim.post("/scim/v2/Users", &user).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["userName"], &made["active"]), (&json!("ada@example.org"), &json!(true)));
    expect_error(scim.post("/scim/v2/Users", &user).await, 409, Some("uniqueness"));

    // Signing in brings the same key: it is the same person.
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    assert_eq!(ada.get("/v1/whoami").await.expect(200)["principal_id"], id.as_str());
    let by_name =
        scim.get("/scim/v2/Users?filter=userName%20eq%20%22ADA%22&count=10").await.expect(200);
    assert_eq!((&by_name["totalResults"], &by_name["Resources"][0]["id"]), (&json!(1), &json!(id)));
    let nobody_there = scim.get("/scim/v2/Users?filter=userName%20eq%20%22x%22").await.expect(200);
    assert_eq!(
        (&nobody_there["totalResults"], &nobody_there["Resources"]),
        (&json!(0), &json!([]))
    );

    let path = format!("/scim/v2/Users/{id}");
    let renamed = json!({ "userName": "ada.byron", "externalId": "sub-ada", "active": "True" });
    assert_eq!(scim.put(&path, &renamed).await.expect(200)["userName"], "ada.byron");
    ada.get("/v1/whoami").await.expect(200);
    let moved = json!({ "userName": "ada.byron", "externalId": "sub-gus" });
    expect_error(scim.put(&path, &moved).await, 400, Some("invalidValue"));
    scim.delete(&path).await.expect(204);
    ada.get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert_eq!(scim.get(&path).await.expect(200)["active"], false);
    assert_eq!(scim.post("/scim/v2/Users", &user).await.expect(201)["id"], id.as_str());
    world.finish().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_as_scim_has_it() {
    let (world, _provider) = world_with_provider("").await;
    let scim = provisioner(&world).await;
    expect_error(scim.get("/scim/v2/Users?filter=title%20pr").await, 400, Some("invalidFilter"));
    expect_error(scim.get("/scim/v2/Users/unknown").await, 404, None);
    let user = json!({ "userName": "ada" });
    expect_error(scim.post("/scim/v2/Users", &user).await, 400, Some("invalidValue"));
    let user = json!({ "userName": "ä", "externalId": "x" });
    expect_error(scim.post("/scim/v2/Users", &user).await, 400, Some("invalidValue"));
    let user = json!({ "userName": "admin", "externalId": "x" });
    expect_error(scim.post("/scim/v2/Users", &user).await, 409, Some("uniqueness"));
    let member = world.person("member", &[]).await;
    expect_error(member.get("/scim/v2/Users").await, 403, None);
    expect_error(nobody(&world).get("/scim/v2/Users").await, 401, None);
    world.finish().await;
}
