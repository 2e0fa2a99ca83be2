//! Count from the record what metrics show, every few seconds, so that a scrape asks no database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{App, error::Error},
    domain::breaker::State,
    telemetry::{labels::Breaker, levels::Levels},
};

/// A login that is not gone so long after its end is overdue: a removal has 40 s at most for one
/// try, but one that is not stuck takes far less than a second.
pub(in crate::app) const LATE: TimeDelta = TimeDelta::seconds(30);

/// An entry that is not sealed after this long is worth counting.
pub(in crate::app) const SEALED_WITHIN: TimeDelta = TimeDelta::seconds(5);

/// What a target that does not let its administrator in is told apart by.
const REFUSED: &str = "target_refused_admin";

fn count_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl App {
    /// Takes the levels that metrics show.
    ///
    /// # Errors
    /// If our database does not answer; the former levels then stay.
    pub async fn measure(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let counts = self.store.counts(now - LATE, now - SEALED_WITHIN).await?;
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        let (mut ready, mut unready, mut skew) = (0, 0, Duration::ZERO);
        let mut probed = Vec::new();
        for probe in self.probe_targets().await {
            match probe.server {
                Ok(_) => probed.push((probe.id, probe.name, false)),
                Err(REFUSED) => probed.push((probe.id, probe.name, true)),
                Err(_) => {}
            }
            match probe.server {
                Ok(server) if !server.in_recovery => ready += 1,
                Ok(_) | Err(_) => unready += 1,
            }
            skew = skew.max(probe.skew);
        }
        let breakers = [
            (Breaker::Closed, State::Closed),
            (Breaker::Open, State::Open),
            (Breaker::HalfOpen, State::HalfOpen),
        ]
        .map(|(label, state)| (label, u64::try_from(self.targets.breakers(state)).unwrap_or(0)));
        self.metrics.breakers(&breakers);
        self.note_refused_admins(&probed).await?;
        self.measure_notices().await?;
        let age = |since: Option<DateTime<Utc>>| {
            since.map_or(Duration::ZERO, |at| (now - at).to_std().unwrap_or_default())
        };
        let requests = self.store.waiting_requests(now).await?;
        self.metrics.requests_waiting(count(requests.count), age(requests.oldest));
        let emergencies = self.store.open_emergencies().await?;
        self.metrics.emergencies_open(count(emergencies.count), age(emergencies.oldest));
        let (open, overdue) = self.store.count_open_reviews(now).await?;
        self.metrics.reviews_open(count(open), count(overdue));
        let overdue = self.overdue().await?;
        self.metrics.measured(&Levels {
            leases: vec![
                ("provisioning", count(counts.provisioning)),
                ("active", count(counts.active)),
                ("revoking", count(counts.revoking)),
            ],
            overdue: count(counts.overdue),
            stuck: count(counts.stuck),
            standing_roles_overdue: count_of(overdue.standing_roles),
            admins_overdue: count_of(overdue.admins),
            drifted: count(counts.drifted),
            unsealed: count(counts.unsealed),
            untold: count(counts.untold),
            targets_ready: ready,
            targets_unready: unready,
            clock_skew: skew,
            state_pool: self.store.connections(),
            target_pool: self.targets.connections(),
        });
        Ok(())
    }
}
