//! What issuers publish: where they are asked (OpenID Connect Discovery 1.0) and the keys they sign with
//! (RFC 7517). Fetched when first needed, kept for a while, and fetched anew for a key that is not known:
//! seldom, so that tokens with invented keys do not make us knock at the issuer's door.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use reqwest::{RequestBuilder, StatusCode, Url, redirect::Policy};
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::secret::Secret;

/// Longer than any such document.
const LONGEST_ANSWER: usize = 1 << 20;

/// How long one of these requests may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long keys are believed without asking again. A key that the issuer took back is refused after that.
const FRESH_FOR: Duration = Duration::from_secs(600);

/// How long they are believed if the issuer does not answer.
const BELIEVED_FOR: Duration = Duration::from_secs(12 * 3600);

/// At least so long between two requests to one issuer.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// What an issuer says of itself. Endpoints that it does not have are none.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Discovered {
    /// Its own name, to the letter.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where people sign in.
    pub authorization_endpoint: Option<String>,
    /// Where codes become tokens.
    pub token_endpoint: Option<String>,
    /// Where devices begin (RFC 8628).
    pub device_authorization_endpoint: Option<String>,
    /// Where people sign out.
    pub end_session_endpoint: Option<String>,
}

/// An issuer could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It does not answer, or not with success.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What came of it.
        why: String,
    },
    /// What it says cannot be used.
    #[error("what {url} says cannot be used: {why}")]
    Unusable {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The issuer, as its tokens name it.
    pub issuer: String,
    /// Where its keys are, if that is not to be discovered.
    pub jwks_url: Option<String>,
}

/// All issuers that were asked.
pub struct Issuers {
    http: reqwest::Client,
    known: Mutex<HashMap<Address, Arc<AsyncMutex<Known>>>>,
}

/// One of them.
#[derive(Default)]
struct Known {
    discovered: Option<Arc<Discovered>>,
    keys: Option<(Arc<Vec<Jwk>>, Instant)>,
    asked_at: Option<Instant>,
    failed: Option<Error>,
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuers").finish_non_exhaustive()
    }
}

