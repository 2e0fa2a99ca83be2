//! A circuit breaker: when a target that cannot be signed in to is left alone, and for how long.
//!
//! After a few failures in a row it opens: whoever asks is told so at once, instead of each waiting out
//! the time that a connection may take. Then one caller at a time is let through to see; its failure
//! doubles the wait, its success closes the breaker.

use std::time::{Duration, Instant};

/// Failures in a row that open it: one may be a restart or a lost packet.
const TRIPS_AFTER: u32 = 3;

/// The first wait.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait: a target that is back is used again within this time, and one that is away costs
/// one try in it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The longest wait after refused sign-ins, which some servers answer by locking the account.
const LONGEST_WAIT_REFUSED: Duration = Duration::from_secs(60);

/// How long whoever was let through keeps the others out, if it tells nothing (it was cancelled).
const PROBE_TIME: Duration = Duration::from_secs(6);

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not there, or does not speak to us.
    Away,
    /// It does not let our admin in.
    Refused,
}

/// Where a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Callers pass.
    Closed,
    /// Callers are told to come later.
    Open,
    /// One caller was let through, to see.
    HalfOpen,
}

/// The breaker of one target. It has no clock: each call is told the time, by a clock that nobody sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    /// How often it opened in a row.
    opened: u32,
    until: Option<Instant>,
    probing: bool,
}

impl Breaker {
    /// May a caller try now? If not, how long it should wait.
    ///
    /// # Errors
    /// The wait.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(now) {
            return Err(wait);
        }
        if self.until.is_some() {
            self.until = Some(now + PROBE_TIME);
            self.probing = true;
        }
        Ok(())
    }

    /// How long a caller would have to wait now, if at all.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// A caller got through. True if that closes the breaker.
    pub fn succeeded(&mut self) -> bool {
        let was_open = self.until.is_some();
        *self = Self::default();
        was_open
    }

    /// A caller did not get through. `jitter` of 0 to 1 shortens the wait by up to half, so that several
    /// daemons do not come back in step. True if that opens a breaker that was closed.
    pub fn failed(&mut self, fault: Fault, jitter: f64, now: Instant) -> bool {
        // Those who began before it opened tell nothing new.
        if self.until.is_some() && !self.probing {
            return false;
        }
        let was_closed = self.until.is_none();
        self.failures = self.failures.saturating_add(1);
        if self.failures < TRIPS_AFTER {
            return false;
        }
        let longest = match fault {
            Fault::Away => LONGEST_WAIT,
            Fault::Refused => LONGEST_WAIT_REFUSED,
        };
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.opened)).min(longest);
        self.opened = self.opened.saturating_add(1);
        self.probing = false;
        self.until = Some(now + wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0));
        was_closed
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        match (self.until, self.probing) {
            (None, _) => State::Closed,
            (Some(_), false) => State::Open,
            (Some(_), true) => State::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(Fault::Away, 0.0, now));
        assert!(!breaker.failed(Fault::Away, 0.0, now));
        assert!(breaker.failed(Fault::Away, 0.0, now), "the third one in a row opens it");
        breaker
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            assert!(!breaker.failed(Fault::Away, 0.0, now));
            assert!(!breaker.failed(Fault::Away, 0.0, now));
            assert!(!breaker.succeeded());
            assert_eq!(breaker.admit(now), Ok(()));
        }
        let mut breaker = opened(now);
        assert_eq!((breaker.state(), breaker.admit(now)), (State::Open, Err(FIRST_WAIT)));
    }

    #[test]
    fn one_caller_at_a_time_sees_whether_it_is_back() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + FIRST_WAIT;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!((breaker.state(), breaker.admit(later)), (State::HalfOpen, Err(PROBE_TIME)));
        // The one that was let through was cancelled: the next one sees.
        assert_eq!(breaker.admit(later + PROBE_TIME), Ok(()));
        assert!(breaker.succeeded());
        assert_eq!((breaker.state(), breaker.admit(later)), (State::Closed, Ok(())));
    }

    #[test]
    fn those_who_began_before_it_opened_do_not_lengthen_the_wait() {
        let now = Instant::now();
        let mut breaker = opened(now);
        for _ in 0..100 {
            assert!(!breaker.failed(Fault::Away, 0.0, now));
        }
        assert_eq!(breaker.wait(now), Some(FIRST_WAIT));
    }

    #[test]
    fn waits_double_to_the_cap_of_what_went_wrong() {
        for (fault, longest) in
            [(Fault::Away, LONGEST_WAIT), (Fault::Refused, LONGEST_WAIT_REFUSED)]
        {
            let mut now = Instant::now();
            let mut breaker = opened(now);
            let mut before = FIRST_WAIT;
            for _ in 0..40 {
                now += breaker.wait(now).unwrap();
                assert_eq!(breaker.admit(now), Ok(()));
                assert!(!breaker.failed(fault, 0.0, now), "it was open already");
                let wait = breaker.wait(now).unwrap();
                assert_eq!(wait, (before * 2).min(longest));
                before = wait;
            }
            assert_eq!(before, longest);
        }
    }

    proptest! {
        /// However it came there, it is asked again within the longest wait, and never hammered.
        #[test]
        fn jitter_shortens_a_wait_by_half_at_most(jitter in 0.0..=1.0_f64) {
            let now = Instant::now();
            let mut breaker = opened(now);
            prop_assert_eq!(breaker.admit(now + FIRST_WAIT), Ok(()));
            breaker.failed(Fault::Away, jitter, now + FIRST_WAIT);
            let wait = breaker.wait(now + FIRST_WAIT).unwrap();
            prop_assert!(wait >= FIRST_WAIT && wait <= FIRST_WAIT * 2);
        }
    }
}
