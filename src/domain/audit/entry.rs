//! One entry of the audit: who did what, when, in which request.

use chrono::{DateTime, Utc};

use crate::{
    domain::audit::Event,
    ids::{AuditId, PrincipalId, RequestId},
};

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Actor {
    /// A principal.
    Principal {
        /// Its id.
        id: PrincipalId,
        /// Its name, as `person:alice`.
        name: String,
    },
    /// pgvalet itself: expiry, sweep, start-up.
    Pgvalet,
    /// Somebody who could not prove who they are.
    Unknown,
    /// Whoever ran a command on the daemon's machine (`bootstrap`).
    Operator,
}

/// One entry of the audit, before it is written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: Actor,
    /// In which request, if it was one.
    pub request_id: Option<RequestId>,
    /// From which address, if from one.
    pub source: Option<String>,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// The bytes that are kept and hashed.
    ///
    /// # Errors
    /// Never in practice: each part of an entry has a JSON form.
    pub fn canonical(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::lease::Cause, ids::LeaseId};

    #[test]
    fn an_entry_reads_back_from_its_bytes() {
        let entry = Entry {
            id: AuditId::new(),
            at: DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap(),
            actor: Actor::Pgvalet,
            request_id: None,
            source: None,
            event: Event::LeaseRevoked { lease_id: LeaseId::new(), cause: Cause::Expired },
        };
        let bytes = entry.canonical().unwrap();
        assert!(bytes.contains(r#""kind":"lease.revoked""#), "{bytes}");
        assert_eq!(serde_json::from_str::<Entry>(&bytes).unwrap(), entry);
    }
}
