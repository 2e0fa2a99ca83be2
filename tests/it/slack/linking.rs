//! Whose account it is: said by its person, signed in, with a click; never by a name.

use reqwest::Method;
use serde_json::json;

use crate::{
    slack::Place,
    support::{browser::Browser, eventually, seconds, world::Plan},
};

const OURS: (&str, &str) = ("sec-fetch-site", "same-origin");

#[tokio::test]
async fn a_link_is_used_up_by_its_persons_click_and_by_nothing_else() {
    let place = Place::start().await;
    // Slack calls this account `ada`, and that makes it nobody's.
    let path = place.link_for("U0ADA").await;
    let code = path.split_once("code=").unwrap().1.to_owned();
    let preview = Browser::new(&place.world.daemon.url);
    for _ in 0..3 {
        let seen = preview.get(&path).await;
        assert_eq!(seen.status, 200, "{}", seen.text);
        assert!(seen.text.contains("/sign-in?next=/slack/link%3Fcode%3D"), "{}", seen.text);
        assert!(seen.headers["x-robots-tag"].to_str().unwrap().contains("noindex"));
    }
    // Signed in, it is shown whose account would become whose; to look at it still does nothing.
    let ada = Browser::new(&place.world.daemon.url);
    let arrived = ada.sign_in("sub-ada", &path).await;
    place.world.secrets.remember(&ada.session().unwrap());
    assert_eq!(arrived.location.as_deref(), Some(path.as_str()));
    for _ in 0..2 {
        let asked = ada.get(&path).await;
        assert_eq!(asked.status, 200, "{}", asked.text);
        for words in ["U0ADA", "@ada", "T0PLAYGROUND", "person:ada", "Yes, it is mine"] {
            assert!(asked.text.contains(words), "{words}: {}", asked.text);
        }
    }
    let token = ada.form_token().await;
    let fields = [("form_token", token.as_str()), ("code", code.as_str())];
    // A page of somebody else's cannot click for her, nor can a form without her session's token.
    for (fields, site) in [(&fields[..], "cross-site"), (&fields[1..], "same-origin")] {
        let forged = ada.post("/slack/link", fields, &[("sec-fetch-site", site)]).await;
        assert_eq!(forged.status, 403, "{}", forged.text);
    }
    assert!(preview.post("/slack/link", &fields, &[OURS]).await.status >= 400);
    let linked = ada.post("/slack/link", &fields, &[OURS]).await;
    assert_eq!(linked.status, 200, "{}", linked.text);
    // Once: not again, by her or by whoever has the link.
    let gus = Browser::new(&place.world.daemon.url);
    gus.sign_in("sub-gus", "/").await;
    place.world.secrets.remember(&gus.session().unwrap());
    let token = gus.form_token().await;
    let again = gus.post("/slack/link", &[("form_token", &token), ("code", &code)], &[OURS]).await;
    assert_eq!(again.status, 409, "{}", again.text);
    assert!(again.text.contains("link was used"), "{}", again.text);
    assert_eq!(gus.send(Method::GET, &path, &[("sec-fetch-site", "none")]).await.status, 409);

    let said = place.says("U0ADA", "mine").await;
    assert!(said.contains("no open requests"), "{said}");
    place.finish().await;
}

#[tokio::test]
async fn whoever_did_not_sign_in_for_long_signs_in_first() {
    let place = Place::told("sign_in_every = \"2s\"", Plan::default()).await;
    let browser = place.link("U0ADA", "sub-ada").await;
    let mut said = String::new();
    eventually("it is a while", seconds(20), async || {
        said = place.says("U0ADA", "mine").await;
        said.contains("It is a while since you signed in")
    })
    .await;
    assert!(said.contains("/sign-in|"), "{said}");
    browser.sign_in("sub-ada", "/").await;
    place.world.secrets.remember(&browser.session().unwrap());
    let said = place.says("U0ADA", "mine").await;
    assert!(said.contains("no open requests"), "{said}");
    place.finish().await;
}

#[tokio::test]
async fn an_administrator_unlinks_and_links_nobody_and_the_disabled_get_nothing() {
    let place = Place::start().await;
    place.link("U0ADA", "sub-ada").await;
    let admin = &place.world.admin;
    let slack = json!({ "issuer": "slack:T0PLAYGROUND", "subject": "U0GUS" });
    let path = "/v1/principals/person:ada/identities";
    let refused = admin.post(path, &slack).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("linked by its person alone"), "{}", refused.text);

    let disabled = admin.post("/v1/principals/person:ada/disable", &json!({})).await;
    assert!(disabled.status < 300, "{}", disabled.text);
    let said = place.says("U0ADA", "mine").await;
    assert!(said.contains("you are disabled here"), "{said}");
    let enabled = admin.post("/v1/principals/person:ada/enable", &json!({})).await;
    assert!(enabled.status < 300, "{}", enabled.text);
    assert!(place.says("U0ADA", "mine").await.contains("no open requests"));

    let unlink = format!("{path}?issuer=slack:T0PLAYGROUND&subject=U0ADA");
    let gone = admin.delete(&unlink).await;
    assert!(gone.status < 300, "{}", gone.text);
    assert!(place.says("U0ADA", "mine").await.contains("/slack/link?code="));
    place.finish().await;
}
