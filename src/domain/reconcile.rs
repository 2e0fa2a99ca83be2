//! What to do next about one login, given what we recorded and what we saw on the target.
//!
//! Nothing here creates a role or lengthens its life: the planner can only take access away, so a
//! bug in it cannot grant any.

use chrono::{DateTime, Utc};

use crate::domain::lease::{Cause, State};

/// What we recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Where the login is in its life.
    pub state: State,
    /// When an unfinished creation is given up.
    pub give_up_at: DateTime<Utc>,
    /// When it must stop working.
    pub ends_at: DateTime<Utc>,
    /// Was it superseded by a rotation?
    pub superseded: bool,
}

/// What to do next, and why. What is on the target need not be known for the moves of our own
/// record; removal looks for itself, because what was seen a moment ago proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until this instant.
    Wait(DateTime<Utc>),
    /// Record that access is being taken away.
    StartRevoking(Cause),
    /// Shut the role out on the target, end its sessions, drop it, look again.
    Remove,
    /// Nothing, ever.
    Done,
}

/// The next step for one login.
#[must_use]
pub fn next_step(recorded: Recorded, now: DateTime<Utc>) -> Step {
    match recorded.state {
        State::Provisioning if now < recorded.give_up_at => Step::Wait(recorded.give_up_at),
        State::Provisioning => Step::StartRevoking(Cause::Failed),
        State::Active if now < recorded.ends_at => Step::Wait(recorded.ends_at),
        State::Active if recorded.superseded => Step::StartRevoking(Cause::Rotated),
        State::Active => Step::StartRevoking(Cause::Expired),
        State::Revoking => Step::Remove,
        State::Revoked => Step::Done,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few instants, so that two of them are often the same one: the edges are where rules break.
    fn instant() -> impl Strategy<Value = DateTime<Utc>> {
        (0..6_i64).prop_map(|s| DateTime::from_timestamp(s, 0).unwrap())
    }

    fn recorded() -> impl Strategy<Value = Recorded> {
        let state = prop_oneof![
            Just(State::Provisioning),
            Just(State::Active),
            Just(State::Revoking),
            Just(State::Revoked)
        ];
        (state, instant(), instant(), any::<bool>()).prop_map(
            |(state, give_up_at, ends_at, superseded)| Recorded {
                state,
                give_up_at,
                ends_at,
                superseded,
            },
        )
    }

    proptest! {
        /// Once a login is past its end, every step takes access away.
        #[test]
        fn past_its_end_a_login_only_loses_access(mut login in recorded(), late in 0..3_i64) {
            login.state = State::Active;
            let now = login.ends_at + chrono::TimeDelta::seconds(late);
            prop_assert!(matches!(next_step(login, now), Step::StartRevoking(_)));
        }

        /// Before its end nobody touches it.
        #[test]
        fn before_its_end_a_login_is_left_alone(mut login in recorded(), early in 1..3_i64) {
            login.state = State::Active;
            let now = login.ends_at - chrono::TimeDelta::seconds(early);
            prop_assert_eq!(next_step(login, now), Step::Wait(login.ends_at));
        }

        /// Whatever was recorded, long after its end a login comes to rest.
        #[test]
        fn every_login_comes_to_rest(mut login in recorded()) {
            let long_after = DateTime::from_timestamp(10_000, 0).unwrap();
            for _ in 0..3 {
                login.state = match next_step(login, long_after) {
                    Step::StartRevoking(_) => State::Revoking,
                    Step::Remove => State::Revoked,
                    Step::Wait(_) | Step::Done => login.state,
                };
            }
            prop_assert_eq!(login.state, State::Revoked);
            prop_assert_eq!(next_step(login, long_after), Step::Done);
        }

        /// A wait always ends in the future, so that no loop can spin on it.
        #[test]
        fn a_wait_lies_ahead(login in recorded(), now in instant()) {
            if let Step::Wait(until) = next_step(login, now) {
                prop_assert!(until > now);
            }
        }
    }

    #[test]
    fn the_cause_says_what_happened() {
        let now = DateTime::from_timestamp(10, 0).unwrap();
        let past = DateTime::from_timestamp(1, 0).unwrap();
        for (state, superseded, cause) in [
            (State::Provisioning, false, Cause::Failed),
            (State::Active, false, Cause::Expired),
            (State::Active, true, Cause::Rotated),
        ] {
            let login = Recorded { state, give_up_at: past, ends_at: past, superseded };
            assert_eq!(next_step(login, now), Step::StartRevoking(cause));
        }
    }
}
