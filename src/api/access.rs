//! Who may ask for what, and why.

use chrono::{DateTime, Utc};

use crate::domain::{name::Name, policy::Finding};

/// `GET /v1/profiles/{name}/access`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Access {
    /// Who, as `person:alice`.
    pub principal: String,
    /// The groups that count for it.
    pub groups: Vec<String>,
    /// The profile.
    pub profile: Name,
    /// When.
    pub at: DateTime<Utc>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Would it get a lease?
    pub allowed: bool,
    /// Everything that is looked at, in that order. The first that does not hold is the answer.
    pub findings: Vec<Finding>,
}
