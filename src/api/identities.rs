//! By which names of certificates principals are known.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::ids::PrincipalId;

/// One of them.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Identity {
    /// The name in the certificate's subject alternative name: `dns:…`, `uri:…` or `email:…`.
    pub certificate: String,
    /// The principal's id.
    pub principal_id: PrincipalId,
    /// Whose it is, as `service:ci-runner`.
    pub principal: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When somebody last signed in by it, to the minute.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// `POST /v1/identities`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddIdentity {
    /// Whose it is (`service:ci-runner`, `person:alice`): recorded if it is new.
    pub principal: String,
    /// The name in the certificate, such as `uri:spiffe://example.org/ns/x/sa/y`.
    pub certificate: String,
    /// The groups that the principal is in from now on; as they were, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// What is claimed of the principal from now on, by name; as it was, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<BTreeMap<String, String>>,
}
