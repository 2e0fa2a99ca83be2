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

/// Failures of one source in its present minute.
#[derive(Debug, Clone, Copy)]
struct Minute {
    began_at: DateTime<Utc>,
    failures: u32,
}

/// Counts failures by source.
#[derive(Debug)]
pub struct Throttle {
    failures_per_minute: u32,
    sources: Mutex<HashMap<IpAddr, Minute>>,
}

/// What a failure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// There are failures left.
    Below,
    /// This was the last one: from now on the source is refused.
    Reached,
}

impl Throttle {
    /// Allows so many failures a minute.
    #[must_use]
    pub fn new(failures_per_minute: u32) -> Self {
        Self { failures_per_minute, sources: Mutex::default() }
    }

    /// How many seconds a source must wait; none if it may try.
    #[must_use]
    pub fn must_wait(&self, source: Option<IpAddr>, now: DateTime<Utc>) -> Option<u64> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = sources.get(&network(source?))?;
        let left = minute.began_at + TimeDelta::minutes(1) - now;
        let refused = minute.failures >= self.failures_per_minute && left > TimeDelta::zero();
        refused.then(|| u64::try_from(left.num_seconds()).unwrap_or(0) + 1)
    }

    /// Counts a failure.
    pub fn count(&self, source: Option<IpAddr>, now: DateTime<Utc>) -> Counted {
        let Some(source) = source else { return Counted::Below };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MOST_SOURCES {
            sources.retain(|_, minute| now - minute.began_at < TimeDelta::minutes(1));
            if sources.len() >= MOST_SOURCES {
                sources.clear();
            }
        }
        let fresh = Minute { began_at: now, failures: 0 };
        let minute = sources.entry(network(source)).or_insert(fresh);
        if now - minute.began_at >= TimeDelta::minutes(1) {
            *minute = fresh;
        }
        minute.failures = minute.failures.saturating_add(1);
        if minute.failures == self.failures_per_minute { Counted::Reached } else { Counted::Below }
    }

    /// Failures a minute that are allowed.
    #[must_use]
    pub const fn failures_per_minute(&self) -> u32 {
        self.failures_per_minute
    }
}

/// Of IPv6 the first 64 bits: one customer has all addresses behind them (RFC 6177).
fn network(source: IpAddr) -> IpAddr {
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

    #[test]
    fn a_guesser_waits_and_others_do_not() {
        let throttle = Throttle::new(2);
        let guesser = source("192.0.2.1");
        assert_eq!(throttle.count(guesser, at(0)), Counted::Below);
        assert_eq!(throttle.must_wait(guesser, at(1)), None);
        assert_eq!(throttle.count(guesser, at(1)), Counted::Reached);
        assert_eq!(throttle.must_wait(guesser, at(2)), Some(59));
        assert_eq!(throttle.must_wait(source("192.0.2.2"), at(2)), None);
        assert_eq!(throttle.must_wait(guesser, at(60)), None);
        assert_eq!(throttle.count(guesser, at(60)), Counted::Below);
    }

    #[test]
    fn addresses_of_one_network_share_their_failures() {
        let throttle = Throttle::new(1);
        throttle.count(source("2001:db8::1"), at(0));
        assert!(throttle.must_wait(source("2001:db8::ffff"), at(0)).is_some());
        assert!(throttle.must_wait(source("2001:db8:0:1::1"), at(0)).is_none());
    }
}
