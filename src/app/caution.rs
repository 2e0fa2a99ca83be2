//! When the record cannot be believed, nothing is removed until a person has looked.
//!
//! A state database that was restored from an older backup knows nothing of the leases that came
//! after it, and of others an end that was moved since. So each target keeps an epoch, a point of the
//! audit that a backup cannot know, and a target that knows a later one gives the restore away. A
//! clock that jumped is noticed by what was recorded of it. In caution leases are issued and renewed
//! as ever, and PostgreSQL itself shuts each login out at its VALID UNTIL; ended are only those that
//! a person revokes, and those that were made after the caution began. That gate is in the statement
//! that claims due logins ([`crate::store::logins`]).

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::{
    app::{App, error::Error, own_entry},
    domain::{
        audit::Event,
        caution::{Epoch, clock_fault},
        lease::{Cause, Login, State},
        target::Target,
    },
    ids::TargetId,
    target::{self, Handle, Memory},
};

/// How long a target may take to say what it knows.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// What this daemon knows of sweeps and of the record.
pub(in crate::app) struct Standing {
    /// Which installation we are.
    pub(in crate::app) installation: Uuid,
    /// How long an orphan is left there, shut out.
    pub(in crate::app) orphan_grace: TimeDelta,
    /// One sweep at a time.
    pub(in crate::app) sweeping: tokio::sync::Mutex<()>,
    /// How long the audit was known to be.
    position: AtomicI64,
    /// Targets whose epoch was compared since this daemon started.
    compared: Mutex<HashSet<TargetId>>,
    /// Targets where our admin could not keep an epoch the last time, which was told.
    without_epoch: Mutex<HashSet<TargetId>>,
}

impl Standing {
    pub(in crate::app) fn new(installation: Uuid, orphan_grace: TimeDelta) -> Self {
        Self {
            installation,
            orphan_grace,
            sweeping: tokio::sync::Mutex::new(()),
            position: AtomicI64::new(0),
            compared: Mutex::default(),
            without_epoch: Mutex::default(),
        }
    }

    /// How long the audit was known to be.
    pub(in crate::app) fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }
}

/// Why nothing is removed, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caution {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub because: String,
}

/// A target that answered.
struct Answer {
    id: TargetId,
    handle: Arc<Handle>,
    memory: Memory,
}

fn has(set: &Mutex<HashSet<TargetId>>, id: TargetId) -> bool {
    set.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
}

/// True if it was not there.
fn add(set: &Mutex<HashSet<TargetId>>, id: TargetId) -> bool {
    set.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
}

fn remove(set: &Mutex<HashSet<TargetId>>, id: TargetId) {
    set.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
}

