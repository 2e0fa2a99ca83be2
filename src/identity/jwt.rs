//! Tokens that others signed (RFC 7519), read by the rules of RFC 8725: the algorithm is chosen here and never by
//! the token, the issuer is compared as it stands, the audience must be ours, and a token that says
//! nothing of its age is not taken.
//!
//! The signature is `jsonwebtoken`'s work; what a token says is judged here, by a `now` that is given.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::{Map, Value};

/// Longer than any token of a CI system or a provider; what is longer is not looked at.
pub const LONGEST: usize = 16 * 1024;

/// How far two clocks may be apart.
pub const SKEW: TimeDelta = TimeDelta::seconds(60);

/// What a token has to be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Its issuer, to the letter.
    pub issuer: &'a str,
    /// Its audience has to be one of these.
    pub audiences: &'a [String],
    /// How long ago it may have been issued.
    pub max_age: TimeDelta,
}

/// What a token says of itself, before anything of it is believed: enough to find the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// The key it is said to be signed with.
    pub key_id: Option<String>,
    /// Who is said to have issued it.
    pub issuer: String,
    algorithm: Algorithm,
}

/// What a token says, once its signature, issuer, audience and age were found good.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims(Map<String, Value>);

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("it is not a signed token (JWT): {0}")]
    Unreadable(&'static str),
    /// It names an algorithm that is not taken.
    #[error("it is signed with `{0}`: RS256 and ES256 are taken")]
    Algorithm(String),
    /// No key of its issuer fits.
    #[error("its issuer has no key `{0}` for signatures of that kind")]
    NoKey(String),
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("its issuer is `{0}`, and that is not the one expected, to the letter")]
    Issuer(String),
    /// Another audience.
    #[error("its audience is {seen}: it has to be {expected}")]
    Audience {
        /// What it says.
        seen: String,
        /// What it should.
        expected: String,
    },
    /// A claim that has to be there is not, or is of another type.
    #[error("it has no usable claim `{0}`")]
    Lacks(&'static str),
    /// Over.
    #[error("it ended at {0}")]
    Over(DateTime<Utc>),
    /// Not yet good.
    #[error("it is good from {0} on")]
    NotYet(DateTime<Utc>),
    /// Too old.
    #[error("it was issued at {0}: ask for a fresh one")]
    TooOld(DateTime<Utc>),
}

impl Fault {
    /// In a word, for a metric: none of it comes from the token.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Algorithm(_) => "algorithm",
            Self::NoKey(_) => "no key",
            Self::Signature => "signature",
            Self::Issuer(_) => "issuer",
            Self::Audience { .. } => "audience",
            Self::Lacks(_) => "lacks a claim",
            Self::Over(_) => "expired",
            Self::NotYet(_) => "not yet good",
            Self::TooOld(_) => "too old",
        }
    }
}

impl Unverified {
    /// What it says, though nothing of it is believed: to be shown to whoever asks why it is refused.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn claims(text: &str) -> Result<Claims, Fault> {
        let payload = text.split('.').nth(1).unwrap_or_default();
        object(payload, "its payload").map(Claims)
    }
}

/// Does a text look like one? Then it is read as one, and as nothing else.
#[must_use]
pub fn is_like_one(text: &str) -> bool {
    text.matches('.').count() == 2 && text.starts_with("ey")
}

