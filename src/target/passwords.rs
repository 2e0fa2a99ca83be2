//! What we sign in to a target with. The administrator's password may be renewed at any time, by us or by
//! another daemon: a sign-in that is refused has the recorded ones read anew, and tries those that it has
//! not tried. Sessions that are open work on.

use std::sync::{Mutex, PoisonError};

use crate::{
    secret::Secret,
    target::{AdminPasswords, Reread},
};

/// The password of a target's administrator, shared by all connections to it.
pub(crate) struct Passwords {
    known: Mutex<Known>,
    reread: Option<Reread>,
    /// One at a time looks for the password that holds.
    settling: tokio::sync::Mutex<()>,
}

struct Known {
    /// Of the record that it was read from.
    version: i32,
    /// Grows with each change here: a pool that was made with an older one is told.
    generation: u64,
    password: Secret<String>,
}

impl Passwords {
    pub(crate) fn new((version, password): (i32, Secret<String>), reread: Option<Reread>) -> Self {
        let known = Mutex::new(Known { version, generation: 0, password });
        Self { known, reread, settling: tokio::sync::Mutex::default() }
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
        let generation = known.generation + 1;
        *known = Known { version, generation, password };
    }

    /// The turn to look for one that holds: whoever has it may find that the one before already did.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.settling.lock().await
    }

    /// Those on record, read anew, that are not the current one; with the version. Empty if the
    /// record does not answer.
    pub(crate) async fn untried(&self) -> Vec<(i32, Secret<String>)> {
        let Some(reread) = &self.reread else { return Vec::new() };
        let Some(AdminPasswords { version, current, next }) = reread().await else {
            return Vec::new();
        };
        let tried = self.current();
        let recorded = std::iter::once(current).chain(next);
        recorded.filter(|one| *one != tried).map(|one| (version, one)).collect()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
