//! Claims what is due for rotation, standing roles and administrators' passwords, and rotates each in a
//! task of its own, so that a target that hangs holds up nobody else's.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    app::{App, error::Error},
    lifecycle::Tasks,
    worker::{Ended, note, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "rotations";

/// Under way at once: each takes some milliseconds on its target, or hangs there for its deadline.
const AT_ONCE: usize = 8;

/// The longest sleep: what another daemon began and did not live to end is found then.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// Runs until the daemon stops. What was begun is finished first.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nudge = Arc::clone(&app.nudges().rotations);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let done = pass(&app, &tasks, &turns).await;
        note(&app, NAME, "look for due rotations; trying again", done);
        if !woken(&nudge, LONGEST_SLEEP, &stop).await {
            return Ok(());
        }
    }
}

async fn pass(app: &Arc<App>, tasks: &Tasks, turns: &Arc<Semaphore>) -> Result<(), Error> {
    app.tell_overdue().await?;
    // What is claimed is begun at once: a claim that waits for its turn would be over before it.
    for claimed in app.claim_due_standing_roles(free(turns)).await? {
        let rotating = Arc::clone(app);
        begin(app, tasks, turns, async move { rotating.rotate_due_standing_role(&claimed).await });
    }
    for claimed in app.claim_due_admins(free(turns)).await? {
        let rotating = Arc::clone(app);
        begin(app, tasks, turns, async move { rotating.rotate_due_admin(&claimed).await });
    }
    Ok(())
}

fn free(turns: &Semaphore) -> i64 {
    i64::try_from(turns.available_permits()).unwrap_or(i64::MAX)
}

fn begin(
    app: &Arc<App>,
    tasks: &Tasks,
    turns: &Arc<Semaphore>,
    rotating: impl Future<Output = Result<(), Error>> + Send + 'static,
) {
    let app = Arc::clone(app);
    let turn = Arc::clone(turns).try_acquire_owned();
    tasks.spawn("rotate", async move {
        // What stands in the way is recorded and logged where it is found.
        let done = rotating.await;
        drop(turn);
        if done.is_ok() {
            // There may be more than there were turns.
            app.nudges().rotations.notify_one();
        }
        Ended::Ok(())
    });
}