impl Unverified {
    /// Reads what is needed to find the keys.
    ///
    /// # Errors
    /// If it is no token, or is signed in a way that is never taken.
    pub fn read(text: &str) -> Result<Self, Fault> {
        if text.len() > LONGEST {
            return Err(Fault::Unreadable("it is too long"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::Unreadable("it has not three parts"));
        };
        let header = object(header, "its header")?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Fault::Unreadable("its header names extensions that must be understood"));
        }
        let word = |name| header.get(name).and_then(Value::as_str);
        // Other kinds of JWT (access tokens, logout tokens) are not for signing in with.
        let kinds = ["jwt", "jose"];
        if word("typ").is_some_and(|kind| !kinds.iter().any(|k| kind.eq_ignore_ascii_case(k))) {
            return Err(Fault::Unreadable("it is a token of another kind"));
        }
        let algorithm = match word("alg") {
            Some("RS256") => Algorithm::RS256,
            Some("ES256") => Algorithm::ES256,
            other => return Err(Fault::Algorithm(cut(other.unwrap_or("nothing")))),
        };
        let payload = object(payload, "its payload")?;
        let issuer = payload.get("iss").and_then(Value::as_str).ok_or(Fault::Lacks("iss"))?;
        let key_id = word("kid").map(str::to_owned);
        Ok(Self { key_id, issuer: issuer.to_owned(), algorithm })
    }
}

/// Reads a token whose issuer has these keys.
///
/// # Errors
/// Why it is not taken.
pub fn verify(
    text: &str,
    keys: &[Jwk],
    expected: &Expected<'_>,
    now: DateTime<Utc>,
) -> Result<Claims, Fault> {
    let claims = signed(text, keys)?;
    match faults(&claims, expected, now).into_iter().next() {
        None => Ok(claims),
        Some(fault) => Err(fault),
    }
}

/// What a token says, if one of these keys signed it. Whether that is good is not judged.
///
/// # Errors
/// If none did.
pub fn signed(text: &str, keys: &[Jwk]) -> Result<Claims, Fault> {
    let unverified = Unverified::read(text)?;
    let fits = |key: &&Jwk| fits(key, &unverified);
    let mut validation = Validation::new(unverified.algorithm);
    // All of it is judged below, with reasons, and by the clock that is given.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let mut fault = Fault::NoKey(cut(unverified.key_id.as_deref().unwrap_or("without a name")));
    for key in keys.iter().filter(fits) {
        let Ok(key) = DecodingKey::from_jwk(key) else { continue };
        match jsonwebtoken::decode::<Map<String, Value>>(text, &key, &validation) {
            Ok(read) => return Ok(Claims(read.claims)),
            Err(_) => fault = Fault::Signature,
        }
    }
    Err(fault)
}

/// Is this a key that could have signed it? A key is for the algorithm that it was made for, and a
/// secret one (`oct`) is never for a token of others.
fn fits(key: &Jwk, token: &Unverified) -> bool {
    let of_that_kind = match (&key.algorithm, token.algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => {
            matches!(key.common.key_algorithm, None | Some(KeyAlgorithm::RS256))
        }
        (AlgorithmParameters::EllipticCurve(curve), Algorithm::ES256) => {
            curve.curve == EllipticCurve::P256
                && matches!(key.common.key_algorithm, None | Some(KeyAlgorithm::ES256))
        }
        _ => false,
    };
    let for_signatures = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let of_that_name = token.key_id.is_none() || key.common.key_id == token.key_id;
    of_that_kind && for_signatures && of_that_name
}

/// What is wrong with what a token says: everything.
#[must_use]
pub fn faults(claims: &Claims, expected: &Expected<'_>, now: DateTime<Utc>) -> Vec<Fault> {
    let mut faults = Vec::new();
    match claims.text("iss") {
        None => faults.push(Fault::Lacks("iss")),
        Some(issuer) if issuer != expected.issuer => faults.push(Fault::Issuer(cut(issuer))),
        Some(_) => {}
    }
    let audiences = claims.audiences();
    if !audiences.iter().any(|seen| expected.audiences.iter().any(|ours| ours == seen)) {
        let (seen, expected) = (words(&audiences), words(expected.audiences));
        faults.push(Fault::Audience { seen, expected });
    }
    if claims.text("sub").is_none_or(str::is_empty) {
        faults.push(Fault::Lacks("sub"));
    }
    // Never added to what a token says: the sum may be further away than an instant can be.
    let (earliest, latest) = (now - SKEW, now + SKEW);
    match claims.instant("exp") {
        None => faults.push(Fault::Lacks("exp")),
        Some(ends_at) if ends_at <= earliest => faults.push(Fault::Over(ends_at)),
        Some(_) => {}
    }
    let from = claims.instant("nbf");
    // A word about the time that cannot be read is none that can be kept to.
    if from.is_none() && claims.0.contains_key("nbf") {
        faults.push(Fault::Lacks("nbf"));
    }
    match claims.instant("iat") {
        None => faults.push(Fault::Lacks("iat")),
        Some(issued_at) if issued_at > latest => faults.push(Fault::NotYet(issued_at)),
        Some(issued_at) if issued_at < earliest - expected.max_age => {
            faults.push(Fault::TooOld(issued_at));
        }
        Some(_) => {}
    }
    faults.extend(from.filter(|from| *from > latest).map(Fault::NotYet));
    faults
}

