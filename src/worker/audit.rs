//! Seals the audit behind the changes it reports and signs it; and tells others. The others are the
//! daemon's own log, where each entry is one line, and the audit log: JSON lines and OTLP.
//!
//! Two loops, because those who are told may be slow (a pipe that nobody reads), and sealing must not
//! wait for them. Entries are told at least once and in order: one counts as told once it was written.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{
    app::{App, error::Error},
    domain::audit::Sealed,
    lifecycle::{Hangups, TaskFailure, Tasks},
    telemetry::audit_log::AuditLog,
    worker::{Ended, note, woken},
};

/// The name that the sealing loop has in logs and in `/readyz`.
const NAME: &str = "audit";

/// The name of the telling one.
const TELL: &str = "audit log";

/// The longest sleep: entries of a daemon that did not live to seal them are found then.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// How long entries gather before they are sealed.
const GATHER: Duration = Duration::from_millis(50);

/// Entries could not be told.
#[derive(Debug, thiserror::Error)]
enum NotTold {
    #[error("read or mark the entries to tell: {}", .0.detail())]
    Record(Error),
    #[error("write the audit log")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Lost(TaskFailure),
}

/// Seals until the daemon stops, and makes one last pass then. Wakes the loops that tell after each.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, wakes: Vec<Arc<Notify>>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nudge = Arc::clone(&app.nudges().audit);
    loop {
        seal(&app).await;
        wakes.iter().for_each(|loops| loops.notify_one());
        if !woken(&nudge, LONGEST_SLEEP, &stop).await {
            break;
        }
        // What comes in a burst is sealed together.
        tokio::time::sleep(GATHER).await;
    }
    // What is not sealed now, the next start seals.
    seal(&app).await;
    Ok(())
}

/// Tells others until the daemon stops, and makes one last pass then.
///
/// # Errors
/// Never.
pub async fn tell(app: Arc<App>, log: Arc<AuditLog>, nudge: Arc<Notify>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    loop {
        note_told(&app, tell_all(&app, &log, &tasks).await);
        if !woken(&nudge, LONGEST_SLEEP, &stop).await {
            break;
        }
    }
    // What is not told now, the next start tells.
    note_told(&app, tell_all(&app, &log, &tasks).await);
    Ok(())
}

/// Opens the audit log anew whenever a SIGHUP says that the system has moved the file away.
///
/// # Errors
/// Never.
pub async fn reopen(log: Arc<AuditLog>, mut hangups: Hangups, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = hangups.next() => match log.reopen() {
                Ok(()) => tracing::info!("the audit log was opened anew"),
                Err(e) => tracing::error!(
                    error = &e as &dyn std::error::Error,
                    "could not open the audit log anew; the old file is written on"
                ),
            },
        }
    }
}

async fn seal(app: &App) {
    note(app, NAME, "seal the audit; trying again", app.seal_audit().await);
}

fn note_told(app: &App, done: Result<(), NotTold>) {
    if let Err(error) = &done {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "could not tell audit entries; trying again"
        );
    }
    app.note_pass(TELL, done.err().map(|error| error.to_string()));
}

async fn tell_all(app: &App, log: &Arc<AuditLog>, tasks: &Tasks) -> Result<(), NotTold> {
    loop {
        let untold = app.untold().await.map_err(NotTold::Record)?;
        if untold.entries.is_empty() {
            return Ok(());
        }
        for Sealed { position, body, .. } in &untold.entries {
            tracing::info!(target: "pgvalet::event", position, entry = %body, "audited");
        }
        let log = Arc::clone(log);
        let writing = tasks.spawn_blocking("write the audit log", move || {
            log.tell(untold.entries.iter().map(|entry| entry.body.as_str())).map(|()| untold)
        });
        let told = writing.await.map_err(NotTold::Lost)?.map_err(NotTold::Write)?;
        app.mark_told(&told).await.map_err(NotTold::Record)?;
    }
}
