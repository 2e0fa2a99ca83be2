//! What is counted every few seconds, for gauges.

use std::time::Duration;

/// What is counted from the record every few seconds, rather than at each scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Levels {
    /// Leases by state; those that are over are not counted, since they only ever grow.
    pub leases: Vec<(&'static str, u64)>,
    /// Logins whose end passed longer than a removal takes ago and that are not gone.
    pub overdue: u64,
    /// Logins whose removal was tried in vain.
    pub stuck: u64,
    /// Standing roles that should have been rotated by now.
    pub standing_roles_overdue: u64,
    /// Administrators whose password should have been renewed by now.
    pub admins_overdue: u64,
    /// Profiles whose target was last seen to differ from them.
    pub drifted: u64,
    /// Entries that should be sealed by now.
    pub unsealed: u64,
    /// Entries that others were not told of.
    pub untold: u64,
    /// Targets that are ready.
    pub targets_ready: u64,
    /// Targets that are not.
    pub targets_unready: u64,
    /// The furthest that a target's clock is from ours.
    pub clock_skew: Duration,
    /// Connections to the state database: used, and idle.
    pub state_pool: (u64, u64),
    /// Connections to targets: used, and idle.
    pub target_pool: (u64, u64),
}
