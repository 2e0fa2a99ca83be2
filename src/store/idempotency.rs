//! Rows of `idempotency`: the same key twice gives the same answer, for a day.

use chrono::{DateTime, Utc};

use crate::{
    ids::{AccessRequestId, LeaseId, PrincipalId},
    store::{Store, error::Error},
};

/// What the first request with a key was answered with.
#[derive(Debug, Clone, Copy)]
pub enum Before {
    /// A lease.
    Lease(LeaseId),
    /// A request that waits for others.
    Request(AccessRequestId),
}

impl Store {
    /// What was answered to a request with this key: the hash of that request, and its lease.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn answered_before(
        &self,
        principal: PrincipalId,
        key: &str,
    ) -> Result<Option<(Vec<u8>, Before)>, Error> {
        let row = sqlx::query!(
            "SELECT request_hash, lease_id, request_id FROM idempotency WHERE principal_id = $1 AND key = $2",
            principal.uuid(),
            key
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let before = match (row.lease_id, row.request_id) {
            (Some(lease), _) => Before::Lease(lease.into()),
            (None, Some(request)) => Before::Request(request.into()),
            (None, None) => return Err(Error::Unreadable("answer of an idempotency key")),
        };
        Ok(Some((row.request_hash, before)))
    }

    /// Forgets keys older than a given instant.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_idempotency_keys(&self, before: DateTime<Utc>) -> Result<u64, Error> {
        let done = sqlx::query!("DELETE FROM idempotency WHERE created_at < $1", before)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}
