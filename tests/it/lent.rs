//! Leases that are lent to a program: none of them outlives what it was for, however that ends.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use crate::support::{
    daemon::binary,
    eventually, milliseconds, seconds,
    shell::{Shell, end, finish, first_line, hearing_signals},
    world::World,
};

/// The lease's length where nobody says one, in milliseconds.
const AT_A_TIME: i64 = 5 * 60 * 1000;

/// A shell that starts a program under `pgvalet run`, with words in front, and waits for it.
fn parent(shell: &Shell, in_front: &str, profile: &str, program: &str) -> Child {
    let mut command = Command::new("sh");
    let script = format!("{in_front} \"$0\" run \"$1\" -- sh -c \"$2\" & wait");
    command.args(["-c", &script]).arg(binary().get_program()).args([profile, program]);
    command.env_clear().envs(shell.command(&[]).get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.current_dir(shell.home.path());
    let mut command = hearing_signals(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[tokio::test]
async fn every_signal_that_can_be_caught_ends_the_program_and_then_the_lease() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    for (signal, code) in
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)]
    {
        let script = "ulimit -c 0; echo $PGVALET_LEASE_ID; exec cat";
        let mut child = shell.start(&["run", &read, "--", "sh", "-c", script]);
        let id = first_line(&mut child).await;
        let lease = world.admin.lease(&id).await;
        let lasts = milliseconds(&lease["created_at"], &lease["expires_at"]);
        assert!((AT_A_TIME - 1000..=AT_A_TIME).contains(&lasts), "{lease}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(end(&mut child).await, code, "{signal:?}");
        assert_eq!(world.admin.lease(&id).await["state"], "revoked", "{signal:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_killed_parent_leaves_neither_the_program_nor_a_live_lease() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    // The second one would not end for being told so.
    for program in [
        "echo $PGVALET_LEASE_ID $$; exec sleep 600",
        "trap '' TERM HUP; echo $PGVALET_LEASE_ID $$; while :; do sleep 1; done",
    ] {
        let mut parent = parent(&shell, "", &read, program);
        let line = first_line(&mut parent).await;
        let (id, program) = line.split_once(' ').unwrap();
        let program = Pid::from_raw(program.parse().unwrap()).unwrap();
        assert_eq!(world.admin.lease(id).await["state"], "active");
        parent.kill().unwrap();
        parent.wait().unwrap();
        let lease = world.gone(id, 20).await;
        assert_eq!(lease["cause"], "revoked", "not by its end: {lease}");
        assert!(test_kill_process(program).is_err(), "the program is there still");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_runs_under_nohup_outlives_its_parent() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let there = shell.path("there");
    // It is there, and works, some looks at the parent later.
    let program = format!(
        "echo $PGVALET_LEASE_ID; while kill -0 $PARENT; do sleep 0.1; done; sleep 2; psql -X -q -c 'select 1' && touch {there}"
    );
    let mut parent = parent(&shell, "PARENT=$$ nohup", &read, &program);
    let id = first_line(&mut parent).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("it has done its work", seconds(30), async || Path::new(&there).exists()).await;
    assert_eq!(world.gone(&id, 20).await["cause"], "revoked");
    world.finish().await;
}

#[tokio::test]
async fn what_nothing_can_catch_leaves_a_lease_for_as_long_as_it_was_asked_for() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let script = "echo $PGVALET_LEASE_ID; exec cat";
    let mut child = shell.start(&["run", &read, "--ttl", "3s", "--", "sh", "-c", script]);
    let id = first_line(&mut child).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let lease = world.gone(&id, 20).await;
    assert_eq!(lease["cause"], "expired", "{lease}");
    world.finish().await;
}

#[tokio::test]
async fn a_session_of_connect_lasts_longer_than_what_it_asks_for_at_a_time() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let session = ["-X", "-q", "-A", "-t", "-c", "select pg_sleep(5)", "-c", "select 'there'"];
    let words = [&["connect", &read, "--ttl", "2s", "--"][..], &session].concat();
    let said = shell.run(&words).await;
    assert_eq!(said.expect(0).trim(), "there");
    let page = world.admin.get("/v1/leases?limit=1").await.expect(200);
    assert_eq!(page["items"][0]["cause"], "revoked", "{page}");
    world.finish().await;
}

/// Runs pgvalet on a terminal, with its output and its errors there.
async fn on_a_terminal(shell: &Shell, words: &[&str]) -> String {
    let mut command = Command::new("script");
    let line = format!("'{}' {}", binary().get_program().to_str().unwrap(), words.join(" "));
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null());
    command.env_clear().envs(shell.command(&[]).get_envs().filter_map(|(k, v)| Some((k, v?))));
    finish(command).await.expect(0)
}

#[tokio::test]
async fn a_terminal_is_told_when_a_lease_ends_and_how_to_end_it() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let told = on_a_terminal(&shell, &["get", &read, "--ttl", "10m"]).await;
    let id = world.live().await[0]["id"].as_str().unwrap().to_owned();
    assert!(told.contains("postgresql://"), "{told}");
    assert!(told.contains(&format!("lease {id} ends at ")), "{told}");
    assert!(told.contains(&format!("pgvalet revoke {id}")), "{told}");
    let kept = on_a_terminal(&shell, &["get", &read, "--field", "user"]).await;
    assert!(kept.contains(" ends at ") && kept.contains("pgvalet revoke lse_"), "{kept}");

    world.put_profile("short", json!({ "ttl": "40s", "max_ttl": "40s" })).await;
    let short = world.profile("short");
    let told = on_a_terminal(&shell, &["run", &short, "--", "sleep", "1"]).await;
    assert_eq!(told.matches("the lease ends in ").count(), 1, "{told}");
    let told = on_a_terminal(&shell, &["run", &read, "--", "true"]).await;
    assert!(!told.contains("the lease ends in "), "it is renewed: {told}");
    world.finish().await;
}
