//! API tokens: `pgv_<id>_<secret>`, the id 32 hexadecimal digits, the secret 258 bits.
//!
//! What is kept of a secret is its argon2id hash (RFC 9106). A hash costs tens of milliseconds and
//! 19 MiB, so a verified token is remembered in memory by a keyed hash (HMAC-SHA-256 under a key made
//! at start), and only the first request with it pays. Remembering spares the argon2 and nothing
//! else: whether the token still holds is read from the record on every request.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use tokio::sync::Semaphore;

use crate::{
    identity::hash::{hash, matches},
    ids::TokenId,
    rng::{self, NoRandomness},
    secret::Secret,
};

/// What a token begins with.
const PREFIX: &str = "pgv_";

/// Tokens remembered at most; beyond, all are forgotten, and each pays one argon2 again.
const MOST_REMEMBERED: usize = 10_000;

/// argon2 at once: each takes 19 MiB and a core, and the machine may have two.
const HASHES_AT_ONCE: usize = 2;

/// A token as it was presented: nothing is known of it yet.
#[derive(Debug)]
pub struct Presented {
    id: TokenId,
    secret: Secret<String>,
}

impl Presented {
    /// Reads a token; none if it does not look like one.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        if id.len() != 32 || secret.len() < 32 || secret.len() > 128 {
            return None;
        }
        let id = uuid::Uuid::try_parse(id).ok()?;
        Some(Self { id: TokenId::from(id), secret: Secret::new(secret.to_owned()) })
    }

    /// Which token it claims to be.
    #[must_use]
    pub const fn id(&self) -> TokenId {
        self.id
    }
}

/// The proof that a token's secret was right.
#[derive(Debug)]
pub struct Verified(TokenId);

impl Verified {
    /// Which token.
    #[must_use]
    pub const fn token_id(&self) -> TokenId {
        self.0
    }
}

/// A new token, ready to be recorded and handed out.
#[derive(Debug)]
pub struct Minted {
    /// Its id.
    pub id: TokenId,
    /// What to hand out, once.
    pub text: Secret<String>,
    /// What to keep: argon2id, PHC string.
    pub hash: String,
}

/// Why a token could not be made or checked. A wrong token is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No randomness.
    #[error("could not make a token")]
    Randomness(#[from] NoRandomness),
    /// argon2 failed, or what is kept is no hash.
    #[error("could not hash a token: {0}")]
    Hash(argon2::password_hash::Error),
    /// Too many wait to be checked.
    #[error("too many tokens wait to be checked")]
    Busy,
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}

/// Tokens that may wait for their turn: at forty milliseconds each, two at once, the last of them
/// waits about a second.
const MOST_WAITING: usize = 64;

