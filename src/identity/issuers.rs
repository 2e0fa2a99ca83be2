//! What issuers publish: where they are asked (OpenID Connect Discovery 1.0) and the keys they sign with
//! (RFC 7517). Fetched when first needed, kept for a while, and fetched anew for a key that is not known:
//! seldom, so that tokens with invented keys do not make us knock at the issuer's door, and nobody whose key is
//! known waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use reqwest::{RequestBuilder, StatusCode, Url, redirect::Policy};
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{causes::causes, domain::network::is_this_machine, secret::Secret};

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

/// So long everybody hears what the first one heard, where there are no keys at all.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// Issuers remembered at most: they come from the record and the settings, and few change.
const MOST_KNOWN: usize = 1000;

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
    /// The certificates (PEM) to trust for it, where it has an authority of its own.
    pub ca: Option<String>,
}

/// All issuers that were asked.
pub struct Issuers {
    http: reqwest::Client,
    known: Mutex<HashMap<Address, Arc<Known>>>,
}

/// One of them.
struct Known {
    http: reqwest::Client,
    /// One asks, and the others who want the same wait for the answer.
    asking: AsyncMutex<()>,
    seen: Mutex<Seen>,
}

/// What was seen of it.
#[derive(Clone, Default)]
struct Seen {
    discovered: Option<(Arc<Discovered>, Instant)>,
    keys: Option<(Arc<Vec<Jwk>>, Instant)>,
    /// When it was last asked for its keys, whatever came of it.
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
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self { http: client(None)?, known: Mutex::default() })
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
        let known = self.of(address)?;
        let _asking = known.asking.lock().await;
        match known.seen().discovered {
            Some((discovered, read_at)) if read_at.elapsed() < FRESH_FOR => Ok(discovered),
            _ => known.discover(address).await,
        }
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
        let known = self.of(address)?;
        if let Some(answer) = known.seen().answer(key_id, Instant::now()) {
            return answer;
        }
        let _asking = known.asking.lock().await;
        // Somebody may have asked while this one waited.
        if let Some(answer) = known.seen().answer(key_id, Instant::now()) {
            return answer;
        }
        let now = Instant::now();
        known.note(|seen| seen.asked_at = Some(now));
        match known.fetch_keys(address).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                known.note(|seen| {
                    // The first time, nobody asked for a key that was missing: the next one may at once.
                    if seen.keys.is_none() {
                        seen.asked_at = None;
                    }
                    (seen.keys, seen.failed) = (Some((Arc::clone(&keys), now)), None);
                });
                Ok(keys)
            }
            Err(error) => {
                tracing::warn!(issuer = %address.issuer, error = &error as &dyn std::error::Error, "could not read the keys of an issuer");
                known.note(|seen| seen.failed = Some(error.clone()));
                known.seen().believed(now).ok_or(error)
            }
        }
    }

    fn of(&self, address: &Address) -> Result<Arc<Known>, Error> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(address) {
            return Ok(Arc::clone(known));
        }
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        let http = match &address.ca {
            None => self.http.clone(),
            Some(pem) => client(Some(pem))
                .map_err(|e| Error::unusable("the `ca` of its issuer", &causes(&e)))?,
        };
        let known = Arc::new(Known { http, asking: AsyncMutex::default(), seen: Mutex::default() });
        all.insert(address.clone(), Arc::clone(&known));
        Ok(known)
    }
}

/// A client that is bounded in time, follows nobody, and trusts the system's authorities, or these alone.
///
/// # Errors
/// If the certificates cannot be read.
#[expect(
    clippy::disallowed_methods,
    reason = "built here with timeouts and no redirects; the authorities are the system's or the issuer's own"
)]
pub(in crate::identity) fn client(ca: Option<&str>) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .timeout(PATIENCE)
        .connect_timeout(PATIENCE)
        .user_agent(concat!("pgvalet/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca {
        let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes())?;
        builder = builder.tls_certs_only(authorities);
    }
    builder.build()
}

impl Seen {
    /// What can be said without asking the issuer.
    fn answer(&self, key_id: Option<&str>, now: Instant) -> Option<Result<Arc<Vec<Jwk>>, Error>> {
        let asked = |within: Duration| self.asked_at.is_some_and(|asked| now - asked < within);
        let Some((keys, read_at)) = &self.keys else {
            return self.failed.clone().filter(|_| asked(FAILED_FOR)).map(Err);
        };
        let is_named = |key: &Jwk, id: &str| key.common.key_id.as_deref() == Some(id);
        let has_it = key_id.is_none_or(|id| keys.iter().any(|key| is_named(key, id)));
        let is_fresh = has_it && now - *read_at < FRESH_FOR;
        if is_fresh || asked(ASKED_EVERY) { self.believed(now).map(Ok) } else { None }
    }

