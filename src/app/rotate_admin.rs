//! The password of a target's administrator, renewed: the next one is sealed in the record, set, tried,
//! and takes the place of the one before.
//!
//! Stopped anywhere, whoever comes next finds a next password in the record and tries it: if it holds
//! it is promoted, and if it does not, and the time in which it could still have been set is over, it is
//! thrown away. The role itself stays: grants and logins hang on it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{
        AdminRotation, App, Author, ClaimedAdmin, Origin,
        error::Error,
        rotations::{CLAIM, Claim, DEADLINE, in_the_way, jitter},
    },
    domain::{
        audit::Event,
        backoff,
        name::Name,
        schedule::{self, Schedule},
        target::{Target, TargetSpec},
    },
    identity::Admin,
    ids::TargetId,
    rng,
    secret::Secret,
    store::{
        self, Tx,
        admin_rotation::{AdminSecrets, SealedNext},
        targets::SealedPassword,
    },
    target::{Handle, scram},
};

/// A next password that is refused may still be on its way for so long after it was written down: the
/// claim under which it was, and the time in which a target sets it.
const STILL_ON_ITS_WAY: TimeDelta = TimeDelta::seconds(15);

impl App {
    /// How the password of each target's administrator stands.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn admin_rotations(
        &self,
        _: &Admin<'_>,
    ) -> Result<Vec<(TargetId, AdminRotation)>, Error> {
        Ok(self.store.admin_rotations().await?)
    }

    /// Renews the password of a target's administrator now.
    ///
    /// # Errors
    /// If somebody does so already, or the target refuses or does not answer; it is tried again then.
    pub async fn rotate_admin(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
    ) -> Result<Target, Error> {
        let target = self.target(admin, name).await?;
        if target.spec.admin_source.is_some() {
            return Err(not_kept(&target));
        }
        let now = self.clock.now();
        let claimed = self.store.claim_admin(target.id, now, now + CLAIM).await?;
        let claimed = claimed.ok_or_else(being_renewed)?;
        self.renew_admin(Author::Caller(origin, admin), &claimed).await?;
        self.target(admin, name).await
    }

    /// Renews a password whose renewal was due.
    ///
    /// # Errors
    /// As [`App::rotate_admin`]; what stood in the way is recorded.
    pub async fn rotate_due_admin(&self, claimed: &ClaimedAdmin) -> Result<(), Error> {
        self.renew_admin(Author::Pgvalet, claimed).await
    }

    async fn renew_admin(&self, author: Author<'_>, claimed: &ClaimedAdmin) -> Result<(), Error> {
        let id = claimed.target_id;
        let target = self.store.target(id).await?;
        let target = target.ok_or_else(|| Error::not_found("target", id.to_string()))?;
        let work = tokio::time::timeout(DEADLINE, self.renew_step(author, claimed));
        let done = match self.under_claim(Claim::Admin(claimed), Box::pin(work)).await {
            None => return Err(being_renewed()),
            Some(Err(_)) => {
                Err(Error::TimedOut { what: "renewing the admin's password", lease: None })
            }
            Some(Ok(done)) => done,
        };
        if let Err(error) = &done {
            self.record_admin_failure(author, claimed, &target, error).await?;
        }
        done
    }

    async fn renew_step(&self, author: Author<'_>, claimed: &ClaimedAdmin) -> Result<(), Error> {
        let (target, handle) = self.handle(claimed.target_id).await?;
        let (target, handle) = (&target, &handle);
        let secrets = self.store.admin_secrets(target.id, &self.keys).await?;
        let current = secrets.current.ok_or_else(|| not_kept(target))?;
        if let Some(next) = secrets.next {
            // Somebody was stopped on the way.
            if self.accepts(target, handle, &next).await? {
                return self.promote(author, claimed, target, handle, &next).await;
            }
            let over = |at: DateTime<Utc>| at + STILL_ON_ITS_WAY < self.clock.now();
            if !claimed.next_at.is_none_or(over) {
                return Err(Error::Conflict {
                    code: "rotation_in_progress",
                    detail: format!(
                        "target `{}`: a password that was being set may still come: it is looked at again",
                        target.spec.name
                    ),
                });
            }
            self.drop_next(claimed).await?;
        }
        let shared = self.store.targets_with_same_admin(target.id).await?;
        if !shared.is_empty() {
            return Err(Error::Conflict {
                code: "admin_is_shared",
                detail: format!(
                    "target `{}` signs in as `{}` on the same cluster as {}: give each an administrator of its own, or write `rotate_admin = \"never\"`",
                    target.spec.name,
                    target.spec.admin_user,
                    shared.join(", ")
                ),
            });
        }

        // A target that is away, or refuses us, is not given a password to remember.
        self.reach(target, handle).await?;

        // 1. The next password, on record before it is anywhere else.
        let next = rng::password()?;
        self.write_next(author, claimed, target, &next).await?;

        // 2. Set, while the claim is ours.
        let set = self.set(claimed, target, handle, &next).await;

        // 3. Tried, even if no answer came: it can be lost on the way.
        if let Err(Error::Target { source, .. }) = &set
            && !source.leaves_in_doubt()
        {
            self.drop_next(claimed).await?;
        } else if self.accepts(target, handle, &next).await? {
            return self.promote(author, claimed, target, handle, &next).await;
        }
        set?;
        // It was set, and does not let us in, so another one is asked for: by LDAP, by a pooler in
        // between with a list of its own. That one must go on getting through.
        self.set(claimed, target, handle, &current).await?;
        self.drop_next(claimed).await?;
        Err(Error::Conflict {
            code: "admin_password_not_used",
            detail: format!(
                "target `{}` took a fresh password for `{}` and does not let it in with that: pg_hba.conf may have it sign in another way; write `rotate_admin = \"never\"`",
                target.spec.name, target.spec.admin_user
            ),
        })
    }

    async fn reach(&self, target: &Target, handle: &Arc<Handle>) -> Result<(), Error> {
        let probed = handle.probe().await;
        probed.map(drop).map_err(|e| Error::target(target.spec.name.as_str(), None, e))
    }

    async fn set(
        &self,
        claimed: &ClaimedAdmin,
        target: &Target,
        handle: &Arc<Handle>,
        password: &Secret<String>,
    ) -> Result<(), Error> {
        let salt = rng::bytes::<16>()?;
        let verifier = scram::verifier(password, salt, scram::DEFAULT_ITERATIONS);
        let still_ours = async { self.keep(Claim::Admin(claimed)).await.is_ok() };
        let set = handle.set_admin_password(&verifier, still_ours).await;
        set.map_err(|e| Error::target(target.spec.name.as_str(), None, e))
    }

    async fn accepts(
        &self,
        target: &Target,
        handle: &Arc<Handle>,
        password: &Secret<String>,
    ) -> Result<bool, Error> {
        let accepted = handle.accepts_admin(password).await;
        accepted.map_err(|e| Error::target(target.spec.name.as_str(), None, e))
    }

    async fn write_next(
        &self,
        author: Author<'_>,
        claimed: &ClaimedAdmin,
        target: &Target,
        next: &Secret<String>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let sealed = SealedNext::seal(&self.keys, target.id, rng::bytes()?, next)?;
        let event = Event::TargetAdminRotating {
            target_id: target.id,
            target: target.spec.name.to_string(),
        };
        let mut tx = self.store.begin().await?;
        tx.write_next_admin_password(claimed, &sealed, now).await.map_err(lost)?;
        tx.audit(&author.entry(now, event)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn promote(
        &self,
        author: Author<'_>,
        claimed: &ClaimedAdmin,
        target: &Target,
        handle: &Arc<Handle>,
        next: &Secret<String>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let sealed = SealedPassword::seal(&self.keys, target.id, rng::bytes()?, next)?;
        let due_at = target.spec.rotate_admin.next_after(now);
        let event = Event::TargetAdminRotated {
            target_id: target.id,
            target: target.spec.name.to_string(),
            due_at,
        };
        let mut tx = self.store.begin().await?;
        tx.promote_admin_password(claimed, &sealed, due_at, now).await.map_err(lost)?;
        tx.audit(&author.entry(now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        let AdminSecrets { version, current, .. } =
            self.store.admin_secrets(target.id, &self.keys).await?;
        handle.use_admin_password(version, current);
        tracing::info!(target.name = %target.spec.name, "the admin's password was renewed");
        Ok(())
    }

    async fn drop_next(&self, claimed: &ClaimedAdmin) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        tx.drop_next_admin_password(claimed).await.map_err(lost)?;
        Ok(tx.commit().await?)
    }

    async fn record_admin_failure(
        &self,
        author: Author<'_>,
        claimed: &ClaimedAdmin,
        target: &Target,
        error: &Error,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let why = in_the_way(error);
        let again_at = now + backoff::wait_after(claimed.attempts.saturating_add(1), jitter());
        let mut tx = self.store.begin().await?;
        match tx.release_admin(claimed, &why, again_at).await {
            Err(store::error::Error::NotOneRow(_)) => return Ok(()),
            Err(e) => return Err(e.into()),
            Ok(is_news) => {
                if is_news {
                    let event = Event::TargetAdminFailed {
                        target_id: target.id,
                        target: target.spec.name.to_string(),
                        code: error.code().to_owned(),
                        why: why.clone(),
                    };
                    tx.audit(&author.entry(now, event)).await?;
                }
            }
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        tracing::warn!(
            target.name = %target.spec.name,
            attempts = claimed.attempts + 1,
            why,
            "an admin's password could not be renewed; it is tried again"
        );
        Ok(())
    }

    /// Records when a password is to be renewed: at once if somebody has just typed it, because they
    /// know it. Refused while one is being renewed: what is set then would not be what is recorded.
    pub(in crate::app) async fn schedule_admin(
        &self,
        tx: &mut Tx,
        (id, spec): (TargetId, &TargetSpec),
        is_typed: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if is_typed && !tx.begin_admin_anew(id, now).await? {
            return Err(being_renewed());
        }
        let due_at = match (&spec.rotate_admin, is_typed) {
            (Schedule::Never, _) => None,
            (_, true) => Some(now),
            (schedule, false) => {
                let last = tx.admin_rotated_at(id).await?;
                // One that was never renewed was typed once.
                last.map_or(Some(now), |last| schedule::next_due(schedule, None, last, 0))
            }
        };
        Ok(tx.schedule_admin_rotation(id, due_at).await?)
    }

    /// Notes which targets refuse their administrators, and tells when that changes.
    pub(in crate::app) async fn note_refused_admins(
        &self,
        probed: &[(TargetId, String, bool)],
    ) -> Result<(), Error> {
        let known = self.store.admin_rotations().await?;
        let now = self.clock.now();
        for (id, name, refused) in probed {
            let marked = known.iter().any(|(of, stands)| of == id && stands.refused_at.is_some());
            if marked == *refused {
                continue;
            }
            let (target_id, target) = (*id, name.clone());
            let mut tx = self.store.begin().await?;
            if !tx.mark_admin_refused(*id, refused.then_some(now)).await? {
                continue;
            }
            let event = if *refused {
                tracing::error!(
                    target.name = target,
                    "a target refuses its admin: give the password that holds (pgvalet apply)"
                );
                Event::TargetAdminRefused { target_id, target }
            } else {
                Event::TargetAdminAccepted { target_id, target }
            };
            tx.audit(&crate::app::own_entry(now, event)).await?;
            tx.commit().await?;
            self.nudges.audit.notify_one();
        }
        Ok(())
    }
}

fn not_kept(target: &Target) -> Error {
    let source = target.spec.admin_source.as_ref().map(ToString::to_string).unwrap_or_default();
    Error::Conflict {
        code: "admin_password_not_kept",
        detail: format!(
            "the password of `{}` on target `{}` comes from {source}: renew it there; pgvalet asks anew whenever it connects",
            target.spec.admin_user, target.spec.name
        ),
    }
}

fn being_renewed() -> Error {
    Error::Conflict {
        code: "rotation_in_progress",
        detail: "the admin's password is being renewed just now: try again in a few seconds"
            .to_owned(),
    }
}

/// The claim was lost to another daemon, which goes on.
fn lost(e: store::error::Error) -> Error {
    match e {
        store::error::Error::NotOneRow(_) => being_renewed(),
        other => other.into(),
    }
}
