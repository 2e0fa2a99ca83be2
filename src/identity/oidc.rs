//! The provider that people sign in at, as OAuth 2 and OpenID Connect have it: what it is asked, and what is
//! believed of its answers. Codes and refresh tokens go nowhere but to its token endpoint; its access tokens
//! are not looked at, because nothing is asked in a person's name.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;
use serde::Deserialize;

use crate::{
    identity::{
        issuers::{self, Address, Discovered, Issuers},
        jwt::{self, Claims, Expected, Unverified},
    },
    secret::Secret,
};

/// How old an ID token may be: it was made for the very answer that it came in.
const LONGEST_AGE: TimeDelta = TimeDelta::minutes(10);

/// Seconds between two questions, if the provider does not say (RFC 8628, 3.2).
const INTERVAL: i64 = 5;

/// How the provider is asked.
#[derive(Debug)]
pub struct Settings {
    /// Its name, to the letter.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// What proves that we are; none for a public client.
    pub client_secret: Option<Secret<String>>,
    /// What is asked for.
    pub scopes: Vec<String>,
}

/// Why a provider's answer gives nobody a session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer, or not so that it can be used.
    #[error("the provider cannot be asked")]
    Issuer(#[from] issuers::Error),
    /// It does not offer what was to be asked.
    #[error("the provider has no {0}")]
    Lacks(&'static str),
    /// It said no.
    #[error("the provider answers `{error}`{description}")]
    Refused {
        /// The code that the standard has for it.
        error: String,
        /// Its own words, if it found any.
        description: String,
    },
    /// Its token is not a good one.
    #[error("the provider's ID token is not taken: {0}")]
    Token(#[from] jwt::Fault),
    /// It does not say who it is.
    #[error("the provider's answer has no ID token: is `openid` among the scopes?")]
    NoIdToken,
    /// Its token answers another question.
    #[error("the provider's ID token is not taken: it was made for another sign-in (nonce)")]
    Nonce,
    /// Its token was made for another client.
    #[error("the provider's ID token is not taken: it was made for another client (azp)")]
    AuthorizedParty,
}

/// What a person is to do with a device.
#[derive(Debug)]
pub struct Device {
    /// What the provider is asked with. Nobody else may know it.
    pub code: Secret<String>,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub address: String,
    /// The same with the code in it.
    pub address_with_code: Option<String>,
    /// How long it is good.
    pub seconds: i64,
    /// How long to wait between two questions.
    pub interval: i64,
}

/// What came for a code.
pub struct Answered {
    /// Who it is, unverified.
    id_token: Option<Secret<String>>,
    /// What to ask with whether they are still there.
    pub refresh_token: Option<Secret<String>>,
}

/// How a device's sign-in stands.
#[derive(Debug)]
pub enum Polled {
    /// The person is there.
    Done(Answered),
    /// Not yet.
    Pending,
    /// Not yet, and the question came too soon.
    SlowDown,
    /// The person said no.
    Denied,
    /// It took too long.
    Expired,
}

/// Is a person still there?
#[derive(Debug)]
pub enum Refreshed {
    /// Yes.
    There(Answered),
    /// No: this is what the provider answers.
    Gone(String),
}

/// A provider.
#[derive(Debug)]
pub struct Provider {
    issuers: Arc<Issuers>,
    settings: Settings,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<Secret<String>>,
    refresh_token: Option<Secret<String>>,
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: Secret<String>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: i64,
    interval: Option<i64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

/// What stands in an address instead of a verifier (RFC 7636, S256).
#[must_use]
pub fn challenge(verifier: &Secret<String>) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose().as_bytes()))
}

impl Provider {
    /// Nothing is asked yet.
    #[must_use]
    pub const fn new(issuers: Arc<Issuers>, settings: Settings) -> Self {
        Self { issuers, settings }
    }

