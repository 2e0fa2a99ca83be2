//! The token of a CI job: is it good, and which rule does it meet? Pure but for the clock that is given; whoever
//! calls brings the issuer's keys.

use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::Jwk;
use serde_json::{Map, Value};

use crate::{
    domain::{
        ci::{
            IssuerSpec, JobSeen,
            explanation::{RuleExplained, TokenExplanation},
            rule::{self, RuleSpec},
        },
        name::Name,
    },
    identity::jwt::{self, Claims, Expected, Fault, Unverified},
};

/// A token is believed for looking at the job's own leases, making them longer and ending them, until it is over;
/// but none that is older than this.
const OLDEST: TimeDelta = TimeDelta::days(1);

/// A job whose token was found good, and meets one rule. Only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedJob {
    /// What the audit is told of it.
    pub seen: JobSeen,
    /// The rule that it meets.
    rule: Name,
    hash: Vec<u8>,
    issued_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    /// How old it may be to ask for a credential.
    max_age: TimeDelta,
}

/// Why a token is not taken. The caller is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token itself.
    #[error("{0}")]
    Token(#[from] Fault),
    /// It meets no rule.
    #[error("it meets no rule of [issuer.{0}]")]
    NoRule(Name),
    /// Its issuer does not stand by it any more.
    #[error("the cluster does not stand by it: {0}")]
    NotThere(String),
    /// It meets several, and is nobody's.
    #[error("it meets several rules ({}), which have to be told apart", .0.iter().map(Name::as_str).collect::<Vec<_>>().join(", "))]
    Ambiguous(Vec<Name>),
}

impl Refused {
    /// In a word, for a metric.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Token(fault) => fault.word(),
            Self::NoRule(_) => "no rule",
            Self::NotThere(_) => "not there",
            Self::Ambiguous(_) => "several rules",
        }
    }
}

impl VerifiedJob {
    /// The rule that it meets: the job is `ci:NAME`.
    #[must_use]
    pub const fn rule(&self) -> &Name {
        &self.rule
    }

    /// What tells its token from all others.
    #[must_use]
    pub fn token_hash(&self) -> &[u8] {
        &self.hash
    }

    /// When its token is over.
    #[must_use]
    pub const fn ends_at(&self) -> DateTime<Utc> {
        self.ends_at
    }

    /// Until when it must be remembered that its token was spent: it is taken for a little longer than it says.
    #[must_use]
    pub fn forgotten_at(&self) -> DateTime<Utc> {
        let spare = jwt::SKEW * 2;
        self.ends_at.checked_add_signed(spare).unwrap_or(self.ends_at)
    }

    /// Is its token fresh enough to ask for a credential?
    #[must_use]
    pub fn may_ask(&self, now: DateTime<Utc>) -> bool {
        self.issued_at >= now - self.max_age - jwt::SKEW
    }
}

/// Judges a token that says it is this issuer's.
///
/// # Errors
/// Why it is not taken.
pub fn verify<'a>(
    text: &str,
    keys: &[Jwk],
    issuer: &IssuerSpec,
    rules: impl Iterator<Item = &'a RuleSpec> + Clone,
    now: DateTime<Utc>,
) -> Result<VerifiedJob, Refused> {
    let audiences = audiences(issuer, rules.clone());
    let expected = Expected { issuer: &issuer.url, audiences: &audiences, max_age: OLDEST };
    let claims = jwt::verify(text, keys, &expected, now)?;
    let met: Vec<&RuleSpec> = rules.filter(|rule| rule.holds(issuer, claims.all())).collect();
    match met.as_slice() {
        [rule] => Ok(VerifiedJob {
            seen: rule.job_seen(issuer, claims.all()),
            rule: rule.name.clone(),
            hash: token_hash(text, &claims),
            issued_at: claims.issued_at(),
            ends_at: claims.ends_at(),
            max_age: issuer.longest_age(),
        }),
        [] => Err(Refused::NoRule(issuer.name.clone())),
        several => Err(Refused::Ambiguous(several.iter().map(|rule| rule.name.clone()).collect())),
    }
}

/// Says all that there is to say about a token, good or not, after these faults that were found already. Without
/// keys, its signature is not judged, and why is given instead.
#[must_use]
pub fn explain<'a>(
    text: &str,
    keys: Result<&[Jwk], String>,
    issuer: &IssuerSpec,
    rules: impl Iterator<Item = &'a RuleSpec> + Clone,
    now: DateTime<Utc>,
    mut faults: Vec<String>,
) -> TokenExplanation {
    let signed = match keys {
        Ok(keys) => jwt::signed(text, keys).map_err(|fault| fault.to_string()),
        Err(why) => Err(format!("its signature could not be checked: {why}")),
    };
    let claims = match signed {
        Ok(claims) => Some(claims),
        Err(fault) => {
            faults.push(fault);
            Unverified::claims(text).ok()
        }
    };
    let audiences = audiences(issuer, rules.clone());
    let max_age = issuer.longest_age();
    let expected = Expected { issuer: &issuer.url, audiences: &audiences, max_age };
    let told = claims.iter().flat_map(|claims| jwt::faults(claims, &expected, now));
    faults.extend(told.map(|fault| fault.to_string()));
    let nothing = Map::new();
    let claims: &Map<String, Value> = claims.as_ref().map_or(&nothing, Claims::all);
    let explained = |rule: &RuleSpec| {
        let outcomes = rule.outcomes(issuer, claims);
        let holds = outcomes.iter().all(|outcome| outcome.holds);
        RuleExplained { rule: rule.name.to_string(), holds, outcomes }
    };
    let rules: Vec<RuleExplained> = rules.map(explained).collect();
    let met: Vec<&str> =
        rules.iter().filter(|rule| rule.holds).map(|rule| rule.rule.as_str()).collect();
    let (principal, verdict) = match (faults.is_empty(), met.as_slice()) {
        (true, [one]) => (Some(format!("ci:{one}")), format!("it is taken: the job is ci:{one}")),
        (false, [one]) => (None, format!("it would be ci:{one}, but the token is not good")),
        (_, []) => (None, "it meets no rule".to_owned()),
        (_, several) => {
            let several = several.join(", ");
            (None, format!("it meets several rules ({several}): make them tell jobs apart"))
        }
    };
    let job = (!claims.is_empty()).then(|| rule::job(issuer, claims));
    let issuer = Some(issuer.name.to_string());
    TokenExplanation { issuer, faults, rules, principal, job, verdict }
}

/// Everybody for whom a token may be made.
#[must_use]
pub fn audiences<'a>(
    issuer: &IssuerSpec,
    rules: impl Iterator<Item = &'a RuleSpec>,
) -> Vec<String> {
    let mut all: Vec<String> = issuer
        .audience
        .iter()
        .cloned()
        .chain(rules.filter_map(|rule| rule.audience.clone()))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// By its id with its issuer. Of a token without one, what was signed: the signature itself may be
/// written in several ways.
fn token_hash(text: &str, claims: &Claims) -> Vec<u8> {
    let signed = text.rsplit_once('.').map_or(text, |(signed, _)| signed);
    let id = claims.text("jti").filter(|id| !id.is_empty());
    let named = match id {
        Some(id) => Value::from(vec!["jti", claims.text("iss").unwrap_or_default(), id]),
        None => Value::from(vec!["token", signed]),
    };
    digest::digest(&digest::SHA256, named.to_string().as_bytes()).as_ref().to_vec()
}
