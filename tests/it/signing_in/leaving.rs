//! Somebody leaves the provider, or is moved there: it is noticed, and a provider that is silent is believed for a
//! while and no longer.

use serde_json::json;

use crate::support::{
    browser::{device_session, nobody, world_with_provider},
    eventually,
    people::lease_id,
    seconds,
};

#[tokio::test]
async fn who_leaves_the_provider_is_out_with_their_leases() {
    let (mut world, provider) = world_with_provider("recheck = \"1s\"\n").await;
    let mut second = world.another_daemon().await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let again = device_session(&nobody(&world), &provider, "sub-ada").await;
    let gus = device_session(&nobody(&world), &provider, "sub-gus").await;
    let lease = lease_id(&ada.ask(&world.profile("read"), json!({})).await.expect(201));
    provider.set_disabled("sub-ada", true);
    eventually("both sessions end", seconds(20), async || {
        ada.get("/v1/whoami").await.status == 401
            && again.at(&second.url).get("/v1/whoami").await.status == 401
    })
    .await;
    assert_eq!(world.gone(&lease, 20).await["cause"], "revoked");
    gus.get("/v1/whoami").await.expect(200);
    let gone = world.admin.get("/v1/audit?kind=person.gone").await.expect(200);
    let event = &gone["items"][0]["entry"]["event"];
    assert_eq!(
        (&event["principal"], &event["answer"]),
        (&json!("person:ada"), &json!("invalid_grant"))
    );
    // Back at the provider, they sign in as who they were.
    provider.set_disabled("sub-ada", false);
    let back = device_session(&nobody(&world), &provider, "sub-ada").await;
    assert_eq!(back.get("/v1/whoami").await.expect(200)["principal"], "person:ada");
    assert!(second.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn leases_stay_where_the_settings_say_so() {
    let more = "recheck = \"1s\"\nrevoke_leases = false\n";
    let (world, provider) = world_with_provider(more).await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let lease = lease_id(&ada.ask(&world.profile("read"), json!({})).await.expect(201));
    provider.set_disabled("sub-ada", true);
    eventually("the session ends", seconds(20), async || ada.get("/v1/whoami").await.status == 401)
        .await;
    assert_eq!(world.admin.lease(&lease).await["state"], "active");
    world.finish().await;
}

#[tokio::test]
async fn groups_that_change_are_taken_over_and_those_given_here_stay() {
    let (world, provider) = world_with_provider("recheck = \"1s\"\n").await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let given = json!({ "groups": ["on-call"] });
    world.admin.put("/v1/principals/person:ada/groups", &given).await.expect(204);
    let who = ada.get("/v1/whoami").await.expect(200);
    assert_eq!(who["groups"], json!(["acme", "on-call"]));
    provider.set_groups("sub-ada", &["moved", "No Name Of Ours"]);
    eventually("she is moved", seconds(20), async || {
        ada.get("/v1/whoami").await.body["groups"] == json!(["moved", "on-call"])
    })
    .await;
    assert!(world.daemon.log().contains("No Name Of Ours"), "what is left out is told");
    world.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_silent_is_believed_for_a_while() {
    let more = "recheck = \"1s\"\nbelieved_for = \"1h\"\n";
    let (world, provider) = world_with_provider(more).await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    provider.set_down(true);
    eventually("it was asked", seconds(20), async || {
        world.daemon.log().contains("could not be asked whether somebody is still there")
    })
    .await;
    ada.get("/v1/whoami").await.expect(200);
    provider.set_down(false);
    world.finish().await;
}

#[tokio::test]
async fn a_provider_that_stays_silent_is_not_believed_for_ever() {
    let more = "recheck = \"1s\"\nbelieved_for = \"1s\"\n";
    let (world, provider) = world_with_provider(more).await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let lease = lease_id(&ada.ask(&world.profile("read"), json!({})).await.expect(201));
    provider.set_down(true);
    eventually("the session ends", seconds(20), async || ada.get("/v1/whoami").await.status == 401)
        .await;
    assert_eq!(world.admin.lease(&lease).await["state"], "active", "silence ends no lease");
    provider.set_down(false);
    world.finish().await;
}
