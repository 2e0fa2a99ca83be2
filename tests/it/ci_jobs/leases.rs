//! The leases of jobs that get in: whose they are, and how many a token gives.

use serde_json::json;

use crate::{
    ci_jobs::{job, let_storefront_in, storefront, storefront_but},
    support::{issuer::Issuer, people::lease_id, world::World},
};

#[tokio::test]
async fn a_job_that_meets_a_rule_gets_one_lease_for_its_token_and_looks_after_its_own() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let_storefront_in(&world, &issuer).await;
    let token = issuer.token(&storefront());
    let ours = job(&world, &token);
    let who = ours.get("/v1/whoami").await.expect(200);
    assert_eq!((&who["principal"], &who["rights"]), (&json!("ci:storefront-main"), &json!([])));

    let issued = ours.ask(&world.profile("read"), json!({})).await.expect(201);
    let id = lease_id(&issued);
    assert_eq!(issued["lease"]["principal"], "ci:storefront-main");
    let again = ours.ask(&world.profile("read"), json!({})).await;
    again.expect_problem(401, "token_spent");
    ours.rotate(&id).await.expect_problem(401, "token_spent");

    // What the token does not give any more, it still looks after.
    assert_eq!(ours.lease(&id).await["state"], "active");
    ours.renew(&id, json!({ "ttl": "2h" })).await.expect(200);

    // A fresh token of the same job may have it rotated; one of another run does not see it.
    let fresh = job(&world, &issuer.token(&storefront()));
    fresh.rotate(&id).await.expect(200);
    let other = job(&world, &issuer.token(&storefront_but(json!({ "run_id": "1002" }))));
    other.get(&format!("/v1/leases/{id}")).await.expect_problem(404, "not_found");
    other.revoke(&id).await.expect_problem(404, "not_found");
    let none = other.post("/v1/revocations", &json!({ "profile": world.profile("read") })).await;
    assert_eq!(none.expect(200)["leases"], json!([]));
    assert_eq!(other.get("/v1/leases").await.expect(200)["items"], json!([]));
    ours.revoke(&id).await.expect(200);

    let intended = world.admin.get(&format!("/v1/audit?lease_id={id}&limit=100")).await.expect(200);
    let first = intended["items"].as_array().unwrap().last().unwrap();
    let told = &first["entry"]["event"]["job"];
    assert_eq!(
        (&told["told"]["repository"], &told["told"]["sha"]),
        (&json!("acme/storefront"), &json!("f00d"))
    );
    world.finish().await;
}
