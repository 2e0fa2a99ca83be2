//! Where the time comes from.
//!
//! Rules take `now` as an argument; what runs by itself asks the [`Clock`]. PostgreSQL keeps
//! microseconds, so instants are cut to microseconds here, once: an instant that went through the
//! database compares equal to the one that went in.

use chrono::{DateTime, SubsecRound, Utc};

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// The present instant, in microseconds.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}
