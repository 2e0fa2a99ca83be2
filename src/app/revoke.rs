//! Revoke: record the wish, and let the loop that ends leases carry it out, here or on another
//! daemon. The caller waits a little for the proof, and otherwise is told "revoking".

use crate::{
    app::{App, LeaseFilter, Origin, error::Error, issue::PATIENCE, may_touch},
    domain::{
        access::Fault,
        audit::Event,
        lease::{Cause, Lease, State},
    },
    identity::Caller,
    ids::LeaseId,
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
        let lease = self.lease(caller, id).await?;
        self.start_revoking(caller, origin, &lease).await?;
        let mut leases = vec![lease];
        self.wait_until_gone(caller, &mut leases).await?;
        leases.pop().ok_or_else(|| Error::not_found("lease", id.to_string()))
    }

    /// Revokes every live lease that meets the filter, which must say something.
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
            let message =
                "say which leases: at least one of person, tool, profile, target".to_owned();
            return Err(Error::Invalid(vec![Fault { field: "person", message }]));
        }
        filter.states = Some(LIVE.to_vec());
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.leases(caller, filter.clone(), before, PAGE).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            for lease in page {
                self.start_revoking(caller, origin, &lease).await?;
                found.push(lease);
            }
        }
        self.wait_until_gone(caller, &mut found).await?;
        Ok(found)
    }

    async fn start_revoking(
        &self,
        caller: &Caller,
        origin: &Origin,
        lease: &Lease,
    ) -> Result<(), Error> {
        debug_assert!(may_touch(caller, lease), "the lease was looked up for this caller");
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if !tx.start_revoking_lease(lease.id, Cause::Revoked).await? {
            return Ok(());
        }
        let event = Event::LeaseRevoking { lease_id: lease.id, cause: Cause::Revoked };
        tx.audit(&origin.entry(caller, now, event)).await?;
        for (login_id, role) in tx.start_revoking_logins_of(lease.id, Cause::Revoked, now).await? {
            let event =
                Event::LoginRevoking { lease_id: lease.id, login_id, role, cause: Cause::Revoked };
            tx.audit(&origin.entry(caller, now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }

    async fn wait_until_gone(&self, caller: &Caller, leases: &mut [Lease]) -> Result<(), Error> {
        let mut removed = self.removed.subscribe();
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let mut waiting = false;
            for lease in leases.iter_mut().filter(|lease| lease.state != State::Revoked) {
                *lease = self.lease(caller, lease.id).await?;
                waiting |= lease.state != State::Revoked;
            }
            if !waiting {
                return Ok(());
            }
            tokio::select! {
                () = &mut patience => return Ok(()),
                _ = removed.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Tells those who wait that a login was removed.
    pub(in crate::app) fn tell_removed(&self) {
        self.removed.send_modify(|count| *count = count.wrapping_add(1));
    }
}
