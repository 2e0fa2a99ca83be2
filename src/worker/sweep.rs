//! Looks every few seconds whether the record can be believed, and sweeps when the schedule says so.

use std::{sync::Arc, time::Duration};

use crate::{
    app::{App, error::Error},
    lifecycle::Tasks,
    worker::{Ended, note},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "sweep";

/// How often it looks at the record: so much work a backup can lack unseen.
const EVERY: Duration = Duration::from_secs(15);

/// Runs until the daemon stops.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nudge = Arc::clone(&app.nudges().sweep);
    let mut is_time = false;
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = pass(&app, is_time) => done,
        };
        note(&app, NAME, "sweep; trying again", done);
        is_time = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = nudge.notified() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
    }
}

async fn pass(app: &App, is_time: bool) -> Result<(), Error> {
    if !is_time {
        return app.check_record().await.map(drop);
    }
    // Several daemons have the same schedule: the first one does most of the work.
    tokio::time::sleep(app.jitter()).await;
    if !app.sweep_by_schedule().await? {
        app.nudges().sweep.notify_one();
    }
    Ok(())
}
