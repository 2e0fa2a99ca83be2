//! Asking for a lease: the answer, the credential, and the role on the target.

use serde_json::json;

use crate::support::{
    sessions::{psql, sign_in, text},
    world::World,
};

#[tokio::test]
async fn a_credential_works_in_psql_as_the_group_role() {
    let world = World::start().await;
    let issued = world.admin.ask(&world.profile("read"), json!({ "tool": "psql" })).await;
    let issued = issued.expect(201);
    let user = issued["credential"]["user"].as_str().unwrap();
    assert_eq!(issued["lease"]["state"], "active");
    assert_eq!(issued["lease"]["role"], user);

    let said = psql(
        issued["credential"]["uri"].as_str().unwrap(),
        "select current_user, session_user, count(*) > 1000 from orders",
    )
    .await;
    assert!(said.ok, "{said:?}");
    assert_eq!(said.out, format!("pgvg_{}_read|{user}|t", world.name));

    let mut session = sign_in(&issued).await.unwrap();
    assert_eq!(text(&mut session, "current_user").await, format!("pgvg_{}_read", world.name));
    world.finish().await;
}
