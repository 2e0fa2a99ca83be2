//! The keys of issuers: fetched once, anew when they change, and never from elsewhere.

use serde_json::{Value, json};

use crate::{
    ci_jobs::{job, last_refusal, let_storefront_in, storefront},
    support::{
        issuer::{Instead, Issuer, Key},
        world::{Plan, World},
    },
};

#[tokio::test]
async fn a_rotated_key_is_found_and_an_invented_one_is_not_looked_for_again() {
    let settings = "[throttle]\nfailures_per_minute = 10000";
    let world = World::with(Plan { settings, ..Plan::default() }).await;
    let issuer = Issuer::start().await;
    let_storefront_in(&world, &issuer).await;
    let first = issuer.key();
    job(&world, &issuer.token(&storefront())).get("/v1/whoami").await.expect(200);
    assert_eq!(issuer.asked(), 1);

    // Known keys go on while nobody is asked: the next question is due in ten seconds.
    let second = Key::elliptic("second");
    let oct = json!({ "kty": "oct", "kid": "first", "k": "c2VjcmV0", "alg": "HS256" });
    let unknown = json!({ "kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA" });
    let twin = Key::rsa("second");
    issuer.move_keys("/moved");
    issuer.publish(&second, &[oct, unknown, twin.published(), second.published()]);
    for _ in 0..20 {
        let invented = Key::rsa("invented").sign(&issuer.claims(&storefront()));
        job(&world, &invented).get("/v1/whoami").await.expect_problem(401, "token_refused");
    }
    assert!(issuer.asked() <= 2, "asked {} times", issuer.asked());
    assert!(last_refusal(&world).await.contains("no key `invented`"));

    // Of two keys with one name, the one of the token's kind is taken.
    crate::support::eventually("the new key is known", crate::support::seconds(20), async || {
        let token = issuer.token(&storefront());
        job(&world, &token).get("/v1/whoami").await.status == 200
    })
    .await;
    let withdrawn = first.sign(&issuer.claims(&storefront()));
    job(&world, &withdrawn).get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert!(issuer.asked() <= 4, "asked {} times", issuer.asked());
    world.finish().await;
}

#[tokio::test]
async fn an_issuer_that_cannot_be_believed_lets_nobody_in_and_is_told_from_a_wrong_token() {
    for instead in [Instead::Fail, Instead::Redirect, Instead::TooLong, Instead::AnotherIssuer] {
        let (world, issuer) = (World::start().await, Issuer::start().await);
        let_storefront_in(&world, &issuer).await;
        issuer.instead(Some(instead));
        let answer = job(&world, &issuer.token(&storefront())).get("/v1/whoami").await;
        assert_eq!(answer.status, 503, "{instead:?} {}", answer.text);
        answer.expect_problem(503, "issuer_unavailable");
        issuer.instead(None);
        // A second later it is asked again.
        crate::support::eventually("it is asked again", crate::support::seconds(10), async || {
            let token = issuer.token(&storefront());
            job(&world, &token).get("/v1/whoami").await.status == 200
        })
        .await;
        assert_eq!(world.live().await, Vec::<Value>::new());
        world.finish().await;
    }
}
