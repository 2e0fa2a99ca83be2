//! Forgets what is no longer needed, makes the digest, and counts what metrics show.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{
    app::{App, error::Error},
    domain::schedule::Schedule,
    lifecycle::Tasks,
    worker::{Ended, note, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "housekeeping";

/// How often it counts: as often as Prometheus commonly asks.
const EVERY: Duration = Duration::from_secs(15);

/// It forgets on one pass of so many.
const FORGET_EVERY: u32 = 40;

/// Runs until the daemon stops.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, digest: Schedule, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nobody = Notify::new();
    for pass in (0..FORGET_EVERY).cycle() {
        note(&app, NAME, "tidy up; trying again", tidy(&app, &digest, pass).await);
        if !woken(&nobody, EVERY, &stop).await {
            break;
        }
    }
    Ok(())
}

async fn tidy(app: &App, digest: &Schedule, pass: u32) -> Result<(), Error> {
    if pass == 0 {
        app.forget_old_keys().await?;
        app.forget_old_notices().await?;
    }
    app.make_digest(digest).await?;
    app.measure().await
}
