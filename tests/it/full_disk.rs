//! The state database's disk is full: what cannot be recorded is not done, and what was done is not lost.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use pgvalet::cluster::programs;
use serde_json::json;

use crate::support::{
    books, eventually,
    people::lease_id,
    postgres::{cluster_in, open_folder},
    seconds,
    sessions::sign_in,
    world::{Plan, World},
};

/// A small disk of its own. Whoever runs the test must be allowed to mount.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Option<Self> {
        let folder = open_folder();
        let options = ["-t", "tmpfs", "-o", "size=160m,mode=0711", "none"];
        let mounted = Command::new("mount").args(options).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.filler()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let some = vec![0; size];
            while file.write_all(&some).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may be about to end.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_of_the_state_database_is_told_and_nothing_is_lost() {
    let Some(disk) = Disk::mount() else {
        eprintln!("skipped: to mount a small disk takes root");
        return;
    };
    let state = cluster_in(disk.path(), programs::find(None).unwrap()).await;
    let plan = Plan {
        lease: "issue_deadline = \"2s\"",
        state_on: Some(Arc::clone(&state)),
        ..Plan::default()
    };
    let world = World::with(plan).await;
    let short = world.issue("read", json!({ "ttl": "6s" })).await;
    let long = world.issue("read", json!({})).await;

    disk.fill();
    let mut issued = 0;
    eventually("there is no room for another lease", seconds(60), async || {
        let answer = world.admin.ask(&world.profile("read"), json!({})).await;
        issued += usize::from(answer.status == 201);
        if answer.status == 201 {
            return false;
        }
        assert_eq!(answer.body["code"], "state_unavailable", "{}", answer.text);
        answer.status == 503
    })
    .await;
    // What was issued before works on.
    sign_in(&long).await.unwrap();

    disk.free();
    let lease = world.gone(&lease_id(&short), 60).await;
    assert_eq!(lease["cause"], "expired");
    eventually("it issues again", seconds(60), async || {
        world.admin.ask(&world.profile("read"), json!({})).await.status == 201
    })
    .await;
    println!("{issued} leases were issued before the disk was full to the last page");
    assert_eq!(books::while_it_runs(&world).await, Vec::<String>::new());
    world.finish().await;
    state.stop().await;
}
