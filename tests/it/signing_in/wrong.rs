//! Every token that a provider, or somebody in its place, may get wrong: nobody gets a session by one, and nobody
//! is recorded.

use pgvalet::dev::provider::Wrong;
use serde_json::{Value, json};

use crate::support::{
    browser::{Browser, click_device, device_session, nobody, poll, world_with_provider},
    eventually, seconds,
    world::World,
};

/// Each wrong thing, and words of what is said of it.
const TABLE: [(Wrong, &str); 15] = [
    (Wrong::Nonce, "another sign-in"),
    (Wrong::Audience, "its audience is `another`"),
    (Wrong::TwoAudiences, "another client"),
    (Wrong::Party, "another client"),
    (Wrong::Issuer, "its issuer is"),
    (Wrong::Expired, "it ended at"),
    (Wrong::NotYet, "it is good from"),
    (Wrong::Old, "it was issued at"),
    (Wrong::UnknownKey, "no key `nobody-has-it`"),
    (Wrong::StrangeKey, "its signature is wrong"),
    (Wrong::Unsigned, "signed with `none`"),
    (Wrong::PublicKeyAsSecret, "signed with `HS256`"),
    (Wrong::Altered, "its signature is wrong"),
    (Wrong::NoSubject, "`sub`"),
    (Wrong::Missing, "no ID token"),
];

async fn people(world: &World) -> Value {
    let mut page = world.admin.get("/v1/principals?kind=person").await.expect(200);
    let names = page["items"].as_array_mut().unwrap().iter().map(|one| one["principal"].clone());
    names.collect()
}

#[tokio::test]
async fn no_wrong_token_signs_anybody_in_in_a_browser() {
    let (world, provider) = world_with_provider("").await;
    let before = people(&world).await;
    for (wrong, words) in TABLE {
        let browser = Browser::new(&world.daemon.url);
        provider.next_token_is(wrong);
        let shown = browser.sign_in("sub-ada", "/").await;
        assert_eq!(shown.status, 403, "{wrong:?}: {}", shown.text);
        let text = shown.text.replace("&#39;", "'");
        assert!(text.contains(words), "{wrong:?}: {text}");
        assert_eq!(browser.session(), None, "{wrong:?}");
    }
    assert_eq!(people(&world).await, before);
    let browser = Browser::new(&world.daemon.url);
    assert_eq!(browser.sign_in("sub-ada", "/").await.status, 303, "and a good one does");
    let refused = world.admin.get("/v1/audit?kind=sign-in.refused&limit=50").await.expect(200);
    assert_eq!(refused["items"].as_array().unwrap().len(), TABLE.len());
    world.finish().await;
}

#[tokio::test]
async fn no_wrong_token_signs_anybody_in_on_a_device() {
    let (world, provider) = world_with_provider("").await;
    let (at, before) = (nobody(&world), people(&world).await);
    // A device's sign-in has no nonce.
    for (wrong, words) in TABLE.into_iter().skip(1) {
        let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
        click_device(&provider, begun["user_code"].as_str().unwrap(), "sub-ada").await;
        provider.next_token_is(wrong);
        let problem = poll(&at, &begun).await.expect_problem(403, "id_token_refused");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{wrong:?}: {problem}");
        poll(&at, &begun).await.expect_problem(403, "sign_in_over");
    }
    assert_eq!(people(&world).await, before);
    device_session(&at, &provider, "sub-ada").await;
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_and_one_that_was_taken_back_is_not_believed() {
    let (world, provider) = world_with_provider("").await;
    device_session(&nobody(&world), &provider, "sub-ada").await;
    provider.rotate_keys().unwrap();
    // The issuer is asked for an unknown key at most every ten seconds.
    eventually("the new key is known", seconds(20), async || {
        let at = nobody(&world);
        let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
        click_device(&provider, begun["user_code"].as_str().unwrap(), "sub-ada").await;
        poll(&at, &begun).await.status == 200
    })
    .await;
    world.finish().await;
}
