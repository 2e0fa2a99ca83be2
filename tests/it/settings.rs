//! The daemon's settings, and the commands that run beside it, on the real binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::support::{
    daemon::{Daemon, binary},
    people::{Person, Secrets},
    world::World,
};

/// A folder that the account of a private PostgreSQL gets through.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("pgvalet-it-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Runs a command on the settings in a folder; gives its status and what it said.
async fn run(
    folder: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command: Command = binary();
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.envs(variables.iter().copied()).env("HOME", folder);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn every_fault_of_the_settings_is_told_at_once() {
    let folder = folder();
    fs::write(
        folder.path().join("p.toml"),
        "listen = \"nowhere\"\nlissten = 1\npublic_url = \"ftp://x\"\n\n[state]\nurl = \"mysql://me:hunter2@x/y\"\n\
         max_connections = 0\n\n[lease]\nissue_deadline = \"1 h-ish\"\n\n[http]\nmax_body_bytes = \"big\"\n\n\
         [throtle]\nfailures_per_minute = 1\n",
    )
    .unwrap();
    for more in [&["--check"][..], &[]] {
        let words = [&["serve", "--config", "p.toml"], more].concat();
        let (code, out, err) = run(folder.path(), &words, &[("PGVALET_LISTN", "x")]).await;
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        for named in [
            "p.toml:1:",
            "p.toml:2:",
            "p.toml:3:",
            "p.toml:6:",
            "p.toml:7:",
            "p.toml:10:",
            "p.toml:13:",
            "p.toml:15:",
            "PGVALET_LISTN",
            "PGVALET_LISTEN",
            "`listen`",
            "throttle",
        ] {
            assert!(err.contains(named), "{named} is not in:\n{err}");
        }
        assert!(!err.contains("hunter2"), "a password in what is told: {err}");
    }
    fs::write(folder.path().join("p.toml"), "listen = \"0.0.0.0:1\"\n").unwrap();
    let (code, _, err) = run(folder.path(), &["serve", "--config", "p.toml", "--check"], &[]).await;
    assert!(code == 2 && err.contains("allow_plaintext"), "{err}");
    let (code, _, err) = run(folder.path(), &["serve", "--config", "none.toml"], &[]).await;
    assert!(code == 2 && err.contains("none.toml"), "{err}");
    fs::write(folder.path().join("p.toml"), "listen = [\n").unwrap();
    let (code, _, err) = run(folder.path(), &["bootstrap", "--config", "p.toml"], &[]).await;
    assert!(code == 2 && err.contains("p.toml:"), "{err}");
}

#[tokio::test]
async fn a_master_key_that_is_missing_exposed_or_none_is_refused() {
    let folder = folder();
    let key = folder.path().join("master.key");
    let file = folder.path().join("p.toml");
    let url = "url = \"postgres://u:hunter2@127.0.0.1:1/none\"";
    fs::write(&file, format!("listen = \"127.0.0.1:0\"\n[state]\n{url}\n")).unwrap();
    let serve = ["serve", "--config", "p.toml"];
    let (code, _, err) = run(folder.path(), &serve, &[]).await;
    assert!(
        code != 0 && err.contains("master key") && err.contains("PGVALET_MASTER_KEY"),
        "{code} {err}"
    );

    let with_key = format!("[state]\n{url}\n[master_key]\nfile = \"master.key\"\n");
    fs::write(&file, with_key).unwrap();
    for (text, mode, told) in [
        (Some("00".repeat(31) + "01"), 0o644, "chmod 600"),
        (Some("00".repeat(32)), 0o600, "[master_key]"),
        (Some("too short".to_owned()), 0o600, "[master_key]"),
        (Some(String::new()), 0o600, "[master_key]"),
        (None, 0, "[master_key]"),
    ] {
        let _ = fs::remove_file(&key);
        if let Some(text) = &text {
            fs::write(&key, text).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        }
        let (code, _, err) = run(folder.path(), &serve, &[]).await;
        assert!(code == 2 && err.contains(told), "{code} {err}");
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            assert!(!err.contains(&text), "the key is told: {err}");
        }
    }
}

#[tokio::test]
async fn another_master_key_is_refused_at_the_start() {
    let mut world = World::start().await;
    assert!(world.daemon.stop().await.success());
    let path = world.daemon.config();
    let key = path.parent().unwrap().join("master.key");
    let right = fs::read(&key).unwrap();
    fs::write(&key, "ab".repeat(31) + "cd").unwrap();
    let refused = world.daemon.subcommand(&["serve"]).await;
    let err = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(5), "{err}");
    assert!(err.contains("the master key is not the one"), "{err}");
    let refused = world.daemon.subcommand(&["bootstrap"]).await;
    assert_eq!(refused.status.code(), Some(5));

    // Behind a new key that seals, the old one still opens.
    let both = format!("{}\n{}", "ab".repeat(31) + "cd", String::from_utf8(right).unwrap());
    fs::write(&key, both).unwrap();
    world.start_daemon().await;
    world.issue("read", serde_json::json!({})).await;
    let second = world.daemon.subcommand(&["bootstrap"]).await;
    assert_eq!(second.status.code(), Some(1), "a second first token");
    assert!(second.stdout.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_private_state_database_is_kept_between_runs() {
    let folder = folder();
    let settings = "listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\n[log]\nformat = \"json\"\n";
    let mut daemon = Daemon::new(folder.path(), "private", settings);
    daemon.start().await;
    // Beside the daemon that runs the database.
    let token = daemon.bootstrap().await;
    let secrets = Secrets::default();
    let admin = Person::new(&daemon.url, &token, &secrets);
    let who = admin.get("/v1/whoami").await.expect(200);
    assert_eq!(who["principal"], "person:admin");
    let second = daemon.subcommand(&["bootstrap"]).await;
    assert_eq!(second.status.code(), Some(1), "{}", String::from_utf8_lossy(&second.stderr));
    assert!(second.stdout.is_empty());
    for private in ["data/master.key", "data/state.secret"] {
        let mode = folder.path().join(private).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{private}: {mode:o}");
    }

    assert!(daemon.stop().await.success());
    assert!(!folder.path().join("data/state/postmaster.pid").exists(), "its database still runs");
    daemon.start().await;
    let again = admin.at(&daemon.url).get("/v1/whoami").await.expect(200);
    assert_eq!(again["token_id"], who["token_id"]);
    let verified = admin.at(&daemon.url).get("/v1/audit/verify").await.expect(200);
    assert_eq!(verified["intact"], true);
    // And after a daemon that could not clear up.
    daemon.kill();
    daemon.start().await;
    admin.at(&daemon.url).get("/v1/whoami").await.expect(200);
    assert!(daemon.stop().await.success());
    assert_eq!(secrets.found_in(&daemon.log()), Vec::<String>::new());
}
