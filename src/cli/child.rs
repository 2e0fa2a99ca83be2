//! A program that runs with a lease's variables: its environment, the signals that reach us
//! meanwhile, and its exit status.

use std::{
    future::Future, io, os::unix::process::ExitStatusExt, pin::pin, process::ExitStatus,
    time::Duration,
};

// A session or group whose leader is outside of our PID namespace is 0 (pid_namespaces(7)), which rustix
// takes for impossible.
use nix::unistd::{getpgrp, getpid, getsid};
use rustix::process::{Pid, Signal, getppid, kill_process};
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

/// How long psql, or a program whose parent is gone, has to end after it was told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether the parent is still there.
const GLANCE: Duration = Duration::from_millis(500);

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
    /// None under nohup: what was to go on when its terminal closes, goes on.
    hangup: Option<Stream>,
    quit: Stream,
    /// Who started us, while that is looked at.
    parent: Option<Pid>,
}

/// What would end us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Signal(Signal),
    /// Whoever started us is gone, and could not tell.
    Orphaned,
}

impl Heard {
    /// The exit status that stands for it. A shell whose terminal closes would have sent SIGHUP.
    fn status(self) -> u8 {
        match self {
            Self::Signal(signal) => signal_status(signal.as_raw()),
            Self::Orphaned => signal_status(Signal::HUP.as_raw()),
        }
    }
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn catch() -> io::Result<Self> {
        let hangup = if is_ignored(Signal::HUP) { None } else { Some(SignalKind::hangup()) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: hangup.map(signal).transpose()?,
            quit: signal(SignalKind::quit())?,
            parent: None,
        })
    }

    /// The same, and notices when whoever started us is gone, as when a shell is killed. Whoever uses nohup
    /// or setsid wants to outlive it; and a daemon of the system has no parent to lose.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn catch_and_watch_the_parent() -> io::Result<Self> {
        let signals = Self::catch()?;
        let leads_session = getsid(None).is_ok_and(|session| session == getpid());
        let is_tied = signals.hangup.is_some() && !leads_session;
        let parent = getppid().filter(|parent| is_tied && !parent.is_init());
        Ok(Self { parent, ..signals })
    }

    /// The next one.
    async fn next(&mut self) -> Heard {
        let parent = self.parent;
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            _ = self.terminate.recv() => Heard::Signal(Signal::TERM),
            _ = hangup => Heard::Signal(Signal::HUP),
            _ = self.interrupt.recv() => Heard::Signal(Signal::INT),
            _ = self.quit.recv() => Heard::Signal(Signal::QUIT),
            () = is_gone(parent) => Heard::Orphaned,
        };
        if heard == Heard::Orphaned {
            // Once is enough.
            self.parent = None;
        }
        heard
    }

    /// Waits for the next one, whichever it is.
    pub async fn any(&mut self) {
        self.next().await;
    }

    /// One that came already, as the exit status that stands for it.
    pub async fn came(&mut self) -> Option<u8> {
        tokio::select! {
            biased;
            heard = self.next() => Some(heard.status()),
            () = std::future::ready(()) => None,
        }
    }
}

/// Waits until somebody else is our parent. The system tells nobody of that in a way that all systems have,
/// and that does not mistake the end of a thread for the end of its program.
async fn is_gone(parent: Option<Pid>) {
    let Some(parent) = parent else { return std::future::pending().await };
    while getppid() == Some(parent) {
        tokio::time::sleep(GLANCE).await;
    }
}

/// Was a signal ignored by whoever started us? Where the system does not say, it was not.
fn is_ignored(signal: Signal) -> bool {
    let bit = u32::try_from(signal.as_raw()).unwrap_or_default().saturating_sub(1);
    let told = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = told.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1)
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
            heard = signals.next() => {
                let is_last_word = manners == Manners::Interactive || heard == Heard::Orphaned;
                let signal = match heard {
                    Heard::Signal(signal) if !is_for_child(signal, manners) => continue,
                    Heard::Signal(signal) => signal,
                    // Nobody is left to tell it again, so that it gets the plainest word, and an end.
                    Heard::Orphaned => Signal::TERM,
                };
                pass_on(child, signal);
                if is_last_word {
                    kill_at = Some(tokio::time::Instant::now() + PATIENCE);
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
    group.is_ok_and(|group| group.as_raw_nonzero().get() == getpgrp().as_raw())
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
        let mut signals = Signals::catch_and_watch_the_parent().unwrap();
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
