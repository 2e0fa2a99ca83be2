//! The first start: which installation this is, the proof that the daemon holds its master key, and
//! the first administrator's token.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    app::{App, error::Error},
    domain::{
        administration::Scopes,
        audit::{Actor, Entry, Event},
        name::Name,
        principal::{Kind, LOCAL_ISSUER},
    },
    ids::AuditId,
    rng,
    secret::Secret,
    store::{
        self, Store,
        people::PrincipalChange,
        seal::{KeyRing, Place},
    },
};

/// What is sealed to prove the master key.
const KEY_CHECK: &str = "pgvalet holds the master key";

/// How long the first administrator's token lasts: long enough to set up what comes after it.
const FIRST_TOKEN_TTL: TimeDelta = TimeDelta::days(365);

/// Why a daemon must not start on a database.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// The master key is another than the one that values are sealed under.
    #[error(
        "the master key is not the one that this state database was sealed under ({0}): give the key it was first started with"
    )]
    MasterKey(store::seal::Error),
    /// The database does not answer.
    #[error("could not read the installation")]
    Store(#[from] store::error::Error),
    /// No randomness.
    #[error("could not begin an installation")]
    Randomness(#[from] crate::rng::NoRandomness),
}

/// Proves that the daemon holds the master key of this database; on a new database, records a proof.
/// Gives the installation's id.
///
/// # Errors
/// If it does not hold it, or the database does not answer.
pub async fn check_master_key(
    store: &Store,
    keys: &KeyRing,
    now: DateTime<Utc>,
) -> Result<Uuid, Mismatch> {
    if store.installation().await?.is_none() {
        let id = Uuid::now_v7();
        let clear = Secret::new(KEY_CHECK.to_owned());
        let sealed =
            keys.seal(key_check_place(id), rng::bytes()?, &clear).map_err(Mismatch::MasterKey)?;
        store.record_installation(id, &sealed, now).await?;
    }
    // Read again: another daemon may have been first.
    let installation = store.installation().await?;
    let installation = installation.ok_or(store::error::Error::Unreadable("installation"))?;
    keys.open(key_check_place(installation.id), &installation.key_check)
        .map_err(Mismatch::MasterKey)?;
    Ok(installation.id)
}

const fn key_check_place(id: Uuid) -> Place {
    Place { table: "installation", row: id, column: "key_check" }
}

/// The first administrator's token.
#[derive(Debug)]
pub struct FirstToken {
    /// What to hand out, once.
    pub secret: Secret<String>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

impl App {
    /// Makes the first administrator and a token, once in the life of an installation.
    ///
    /// # Errors
    /// `already_bootstrapped`, or our database does not answer.
    pub async fn bootstrap(&self, name: &Name) -> Result<FirstToken, Error> {
        let now = self.clock.now();
        let expires_at = now + FIRST_TOKEN_TTL;
        let minted = self.tokens.mint().await?;
        let mut tx = self.store.begin().await?;
        match tx.mark_bootstrapped(now).await {
            Err(store::error::Error::NotOneRow(_)) => {
                return Err(Error::Conflict {
                    code: "already_bootstrapped",
                    detail: "the first administrator's token was made before, and is shown once: make further ones with `pgvalet token create`".to_owned(),
                });
            }
            marked => marked?,
        }
        let change = PrincipalChange { admin: Some(true), ..PrincipalChange::default() };
        let principal = tx.ensure_principal(LOCAL_ISSUER, Kind::Person, name, &change, now).await?;
        let token = store::tokens::NewToken {
            id: minted.id,
            principal: principal.id,
            name: "bootstrap",
            hash: &minted.hash,
            expires_at: Some(expires_at),
            made_with: None,
            makers: &[],
            scopes: Scopes::default(),
        };
        tx.create_token(&token, now).await?;
        tx.audit(&Entry {
            id: AuditId::new(),
            at: now,
            actor: Actor::Operator,
            request_id: None,
            source: None,
            event: Event::Bootstrapped { principal_id: principal.id, token_id: minted.id },
        })
        .await?;
        tx.commit().await?;
        Ok(FirstToken { secret: minted.text, expires_at })
    }
}
