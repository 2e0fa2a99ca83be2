//! A program that runs with a lease's variables: its environment, the signals that reach us
//! meanwhile, and its exit status.

use std::{
    future::Future, io, os::unix::process::ExitStatusExt, pin::pin, process::ExitStatus,
    time::Duration,
};

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal as Stream, SignalKind, signal},
};

use crate::secret::Secret;

/// Variables of ours or of libpq's that a child must not inherit. A service file or `PGHOSTADDR`
/// would lead it elsewhere with the lease's password, and the token would let it get any other lease.
const WITHHELD: [&str; 16] = [
    "PGVALET_TOKEN",
    "PGVALET_TOKEN_FILE",
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGPASSFILE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCRL",
    "PGSSLNEGOTIATION",
    "PGREQUIRESSL",
    "PGREQUIREPEER",
    "PGREQUIREAUTH",
    "PGTARGETSESSIONATTRS",
    "PGGSSENCMODE",
];

/// How long psql has to end after it was told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose Ctrl-C is it, and what happens to a child that was told to end?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// An interactive program that handles Ctrl-C itself, and is ended if it does not end.
    Interactive,
    /// Any program: it gets the signals that we get, and takes its time.
    Passing,
}

/// The signals that would end us before the lease is revoked. They are caught from before the lease
/// is asked for.
#[derive(Debug)]
pub struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
    quit: Stream,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next one.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }

    /// Waits for the next one, whichever it is.
    pub async fn any(&mut self) {
        self.next().await;
    }

    /// One that came already, as the exit status that stands for it.
    pub async fn came(&mut self) -> Option<u8> {
        tokio::select! {
            biased;
            signal = self.next() => Some(signal_status(signal.as_raw())),
            () = std::future::ready(()) => None,
        }
    }
}

/// Starts a program with a lease's variables.
///
/// # Errors
/// If it cannot be started.
pub fn start(
    mut command: Command,
    variables: &[(&'static str, Secret<String>)],
) -> io::Result<Child> {
    for name in WITHHELD {
        command.env_remove(name);
    }
    for (name, value) in variables {
        command.env(name, value.expose());
    }
    command.kill_on_drop(true).spawn()
}

/// Waits for a child, passing on what it should hear of, while `beside` goes on beside it. Gives the
/// child's exit status, 128 + n if signal n ended it.
///
/// # Errors
/// If the child cannot be waited for.
pub async fn attend(
    child: &mut Child,
    signals: &mut Signals,
    manners: Manners,
    beside: impl Future<Output = ()>,
) -> io::Result<u8> {
    let mut beside = pin!(async {
        beside.await;
        std::future::pending::<()>().await;
    });
    let mut kill_at = None;
    loop {
        let deadline = async {
            match kill_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = child.wait() => return status.map(exit_status),
            signal = signals.next() => {
                if is_for_child(signal, manners) {
                    pass_on(child, signal);
                    if manners == Manners::Interactive {
                        kill_at = Some(tokio::time::Instant::now() + PATIENCE);
                    }
                }
            }
            () = deadline => {
                kill_at = None;
                child.start_kill()?;
            }
            () = &mut beside => {}
        }
    }
}

/// Ctrl-C on a terminal goes to the whole foreground group, so that the child has it already; a
/// second one would make many programs give up without clearing up.
fn is_for_child(signal: Signal, manners: Manners) -> bool {
    if signal == Signal::INT || signal == Signal::QUIT {
        return manners == Manners::Passing && !is_in_foreground();
    }
    true
}

fn is_in_foreground() -> bool {
    let group = rustix::termios::tcgetpgrp(io::stdin())
        .or_else(|_| rustix::termios::tcgetpgrp(io::stderr()));
    group.is_ok_and(|group| group == getpgrp())
}

fn pass_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // A child that ended in this moment is what the next wait finds.
        let _ = kill_process(pid, signal);
    }
}

fn exit_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) => signal_status(signal),
        (None, None) => 1,
    }
}

/// A shell's way to tell of a signal.
fn signal_status(signal: i32) -> u8 {
    u8::try_from(signal).map_or(255, |signal| signal.saturating_add(128))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(script: &str) -> u8 {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PGSERVICE", "elsewhere").env("PGVALET_TOKEN", "pgv_x");
        let variables = [("PGUSER", Secret::new("pgv_alice".to_owned()))];
        let mut child = start(command, &variables).unwrap();
        let mut signals = Signals::catch().unwrap();
        attend(&mut child, &mut signals, Manners::Passing, async {}).await.unwrap()
    }

    #[tokio::test]
    async fn the_exit_status_is_the_childs() {
        assert_eq!(outcome("exit 0").await, 0);
        assert_eq!(outcome("exit 7").await, 7);
        assert_eq!(outcome("kill -KILL $$").await, 137);
        assert_eq!(outcome("kill -TERM $$").await, 143);
    }

    #[tokio::test]
    async fn the_child_sees_the_lease_and_neither_the_token_nor_another_way() {
        let script = r#"test "$PGUSER" = pgv_alice && test -z "$PGSERVICE$PGVALET_TOKEN""#;
        assert_eq!(outcome(script).await, 0);
    }
}
