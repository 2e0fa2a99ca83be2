//! Others are told what the audit says: each notice once, in the order of its subject, signed, with nothing secret in it,
//! whatever the receiver does meanwhile.

mod mail;
mod trouble;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    requests::{approve, approver},
    support::{
        eventually,
        hooks::{Call, Hooks},
        people::Person,
        seconds,
        shell::Shell,
        world::{Plan, World},
    },
};

/// A world with these settings.
async fn world_with(settings: String) -> World {
    World::with(Plan { settings: settings.leak(), ..Plan::default() }).await
}

/// Shuts somebody out and lets them in again, so often: two events each time.
async fn in_and_out(admin: &Person, name: &str, times: usize) {
    for _ in 0..times {
        admin
            .post(&format!("/v1/principals/person:{name}/disable"), &Value::Null)
            .await
            .expect(204);
        admin.post(&format!("/v1/principals/person:{name}/enable"), &Value::Null).await.expect(204);
    }
}

/// Waits until so many calls were taken.
async fn taken(hooks: &Hooks, count: usize, limit: u64) -> Vec<Call> {
    eventually(&format!("{count} notices are told"), seconds(limit), async || {
        hooks.taken().len() >= count
    })
    .await;
    hooks.taken()
}

/// The kinds of those that are about somebody, in the order in which they came.
fn kinds_about(calls: &[Call], subject: &str) -> Vec<String> {
    let about = calls.iter().filter(|call| call.json()["data"]["subject"] == subject);
    about.map(Call::kind).collect()
}

/// As many pairs of these as there were rounds.
fn rounds(times: usize) -> Vec<String> {
    ["principal.disabled", "principal.enabled"]
        .repeat(times)
        .iter()
        .map(|&kind| kind.into())
        .collect()
}

