//! What others must agree to: who may, in what order, for what exactly, and once.

mod binding;
mod command_line;
mod deciding;
mod leaving;
mod races;

use serde_json::{Value, json};

use crate::support::{
    people::{Answer, Person},
    world::World,
};

/// Conditions under which so many of these must agree.
fn needing(count: u32, from: &[&str]) -> Value {
    json!({ "approval": {
        "steps": [{ "from": from, "count": count }], "lapse_after": "4h", "use_within": "1h",
    } })
}

/// A profile `guarded` for which one of the group `dba` must agree.
async fn guarded(world: &World) {
    world.put_profile("guarded", json!({ "conditions": needing(1, &["group:dba"]) })).await;
}

/// Somebody with a token that agrees to requests.
pub(crate) async fn approver(world: &World, name: &str, groups: &[&str]) -> Person {
    let principal = format!("person:{name}");
    let wish = json!({
        "name": "agrees", "principal": principal, "groups": groups, "scopes": ["ask", "approve"],
    });
    let made = world.admin.post("/v1/tokens", &wish).await.expect(201);
    world.admin.with_token(made["secret"].as_str().unwrap())
}

/// Asks for what needs agreement; gives the request's id.
async fn request(who: &Person, profile: &str, more: Value) -> String {
    let body = who.ask(profile, more).await.expect(202);
    body["id"].as_str().unwrap().to_owned()
}

async fn act(who: &Person, id: &str, what: &str, body: Value) -> Answer {
    who.post(&format!("/v1/requests/{id}/{what}"), &body).await
}

pub(crate) async fn approve(who: &Person, id: &str) -> Answer {
    act(who, id, "approve", json!({})).await
}

async fn deny(who: &Person, id: &str) -> Answer {
    act(who, id, "deny", json!({ "comment": "not now" })).await
}

async fn claim(who: &Person, id: &str) -> Answer {
    act(who, id, "claim", json!({})).await
}

async fn state(who: &Person, id: &str) -> String {
    let request = who.get(&format!("/v1/requests/{id}")).await.expect(200);
    request["state"].as_str().unwrap().to_owned()
}

/// The events of one kind, newest first.
async fn events(world: &World, kind: &str) -> Vec<Value> {
    let page = world.admin.get(&format!("/v1/audit?kind={kind}&limit=100")).await.expect(200);
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["entry"]["event"].clone()).collect()
}
