//! How long to wait before trying again.

use chrono::TimeDelta;

/// The longest wait: what is due is looked at again at least this often, for ever.
const LONGEST: TimeDelta = TimeDelta::seconds(60);

/// The wait after so many failed attempts: 0.25 s, doubling, capped at a minute. Never "give up": a
/// login that cannot be removed stays due. `jitter` of 0 to 1 shortens it by up to half, so that what was
/// blocked together does not come back together.
#[must_use]
pub fn wait_after(attempts: i32, jitter: f64) -> TimeDelta {
    let doublings = u32::try_from(attempts.clamp(1, 9) - 1).unwrap_or(0);
    let wait = TimeDelta::milliseconds(250 * 2_i64.pow(doublings)).min(LONGEST);
    let shortened = wait.to_std().unwrap_or_default().mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
    TimeDelta::from_std(shortened).unwrap_or(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_stay_there() {
        assert_eq!(wait_after(1, 0.0), TimeDelta::milliseconds(250));
        assert_eq!(wait_after(2, 0.0), TimeDelta::milliseconds(500));
        assert_eq!(wait_after(9, 0.0), LONGEST);
        assert_eq!(wait_after(i32::MAX, 0.0), LONGEST);
        assert_eq!(wait_after(i32::MIN, 0.0), TimeDelta::milliseconds(250));
    }

    #[test]
    fn jitter_shortens_a_wait_by_half_at_most() {
        for attempts in [1, 5, 9, i32::MAX] {
            let whole = wait_after(attempts, 0.0);
            assert_eq!(wait_after(attempts, 1.0), whole / 2);
            assert_eq!(wait_after(attempts, f64::INFINITY), whole / 2);
        }
    }
}
