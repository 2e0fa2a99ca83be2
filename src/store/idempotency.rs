//! Rows of `idempotency`: the same key twice gives the same answer, for a day.

use chrono::{DateTime, Utc};

use crate::{
    ids::{LeaseId, PrincipalId},
    store::{Store, error::Error},
};

impl Store {
    /// What was answered to a request with this key: the hash of that request, and its lease.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn answered_before(
        &self,
        principal: PrincipalId,
        key: &str,
    ) -> Result<Option<(Vec<u8>, LeaseId)>, Error> {
        let row = sqlx::query!(
            "SELECT request_hash, lease_id FROM idempotency WHERE principal_id = $1 AND key = $2",
            principal.uuid(),
            key
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| (row.request_hash, LeaseId::from(row.lease_id))))
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
