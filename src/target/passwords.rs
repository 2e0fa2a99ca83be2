//! What we sign in to a target with. The administrator's password may be renewed at any time, by us or by
//! another daemon: a sign-in that is refused has the recorded ones read anew, and tries those that it has
//! not tried. One that is not recorded is asked for whenever connections are opened, and once more when it is
//! refused. Sessions that are open work on.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::{
    secret::Secret,
    target::{AdminPasswords, Reread, error::Error, source::Source},
};

/// The password of a target's administrator, shared by all connections to it.
pub(crate) struct Passwords {
    known: Mutex<Known>,
    origin: Origin,
    /// One at a time looks for the password that holds.
    settling: tokio::sync::Mutex<()>,
}

/// Where the next one comes from.
pub(crate) enum Origin {
    /// The record, where it can be read anew.
    Recorded(Option<Reread>),
    /// Elsewhere.
    Asked(Source),
}

struct Known {
    /// Of the record that it was read from.
    version: i32,
    /// Grows with each change here: a pool that was made with an older one is told.
    generation: u64,
    password: Secret<String>,
    /// When it was asked for.
    asked_at: Option<Instant>,
    /// When it was last not to be had, and why.
    failed: Option<(Instant, String)>,
}

impl Passwords {
    /// With the recorded one, if there is one.
    pub(crate) fn new(version: i32, password: Option<Secret<String>>, origin: Origin) -> Self {
        let password = password.unwrap_or_else(|| Secret::new(String::new()));
        let (asked_at, failed) = (None, None);
        let known = Mutex::new(Known { version, generation: 0, password, asked_at, failed });
        Self { known, origin, settling: tokio::sync::Mutex::default() }
    }

    pub(crate) fn version(&self) -> i32 {
        self.known().version
    }

    pub(crate) fn generation(&self) -> u64 {
        self.known().generation
    }

    pub(crate) fn current(&self) -> Secret<String> {
        self.known().password.duplicate()
    }

    /// From now on this one.
    pub(crate) fn take(&self, version: i32, password: Secret<String>) {
        let mut known = self.known();
        known.version = version;
        known.generation += 1;
        known.password = password;
    }

    /// The turn to look for one that holds: whoever has it may find that the one before already did.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.settling.lock().await
    }

    /// Asks for the password, if it is not recorded and was not asked for a moment ago. To be called before
    /// a connection is opened.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let Origin::Asked(source) = &self.origin else { return Ok(()) };
        let began = Instant::now();
        let _turn = self.turn().await;
        // What somebody else was told meanwhile goes for all who waited: each would wait as long again.
        if let Some((at, why)) = &self.known().failed
            && *at >= began
        {
            return Err(not_had(why.clone()));
        }
        let is_fresh = |asked: Instant| asked.elapsed() < source.fresh_for();
        if !self.known().asked_at.is_some_and(is_fresh) {
            self.ask(source).await?;
        }
        Ok(())
    }

    /// Those that are worth trying now that the current one was refused; with the version. Empty if there
    /// is none, or the record does not answer. Whoever calls has the turn.
    pub(crate) async fn untried(&self) -> Result<Vec<(i32, Secret<String>)>, Error> {
        let tried = self.current();
        let reread = match &self.origin {
            Origin::Recorded(Some(reread)) => reread,
            Origin::Recorded(None) => return Ok(Vec::new()),
            Origin::Asked(source) => {
                let (version, asked) = (self.version(), source.ask().await.map_err(not_had)?);
                return Ok(if asked == tried { Vec::new() } else { vec![(version, asked)] });
            }
        };
        let Some(AdminPasswords { version, current, next }) = reread().await else {
            return Ok(Vec::new());
        };
        let recorded = current.into_iter().chain(next);
        Ok(recorded.filter(|one| *one != tried).map(|one| (version, one)).collect())
    }

    async fn ask(&self, source: &Source) -> Result<(), Error> {
        let began = Instant::now();
        let asked = source.ask().await.map_err(|why| {
            self.known().failed = Some((Instant::now(), why.clone()));
            not_had(why)
        })?;
        let mut known = self.known();
        known.asked_at = Some(began);
        if known.password != asked {
            known.generation += 1;
            known.password = asked;
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_had(why: String) -> Error {
    Error::NoPassword { why }
}
