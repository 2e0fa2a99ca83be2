//! Signals, the stop token, and the task tracker that every spawned task goes through.
//!
//! A daemon whose reaper has died while its API still answers is worse than one that is down: leases
//! are handed out and nobody takes them back. So each task has a name, and one that panics, fails or
//! ends by itself stops all the others; the supervisor then starts the daemon afresh.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The tasks of a daemon. Clones are the same set.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    book: Arc<Mutex<Book>>,
}

/// Who is running, and what went wrong first.
#[derive(Default)]
struct Book {
    next: u64,
    running: BTreeMap<u64, &'static str>,
    failure: Option<TaskFailure>,
}

/// A task did not do what it was there for.
#[derive(Debug, thiserror::Error)]
#[error("the task `{task}` {how}")]
pub struct TaskFailure {
    /// The name it was spawned with.
    pub task: &'static str,
    how: How,
    #[source]
    source: Option<AnyError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Failed,
    Panicked,
    EndedEarly,
    NeverRan,
}

/// Some tasks had not ended when the time was up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("still running when the time was up: {}", .names.join(", "))]
pub struct Unfinished {
    /// Their names, in the order in which they were spawned.
    pub names: Vec<&'static str>,
}

/// What the end of a task means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    /// It may end well at any time.
    UntilDone,
    /// It may end only once it was asked to.
    UntilStopped,
    /// Its end, a panic too, is told to the one who waits for it.
    Awaited,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that tells a task to stop: `token.cancelled().await`.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a piece of work that ends by itself. If it fails or panics, the daemon stops.
    pub fn spawn<E: Into<AnyError>>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.start(name, Lifetime::UntilDone, work);
    }

    /// Starts a loop that runs until the stop token is cancelled. If it fails, panics or ends before
    /// that, the daemon stops.
    pub fn spawn_loop<E: Into<AnyError>>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.start(name, Lifetime::UntilStopped, work);
    }

    /// Runs `work` on a thread where it may block, and answers what it made. A panic in it is the
    /// caller's to handle, since the caller waits for the answer.
    ///
    /// # Errors
    /// If the work panicked, or the runtime ended before it began.
    pub async fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskFailure> {
        let entry = self.enter(name, Lifetime::Awaited);
        let work = move || {
            let value = work();
            drop(entry);
            value
        };
        self.tracker.spawn_blocking(work).await.map_err(|error| TaskFailure {
            task: name,
            how: if error.is_panic() { How::Panicked } else { How::NeverRan },
            source: None,
        })
    }

    /// Asks every task to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every task has ended, for at most `deadline`. Does not ask them to.
    ///
    /// # Errors
    /// The tasks that had not ended by then.
    pub async fn wait(&self, deadline: Duration) -> Result<(), Unfinished> {
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.unfinished()),
        }
    }

    /// What went wrong first, if anything did. It is handed out once.
    #[must_use]
    pub fn take_failure(&self) -> Option<TaskFailure> {
        self.book().failure.take()
    }

    /// The life of the daemon: until a signal or a failed task, then everything is asked to stop and
    /// is waited for, until the deadline or a second signal.
    ///
    /// # Errors
    /// The tasks that had not ended by then.
    pub async fn run(&self, signals: &mut Signals, deadline: Duration) -> Result<(), Unfinished> {
        let signal = tokio::select! {
            () = self.stop.cancelled() => "none",
            name = signals.next() => name,
        };
        tracing::info!(signal, "stopping");
        self.stop();
        tokio::select! {
            ended = self.wait(deadline) => ended,
            _ = signals.next() => Err(self.unfinished()),
        }
    }

    fn start<E: Into<AnyError>>(
        &self,
        name: &'static str,
        lifetime: Lifetime,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let entry = self.enter(name, lifetime);
        self.tracker.spawn(async move {
            let ended = work.await;
            let early = lifetime == Lifetime::UntilStopped && !entry.tasks.stop.is_cancelled();
            match ended {
                Err(error) => entry.failed(How::Failed, Some(error.into())),
                Ok(()) if early => entry.failed(How::EndedEarly, None),
                Ok(()) => {}
            }
        });
    }

    fn enter(&self, name: &'static str, lifetime: Lifetime) -> Entry {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.running.insert(number, name);
        Entry { tasks: self.clone(), number, name, lifetime }
    }

    fn unfinished(&self) -> Unfinished {
        Unfinished { names: self.book().running.values().copied().collect() }
    }

    /// The book is only ever changed by single statements, so one left by a panic is still whole.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's line in the book. It is dropped with the task, however that ends: this is how a panic is
/// noticed without a second task that waits for the first.
struct Entry {
    tasks: Tasks,
    number: u64,
    name: &'static str,
    lifetime: Lifetime,
}