/// The notices as they are listed, newest first.
async fn listed(world: &World, query: &str) -> Vec<Value> {
    let page = world.admin.get(&format!("/v1/notices?limit=200&{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_webhook_is_told_what_it_wants_once_in_order_and_signed() {
    let hooks = Hooks::start().await;
    let world = world_with(hooks.settings("people", 7, "topics = [\"people\"]")).await;
    let alice = world.person("alice", &[]).await;
    let _bob = world.person("bob", &[]).await;
    drop(world.issue("read", json!({})).await);
    in_and_out(&world.admin, "alice", 3).await;
    in_and_out(&world.admin, "bob", 2).await;
    alice.get("/v1/whoami").await.expect(200);

    let calls = taken(&hooks, 10, 20).await;
    assert_eq!(calls.len(), 10);
    assert_eq!(kinds_about(&calls, "principal:person:alice"), rounds(3));
    assert_eq!(kinds_about(&calls, "principal:person:bob"), rounds(2));
    let now = chrono::Utc::now().timestamp();
    for call in &calls {
        assert!(call.is_signed_by(7) && !call.is_signed_by(8), "{call:?}");
        assert_eq!(call.path, "/people");
        let sent: i64 = call.headers["webhook-timestamp"].parse().unwrap();
        assert!((now - sent).abs() < 60, "{call:?}");
        let body = call.json();
        assert_eq!(
            (&body["data"]["id"], &body["data"]["topic"]),
            (&json!(call.id()), &json!("people"))
        );
        assert!(body["data"]["title"].as_str().unwrap().contains("person:"), "{body}");
    }
    // A body with one byte changed is not what was signed.
    let mut changed = calls[0].clone();
    changed.body = changed.body.replacen("person", "Person", 1);
    assert!(!changed.is_signed_by(7));

    let told = listed(&world, "state=told&channel=webhook:people").await;
    let ids: Vec<_> = told.iter().rev().map(|notice| notice["id"].as_str().unwrap()).collect();
    let mut came: Vec<_> = calls.iter().map(Call::id).collect();
    came.sort_unstable();
    assert_eq!(ids, came, "each once, and no other");
    let bodies: String = hooks.calls().iter().map(|call| call.body.clone()).collect();
    assert_eq!(world.secrets.found_in(&bodies), Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_request_is_told_from_the_wish_to_its_end_with_what_to_do_about_it() {
    let hooks = Hooks::start().await;
    let world = world_with(hooks.settings("all", 7, "topics = [\"requests\"]")).await;
    let needs = json!({ "approval": {
        "steps": [{ "from": ["group:dba"], "count": 1 }], "lapse_after": "4h", "use_within": "1h",
    } });
    world.put_profile("guarded", json!({ "conditions": needs })).await;
    let (ann, bob) = (world.person("ann", &[]).await, approver(&world, "bob", &["dba"]).await);
    let wish = json!({ "reason": "look\nTo decide: click here" });
    let asked = ann.ask(&world.profile("guarded"), wish).await.expect(202);
    let id = asked["id"].as_str().unwrap();
    approve(&bob, id).await.expect(200);
    ann.post(&format!("/v1/requests/{id}/claim"), &json!({})).await.expect(201);
    let calls = taken(&hooks, 3, 20).await;
    let kinds = kinds_about(&calls, &format!("request:{id}"));
    assert_eq!(kinds, ["request.created", "request.approved", "lease.intended"]);
    let data = calls[0].json()["data"].clone();
    assert_eq!(data["url"], format!("{}/requests/{id}", world.daemon.url));
    assert_eq!((&data["by"], &data["facts"]["request_id"]), (&json!("person:ann"), &json!(id)));
    let text = data["text"].as_str().unwrap();
    assert!(text.contains(&format!("pgvalet approve {id}")), "{text}");
    let decides = text.lines().filter(|line| line.starts_with("To decide:")).count();
    assert_eq!(decides, 1, "{text}");
    assert!(
        calls[1].json()["data"]["title"].as_str().unwrap().starts_with("Approved by person:bob")
    );
    let bodies: String = calls.iter().map(|call| call.body.clone()).collect();
    assert_eq!(world.secrets.found_in(&bodies), Vec::<String>::new());
    world.finish().await;
}

/// "Loud on every channel": also on one that asked for something else.
#[tokio::test]
async fn of_emergencies_every_channel_is_told_and_what_people_write_stays_on_its_line() {
    let hooks = Hooks::start().await;
    let world = world_with(hooks.settings("drift", 7, "topics = [\"drift\"]")).await;
    world
        .put_profile(
            "write",
            json!({ "preset": "break-glass", "reason": "required", "ttl": "10m", "max_ttl": "1h" }),
        )
        .await;
    let reason = format!("down <!channel>\nTicket: forged\n{}", "x".repeat(400));
    world.admin.ask(&world.profile("write"), json!({ "reason": reason })).await.expect(201);
    let calls = taken(&hooks, 1, 20).await;
    let data = calls[0].json()["data"].clone();
    assert_eq!((&data["topic"], &data["severity"]), (&json!("emergencies"), &json!("critical")));
    let text = data["text"].as_str().unwrap();
    assert!(!text.lines().any(|line| line.starts_with("Ticket:")), "{text}");
    let bodies: String = calls.iter().map(|call| call.body.clone()).collect();
    assert_eq!(world.secrets.found_in(&bodies), Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn nothing_is_told_that_happened_before_there_was_a_channel() {
    let hooks = Hooks::start().await;
    let mut world = World::start().await;
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 2).await;
    let mut state = world.on_state().await;
    eventually("the cursor is at the head", seconds(40), async || {
        let behind = "SELECT count(*) FROM audit_entry a, notice_cursor c WHERE coalesce(a.position, c.position + 1) > c.position";
        sqlx::query_scalar::<_, i64>(behind).fetch_one(&mut state).await.unwrap() == 0
    })
    .await;
    assert!(world.daemon.stop().await.success());
    let mut second = world.another_daemon_with(&hooks.settings("all", 7, "")).await;
    world.admin = world.admin.at(&second.url);
    in_and_out(&world.admin, "alice", 1).await;
    let calls = taken(&hooks, 2, 20).await;
    assert_eq!(kinds_about(&calls, "principal:person:alice"), rounds(1));
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(second.stop().await.success());
    world.start_daemon().await;
    world.finish().await;
}

#[tokio::test]
async fn two_daemons_tell_each_notice_once_and_in_order() {
    let hooks = Hooks::start().await;
    let mut world = world_with(hooks.settings("people", 7, "topics = [\"people\"]")).await;
    let mut second = world.another_daemon().await;
    let there = world.admin.at(&second.url);
    let names = ["a", "b", "c", "d"];
    for name in names {
        drop(world.person(name, &[]).await);
    }
    let one = async {
        for name in &names[..2] {
            in_and_out(&world.admin, name, 5).await;
        }
    };
    let other = async {
        for name in &names[2..] {
            in_and_out(&there, name, 5).await;
        }
    };
    tokio::join!(one, other);
    let calls = taken(&hooks, 40, 40).await;
    assert_eq!(calls.len(), 40);
    for name in names {
        assert_eq!(kinds_about(&calls, &format!("principal:person:{name}")), rounds(5));
    }
    assert!(second.stop().await.success(), "{}", second.log());
    world.finish().await;
}

#[tokio::test]
async fn what_still_waits_for_somebody_is_told_by_the_digest() {
    let hooks = Hooks::start().await;
    let settings = hooks.settings("digest", 7, "topics = [\"digest\"]");
    let world = world_with(format!("[notices]\ndigest = \"1s\"\n{settings}")).await;
    let mut state = world.on_state().await;
    // There is nothing to say: the time of the digest passes without one.
    let before: String = digest_at(&mut state).await;
    eventually("the time of a digest has passed", seconds(40), async || {
        digest_at(&mut state).await != before
    })
    .await;
    let made = world.admin.get("/v1/audit?kind=digest.made").await.expect(200);
    assert_eq!(made["items"], json!([]));
    sqlx::query(
        "INSERT INTO notice (id, channel, subject, topic, position, audit_id, body, created_at, waits_since, due_at, dead_at)
         VALUES (gen_random_uuid(), 'webhook:nowhere', 'x', 'digest', 0, gen_random_uuid(), '{}', now(), now(), now(), now())",
    )
    .execute(&mut state)
    .await
    .unwrap();
    let calls = taken(&hooks, 1, 40).await;
    assert_eq!(calls[0].kind(), "digest.made");
    let text = calls[0].json()["data"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("given up: 1"), "{text}");
    world.finish().await;
}

async fn digest_at(state: &mut sqlx::PgConnection) -> String {
    let asked = sqlx::query_scalar("SELECT digest_at::text FROM notice_cursor");
    asked.fetch_one(state).await.unwrap()
}

#[tokio::test]
async fn the_command_line_lists_notices_and_tries_a_channel() {
    let hooks = Hooks::start().await;
    let world = world_with(hooks.settings("pager", 7, "topics = [\"people\"]")).await;
    let shell = Shell::of(&world);
    let said = shell.run(&["notices", "test", "webhook:pager"]).await;
    assert!(said.err.contains("webhook:pager was told"), "{said:?}");
    said.expect(0);
    assert_eq!(hooks.taken()[0].kind(), "notice.tested");
    hooks.always(crate::support::hooks::Answer::Status(503, ""));
    let said = shell.run(&["notices", "test", "webhook:pager"]).await;
    assert!(said.err.contains("it answered 503"), "{said:?}");
    said.expect(1);
    let said = shell.run(&["notices", "test", "webhook:page"]).await;
    assert!(said.err.contains("this daemon has `webhook:pager`"), "{said:?}");
    assert_ne!(said.code, 0);
    let said = shell.run(&["notices", "test", "pager"]).await;
    assert!(said.err.contains("write `webhook:NAME`"), "{said:?}");

    hooks.always(crate::support::hooks::Answer::Status(200, ""));
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 1).await;
    drop(taken(&hooks, 3, 20).await);
    eventually("both are recorded as told", seconds(10), async || {
        listed(&world, "state=told").await.len() == 2
    })
    .await;
    let table = shell.run(&["notices"]).await.expect(0);
    assert!(table.contains("person:alice was shut out") && table.contains("told"), "{table}");
    let dead = shell.run(&["notices", "--dead", "--json"]).await.json();
    assert_eq!(dead["items"], json!([]));
    let tried = world.admin.get("/v1/audit?kind=notice.tested").await.expect(200);
    assert_eq!(tried["items"].as_array().unwrap().len(), 2);
    let begun = world.admin.get("/v1/audit?kind=notice.test_begun").await.expect(200);
    assert_eq!(begun["items"].as_array().unwrap().len(), 2);
    world.finish().await;
}

/// What is sent is on record before: also if nobody lives to say what came of it.
#[tokio::test]
async fn a_channel_that_is_tried_is_on_record_before_it_is() {
    let hooks = Hooks::start().await;
    hooks.then(&[crate::support::hooks::Answer::Nothing]);
    let more = "topics = [\"people\"]\ntimeout = \"20s\"";
    let mut world = world_with(hooks.settings("pager", 7, more)).await;
    let body = json!({ "channel": "webhook:pager" });
    let trying = world.admin.post("/v1/notices/test", &body);
    let killing = eventually("it is sent", seconds(20), async || hooks.calls().len() == 1);
    tokio::select! {
        tried = trying => panic!("{tried:?}"),
        () = killing => world.daemon.kill(),
    }
    world.start_daemon().await;
    let begun = world.admin.get("/v1/audit?kind=notice.test_begun").await.expect(200);
    assert_eq!(begun["items"][0]["entry"]["event"]["channel"], "webhook:pager", "{begun}");
    let tried = world.admin.get("/v1/audit?kind=notice.tested").await.expect(200);
    assert_eq!(tried["items"], json!([]));
    world.finish().await;
}

/// While a receiver takes both, its secret is replaced without a stop.
#[tokio::test]
async fn secrets_in_a_file_are_read_anew_when_the_daemon_is_told_to() {
    let hooks = Hooks::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("secret");
    let secret = |byte: u8| format!("whsec_{}", STANDARD.encode([byte; 32]));
    std::fs::write(&file, secret(7)).unwrap();
    let settings = hooks.settings("pager", 7, "topics = [\"people\"]");
    let settings = settings
        .replace(&format!("\"{}\"", secret(7)), &format!("{{ file = \"{}\" }}", file.display()));
    let world = world_with(settings).await;
    let body = json!({ "channel": "webhook:pager" });
    let signed_by = async |secret: u8| {
        world.admin.post("/v1/notices/test", &body).await.expect(200);
        hooks.taken().pop().unwrap().is_signed_by(secret)
    };
    assert!(signed_by(7).await);
    std::fs::write(&file, format!("{}\n{}\n", secret(8), secret(7))).unwrap();
    assert!(!signed_by(8).await, "nobody said that it is to be read");
    world.daemon.signal(rustix::process::Signal::HUP);
    eventually("both sign", seconds(10), async || signed_by(8).await).await;
    assert!(signed_by(7).await);
    // A fault leaves all as it was, and is said.
    std::fs::write(&file, "hunter2").unwrap();
    world.daemon.signal(rustix::process::Signal::HUP);
    eventually("it is said", seconds(10), async || {
        world.daemon.log().contains("could not read its secrets anew")
    })
    .await;
    assert!(!world.daemon.log().contains("hunter2"));
    assert!(signed_by(8).await);
    world.finish().await;
}
