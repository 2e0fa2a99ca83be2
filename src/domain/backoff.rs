//! How long to wait before trying again.

use chrono::TimeDelta;

/// The longest wait: what is due is looked at again at least this often, for ever.
const LONGEST: TimeDelta = TimeDelta::seconds(60);

/// The wait after so many failed attempts: 0.25 s, doubling, capped at a minute. Never "give up": a
/// login that cannot be removed stays due.
#[must_use]
pub fn wait_after(attempts: i32) -> TimeDelta {
    let doublings = u32::try_from(attempts.clamp(1, 9) - 1).unwrap_or(0);
    TimeDelta::milliseconds(250 * 2_i64.pow(doublings)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_stay_there() {
        assert_eq!(wait_after(1), TimeDelta::milliseconds(250));
        assert_eq!(wait_after(2), TimeDelta::milliseconds(500));
        assert_eq!(wait_after(9), LONGEST);
        assert_eq!(wait_after(i32::MAX), LONGEST);
        assert_eq!(wait_after(i32::MIN), TimeDelta::milliseconds(250));
    }
}
