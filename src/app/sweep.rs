//! Sweep: compare what a target has with what the record says, both ways, and act on it.
//!
//! The record is read before the look at the target, and what was found is looked up once more after
//! it, so that a login that is being made or ended is no finding. Silence of a target is told, and
//! proves nothing. While the daemon is cautious nothing is changed, whoever asks.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    app::{
        App, Origin,
        caution::{Caution, not_cautious},
        error::Error,
    },
    domain::{
        audit::Event,
        name::Name,
        sweep::{Act, By, Finding, Kind, Recorded, compare, confirmed, plan_id},
        target::Target,
    },
    identity::Admin,
    ids::LeaseId,
    rng,
};

/// How long one target may take to show what it has.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// How long one sweep acts. What is left is done by the next one, which begins at once.
const ACT_TIME: Duration = Duration::from_secs(12);

/// What a sweep found and did.
#[derive(Debug)]
pub struct Sweep {
    /// The caution, if there is one: then nothing was done.
    pub caution: Option<Caution>,
    /// What stands for all that would be taken away; none if only some targets were looked at.
    pub plan: Option<String>,
    /// Each target.
    pub targets: Vec<Swept>,
}

/// One target.
#[derive(Debug)]
pub struct Swept {
    /// Its name.
    pub target: Name,
    /// Why it could not be looked at.
    pub fault: Option<String>,
    /// How many logins it has, other installations' included.
    pub logins: usize,
    /// What was found.
    pub findings: Vec<Told>,
}

/// A finding, and what was done about it.
#[derive(Debug)]
pub struct Told {
    /// The finding.
    pub finding: Finding,
    /// What was, or would be done, in words.
    pub done: String,
    /// Is something left to do that should be done by now?
    pub failed: bool,
}

/// What a look at one target gave.
pub(in crate::app) struct Look {
    pub(in crate::app) target: Target,
    pub(in crate::app) by: By,
    pub(in crate::app) logins: usize,
    pub(in crate::app) findings: Vec<Finding>,
}

impl App {
    /// Sweeps targets, all if none is named. With `plan` nothing is changed.
    ///
    /// # Errors
    /// If there is no such target, or our database does not answer.
    pub async fn sweep(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        names: &[Name],
        plan: bool,
    ) -> Result<Sweep, Error> {
        let mut targets = self.store.targets().await?;
        for name in names {
            if !targets.iter().any(|target| target.spec.name == *name) {
                return Err(Error::not_found("target", name.to_string()));
            }
        }
        let all = names.is_empty();
        targets.retain(|target| all || names.contains(&target.spec.name));
        let shown = targets.iter().map(|target| target.spec.name.to_string()).collect();
        let event = Event::SweepAsked { targets: shown, plan };
        self.record(origin.entry(admin, self.clock.now(), event)).await?;
        let caution = self.check_record().await?;
        self.sweep_targets(targets, all, !plan, caution).await
    }

