//! Signing in in a browser: what it brings back is taken from it alone, once; and its cookie speaks for pages of
//! ours alone.

use reqwest::{Method, Url};
use serde_json::json;

use crate::support::{
    browser::{Browser, Shown, device_session, nobody, world_with_provider},
    world::World,
};

fn with(back: &Url, name: &str, value: Option<&str>) -> String {
    let mut url = back.clone();
    let kept: Vec<(String, String)> =
        back.query_pairs().into_owned().filter(|(seen, _)| seen != name).collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
    if let Some(value) = value {
        url.query_pairs_mut().append_pair(name, value);
    }
    url.into()
}

fn of(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(seen, _)| seen == name).unwrap().1.into_owned()
}

#[track_caller]
fn refused(shown: &Shown, words: &str) {
    assert_eq!(shown.status, 403, "{}", shown.text);
    assert!(
        shown.text.contains(words) && shown.text.starts_with("<!doctype html>"),
        "{}",
        shown.text
    );
    assert!(
        !shown
            .headers
            .get_all("set-cookie")
            .iter()
            .any(|set| set.to_str().unwrap().starts_with("pgvalet=p"))
    );
}

#[tokio::test]
async fn a_person_signs_in_sees_their_leases_and_signs_out() {
    let (world, _provider) = world_with_provider("").await;
    let browser = Browser::new(&world.daemon.url);
    assert!(browser.get("/").await.text.contains("href=\"/sign-in\""));
    let asked = browser.set_out("/").await;
    assert_eq!(of(&asked, "code_challenge_method"), "S256");
    let back = browser.click(&asked, "sub-ada").await;
    let arrived = browser.get(back.as_str()).await;
    assert_eq!((arrived.status, arrived.location.as_deref()), (303, Some("/")), "{}", arrived.text);
    let session = browser.session().unwrap();
    world.secrets.remember(&session);

    let front = browser.get("/").await;
    assert!(front.text.contains("<strong>person:ada</strong>, in acme"), "{}", front.text);
    assert!(front.text.contains("no live leases"), "{}", front.text);
    // A link of anybody's leads here; what is not a whole page is not shown to it.
    for (mode, destination, status) in
        [("navigate", "document", 200), ("navigate", "iframe", 403), ("no-cors", "image", 403)]
    {
        let headers = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", destination),
        ];
        assert_eq!(browser.send(Method::GET, "/", &headers).await.status, status, "{mode}");
    }
    let policy = front.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'"), "{policy}");
    assert_eq!(front.headers["cache-control"], "no-store");
    assert_eq!(browser.get("/page.css").await.status, 200);

    // The cookie reads the API too, and changes nothing unless a page of ours asks.
    assert_eq!(browser.get("/v1/whoami").await.status, 200);
    let elsewhere =
        browser.send(Method::GET, "/v1/whoami", &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(elsewhere.status, 403, "{}", elsewhere.text);
    for headers in [
        vec![],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("sec-fetch-site", "none")],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
    ] {
        let shown = browser.send(Method::DELETE, "/v1/sessions", &headers).await;
        assert_eq!(shown.status, 403, "{headers:?}: {}", shown.text);
        assert!(shown.text.contains("another_page"), "{}", shown.text);
        assert_eq!(browser.send(Method::POST, "/sign-out", &headers).await.status, 403);
    }
    let ours = [("origin", world.daemon.url.as_str())];
    assert_eq!(browser.post("/sign-out", &[], &ours).await.status, 403);
    let token = browser.form_token().await;
    let out = browser.post("/sign-out", &[("form_token", &token)], &ours).await;
    assert_eq!((out.status, browser.session()), (303, None), "{}", out.text);
    browser.cookies.borrow_mut().insert("pgvalet".to_owned(), session);
    assert!(browser.get("/").await.text.contains("href=\"/sign-in\""), "it is over here too");
    world.finish().await;
}

#[tokio::test]
async fn a_cookie_is_no_token_and_a_token_no_cookie() {
    let (world, provider) = world_with_provider("").await;
    let browser = Browser::new(&world.daemon.url);
    browser.sign_in("sub-ada", "/").await;
    let cookie = browser.session().unwrap();
    let as_token = world.admin.with_token(&cookie);
    as_token.get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert_eq!(browser.get("/v1/whoami").await.status, 200, "where it belongs it still holds");

    let session = device_session(&nobody(&world), &provider, "sub-ada").await;
    for token in [&session.token, &world.admin.token] {
        let other = Browser::new(&world.daemon.url);
        other.cookies.borrow_mut().insert("pgvalet".to_owned(), token.clone());
        assert_eq!(other.get("/v1/whoami").await.status, 401);
    }
    // Two of one name: somebody put one there.
    let twice = format!("pgvalet={cookie}; pgvalet={cookie}");
    let other = Browser::new(&world.daemon.url);
    let shown = other.send(Method::GET, "/v1/whoami", &[("cookie", &twice)]).await;
    assert_eq!(shown.status, 401);
    world.finish().await;
}

