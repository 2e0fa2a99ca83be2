//! Whose CI jobs are let in.

use crate::{
    domain::ci::{IssuerSpec, rule::RuleSpec},
    secret::Secret,
};

/// The issuers whose tokens are taken, and the rules for their jobs.
#[derive(Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct CiRules {
    /// The issuers, by name.
    pub issuers: Vec<IssuerSpec>,
    /// The rules, by name.
    pub rules: Vec<RuleSpec>,
}

/// A token of a CI job, to be explained. It is not spent, and never logged.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainToken {
    /// The token.
    #[schema(value_type = String)]
    pub token: Secret<String>,
}
