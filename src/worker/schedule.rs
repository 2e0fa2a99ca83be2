//! Cron expressions to nudges. Nothing runs inside the scheduler: it neither keeps a job from
//! overlapping itself nor waits for one at its end, so it may only wake a loop, which reads from the
//! record what there is to do. A nudge that is missed costs time and nothing else.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SubsecRound as _, Utc};
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::{app::Nudges, clock::Clock, telemetry::metrics::Metrics};

/// When the loops are woken: cron expressions.
pub struct Schedules {
    /// Those that look at what is due.
    pub nudge: String,
    /// The one that sweeps.
    pub sweep: String,
    /// The one that looks for drift.
    pub drift: String,
}

/// Starts the scheduler and runs until the daemon stops.
///
/// # Errors
/// If an expression cannot be read.
pub async fn run(
    schedules: Schedules,
    nudges: Nudges,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let Nudges { leases, audit, sweep, rotations, drift, people } = nudges;
    let (times, last) = (times(&schedules.nudge), Mutex::new(Clock.now()));
    let job = Job::new(schedules.nudge.as_str(), move |_, _| {
        let now = Clock.now();
        let before =
            std::mem::replace(&mut *last.lock().unwrap_or_else(PoisonError::into_inner), now);
        metrics.nudged(times.as_ref().map_or(0, |times| missed(times, before, now)));
        leases.notify_one();
        audit.notify_one();
        rotations.notify_one();
        people.notify_one();
    })?;
    scheduler.add(job).await?;
    for (cron, due) in [(schedules.sweep, sweep), (schedules.drift, drift)] {
        scheduler.add(Job::new(cron.as_str(), move |_, _| due.notify_one())?).await?;
    }
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

/// The same reading of the expression as the scheduler's.
fn times(cron: &str) -> Option<Cron> {
    CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build().parse(cron).ok()
}

/// More are not told apart: a machine that slept for a day missed a great many.
const MOST_MISSED: usize = 10_000;

/// How many instants of the expression passed since the last nudge, less the present one.
fn missed(times: &Cron, last: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    // Parts of a second would be carried into every instant.
    let last = last.trunc_subsecs(0);
    let passed = times.iter_after(last).take_while(|due| *due <= now).take(MOST_MISSED).count();
    u64::try_from(passed.saturating_sub(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_without_a_nudge_was_missed() {
        let every_minute = times("0 * * * * *").unwrap();
        let at = |text: &str| format!("2026-11-21T{text}Z").parse::<DateTime<Utc>>().unwrap();
        for (last, now, expected) in [
            ("12:00:00.4", "12:01:00.1", 0),
            // Nudged twice for one instant, or with the clock put back.
            ("12:01:00.1", "12:01:00.4", 0),
            ("12:05:00", "12:01:00", 0),
            ("12:00:00.4", "12:02:00.0", 1),
            ("12:00:00.4", "12:31:10", 30),
            ("00:00:00", "23:59:59", 1438),
        ] {
            assert_eq!(missed(&every_minute, at(last), at(now)), expected, "{last} to {now}");
        }
    }
}
