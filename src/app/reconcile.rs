//! Carry out what [`next_step`] says for one login that is due: either a move of our own record, or
//! work on the target with its outcome recorded after. What cannot be done is given back, named, and
//! tried again for ever.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{App, error::Error, own_entry},
    domain::{
        audit::Event,
        backoff,
        lease::{Cause, Proof, State},
        reconcile::{Recorded, Step, next_step},
    },
    ids::TargetId,
    store::{self, logins::Claimed},
    target::{self, RemoveLogin},
    telemetry::labels::RevokeStep,
};

/// How long a claim lasts. It is kept up while the work goes on, so that no two daemons remove the same
/// login at once, and that of a daemon that died is soon over.
const CLAIM: TimeDelta = TimeDelta::seconds(10);

/// How often a claim is kept up.
const KEEP_EVERY: Duration = Duration::from_secs(3);

/// How long what passes by itself is waited for.
const SOON: TimeDelta = TimeDelta::seconds(1);

/// What stands in the way of a removal.
struct Obstacle {
    why: String,
    /// Does it pass by itself within a minute?
    passing: bool,
}

impl Obstacle {
    const fn new(why: String) -> Self {
        Self { why, passing: false }
    }
}

/// How long one removal may take. What takes longer is given back and goes on where it stopped.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(40);

