//! Problem documents (RFC 9457): every refusal and error, with a code that programs may rely on.

use crate::domain::access::Fault;

/// The body of every answer that is not a success (`application/problem+json`).
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:pgvalet:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is, in a few words; the same for each problem of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// The request, as it stands in the logs and the audit.
    pub request_id: String,
    /// Each thing that is wrong with the request, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<ProblemFault>,
}

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ProblemFault {
    /// The field, or the place in a file (`profiles.toml:12:5 profile.shop-read.ttl`).
    pub at: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl From<Fault> for ProblemFault {
    fn from(fault: Fault) -> Self {
        Self { at: fault.field.into_owned(), message: fault.message }
    }
}

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";
