//! What is rotated on a schedule: claimed when it is due, and alarmed when it should have been done.
//!
//! When something is due stands in the record, so what was missed while no daemon ran is done at the
//! next start. A claim is kept up while the work goes on, and one of a daemon that died is soon over;
//! what was begun under it is then found in the record and finished, or begun anew.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{App, ClaimedAdmin, ClaimedStandingRole, error::Error, own_entry},
    domain::audit::Event,
    rng, store,
};

/// How long a claim lasts: longer than a target takes to set a password once the claim was looked at
/// ([`crate::target::SETS_WITHIN`]), so that no two daemons set one at a time.
pub(in crate::app) const CLAIM: TimeDelta = TimeDelta::seconds(15);

/// How often a claim is kept up.
const KEEP_EVERY: Duration = Duration::from_secs(4);

/// How long one try may take in all.
pub(in crate::app) const DEADLINE: Duration = Duration::from_secs(40);

/// How late the renewal of an administrator's password may be before it counts as overdue.
const ADMIN_WINDOW: TimeDelta = TimeDelta::hours(1);

/// What is claimed, for keeping the claim.
#[derive(Clone, Copy)]
pub(in crate::app) enum Claim<'a> {
    Admin(&'a ClaimedAdmin),
    StandingRole(&'a ClaimedStandingRole),
}

/// Counts of what is overdue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overdue {
    /// Standing roles.
    pub standing_roles: usize,
    /// Administrators' passwords.
    pub admins: usize,
}

impl App {
    /// Claims up to `limit` standing roles whose rotation is due.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn claim_due_standing_roles(
        &self,
        limit: i64,
    ) -> Result<Vec<ClaimedStandingRole>, Error> {
        let now = self.clock.now();
        Ok(self.store.claim_due_standing_roles(now, now + CLAIM, limit).await?)
    }

    /// Claims up to `limit` administrators' passwords whose renewal is due.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn claim_due_admins(&self, limit: i64) -> Result<Vec<ClaimedAdmin>, Error> {
        let now = self.clock.now();
        Ok(self.store.claim_due_admins(now, now + CLAIM, limit).await?)
    }

    /// Tells, once for each, what should have been rotated by now.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn tell_overdue(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let roles = tx.mark_overdue_standing_roles(now).await?;
        let admins = tx.mark_overdue_admins(now - ADMIN_WINDOW, now).await?;
        if roles.is_empty() && admins.is_empty() {
            return Ok(());
        }
        for (standing_role_id, standing_role, due_at) in roles {
            alarm("standing role", &standing_role, due_at);
            let event = Event::StandingRoleOverdue { standing_role_id, standing_role, due_at };
            tx.audit(&own_entry(now, event)).await?;
        }
        for (target_id, target, due_at) in admins {
            alarm("admin of target", &target, due_at);
            let event = Event::TargetAdminOverdue { target_id, target, due_at };
            tx.audit(&own_entry(now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Counts what is overdue.
    pub(in crate::app) async fn overdue(&self) -> Result<Overdue, Error> {
        let now = self.clock.now();
        let roles = self.store.standing_roles().await?;
        let admins = self.store.admin_rotations().await?;
        let late = |due_at: DateTime<Utc>| due_at + ADMIN_WINDOW < now;
        Ok(Overdue {
            standing_roles: roles.iter().filter(|role| role.is_overdue(now)).count(),
            admins: admins.iter().filter(|(_, stands)| stands.due_at.is_some_and(late)).count(),
        })
    }

    /// What is overdue, by name.
    pub(in crate::app) async fn overdue_rotations(&self) -> Result<Vec<String>, Error> {
        let now = self.clock.now();
        let roles = self.store.standing_roles().await?;
        let late = roles.iter().filter(|role| role.is_overdue(now));
        let mut names: Vec<_> =
            late.map(|role| format!("standing role {}", role.spec.name)).collect();
        for (target, stands) in self.store.admin_rotations().await? {
            if stands.due_at.is_some_and(|due_at| due_at + ADMIN_WINDOW < now) {
                names.push(format!("administrator of target {target}"));
            }
        }
        Ok(names)
    }

    /// Does work under a claim that is kept up meanwhile; none if the claim was lost.
    pub(in crate::app) async fn under_claim<T>(
        &self,
        claim: Claim<'_>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep(KEEP_EVERY) => {
                    // A database that does not answer now may do so before the claim ends.
                    if matches!(self.keep(claim).await, Err(store::error::Error::NotOneRow(_))) {
                        return None;
                    }
                }
            }
        }
    }

    /// Keeps a claim.
    pub(in crate::app) async fn keep(&self, claim: Claim<'_>) -> Result<(), store::error::Error> {
        let until = self.clock.now() + CLAIM;
        match claim {
            Claim::Admin(claimed) => self.store.keep_admin_claim(claimed, until).await,
            Claim::StandingRole(claimed) => self.store.keep_standing_claim(claimed, until).await,
        }
    }
}

fn alarm(what: &'static str, name: &str, due_at: DateTime<Utc>) {
    tracing::warn!(what, name, %due_at, "a rotation is overdue: `pgvalet standing list` and `pgvalet target show` say what is in the way");
}

/// A part of the jitter.
pub(in crate::app) fn chance() -> Result<u32, rng::NoRandomness> {
    rng::bytes().map(u32::from_be_bytes)
}

/// What stands in the way, in words that stay the same while it does: a target that is left alone for a
/// moment is so because of what was wrong before.
pub(in crate::app) fn in_the_way(error: &Error) -> String {
    match error {
        Error::Target { target, source: crate::target::Error::LeftAlone { why, .. }, .. } => {
            format!("target `{target}`: {why}")
        }
        other => other.detail(),
    }
}

/// How much shorter a wait is, from 0 to 1.
pub(in crate::app) fn jitter() -> f64 {
    chance().map_or(0.0, |chance| f64::from(chance) / f64::from(u32::MAX))
}
