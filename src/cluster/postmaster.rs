//! What a data folder says about the server that runs, or ran, in it.
//!
//! This module may not speak SQL, so readiness is read from `postmaster.pid`, which PostgreSQL keeps
//! for exactly that: its own `pg_ctl --wait` reads the same line.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::cluster::error::Error;

/// The line of `postmaster.pid` (from zero) that holds the status.
const STATUS_LINE: usize = 7;
/// How long a fast shutdown may take before the server is told to stop at once.
pub(crate) const FAST_LIMIT: Duration = Duration::from_secs(10);
/// How long the immediate shutdown may take before this gives up.
const IMMEDIATE_LIMIT: Duration = Duration::from_secs(5);
/// How often a condition is looked at. A fresh server is ready within a few of these.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The content of `postmaster.pid`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Postmaster {
    text: String,
    pid: Pid,
}

impl Postmaster {
    /// What the folder's `postmaster.pid` says; nothing if there is none or it is half written.
    pub(crate) fn read(data_dir: &Path) -> Option<Self> {
        Self::parse(fs::read_to_string(data_dir.join("postmaster.pid")).ok()?)
    }

    fn parse(text: String) -> Option<Self> {
        // A backend in single-user mode writes its pid negated; it is not a server.
        let pid = text.lines().next()?.trim().parse::<i32>().ok().filter(|pid| *pid > 0)?;
        Some(Self { pid: Pid::from_raw(pid)?, text })
    }

    /// The process id of the server.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the server said that it accepts connections.
    pub(crate) fn is_ready(&self) -> bool {
        self.text.lines().nth(STATUS_LINE).is_some_and(|status| status.trim() == "ready")
    }

    /// Whether the process is alive and is the server of this folder, not a stranger that was
    /// given the number of a server long dead.
    pub(crate) fn is_serving(&self, data_dir: &Path) -> bool {
        working_folder(self.pid)
            .is_some_and(|folder| data_dir.canonicalize().is_ok_and(|data_dir| data_dir == folder))
    }
}

/// Stops a server that an earlier run left behind in this folder.
pub(crate) fn stop_leftover(data_dir: &Path) -> Result<(), Error> {
    let Some(found) = Postmaster::read(data_dir) else { return Ok(()) };
    for (signal, limit) in [(Signal::INT, FAST_LIMIT), (Signal::QUIT, IMMEDIATE_LIMIT)] {
        if !found.is_serving(data_dir) {
            return Ok(());
        }
        // It may end between the look and the signal; the next look tells.
        let _ = rustix::process::kill_process(found.pid, signal);
        if wait_until(limit, || !found.is_serving(data_dir)) {
            return Ok(());
        }
    }
    Err(Error::Leftover { data_dir: data_dir.to_owned(), pid: found.pid.as_raw_nonzero().get() })
}

/// Waits until the condition holds; whether it came to hold within the limit.
pub(crate) fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        pause();
    }
}

/// A breath between two looks.
#[expect(
    clippy::disallowed_methods,
    reason = "this module is blocking throughout; async callers go through spawn_blocking"
)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// PostgreSQL's main process works in its data folder, which tells it from every other process.
/// Nothing for a process that is someone else's, or that has ended and waits to be collected.
#[cfg(target_os = "linux")]
fn working_folder(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()
}

/// The same where there is no `/proc`: `lsof` is part of macOS and the BSDs have it.
#[cfg(not(target_os = "linux"))]
fn working_folder(pid: Pid) -> Option<PathBuf> {
    let output = std::process::Command::new("lsof")
        .args(["-a", "-d", "cwd", "-Fn", "-p", &pid.as_raw_nonzero().to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix('n')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status_line() {
        let file = |status: &str| {
            let text = format!("4711\n/data\n1700000000\n5432\n/data\n\n 123 4\n{status}\n");
            Postmaster::parse(text).unwrap()
        };
        assert!(file("ready   ").is_ready());
        assert!(!file("starting").is_ready());
        assert_eq!(file("ready").pid().as_raw_nonzero().get(), 4711);
    }

    #[test]
    fn half_a_file_is_no_file() {
        for text in ["", "\n", "abc\n", "-12\n", "0\n"] {
            assert_eq!(Postmaster::parse(text.to_owned()), None, "{text:?}");
        }
    }

    #[test]
    fn a_stranger_with_the_same_number_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        fs::write(folder.path().join("postmaster.pid"), format!("{pid}\n/elsewhere\n")).unwrap();
        stop_leftover(folder.path()).unwrap();
    }
}
