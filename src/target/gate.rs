//! What every connection to a target passes: is it worth trying, and who answered.
//!
//! A breaker ([`crate::domain::breaker`]) keeps callers from a target that does not answer. Each new
//! connection asks which cluster it came to, and how late it is there: an address may lead to another
//! cluster some day (a restore, a changed DNS name), where no login would be found, and each would be
//! taken for gone.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::{
    clock::{self, Clock},
    domain::breaker::{Breaker, Fault, State},
    rng,
    target::{
        TOLERATED_SKEW,
        error::{self, Error, Meaning},
        observe,
    },
};

/// The most that an end is put off on a target whose clock is ahead of ours. If that clock is set right
/// later, PostgreSQL itself would let the login in for this much too long; pgvalet ends it on time.
const MOST_AHEAD: TimeDelta = TimeDelta::hours(1);

/// The gate of one target.
#[derive(Default)]
pub(crate) struct Gate {
    clock: Clock,
    /// The cluster that the target was recorded as.
    cluster: OnceLock<i64>,
    passage: Mutex<Passage>,
}

#[derive(Default)]
struct Passage {
    breaker: Breaker,
    /// What the latest failure was, in words.
    why: String,
    /// Which cluster the latest connection came to.
    seen: Option<i64>,
    /// How far the target's clock is ahead of ours.
    ahead: TimeDelta,
}

impl Gate {
    /// Nothing is done on another cluster than this.
    pub(crate) fn expect_cluster(&self, cluster: i64) {
        // Known once and for all: a target that is recorded anew has a new handle.
        let _ = self.cluster.set(cluster);
    }

    /// May a connection be asked for?
    pub(crate) fn admit(&self) -> Result<(), Error> {
        let mut passage = self.passage();
        passage
            .breaker
            .admit(Instant::now())
            .map_err(|wait| Error::LeftAlone { retry_after: wait, why: passage.why.clone() })
    }

    /// Did the latest connection come to the cluster that is meant?
    pub(crate) fn check_cluster(&self) -> Result<(), Error> {
        let (Some(&expected), Some(seen)) = (self.cluster.get(), self.passage().seen) else {
            return Ok(());
        };
        if expected == seen { Ok(()) } else { Err(Error::AnotherCluster { expected, seen }) }
    }

    /// Takes note of how asking for a connection went.
    pub(crate) fn note<T>(&self, asked: &Result<T, Error>) {
        let now = Instant::now();
        let fault = match asked {
            Err(Error::RefusedAdmin { .. }) => Fault::Refused,
            // Where a password comes from may be slow to say that it has none.
            Err(
                Error::AnotherCluster { .. }
                | Error::Tls { .. }
                | Error::Unreachable { .. }
                | Error::NoPassword { .. },
            ) => Fault::Away,
            // It answered, or we did not ask.
            Ok(_) | Err(_) => {
                if self.passage().breaker.succeeded() {
                    tracing::info!("a target can be signed in to again");
                }
                return;
            }
        };
        let jitter = rng::bytes().map_or(0.0, |[byte]: [u8; 1]| f64::from(byte) / 255.0);
        let mut passage = self.passage();
        passage.why = asked.as_ref().err().map(ToString::to_string).unwrap_or_default();
        if passage.breaker.failed(fault, jitter, now) {
            let why = passage.why.clone();
            drop(passage);
            tracing::warn!(
                why,
                "a target is left alone for a while: it failed several times in a row"
            );
        }
    }

    /// Forgets failures: what we sign in with is another one now.
    pub(crate) fn forgive(&self) {
        self.passage().breaker = Breaker::default();
    }

    /// How long the target is left alone yet.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.passage().breaker.wait(Instant::now())
    }

    /// Where its breaker is.
    pub(crate) fn breaker(&self) -> State {
        self.passage().breaker.state()
    }

    /// An instant of ours as it reads on the target's clock, so that PostgreSQL shuts the door when it
    /// is due and not when a wrong clock says so. The same instant where the clocks agree well enough.
    pub(crate) fn there(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        let ahead = self.passage().ahead;
        if ahead.abs() > TOLERATED_SKEW { instant + ahead.min(MOST_AHEAD) } else { instant }
    }

    /// Asks a new connection where it leads. What it cannot say is no fault of the connection's: then
    /// nothing is known.
    pub(crate) async fn look(&self, connection: &mut PgConnection) {
        let sent = self.clock.now();
        let row = match observe::whereabouts(connection, observe::SYSTEM_IDENTIFIER).await {
            Err(error) if error::meaning_of(&error) == Some(Meaning::NotAllowed) => {
                observe::whereabouts(connection, "NULL::bigint").await
            }
            outcome => outcome,
        };
        let received = self.clock.now();
        let Ok((cluster, there)) = row else { return };
        self.passage().seen = cluster;
        self.note_clock(sent, there, received);
    }

    /// Takes note of what the target's clock said at some instant between two of ours.
    pub(crate) fn note_clock(
        &self,
        sent: DateTime<Utc>,
        there: DateTime<Utc>,
        received: DateTime<Utc>,
    ) {
        let mut passage = self.passage();
        let before = passage.ahead;
        passage.ahead = clock::surely_ahead(sent, there, received);
        if (passage.ahead - before).abs() > TOLERATED_SKEW {
            let milliseconds = passage.ahead.num_milliseconds();
            drop(passage);
            tracing::warn!(
                milliseconds,
                "the clock of a target is ahead of ours by so much (behind, if negative): set one of them right"
            );
        }
    }

    fn passage(&self) -> std::sync::MutexGuard<'_, Passage> {
        self.passage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_the_targets_clock_where_it_is_wrong() {
        let at = |seconds: i64| DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap();
        for (ahead, told) in [(0, 60), (1, 60), (-2, 60), (5, 65), (-300, -240), (7_200, 3_660)] {
            let gate = Gate::default();
            gate.note_clock(at(0), at(ahead), at(0));
            assert_eq!(gate.there(at(60)), at(told), "{ahead} s ahead");
        }
    }

    #[test]
    fn nothing_passes_to_another_cluster_and_anything_while_none_is_known() {
        let gate = Gate::default();
        gate.passage().seen = Some(7);
        assert!(gate.check_cluster().is_ok(), "none was recorded");
        gate.expect_cluster(8);
        assert!(matches!(
            gate.check_cluster(),
            Err(Error::AnotherCluster { expected: 8, seen: 7 })
        ));
        gate.passage().seen = Some(8);
        assert!(gate.check_cluster().is_ok());
        gate.passage().seen = None;
        assert!(gate.check_cluster().is_ok(), "our admin may not ask");
    }
}
