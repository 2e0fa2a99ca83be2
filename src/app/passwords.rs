//! Fresh passwords, each with the verifier that PostgreSQL keeps of it.
//!
//! A verifier takes about as long to hash as the intent takes to record. So the next one is made while a target makes a
//! login and this process waits, and a caller who comes alone finds it there. Each is taken once, and few lie ready.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::JoinHandle;

use crate::{
    app::error::Error,
    rng::{self, NoRandomness},
    secret::Secret,
    target::scram::{self, Verifier},
};

/// So many lie ready, or are being made to. Callers that come at once have theirs made at once.
const READY: usize = 8;

/// A password, and what the target is told of it.
pub(in crate::app) struct Fresh {
    pub(in crate::app) password: Secret<String>,
    pub(in crate::app) verifier: Verifier,
    iterations: NonZeroU32,
}

/// One that is there, or in the making on a thread of its own.
pub(in crate::app) enum FreshPassword {
    Ready(Box<Fresh>),
    Making(JoinHandle<Fresh>),
}

/// Those that lie ready.
#[derive(Default)]
pub(in crate::app) struct Passwords(Arc<Mutex<Ready>>);

#[derive(Default)]
struct Ready {
    made: Vec<Fresh>,
    making: usize,
}

impl Passwords {
    /// One for a target whose verifiers are hashed so often.
    pub(in crate::app) fn take(
        &self,
        iterations: NonZeroU32,
    ) -> Result<FreshPassword, NoRandomness> {
        let found = {
            let mut ready = lock(&self.0);
            let at = ready.made.iter().position(|fresh| fresh.iterations == iterations);
            at.map(|at| ready.made.swap_remove(at))
        };
        Ok(match found {
            Some(fresh) => FreshPassword::Ready(Box::new(fresh)),
            None => FreshPassword::Making(tokio::task::spawn_blocking(seeds(iterations)?)),
        })
    }

    /// Makes one for whoever comes next. If there is no randomness, they will be told.
    pub(in crate::app) fn make_next(&self, iterations: NonZeroU32) {
        {
            let mut ready = lock(&self.0);
            if ready.made.len() + ready.making >= READY {
                // Those of a target that nobody asks for give way.
                let of_others = ready.made.iter().position(|fresh| fresh.iterations != iterations);
                let Some(at) = of_others else { return };
                ready.made.swap_remove(at);
            }
            ready.making += 1;
        }
        let shared = Arc::clone(&self.0);
        let make = seeds(iterations);
        tokio::task::spawn_blocking(move || {
            let fresh = make.map(|make| make());
            let mut ready = lock(&shared);
            ready.making -= 1;
            ready.made.extend(fresh);
        });
    }
}

impl FreshPassword {
    pub(in crate::app) async fn made(self) -> Result<Fresh, Error> {
        match self {
            Self::Ready(fresh) => Ok(*fresh),
            Self::Making(making) => making.await.map_err(Error::internal),
        }
    }
}

/// What is random is drawn here, the rest is work for a thread.
fn seeds(iterations: NonZeroU32) -> Result<impl FnOnce() -> Fresh + Send + 'static, NoRandomness> {
    let password = rng::password()?;
    let salt = rng::bytes::<16>()?;
    Ok(move || {
        let verifier = scram::verifier(&password, salt, iterations);
        Fresh { password, verifier, iterations }
    })
}

/// It is only ever changed whole, so one left by a panic is still sound.
fn lock(ready: &Mutex<Ready>) -> MutexGuard<'_, Ready> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    const FEW: NonZeroU32 = NonZeroU32::MIN;

    async fn until_ready(passwords: &Passwords) -> usize {
        let wait = async {
            while lock(&passwords.0).making > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
        lock(&passwords.0).made.len()
    }

    #[tokio::test]
    async fn each_is_handed_out_once_and_only_for_its_iterations() {
        let passwords = Passwords::default();
        let many = NonZeroU32::new(2).unwrap();
        for _ in 0..READY * 2 {
            passwords.make_next(FEW);
        }
        assert_eq!(until_ready(&passwords).await, READY, "few lie ready");
        let other = passwords.take(many).unwrap();
        assert!(matches!(other, FreshPassword::Making(_)), "hashed otherwise");
        assert!(other.made().await.unwrap().verifier.text().starts_with("SCRAM-SHA-256$2:"));
        let mut seen = BTreeSet::new();
        for count in 0..READY + 2 {
            let taken = passwords.take(FEW).unwrap();
            assert_eq!(matches!(taken, FreshPassword::Ready(_)), count < READY);
            let fresh = taken.made().await.unwrap();
            assert!(fresh.verifier.text().starts_with("SCRAM-SHA-256$1:"));
            assert!(seen.insert(fresh.password.expose().clone()), "handed out twice");
        }
    }

    #[tokio::test]
    async fn those_that_nobody_asks_for_give_way() {
        let passwords = Passwords::default();
        let many = NonZeroU32::new(2).unwrap();
        for _ in 0..READY {
            passwords.make_next(FEW);
        }
        until_ready(&passwords).await;
        passwords.make_next(many);
        assert_eq!(until_ready(&passwords).await, READY);
        assert!(matches!(passwords.take(many).unwrap(), FreshPassword::Ready(_)));
    }
}
