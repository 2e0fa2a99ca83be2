//! Revoking sets of leases. How whoever is in gets out: `shutting_out`.

use serde_json::{Value, json};

use crate::support::{people::lease_id, world::World};

#[tokio::test]
async fn sets_are_revoked_by_person_tool_profile_and_target() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice", &[]).await, world.person("bob", &[]).await);
    let (read, write) = (world.profile("read"), world.profile("write"));
    let revoke = async |set: Value| {
        let answer = world.admin.post("/v1/revocations", &set).await.expect(200);
        let mut ids: Vec<_> = answer["leases"].as_array().unwrap().iter().map(id_of).collect();
        let counts = if ids.is_empty() { json!({}) } else { json!({ "revoked": ids.len() }) };
        assert_eq!(answer["counts"], counts, "{set}");
        ids.sort();
        ids
    };
    let of_alice = lease_id(&alice.ask(&read, json!({ "tool": "psql" })).await.expect(201));
    let of_bob = lease_id(&bob.ask(&read, json!({ "tool": "psql" })).await.expect(201));
    let of_cursor = lease_id(&bob.ask(&write, json!({ "tool": "cursor" })).await.expect(201));
    let second = lease_id(&bob.ask(&write, json!({ "tool": "psql" })).await.expect(201));
    let third = lease_id(&alice.ask(&read, json!({ "tool": "psql" })).await.expect(201));

    world.admin.post("/v1/revocations", &json!({})).await.expect_problem(422, "invalid_request");
    assert_eq!(world.live().await.len(), 5);
    assert_eq!(revoke(json!({ "tool": "cursor" })).await, [of_cursor]);
    assert_eq!(revoke(json!({ "person": "alice", "tool": "nothing" })).await, [""; 0]);
    assert_eq!(revoke(json!({ "person": "person:alice" })).await, [of_alice, third]);
    assert_eq!(revoke(json!({ "profile": write })).await, [second]);
    assert_eq!(revoke(json!({ "target": world.name })).await, [of_bob]);
    assert_eq!(world.live().await.len(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_person_revokes_nothing_of_others_with_a_set() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice", &[]).await, world.person("bob", &[]).await);
    let read = world.profile("read");
    let of_alice = lease_id(&alice.ask(&read, json!({})).await.expect(201));
    let of_bob = lease_id(&bob.ask(&read, json!({})).await.expect(201));
    let answer = bob.post("/v1/revocations", &json!({ "profile": read })).await.expect(200);
    assert_eq!(
        answer["leases"].as_array().unwrap().iter().map(id_of).collect::<Vec<_>>(),
        [of_bob]
    );
    assert_eq!(world.admin.lease(&of_alice).await["state"], "active");
    world.finish().await;
}

fn id_of(lease: &Value) -> String {
    lease["id"].as_str().unwrap().to_owned()
}
