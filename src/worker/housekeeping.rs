//! Forgets what is no longer needed.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{
    app::App,
    lifecycle::Tasks,
    worker::{Ended, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "housekeeping";

/// How often it looks. Less than the minute after which `/readyz` calls a loop stuck.
const EVERY: Duration = Duration::from_secs(45);

/// Runs until the daemon stops.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nobody = Notify::new();
    loop {
        match app.forget_old_keys().await {
            Ok(()) => app.note_pass(NAME, None),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not tidy up; trying again"
                );
                app.note_pass(NAME, Some(error.detail()));
            }
        }
        if !woken(&nobody, EVERY, &stop).await {
            return Ok(());
        }
    }
}
