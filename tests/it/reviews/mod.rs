//! Access reviews: who can reach what is looked at by others, and what is taken away stays away.

mod command_line;
mod deciding;
mod due;
mod exercise;
mod holding;

use serde_json::{Value, json};

use crate::{
    requests::approver,
    support::{
        people::{Answer, Person},
        world::{Plan, World},
    },
};

/// Dora, of those who review.
const REVIEWERS: &str = "[review]\nreviewers = [\"group:security\"]\nschedule = \"never\"\n";

/// A world with `group:security` for reviewers, and one of them.
async fn reviewed_world() -> (World, Person) {
    let world = World::with(Plan { settings: REVIEWERS, ..Plan::default() }).await;
    let dora = approver(&world, "dora", &["security"]).await;
    (world, dora)
}

/// Opens a review of everybody, or of one.
async fn open(by: &Person, of: Option<&str>) -> String {
    let review = by.post("/v1/reviews", &json!({ "principal": of })).await.expect(201);
    review["id"].as_str().unwrap().to_owned()
}

async fn shown(by: &Person, id: &str) -> Value {
    by.get(&format!("/v1/reviews/{id}")).await.expect(200)
}

/// All items that meet a filter.
async fn items(by: &Person, id: &str, filter: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/reviews/{id}/items?limit=100{filter}{cursor}");
        let page = by.get(&path).await.expect(200);
        found.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

async fn decide(by: &Person, id: &str, body: Value) -> Answer {
    by.post(&format!("/v1/reviews/{id}/decisions"), &body).await
}

/// An administrator who made nobody's token, and so may give back what was taken away.
async fn second_admin(world: &World) -> Person {
    let wish = json!({ "name": "second", "principal": "person:boss", "admin": true });
    let made = world.admin.post("/v1/tokens", &wish).await.expect(201);
    world.admin.with_token(made["secret"].as_str().unwrap())
}

async fn sign_off(by: &Person, id: &str) -> Answer {
    by.post(&format!("/v1/reviews/{id}/sign-off"), &json!({})).await
}

/// The events of one kind, newest first.
async fn events(world: &World, kind: &str) -> Vec<Value> {
    let page = world.admin.get(&format!("/v1/audit?kind={kind}&limit=100")).await.expect(200);
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["entry"]["event"].clone()).collect()
}

/// A profile for these rules.
async fn profile_for(world: &World, name: &str, allow: &[&str]) -> String {
    world.put_profile(name, json!({ "allow": allow })).await;
    world.profile(name)
}
