//! How a CI system is described: which keys its rules have, where its tokens say the same, and what
//! must be said.

use serde_json::{Map, Value};

/// What is known of one CI system's tokens.
#[derive(Debug)]
pub struct System {
    /// Its issuer, where that is the same for everybody.
    pub url: Option<&'static str>,
    /// The keys of its rules.
    pub fields: &'static [Field],
    /// The claims that tell one job from all others. If one is missing, the subject is taken with them.
    pub run: &'static [Claim],
    /// The claims that the audit keeps beside.
    pub told: &'static [Claim],
    /// Keys that people write and that are refused: names, and what to write instead.
    pub refused: &'static [Refused],
}

/// A place in a token: the keys that lead there.
pub type Claim = &'static [&'static str];

/// One key of a rule.
#[derive(Debug)]
pub struct Field {
    /// As a file writes it.
    pub key: &'static str,
    /// Where a token says it.
    pub claim: Claim,
    /// How the two are compared, and what may be written.
    pub form: Form,
    /// What holds if the rule does not say.
    pub unsaid: Unsaid,
}

/// How what is written is compared with what a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// To the letter.
    Exact,
    /// To the letter, and it is a number that was given out once.
    Number,
    /// To the letter, and it is a UUID.
    Uuid,
    /// A ref below this front, whose segments may have `*`, which never goes across a `/`.
    Ref(&'static str),
}

/// What holds if a rule does not say.
#[derive(Debug, Clone, Copy)]
pub enum Unsaid {
    /// Such a rule is refused.
    Refused,
    /// Anything.
    Anything,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// This, and no rule may say otherwise.
    Always(&'static str),
}

impl Field {
    /// One that every rule has to have.
    pub(in crate::domain::ci) const fn needed(key: &'static str, claim: Claim, form: Form) -> Self {
        Self { key, claim, form, unsaid: Unsaid::Refused }
    }

    /// One that a rule may have.
    pub(in crate::domain::ci) const fn optional(
        key: &'static str,
        claim: Claim,
        form: Form,
    ) -> Self {
        Self { key, claim, form, unsaid: Unsaid::Anything }
    }

    /// One that has to be among these, unless the rule says another.
    pub(in crate::domain::ci) const fn unless_said(
        key: &'static str,
        claim: Claim,
        form: Form,
        these: &'static [&'static str],
    ) -> Self {
        Self { key, claim, form, unsaid: Unsaid::OneOf(these) }
    }

    /// What no rule may have otherwise.
    pub(in crate::domain::ci) const fn always(
        key: &'static str,
        claim: Claim,
        this: &'static str,
    ) -> Self {
        Self { key, claim, form: Form::Exact, unsaid: Unsaid::Always(this) }
    }
}

impl Refused {
    pub(in crate::domain::ci) const fn new(key: &'static str, instead: &'static str) -> Self {
        Self { key, instead }
    }
}

/// A key that is no key, and why.
#[derive(Debug)]
pub struct Refused {
    /// The key.
    pub key: &'static str,
    /// What to write instead.
    pub instead: &'static str,
}

/// The longest that is kept or shown of a claim.
const LONGEST: usize = 200;

/// What a token says there: a text, or several. Nothing if it says nothing that can be compared.
#[must_use]
pub fn said(claims: &Map<String, Value>, claim: &[&str]) -> Vec<String> {
    let Some((first, rest)) = claim.split_first() else { return Vec::new() };
    let found =
        rest.iter().try_fold(claims.get(*first), |value, key| value.map(|value| value.get(*key)));
    match found.flatten() {
        Some(Value::Array(several)) => several.iter().filter_map(scalar).collect(),
        Some(one) => scalar(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A claim's name as it is shown: `kubernetes.io / pod / uid`.
#[must_use]
pub fn shown(claim: &[&str]) -> String {
    claim.join(" / ")
}

/// What a token says is a stranger's word: short, and on one line.
#[must_use]
pub fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