impl Entry {
    fn failed(&self, how: How, source: Option<AnyError>) {
        let failure = TaskFailure { task: self.name, how, source };
        tracing::error!(task = self.name, "{failure}: the daemon stops");
        self.tasks.book().failure.get_or_insert(failure);
        self.tasks.stop();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if std::thread::panicking() && self.lifetime != Lifetime::Awaited {
            self.failed(How::Panicked, None);
        }
        self.tasks.book().running.remove(&self.number);
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::EndedEarly => "ended before it was asked to",
            Self::NeverRan => "was not run, because the runtime was ending",
        })
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.book().running).finish_non_exhaustive()
    }
}

/// SIGINT and SIGTERM. Once this exists they no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen. Must be called inside the runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one and answers its name. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// SIGHUP. Once this exists it no longer ends the process.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Begins to listen. Must be called inside the runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one. Cancelling the wait loses nothing.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn loops_end_when_they_are_told_to() {
        let tasks = Tasks::new();
        let token = tasks.stop_token();
        tasks.spawn_loop("loop", async move {
            token.cancelled().await;
            Ok::<_, Infallible>(())
        });
        tasks.stop();
        assert_eq!(tasks.wait(LONG).await, Ok(()));
        assert!(tasks.take_failure().is_none());
    }

    #[tokio::test]
    async fn a_finished_piece_of_work_stops_nothing() {
        let tasks = Tasks::new();
        tasks.spawn("work", async { Ok::<_, Infallible>(()) });
        assert_eq!(tasks.wait(LONG).await, Ok(()));
        assert!(!tasks.stop_token().is_cancelled());
    }

    #[tokio::test]
    async fn the_first_failure_stops_the_daemon_and_is_kept() {
        let tasks = Tasks::new();
        tasks.spawn("bad", async { Err(io::Error::other("no disk")) });
        tokio::time::timeout(LONG, tasks.stop_token().cancelled()).await.unwrap();
        assert_eq!(tasks.wait(LONG).await, Ok(()));
        let failure = tasks.take_failure().unwrap();
        assert_eq!(failure.to_string(), "the task `bad` failed");
        assert_eq!(std::error::Error::source(&failure).unwrap().to_string(), "no disk");
    }

    #[tokio::test]
    async fn a_panic_stops_the_daemon() {
        let tasks = Tasks::new();
        tasks.spawn::<Infallible>("shaky", async { panic!("on purpose") });
        tokio::time::timeout(LONG, tasks.stop_token().cancelled()).await.unwrap();
        assert_eq!(tasks.wait(LONG).await, Ok(()));
        assert_eq!(tasks.take_failure().unwrap().to_string(), "the task `shaky` panicked");
    }

    #[tokio::test]
    async fn a_loop_that_ends_by_itself_stops_the_daemon() {
        let tasks = Tasks::new();
        tasks.spawn_loop("loop", async { Ok::<_, Infallible>(()) });
        tokio::time::timeout(LONG, tasks.stop_token().cancelled()).await.unwrap();
        let failure = tasks.take_failure().unwrap();
        assert_eq!(failure.to_string(), "the task `loop` ended before it was asked to");
    }

    #[tokio::test]
    async fn the_unfinished_are_named() {
        let tasks = Tasks::new();
        tasks.spawn::<Infallible>("deaf", std::future::pending());
        tasks.spawn("quick", async { Ok::<_, Infallible>(()) });
        let left = tasks.wait(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(left.names, ["deaf"]);
    }

    #[tokio::test]
    async fn blocking_work_answers_and_its_panic_is_the_callers() {
        let tasks = Tasks::new();
        assert_eq!(tasks.spawn_blocking("hash", || 7).await.unwrap(), 7);
        let failure = tasks.spawn_blocking("hash", || panic!("on purpose")).await;
        assert_eq!(failure.map(|(): ()| ()).unwrap_err().to_string(), "the task `hash` panicked");
        assert!(!tasks.stop_token().is_cancelled());
    }

    #[tokio::test]
    async fn one_signal_stops_and_the_second_does_not_wait() {
        let tasks = Tasks::new();
        let mut signals = Signals::listen().unwrap();
        let token = tasks.stop_token();
        tasks.spawn::<Infallible>("deaf", std::future::pending());
        let kill = |signal| {
            rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
        };
        let both = async {
            kill(rustix::process::Signal::TERM);
            token.cancelled().await;
            kill(rustix::process::Signal::INT);
        };
        let (ended, ()) = tokio::join!(tasks.run(&mut signals, LONG * 100), both);
        assert_eq!(ended.unwrap_err().names, ["deaf"]);
    }
}
