//! People: how they sign in, and whom pgvalet knows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{api::admin::Token, domain::name::Name, ids::PrincipalId, secret::Secret};

/// `POST /v1/sign-in/device`: what a person is to do, and what to poll with until it is done.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct DeviceSignIn {
    /// What to poll with. Whoever has it gets the session.
    pub secret: String,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub address: String,
    /// The same with the code in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_with_code: Option<String>,
    /// How long to wait between two polls.
    pub interval_seconds: i64,
    /// When it is too late.
    pub ends_at: DateTime<Utc>,
}

/// The same as a client reads it.
#[derive(Debug, serde::Deserialize)]
pub struct ReceivedDeviceSignIn {
    /// What to poll with.
    pub secret: Secret<String>,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub address: String,
    /// The same with the code in it.
    pub address_with_code: Option<String>,
    /// How long to wait between two polls.
    pub interval_seconds: i64,
    /// When it is too late.
    pub ends_at: DateTime<Utc>,
}

/// `POST /v1/sign-in/device/poll`.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollDevice {
    /// The `secret` of the answer that began it.
    #[schema(value_type = String, write_only)]
    pub secret: Secret<String>,
}

/// How a sign-in on another device stands.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct DeviceProgress {
    /// How long to wait before the next poll; none once the person is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,
    /// The session, once the person is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// What to send as `Authorization: Bearer …`, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The same as a client reads it.
#[derive(Debug, serde::Deserialize)]
pub struct ReceivedDeviceProgress {
    /// How long to wait before the next poll.
    pub interval_seconds: Option<i64>,
    /// The session.
    pub token: Option<Token>,
    /// Its secret.
    pub secret: Option<Secret<String>>,
}

/// `DELETE /v1/sessions`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct SignedOut {
    /// How many sessions ended.
    pub sessions: usize,
}

/// Whom pgvalet knows.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Principal {
    /// Its id.
    pub id: PrincipalId,
    /// Its name, as `person:alice`.
    pub principal: String,
    /// What kind of caller it is.
    pub kind: String,
    /// Does it hold every right, whatever the roles say?
    pub admin: bool,
    /// The groups that it was given here.
    pub groups: Vec<String>,
    /// The groups that its provider says it is in. It is in both.
    pub provider_groups: Vec<String>,
    /// What is claimed of it, by name.
    pub claims: BTreeMap<String, String>,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When it was disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it last signed in or used a token, to the minute.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Sessions that are open.
    pub sessions: i64,
    /// Tokens that hold.
    pub tokens: i64,
    /// Leases that are live.
    pub live_leases: i64,
    /// By what others' word it is known; only where one principal is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Identity>,
}

/// By what somebody else's word a principal is known.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Identity {
    /// Whose word it is.
    pub issuer: String,
    /// Its key for the principal: never another's.
    pub subject: String,
    /// What it calls them.
    pub user_name: Option<String>,
    /// Since when it is known.
    pub created_at: DateTime<Utc>,
    /// When they last signed in by it.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// `POST` and `DELETE /v1/principals/{which}/identities`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Whose word it is: the issuer, to the letter.
    pub issuer: String,
    /// Its key for the person.
    pub subject: String,
}

/// `PUT /v1/principals/{which}/groups`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// All groups that the principal is given here.
    pub groups: Vec<Name>,
}
