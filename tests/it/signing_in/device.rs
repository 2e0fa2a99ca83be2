//! `pgvalet login`: by device.

use pgvalet::dev::provider::Provider;
use serde_json::{Value, json};

use crate::support::{
    browser::{click_device, device_session, nobody, poll, world_with_provider},
    eventually, milliseconds, seconds,
    sessions::try_text,
    world::World,
};

#[tokio::test]
async fn a_person_signs_in_and_asks_for_a_lease_on_every_daemon() {
    let (mut world, provider) = world_with_provider("").await;
    let mut second = world.another_daemon().await;
    let begun = nobody(&world).post("/v1/sign-in/device", &json!({})).await.expect(200);
    assert!(begun["address"].as_str().unwrap().starts_with(&provider.issuer()));
    let waiting = poll(&nobody(&world), &begun).await.expect(200);
    assert_eq!(waiting, json!({ "interval_seconds": 1 }), "nobody has been there");
    click_device(&provider, begun["user_code"].as_str().unwrap(), "sub-ada").await;

    // Begun at one daemon, it is finished at another.
    let elsewhere = nobody(&world).at(&second.url);
    let mut done = Value::Null;
    eventually("the session is there", seconds(10), async || {
        done = poll(&elsewhere, &begun).await.expect(200);
        done["secret"].is_string()
    })
    .await;
    let ada = world.admin.with_token(done["secret"].as_str().unwrap());
    let who = ada.get("/v1/whoami").await.expect(200);
    assert_eq!(
        (&who["principal"], &who["session"]),
        (&json!("person:ada"), &json!("command-line"))
    );
    assert_eq!((&who["groups"], &who["claims"]), (&json!(["acme"]), &json!({ "tenant_id": "1" })));
    assert_eq!(who["issuer"], provider.issuer());
    let token = &done["token"];
    assert_eq!((&token["kind"], &token["id"]), (&json!("session"), &who["token_id"]));
    assert_eq!(milliseconds(&token["created_at"], &token["expires_at"]), 12 * 3_600_000);
    ada.ask(&world.profile("read"), json!({})).await.expect(201);

    // It gives one session, and what the provider is asked with later is nobody's to read.
    poll(&nobody(&world), &begun).await.expect_problem(403, "sign_in_over");
    let refresh = provider.refresh_tokens().pop().unwrap();
    world.secrets.remember(&refresh);
    let kept = "SELECT count(*) FROM token WHERE provider_token IS NOT NULL";
    assert_eq!(try_text(&mut world.on_state().await, kept).await.unwrap(), "1");
    let clear = format!(
        "SELECT count(*) FROM token t WHERE position('{refresh}'::bytea in t.provider_token) > 0"
    );
    assert_eq!(try_text(&mut world.on_state().await, &clear).await.unwrap(), "0");

    // Ended at one daemon, it is refused by the other at once.
    let path = format!("/v1/tokens/{}", who["token_id"].as_str().unwrap());
    ada.at(&second.url).delete(&path).await.expect(204);
    ada.get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert!(second.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn the_provider_is_asked_no_more_often_than_it_says() {
    let (world, provider) = world_with_provider("").await;
    provider.set_interval(3);
    let at = nobody(&world);
    let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
    assert_eq!(poll(&at, &begun).await.expect(200)["interval_seconds"], 3);
    click_device(&provider, begun["user_code"].as_str().unwrap(), "sub-ada").await;
    let waiting = poll(&at, &begun).await.expect(200);
    assert!(waiting["secret"].is_null(), "asked again at once: {waiting}");

    // It wants to be asked less often than it said: it is.
    provider.set_interval(5);
    let mut seen = Value::Null;
    eventually("it slows down", seconds(10), async || {
        seen = poll(&at, &begun).await.expect(200);
        seen["interval_seconds"] == 8
    })
    .await;
    eventually("the session is there", seconds(20), async || {
        let answer = poll(&at, &begun).await;
        answer.body["secret"].is_string()
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn what_comes_to_nothing_says_why() {
    let (world, provider) = world_with_provider("").await;
    let at = nobody(&world);
    let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
    click_device(&provider, begun["user_code"].as_str().unwrap(), "").await;
    poll(&at, &begun).await.expect_problem(403, "sign_in_denied");
    poll(&at, &begun).await.expect_problem(403, "sign_in_over");

    let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
    provider.expire_devices();
    poll(&at, &begun).await.expect_problem(403, "sign_in_over");

    let guessed = json!({ "secret": "x".repeat(43) });
    let guessed = at.post("/v1/sign-in/device/poll", &guessed).await;
    guessed.expect_problem(403, "sign_in_over");

    let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
    provider.set_down(true);
    poll(&at, &begun).await.expect_problem(503, "provider_unavailable");
    at.post("/v1/sign-in/device", &json!({})).await.expect_problem(503, "provider_unavailable");
    provider.set_down(false);
    click_device(&provider, begun["user_code"].as_str().unwrap(), "sub-gus").await;
    eventually("it goes on where it was", seconds(10), async || {
        poll(&at, &begun).await.body["secret"].is_string()
    })
    .await;
    let refused = world.admin.get("/v1/audit?kind=sign-in.refused&limit=50").await.expect(200);
    assert_eq!(refused["items"].as_array().unwrap().len(), 4, "{refused}");
    world.finish().await;
}

#[tokio::test]
async fn one_network_begins_no_more_than_is_reasonable() {
    let (world, _provider) = world_with_provider("").await;
    let at = nobody(&world);
    for _ in 0..60 {
        at.post("/v1/sign-in/device", &json!({})).await.expect(200);
    }
    let refused = at.post("/v1/sign-in/device", &json!({})).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.expect_problem(429, "throttled");
    world.finish().await;
}

#[tokio::test]
async fn a_daemon_without_a_provider_or_a_provider_without_devices_says_so() {
    let world = World::start().await;
    let told = nobody(&world).post("/v1/sign-in/device", &json!({})).await;
    let told = told.expect_problem(409, "no_provider");
    assert!(told["detail"].as_str().unwrap().contains("--token -"), "{told}");
    world.finish().await;

    let provider = Provider::start().await.unwrap();
    provider.forget_devices();
    let settings = String::leak(provider.settings(""));
    let plan = crate::support::world::Plan { settings, ..Default::default() };
    let world = World::with(plan).await;
    let told = nobody(&world).post("/v1/sign-in/device", &json!({})).await;
    let told = told.expect_problem(409, "no_device_sign_in");
    assert!(told["detail"].as_str().unwrap().contains(&format!("{}/sign-in", world.daemon.url)));
    world.finish().await;
}

#[tokio::test]
async fn a_client_with_a_secret_proves_it() {
    let provider = Provider::start().await.unwrap();
    let settings = format!(
        "{}[throttle]\nfailures_per_minute = 100",
        provider.settings("client_secret = \"s3 cr+t\"\n")
    );
    let plan =
        crate::support::world::Plan { settings: String::leak(settings), ..Default::default() };
    let world = World::with(plan).await;
    world.secrets.remember("s3 cr+t");
    provider.require_secret("s3+cr%2Bt");
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    assert_eq!(ada.get("/v1/whoami").await.expect(200)["principal"], "person:ada");
    provider.require_secret("another");
    let refused = nobody(&world).post("/v1/sign-in/device", &json!({})).await;
    refused.expect_problem(403, "provider_refused");
    world.finish().await;
}
