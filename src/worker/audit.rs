//! Seals the audit behind the changes it reports, signs it, and tells others. Today the others are
//! the daemon's own log, where each entry is one line.

use std::{sync::Arc, time::Duration};

use crate::{
    app::{App, error::Error},
    lifecycle::Tasks,
    worker::{Ended, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "audit";

/// The longest sleep: entries of a daemon that did not live to seal them are found then.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// Runs until the daemon stops, and makes one last pass then.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nudge = Arc::clone(&app.nudges().audit);
    loop {
        note(&app, pass(&app).await);
        if !woken(&nudge, LONGEST_SLEEP, &stop).await {
            break;
        }
    }
    // What is not sealed now, the next start seals.
    note(&app, pass(&app).await);
    Ok(())
}

fn note(app: &App, done: Result<(), Error>) {
    if let Err(error) = &done {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "could not seal the audit; trying again"
        );
    }
    app.note_pass(NAME, done.err().map(|error| error.detail()));
}

async fn pass(app: &App) -> Result<(), Error> {
    app.seal_audit().await?;
    loop {
        let untold = app.untold().await?;
        if untold.is_empty() {
            return Ok(());
        }
        let mut ids = Vec::with_capacity(untold.len());
        for (id, body) in untold {
            tracing::info!(target: "pgvalet::event", audit_id = %id, entry = %body, "audited");
            ids.push(id);
        }
        app.mark_told(&ids).await?;
    }
}
