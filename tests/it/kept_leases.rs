//! A lease that the client keeps for programs that run a command each time they want a credential:
//! `--format credential-process`, and `--field`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    people::lease_id,
    shell::{Said, Shell},
    world::World,
};

/// Where the client keeps its one lease.
fn kept(shell: &Shell) -> PathBuf {
    let folder = shell.home.path().join(".config/pgvalet/leases");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

/// Lets the client believe that something was, or is due, a day earlier.
fn a_day_earlier(shell: &Shell, key: &str) {
    let path = kept(shell);
    let mut file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let earlier = crate::support::instant(&file[key]) - chrono::TimeDelta::days(1);
    file[key] = json!(earlier);
    fs::write(&path, file.to_string()).unwrap();
}

async fn ask(shell: &Shell, profile: &str, more: &[&str]) -> Said {
    let words = [&["get", profile, "--format", "credential-process"], more].concat();
    shell.run(&words).await
}

async fn id(shell: &Shell, profile: &str, more: &[&str]) -> String {
    let said = ask(shell, profile, more).await;
    assert_eq!(said.err, "", "nothing on standard error");
    said.json()["lease_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn programs_that_ask_at_once_share_one_lease_that_opens_sessions() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let asked = join_all((0..8).map(|_| ask(&shell, &read, &[]))).await;
    let answers: Vec<Value> = asked.into_iter().map(Said::json).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let first = &answers[0];
    let password = first["password"].as_str().unwrap();
    world.secrets.remember(password);
    assert_eq!(first["Version"], 1);
    assert_eq!(first["Expiration"], first["expires_at"]);
    assert!(crate::support::instant(&first["Expiration"]) > chrono::Utc::now());
    assert_eq!(world.roles().await, [first["user"].as_str().unwrap()]);

    // One part of it comes alone, with nothing that a program would have to cut off.
    for (field, value) in [
        ("password", password.to_owned()),
        ("user", first["user"].as_str().unwrap().to_owned()),
        ("port", first["port"].to_string()),
        ("uri", first["uri"].as_str().unwrap().to_owned()),
        ("lease-id", first["lease_id"].as_str().unwrap().to_owned()),
    ] {
        let said = shell.run(&["get", &read, "--field", field]).await;
        assert_eq!((said.out.as_str(), said.err.as_str()), (value.as_str(), ""), "{field}");
    }
    let uri = first["uri"].as_str().unwrap();
    let script = format!("psql -X -q -A -t -c 'select session_user' '{uri}'");
    assert_eq!(shell.script(&script).await.expect(0).trim(), first["user"].as_str().unwrap());

    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(kept(&shell)), 0o600);
    assert_eq!(mode(shell.home.path().join(".config/pgvalet/leases")), 0o700);
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(kept(&shell), open).unwrap();
    let refused = ask(&shell, &read, &[]).await;
    assert!(refused.err.contains("can be read by others (mode 0644)"), "{refused:?}");
    refused.expect(1);
    world.finish().await;
}

#[tokio::test]
async fn what_is_asked_for_and_by_whom_makes_it_another_lease() {
    let world = World::start().await;
    let mut shell = Shell::of(&world);
    let read = world.profile("read");
    let first = id(&shell, &read, &[]).await;
    assert_eq!(id(&shell, &read, &[]).await, first);
    let mut others = vec![
        id(&shell, &read, &["--ttl", "10m"]).await,
        id(&shell, &read, &["--tool", "tableplus"]).await,
        id(&shell, &world.profile("write"), &[]).await,
    ];
    shell.token = Some(world.person("ada", &[]).await.token);
    others.push(id(&shell, &read, &[]).await);
    others.push(first);
    others.sort();
    others.dedup();
    assert_eq!((others.len(), world.roles().await.len()), (5, 5));
    for words in [
        &["get", &read, "--field", "user", "--json"][..],
        &["get", &read, "--format", "credential-process", "--idempotency-key", "k"],
        &["get", &read, "--fresh"],
        &["get", &read, "--field", "user", "--format", "uri"],
    ] {
        shell.run(words).await.expect(2);
    }
    world.finish().await;
}

#[tokio::test]
async fn it_is_renewed_by_itself_and_replaced_where_it_cannot_last_longer() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let first = ask(&shell, &read, &["--ttl", "10m"]).await.json();
    let lease = first["lease_id"].as_str().unwrap();
    a_day_earlier(&shell, "renew_at");
    let second = ask(&shell, &read, &["--ttl", "10m"]).await.json();
    assert_eq!(
        (&second["lease_id"], &second["password"]),
        (&first["lease_id"], &first["password"])
    );
    let renewed = |steps: Vec<String>| steps.iter().filter(|step| *step == "lease.renewed").count();
    assert_eq!(renewed(world.admin.audit_of(lease).await), 1);
    assert_eq!(id(&shell, &read, &["--ttl", "10m"]).await, lease);
    assert_eq!(renewed(world.admin.audit_of(lease).await), 1, "it lasts again");

    fs::remove_file(kept(&shell)).unwrap();
    world.put_profile("brief", json!({ "max_ttl": "1h" })).await;
    let brief = world.profile("brief");
    let first = id(&shell, &brief, &[]).await;
    assert_eq!(id(&shell, &brief, &[]).await, first);
    a_day_earlier(&shell, "renew_at");
    let second = id(&shell, &brief, &[]).await;
    assert_ne!(second, first);
    // What has a session in the first one is not disturbed.
    assert_eq!(world.admin.lease(&first).await["state"], "active");
    world.finish().await;
}

#[tokio::test]
async fn a_lease_that_was_revoked_is_noticed() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let first = id(&shell, &read, &[]).await;
    world.admin.revoke(&first).await.expect(200);
    let believed = id(&shell, &read, &[]).await;
    assert_eq!(believed, first, "the daemon is not asked each time");
    let second = id(&shell, &read, &["--fresh"]).await;
    assert_ne!(second, first);
    assert_eq!(id(&shell, &read, &["--fresh"]).await, second);
    world.admin.revoke(&second).await.expect(200);
    a_day_earlier(&shell, "seen_at");
    let third = id(&shell, &read, &[]).await;
    assert_ne!(third, second);

    // The client's own revoking leaves nothing that a later one would give out.
    let path = kept(&shell);
    shell.run(&["revoke", &third]).await.expect(0);
    assert!(!path.exists());
    let fourth = id(&shell, &read, &[]).await;
    assert_ne!(fourth, third);

    // One that is over goes from the disk with the next command, whatever that is.
    let path = kept(&shell);
    let text = fs::read_to_string(&path).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["lease"]["expires_at"] = json!("2020-01-01T00:00:00Z");
    fs::write(&path, file.to_string()).unwrap();
    shell.run(&["daemons"]).await.expect(0);
    assert!(!path.exists());
    world.finish().await;
}

#[tokio::test]
async fn a_daemon_that_is_away_keeps_nobody_from_a_lease_that_is_alive() {
    let mut world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let first = id(&shell, &read, &[]).await;
    world.daemon.kill();
    for key in ["seen_at", "renew_at"] {
        a_day_earlier(&shell, key);
        assert_eq!(id(&shell, &read, &[]).await, first, "{key}");
    }
    ask(&shell, &read, &["--fresh"]).await.expect(5);
    world.start_daemon().await;
    let issued = world.admin.lease(&first).await;
    assert_eq!(lease_id(&json!({ "lease": issued })), first);
    world.finish().await;
}