/// Makes and checks tokens.
pub struct Tokens {
    key: hmac::Key,
    remembered: Mutex<HashMap<TokenId, [u8; 32]>>,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
    decoy: Arc<str>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Starts with nothing remembered.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn new() -> Result<Self, Error> {
        let key = Secret::new(rng::bytes::<32>()?);
        let decoy = hash(&rng::token_secret()?)?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()),
            remembered: Mutex::default(),
            turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            waiting: Semaphore::new(MOST_WAITING),
            decoy: decoy.into(),
        })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// If there is no randomness, or argon2 fails.
    pub async fn mint(&self) -> Result<Minted, Error> {
        let id = TokenId::new();
        let secret = rng::token_secret()?;
        let text = Secret::new(format!("{PREFIX}{}_{}", id.uuid().simple(), secret.expose()));
        let hash = self.hash(secret).await?;
        Ok(Minted { id, text, hash })
    }

    /// What to keep of a secret: argon2id, PHC string.
    ///
    /// # Errors
    /// If argon2 fails.
    pub(in crate::identity) async fn hash(&self, secret: Secret<String>) -> Result<String, Error> {
        self.in_turn(move || hash(&secret)).await
    }

    /// Was this very token verified before? Costs microseconds.
    #[must_use]
    pub fn recall(&self, presented: &Presented) -> Option<Verified> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = remembered.get(&presented.id)?;
        let same = hmac::verify(&self.key, &message(presented), kept).is_ok();
        same.then_some(Verified(presented.id))
    }

    /// Checks a token against what is kept of it: of one that does not exist, against a decoy, so
    /// that the answer takes as long.
    ///
    /// # Errors
    /// If argon2 fails, or the daemon is ending.
    pub async fn verify(
        &self,
        presented: Option<Presented>,
        kept: Option<&str>,
    ) -> Result<Option<Verified>, Error> {
        let secret = presented.as_ref().map(|presented| presented.secret.duplicate());
        let is_kept = self.is_kept(secret, kept).await?;
        let Some(presented) = presented.filter(|_| is_kept) else { return Ok(None) };
        let tag = hmac::sign(&self.key, &message(&presented));
        if let Ok(tag) = <[u8; 32]>::try_from(tag.as_ref()) {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
            remembered.insert(presented.id, tag);
        }
        Ok(Some(Verified(presented.id)))
    }

    /// Is this the secret of which that is kept? Where there is no secret or nothing is kept, a decoy is looked at,
    /// so that the answer takes as long.
    ///
    /// # Errors
    /// If argon2 fails, too many wait for it, or the daemon is ending.
    pub(in crate::identity) async fn is_kept(
        &self,
        secret: Option<Secret<String>>,
        kept: Option<&str>,
    ) -> Result<bool, Error> {
        let known = secret.is_some() && kept.is_some();
        let hash: Arc<str> = kept.map_or_else(|| Arc::clone(&self.decoy), Arc::from);
        let secret = secret.unwrap_or_else(|| Secret::new("x".repeat(43)));
        let _place = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        let same = self.in_turn(move || matches(&secret, &hash)).await?;
        Ok(known && same)
    }

    /// Runs argon2 on a thread where it may block. The turn goes with it: a caller that hangs up does
    /// not end the work, and must not make room for more of it.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Error::Ending)?;
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ending)?
    }

    /// Forgets a token.
    pub fn forget(&self, id: TokenId) {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

fn message(presented: &Presented) -> Vec<u8> {
    [presented.id.uuid().as_bytes(), presented.secret.expose().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_known_by_its_secret_and_remembered() {
        let tokens = Tokens::new().unwrap();
        let minted = tokens.mint().await.unwrap();
        let read = || Presented::read(minted.text.expose()).unwrap();
        assert_eq!(read().id(), minted.id);
        assert!(tokens.recall(&read()).is_none());
        let verified = tokens.verify(Some(read()), Some(&minted.hash)).await.unwrap().unwrap();
        assert_eq!(verified.token_id(), minted.id);
        assert!(tokens.recall(&read()).is_some());
        tokens.forget(minted.id);
        assert!(tokens.recall(&read()).is_none());
    }

    #[tokio::test]
    async fn a_wrong_or_unknown_token_is_refused() {
        let tokens = Tokens::new().unwrap();
        let minted = tokens.mint().await.unwrap();
        let other = tokens.mint().await.unwrap();
        let wrong = Presented { id: minted.id, secret: Secret::new("w".repeat(43)) };
        assert!(tokens.verify(Some(wrong), Some(&minted.hash)).await.unwrap().is_none());
        let unknown = Presented::read(other.text.expose());
        assert!(tokens.verify(unknown, None).await.unwrap().is_none());
        assert!(tokens.verify(None, None).await.unwrap().is_none());
    }

    #[test]
    fn what_is_no_token_is_not_read_as_one() {
        for text in ["", "pgv_", "pgv_x_y", "Bearer pgv_", &format!("pgv_{}_short", "0".repeat(32))]
        {
            assert!(Presented::read(text).is_none(), "{text}");
        }
    }
}
