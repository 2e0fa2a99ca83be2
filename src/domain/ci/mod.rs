//! Which jobs of CI systems are let in: whose tokens are taken (issuers), and what a token must say (rules).
//!
//! A rule binds what cannot change hands: ids that an issuer never gives out twice. Names of repositories,
//! projects and organisations are given up, taken up by strangers, and look alike; a rule without the ids is
//! refused when it is read. What a token says is compared to the letter, but for the segments of a ref.

pub mod buildkite;
pub mod circleci;
pub mod explanation;
pub mod generic;
pub mod github;
pub mod gitlab;
pub mod kubernetes;
pub mod propose;
pub mod rule;
pub mod system;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::domain::{
    ci::system::System,
    duration::{NotADuration, Seconds},
    name::Name,
    words::words,
};

words! {
    /// Which CI system's tokens they are.
    IssuerKind {
        /// GitHub Actions.
        Github = "github",
        /// GitLab CI.
        Gitlab = "gitlab",
        /// Service accounts of a Kubernetes cluster.
        Kubernetes = "kubernetes",
        /// Buildkite.
        Buildkite = "buildkite",
        /// CircleCI.
        Circleci = "circleci",
        /// Any other, such as SPIFFE's JWT-SVIDs.
        Generic = "generic",
    }
}

impl IssuerKind {
    /// What is known of its tokens.
    #[must_use]
    pub const fn system(self) -> &'static System {
        match self {
            Self::Github => &github::SYSTEM,
            Self::Gitlab => &gitlab::SYSTEM,
            Self::Kubernetes => &kubernetes::SYSTEM,
            Self::Buildkite => &buildkite::SYSTEM,
            Self::Circleci => &circleci::SYSTEM,
            Self::Generic => &generic::SYSTEM,
        }
    }
}

/// Whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct IssuerSpec {
    /// Its name here.
    pub name: Name,
    /// Which CI system it is.
    pub kind: IssuerKind,
    /// Its name in its tokens, to the letter.
    pub url: String,
    /// For whom its tokens have to be made; a rule may say another.
    pub audience: Option<String>,
    /// Where its keys are, if that cannot be discovered.
    pub jwks_url: Option<String>,
    /// The certificates to trust for its address, where it has an authority of its own.
    pub ca: Option<String>,
    /// How old, in seconds, a token may be that asks for a credential.
    pub max_age: i64,
    /// Where the cluster is asked whether the token's pod is still there.
    pub token_review: Option<TokenReview>,
}

/// Kubernetes' TokenReview: keys alone cannot tell that a pod was deleted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TokenReview {
    /// The API server.
    pub url: String,
    /// The file on the daemon's machine with the token that it asks with: read anew each time.
    pub token_file: String,
    /// The certificates to trust for its address.
    pub ca: Option<String>,
}

/// How old a token may be, if the issuer's table does not say.
pub const DEFAULT_MAX_AGE: i64 = 15 * 60;

/// The oldest that may be allowed.
pub const MOST_MAX_AGE: i64 = 3600;

/// Audiences that others go by: a token for one of them would be good there, too.
const OF_OTHERS: [(&str, &str); 4] = [
    ("sts.amazonaws.com", "AWS"),
    ("api://AzureADTokenExchange", "Azure"),
    ("sigstore", "sigstore"),
    ("https://kubernetes.default.svc", "the API server of a cluster"),
];

impl IssuerSpec {
    /// How old a token may be.
    #[must_use]
    pub const fn longest_age(&self) -> chrono::TimeDelta {
        chrono::TimeDelta::seconds(self.max_age)
    }

    /// The same as a file writes it.
    ///
    /// # Errors
    /// If it is no length of time.
    pub const fn max_age(&self) -> Result<Seconds, NotADuration> {
        Seconds::new(self.max_age)
    }
}

/// What is wrong with an issuer: the key, and what to write instead.
#[must_use]
pub fn faults(issuer: &IssuerSpec) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if let Some(audience) = &issuer.audience
        && let Some(fault) = audience_fault(audience, issuer)
    {
        faults.push(("audience", fault));
    }
    let has_blank = |text: &str| text.contains(|c: char| c.is_whitespace() || c.is_control());
    let mut address = |key, url: &str| {
        if has_blank(url) || !is_protected(url) {
            let message =
                "write an address that begins with https:// (plain http is for this machine alone)";
            faults.push((key, message.to_owned()));
        }
    };
    if issuer.jwks_url.is_none() {
        address("url", &issuer.url);
    }
    issuer.jwks_url.iter().for_each(|url| address("jwks_url", url));
    if let Some(review) = &issuer.token_review {
        address("token_review.url", &review.url);
        if issuer.kind != IssuerKind::Kubernetes {
            let message = "only a Kubernetes cluster can be asked this: leave it out";
            faults.push(("token_review", message.to_owned()));
        }
        if !review.token_file.starts_with('/') {
            let message = "write the whole path of a file on the daemon's machine";
            faults.push(("token_review.token_file", message.to_owned()));
        }
    }
    if issuer.url.starts_with("https://oidc.circleci.com") && !issuer.url.contains("/org/") {
        let message = "each organisation is an issuer of its own: write \"https://oidc.circleci.com/org/ORGANISATION-ID\"";
        faults.push(("url", message.to_owned()));
    }
    if !(1..=MOST_MAX_AGE).contains(&issuer.max_age) {
        faults.push(("max_age", "write a length of time from \"1s\" to \"1h\"".to_owned()));
    }
    faults
}

/// Why this cannot be the audience of tokens for here: it would let in tokens that were made for others.
#[must_use]
pub fn audience_fault(audience: &str, issuer: &IssuerSpec) -> Option<String> {
    let write = "write one that nobody else has, such as this deployment's own address (\"https://pgvalet.example.org\"), and ask for tokens with it";
    let of_kind = match issuer.kind {
        IssuerKind::Github if is_owner_url(audience) => {
            Some("it is what GitHub writes into tokens of which nobody said for whom they are")
        }
        IssuerKind::Circleci if issuer.url.ends_with(&format!("/{audience}")) => {
            Some("the organisation's id is in every token of CircleCI's, for whomever it is made")
        }
        _ if audience == issuer.url => Some("it is the issuer's own address"),
        _ => None,
    };
    if let Some(why) = of_kind {
        return Some(format!("{why}: {write}"));
    }
    let other = OF_OTHERS.iter().find(|(theirs, _)| audience.starts_with(theirs));
    other.map(|(_, whose)| format!("tokens for it are good at {whose}, too: {write}"))
}

/// `https://github.com/OWNER`, which is the default there.
fn is_owner_url(audience: &str) -> bool {
    let owner = audience.strip_prefix("https://github.com/");
    owner.is_some_and(|owner| !owner.is_empty() && !owner.trim_end_matches('/').contains('/'))
}

/// https; or plain http to a loopback address, for tests and playgrounds.
fn is_protected(url: &str) -> bool {
    let here = ["http://127.0.0.1", "http://[::1]", "http://localhost"];
    let after = |front: &&str| {
        url.strip_prefix(*front).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    };
    url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty()) || here.iter().any(after)
}

/// What is kept of the job that asked, for the audit. Its token's words: they say what happened, and give nothing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct JobSeen {
    /// The rule that it meets.
    pub rule: String,
    /// What tells it from other jobs.
    pub job: String,
    /// Its token's subject.
    pub subject: String,
    /// What else its token says of it: repository, ref, commit, who started it.
    pub told: BTreeMap<String, String>,
}
