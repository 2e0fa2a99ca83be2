//! What pgvalet can and cannot do on a target, as `pgvalet doctor` shows it.

use chrono::{DateTime, Utc};

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
    /// Leases cannot be made, or not ended.
    Broken,
}

impl Severity {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Risk => "risk",
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
    /// What was found.
    pub found: String,
    /// The SQL that mends it, for a superuser or the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn good(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), severity: Severity::Good, found: found.into(), mend: None }
    }

    /// As it should not be.
    #[must_use]
    pub fn bad(
        check: &str,
        severity: Severity,
        found: impl Into<String>,
        mend: impl Into<Option<String>>,
    ) -> Self {
        Self { check: check.to_owned(), severity, found: found.into(), mend: mend.into() }
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
