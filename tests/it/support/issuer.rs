//! An issuer of tokens: a real HTTP server on loopback that publishes its keys, and signs what a test wants signed.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeys, KeySize},
    signature::{self, EcdsaKeyPair, KeyPair as _},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use serde_json::{Value, json};

/// For whom tokens are made in the tests.
pub(crate) const AUDIENCE: &str = "https://pgvalet.example.org";

/// A key that signs.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pair: Arc<Pair>,
}

enum Pair {
    Rsa(RsaKeys),
    Elliptic(EcdsaKeyPair),
}

impl Key {
    pub(crate) fn rsa(name: &str) -> Self {
        let pair = Arc::new(Pair::Rsa(RsaKeys::generate(KeySize::Rsa2048).unwrap()));
        Self { name: name.to_owned(), pair }
    }

    pub(crate) fn elliptic(name: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { name: name.to_owned(), pair: Arc::new(Pair::Elliptic(pair)) }
    }

    /// As the issuer publishes it.
    pub(crate) fn published(&self) -> Value {
        match &*self.pair {
            Pair::Rsa(pair) => {
                let [n, e] = integers(pair.public_key().as_ref());
                json!({ "kty": "RSA", "kid": self.name, "use": "sig", "alg": "RS256", "n": n, "e": e })
            }
            Pair::Elliptic(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) =
                    (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
                json!({ "kty": "EC", "crv": "P-256", "kid": self.name, "x": x, "y": y })
            }
        }
    }

    /// Its public half, as certificates have it: what is public, and no secret to sign with.
    pub(crate) fn public_der(&self) -> Vec<u8> {
        match &*self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Pair::Elliptic(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let algorithm = match &*self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Elliptic(_) => "ES256",
        };
        self.sign_with(&json!({ "alg": algorithm, "typ": "JWT", "kid": self.name }), claims)
    }

    /// A token with these claims, and a header that may lie.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let text = unsigned(header, claims);
        let signature = match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Pair::Elliptic(pair) => {
                pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
            }
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and payload, as they are signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A token "signed" with what is public.
pub(crate) fn signed_by_hmac(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let text = unsigned(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The two integers of an RSAPublicKey in DER, as a JWK has them.
fn integers(der: &[u8]) -> [String; 2] {
    let mut rest = inside(der, 0x30).0;
    let mut next = || {
        let (integer, after) = inside(rest, 0x02);
        rest = after;
        let digits = integer.iter().position(|byte| *byte != 0).unwrap();
        URL_SAFE_NO_PAD.encode(&integer[digits..])
    };
    [next(), next()]
}

/// What a DER element holds, and what comes after it.
fn inside(der: &[u8], tag: u8) -> (&[u8], &[u8]) {
    assert_eq!(der[0], tag);
    let (length, begins) = match der[1] {
        short @ ..0x80 => (usize::from(short), 2),
        long => {
            let digits = usize::from(long & 0x7f);
            let length =
                der[2..2 + digits].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, 2 + digits)
        }
    };
    (&der[begins..begins + length], &der[begins + length..])
}

/// The issuer. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<Published>,
}

struct Published {
    keys: Mutex<Vec<Value>>,
    signs: Mutex<Key>,
    /// How often its keys were asked for.
    asked: AtomicUsize,
    /// Where its keys are.
    keys_at: Mutex<String>,
    /// Instead of answering.
    instead: Mutex<Option<Instead>>,
}

/// What it does instead of telling its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Instead {
    Fail,
    Redirect,
    TooLong,
    AnotherIssuer,
}

impl Issuer {
    /// One with one RSA key.
    pub(crate) async fn start() -> Self {
        Self::with(Key::rsa("first")).await
    }

    pub(crate) async fn with(key: Key) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::new(Published {
                keys: Mutex::new(vec![key.published()]),
                signs: Mutex::new(key),
                asked: AtomicUsize::new(0),
                keys_at: Mutex::new("/keys".to_owned()),
                instead: Mutex::new(None),
            }),
        };
        let router = Router::new().fallback(answer).with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    /// The key that it signs with.
    pub(crate) fn key(&self) -> Key {
        self.state.signs.lock().unwrap().clone()
    }

    /// Publishes these keys, and no others; signs with the first one that is given.
    pub(crate) fn publish(&self, signs: &Key, keys: &[Value]) {
        *self.state.signs.lock().unwrap() = signs.clone();
        *self.state.keys.lock().unwrap() = keys.to_vec();
    }

    /// How often its keys were asked for.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// Publishes its keys at another path from now on, and none where they were.
    pub(crate) fn move_keys(&self, path: &str) {
        *self.state.keys_at.lock().unwrap() = path.to_owned();
    }

    pub(crate) fn instead(&self, instead: Option<Instead>) {
        *self.state.instead.lock().unwrap() = instead;
    }

    /// A token with these claims over those that every token has.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.key().sign(&self.claims(claims))
    }

    /// Claims that are good now, with these over them; those that are null are left out.
    pub(crate) fn claims(&self, differs: &Value) -> Value {
        let now = Utc::now().timestamp();
        let mut claims = json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "a job", "jti": uuid::Uuid::now_v7().to_string(),
            "iat": now, "nbf": now, "exp": now + 300,
        });
        for (name, value) in differs.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }
}

async fn answer(State(issuer): State<Issuer>, request: Request) -> Response {
    let instead = *issuer.state.instead.lock().unwrap();
    let is_json = [(header::CONTENT_TYPE, "application/json")];
    match (request.uri().path(), instead) {
        ("/.well-known/openid-configuration", _) => {
            let name = match instead {
                Some(Instead::AnotherIssuer) => "https://issuer.example",
                _ => &issuer.url,
            };
            let keys_at = issuer.state.keys_at.lock().unwrap().clone();
            let body = json!({ "issuer": name, "jwks_uri": format!("{}{keys_at}", issuer.url) });
            (is_json, body.to_string()).into_response()
        }
        (path, instead) if path == *issuer.state.keys_at.lock().unwrap() => {
            issuer.state.asked.fetch_add(1, Ordering::Relaxed);
            let keys = json!({ "keys": *issuer.state.keys.lock().unwrap() }).to_string();
            match instead {
                Some(Instead::Fail) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                Some(Instead::Redirect) => {
                    let there = format!("{}/elsewhere", issuer.url);
                    (StatusCode::FOUND, [(header::LOCATION, there)]).into_response()
                }
                Some(Instead::TooLong) => {
                    (is_json, Body::from(keys + &" ".repeat(2 << 20))).into_response()
                }
                Some(Instead::AnotherIssuer) | None => (is_json, keys).into_response(),
            }
        }
        // Where a redirect would lead: a client that follows it gets in.
        ("/elsewhere", _) => {
            (is_json, json!({ "keys": *issuer.state.keys.lock().unwrap() }).to_string())
                .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
