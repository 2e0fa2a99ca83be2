//! Emergencies, the reviews that somebody else closes, and the sealed codes that open one without a sign-in.

use chrono::{DateTime, Utc};

use crate::{
    api::{audit::AuditEntry, leases::Lease},
    domain::{
        emergency::{State, Verdict},
        lease::{self, Proof},
        name::Name,
    },
    ids::{LeaseId, LoginId, PrincipalId},
    secret::Secret,
};

/// A lease under a profile for emergencies, and how its review stands.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Emergency {
    /// The lease.
    pub lease_id: LeaseId,
    /// How the review stands.
    pub state: State,
    /// Who opened it, as `person:alice`.
    pub principal: String,
    /// The profile.
    pub profile: String,
    /// The target.
    pub target: String,
    /// The database.
    pub database: String,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// The number of the sealed code that it was opened with, if it was by one.
    pub code: Option<i32>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When the lease ends.
    pub expires_at: DateTime<Utc>,
    /// Where the lease is in its life.
    pub lease_state: lease::State,
    /// When its login was seen to be gone.
    pub ended_at: Option<DateTime<Utc>>,
    /// What was found, once the review is closed.
    pub verdict: Option<Verdict>,
    /// In whose own words.
    pub comment: Option<String>,
    /// By whom.
    pub closed_by: Option<String>,
    /// When.
    pub closed_at: Option<DateTime<Utc>>,
}

/// `GET /v1/emergencies/{id}`: what was done.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct EmergencyDetail {
    /// The emergency.
    pub emergency: Emergency,
    /// Its lease.
    pub lease: Lease,
    /// The logins of the lease, oldest first.
    pub logins: Vec<EmergencyLogin>,
    /// What the audit says of the lease, oldest first.
    pub entries: Vec<AuditEntry>,
}

/// One login of an emergency's lease.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct EmergencyLogin {
    /// Its id.
    pub id: LoginId,
    /// Its role on the target: the target's log says what it ran.
    pub role: String,
    /// Where it is in its life.
    pub state: lease::State,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it was seen to be gone.
    pub removed_at: Option<DateTime<Utc>>,
    /// What was seen then.
    pub proof: Option<Proof>,
}

/// `POST /v1/emergencies/{id}/close`.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseEmergency {
    /// What was found.
    pub verdict: Verdict,
    /// What was done, and why it was or was not right.
    pub comment: String,
}

/// `POST /v1/emergencies`: a wish for a lease, with a sealed code in place of a sign-in.
#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenEmergency {
    /// Whose code it is, as `person:alice`.
    pub person: String,
    /// The code. It is used up once the lease is there.
    #[schema(value_type = String, write_only)]
    pub code: Secret<String>,
    /// The profile: one for emergencies.
    pub profile: String,
    /// For how long (`30m`); the profile's `ttl` if left out.
    #[serde(default)]
    pub ttl: Option<String>,
    /// The tool that will use it.
    #[serde(default)]
    pub tool: Option<String>,
    /// Why. Somebody else reads it afterwards.
    #[serde(default)]
    pub reason: Option<String>,
    /// The ticket it belongs to.
    #[serde(default)]
    pub ticket: Option<String>,
}

/// A set of sealed codes. Never a code.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct CodeSet {
    /// Whose they are.
    pub principal_id: PrincipalId,
    /// The same, as `person:alice`.
    pub principal: String,
    /// How many there were.
    pub made: i64,
    /// How many were not used yet.
    pub left: i64,
    /// The only profiles that they open; any for emergencies, if empty.
    pub profiles: Vec<String>,
    /// Who made them.
    pub made_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When they end.
    pub ends_at: DateTime<Utc>,
}

/// `GET /v1/emergency-codes`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct CodeSets {
    /// The sets that hold, by name of their person.
    pub items: Vec<CodeSet>,
}

/// `POST /v1/emergency-codes`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeCodes {
    /// For whom, as `person:alice`.
    pub person: String,
    /// How many: 10 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
    /// The only profiles that they open; any for emergencies, if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub profiles: Vec<Name>,
    /// For how long: 90 days if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// A new set of sealed codes: the one answer that has them.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct MadeCodes {
    /// The set.
    pub set: CodeSet,
    /// The codes, shown this once.
    pub codes: Vec<String>,
    /// How many codes of before hold no more.
    pub replaced: u64,
}

/// The same answer as a client reads it.
#[derive(Debug, serde::Deserialize)]
pub struct ReceivedCodes {
    /// The set.
    pub set: CodeSet,
    /// The codes.
    pub codes: Vec<Secret<String>>,
    /// How many codes of before hold no more.
    pub replaced: u64,
}
