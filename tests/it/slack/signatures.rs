//! Whose word is taken: what Slack signed, as it signed it, within five minutes, of one of our workspaces.

use chrono::Utc;
use pgvalet::identity::slack::{SIGNATURE, TIMESTAMP};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::{slack::Place, support::world::World};

async fn send(url: &str, headers: &[(&'static str, String)], body: &str) -> (u16, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
    }
    let request = http.post(format!("{url}/slack/commands")).headers(all);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn only_what_slack_signed_just_now_is_taken_and_only_as_it_was_sent() {
    let place = Place::start().await;
    let url = &place.world.daemon.url;
    let now = Utc::now().timestamp();
    let help = || place.slack.command("U0ADA", "help").body;

    let body = help();
    for at in [now, now - 295, now + 295] {
        let body = help();
        assert_eq!(
            send(url, &place.slack.signed(at, &body), &body).await,
            (200, String::new()),
            "{at}"
        );
    }
    let refused = async |headers: &[(&'static str, String)], body: &str, why: &str| {
        let (status, said) = send(url, headers, body).await;
        assert_eq!(status, 401, "{why}: {said}");
        assert!(said.contains("not_from_slack"), "{why}: {said}");
    };
    for at in [now - 302, now + 310, 0] {
        refused(&place.slack.signed(at, &body), &body, "stale").await;
    }
    let good = place.slack.signed(now, &body);
    let mut changed = body.clone().into_bytes();
    changed[20] ^= 1;
    refused(&good, &String::from_utf8(changed).unwrap(), "one bit changed").await;
    refused(&good, &body.replace("%2F", "%2f"), "written anew").await;
    refused(&good, &format!("{body}&text=shop"), "longer").await;
    let later = (TIMESTAMP, (now + 1).to_string());
    refused(&[later, good[1].clone()], &body, "another time").await;
    let [time, signature] = good.clone();
    refused(std::slice::from_ref(&time), &body, "no signature").await;
    refused(std::slice::from_ref(&signature), &body, "no time").await;
    refused(&[time.clone(), signature.clone(), signature.clone()], &body, "two signatures").await;
    let bits: String = signature.1.replace("v0=", "v0=0").chars().take(67).collect();
    refused(&[time, (SIGNATURE, bits)], &body, "another signature").await;

    let stranger = body.replace("T0PLAYGROUND", "T0ELSEWHERE");
    let (status, said) = send(url, &place.slack.signed(now, &stranger), &stranger).await;
    assert_eq!(status, 403, "{said}");
    assert!(said.contains("T0ELSEWHERE"), "{said}");
    let form = "payload=%7B%7D";
    let (status, _) = send(url, &place.slack.signed(now, form), form).await;
    assert_eq!(status, 401, "signed, and no command");
    // The three that were good are answered, and nothing else is.
    crate::support::eventually("three answers", crate::support::seconds(20), async || {
        place.slack.answers("U0ADA").len() == 3
    })
    .await;
    place.finish().await;
}

#[tokio::test]
async fn without_slack_in_the_settings_there_is_nothing_to_send_to() {
    let world = World::start().await;
    let (status, said) = send(&world.daemon.url, &[], "text=help").await;
    assert_eq!(status, 404, "{said}");
    assert!(said.contains("no_slack"), "{said}");
    world.finish().await;
}
