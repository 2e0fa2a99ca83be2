//! Slowing down guesses: each source address may fail so often a minute. A source that has used up
//! its failures is refused before anything is hashed; tokens that were verified before go on working
//! from there, so that one guesser behind a shared address does not lock the others out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

/// Sources remembered at most; beyond, those whose minute is over are forgotten first, then all.
const MOST_SOURCES: usize = 10_000;

/// Tries of one source in its present minute.
#[derive(Debug, Clone, Copy)]
struct Minute {
    began_at: DateTime<Utc>,
    failures: u32,
    /// Tries whose outcome is not known yet.
    open: u32,
    /// Was it told already that it must wait?
    told: bool,
}

/// Counts failures by source.
#[derive(Debug)]
pub struct Throttle {
    failures_per_minute: u32,
    sources: Mutex<HashMap<IpAddr, Minute>>,
}

/// May a source try?
#[derive(Debug)]
pub enum Turn<'a> {
    /// It may. The try counts as a failure unless it is said to be none.
    Try(Attempt<'a>),
    /// It has as many tries open as it may fail: they are to be settled first.
    TooManyOpen,
    /// It failed too often.
    MustWait {
        /// How long.
        seconds: u64,
        /// Is it told for the first time in this minute?
        first: bool,
    },
}

/// A try. Dropped before it was settled (the caller hung up), it was a failure.
#[derive(Debug)]
#[must_use]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    source: Option<IpAddr>,
    failed: bool,
}

impl Attempt<'_> {
    /// It was no failure.
    pub fn was_good(mut self) {
        self.failed = false;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut sources = self.throttle.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(minute) = sources.get_mut(&source) {
            minute.open = minute.open.saturating_sub(1);
            if self.failed {
                minute.failures = minute.failures.saturating_add(1);
            }
        }
    }
}

impl Throttle {
    /// Allows so many failures a minute.
    #[must_use]
    pub fn new(failures_per_minute: u32) -> Self {
        Self { failures_per_minute, sources: Mutex::default() }
    }

    /// Asks for a try, before it costs anything.
    pub fn begin(&self, source: Option<IpAddr>, now: DateTime<Utc>) -> Turn<'_> {
        let Some(source) = source.map(network) else {
            return Turn::Try(Attempt { throttle: self, source: None, failed: true });
        };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MOST_SOURCES {
            sources.retain(|_, minute| now - minute.began_at < TimeDelta::minutes(1));
            if sources.len() >= MOST_SOURCES {
                sources.clear();
            }
        }
        let fresh = Minute { began_at: now, failures: 0, open: 0, told: false };
        let minute = sources.entry(source).or_insert(fresh);
        let left = minute.began_at + TimeDelta::minutes(1) - now;
        if left <= TimeDelta::zero() {
            *minute = Minute { open: minute.open, ..fresh };
        }
        if minute.failures >= self.failures_per_minute {
            let first = !minute.told;
            minute.told = true;
            let seconds = u64::try_from(left.num_seconds()).unwrap_or(0) + 1;
            return Turn::MustWait { seconds, first };
        }
        if minute.failures.saturating_add(minute.open) >= self.failures_per_minute {
            return Turn::TooManyOpen;
        }
        minute.open += 1;
        Turn::Try(Attempt { throttle: self, source: Some(source), failed: true })
    }

    /// Failures a minute that are allowed.
    #[must_use]
    pub const fn failures_per_minute(&self) -> u32 {
        self.failures_per_minute
    }
}

/// Of IPv6 the first 64 bits: one customer has all addresses behind them (RFC 6177).
#[must_use]
pub fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn fail(throttle: &Throttle, source: Option<IpAddr>, at: DateTime<Utc>) {
        match throttle.begin(source, at) {
            Turn::Try(attempt) => drop(attempt),
            other => panic!("{other:?}"),
        }
    }

    fn may_try(throttle: &Throttle, source: Option<IpAddr>, at: DateTime<Utc>) -> bool {
        match throttle.begin(source, at) {
            Turn::Try(attempt) => {
                attempt.was_good();
                true
            }
            Turn::TooManyOpen | Turn::MustWait { .. } => false,
        }
    }

    #[test]
    fn a_guesser_waits_and_others_do_not() {
        let throttle = Throttle::new(2);
        let guesser = source("192.0.2.1");
        fail(&throttle, guesser, at(0));
        assert!(may_try(&throttle, guesser, at(1)));
        fail(&throttle, guesser, at(1));
        let told = throttle.begin(guesser, at(2));
        assert!(matches!(told, Turn::MustWait { seconds: 59, first: true }), "{told:?}");
        assert!(matches!(throttle.begin(guesser, at(3)), Turn::MustWait { first: false, .. }));
        assert!(may_try(&throttle, source("192.0.2.2"), at(2)));
        assert!(may_try(&throttle, guesser, at(60)));
    }

    #[test]
    fn tries_at_once_are_no_more_than_may_fail_and_good_ones_do_not_count() {
        let throttle = Throttle::new(2);
        let caller = source("192.0.2.1");
        let Turn::Try(first) = throttle.begin(caller, at(0)) else { panic!("the first may try") };
        let Turn::Try(second) = throttle.begin(caller, at(0)) else { panic!("the second may try") };
        assert!(matches!(throttle.begin(caller, at(0)), Turn::TooManyOpen));
        first.was_good();
        second.was_good();
        assert!(may_try(&throttle, caller, at(0)));
    }

    #[test]
    fn addresses_of_one_network_share_their_failures() {
        let throttle = Throttle::new(1);
        fail(&throttle, source("2001:db8::1"), at(0));
        assert!(!may_try(&throttle, source("2001:db8::ffff"), at(0)));
        assert!(may_try(&throttle, source("2001:db8:0:1::1"), at(0)));
    }
}
