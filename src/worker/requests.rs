//! Ends requests whose time is over.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{
    app::{App, error::Error},
    lifecycle::Tasks,
    worker::{Ended, note, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "requests";

/// How often it looks. Nobody waits for it: what is over is treated as over from that instant on.
const EVERY: Duration = Duration::from_secs(5);

/// Runs until the daemon stops.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nobody = Notify::new();
    loop {
        note(&app, NAME, "end requests whose time is over; trying again", pass(&app).await);
        if !woken(&nobody, EVERY, &stop).await {
            return Ok(());
        }
    }
}

async fn pass(app: &App) -> Result<(), Error> {
    while app.lapse_requests().await? {}
    Ok(())
}
