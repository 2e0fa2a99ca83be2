//! Receivers that answer what they should not, or nothing, or are where they must not be; daemons that die in between.

use std::collections::BTreeSet;

use serde_json::json;

use crate::notices::{in_and_out, kinds_about, listed, rounds, taken, world_with};
use crate::support::{
    eventually,
    hooks::{Answer, Call, Hooks},
    instant, seconds,
    shell::Shell,
};

/// An hour of this takes as long as the waits add up to; that it may be an hour, and is not for ever, is the next test.
#[tokio::test]
async fn a_receiver_that_misbehaves_has_each_notice_once_and_in_order_in_the_end() {
    let hooks = Hooks::start().await;
    hooks.then(&[
        Answer::Status(500, ""),
        Answer::Status(429, "retry-after: 1\r\n"),
        Answer::Status(503, "retry-after: soon\r\n"),
        Answer::Garbage,
        Answer::HangUp,
        // It is well for a moment: then the waits are short again.
        Answer::Status(204, ""),
        Answer::Status(302, "location: /elsewhere\r\n"),
        Answer::Nothing,
        Answer::Status(404, ""),
    ]);
    let world =
        world_with(hooks.settings("people", 7, "topics = [\"people\"]\ntimeout = \"1s\"")).await;
    for name in ["alice", "bob"] {
        drop(world.person(name, &[]).await);
        in_and_out(&world.admin, name, 3).await;
    }
    let calls = taken(&hooks, 12, 60).await;
    assert_eq!(calls.len(), 12);
    for name in ["alice", "bob"] {
        assert_eq!(kinds_about(&calls, &format!("principal:person:{name}")), rounds(3));
    }
    let ids: BTreeSet<_> = calls.iter().map(Call::id).collect();
    assert_eq!(ids.len(), 12, "each once");
    let all = hooks.calls();
    assert_eq!(all.len(), 12 + 8, "each answer was given");
    assert!(all.iter().all(|call| call.path == "/people"), "no redirect is followed");
    for call in &calls {
        // What is sent again is what was sent, under the same id, with a signature of its own.
        let same = all.iter().filter(|other| other.id() == call.id());
        assert!(same.clone().all(|other| other.body == call.body && other.is_signed_by(7)));
    }
    world.finish().await;
}

#[tokio::test]
async fn what_never_arrives_is_given_up_seen_and_sent_again_by_hand() {
    let hooks = Hooks::start().await;
    hooks.always(Answer::Status(500, ""));
    let world = world_with(hooks.settings("people", 7, "topics = [\"people\"]")).await;
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 1).await;
    eventually("it was tried", seconds(20), async || hooks.calls().len() > 1).await;
    let age = async |hours: i32| {
        let mut state = world.on_state().await;
        sqlx::query(
            "UPDATE notice SET waits_since = now() - make_interval(hours => $1), due_at = now()",
        )
        .bind(hours)
        .execute(&mut state)
        .await
        .unwrap();
    };
    age(23).await;
    let before = hooks.calls().len();
    eventually("it is tried again", seconds(20), async || hooks.calls().len() > before).await;
    assert_eq!(
        listed(&world, "state=dead").await.len(),
        0,
        "an hour before its time it is not given up"
    );
    // The first of its subject is in the way of the second for as long as it is tried.
    assert!(hooks.calls().iter().all(|call| call.kind() == "principal.disabled"));
    let waiting = listed(&world, "state=waiting").await;
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    assert_eq!(waiting[1]["last_error"], "it answered 500");
    assert!(waiting[1]["attempts"].as_i64().unwrap() > 1);
    age(25).await;
    eventually("both are given up", seconds(60), async || {
        listed(&world, "state=dead").await.len() == 2
    })
    .await;
    eventually("Prometheus sees it", seconds(40), async || {
        let scrape = crate::metrics::scrape(&format!("{}/metrics", world.admin.url)).await;
        scrape.value("pgvalet_notices_dead") == Some(2.0)
    })
    .await;

    let shell = Shell::of(&world);
    hooks.always(Answer::Status(200, ""));
    let one = listed(&world, "state=dead").await.pop().unwrap();
    let id = one["id"].as_str().unwrap();
    shell.run(&["notices", "replay", id]).await.expect(0);
    drop(taken(&hooks, 1, 60).await);
    eventually("it is recorded as told", seconds(10), async || {
        listed(&world, "state=told").await.len() == 1
    })
    .await;
    world
        .admin
        .post(&format!("/v1/notices/{id}/replay"), &json!(null))
        .await
        .expect_problem(409, "notice_not_dead");
    let unknown = id.replace(|digit: char| digit.is_ascii_digit(), "0");
    world
        .admin
        .post(&format!("/v1/notices/{unknown}/replay"), &json!(null))
        .await
        .expect_problem(404, "not_found");
    let said = shell.run(&["notices", "replay", "--dead"]).await;
    assert!(said.err.contains("1 notices are sent again"), "{said:?}");
    said.expect(0);
    let calls = taken(&hooks, 2, 60).await;
    assert_eq!(kinds_about(&calls, "principal:person:alice"), rounds(1));
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_believed() {
    let hooks = Hooks::start().await;
    hooks.then(&[Answer::Status(410, "")]);
    let world = world_with(hooks.settings("people", 7, "topics = [\"people\"]")).await;
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 1).await;
    let calls = taken(&hooks, 1, 20).await;
    assert_eq!(kinds_about(&calls, "principal:person:alice"), ["principal.enabled"]);
    let dead = listed(&world, "state=dead").await;
    assert_eq!(dead[0]["last_error"], "it answered 410: it is gone for good");
    assert_eq!(hooks.calls().len(), 2, "it is not asked again");
    world.finish().await;
}