impl Issuers {
    /// Nobody was asked yet.
    ///
    /// # Errors
    /// If there is no TLS to be had.
    #[expect(
        clippy::disallowed_methods,
        reason = "built here with timeouts, no redirects, and the system's roots"
    )]
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(PATIENCE)
            .connect_timeout(PATIENCE)
            .user_agent(concat!("pgvalet/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, known: Mutex::default() })
    }

    /// What an issuer is asked with: bounded in time, and led nowhere else.
    #[must_use]
    pub const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// What an issuer says of itself.
    ///
    /// # Errors
    /// If it does not answer, or what it says cannot be used.
    pub async fn discovered(&self, address: &Address) -> Result<Arc<Discovered>, Error> {
        let known = self.of(address);
        let mut known = known.lock().await;
        self.discover(address, &mut known).await
    }

    /// The keys of an issuer, where one of that name is among them if the issuer has it.
    ///
    /// # Errors
    /// If there are none that can be believed any more.
    pub async fn keys(
        &self,
        address: &Address,
        key_id: Option<&str>,
    ) -> Result<Arc<Vec<Jwk>>, Error> {
        let known = self.of(address);
        // One asks, and the others who want the same wait for the answer.
        let mut known = known.lock().await;
        let now = Instant::now();
        if let Some((keys, read_at)) = &known.keys {
            let has_it = key_id
                .is_none_or(|id| keys.iter().any(|key| key.common.key_id.as_deref() == Some(id)));
            let asked = known.asked_at.unwrap_or(*read_at);
            let is_fresh = now - *read_at < FRESH_FOR && has_it;
            if is_fresh || now - asked < ASKED_EVERY {
                return Ok(Arc::clone(keys));
            }
        } else if let (Some(asked), Some(failed)) = (known.asked_at, &known.failed)
            && now - asked < Duration::from_secs(1)
        {
            return Err(failed.clone());
        }
        known.asked_at = Some(now);
        match self.fetch_keys(address, &mut known).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                (known.keys, known.failed) = (Some((Arc::clone(&keys), now)), None);
                Ok(keys)
            }
            Err(error) => {
                tracing::warn!(issuer = %address.issuer, error = &error as &dyn std::error::Error, "could not read the keys of an issuer");
                known.failed = Some(error.clone());
                match &known.keys {
                    Some((keys, read_at)) if now - *read_at < BELIEVED_FOR => Ok(Arc::clone(keys)),
                    _ => Err(error),
                }
            }
        }
    }

    fn of(&self, address: &Address) -> Arc<AsyncMutex<Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(address.clone()).or_default())
    }

    async fn fetch_keys(&self, address: &Address, known: &mut Known) -> Result<Vec<Jwk>, Error> {
        let url = match &address.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(address, known).await?.jwks_uri.clone(),
        };
        let set: serde_json::Value = self.get(&url).await?;
        // A key of a kind that is not known here is no reason to do without the others.
        let keys = set.get("keys").and_then(serde_json::Value::as_array);
        let keys = keys.ok_or_else(|| Error::unusable(&url, "it has no `keys`"))?;
        let read = |key: &serde_json::Value| serde_json::from_value::<Jwk>(key.clone()).ok();
        let JwkSet { keys } = JwkSet { keys: keys.iter().filter_map(read).collect() };
        if keys.is_empty() {
            return Err(Error::unusable(&url, "there is no key in it that can be used"));
        }
        Ok(keys)
    }

    async fn discover(
        &self,
        address: &Address,
        known: &mut Known,
    ) -> Result<Arc<Discovered>, Error> {
        if let Some(discovered) = &known.discovered {
            return Ok(Arc::clone(discovered));
        }
        let base = address.issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let discovered: Discovered = self.get(&url).await?;
        if discovered.issuer != address.issuer {
            let why = format!("it calls itself `{}`, not `{}`", discovered.issuer, address.issuer);
            return Err(Error::unusable(&url, &why));
        }
        let endpoints = [
            Some(&discovered.jwks_uri),
            discovered.authorization_endpoint.as_ref(),
            discovered.token_endpoint.as_ref(),
            discovered.device_authorization_endpoint.as_ref(),
            discovered.end_session_endpoint.as_ref(),
        ];
        if let Some(plain) = endpoints.into_iter().flatten().find(|url| !is_protected(url)) {
            let why = format!("`{plain}` is not https");
            return Err(Error::unusable(&url, &why));
        }
        let discovered = Arc::new(discovered);
        known.discovered = Some(Arc::clone(&discovered));
        Ok(discovered)
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Error> {
        let asked = self.http.get(url).header(reqwest::header::ACCEPT, "application/json");
        let (status, body) = ask(url, asked).await?;
        if !status.is_success() {
            return Err(Error::Unreachable {
                url: url.to_owned(),
                why: format!("it answers {status}"),
            });
        }
        serde_json::from_slice(body.expose()).map_err(|e| Error::unusable(url, &e.to_string()))
    }
}

/// Asks, over a protected way alone, and reads an answer of bounded length, whatever its status.
///
/// # Errors
/// If no answer comes, or one that is too long.
pub async fn ask(
    url: &str,
    request: RequestBuilder,
) -> Result<(StatusCode, Secret<Vec<u8>>), Error> {
    if !is_protected(url) {
        return Err(Error::unusable(url, "it is not https"));
    }
    let unreachable = |e| Error::Unreachable { url: url.to_owned(), why: causes(&e) };
    let mut answer = request.send().await.map_err(unreachable)?;
    let mut body = Secret::new(Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        body.expose_mut().extend_from_slice(&chunk);
        if body.expose().len() > LONGEST_ANSWER {
            return Err(Error::unusable(url, "it is too long"));
        }
    }
    Ok((answer.status(), body))
}

impl Error {
    fn unusable(url: &str, why: &str) -> Self {
        Self::Unusable { url: url.to_owned(), why: why.to_owned() }
    }
}

/// https; or plain http on this very machine, for tests and the playground.
#[must_use]
pub fn is_protected(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_here = match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            address.is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