impl App {
    /// Claims up to `limit` logins that are due, of all targets but those given.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn claim_due(&self, but: &[TargetId], limit: i64) -> Result<Vec<Claimed>, Error> {
        let now = self.clock.now();
        let claimed = self.store.claim_due_logins(now, now + CLAIM, but, limit).await?;
        self.metrics.claimed(claimed.len());
        Ok(claimed)
    }

    /// When the next login is due, if any will be.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn next_due(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(self.store.next_due_login().await?)
    }

    /// Forgets idempotency keys after a day: a client that has not tried again by then will not.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn forget_old_keys(&self) -> Result<(), Error> {
        self.store.forget_idempotency_keys(self.clock.now() - TimeDelta::days(1)).await?;
        Ok(())
    }

    /// Takes a claimed login as far as it goes now. A claim that was lost meanwhile (somebody revoked
    /// the lease, or another daemon took over) is no error: whoever has it goes on.
    ///
    /// # Errors
    /// If our database does not answer; the claim then ends by itself.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "end login",
        skip_all,
        fields(lease.id = %claimed.login.lease_id, login.id = %claimed.login.id)
    )]
    pub async fn carry_out(&self, mut claimed: Claimed) -> Result<(), Error> {
        loop {
            let login = &claimed.login;
            let recorded = Recorded {
                state: login.state,
                give_up_at: login.give_up_at,
                ends_at: login.ends_at,
                superseded: claimed.superseded,
            };
            let done = match next_step(recorded, self.clock.now()) {
                Step::Wait(until) => Some(self.give_back(&claimed, until).await),
                Step::Done => Some(Ok(())),
                Step::StartRevoking(cause) => match self.recorded_end(&claimed, cause).await {
                    Ok(true) => {
                        claimed.login.state = State::Revoking;
                        claimed.login.cause = Some(cause);
                        None
                    }
                    Ok(false) => Some(Ok(())),
                    Err(e) => Some(Err(e)),
                },
                Step::Remove => {
                    let removing = Box::pin(self.remove(&claimed));
                    Some(self.metrics.revoking(RevokeStep::Total, removing).await)
                }
            };
            match done {
                None => {}
                Some(Err(store::error::Error::NotOneRow(_))) => return Ok(()),
                Some(done) => return Ok(done?),
            }
        }
    }

    async fn give_back(
        &self,
        claimed: &Claimed,
        until: DateTime<Utc>,
    ) -> Result<(), store::error::Error> {
        let mut tx = self.store.begin().await?;
        tx.release_login(claimed, until).await?;
        tx.commit().await
    }

    async fn recorded_end(
        &self,
        claimed: &Claimed,
        cause: Cause,
    ) -> Result<bool, store::error::Error> {
        let recording = self.record_end(claimed, cause);
        self.metrics.revoking(RevokeStep::Record, recording).await
    }

    /// Records that a login ends, and its lease with it if it is the lease's present one. False if
    /// somebody else moved it meanwhile.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "record end",
        skip_all,
        fields(otel.kind = "client", db.system.name = "postgresql", lease.id = %claimed.login.lease_id)
    )]
    async fn record_end(
        &self,
        claimed: &Claimed,
        cause: Cause,
    ) -> Result<bool, store::error::Error> {
        let login = &claimed.login;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if !tx.start_revoking_login(login.id, login.state, cause, now).await? {
            return Ok(false);
        }
        if cause != Cause::Rotated && tx.is_present_login(login.lease_id, login.id).await? {
            if tx.start_revoking_lease(login.lease_id, cause).await? {
                let event = Event::LeaseRevoking { lease_id: login.lease_id, cause };
                tx.audit(&own_entry(now, event)).await?;
            }
            // Logins of earlier rotations that are still in their grace end with the lease.
            for (login_id, role) in tx.start_revoking_logins_of(login.lease_id, cause, now).await? {
                let event =
                    Event::LoginRevoking { lease_id: login.lease_id, login_id, role, cause };
                tx.audit(&own_entry(now, event)).await?;
            }
        }
        let event = Event::LoginRevoking {
            lease_id: login.lease_id,
            login_id: login.id,
            role: login.role_name.to_string(),
            cause,
        };
        tx.audit(&own_entry(now, event)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Removes a login from its target and records the proof, or what stands in the way.
    async fn remove(&self, claimed: &Claimed) -> Result<(), store::error::Error> {
        let removing = Box::pin(self.remove_from_target(claimed));
        match self.metrics.revoking(RevokeStep::Target, removing).await {
            Ok(proof) => {
                let recording = self.record_removal(claimed, &proof);
                self.metrics.revoking(RevokeStep::Proof, recording).await
            }
            Err(obstacle) => self.record_blocked(claimed, &obstacle).await,
        }
    }

    async fn remove_from_target(&self, claimed: &Claimed) -> Result<Proof, Obstacle> {
        let login = &claimed.login;
        let (target, handle) =
            self.handle(login.target_id).await.map_err(|e| Obstacle::new(e.detail()))?;
        let remove = RemoveLogin {
            role: &login.role_name,
            oid: login.role_oid,
            database: &login.database,
            group_role: &login.group_role,
            owned_objects: login.owned_objects,
        };
        let work = tokio::time::timeout(REMOVAL_DEADLINE, handle.remove_login(&remove));
        match self.keeping_claim(claimed, work).await {
            None => Err(Obstacle::new("another daemon goes on with it".to_owned())),
            Some(Ok(Ok(proof))) => Ok(proof),
            Some(Ok(Err(e))) => {
                let passing = matches!(e, target::error::Error::SigningIn { .. });
                let why =
                    Error::target(target.spec.name.as_str(), Some(login.lease_id), e).detail();
                Err(Obstacle { why, passing })
            }
            Some(Err(_)) => {
                let name = &target.spec.name;
                Err(Obstacle::new(format!("target `{name}`: removing the login took too long")))
            }
        }
    }

    /// Does work under a claim that is kept up meanwhile; none if the claim was lost.
    async fn keeping_claim<T>(
        &self,
        claimed: &Claimed,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep(KEEP_EVERY) => {
                    let kept = self.store.keep_claim(claimed, self.clock.now() + CLAIM).await;
                    // A database that does not answer now may do so before the claim ends.
                    if matches!(kept, Err(store::error::Error::NotOneRow(_))) {
                        return None;
                    }
                }
            }
        }
    }

    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "record removal",
        skip_all,
        fields(otel.kind = "client", db.system.name = "postgresql", lease.id = %claimed.login.lease_id)
    )]
    async fn record_removal(
        &self,
        claimed: &Claimed,
        proof: &Proof,
    ) -> Result<(), store::error::Error> {
        let login = &claimed.login;
        let cause = login.cause.unwrap_or(Cause::Failed);
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        tx.finish_login(claimed, proof, now).await?;
        let event = Event::LoginRemoved {
            lease_id: login.lease_id,
            login_id: login.id,
            role: login.role_name.to_string(),
            cause,
            proof: proof.clone(),
        };
        tx.audit(&own_entry(now, event)).await?;
        if let Some(cause) = tx.finish_lease(login.lease_id, now).await? {
            tx.audit(&own_entry(now, Event::LeaseRevoked { lease_id: login.lease_id, cause }))
                .await?;
        }
        tx.commit().await?;
        if cause == Cause::Expired {
            self.metrics.expired((now - login.ends_at).to_std().unwrap_or_default());
        }
        self.tell_removed();
        self.nudges.audit.notify_one();
        Ok(())
    }

    async fn record_blocked(
        &self,
        claimed: &Claimed,
        obstacle: &Obstacle,
    ) -> Result<(), store::error::Error> {
        let Obstacle { why, passing } = obstacle;
        let login = &claimed.login;
        let now = self.clock.now();
        let wait = backoff::wait_after(login.attempts.saturating_add(1));
        let again_at = now + if *passing { wait.min(SOON) } else { wait };
        let mut tx = self.store.begin().await?;
        if tx.release_blocked_login(claimed, why, again_at).await? {
            let event = Event::LoginBlocked {
                lease_id: login.lease_id,
                login_id: login.id,
                role: login.role_name.to_string(),
                why: why.clone(),
            };
            tx.audit(&own_entry(now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        tracing::warn!(
            lease.id = %login.lease_id,
            login.role = %login.role_name,
            attempts = login.attempts + 1,
            why,
            "a login could not be removed yet; it is tried again"
        );
        Ok(())
    }
}
