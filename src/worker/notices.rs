//! Tells others what the audit says: the dispatcher, woken when the audit was sealed, and a loop for each channel, so
//! that one which hangs holds up no other.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Channel, error::Error, notices::Pass},
    domain::backoff,
    lifecycle::{Hangups, TaskFailure, Tasks},
    worker::{Ended, note, woken},
};

/// The name that the dispatcher has in logs and in `/readyz`.
const DISPATCH: &str = "notices";

/// The name of those that send.
const SEND: &str = "sending notices";

/// The longest sleep: what another daemon sealed or recorded is found then.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// The same, where nobody wants to be told anything.
const NOBODY_SLEEP: Duration = Duration::from_secs(15);

/// How long what is being sent may take when the daemon is to stop.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Records what is to be told until the daemon stops.
///
/// # Errors
/// Never.
pub async fn dispatch(app: Arc<App>, sealed: Arc<Notify>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nobody = Notify::new();
    let (nudge, sleep) = match app.channels() {
        [] => (&nobody, NOBODY_SLEEP),
        _ => (&*sealed, LONGEST_SLEEP),
    };
    loop {
        note(
            &app,
            DISPATCH,
            "record what is to be told; trying again",
            app.dispatch_notices().await,
        );
        if !woken(nudge, sleep, &stop).await {
            return Ok(());
        }
    }
}

/// Sends to all channels until the daemon stops.
///
/// # Errors
/// Never.
pub async fn send(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    join_all(app.channels().iter().map(|channel| send_to(&app, channel, &stop))).await;
    stop.cancelled().await;
    Ok(())
}

/// Reads the secrets of webhooks anew at each SIGHUP.
///
/// # Errors
/// If reading them panicked.
pub async fn read_secrets_again(
    app: Arc<App>,
    mut hangups: Hangups,
    tasks: Tasks,
) -> Result<(), TaskFailure> {
    let stop = tasks.stop_token();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = hangups.next() => {
                let app = Arc::clone(&app);
                let reading = move || app.read_webhook_secrets_again();
                tasks.spawn_blocking("read the secrets of webhooks", reading).await?;
            }
        }
    }
}

/// A channel that fails is left alone for a while, longer each time; then it is sent one notice alone.
async fn send_to(app: &App, channel: &Channel, stop: &CancellationToken) {
    let mut failures = 0_i32;
    let mut quiet_until = Instant::now();
    let nobody = Notify::new();
    loop {
        let mut again = false;
        if Instant::now() >= quiet_until {
            let Some(passed) = told(app, channel, failures > 0, stop).await else { return };
            if let Ok(pass) = &passed {
                again = pass.done > 0;
                if pass.done > 0 {
                    failures = 0;
                } else if pass.failed > 0 {
                    failures = failures.saturating_add(1);
                    let wait = backoff::wait_after(failures, 0.0).to_std().unwrap_or_default();
                    quiet_until = Instant::now() + pass.after.map_or(wait, |after| after.max(wait));
                }
            }
            note_sent(app, passed.map(drop));
        } else {
            note_sent(app, Ok(()));
        }
        if again {
            if stop.is_cancelled() {
                return;
            }
            continue;
        }
        // Quiet ends at its time, whatever is recorded meanwhile.
        let quiet = quiet_until.saturating_duration_since(Instant::now());
        let (nudge, sleep) = if quiet.is_zero() {
            (&*channel.waker, LONGEST_SLEEP)
        } else {
            (&nobody, quiet.min(LONGEST_SLEEP))
        };
        if !woken(nudge, sleep, stop).await {
            return;
        }
    }
}

/// One pass. None if the daemon is to stop and it took too long: what was sent is sent again then, under the same id.
async fn told(
    app: &App,
    channel: &Channel,
    probe: bool,
    stop: &CancellationToken,
) -> Option<Result<Pass, Error>> {
    let mut telling = Box::pin(app.tell(channel, probe));
    tokio::select! {
        passed = &mut telling => Some(passed),
        () = stop.cancelled() => tokio::time::timeout(LAST_WORDS, telling).await.ok(),
    }
}

fn note_sent(app: &App, done: Result<(), Error>) {
    note(app, SEND, "look for notices to send; trying again", done);
}
