//! What pgvalet can and cannot do on a target, as `pgvalet doctor` shows it.

use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::{name::Name, target::Way};

/// How bad a finding is, mildest first.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing; leases work and end.
    Note,
    /// Leases work and end, but somebody may do more than they should.
    Risk,
    /// Leases work and end, and what their profiles do not give is had all the same.
    Critical,
    /// Leases cannot be made, or not ended.
    Broken,
}

impl Severity {
    /// Those that speak of something that is not as it should be, as they are written.
    pub const FAULTS: [&'static str; 4] = ["note", "risk", "critical", "broken"];

    /// Reads one of [`Severity::FAULTS`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Note, Self::Risk, Self::Critical, Self::Broken]
            .into_iter()
            .find(|severity| severity.as_str() == text)
    }

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Risk => "risk",
            Self::Critical => "critical",
            Self::Broken => "broken",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// What was looked at: a word for programs, which does not change.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// The database that it is about, and in which it is mended; none if it is about the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What was found.
    pub found: String,
    /// Why it matters, where what was found does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The SQL that mends it, for a superuser or the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn good(check: &str, found: impl Into<String>) -> Self {
        Self::bad(check, Severity::Good, found, None)
    }

    /// As it should not be.
    #[must_use]
    pub fn bad(
        check: &str,
        severity: Severity,
        found: impl Into<String>,
        mend: impl Into<Option<String>>,
    ) -> Self {
        Self {
            check: check.to_owned(),
            severity,
            database: None,
            found: found.into(),
            reason: None,
            mend: mend.into(),
        }
    }

    /// The same, with why it matters.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// The same, about a database.
    #[must_use]
    pub fn in_database(self, database: &str) -> Self {
        Self { database: Some(database.to_owned()), ..self }
    }
}

/// All that was found on a target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Diagnosis {
    /// The target.
    pub target: Name,
    /// When it was looked at, by our clock.
    pub seen_at: DateTime<Utc>,
    /// How our admin acts there; none if it could not be asked.
    pub way: Option<Way>,
    /// The server's version, as `150004` for 15.4; none if it could not be asked.
    pub server_version: Option<i32>,
    /// How far its clock is ahead of ours, in milliseconds; none if it could not be asked.
    pub clock_skew_ms: Option<i64>,
    /// Is nothing broken?
    pub sound: bool,
    /// What was looked at, in the order in which it was.
    pub findings: Vec<Finding>,
}

/// When the PostgreSQL project stops mending a major version: its last minor release
/// (<https://www.postgresql.org/support/versioning/>, read in November 2026).
const LAST_RELEASES: [(i32, (i32, u32, u32)); 6] = [
    (13, (2025, 11, 13)),
    (14, (2026, 11, 12)),
    (15, (2027, 11, 11)),
    (16, (2028, 11, 9)),
    (17, (2029, 11, 8)),
    (18, (2030, 11, 14)),
];

/// A major version that is not mended any more. Whether a newer minor one is out cannot be known here.
#[must_use]
pub fn about_the_major_version(version_num: i32, now: DateTime<Utc>) -> Option<Finding> {
    let major = version_num / 10_000;
    let (_, (year, month, day)) = LAST_RELEASES.into_iter().find(|(of, _)| *of == major)?;
    let last = NaiveDate::from_ymd_opt(year, month, day)?;
    (now.date_naive() > last).then(|| {
        Finding::bad(
            "end_of_life",
            Severity::Risk,
            format!(
                "PostgreSQL {major} had its last release on {last}: move to a newer major version"
            ),
            None,
        )
        .because("faults that are found in it from then on, those of its security included, stay")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_past_its_end_on_the_day_after_its_last_release() {
        let on = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(about_the_major_version(140_021, on("2026-11-12T23:59:59Z")), None);
        let found = about_the_major_version(140_021, on("2026-11-13T00:00:00Z")).unwrap();
        assert_eq!(found.severity, Severity::Risk);
        assert!(found.found.contains("PostgreSQL 14") && found.found.contains("2026-11-12"));
        assert_eq!(about_the_major_version(990_000, on("2040-01-01T00:00:00Z")), None, "unknown");
    }

    #[test]
    fn the_words_for_faults_are_read_back_and_in_order() {
        let read: Vec<_> =
            Severity::FAULTS.iter().map(|word| Severity::from_text(word).unwrap()).collect();
        assert!(read.is_sorted() && read.len() == 4);
        assert_eq!(Severity::from_text("good"), None);
    }
}
