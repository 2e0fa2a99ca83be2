//! End what is due: claim it, record that it ends ([`crate::app::ending`]), remove it from its target,
//! record the outcome. What cannot be done is given back, named, and tried again for ever.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{App, error::Error, own_entry},
    domain::{audit::Event, backoff, lease::Proof},
    ids::TargetId,
    rng,
    store::{
        self,
        logins::{But, Claimed},
    },
    target::{self, RemoveLogin, TOLERATED_SKEW},
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
    again: Again,
}

/// When it is tried again.
enum Again {
    /// After a wait that grows with each try.
    Later,
    /// It passes by itself within a minute.
    Soon,
    /// Nothing was tried: the target is left alone for so long.
    After(Duration),
}

impl Obstacle {
    const fn new(why: String) -> Self {
        Self { why, again: Again::Later }
    }
}

/// How long one removal may take. What takes longer is given back and goes on where it stopped.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(40);

/// What was due and claimed.
pub struct Due {
    /// Was anything?
    pub found_any: bool,
    /// What is to be removed from its target now.
    pub to_remove: Vec<Claimed>,
}

impl App {
    /// Makes the time of this daemon that of the state database.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn agree_on_time(&self) -> Result<(), Error> {
        let sent = self.clock.now();
        let there = self.store.now().await?;
        let corrected = self.clock.agree(sent, there, self.clock.now());
        if corrected.is_some_and(|_| (there - sent).abs() > TOLERATED_SKEW) {
            let milliseconds = self.clock.ahead().num_milliseconds();
            tracing::warn!(
                milliseconds,
                "the state database's clock is ahead of this machine's by so much (behind, if negative): its time is used; set one of them right"
            );
        }
        Ok(())
    }

    /// Claims up to `limit` logins that are due, but for those of targets that are `full`. Gives whether
    /// there were any, and those that are to be removed from their targets: that they end is recorded.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn claim_due(&self, full: Vec<TargetId>, limit: i64) -> Result<Due, Error> {
        let now = self.clock.now();
        let but = But { full, left_alone: self.left_alone() };
        let claimed = self
            .store
            .claim_due_logins(now, now + CLAIM, &but, limit, self.standing.position())
            .await?;
        self.metrics.claimed(claimed.len());
        let found_any = !claimed.is_empty();
        Ok(Due { found_any, to_remove: self.begin_ending(claimed).await? })
    }

    /// When there is something to claim next, if ever: a login is due, but for those of targets that are
    /// `full`, or a target is no longer left alone.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn next_due(&self, full: Vec<TargetId>) -> Result<Option<DateTime<Utc>>, Error> {
        let waits = self.targets.left_alone().into_iter().map(|(_, wait)| wait);
        let soonest = waits.min().and_then(|wait| TimeDelta::from_std(wait).ok());
        let now = self.clock.now();
        let asked_again = soonest.map(|wait| now + wait);
        let but = But { full, left_alone: self.left_alone() };
        let due_at = self.store.next_due_login(now, &but).await?;
        Ok(due_at.into_iter().chain(asked_again).min())
    }

    fn left_alone(&self) -> Vec<TargetId> {
        self.targets.left_alone().into_iter().map(|(id, _)| id).collect()
    }

    /// Forgets idempotency keys after a day: a client that has not tried again by then will not.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn forget_old_keys(&self) -> Result<(), Error> {
        let now = self.clock.now();
        self.store.forget_idempotency_keys(now - TimeDelta::days(1)).await?;
        self.store.forget_spent_tokens(now).await?;
        self.store.forget_sign_ins(now).await?;
        self.store.forget_chat(now, now - TimeDelta::days(90)).await?;
        Ok(())
    }

    /// Removes a claimed login that is ending. A claim that was lost meanwhile (another daemon took over)
    /// is no error: whoever has it goes on.
    ///
    /// # Errors
    /// If our database does not answer; the claim then ends by itself.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "end login",
        skip_all,
        fields(lease.id = %claimed.login.lease_id, login.id = %claimed.login.id)
    )]
    pub async fn carry_out(&self, claimed: Claimed) -> Result<(), Error> {
        let removing = Box::pin(self.remove(claimed));
        match self.metrics.revoking(RevokeStep::Total, removing).await {
            Err(store::error::Error::NotOneRow(_)) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Removes a login from its target and records the proof, or what stands in the way.
    async fn remove(&self, claimed: Claimed) -> Result<(), store::error::Error> {
        let removing = Box::pin(self.remove_from_target(&claimed));
        match self.metrics.revoking(RevokeStep::Target, removing).await {
            Ok(proof) => {
                let recording = self.record_removal(claimed, proof);
                self.metrics.revoking(RevokeStep::Proof, recording).await
            }
            Err(obstacle) => self.record_blocked(&claimed, &obstacle).await,
        }
    }

    async fn remove_from_target(&self, claimed: &Claimed) -> Result<Proof, Obstacle> {
        let login = &claimed.login;
        if !self.is_record_believed(login).await.map_err(Obstacle::new)? {
            let why = "the daemon is cautious: look at `pgvalet sweep --plan`";
            return Err(Obstacle::new(why.to_owned()));
        }
        let (target, handle) =
            self.handle(login.target_id).await.map_err(|e| Obstacle::new(e.detail()))?;
        let remove = RemoveLogin {
            role: &login.role_name,
            oid: login.role_oid,
            database: &login.database,
            group_role: &login.group_role,
            owned_objects: login.owned_objects,
            has_context: login.has_context,
        };
        let work = tokio::time::timeout(REMOVAL_DEADLINE, handle.remove_login(&remove));
        match self.keeping_claim(claimed, work).await {
            None => Err(Obstacle::new("another daemon goes on with it".to_owned())),
            Some(Ok(Ok(proof))) => Ok(proof),
            Some(Ok(Err(e))) => {
                let again = match e {
                    target::error::Error::SigningIn { .. } => Again::Soon,
                    target::error::Error::LeftAlone { retry_after, .. } => {
                        Again::After(retry_after)
                    }
                    _ => Again::Later,
                };
                let why =
                    Error::target(target.spec.name.as_str(), Some(login.lease_id), e).detail();
                Err(Obstacle { why, again })
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

    async fn record_blocked(
        &self,
        claimed: &Claimed,
        obstacle: &Obstacle,
    ) -> Result<(), store::error::Error> {
        let Obstacle { why, again } = obstacle;
        let login = &claimed.login;
        let now = self.clock.now();
        let jitter = rng::bytes().map_or(0.0, |[byte]: [u8; 1]| f64::from(byte) / 255.0);
        let wait = backoff::wait_after(login.attempts.saturating_add(1), jitter);
        let again_at = match again {
            Again::Later => now + wait,
            Again::Soon => now + wait.min(SOON),
            Again::After(wait) => now + TimeDelta::from_std(*wait).unwrap_or(SOON),
        };
        if matches!(again, Again::After(_)) && login.attempts > 0 {
            // What stood in its way is on record, and nothing was tried since.
            let mut tx = self.store.begin().await?;
            tx.release_login(claimed, again_at).await?;
            return tx.commit().await;
        }
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