#[tokio::test]
async fn only_the_browser_that_was_sent_away_comes_back_and_once() {
    let (world, _provider) = world_with_provider("").await;
    let (ada, gus) = (Browser::new(&world.daemon.url), Browser::new(&world.daemon.url));
    let asked = ada.set_out("/").await;
    let back = ada.click(&asked, "sub-ada").await;

    refused(&ada.get(&with(&back, "state", Some("another"))).await, "over");
    refused(&ada.get(&with(&back, "state", None)).await, "over");
    // Somebody led another browser to the end of a sign-in that it did not begin.
    refused(&gus.get(back.as_str()).await, "over");
    gus.set_out("/").await;
    refused(&gus.get(back.as_str()).await, "over");
    // The right one may still come, and not again.
    let cookies = ada.cookies.borrow().clone();
    assert_eq!(ada.get(back.as_str()).await.status, 303);
    *ada.cookies.borrow_mut() = cookies;
    refused(&ada.get(back.as_str()).await, "over");
    world.finish().await;
}

#[tokio::test]
async fn another_persons_code_another_provider_and_a_no_give_no_session() {
    let (world, provider) = world_with_provider("").await;
    let (ada, gus) = (Browser::new(&world.daemon.url), Browser::new(&world.daemon.url));
    let of_ada = ada.click(&ada.set_out("/").await, "sub-ada").await;
    let of_gus = gus.click(&gus.set_out("/").await, "sub-gus").await;
    let stolen = with(&of_gus, "code", Some(&of(&of_ada, "code")));
    refused(&gus.get(&stolen).await, "invalid_grant");

    let back = gus.click(&gus.set_out("/").await, "sub-gus").await;
    refused(&gus.get(&with(&back, "iss", Some("https://evil.example"))).await, "another provider");
    refused(&gus.get(back.as_str()).await, "over");

    let denied = gus.sign_in("", "/").await;
    refused(&denied, "access_denied");
    let back = gus.click(&gus.set_out("/").await, "sub-gus").await;
    refused(&gus.get(&with(&back, "code", None)).await, "invalid_grant");

    provider.set_down(true);
    let shown = gus.get("/sign-in").await;
    // Where to sign in was read before; the provider's own page says the rest.
    assert_eq!(shown.status, 303, "{}", shown.text);
    provider.set_down(false);
    assert_eq!(gus.session(), None);
    world.finish().await;
}

#[tokio::test]
async fn a_browser_is_sent_on_to_pages_of_ours_alone() {
    let (world, _provider) = world_with_provider("").await;
    for (next, arrives) in [
        ("/docs/", "/docs/"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("", "/"),
    ] {
        let browser = Browser::new(&world.daemon.url);
        let arrived = browser.sign_in("sub-ada", next).await;
        assert_eq!(arrived.location.as_deref(), Some(arrives), "{next}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_session_ends_when_nobody_uses_it_and_at_the_latest_when_it_must() {
    let more = "browser = { absolute = \"1h\", idle = \"2s\" }\ncommand_line = { absolute = \"3s\", idle = \"3s\" }\n";
    let (world, provider) = world_with_provider(more).await;
    let browser = Browser::new(&world.daemon.url);
    browser.sign_in("sub-ada", "/").await;
    let session = device_session(&nobody(&world), &provider, "sub-gus").await;
    let list = world.admin.get("/v1/principals/person:ada").await.expect(200);
    assert_eq!(list["sessions"], 1);
    crate::support::eventually("both are over", crate::support::seconds(10), async || {
        let mut over =
            world.admin.get("/v1/principals/person:ada").await.expect(200)["sessions"] == 0;
        over &= session.get("/v1/whoami").await.status == 401;
        over
    })
    .await;
    assert_eq!(browser.get("/v1/whoami").await.status, 401);
    world.finish().await;
}

#[tokio::test]
async fn without_a_provider_the_front_page_leads_to_the_api() {
    let world = World::start().await;
    let browser = Browser::new(&world.daemon.url);
    assert_eq!(browser.get("/").await.location.as_deref(), Some("/docs/"));
    let shown = browser.get("/sign-in").await;
    assert_eq!(shown.status, 409, "{}", shown.text);
    assert!(shown.text.contains("no identity provider"), "{}", shown.text);
    assert_eq!(json!(browser.session()), json!(null));
    world.finish().await;
}