    /// Its name, to the letter.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Where a browser is sent to sign in; it comes back to `redirect` with `state`.
    ///
    /// # Errors
    /// If the provider cannot be asked, or has no such page.
    pub async fn sign_in_address(
        &self,
        redirect: &str,
        (state, nonce): (&str, &str),
        verifier: &Secret<String>,
    ) -> Result<String, Error> {
        let discovered = self.discovered().await?;
        let endpoint = discovered.authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(Error::Lacks("authorization_endpoint"))?;
        let mut url = Url::parse(endpoint).map_err(|e| unusable(endpoint, &e.to_string()))?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &self.settings.scopes.join(" "))
            .append_pair("state", state)
            .append_pair("nonce", nonce)
            .append_pair("code_challenge", &challenge(verifier))
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    /// What came back for the code that a browser brought.
    ///
    /// # Errors
    /// If the provider cannot be asked, or refuses.
    pub async fn redeem(
        &self,
        code: &str,
        redirect: &str,
        verifier: &Secret<String>,
    ) -> Result<Answered, Error> {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier.expose()),
        ])
        .await
    }

    /// Begins a sign-in on another device.
    ///
    /// # Errors
    /// If the provider cannot be asked, refuses, or has no such endpoint.
    pub async fn begin_device(&self) -> Result<Device, Error> {
        let discovered = self.discovered().await?;
        let endpoint = discovered.device_authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(Error::Lacks("device_authorization_endpoint"))?;
        let scopes = self.settings.scopes.join(" ");
        let answer: DeviceAnswer = self.post(endpoint, &[("scope", &scopes)]).await?;
        let addresses = [Some(&answer.verification_uri), answer.verification_uri_complete.as_ref()];
        if let Some(odd) = addresses.into_iter().flatten().find(|url| !issuers::is_protected(url)) {
            return Err(unusable(endpoint, &format!("`{odd}` is not https")));
        }
        Ok(Device {
            code: answer.device_code,
            user_code: answer.user_code,
            address: answer.verification_uri,
            address_with_code: answer.verification_uri_complete,
            seconds: answer.expires_in.clamp(1, 3600),
            interval: answer.interval.unwrap_or(INTERVAL).clamp(1, 60),
        })
    }

    /// Asks how a device's sign-in stands.
    ///
    /// # Errors
    /// If the provider cannot be asked, or refuses in another way than the standard has for it.
    pub async fn poll_device(&self, code: &Secret<String>) -> Result<Polled, Error> {
        const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
        let asked = self.token(&[("grant_type", GRANT), ("device_code", code.expose())]).await;
        match asked {
            Ok(answered) => Ok(Polled::Done(answered)),
            Err(Error::Refused { error, description }) => match error.as_str() {
                "authorization_pending" => Ok(Polled::Pending),
                "slow_down" => Ok(Polled::SlowDown),
                "access_denied" => Ok(Polled::Denied),
                "expired_token" => Ok(Polled::Expired),
                _ => Err(Error::Refused { error, description }),
            },
            Err(e) => Err(e),
        }
    }

    /// Asks whether a person is still there.
    ///
    /// # Errors
    /// If the provider cannot be asked, or answers what says nothing of the person.
    pub async fn refresh(&self, token: &Secret<String>) -> Result<Refreshed, Error> {
        let grant = [("grant_type", "refresh_token"), ("refresh_token", token.expose().as_str())];
        match self.token(&grant).await {
            Ok(answered) => Ok(Refreshed::There(answered)),
            Err(Error::Refused { error, .. }) if error == "invalid_grant" => {
                Ok(Refreshed::Gone(error))
            }
            Err(e) => Err(e),
        }
    }

    /// What the provider says of its person, once its token was found good: made for us, for this sign-in (if
    /// that has a nonce), by one of its keys.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn read(
        &self,
        answered: &Answered,
        nonce: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Claims, Error> {
        let text = answered.id_token.as_ref().ok_or(Error::NoIdToken)?.expose();
        let key_id = Unverified::read(text)?.key_id;
        let keys = self.issuers.keys(&self.address(), key_id.as_deref()).await?;
        let audiences = [self.settings.client_id.clone()];
        let issuer = self.settings.issuer.as_str();
        let expected = Expected { issuer, audiences: &audiences, max_age: LONGEST_AGE };
        let claims = jwt::verify(text, &keys, &expected, now)?;
        if nonce.is_some_and(|nonce| claims.text("nonce") != Some(nonce)) {
            return Err(Error::Nonce);
        }
        let party = claims.text("azp");
        let must_say = claims.audiences().len() > 1;
        if party.map_or(must_say, |party| party != self.settings.client_id) {
            return Err(Error::AuthorizedParty);
        }
        Ok(claims)
    }

    /// Does an answer say who it is? After a refresh it need not.
    #[must_use]
    pub const fn says_who(answered: &Answered) -> bool {
        answered.id_token.is_some()
    }

    fn address(&self) -> Address {
        Address { issuer: self.settings.issuer.clone(), jwks_url: None, ca: None }
    }

    async fn discovered(&self) -> Result<Arc<Discovered>, Error> {
        Ok(self.issuers.discovered(&self.address()).await?)
    }

    async fn token(&self, form: &[(&str, &str)]) -> Result<Answered, Error> {
        let discovered = self.discovered().await?;
        let endpoint = discovered.token_endpoint.as_deref();
        let endpoint = endpoint.ok_or(Error::Lacks("token_endpoint"))?;
        let TokenAnswer { id_token, refresh_token } = self.post(endpoint, form).await?;
        Ok(Answered { id_token, refresh_token })
    }

    /// Asks as the client that we are: by HTTP Basic if we have a secret (RFC 6749, 2.3.1), by name if not.
    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        endpoint: &str,
        form: &[(&str, &str)],
    ) -> Result<T, Error> {
        let client_id = self.settings.client_id.as_str();
        let mut form = form.to_vec();
        let request = self.issuers.http().post(endpoint);
        let request = match &self.settings.client_secret {
            Some(secret) => request.basic_auth(encoded(client_id), Some(encoded(secret.expose()))),
            None => {
                form.push(("client_id", client_id));
                request
            }
        };
        let request = request
            .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(reqwest::header::ACCEPT, "application/json")
            .body(form_body(&form));
        let (status, body) = issuers::ask(endpoint, request).await?;
        if status.is_success() {
            return serde_json::from_slice(body.expose())
                .map_err(|e| unusable(endpoint, &without_values(&e)));
        }
        match serde_json::from_slice::<Refusal>(body.expose()) {
            Ok(refusal) => {
                let words = |text: String| format!(": {}", short(&text));
                let description = refusal.error_description.map_or_else(String::new, words);
                Err(Error::Refused { error: short(&refusal.error), description })
            }
            Err(_) => {
                let (url, why) = (endpoint.to_owned(), format!("it answers {status}"));
                Err(issuers::Error::Unreachable { url, why }.into())
            }
        }
    }
}

fn unusable(url: &str, why: &str) -> Error {
    issuers::Error::Unusable { url: url.to_owned(), why: why.to_owned() }.into()
}

/// Where JSON is wrong, and not what stands there: it may be a token.
fn without_values(error: &serde_json::Error) -> String {
    format!("it is not as the standard has it, line {} column {}", error.line(), error.column())
}

/// What a provider says is a stranger's word: short, and on one line.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn form_body(pairs: &[(&str, &str)]) -> String {
    // The one encoder of forms that is at hand is that of addresses.
    let Ok(mut url) = Url::parse("http://form.invalid") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

fn encoded(text: &str) -> String {
    form_body(&[("", text)]).trim_start_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_standards_own_example() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(form_body(&[("a", "b c&d"), ("e", "ü=")]), "a=b+c%26d&e=%C3%BC%3D");
        assert_eq!(encoded("a=b:c"), "a%3Db%3Ac");
    }
}
