//! What somebody else sends in a person's name, or leads their browser to send.

use crate::support::{
    browser::{Browser, ada_and_gus, world_with_provider},
    chromium::Chromium,
};

#[tokio::test]
async fn a_form_that_no_page_of_the_session_made_does_nothing() {
    let (mut world, _provider) = world_with_provider("").await;
    let (ada, gus) = ada_and_gus(&world).await;
    let ask = format!("/ask/{}", world.profile("read"));
    let (of_ada, of_gus) = (ada.form_token().await, gus.form_token().await);
    let ours = [("sec-fetch-site", "same-origin")];
    for token in ["", "x", &of_gus, &of_ada[1..]] {
        let sent = ada.post(&ask, &[("form_token", token), ("ttl", "5m")], &ours).await;
        assert_eq!(sent.status, 403, "{token}: {}", sent.text);
        assert!(sent.text.contains("Open the page again"), "{}", sent.text);
    }
    let sent = ada.post(&ask, &[("ttl", "5m")], &ours).await;
    assert_eq!(sent.status, 403, "{}", sent.text);
    // The right token, from a page of somebody else's.
    let elsewhere: [&[(&str, &str)]; 4] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
    ];
    for headers in elsewhere {
        let sent = ada.post(&ask, &[("form_token", &of_ada), ("ttl", "5m")], headers).await;
        assert_eq!(sent.status, 403, "{headers:?}: {}", sent.text);
    }
    // Without its cookie, it is nobody's.
    let nobody = Browser::new(&world.daemon.url);
    let sent = nobody.post(&ask, &[("form_token", &of_ada)], &ours).await;
    assert_eq!(sent.status, 401, "{}", sent.text);
    assert_eq!(world.live().await.len(), 0);

    let sent = ada.post(&ask, &[("form_token", &of_ada), ("ttl", "5m")], &ours).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    assert!(sent.text.contains("It is shown once"), "{}", sent.text);
    let (_, behind) = sent.text.split_once("id=\"password\" value=\"").unwrap();
    world.secrets.remember(behind.split('"').next().unwrap());
    let lease = world.live().await[0]["id"].as_str().unwrap().to_owned();
    let give_back = [("form_token", of_gus.as_str()), ("do", "give-back")];
    let sent = gus.post(&format!("/leases/{lease}"), &give_back, &ours).await;
    assert_eq!(sent.status, 404, "somebody else's is not there: {}", sent.text);
    // A form that one daemon made is good at another, as the session is; and over when that is.
    let mut other = world.another_daemon().await;
    let at_other = Browser::new(&other.url);
    *at_other.cookies.borrow_mut() = ada.cookies.borrow().clone();
    let lease = format!("/leases/{lease}");
    let sent = at_other.post(&lease, &[("form_token", &of_gus)], &ours).await;
    assert_eq!(sent.status, 403, "{}", sent.text);
    let sent = at_other.post(&lease, &[("form_token", &of_ada), ("do", "give-back")], &ours).await;
    assert_eq!(sent.location.as_deref(), Some(lease.as_str()), "{}", sent.text);
    let signed_out = ada.post("/sign-out", &[("form_token", &of_ada)], &ours).await;
    assert_eq!(signed_out.status, 303, "{}", signed_out.text);
    let sent = at_other.post(&ask, &[("form_token", &of_ada)], &ours).await;
    assert_eq!(sent.status, 401, "{}", sent.text);
    assert!(other.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn every_page_says_that_it_is_personal_and_may_load_nothing_from_elsewhere() {
    let (world, _provider) = world_with_provider("").await;
    let ada = Browser::new(&world.daemon.url);
    for path in ["/", "/leases/lse_00000000000000000000000000000000", "/nothing"] {
        let headers = [("sec-fetch-site", "none"), ("accept", "text/html,*/*")];
        let shown = ada.send(reqwest::Method::GET, path, &headers).await;
        assert!(shown.text.starts_with("<!doctype html>"), "{path}: {}", shown.text);
        assert!(!shown.text.contains("<script") && !shown.text.contains("style="), "{path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("x-robots-tag", "noindex, nofollow"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(shown.headers[name], value, "{path} {name}");
        }
        let policy = shown.headers["content-security-policy"].to_str().unwrap();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{path}: {policy}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_page_elsewhere_cannot_send_our_forms_and_a_link_there_opens_our_pages() {
    let Some(chromium) = Chromium::start().await else { return };
    let (world, provider) = world_with_provider("").await;
    let window = chromium.window(&world.daemon.url).await;
    window.sign_in("ada").await;
    world.secrets.remember(&window.session().await);
    let ask = format!("{}/ask/{}", world.daemon.url, world.profile("read"));
    // The provider's page is another origin: what runs there is as good as anybody's.
    window.open(&provider.issuer()).await;
    let forged = format!(
        "const form = document.createElement('form'); form.method = 'post'; form.action = '{ask}';
         document.body.append(form); form.submit();"
    );
    window.driver.script(&forged).await;
    window.says("Nothing was done").await;
    assert_eq!(world.live().await.len(), 0);

    window.open(&provider.issuer()).await;
    let link = format!(
        "const link = document.createElement('a'); link.href = '{}/'; link.textContent = 'to pgvalet';
         document.body.append(link);",
        world.daemon.url
    );
    window.driver.script(&link).await;
    window.press("to pgvalet").await;
    window.says("You are person:ada").await;
    window.close().await;
    world.finish().await;
}
