//! Revoke: record the wish, and let the loop that ends leases carry it out, here or on another
//! daemon. The caller waits a little for the proof, and otherwise is told "revoking".

use chrono::{DateTime, Utc};

use crate::{
    app::{App, LeaseFilter, Origin, error::Error, issue::PATIENCE, show::is_own},
    domain::{
        administration::Right,
        audit::Event,
        lease::{Cause, Lease, State},
    },
    identity::Caller,
    ids::LeaseId,
    store::{self, Tx, ending::Locked},
};

/// States of a lease that can be revoked.
const LIVE: [State; 3] = [State::Provisioning, State::Active, State::Revoking];

/// Leases of a set that are taken at a time.
const PAGE: i64 = 200;

/// How often a waiting caller looks, in case another daemon does the work.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

impl App {
    /// Revokes one lease. Revoking what is over already is no error.
    ///
    /// # Errors
    /// If there is no such lease for this caller, or our database does not answer.
    pub async fn revoke(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
    ) -> Result<Lease, Error> {
        let lease = self.lease_to_change(caller, origin, id).await?;
        self.refuse_standing(id).await?;
        self.start_revoking(caller, origin, &lease).await?;
        let mut leases = vec![lease];
        self.wait_until_gone(caller, &mut leases).await?;
        leases.pop().ok_or_else(|| Error::not_found("lease", id.to_string()))
    }

    /// Revokes every live lease that meets the filter, which must say something. The leases of standing
    /// roles were asked for by nobody, and are left alone.
    ///
    /// # Errors
    /// If it says nothing, or our database does not answer: what was recorded until then is revoked.
    pub async fn revoke_set(
        &self,
        caller: &Caller,
        origin: &Origin,
        mut filter: LeaseFilter,
    ) -> Result<Vec<Lease>, Error> {
        let says_nothing = filter.person.is_none()
            && filter.profile.is_none()
            && filter.tool.is_none()
            && filter.target.is_none();
        if says_nothing {
            let message = "say which leases: at least one of person, tool, profile, target";
            return Err(Error::invalid("person", message));
        }
        if !caller.may(Right::Leases) {
            filter.principal_id = Some(caller.principal().id);
            filter.job = caller.job().map(|job| job.seen.job.clone());
        }
        filter.states = Some(LIVE.to_vec());
        let standing = self.store.leases_of_standing_roles().await?;
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.leases(caller, filter.clone(), before, PAGE).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            let page: Vec<_> =
                page.into_iter().filter(|lease| !standing.contains(&lease.id)).collect();
            self.start_revoking_all(caller, origin, &page).await?;
            found.extend(page);
        }
        self.wait_until_gone(caller, &mut found).await?;
        Ok(found)
    }

    /// Records that leases end, all in one transaction; those that somebody keeps locked each in its own.
    async fn start_revoking_all(
        &self,
        caller: &Caller,
        origin: &Origin,
        leases: &[Lease],
    ) -> Result<(), Error> {
        let may_end = |lease: &Lease| is_own(caller, lease) || caller.may(Right::Leases);
        debug_assert!(leases.iter().all(may_end), "the leases were looked up for this caller");
        let (now, cause) = (self.clock.now(), Cause::Revoked);
        let ids: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
        let mut tx = self.store.begin().await?;
        let ours = tx.lock_leases(&ids, Locked::LeftOut).await?;
        let (ours, locked): (Vec<_>, Vec<_>) =
            leases.iter().partition(|lease| ours.contains(&lease.id));
        let ids: Vec<LeaseId> = ours.iter().map(|lease| lease.id).collect();
        let ending: Vec<_> = tx.start_revoking_set(&ids, cause).await?;
        let with_cause: Vec<_> = ending.iter().map(|id| (*id, cause)).collect();
        let logins = tx.start_revoking_others(&with_cause, now).await?;
        let of_leases = ending.into_iter().map(|lease_id| Event::LeaseRevoking { lease_id, cause });
        let of_logins = logins.into_iter().map(|login| Event::LoginRevoking {
            lease_id: login.lease_id,
            login_id: login.login_id,
            role: login.role,
            cause,
        });
        let entries: Vec<_> =
            of_leases.chain(of_logins).map(|event| origin.entry(caller, now, event)).collect();
        tx.audit_all(&entries).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        for lease in locked {
            self.start_revoking(caller, origin, lease).await?;
        }
        Ok(())
    }

    /// Records that a lease ends.
    pub(in crate::app) async fn start_revoking(
        &self,
        caller: &Caller,
        origin: &Origin,
        lease: &Lease,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        if !self.record_revoking(&mut tx, caller, origin, lease.id).await? {
            return Ok(());
        }
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Records within a transaction that a lease and its logins end. False if it was ending already.
    pub(in crate::app) async fn record_revoking(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        origin: &Origin,
        lease_id: LeaseId,
    ) -> Result<bool, Error> {
        let now = self.clock.now();
        let Some(events) = start_ending(tx, lease_id, now).await? else { return Ok(false) };
        for event in events {
            tx.audit(&origin.entry(caller, now, event)).await?;
        }
        Ok(true)
    }

    async fn wait_until_gone(&self, caller: &Caller, leases: &mut [Lease]) -> Result<(), Error> {
        let mut removed = self.removed.subscribe();
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let waiting = leases.iter().filter(|lease| lease.state != State::Revoked);
            let waiting: Vec<LeaseId> = waiting.map(|lease| lease.id).collect();
            if waiting.is_empty() {
                return Ok(());
            }
            // One question for all of them: each removal wakes everybody who waits.
            let over = self.store.over_among(&waiting).await?;
            for lease in leases.iter_mut().filter(|lease| over.contains(&lease.id)) {
                *lease = self.lease(caller, lease.id).await?;
            }
            if over.len() == waiting.len() {
                return Ok(());
            }
            tokio::select! {
                () = &mut patience => break,
                _ = removed.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        for lease in leases.iter_mut().filter(|lease| lease.state != State::Revoked) {
            *lease = self.lease(caller, lease.id).await?;
        }
        Ok(())
    }

    /// Tells those who wait that a login was removed.
    pub(in crate::app) fn tell_removed(&self) {
        self.removed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Records that a lease and its logins are being revoked. Gives what the audit is to say of it; none if the
/// lease was ending already.
pub(in crate::app) async fn start_ending(
    tx: &mut Tx,
    lease_id: LeaseId,
    now: DateTime<Utc>,
) -> Result<Option<Vec<Event>>, store::error::Error> {
    let cause = Cause::Revoked;
    if !tx.start_revoking_lease(lease_id, cause).await? {
        return Ok(None);
    }
    let mut events = vec![Event::LeaseRevoking { lease_id, cause }];
    for (login_id, role) in tx.start_revoking_logins_of(lease_id, cause, now).await? {
        events.push(Event::LoginRevoking { lease_id, login_id, role, cause });
    }
    Ok(Some(events))
}
