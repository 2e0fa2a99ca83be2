//! Is the record older than what it is about, or the clock not to be believed? Then nothing is
//! removed until a person has looked: see `app/caution.rs`.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::audit::Hash;

/// A clock is set back by so much now and then, by NTP; by more it jumped.
const BACK: TimeDelta = TimeDelta::minutes(2);

/// A daemon that was not there for so long may have come back with another clock.
const AWAY: TimeDelta = TimeDelta::minutes(10);

/// So far ahead of another clock, ours is not believed after it was away: leases would end early.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What the name of the role that carries an installation's epoch begins with.
const EPOCH_PREFIX: &str = "pgvm_";

/// A point of an installation's audit, kept on each target: a backup of the state database cannot
/// know the points that came after it. The position only grows, and the hash tells two histories
/// apart that came to the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Whose.
    pub installation: Uuid,
    /// How far the audit was sealed.
    pub position: i64,
    /// The hash there.
    pub hash: Hash,
}

impl Epoch {
    /// The role whose comment keeps the epoch of an installation on a target.
    #[must_use]
    pub fn role(installation: Uuid) -> String {
        format!("{EPOCH_PREFIX}{}", installation.simple())
    }

    /// Reads a comment.
    #[must_use]
    pub fn read(comment: &str) -> Option<Self> {
        let words: Vec<&str> = comment.split_whitespace().collect();
        let ["pgvalet", "installation", id, "audit", position, hash] = words.as_slice() else {
            return None;
        };
        Some(Self {
            installation: Uuid::try_parse(id).ok()?,
            position: position.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    }

    /// Why the record cannot be believed; `recorded` is the hash that it has at this position.
    #[must_use]
    pub fn fault(&self, recorded: Option<Hash>) -> Option<String> {
        let Self { position, hash, .. } = self;
        match recorded {
            Some(recorded) if recorded == *hash => None,
            Some(_) => Some(format!(
                "the target knows another entry {position} of the audit than the state database: the database was restored from a backup and went on"
            )),
            None => Some(format!(
                "the target knows entry {position} of the audit and the state database does not: it was restored from an older backup"
            )),
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { installation, position, hash } = self;
        write!(f, "pgvalet installation {} audit {position} {hash}", installation.simple())
    }
}

/// Why our clock cannot be believed. `seen_at` is when a daemon last found all well, `others` what
/// other clocks say now. A clock that always differs is no fault here: only one that jumped is.
#[must_use]
pub fn clock_fault(
    now: DateTime<Utc>,
    seen_at: Option<DateTime<Utc>>,
    others: &[DateTime<Utc>],
) -> Option<String> {
    let seen_at = seen_at?;
    let shown = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S UTC");
    if now < seen_at - BACK {
        return Some(format!(
            "the daemon's clock went back: it shows {}, and showed {} before",
            shown(now),
            shown(seen_at)
        ));
    }
    let slowest = others.iter().min()?;
    (now > seen_at + AWAY && now > *slowest + AHEAD).then(|| {
        format!(
            "the daemon's clock may have jumped ahead: it shows {}, another clock {}, and it was last believed at {}",
            shown(now),
            shown(*slowest),
            shown(seen_at)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_reads_back_and_is_compared_by_its_hash() {
        let hash = Hash::from_bytes(&[7; 32]).unwrap();
        let epoch = Epoch { installation: Uuid::from_u128(1), position: 12, hash };
        assert_eq!(Epoch::read(&epoch.to_string()), Some(epoch));
        assert_eq!(Epoch::read("pgvalet installation x audit 1 y"), None);
        assert!(Epoch::role(epoch.installation).len() <= 63);
        assert_eq!(epoch.fault(Some(hash)), None);
        assert!(epoch.fault(Some(Hash::START)).unwrap().contains("went on"));
        assert!(epoch.fault(None).unwrap().contains("older backup"));
    }

    #[test]
    fn only_a_jump_of_the_clock_is_a_fault() {
        let at = |minutes: i64| DateTime::from_timestamp(600_000 + 60 * minutes, 0).unwrap();
        let fault = |now, seen, others: &[_]| clock_fault(now, seen, others).is_some();
        // Nothing to compare with.
        assert!(!fault(at(0), None, &[at(-90)]));
        // A small step back, and a jump back.
        assert!(!fault(at(0), Some(at(1)), &[at(0)]));
        assert!(fault(at(0), Some(at(3)), &[at(0)]));
        // Stopped for a month, and the clocks agree.
        assert!(!fault(at(43_200), Some(at(0)), &[at(43_199)]));
        // An hour ahead after a stop.
        assert!(fault(at(60), Some(at(0)), &[at(0), at(59)]));
        // A clock that always differs, while the daemon runs.
        assert!(!fault(at(60), Some(at(59)), &[at(0)]));
    }
}
