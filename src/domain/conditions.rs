//! Under which conditions those whom a profile allows may ask: from where, when, how many at once, how often.
//! A profile that says nothing has none.

use std::{fmt, net::IpAddr, str::FromStr};

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use chrono_tz::Tz;
use ipnet::IpNet;

use crate::domain::{approval::Needs, duration::Seconds, profile::Reason, words::words};

/// What a profile's `access` says beside who may ask.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// The networks that a request may come from (`10.0.0.0/8`). Any, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<IpNet>,
    /// When it may be asked. Always, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
    /// How many leases may live under it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_live: Option<i32>,
    /// How many of one caller's may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_live_each: Option<i32>,
    /// How many one caller may begin in how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Rate>,
    /// Must the caller name a ticket?
    #[serde(default, skip_serializing_if = "is_optional")]
    pub ticket: Reason,
    /// Who must agree. Nobody, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Needs>,
}

fn is_optional(ticket: &Reason) -> bool {
    *ticket == Reason::Optional
}

/// What bounds the leases of one request: what its profile, its target and the daemon say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Under the profile, at once.
    pub profile: Option<i32>,
    /// Of the caller under the profile, at once.
    pub each: Option<i32>,
    /// Of the caller under the profile, in a length of time.
    pub rate: Option<Rate>,
    /// On the target, at once.
    pub target: Option<i32>,
    /// Of the caller, at once.
    pub caller: Option<i32>,
}

impl Limits {
    /// Is there none?
    #[must_use]
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

words! {
    /// A day of the week.
    Day {
        /// Monday.
        Mon = "mon",
        /// Tuesday.
        Tue = "tue",
        /// Wednesday.
        Wed = "wed",
        /// Thursday.
        Thu = "thu",
        /// Friday.
        Fri = "fri",
        /// Saturday.
        Sat = "sat",
        /// Sunday.
        Sun = "sun",
    }
}

/// A part of the week, by the clock of a place. One that ends before it begins goes on into the next day.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The days on which it begins. Every day, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// From when (`08:00`).
    #[schema(value_type = String)]
    pub from: TimeOfDay,
    /// Until when (`18:00`), that minute not included; `24:00` is the end of the day.
    #[schema(value_type = String)]
    pub to: TimeOfDay,
    /// Where: a name of the time zone database, such as `Europe/Berlin`.
    #[schema(value_type = String)]
    pub timezone: Place,
}

/// A minute of the day: 0 to 1440.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u32);

/// A time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(Tz);

/// How many in how long: `10/1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// How many.
    pub most: i32,
    /// In how long.
    pub within: Seconds,
}

/// A text that is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No time of day.
    #[error("`{0}` is no time of day: write hours and minutes, such as \"08:00\"")]
    TimeOfDay(String),
    /// No time zone.
    #[error("`{0}` is no time zone: write a name such as \"Europe/Berlin\" or \"UTC\"")]
    Place(String),
    /// No rate.
    #[error("`{0}` is no rate: write how many in how long, such as \"10/1h\"")]
    Rate(String),
}

/// The longest that a rate looks back: what it counts has to be read each time.
const LONGEST_WINDOW: i64 = 7 * 24 * 3600;