    /// How long a daemon waits before what it does by schedule: up to ten seconds, each time another.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        let [random] = rng::bytes::<1>().unwrap_or_default();
        Duration::from_millis(40 * u64::from(random))
    }

    /// Sweeps all targets. True if nothing is left to be done at once.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn sweep_by_schedule(&self) -> Result<bool, Error> {
        let caution = self.check_record().await?;
        let targets = self.store.targets().await?;
        let swept = self.sweep_targets(targets, true, true, caution).await?;
        swept.targets.iter().for_each(log);
        let mut told = swept.targets.iter().flat_map(|swept| &swept.findings);
        Ok(!told.any(|told| told.done == LATER))
    }

    /// Ends the caution, if what would be taken away is still what the administrator saw; and sweeps.
    ///
    /// # Errors
    /// `plan_changed`, `not_cautious`, or our database does not answer.
    pub async fn accept_plan(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        plan: &str,
    ) -> Result<Sweep, Error> {
        let Some(caution) = self.caution().await? else { return Err(not_cautious()) };
        let targets = self.store.targets().await?;
        let seen = self.sweep_targets(targets.clone(), true, false, Some(caution.clone())).await?;
        if seen.plan.as_deref() != Some(plan) {
            let detail = "what would be removed is not any more what that plan showed: look at `pgvalet sweep --plan` again".to_owned();
            return Err(Error::Conflict { code: "plan_changed", detail });
        }
        let event = Event::CautionEnded { plan: plan.to_owned() };
        let entry = origin.entry(admin, self.clock.now(), event);
        self.end_caution(&caution, entry).await?;
        self.sweep_targets(targets, true, true, None).await
    }

    async fn sweep_targets(
        &self,
        targets: Vec<Target>,
        all: bool,
        act: bool,
        caution: Option<Caution>,
    ) -> Result<Sweep, Error> {
        let act = act && caution.is_none();
        let _turn = if act { Some(self.standing.sweeping.lock().await) } else { None };
        let held = match &caution {
            Some(caution) => self.store.held_logins(caution.since).await?,
            None => Vec::new(),
        };
        let until = Instant::now() + ACT_TIME;
        let sweep_one = async |target: Target| -> Result<Swept, Error> {
            let name = target.spec.name.clone();
            let held = held.iter().filter(|held| held.target_id == target.id);
            let held: Vec<Told> =
                held.map(|held| held_back(&held.role, held.lease_id, held.ends_at)).collect();
            let look = match self.look_at(target).await {
                Ok(look) => look,
                Err(Error::StateUnavailable(e)) => return Err(Error::StateUnavailable(e)),
                Err(e) => {
                    let fault = Some(e.detail());
                    return Ok(Swept { target: name, fault, logins: 0, findings: held });
                }
            };
            let mut swept =
                Swept { target: name, fault: None, logins: look.logins, findings: held };
            let mut dealt = if act { self.deal_with(look, until).await? } else { planned(look) };
            swept.findings.append(&mut dealt);
            swept.findings.sort_by(|a, b| {
                (a.finding.kind, &a.finding.role).cmp(&(b.finding.kind, &b.finding.role))
            });
            Ok(swept)
        };
        let swept: Result<Vec<Swept>, Error> =
            join_all(targets.into_iter().map(sweep_one)).await.into_iter().collect();
        let targets = swept?;
        let plan = all.then(|| {
            plan_id(targets.iter().map(|swept| {
                let findings = swept.findings.iter().map(|told| &told.finding);
                (swept.target.as_str(), swept.fault.is_some(), findings.collect())
            }))
        });
        self.metrics.orphans(u64::try_from(self.store.count_orphans().await?).unwrap_or(0));
        Ok(Sweep { caution, plan, targets })
    }

    /// Looks at one target.
    async fn look_at(&self, target: Target) -> Result<Look, Error> {
        let before = by_role(self.store.live_logins(target.id).await?);
        let (target, handle) = self.handle(target.id).await?;
        let name = target.spec.name.as_str();
        let survey = tokio::time::timeout(LOOK_TIME, handle.survey())
            .await
            .map_err(|_| Error::TimedOut { what: "looking at all logins", lease: None })?
            .map_err(|e| Error::target(name, None, e))?;
        self.check_cluster(&target, survey.server.system_identifier).await?;
        let by = By {
            installation: self.standing.installation,
            skew: (survey.server.now - self.clock.now()).abs(),
        };
        let first = compare(by, &survey.logins, &before);
        let roles: Vec<String> = first.iter().map(|finding| finding.role.clone()).collect();
        let after = by_role(self.store.logins_named(target.id, &roles).await?);
        let mut findings = confirmed(by, &survey.logins, &before, &after, first);
        let oids: Vec<u32> = survey.roleless.iter().map(|(oid, _)| *oid).collect();
        for former in self.store.former_logins(target.id, &oids).await? {
            let count = survey.roleless.iter().find(|(oid, _)| *oid == former.oid);
            let count = count.map_or(0, |(_, count)| *count);
            findings.push(Finding {
                kind: Kind::Sessions,
                role: former.role,
                oid: Some(former.oid),
                lease_id: Some(former.lease_id),
                what: format!("{count} sessions go on, and their role is gone"),
                act: Act::EndSessions,
            });
        }
        let open = self.store.open_orphans(target.id).await?;
        let is_there = |role: &str, oid: u32| {
            survey.logins.iter().any(|login| login.oid == oid && login.role == role)
        };
        let gone = open.into_iter().filter(|orphan| !is_there(orphan.role.as_str(), orphan.oid));
        findings.extend(gone.map(|orphan| Finding {
            kind: Kind::Orphan,
            role: orphan.role.to_string(),
            oid: Some(orphan.oid),
            lease_id: None,
            what: "it was found before, and somebody removed it".to_owned(),
            act: Act::Quarantine,
        }));
        Ok(Look { target, by, logins: survey.logins.len(), findings })
    }

    /// An address may lead to another cluster some day: what is not there then was never there.
    async fn check_cluster(&self, target: &Target, seen: Option<i64>) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let known = tx.cluster_id(target.id).await?;
        match (known, seen) {
            (Some(known), Some(seen)) if known != seen => Err(Error::Conflict {
                code: "another_cluster",
                detail: format!(
                    "target `{}`: its address leads to another cluster than before; nothing there is compared with the record",
                    target.spec.name
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// What is done later because the time of one sweep is over.
pub(in crate::app) const LATER: &str = "left for the next sweep, which begins at once";

/// What a sweep that nobody asked for found, for the operator. What is never touched is in the answer
/// to whoever asks.
fn log(swept: &Swept) {
    let target = &swept.target;
    if let Some(fault) = &swept.fault {
        tracing::warn!(%target, fault, "a target could not be swept");
    }
    let is_ours = |told: &&Told| !matches!(told.finding.kind, Kind::Foreign | Kind::Unmarked);
    for Told { finding, done, .. } in swept.findings.iter().filter(is_ours) {
        let Finding { kind, role, what, .. } = finding;
        tracing::warn!(%target, kind = kind.as_str(), role, what, done, "a sweep found");
    }
}

fn by_role(logins: Vec<Recorded>) -> HashMap<String, Recorded> {
    logins.into_iter().map(|login| (login.role.clone(), login)).collect()
}

fn held_back(role: &str, lease_id: LeaseId, ends_at: DateTime<Utc>) -> Told {
    let finding = Finding {
        kind: Kind::Held,
        role: role.to_owned(),
        oid: None,
        lease_id: Some(lease_id),
        what: format!("it is over by the record: {}", ends_at.format("%Y-%m-%d %H:%M:%S UTC")),
        act: Act::Nothing,
    };
    Told { finding, done: "would be removed".to_owned(), failed: false }
}

fn planned(look: Look) -> Vec<Told> {
    let told = |finding: Finding| {
        let done = match &finding.act {
            Act::Nothing => "nothing",
            Act::Quarantine => "would be shut out at once, and removed after its grace",
            Act::End(..) => "would be removed",
            Act::Lose(..) => "would be recorded as lost",
            Act::PutBack(..) => "would be put back",
            Act::EndSessions => "would be ended",
        };
        Told { finding, done: done.to_owned(), failed: false }
    };
    look.findings.into_iter().map(told).collect()
}
