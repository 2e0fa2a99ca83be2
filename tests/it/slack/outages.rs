//! Slack slow, broken or gone, and our database: every message arrives once, in order, and nothing that was asked is
//! lost.

use std::time::Instant;

use pgvalet::dev::slack::{CHANNEL, Mood, Posted};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    slack::{Place, request_in, whole},
    support::{
        eventually,
        postgres::{Postgres, own_cluster},
        seconds,
        world::Plan,
    },
};

/// The requests that the channel shows, in its order.
fn shown(place: &Place) -> Vec<String> {
    let all = place.slack.messages(CHANNEL);
    all.iter()
        .filter(|posted| posted.thread.is_none())
        .map(|posted| request_in(&whole(posted)))
        .collect()
}

#[tokio::test]
async fn whatever_slack_answers_every_message_arrives_once_and_in_order() {
    let place = Place::start().await;
    let profile = place.guarded(&["group:globex"], json!({})).await;
    let gus = place.session("sub-gus").await;
    let asker = place.world.person("olga", &[]).await;
    // The same wish again would be the same request.
    let wishes = std::cell::Cell::new(0);
    let ask = async || {
        wishes.set(wishes.get() + 1);
        let reason = format!("wish {}", wishes.get());
        let body = asker.ask(&profile, json!({ "reason": reason })).await.expect(202);
        body["id"].as_str().unwrap().to_owned()
    };
    let mut asked = Vec::new();
    for moods in [
        vec![Mood::TooMany(1)],
        vec![Mood::Broken, Mood::Broken],
        vec![Mood::Garbage],
        vec![Mood::BrokenAfterDoing],
        vec![Mood::CutAfterDoing],
        vec![Mood::Silent],
        vec![Mood::CutAfterDoing, Mood::Garbage, Mood::TooMany(1)],
    ] {
        place.slack.is_next(&moods);
        let id = ask().await;
        place.shows(&id, "Waits for an answer").await;
        asked.push(id);
    }
    // All of it gone for a while: requests go on, are decided, and nobody waits for Slack.
    place.slack.is(Mood::Broken);
    for verdict in ["deny", "approve", "withdraw"] {
        let id = ask().await;
        let who = if verdict == "withdraw" { &asker } else { &gus };
        let body = if verdict == "deny" { json!({ "comment": "no" }) } else { json!({}) };
        who.post(&format!("/v1/requests/{id}/{verdict}"), &body).await.expect(200);
        asked.push(id);
    }
    place.slack.is(Mood::Well);
    let [.., denied, approved, withdrawn] = asked.as_slice() else { panic!("{asked:?}") };
    place.shows(denied, "*denied*").await;
    place.shows(approved, "*Approved*").await;
    place.shows(withdrawn, "*withdrawn*").await;
    let mut once = shown(&place);
    assert_eq!(once.len(), asked.len(), "{once:?}");
    // What was asked one after the other stands so; what waited meanwhile keeps the order of each request.
    once.truncate(7);
    assert_eq!(once, asked[..7]);
    // Whoever asked has no account at Slack: they are told in the thread, once each, after the message.
    let threads: Vec<Posted> = place
        .slack
        .messages(CHANNEL)
        .into_iter()
        .filter(|posted| posted.thread.is_some())
        .collect();
    eventually("both are told", seconds(20), async || {
        place.slack.messages(CHANNEL).iter().filter(|posted| posted.thread.is_some()).count() == 2
    })
    .await;
    assert!(threads.len() <= 2, "{threads:?}");
    for id in &asked {
        assert_eq!(place.about(id).len(), 1, "{id}");
    }
    place.finish().await;
}

/// What is on its way has its time to arrive after each try, counted from that very try: looked for too early, a
/// message that arrives late would be posted once more.
#[tokio::test]
async fn a_message_whose_answer_is_missing_has_its_time_to_arrive_after_every_try() {
    let place = Place::start().await;
    let profile = place.guarded(&["group:globex"], json!({})).await;
    let asker = place.world.person("olga", &[]).await;
    // Posted, looked for and posted again, looked for and posted at last.
    place.slack.is_next(&[Mood::Broken, Mood::Well, Mood::Broken]);
    let body = asker.ask(&profile, json!({})).await.expect(202);
    let id = body["id"].as_str().unwrap();
    let mut state = place.world.on_state().await;
    let mut tries: Vec<chrono::DateTime<chrono::Utc>> = Vec::new();
    eventually("it is posted in the end", seconds(40), async || {
        let asked = sqlx::query_scalar("SELECT tried_at FROM chat_message WHERE subject = $1");
        let tried = asked.bind(id).fetch_optional(&mut state).await.unwrap().flatten();
        tries.extend(tried.filter(|at| !tries.contains(at)));
        !place.about(id).is_empty()
    })
    .await;
    let between = tries[1] - tries[0];
    assert!(between >= chrono::TimeDelta::seconds(5), "{between}");
    assert_eq!(place.about(id).len(), 1);
    drop(state);
    place.finish().await;
}

/// Stops every process of a cluster as a debugger does: connections stand, and nothing answers.
fn signal(cluster: &Postgres, signal: Signal) {
    let file = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    let postmaster = file.lines().next().unwrap().to_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let is_of_it = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind = stat.rsplit(") ").next().unwrap_or_default().to_owned();
        *pid == postmaster || behind.split(' ').nth(1) == Some(postmaster.as_str())
    };
    let names = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    for pid in names.filter(is_of_it) {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        // One that ended meanwhile needs none.
        let _ = kill_process(pid, signal);
    }
}

#[tokio::test]
async fn slack_is_answered_in_time_while_the_database_stands_still() {
    let (cluster, folder) = own_cluster().await;
    let place =
        Place::with(Plan { state_on: Some(std::sync::Arc::clone(&cluster)), ..Plan::default() })
            .await;
    let profile = place.guarded(&["group:globex"], json!({})).await;
    place.link("U0ADA", "sub-ada").await;
    let before = place.slack.answers("U0ADA").len();
    signal(&cluster, Signal::STOP);
    let began = Instant::now();
    for n in 0..10 {
        let asked = Instant::now();
        let heard = place.slack.write("U0ADA", &format!("{profile} because {n}")).await;
        assert_eq!(heard.status, Some(200), "{heard:?}");
        assert!(asked.elapsed() < seconds(3), "{:?}", asked.elapsed());
    }
    assert!(began.elapsed() < seconds(10), "{:?}", began.elapsed());
    // What needs no database is done meanwhile; what could not be done is said.
    assert_eq!(place.slack.write("U0ADA", "help").await.status, Some(200));
    eventually("all of them are answered", seconds(60), async || {
        place.slack.answers("U0ADA").len() == before + 11
    })
    .await;
    let answers = place.slack.answers("U0ADA");
    let sorry =
        answers.iter().filter(|said| said["text"].as_str().unwrap().starts_with(":warning:"));
    assert_eq!(sorry.count(), 10, "{answers:?}");
    signal(&cluster, Signal::CONT);
    eventually("it asks again", seconds(40), async || {
        place
            .says("U0ADA", &format!("{profile} because it is back"))
            .await
            .contains("waits for an answer")
    })
    .await;
    place.finish().await;
    drop((cluster, folder));
}
