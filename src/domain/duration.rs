//! Lengths of time as people write them (`90s`, `1h`, `1h 30m`) and as the database keeps them:
//! whole seconds.

use std::{fmt, str::FromStr};

/// A length of time in whole seconds, at least one and at most ten years: the longest that any
/// setting here could sensibly mean, and far from where adding to an instant overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(i64);

/// Ten years.
const LONGEST: i64 = 10 * 366 * 24 * 3600;

/// A text or number that is not a length of time that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotADuration {
    /// Not of the form `1h 30m`.
    #[error("`{0}` is not a length of time: write it like `30s`, `15m`, `1h` or `1h 30m`")]
    Unreadable(String),
    /// Below a second, or not whole seconds.
    #[error("a length of time is whole seconds, at least 1s")]
    TooShort,
    /// Above ten years.
    #[error("a length of time is at most ten years")]
    TooLong,
}

impl Seconds {
    /// An hour.
    pub const HOUR: Self = Self(3600);

    /// Four hours: about as long as somebody who may agree is away at the most.
    pub const FOUR_HOURS: Self = Self(4 * 3600);

    /// Ninety days: how often passwords that programs use are commonly renewed.
    pub const NINETY_DAYS: Self = Self(90 * 86_400);

    /// Takes a number of seconds.
    ///
    /// # Errors
    /// If it is below one or above ten years.
    pub const fn new(seconds: i64) -> Result<Self, NotADuration> {
        match seconds {
            ..=0 => Err(NotADuration::TooShort),
            1..=LONGEST => Ok(Self(seconds)),
            _ => Err(NotADuration::TooLong),
        }
    }

    /// The number of seconds.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// As a length that can be added to an instant.
    #[must_use]
    pub const fn delta(self) -> chrono::TimeDelta {
        chrono::TimeDelta::seconds(self.0)
    }
}

impl FromStr for Seconds {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let unreadable = || NotADuration::Unreadable(text.chars().take(40).collect());
        let length = humantime::parse_duration(text).map_err(|_| unreadable())?;
        if length.subsec_nanos() != 0 {
            return Err(NotADuration::TooShort);
        }
        Self::new(i64::try_from(length.as_secs()).map_err(|_| NotADuration::TooLong)?)
    }
}

impl fmt::Display for Seconds {
    /// Days at most: humantime's months and years are averages, which nobody means by `30d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut parts = Vec::new();
        for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
            if rest >= length {
                parts.push(format!("{}{unit}", rest / length));
                rest %= length;
            }
        }
        f.write_str(&parts.join(" "))
    }
}

impl serde::Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Seconds {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A length of time such as `30s`, `15m`, `1h 30m`."))
            .examples(["1h"])
            .into()
    }
}

impl utoipa::ToSchema for Seconds {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_what_people_write() {
        for (text, seconds, again) in [
            ("1s", 1, "1s"),
            ("90s", 90, "1m 30s"),
            ("1h", 3600, "1h"),
            ("1h 30m", 5400, "1h 30m"),
            ("30d", 2_592_000, "30d"),
        ] {
            let read: Seconds = text.parse().unwrap();
            assert_eq!(read.get(), seconds, "{text}");
            assert_eq!(read.to_string(), again);
            assert_eq!(again.parse(), Ok(read));
        }
    }

    #[test]
    fn refuses_what_is_not_a_length_of_time() {
        for text in ["", "0s", "-1s", "500ms", "1s 1ms", "soon", "99999999999999999999s", "30000y"]
        {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }
}
