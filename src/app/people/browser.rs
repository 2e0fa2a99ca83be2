//! Signing in in a browser (OpenID Connect's code flow, with PKCE, state and nonce). What comes back is taken
//! from the browser alone that was sent away, once, and from the provider alone that it was sent to.

use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    app::{
        App, Origin,
        error::Error,
        people::{
            SignIns, key_of,
            sessions::{Vouched, over},
        },
        tokens::NewToken,
    },
    domain::session::Client,
    identity::throttle,
    rng,
    secret::Secret,
    store::{seal::Place, sign_ins::NewSignIn},
};

/// How long a person has at the provider.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// Where a browser is sent, and what it is to keep meanwhile.
#[derive(Debug)]
pub struct SentAway {
    /// Where.
    pub address: String,
    /// What makes it the same browser when it comes back.
    pub keepsake: Secret<String>,
}

/// What a browser brings back.
#[derive(Debug, Default)]
pub struct BroughtBack {
    /// What it was sent away with.
    pub state: String,
    /// What the provider gives its tokens for.
    pub code: Option<String>,
    /// What went wrong there.
    pub error: Option<String>,
    /// Who it says it is (RFC 9207).
    pub issuer: Option<String>,
}

/// What only the daemons may know of a sign-in under way.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    nonce: String,
    verifier: String,
    next: String,
}

/// A browser is signed in.
#[derive(Debug)]
pub struct Back {
    /// Its session.
    pub made: NewToken,
    /// Where it wanted to go.
    pub next: String,
}

const fn place(id: Uuid) -> Place {
    Place { table: "sign_in", row: id, column: "sealed" }
}

fn key(state: &str, keepsake: &str) -> Vec<u8> {
    key_of(&format!("{state}.{keepsake}"))
}

/// A path of our own: one that a browser cannot read as another server's.
#[must_use]
pub fn is_own_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && text.len() <= 500
}

impl SignIns {
    fn redirect(&self) -> Result<String, Error> {
        let address = self.address.get().ok_or_else(|| Error::Conflict {
            code: "no_address",
            detail: "this daemon does not know its own address: set public_url".to_owned(),
        })?;
        Ok(format!("{address}/sign-in/callback"))
    }
}

impl App {
    /// Sends a browser away to sign in.
    ///
    /// # Errors
    /// If there is no provider, it cannot be asked, or too many are begun.
    pub async fn begin_browser(&self, origin: &Origin, next: &str) -> Result<SentAway, Error> {
        let sign_ins = self.sign_ins()?;
        self.may_begin(sign_ins, origin)?;
        let secret = || rng::token_secret().map_err(Error::internal);
        let (state, nonce, verifier, keepsake) = (secret()?, secret()?, secret()?, secret()?);
        let (redirect, said) =
            (sign_ins.redirect()?, (state.expose().as_str(), nonce.expose().as_str()));
        let address = match sign_ins.provider.sign_in_address(&redirect, said, &verifier).await {
            Ok(address) => address,
            Err(fault) => return Err(self.provider_fault(origin, Client::Browser, fault).await),
        };
        let kept = Kept {
            nonce: nonce.expose().clone(),
            verifier: verifier.expose().clone(),
            next: if is_own_path(next) { next } else { "/" }.to_owned(),
        };
        let kept = Secret::new(serde_json::to_string(&kept).map_err(Error::internal)?);
        let (id, now) = (Uuid::now_v7(), self.clock.now());
        let source = origin.source.map(|source| throttle::network(source).to_string());
        let new = NewSignIn {
            key: &key(state.expose(), keepsake.expose()),
            id,
            client: Client::Browser,
            source: source.as_deref(),
            sealed: &self.seal(place(id), &kept)?,
            interval: TimeDelta::zero(),
            ends_at: now + PATIENCE,
        };
        if !self.store.begin_sign_in(&new, now).await? {
            return Err(Error::Throttled { retry_after_seconds: 60 });
        }
        Ok(SentAway { address, keepsake })
    }

    /// Takes a browser back that was sent away.
    ///
    /// # Errors
    /// If it is not that browser, or the provider's word is not taken.
    pub async fn finish_browser(
        &self,
        origin: &Origin,
        keepsake: &str,
        brought: BroughtBack,
    ) -> Result<Back, Error> {
        let sign_ins = self.sign_ins()?;
        let now = self.clock.now();
        let attempt = self.may_try(origin).await?;
        let taken = self.store.take_sign_in(&key(&brought.state, keepsake), now).await?;
        let Some(sign_in) = taken else {
            drop(attempt);
            return Err(self.refuse_sign_in(origin, Client::Browser, over()).await);
        };
        attempt.was_good();
        let kept = self.keys.open(place(sign_in.id), &sign_in.sealed).map_err(Error::Sealed)?;
        let kept: Kept = serde_json::from_str(kept.expose()).map_err(Error::internal)?;
        match self.vouched_for(sign_ins, brought, &kept).await {
            Ok(vouched) => {
                let made = self.open_session(origin, Client::Browser, &vouched, None).await?;
                Ok(Back { made, next: kept.next })
            }
            Err(NotVouched::Said(code, detail)) => {
                Err(self.refuse_sign_in(origin, Client::Browser, (code, detail)).await)
            }
            Err(NotVouched::Provider(fault)) => {
                Err(self.provider_fault(origin, Client::Browser, fault).await)
            }
        }
    }

    async fn vouched_for(
        &self,
        sign_ins: &SignIns,
        brought: BroughtBack,
        kept: &Kept,
    ) -> Result<Vouched, NotVouched> {
        // Said by another provider than the one that it was sent to: a mix-up.
        if brought.issuer.is_some_and(|issuer| issuer != sign_ins.provider.issuer()) {
            let detail =
                "the answer comes from another provider than the one you were sent to".to_owned();
            return Err(NotVouched::Said("sign_in_mixed_up", detail));
        }
        if let Some(error) = brought.error {
            let error: String = error.chars().filter(char::is_ascii_graphic).take(64).collect();
            let detail = format!("you, or the provider, said no (`{error}`)");
            return Err(NotVouched::Said("sign_in_denied", detail));
        }
        let code = brought.code.unwrap_or_default();
        let verifier = Secret::new(kept.verifier.clone());
        let redirect =
            sign_ins.redirect().map_err(|e| NotVouched::Said("no_address", e.detail()))?;
        let answered = sign_ins.provider.redeem(&code, &redirect, &verifier).await?;
        let claims = sign_ins.provider.read(&answered, Some(&kept.nonce), self.clock.now()).await?;
        let person = sign_ins.describe(&claims).map_err(|why| {
            NotVouched::Said(
                "id_token_refused",
                format!("the provider's ID token is not taken: {why}"),
            )
        })?;
        Ok(Vouched { person, refresh_token: answered.refresh_token })
    }
}

/// Why a browser that came back has no session.
enum NotVouched {
    Said(&'static str, String),
    Provider(crate::identity::oidc::Error),
}

impl From<crate::identity::oidc::Error> for NotVouched {
    fn from(fault: crate::identity::oidc::Error) -> Self {
        Self::Provider(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_our_own_are_gone_to() {
        for own in ["/", "/docs/", "/leases?state=live"] {
            assert!(is_own_path(own), "{own}");
        }
        let long = format!("/{}", "a".repeat(500));
        for foreign in [
            "",
            "docs",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a b",
            "/\n",
            &long,
        ] {
            assert!(!is_own_path(foreign), "{foreign}");
        }
    }
}
