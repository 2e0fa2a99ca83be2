//! Two who agree and one who says no, in the same instant: one decision, and one lease at most.

use std::time::{Duration, Instant};

use pgvalet::dev::slack::acts::Sending;
use serde_json::{Value, json};

use crate::{
    slack::Place,
    support::{eventually, people::Person, seconds},
};

/// As many rounds as fit, of a thousand; and no fewer than these.
const ROUNDS: usize = 1000;
const AT_LEAST: usize = 100;
const FOR: Duration = Duration::from_secs(60);

/// One of so many approved requests is claimed, twice at once; the others are withdrawn.
const CLAIM_EACH: usize = 20;

struct Round<'a> {
    place: &'a Place,
    asker: &'a Person,
    profile: &'a str,
}

impl Round<'_> {
    /// Gives which request it was, and how it ended.
    async fn play(&self, claim: bool) -> (String, String) {
        let body = self.asker.ask(self.profile, json!({ "reason": "x" })).await.expect(202);
        let id = body["id"].as_str().unwrap();
        let slack = &self.place.slack;
        let approve = |user| slack.pressed(user, "approve", id);
        let sendings: [(&str, Sending); 3] = [
            ("U0GUS", approve("U0GUS")),
            (
                "U0MIA",
                slack.sent_form(
                    "U0MIA",
                    "pgvalet-deny",
                    &json!({ "request": id }),
                    &[("comment", "no")],
                ),
            ),
            ("U0ADA", approve("U0ADA")),
        ];
        let heard =
            futures_util::future::join_all(sendings.iter().map(|(_, sending)| slack.send(sending)))
                .await;
        assert!(heard.iter().all(|heard| heard.status == Some(200)), "{heard:?}");
        let path = format!("/v1/requests/{id}");
        let mut request = Value::Null;
        eventually("a decision", seconds(20), async || {
            request = self.asker.get(&path).await.expect(200);
            request["state"] != "pending"
        })
        .await;
        let state = request["state"].as_str().unwrap().to_owned();
        if claim && state == "approved" {
            let (address, nothing) = (format!("{path}/claim"), json!({}));
            let (one, other) = tokio::join!(
                self.asker.post(&address, &nothing),
                self.asker.post(&address, &nothing)
            );
            let with = [&one, &other]
                .iter()
                .filter(|answer| answer.body["credential"]["password"].is_string())
                .count();
            assert_eq!(with, 1, "{} {}", one.text, other.text);
        } else if state == "approved" {
            self.asker.post(&format!("{path}/withdraw"), &json!({})).await.expect(200);
        } else {
            let refused = self.asker.post(&format!("{path}/claim"), &json!({})).await;
            assert!(refused.status >= 400, "{}", refused.text);
        }
        (path, state)
    }
}

#[tokio::test]
async fn two_who_agree_and_one_who_says_no_at_once_make_one_decision() {
    let plan = crate::support::world::Plan { log: "info", ..Default::default() };
    let place = Place::with(plan).await;
    let profile = place.guarded(&["group:globex", "group:acme", "group:platform"], json!({})).await;
    for (user, subject) in [("U0ADA", "sub-ada"), ("U0GUS", "sub-gus"), ("U0MIA", "sub-mia")] {
        place.link(user, subject).await;
    }
    let asker = place.world.person("olga", &[]).await;
    let round = Round { place: &place, asker: &asker, profile: &profile };
    let began = Instant::now();
    let heard = || place.slack.answers("U0ADA").len() + place.slack.answers("U0GUS").len();
    let heard_before = heard();
    let (mut played, mut approved, mut denied) = (Vec::new(), 0, 0);
    while played.len() < ROUNDS && (played.len() < AT_LEAST || began.elapsed() < FOR) {
        let (request, state) = round.play(played.len() % CLAIM_EACH == 0).await;
        match state.as_str() {
            "approved" => approved += 1,
            "denied" => denied += 1,
            other => panic!("{other}"),
        }
        played.push(request);
    }
    // Also those who came late were heard; and still each request has one vote.
    eventually("everybody is answered", seconds(30), async || {
        heard() == heard_before + 2 * played.len()
    })
    .await;
    for request in &played {
        let votes = asker.get(request).await.expect(200)["votes"].clone();
        assert_eq!(votes.as_array().unwrap().len(), 1, "{votes}");
    }
    let played = played.len();
    println!("{played} rounds in {:?}: {approved} approved, {denied} denied", began.elapsed());
    assert!(approved > 0, "a race that one side always wins is none");
    place.finish().await;
}
