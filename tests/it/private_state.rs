//! A daemon without a state database of somebody's runs one of its own, and stands and falls with it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{
    daemon::Daemon,
    people::{Person, Secrets},
    seconds,
};

const SETTINGS: &str =
    "listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\n\n[log]\nformat = \"json\"\n";

fn daemon() -> (TempDir, Daemon) {
    let folder = tempfile::Builder::new().prefix("pgvalet-it-").tempdir().unwrap();
    // If root runs this, another account runs PostgreSQL and must get through.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let daemon = Daemon::new(folder.path(), "daemon", SETTINGS);
    (folder, daemon)
}

fn postmaster(folder: &TempDir) -> Pid {
    let text = fs::read_to_string(folder.path().join("data/state/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_daemon_whose_database_died_ends_and_starts_again() {
    let (folder, mut daemon) = daemon();
    daemon.start().await;
    let token = daemon.bootstrap().await;
    kill_process(postmaster(&folder), Signal::KILL).unwrap();
    let status = daemon.wait(seconds(10)).await;
    assert_eq!(status.code(), Some(5), "{}", daemon.log());
    let errors = daemon.lines_at("ERROR").join("\n");
    assert!(errors.contains("the private state database ended by itself"), "{errors}");

    daemon.start().await;
    let person = Person::new(&daemon.url, &token, &Secrets::default());
    person.get("/v1/whoami").await.expect(200);
    assert!(daemon.stop().await.success(), "{}", daemon.log());
}

#[tokio::test]
async fn a_daemon_started_beside_bootstrap_keeps_its_database() {
    let (folder, daemon) = daemon();
    let mut starting = Daemon::new(folder.path(), "daemon", SETTINGS);
    // Whichever is first: the other one waits or borrows.
    let (token, ()) = tokio::join!(daemon.bootstrap(), starting.start());
    let person = Person::new(&starting.url, &token, &Secrets::default());
    person.get("/v1/whoami").await.expect(200);
    let migrated = starting.subcommand(&["migrate"]).await;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    person.get("/v1/whoami").await.expect(200);
    assert!(starting.stop().await.success(), "{}", starting.log());
    // With nobody beside it, a short command has the database to itself, and leaves it free.
    assert!(starting.subcommand(&["migrate"]).await.status.success());
    starting.start().await;
    assert!(starting.stop().await.success(), "{}", starting.log());
}
