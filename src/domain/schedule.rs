//! When something is to be rotated: `90d` after the last time, or by a cron expression, or never by
//! itself.
//!
//! A rotation that was missed, because no daemon ran, is made at the next start: what is due is
//! recorded as an instant, and is not computed from the expression again.

use std::{fmt, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use croner::parser::{CronParser, Seconds as CronSeconds};

use crate::domain::duration::Seconds;

/// When something is to be rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Only when somebody asks for it.
    Never,
    /// So long after the last time.
    Every(Seconds),
    /// Whenever the expression says, in UTC: six fields, seconds first.
    Cron(Expression),
}

/// A cron expression that can be read, and that fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(String);

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no schedule: write a length of time such as `90d`, a cron expression of six fields, seconds first, such as `0 0 3 1 */3 *`, or `never`"
)]
pub struct NotASchedule(String);

impl Schedule {
    /// Every ninety days.
    #[must_use]
    pub const fn ninety_days() -> Self {
        Self::Every(Seconds::NINETY_DAYS)
    }

    /// The next time after an instant; none if never.
    #[must_use]
    pub fn next_after(&self, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Never => None,
            Self::Every(length) => Some(from + length.delta()),
            Self::Cron(Expression(text)) => next_of(text, from),
        }
    }
}

impl FromStr for Schedule {
    type Err = NotASchedule;

    fn from_str(text: &str) -> Result<Self, NotASchedule> {
        if text == "never" {
            return Ok(Self::Never);
        }
        if let Ok(length) = text.parse() {
            return Ok(Self::Every(length));
        }
        let fault = || NotASchedule(text.chars().take(64).collect());
        // What fires in no year ahead would be a `never` that does not say so.
        next_of(text, DateTime::UNIX_EPOCH + TimeDelta::days(20_000)).ok_or_else(fault)?;
        Ok(Self::Cron(Expression(text.to_owned())))
    }
}

/// As the scheduler of the loops reads it. None too for what is written in another way: with a year,
/// without seconds, `@daily`.
fn next_of(expression: &str, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if expression.split_whitespace().count() != 6 {
        return None;
    }
    let parser = CronParser::builder().seconds(CronSeconds::Required).dom_and_dow(true).build();
    parser.parse(expression).ok()?.find_next_occurrence(&from, false).ok()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Every(length) => fmt::Display::fmt(length, f),
            Self::Cron(Expression(text)) => f.write_str(text),
        }
    }
}

impl serde::Serialize for Schedule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Schedule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Schedule {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some(
                "A length of time such as `90d`, a cron expression of six fields in UTC, or `never`.",
            ))
            .examples(["90d", "0 0 3 1 */3 *", "never"])
            .into()
    }
}

impl utoipa::ToSchema for Schedule {}

/// When a rotation is due: at the schedule's next time after `from`, and by as large a part of the
/// jitter later as `chance` is of all there is, so that not everything is rotated in the same second.
#[must_use]
pub fn next_due(
    schedule: &Schedule,
    jitter: Option<Seconds>,
    from: DateTime<Utc>,
    chance: u32,
) -> Option<DateTime<Utc>> {
    let at = schedule.next_after(from)?;
    let whole = jitter.map_or(0, |jitter| jitter.get() * 1000);
    let part = i128::from(whole) * i128::from(chance) / i128::from(u32::MAX);
    Some(at + TimeDelta::milliseconds(i64::try_from(part).unwrap_or(whole)))
}

/// The least time that a password goes on working after it should have been rotated.
const LEAST_RESERVE: TimeDelta = TimeDelta::days(1);

/// Until when a password works that is to be rotated at `due_at`: for as long again, and at least for
/// a day, so that a rotation that fails costs an alarm and not the consumers.
#[must_use]
pub fn valid_until(now: DateTime<Utc>, due_at: DateTime<Utc>) -> DateTime<Utc> {
    due_at + (due_at - now).max(LEAST_RESERVE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_reads_back_and_says_when() {
        let from = at("2026-11-21T07:00:00Z");
        for (text, next) in [
            ("90d", Some("2027-02-19T07:00:00Z")),
            ("1h 30m", Some("2026-11-21T08:30:00Z")),
            ("0 0 3 * * *", Some("2026-11-22T03:00:00Z")),
            ("0 0 7 * * *", Some("2026-11-22T07:00:00Z")),
            ("0 0 3 1 */3 *", Some("2027-01-01T03:00:00Z")),
            ("never", None),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), text);
            assert_eq!(schedule.next_after(from), next.map(at), "{text}");
        }
        assert_eq!(Schedule::ninety_days().to_string(), "90d");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "often", "0s", "* * * * *", "0 0 3 31 2 *", "61 * * * * *", "@daily"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_is_due_within_the_jitter_and_valid_well_beyond(
            every in 1..6_i64, jitter in proptest::option::of(1..6_i64), chance: u32
        ) {
            let now = DateTime::UNIX_EPOCH;
            let schedule = Schedule::Every(Seconds::new(every).unwrap());
            let jitter = jitter.map(|n| Seconds::new(n).unwrap());
            let due = next_due(&schedule, jitter, now, chance).unwrap();
            let earliest = now + TimeDelta::seconds(every);
            prop_assert!(due >= earliest);
            prop_assert!(due <= earliest + jitter.map_or(TimeDelta::zero(), Seconds::delta));
            let until = valid_until(now, due);
            prop_assert!(until >= due + TimeDelta::days(1) && until - due >= due - now);
        }
    }
}