    fn believed(&self, now: Instant) -> Option<Arc<Vec<Jwk>>> {
        let (keys, read_at) = self.keys.as_ref()?;
        (now - *read_at < BELIEVED_FOR).then(|| Arc::clone(keys))
    }
}

impl Known {
    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Where they are is asked anew, too: an issuer may move them.
    async fn fetch_keys(&self, address: &Address) -> Result<Vec<Jwk>, Error> {
        let url = match &address.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(address).await?.jwks_uri.clone(),
        };
        let set: serde_json::Value = get(&self.http, &url).await?;
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

    async fn discover(&self, address: &Address) -> Result<Arc<Discovered>, Error> {
        let base = address.issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let discovered: Discovered = get(&self.http, &url).await?;
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
        let fresh = Some((Arc::clone(&discovered), Instant::now()));
        self.note(|seen| seen.discovered = fresh);
        Ok(discovered)
    }
}

async fn get<T: DeserializeOwned>(http: &reqwest::Client, url: &str) -> Result<T, Error> {
    read(url, http.get(url).header(reqwest::header::ACCEPT, "application/json")).await
}

/// Sends a request, and reads an answer that says success, in JSON.
///
/// # Errors
/// If it says anything else.
pub(in crate::identity) async fn read<T: DeserializeOwned>(
    url: &str,
    request: RequestBuilder,
) -> Result<T, Error> {
    let (status, body) = ask(url, request).await?;
    if !status.is_success() {
        return Err(Error::Unreachable {
            url: url.to_owned(),
            why: format!("it answers {status}"),
        });
    }
    serde_json::from_slice(body.expose()).map_err(|e| Error::unusable(url, &e.to_string()))
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
    pub(in crate::identity) fn unusable(url: &str, why: &str) -> Self {
        Self::Unusable { url: url.to_owned(), why: why.to_owned() }
    }
}

/// https; or plain http on this very machine, for tests and the playground.
#[must_use]
pub fn is_protected(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_here = url.host_str().is_some_and(is_this_machine);
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With one key `a`, read and asked for so many seconds ago.
    fn seen(now: Instant, read: u64, asked: u64) -> Seen {
        let key = serde_json::json!({ "kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB" });
        let keys = Arc::new(vec![serde_json::from_value(key).unwrap()]);
        let ago = |seconds| now - Duration::from_secs(seconds);
        Seen { keys: Some((keys, ago(read))), asked_at: Some(ago(asked)), ..Seen::default() }
    }

    #[test]
    fn keys_are_believed_for_half_a_day_and_asked_for_seldom() {
        // Far enough from the beginning of time that half a day lies before it.
        let now = Instant::now() + Duration::from_secs(100_000);
        for (read, asked, key, answered) in [
            (1, 1, Some("a"), true),
            (599, 599, Some("a"), true),
            (601, 601, Some("a"), false),
            (601, 9, Some("a"), true),
            (11, 11, Some("b"), false),
            (11, 9, Some("b"), true),
            (11, 11, None, true),
            (43_199, 9, Some("a"), true),
            (43_201, 9, Some("a"), false),
        ] {
            let answer = seen(now, read, asked).answer(key, now);
            assert_eq!(answer.is_some(), answered, "read {read} s, asked {asked} s ago: {key:?}");
        }
        assert!(seen(now, 43_199, 0).believed(now).is_some());
        assert!(seen(now, 43_201, 0).believed(now).is_none());
    }

    #[test]
    fn who_never_answered_is_not_asked_by_everybody_at_once() {
        let now = Instant::now() + Duration::from_secs(10);
        let failed = Some(Error::unusable("x", "y"));
        let seen =
            |asked_at| Seen { asked_at: Some(asked_at), failed: failed.clone(), ..Seen::default() };
        assert!(
            seen(now - Duration::from_millis(900)).answer(None, now).is_some_and(|a| a.is_err())
        );
        assert!(seen(now - Duration::from_millis(1100)).answer(None, now).is_none());
        assert!(Seen::default().answer(None, now).is_none());
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for (url, good) in [
            ("https://issuer.example", true),
            ("http://issuer.example", false),
            ("http://127.0.0.1:8080/x", true),
            ("http://[::1]/x", true),
            ("http://localhost:1", true),
            ("http://localhost.example", false),
            ("http://127.0.0.1@issuer.example", false),
            ("file:///etc/passwd", false),
            ("", false),
        ] {
            assert_eq!(is_protected(url), good, "{url}");
        }
    }
}
