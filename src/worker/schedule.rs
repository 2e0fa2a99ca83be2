//! Cron expressions to nudges. Nothing runs inside the scheduler: it neither keeps a job from
//! overlapping itself nor waits for one at its end, so it may only wake a loop, which reads from the
//! record what there is to do. A nudge that is missed costs time and nothing else.

use std::sync::Arc;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::{app::Nudges, telemetry::metrics::Metrics};

/// Starts the scheduler and runs until the daemon stops.
///
/// # Errors
/// If the expression cannot be read.
pub async fn run(
    cron: String,
    nudges: Nudges,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let job = Job::new(cron.as_str(), move |_, _| {
        let Nudges { leases, audit } = &nudges;
        metrics.nudged();
        leases.notify_one();
        audit.notify_one();
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    stop.cancelled().await;
    scheduler.shutdown().await
}

/// Can the expression be read?
///
/// # Errors
/// If not.
pub fn check(cron: &str) -> Result<(), JobSchedulerError> {
    Job::new(cron, |_, _| {}).map(drop)
}
