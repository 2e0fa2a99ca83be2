//! Renewing: within the cap, by those who may, on both sides.

use serde_json::{Value, json};

use crate::support::{
    chaos::Mode,
    milliseconds,
    people::lease_id,
    sessions::{sign_in, text},
    world::World,
};

/// Where the login ends on the target.
async fn valid_until(world: &World, issued: &Value) -> Value {
    let role = issued["credential"]["user"].as_str().unwrap();
    let mut target = world.on_target().await;
    let until = "SELECT to_json(rolvaliduntil)#>>'{}' FROM pg_roles WHERE rolname = ";
    json!(text(&mut target, &format!("{until}'{role}'")).await)
}

#[tokio::test]
async fn a_renewal_moves_both_ends_up_to_the_cap() {
    let world = World::start().await;
    world.put_profile("read", json!({ "ttl": "10m", "max_ttl": "30m" })).await;
    let issued = world.issue("read", json!({})).await;
    let id = lease_id(&issued);
    let before = issued["lease"]["expires_at"].clone();

    let renewed = world.admin.renew(&id, json!({ "ttl": "20m" })).await.expect(200);
    let moved = milliseconds(&before, &renewed["lease"]["expires_at"]);
    assert!((600_000..660_000).contains(&moved), "{renewed}");
    assert_eq!(renewed["rule"], "asked");
    let until = valid_until(&world, &issued).await;
    assert!(milliseconds(&renewed["lease"]["expires_at"], &until).abs() <= 1);

    let capped = world.admin.renew(&id, json!({ "ttl": "2h" })).await.expect(200);
    assert_eq!(capped["rule"], "profile_max_ttl");
    assert!(capped["because"].as_str().unwrap().contains("max_ttl"), "{capped}");
    assert_eq!(capped["lease"]["expires_at"], capped["lease"]["max_expires_at"]);
    assert_eq!(capped["lease"]["max_expires_at"], issued["lease"]["max_expires_at"]);
    let until = valid_until(&world, &issued).await;
    assert!(milliseconds(&capped["lease"]["expires_at"], &until).abs() <= 1);
    sign_in(&issued).await.unwrap();

    world.admin.renew(&id, json!({})).await.expect_problem(409, "renewal_exhausted");
    world.admin.revoke(&id).await.expect(200);
    world.admin.renew(&id, json!({})).await.expect_problem(409, "lease_over");
    world.finish().await;
}

#[tokio::test]
async fn somebody_elses_lease_is_not_there() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice", &[]).await, world.person("bob", &[]).await);
    let issued = alice.ask(&world.profile("read"), json!({ "ttl": "10m" })).await.expect(201);
    let id = lease_id(&issued);
    bob.renew(&id, json!({})).await.expect_problem(404, "not_found");
    bob.rotate(&id).await.expect_problem(404, "not_found");
    bob.revoke(&id).await.expect_problem(404, "not_found");
    bob.get(&format!("/v1/leases/{id}")).await.expect_problem(404, "not_found");
    let seen = bob.get("/v1/leases").await.expect(200);
    assert_eq!(seen["items"], json!([]));
    alice.renew(&id, json!({ "ttl": "1h" })).await.expect(200);
    sign_in(&issued).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn what_the_target_was_not_told_is_not_recorded() {
    let world = World::start().await;
    let issued = world.issue("read", json!({ "ttl": "10m" })).await;
    let id = lease_id(&issued);
    world.target_path.set(Mode::Refuse);
    let failed = world.admin.renew(&id, json!({ "ttl": "1h" })).await;
    failed.expect_problem(503, "target_unreachable");
    assert_eq!(world.admin.lease(&id).await["expires_at"], issued["lease"]["expires_at"]);
    world.target_path.set(Mode::Pass);
    let until = valid_until(&world, &issued).await;
    assert!(milliseconds(&issued["lease"]["expires_at"], &until).abs() <= 1);
    world.admin.renew(&id, json!({ "ttl": "1h" })).await.expect(200);
    world.finish().await;
}
