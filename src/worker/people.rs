//! Looks after people: ends what the disabled and those who leave still have, and asks the provider about those who are signed in.
//! Several ask at once, so that a provider that hangs over one question holds up few others.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    app::{App, error::Error},
    lifecycle::Tasks,
    worker::{Ended, note, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "people";

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// The longest sleep: what another daemon began and did not live to end is found then.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// Runs until the daemon stops. What was begun is finished first.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nudge = Arc::clone(&app.nudges().people);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let done = pass(&app, &tasks, &turns).await;
        note(&app, NAME, "look after people; trying again", done);
        if !woken(&nudge, LONGEST_SLEEP, &stop).await {
            return Ok(());
        }
    }
}

async fn pass(app: &Arc<App>, tasks: &Tasks, turns: &Arc<Semaphore>) -> Result<(), Error> {
    app.end_leases_of_the_disabled().await?;
    app.go_on_offboarding().await?;
    // What is claimed is begun at once: a claim that waits for its turn would be over before it.
    let free = i64::try_from(turns.available_permits()).unwrap_or(i64::MAX);
    for due in app.claim_due_sessions(free).await? {
        let turn = Arc::clone(turns).try_acquire_owned();
        let app = Arc::clone(app);
        tasks.spawn("ask about a person", async move {
            if let Err(error) = app.recheck_session(&due).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not ask about a person; trying again");
            }
            drop(turn);
            Ended::Ok(())
        });
    }
    Ok(())
}
