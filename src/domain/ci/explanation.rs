//! What was found out about a token: the verifier's word, and each rule with each of its matchers.

use crate::domain::ci::rule::ClaimOutcome;

/// All that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TokenExplanation {
    /// The issuer, by its name here; none if it is not one of ours.
    pub issuer: Option<String>,
    /// What is wrong with the token itself; nothing if it is good.
    pub faults: Vec<String>,
    /// Each rule of the issuer's.
    pub rules: Vec<RuleExplained>,
    /// Who the job would be, if it would be let in.
    pub principal: Option<String>,
    /// What tells it from other jobs.
    pub job: Option<String>,
    /// How it stands, in a sentence.
    pub verdict: String,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct RuleExplained {
    /// Its name.
    pub rule: String,
    /// Does the token meet it?
    pub holds: bool,
    /// Each thing that was looked at.
    pub outcomes: Vec<ClaimOutcome>,
}
