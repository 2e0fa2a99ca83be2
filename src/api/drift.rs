//! Drift: how targets differ from what profiles say.

use chrono::{DateTime, Utc};

use crate::domain::name::Name;

/// Which profiles to look at, and whether to mend.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskForDrift {
    /// Which profiles; all if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Name>,
    /// Make the targets what the profiles say.
    #[serde(default)]
    pub mend: bool,
}

/// What was found.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct DriftReport {
    /// Each profile.
    pub profiles: Vec<ProfileDrift>,
}

/// One profile.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ProfileDrift {
    /// Its name.
    pub profile: String,
    /// Its target's name.
    pub target: String,
    /// When it was first seen to differ in this way; none if this is a fresh look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_at: Option<DateTime<Utc>>,
    /// What would be run, or was, to make the target what the profile says; empty if it is so.
    pub statements: Vec<String>,
    /// What to know.
    pub notes: Vec<String>,
    /// Was it run?
    #[serde(default)]
    pub mended: bool,
    /// Why it could not be looked at, or mended. That proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}