impl Claims {
    /// All of them.
    #[must_use]
    pub const fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A claim that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Who it is, with that issuer.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.text("sub").unwrap_or_default()
    }

    /// When it ends.
    #[must_use]
    pub fn ends_at(&self) -> DateTime<Utc> {
        self.instant("exp").unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// When it was issued.
    #[must_use]
    pub fn issued_at(&self) -> DateTime<Utc> {
        self.instant("iat").unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// A claim that is an instant: seconds since 1970, which may have a fraction.
    #[must_use]
    pub fn instant(&self, name: &str) -> Option<DateTime<Utc>> {
        let value = self.0.get(name)?;
        let seconds = value.as_i64().or_else(|| whole(value.as_f64()?))?;
        DateTime::from_timestamp(seconds, 0)
    }

    /// For whom it is: one audience, or several.
    #[must_use]
    pub fn audiences(&self) -> Vec<String> {
        match self.0.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => {
                several.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Debug for Claims {
    /// Names only: what is claimed of people does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn whole(number: f64) -> Option<i64> {
    format!("{:.0}", number.floor()).parse().ok()
}

fn object(part: &str, what: &'static str) -> Result<Map<String, Value>, Fault> {
    let unreadable = || match what {
        "its header" => Fault::Unreadable("its header is not base64url of a JSON object"),
        _ => Fault::Unreadable("its payload is not base64url of a JSON object"),
    };
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| unreadable())?;
    serde_json::from_slice(&bytes).map_err(|_| unreadable())
}

fn words(texts: &[String]) -> String {
    match texts {
        [] => "nothing".to_owned(),
        texts => texts.iter().map(|text| format!("`{}`", cut(text))).collect::<Vec<_>>().join(", "),
    }
}

/// What a token says is a stranger's word: short, and on one line.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn claims(differs: &Value) -> Claims {
        let mut claims =
            json!({ "iss": "i", "aud": "a", "sub": "s", "iat": 1000, "nbf": 1000, "exp": 1300 });
        for (name, value) in differs.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        Claims(claims.as_object().unwrap().clone())
    }

    fn words_at(now: i64, differs: &Value) -> Vec<&'static str> {
        let audiences = ["a".to_owned(), "b".to_owned()];
        let max_age = TimeDelta::seconds(200);
        let expected = Expected { issuer: "i", audiences: &audiences, max_age };
        faults(&claims(differs), &expected, at(now)).iter().map(Fault::word).collect()
    }

    #[test]
    fn each_bound_holds_to_the_second() {
        for (now, wrong) in [
            (939, &["not yet good", "not yet good"][..]),
            (940, &[]),
            (1260, &[]),
            (1261, &["too old"]),
            (1359, &["too old"]),
            (1360, &["expired", "too old"]),
        ] {
            assert_eq!(words_at(now, &json!({})), wrong, "at {now}");
        }
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_a_fault_and_no_number_is_too_large() {
        for (differs, wrong) in [
            (json!({ "iss": null }), &["lacks a claim"][..]),
            (json!({ "iss": "i/" }), &["issuer"]),
            (json!({ "iss": ["i"] }), &["lacks a claim"]),
            (json!({ "aud": null }), &["audience"]),
            (json!({ "aud": ["x", "b"] }), &[]),
            (json!({ "aud": ["x", 7] }), &["audience"]),
            (json!({ "aud": { "a": "a" } }), &["audience"]),
            (json!({ "sub": "" }), &["lacks a claim"]),
            (json!({ "exp": "1300" }), &["lacks a claim"]),
            (json!({ "exp": 1300.9 }), &[]),
            (json!({ "exp": f64::MAX }), &["lacks a claim"]),
            (json!({ "exp": i64::MAX }), &["lacks a claim"]),
            (json!({ "exp": DateTime::<Utc>::MAX_UTC.timestamp() }), &[]),
            (json!({ "exp": DateTime::<Utc>::MIN_UTC.timestamp() }), &["expired"]),
            (json!({ "iat": DateTime::<Utc>::MAX_UTC.timestamp() }), &["not yet good"]),
            (json!({ "iat": DateTime::<Utc>::MIN_UTC.timestamp() }), &["too old"]),
            (json!({ "nbf": true }), &["lacks a claim"]),
            (json!({ "nbf": null }), &[]),
        ] {
            assert_eq!(words_at(1000, &differs), wrong, "{differs}");
        }
    }

    #[test]
    fn a_header_is_read_and_nothing_of_it_chosen_by_the_token() {
        let token = |header: &Value| {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.AAAA", part(header), part(&json!({ "iss": "i" })))
        };
        for (header, word) in [
            (json!({ "alg": "RS256" }), None),
            (json!({ "alg": "ES256", "typ": "JOSE", "kid": "k" }), None),
            (json!({ "alg": "none" }), Some("algorithm")),
            (json!({ "alg": "HS256" }), Some("algorithm")),
            (json!({ "alg": ["RS256"] }), Some("algorithm")),
            (json!({}), Some("algorithm")),
            (json!({ "alg": "RS256", "crit": [] }), Some("unreadable")),
            (json!({ "alg": "RS256", "b64": false }), Some("unreadable")),
            (json!({ "alg": "RS256", "typ": "logout+jwt" }), Some("unreadable")),
        ] {
            let read = Unverified::read(&token(&header));
            assert_eq!(read.err().map(|fault| fault.word()), word, "{header}");
        }
        for text in ["", "a.b", "a.b.c.d", "ey.ey.ey", &"e".repeat(LONGEST + 1)] {
            assert_eq!(Unverified::read(text).unwrap_err().word(), "unreadable", "{text}");
        }
    }

    #[test]
    fn a_key_fits_what_it_was_made_for() {
        let rsa = json!({ "kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB" });
        let with = |name: &str, value: &str| {
            let mut key = rsa.clone();
            key[name] = json!(value);
            key
        };
        let token = |key_id: Option<&str>| Unverified {
            key_id: key_id.map(str::to_owned),
            issuer: "i".to_owned(),
            algorithm: Algorithm::RS256,
        };
        for (key, named, holds) in [
            (rsa.clone(), Some("k"), true),
            (rsa.clone(), None, true),
            (rsa.clone(), Some("other"), false),
            (with("use", "sig"), Some("k"), true),
            (with("use", "enc"), Some("k"), false),
            (with("alg", "RS256"), Some("k"), true),
            (with("alg", "RS512"), Some("k"), false),
            (json!({ "kty": "oct", "kid": "k", "k": "AAAA" }), Some("k"), false),
            (
                json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": "AA", "y": "AA" }),
                Some("k"),
                false,
            ),
        ] {
            let read: Jwk = serde_json::from_value(key.clone()).unwrap();
            assert_eq!(fits(&read, &token(named)), holds, "{key} {named:?}");
        }
    }
}