impl App {
    /// The caution, if there is one.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn caution(&self) -> Result<Option<Caution>, Error> {
        let caution = self.store.standing().await?.caution;
        Ok(caution.map(|(since, because)| Caution { since, because }))
    }

    /// Compares the record with what the targets know of it, and the clock with others. Begins a
    /// caution if they speak against it, and moves the targets' epochs on if not.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn check_record(&self) -> Result<Option<Caution>, Error> {
        let recorded = self.store.standing().await?;
        let known = self.standing.position();
        if let Some((since, because)) = recorded.caution {
            self.standing.position.store(recorded.position, Ordering::Relaxed);
            self.metrics.cautious(true);
            return Ok(Some(Caution { since, because }));
        }
        let answers = self.ask_targets().await?;
        let mut fault = (recorded.position < known).then(|| {
            format!(
                "the audit had {known} sealed entries and has {}: the state database was restored while the daemon ran",
                recorded.position
            )
        });
        for answer in &answers {
            fault = match fault {
                None => self.epoch_fault(&answer.memory).await?,
                found => found,
            };
        }
        let now = self.clock.now();
        let mut clocks: Vec<_> = answers.iter().map(|answer| answer.memory.now).collect();
        clocks.push(recorded.now);
        if let Some(because) = fault.or_else(|| clock_fault(now, recorded.seen_at, &clocks)) {
            return self.begin_caution(because).await.map(Some);
        }
        self.store.note_well(now).await?;
        self.standing.position.fetch_max(recorded.position, Ordering::Relaxed);
        for answer in &answers {
            add(&self.standing.compared, answer.id);
        }
        let behind = answers.into_iter().filter(|answer| {
            answer.memory.epoch.is_none_or(|epoch| epoch.position < recorded.position)
        });
        self.keep_epoch(behind.collect(), recorded.position).await?;
        self.metrics.cautious(false);
        Ok(None)
    }

    /// May this login be ended? False if a caution holds it. What a person revoked may always be. The
    /// first time on each target after a start, what that target knows of the record is looked at.
    ///
    /// # Errors
    /// In words, if the target cannot be asked.
    pub(in crate::app) async fn is_record_believed(&self, login: &Login) -> Result<bool, String> {
        let is_asked_for = login.state == State::Revoking && login.cause == Some(Cause::Revoked);
        if is_asked_for || has(&self.standing.compared, login.target_id) {
            return Ok(true);
        }
        let (target, handle) = self.handle(login.target_id).await.map_err(|e| e.detail())?;
        let failed = |e| Error::target(target.spec.name.as_str(), Some(login.lease_id), e).detail();
        let memory = handle.memory(self.standing.installation).await.map_err(failed)?;
        if let Some(because) = self.epoch_fault(&memory).await.map_err(|e| e.detail())? {
            self.begin_caution(because).await.map_err(|e| e.detail())?;
            // It may have been made after the caution began.
            let held = self.store.is_login_held(login.id).await;
            return held.map(|held| !held).map_err(|e| Error::from(e).detail());
        }
        add(&self.standing.compared, login.target_id);
        Ok(true)
    }

    /// Ends a caution after an administrator's yes. The targets are told the epoch of the record as it
    /// is now, in place of the one that the record does not know.
    pub(in crate::app) async fn end_caution(
        &self,
        caution: &Caution,
        entry: crate::domain::audit::Entry,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let position = self.store.standing().await?.position;
        let answers = self.ask_targets().await?;
        self.keep_epoch(answers, position).await?;
        let mut tx = self.store.begin().await?;
        if !tx.end_caution(caution.since, now).await? {
            return Err(not_cautious());
        }
        tx.audit(&entry).await?;
        tx.commit().await?;
        self.metrics.cautious(false);
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }

    async fn begin_caution(&self, because: String) -> Result<Caution, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if tx.begin_caution(&because, now).await? {
            let event = Event::CautionBegan { because: because.clone() };
            tx.audit(&own_entry(now, event)).await?;
            tx.commit().await?;
            tracing::warn!(because, "cautious: nothing is removed until an administrator says yes");
            self.nudges.audit.notify_one();
        }
        self.metrics.cautious(true);
        Ok(Caution { since: now, because })
    }

    async fn epoch_fault(&self, memory: &Memory) -> Result<Option<String>, Error> {
        let Some(epoch) = memory.epoch else { return Ok(None) };
        // Read after the target's: a daemon seals first and tells the target then.
        let recorded = self.store.sealed_hash(epoch.position).await?;
        Ok(epoch.fault(recorded))
    }

    /// Asks all targets at once. One that does not answer says nothing, and proves nothing.
    async fn ask_targets(&self) -> Result<Vec<Answer>, Error> {
        let ask = async |target: Target| {
            let asked = async {
                let (target, handle) = self.handle(target.id).await.ok()?;
                let memory = handle.memory(self.standing.installation).await.ok()?;
                Some(Answer { id: target.id, handle, memory })
            };
            tokio::time::timeout(ANSWER_TIME, asked).await.ok().flatten()
        };
        let targets = self.store.targets().await?;
        Ok(join_all(targets.into_iter().map(ask)).await.into_iter().flatten().collect())
    }

    /// Tells targets the epoch at a position of the audit, which is committed by now.
    async fn keep_epoch(&self, answers: Vec<Answer>, position: i64) -> Result<(), Error> {
        let Some(hash) = self.store.sealed_hash(position).await? else { return Ok(()) };
        let epoch = Epoch { installation: self.standing.installation, position, hash };
        let keep = async |answer: Answer| {
            if answer.memory.in_recovery {
                return;
            }
            let kept = tokio::time::timeout(ANSWER_TIME, answer.handle.keep_epoch(&epoch)).await;
            let told = &self.standing.without_epoch;
            // Another daemon may be just doing the same; whatever else it is, the next time tries again.
            let Ok(kept) = kept else { return };
            let Err(error) = kept else { return remove(told, answer.id) };
            // Said once, and not every few seconds: until it could be kept again.
            if matches!(error, target::Error::LacksRight { .. }) && add(told, answer.id) {
                tracing::warn!(
                    target.id = %answer.id,
                    error = &error as &dyn std::error::Error,
                    "no epoch can be kept on this target: it does not tell if the state database is restored"
                );
            }
        };
        join_all(answers.into_iter().map(keep)).await;
        Ok(())
    }
}

pub(in crate::app) fn not_cautious() -> Error {
    let detail = "the daemon is not cautious: there is nothing to accept".to_owned();
    Error::Conflict { code: "not_cautious", detail }
}
