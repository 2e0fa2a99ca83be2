//! Looks after access reviews: opens those whose time has come, and does what is due of those that are open.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{
    app::App,
    lifecycle::Tasks,
    worker::{Ended, note, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "reviews";

/// How often it looks. What is due is due in days.
const EVERY: Duration = Duration::from_secs(2);

/// Runs until the daemon stops.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nobody = Notify::new();
    loop {
        let done = app.look_after_reviews().await;
        // Targets may take their time, which a stop does not wait for.
        let learnt = tokio::select! {
            learnt = app.learn_exercise() => learnt,
            () = stop.cancelled() => return Ok(()),
        };
        note(&app, NAME, "look after access reviews; trying again", done.and(learnt));
        if !woken(&nobody, EVERY, &stop).await {
            return Ok(());
        }
    }
}
