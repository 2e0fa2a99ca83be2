//! The JSON that `http` writes and `cli` reads: plain data. What the types say is the API's document
//! (`/openapi.json` is generated from them), so a change here is a change for every client.

pub mod access;
pub mod admin;
pub mod audit;
pub mod ci;
pub mod drift;
pub mod emergencies;
pub mod identities;
pub mod leases;
pub mod notices;
pub mod offboarding;
pub mod people;
pub mod problem;
pub mod requests;
pub mod reviews;
pub mod standing;
pub mod status;
pub mod sweep;

/// A page of a list, newest first.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
