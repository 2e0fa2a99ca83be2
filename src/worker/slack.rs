//! Does what Slack sent, some of it at once: one that waits for the database must not hold up the others for long.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{app::App, lifecycle::Tasks, worker::Ended};

/// What is done at once.
const AT_ONCE: usize = 16;

/// Runs until the daemon stops. What was taken in until then is done.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let Some(mut waiting) = app.deliveries() else { return Ok(()) };
    let stop = tasks.stop_token();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let next = tokio::select! {
            biased;
            next = waiting.recv() => next,
            () = stop.cancelled() => waiting.try_recv().ok(),
        };
        let Some(delivery) = next else { return Ok(()) };
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return Ok(()) };
        let app = Arc::clone(&app);
        tasks.spawn("do what Slack sent", async move {
            app.act_on(&delivery).await;
            drop(turn);
            Ended::Ok(())
        });
    }
}
