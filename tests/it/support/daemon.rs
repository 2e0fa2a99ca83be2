//! The real binary as a process: started, signalled, killed, started again on the same state.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::support::{eventually, seconds};

/// Kills the daemon and removes its folder when this process is gone, however it went: the pipe to
/// the shell ends then.
const LIFELINE: &str = r#"trap '' INT TERM HUP
read -r _
kill -KILL "$1" 2>/dev/null
rm -rf -- "$2""#;

/// One daemon: a folder with its settings, and the process that runs, if one does.
pub(crate) struct Daemon {
    folder: PathBuf,
    name: String,
    /// Variables that it is started with, beside what finds programs.
    pub(crate) environment: Vec<(String, String)>,
    running: Option<Running>,
    /// The address of the latest start.
    pub(crate) url: String,
}

struct Running {
    child: Child,
    lifeline: Child,
    log: PathBuf,
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The lifeline first: once the daemon is waited for, its number may be somebody else's.
        let _ = self.lifeline.kill();
        let _ = self.lifeline.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary with nothing of this process' environment but what finds programs.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgvalet"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

impl Daemon {
    /// Writes its settings; it is not started yet.
    pub(crate) fn new(folder: &Path, name: &str, settings: &str) -> Self {
        fs::write(folder.join(format!("{name}.toml")), settings).unwrap();
        Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            environment: Vec::new(),
            running: None,
            url: String::new(),
        }
    }

    /// Its settings.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    /// Starts it and waits until it serves.
    pub(crate) async fn start(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let log = self.folder.join(format!("{}.{}.log", self.name, self.logs().len()));
        let mut command = binary();
        command.args(["serve", "--config"]).arg(self.config()).stdin(Stdio::null());
        command.envs(self.environment.iter().cloned());
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        let lifeline = Command::new("/bin/sh")
            .args(["-c", LIFELINE, "lifeline", &child.id().to_string()])
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = self.running.insert(Running { child, lifeline, log });
        let mut address = None;
        eventually("the daemon serves", seconds(30), async || {
            let text = fs::read_to_string(&running.log).unwrap();
            if let Some(status) = running.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{text}");
            }
            address = address_in(&text);
            address.is_some()
        })
        .await;
        self.url = format!("http://{}", address.unwrap());
    }

    /// Runs `bootstrap` on its settings; gives the first token.
    pub(crate) async fn bootstrap(&self) -> String {
        let output = self.subcommand(&["bootstrap"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs a subcommand of the binary on its settings.
    pub(crate) async fn subcommand(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = binary();
        command.args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> Pid {
        self.running.as_ref().expect("it runs").pid()
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        drop(self.running.take().expect("it runs"));
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("it runs");
        rustix::process::kill_process(running.pid(), signal).unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(seconds(40)).await
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut running = self.running.take().expect("it runs");
        let mut status = None;
        eventually("the daemon ends", limit, async || {
            status = running.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Does it run, as far as we know?
    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What it has logged since its first start.
    pub(crate) fn log(&self) -> String {
        self.logs().iter().map(|log| fs::read_to_string(log).unwrap()).collect()
    }

    fn logs(&self) -> Vec<PathBuf> {
        let path = |n| self.folder.join(format!("{}.{n}.log", self.name));
        (0..).map(path).take_while(|path| path.exists()).collect()
    }

    /// Lines of the log at this level.
    pub(crate) fn lines_at(&self, level: &str) -> Vec<String> {
        let is_at = |line: &&str| {
            serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"] == level)
        };
        self.log().lines().filter(is_at).map(str::to_owned).collect()
    }
}

fn address_in(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("pgvalet serves"))?;
    let line: Value = serde_json::from_str(line).ok()?;
    Some(line["address"].as_str()?.to_owned())
}
