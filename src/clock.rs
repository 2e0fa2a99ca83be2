//! Where the time comes from.
//!
//! Rules take `now` as an argument; what runs by itself asks the [`Clock`]. PostgreSQL keeps
//! microseconds, so instants are cut to microseconds here, once: an instant that went through the
//! database compares equal to the one that went in.
//!
//! Several daemons work on one record, and what is due is due for all of them at the same instant. So a
//! daemon's time is that of the state database, whatever its own system's clock says: it asks before it
//! looks for what is due, and moves its time only as far as the answer proves that it is wrong. Where
//! both run on one machine that is never.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// By how many microseconds the time is ahead of the system's. A process has one time.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// The time: the system's, until it agreed with another one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// The present instant, in microseconds.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn now(&self) -> DateTime<Utc> {
        let ahead = TimeDelta::microseconds(AHEAD.load(Ordering::Relaxed));
        let now = Utc::now();
        now.checked_add_signed(ahead).unwrap_or(now).trunc_subsecs(6)
    }

    /// Agrees with a clock that was read as `there` between two instants of this one. Gives how far it is
    /// ahead of the system's clock from now on, if that changed.
    pub fn agree(
        &self,
        sent: DateTime<Utc>,
        there: DateTime<Utc>,
        received: DateTime<Utc>,
    ) -> Option<TimeDelta> {
        let correction = surely_ahead(sent, there, received).num_microseconds()?;
        if correction == 0 {
            return None;
        }
        let before = AHEAD.fetch_add(correction, Ordering::Relaxed);
        Some(TimeDelta::microseconds(before.saturating_add(correction)))
    }

    /// How far the time is ahead of the system's clock.
    #[must_use]
    pub fn ahead(&self) -> TimeDelta {
        TimeDelta::microseconds(AHEAD.load(Ordering::Relaxed))
    }
}

/// How far another clock is surely ahead of this one (behind, if negative), that was read as `there`
/// between two instants of this one: it may have been read at any instant between them, and nothing if
/// it lies there.
#[must_use]
pub fn surely_ahead(
    sent: DateTime<Utc>,
    there: DateTime<Utc>,
    received: DateTime<Utc>,
) -> TimeDelta {
    if there > received {
        there - received
    } else if there < sent {
        there - sent
    } else {
        TimeDelta::zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_only_as_wrong_as_the_answer_proves() {
        let at = |s: i64| DateTime::from_timestamp(1_000 + s, 0).unwrap();
        for (there, expected) in [(10, 0), (11, 0), (12, 0), (13, 1), (9, -1), (3_612, 3_600)] {
            let ahead = surely_ahead(at(10), at(there), at(12));
            assert_eq!(ahead, TimeDelta::seconds(expected), "{there}");
        }
    }
}
