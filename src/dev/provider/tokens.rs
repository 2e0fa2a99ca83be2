//! ID tokens: made, signed, and made wrong where a test asks for it.

use std::fmt;

use anyhow::Context as _;
use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::{
    clock::Clock,
    dev::provider::{CLIENT, Inside, Person, TENANT_CLAIM},
};

/// What may be wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It answers another sign-in.
    Nonce,
    /// It is for somebody else.
    Audience,
    /// It is for us and somebody else, and does not say for whom it was made.
    TwoAudiences,
    /// It was made for another client, and is for us too.
    Party,
    /// Another issuer.
    Issuer,
    /// Over.
    Expired,
    /// Not yet good.
    NotYet,
    /// Made long ago.
    Old,
    /// By a key that the provider does not have.
    UnknownKey,
    /// By another key under the name of the right one.
    StrangeKey,
    /// Not signed.
    Unsigned,
    /// Signed with the public key as if it were a secret.
    PublicKeyAsSecret,
    /// Its payload was changed after it was signed.
    Altered,
    /// It does not say who it is.
    NoSubject,
    /// There is none.
    Missing,
}

/// A key to sign with.
pub(in crate::dev::provider) struct Key {
    name: String,
    pair: EcdsaKeyPair,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Key {
    pub(in crate::dev::provider) fn new(name: &str) -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Ok(Self { name: name.to_owned(), pair: pair.context("could not make a key")? })
    }

    pub(in crate::dev::provider) fn name(&self) -> &str {
        &self.name
    }

    /// As others see it (RFC 7517): the point's two halves behind a byte that says that there are two.
    pub(in crate::dev::provider) fn published(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let half = |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or(&[]));
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.name,
            "x": half(1), "y": half(33),
        })
    }

    fn sign(&self, text: &str) -> anyhow::Result<String> {
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes());
        Ok(URL_SAFE_NO_PAD.encode(signature.context("could not sign")?))
    }
}

/// An ID token for somebody; none if that is what is asked to be wrong.
pub(in crate::dev::provider) fn id_token(
    inside: &mut Inside,
    issuer: &str,
    person: &Person,
    nonce: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let wrong = inside.wrong.take();
    if wrong == Some(Wrong::Missing) {
        return Ok(None);
    }
    let key = inside.keys.first().context("a provider without a key")?;
    let claims = claims(issuer, person, nonce, wrong);
    let (algorithm, name) = match wrong {
        Some(Wrong::Unsigned) => ("none", key.name.as_str()),
        Some(Wrong::PublicKeyAsSecret) => ("HS256", key.name.as_str()),
        Some(Wrong::UnknownKey) => ("ES256", "nobody-has-it"),
        _ => ("ES256", key.name.as_str()),
    };
    let header = json!({ "alg": algorithm, "kid": name, "typ": "JWT" });
    let encode = |value: String| URL_SAFE_NO_PAD.encode(value);
    let mut signed =
        format!("{}.{}", encode(header.to_string()), encode(json!(claims).to_string()));
    let signature = match wrong {
        Some(Wrong::Unsigned) => String::new(),
        Some(Wrong::PublicKeyAsSecret) => {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, key.pair.public_key().as_ref());
            URL_SAFE_NO_PAD.encode(hmac::sign(&secret, signed.as_bytes()))
        }
        Some(Wrong::UnknownKey | Wrong::StrangeKey) => Key::new("strange")?.sign(&signed)?,
        _ => key.sign(&signed)?,
    };
    if wrong == Some(Wrong::Altered) {
        let mut other = claims;
        other.insert("sub".to_owned(), json!("sub-mia"));
        signed = format!("{}.{}", encode(header.to_string()), encode(json!(other).to_string()));
    }
    Ok(Some(format!("{signed}.{signature}")))
}

fn claims(
    issuer: &str,
    person: &Person,
    nonce: Option<&str>,
    wrong: Option<Wrong>,
) -> Map<String, Value> {
    let now = Clock.now().timestamp();
    let (issued, good_from, ends) = match wrong {
        Some(Wrong::Expired) => (now - 600, now - 600, now - 300),
        Some(Wrong::NotYet) => (now, now + 600, now + 900),
        Some(Wrong::Old) => (now - 3600, now - 3600, now + 300),
        _ => (now, now, now + 300),
    };
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say(
        "iss",
        match wrong {
            Some(Wrong::Issuer) => json!(format!("{issuer}/")),
            _ => json!(issuer),
        },
    );
    say(
        "aud",
        match wrong {
            Some(Wrong::Audience) => json!("another"),
            Some(Wrong::TwoAudiences | Wrong::Party) => json!([CLIENT, "another"]),
            _ => json!(CLIENT),
        },
    );
    if wrong == Some(Wrong::Party) {
        say("azp", json!("another"));
    }
    if wrong != Some(Wrong::NoSubject) {
        say("sub", json!(person.subject));
    }
    for (name, at) in [("iat", issued), ("nbf", good_from), ("exp", ends)] {
        say(name, json!(at));
    }
    if let Some(nonce) = nonce {
        say("nonce", if wrong == Some(Wrong::Nonce) { json!("another") } else { json!(nonce) });
    }
    say("preferred_username", json!(person.name));
    say("email", json!(format!("{}@example.org", person.name)));
    say("email_verified", json!(true));
    say("groups", json!(person.groups));
    if let Some(tenant) = person.tenant {
        say(TENANT_CLAIM, json!(tenant));
    }
    claims
}
