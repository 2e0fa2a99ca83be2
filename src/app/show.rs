//! Leases as they stand.

use crate::{
    app::{App, LeaseFilter, Origin, error::Error},
    domain::{administration::Right, lease::Lease},
    identity::Caller,
    ids::LeaseId,
};

impl App {
    /// One lease.
    ///
    /// # Errors
    /// If there is none, or it is not the caller's to see, which is answered alike.
    pub async fn lease(&self, caller: &Caller, id: LeaseId) -> Result<Lease, Error> {
        let lease = self.store.lease(id).await?;
        lease
            .filter(|lease| is_own(caller, lease) || caller.may(Right::Read))
            .ok_or_else(|| Error::not_found("lease", id.to_string()))
    }

    /// One lease, to be ended or made longer: the caller's own, or any if it holds the right to that.
    ///
    /// # Errors
    /// If there is none, or it is not the caller's to change.
    pub(in crate::app) async fn lease_to_change(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
    ) -> Result<Lease, Error> {
        let lease = self.lease(caller, id).await?;
        if !is_own(caller, &lease) {
            let what = "changing somebody else's lease";
            self.admin(caller, origin, (&[Right::Leases], what)).await?;
        }
        Ok(lease)
    }

    /// One lease, to be handed out another credential of: the caller's own and nobody else's, whatever rights
    /// it holds. Who signs in is whom the login's name and the audit say.
    ///
    /// # Errors
    /// If there is none, or it is somebody else's.
    pub(in crate::app) async fn own_lease(
        &self,
        caller: &Caller,
        id: LeaseId,
    ) -> Result<Lease, Error> {
        let lease = self.lease(caller, id).await?;
        // That of a standing role is nobody's, and that is said first.
        self.refuse_standing(id).await?;
        if is_own(caller, &lease) { Ok(lease) } else { Err(Error::NotYours) }
    }

    /// A page of leases, newest first: the caller's own, or all if it may read everything.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn leases(
        &self,
        caller: &Caller,
        mut filter: LeaseFilter,
        before: Option<LeaseId>,
        limit: i64,
    ) -> Result<Vec<Lease>, Error> {
        if !caller.may(Right::Read) {
            filter.principal_id = Some(caller.principal().id);
            filter.job = caller.job().map(|job| job.seen.job.clone());
        }
        Ok(self.store.leases(&filter, before, limit).await?)
    }
}

/// Is it this caller's own? A job's are those that it asked for itself, and not those of others under its rule.
pub(in crate::app) fn is_own(caller: &Caller, lease: &Lease) -> bool {
    let is_same_job =
        caller.job().is_none_or(|job| lease.job.as_deref() == Some(job.seen.job.as_str()));
    caller.principal().id == lease.principal_id && is_same_job
}
