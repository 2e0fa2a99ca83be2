//! Leases as they stand.

use crate::{
    app::{App, LeaseFilter, error::Error, may_touch},
    domain::lease::Lease,
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
            .filter(|lease| may_touch(caller, lease))
            .ok_or_else(|| Error::not_found("lease", id.to_string()))
    }

    /// A page of leases, newest first: the caller's own, or all if it administers.
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
        if !caller.principal().admin {
            filter.principal_id = Some(caller.principal().id);
        }
        Ok(self.store.leases(&filter, before, limit).await?)
    }
}
