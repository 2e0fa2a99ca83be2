//! The real binary as a client, in a home of its own.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{daemon::binary, eventually, seconds, world::World};

/// Somebody at a terminal of their own, with nothing in their home yet.
pub(crate) struct Shell {
    pub(crate) home: TempDir,
    pub(crate) url: String,
    pub(crate) token: Option<String>,
}

/// What a program printed and ended with.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.expect(0)).unwrap()
    }
}

pub(crate) async fn finish(mut command: Command) -> Said {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Shell {
    pub(crate) fn of(world: &World) -> Self {
        let home = tempfile::Builder::new().prefix("pgvalet-it-").tempdir().unwrap();
        Self { home, url: world.admin.url.clone(), token: Some(world.admin.token.clone()) }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.args(arguments).env("HOME", self.home.path()).env("TMPDIR", self.home.path());
        command.current_dir(self.home.path()).stdin(Stdio::null());
        if let Some(token) = &self.token {
            command.env("PGVALET_URL", &self.url).env("PGVALET_TOKEN", token);
        }
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        finish(self.command(arguments)).await
    }

    /// A script in a POSIX shell, with nothing of a token.
    pub(crate) async fn script(&self, text: &str) -> Said {
        let mut command = Command::new("sh");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(["-c", text]).env("HOME", self.home.path()).current_dir(self.home.path());
        finish(command).await
    }

    /// Starts it with its standard input and output in our hands.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let command = self.command(arguments);
        let mut command = hearing_signals(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

/// The same command as a terminal would start it. Whoever runs the tests under `nohup`, as some runners do, has
/// every child ignore SIGHUP, and pgvalet keeps to that.
pub(crate) fn hearing_signals(command: &Command) -> Command {
    let mut heard = Command::new("env");
    heard.arg("--default-signal=HUP,INT,QUIT,TERM").arg(command.get_program());
    heard.args(command.get_args());
    heard.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        heard.current_dir(folder);
    }
    heard
}

/// The first line that a child prints; the pipe stays open in the child's hands.
pub(crate) async fn first_line(child: &mut Child) -> String {
    let mut out = child.stdout.take().unwrap();
    let (line, out) = tokio::task::spawn_blocking(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        (String::from_utf8(line).unwrap(), out)
    })
    .await
    .unwrap();
    child.stdout = Some(out);
    line
}

pub(crate) async fn end(child: &mut Child) -> i32 {
    let mut status = None;
    eventually("the program ends", seconds(30), async || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    status.unwrap().code().unwrap_or(-1)
}