/// It may have us wait, but neither for ever nor longer than an instant can be.
#[tokio::test]
async fn a_receiver_that_asks_for_eternity_is_left_alone_for_an_hour() {
    let hooks = Hooks::start().await;
    hooks.then(&[Answer::Status(429, "retry-after: 18446744073709551615\r\n")]);
    let world = world_with(hooks.settings("people", 7, "topics = [\"people\"]")).await;
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 1).await;
    let failed = async || {
        let notices = listed(&world, "state=waiting").await;
        notices.iter().find(|notice| notice["attempts"] == 1).cloned()
    };
    eventually("it is put off", seconds(20), async || failed().await.is_some()).await;
    let due = instant(&failed().await.unwrap()["due_at"]);
    let wait = due - chrono::Utc::now();
    assert!(wait > chrono::TimeDelta::minutes(55) && wait <= chrono::TimeDelta::hours(1), "{wait}");
    world.finish().await;
}

/// A receiver that never answers holds up neither the daemon's end nor what is told after it.
#[tokio::test]
async fn a_daemon_that_sends_to_nobody_who_answers_stops_in_time() {
    let hooks = Hooks::start().await;
    hooks.always(Answer::Nothing);
    let settings = hooks.settings("people", 7, "topics = [\"people\"]\ntimeout = \"30s\"");
    let world = world_with(settings).await;
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 1).await;
    eventually("it is sent", seconds(20), async || hooks.calls().len() == 1).await;
    let began = std::time::Instant::now();
    world.finish().await;
    assert!(began.elapsed() < seconds(20), "{:?}", began.elapsed());
}

/// The name is good, and what it leads to is not: nothing may reach it.
#[tokio::test]
async fn an_address_that_is_not_public_is_not_connected_to() {
    let hooks = Hooks::start().await;
    let settings = hooks.settings("people", 7, "topics = [\"people\"]");
    let settings = settings.replace("allow_private = true\n", "");
    let settings = settings.replace("http://127.0.0.1", "https://localhost");
    let world = world_with(settings).await;
    let tried = world.admin.post("/v1/notices/test", &json!({ "channel": "webhook:people" })).await;
    let tried = tried.expect(200);
    assert_eq!(tried["told"], false);
    assert!(tried["why"].as_str().unwrap().contains("localhost has no public address"), "{tried}");
    assert_eq!(hooks.connections(), 0);
    // Whoever knows an address may post there: of one, nothing is said but its host.
    let whole = format!("{}/people", hooks.port);
    let audit = world.admin.get("/v1/audit?limit=100").await.expect(200).to_string();
    let said = [tried.to_string(), audit, world.daemon.log()];
    assert!(said.iter().all(|text| !text.contains(&whole)), "{said:?}");
    world.finish().await;
}

/// What was sent and not recorded as told is sent once more, under the same id, by which its receiver can tell.
#[tokio::test]
async fn a_daemon_that_is_killed_while_it_sends_sends_again_under_the_same_id() {
    let hooks = Hooks::start().await;
    hooks.then(&[Answer::Nothing]);
    let mut world =
        world_with(hooks.settings("people", 7, "topics = [\"people\"]\ntimeout = \"30s\"")).await;
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 2).await;
    eventually("it is sent", seconds(20), async || hooks.calls().len() == 1).await;
    world.daemon.kill();
    let mut state = world.on_state().await;
    // The claim of the killed daemon ends by itself; the test does not wait for it.
    let freed =
        sqlx::query("UPDATE notice SET claimed_until = now() WHERE claim_token IS NOT NULL");
    assert_eq!(freed.execute(&mut state).await.unwrap().rows_affected(), 1);
    world.start_daemon().await;
    let calls = taken(&hooks, 4, 30).await;
    assert_eq!(kinds_about(&calls, "principal:person:alice"), rounds(2));
    let all = hooks.calls();
    assert_eq!(all.len(), 5, "one of them twice");
    assert_eq!((all[0].id(), &all[0].body), (all[1].id(), &all[1].body));
    world.finish().await;
}
