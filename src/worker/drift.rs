//! Looks whether targets hold what the profiles say, when the schedule says so.

use std::sync::Arc;

use crate::{
    app::App,
    lifecycle::Tasks,
    worker::{Ended, note},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "drift";

/// Runs until the daemon stops.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nudge = Arc::clone(&app.nudges().drift);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = nudge.notified() => {}
        }
        // Several daemons have the same schedule: what one has mended the next finds mended.
        tokio::time::sleep(app.jitter()).await;
        let done = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = app.look_for_drift_by_schedule() => done,
        };
        note(&app, NAME, "look for drift; the schedule says when to try again", done);
    }
}