impl FromStr for TimeOfDay {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let read = || {
            let (hours, minutes) = text.split_once(':')?;
            let number = |part: &str| {
                let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| part.parse::<u32>().ok())?
            };
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            (hours < 24 && minutes < 60 || (hours, minutes) == (24, 0))
                .then_some(Self(hours * 60 + minutes))
        };
        read().ok_or_else(|| Unreadable::TimeOfDay(short(text)))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl FromStr for Place {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        text.parse().map(Self).map_err(|_| Unreadable::Place(short(text)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl FromStr for Rate {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let read = || {
            let (most, within) = text.split_once('/')?;
            let (most, within) = (most.parse().ok()?, within.parse::<Seconds>().ok()?);
            (most > 0 && within.get() <= LONGEST_WINDOW).then_some(Self { most, within })
        };
        read().ok_or_else(|| Unreadable::Rate(short(text)))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.most, self.within)
    }
}

macro_rules! as_text {
    ($($name:ident),+) => { $(
        impl TryFrom<String> for $name {
            type Error = Unreadable;

            fn try_from(text: String) -> Result<Self, Unreadable> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+ };
}
as_text!(TimeOfDay, Place, Rate);

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

impl Hours {
    /// Is it then?
    #[must_use]
    pub fn include(&self, now: DateTime<Utc>) -> bool {
        let there = now.with_timezone(&self.timezone.0);
        let minute = TimeOfDay(there.hour() * 60 + there.minute());
        let began_on = |day: chrono::Weekday| {
            let place = usize::try_from(day.num_days_from_monday()).ok();
            let day = place.and_then(|place| Day::VALUES.get(place));
            self.days.is_empty() || day.is_some_and(|day| self.days.contains(day))
        };
        let (today, yesterday) = (there.weekday(), there.weekday().pred());
        if self.from < self.to {
            began_on(today) && self.from <= minute && minute < self.to
        } else {
            (began_on(today) && self.from <= minute) || (began_on(yesterday) && minute < self.to)
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<_> = self.days.iter().map(|day| day.as_str()).collect();
        let days = if days.is_empty() { "every day".to_owned() } else { days.join(", ") };
        write!(f, "{days} {} to {} ({})", self.from, self.to, self.timezone)
    }
}

impl Conditions {
    /// Is nothing asked?
    #[must_use]
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// May a request come from there? One whose address is not known comes from nowhere.
    #[must_use]
    pub fn take_from(&self, source: Option<IpAddr>) -> bool {
        self.networks.is_empty()
            || source.is_some_and(|source| self.networks.iter().any(|net| net.contains(&source)))
    }

    /// May it be asked then?
    #[must_use]
    pub fn take_at(&self, now: DateTime<Utc>) -> bool {
        self.hours.is_empty() || self.hours.iter().any(|hours| hours.include(now))
    }
}

/// What is wrong with them; each fault names its key.
#[must_use]
pub fn faults(conditions: &Conditions) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    for net in conditions.networks.iter().filter(|net| net.trunc() != **net) {
        let message = format!("`{net}` has bits beyond its mask: write `{}`", net.trunc());
        faults.push(("access.networks", message));
    }
    for hours in conditions.hours.iter().filter(|hours| hours.from == hours.to) {
        faults.push(("access.hours", format!("`{hours}` begins when it ends")));
    }
    let limits = [
        ("access.max_live", conditions.max_live),
        ("access.max_live_each", conditions.max_live_each),
    ];
    for (key, _) in limits.iter().filter(|(_, limit)| limit.is_some_and(|limit| limit < 1)) {
        faults.push((key, "must be at least 1; to let nobody in, leave `allow` empty".to_owned()));
    }
    faults.extend(conditions.approval.iter().flat_map(Needs::faults));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(days: &[Day], from: &str, to: &str, place: &str) -> Hours {
        Hours {
            days: days.to_vec(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            timezone: place.parse().unwrap(),
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_those_of_the_place_in_summer_and_in_winter() {
        let office = hours(&[Day::Mon, Day::Fri], "08:00", "18:00", "Europe/Berlin");
        for (now, holds) in [
            ("2026-01-05T07:00:00Z", true), // Monday, 08:00 there
            ("2026-01-05T06:59:59Z", false),
            ("2026-01-05T16:59:59Z", true),
            ("2026-01-05T17:00:00Z", false),
            ("2026-07-06T06:00:00Z", true), // in summer an hour earlier
            ("2026-07-06T16:00:00Z", false),
            ("2026-01-06T09:00:00Z", false), // Tuesday
            ("2026-01-09T09:00:00Z", true),
        ] {
            assert_eq!(office.include(at(now)), holds, "{now}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = hours(&[Day::Fri], "22:00", "06:00", "UTC");
        for (now, holds) in [
            ("2026-01-09T21:59:00Z", false),
            ("2026-01-09T22:00:00Z", true),
            ("2026-01-10T05:59:00Z", true),
            ("2026-01-10T06:00:00Z", false),
            ("2026-01-09T03:00:00Z", false),
        ] {
            assert_eq!(night.include(at(now)), holds, "{now}");
        }
        let whole = hours(&[], "00:00", "24:00", "UTC");
        assert!(whole.include(at("2026-01-09T23:59:59Z")));
    }

    #[test]
    fn a_request_from_nowhere_is_in_no_network() {
        let conditions = Conditions {
            networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            ..Conditions::default()
        };
        for (source, holds) in [
            (Some("10.255.0.1"), true),
            (Some("11.0.0.1"), false),
            (Some("2001:db8::1"), true),
            (Some("::1"), false),
            (None, false),
        ] {
            let source = source.map(|text| text.parse().unwrap());
            assert_eq!(conditions.take_from(source), holds, "{source:?}");
        }
        assert!(Conditions::default().take_from(None));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["8:00", "24:01", "12:60", "0800", "", "-1:00", "+1:00"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
        for text in ["10", "0/1h", "-1/1h", "10/0s", "10/8d", "x/1h", "10/"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("Europe/Atlantis".parse::<Place>().is_err());
        for text in ["10/1h", "1/30s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }
}
