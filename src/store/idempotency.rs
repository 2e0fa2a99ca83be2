//! Rows of `idempotency`: the same key twice gives the same answer, for a day.

use chrono::{DateTime, Utc};

use crate::{
    ids::{LeaseId, PrincipalId},
    store::{Store, Tx, error::Error},
};

impl Tx {
    /// Records the key of a request with its lease.
    ///
    /// # Errors
    /// A constraint `idempotency_key` if the key was used before.
    pub async fn record_idempotency_key(
        &mut self,
        principal: PrincipalId,
        key: &str,
        request_hash: &[u8],
        lease: LeaseId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO idempotency (principal_id, key, request_hash, lease_id, created_at)
             VALUES ($1, $2, $3, $4, $5)",
            principal.uuid(),
            key,
            request_hash,
            lease.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Frees a key whose lease failed, so that trying again is a new try.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn free_failed_idempotency_key(
        &mut self,
        principal: PrincipalId,
        key: &str,
    ) -> Result<(), Error> {
        sqlx::query!(
            "DELETE FROM idempotency i USING lease l
             WHERE i.principal_id = $1 AND i.key = $2 AND l.id = i.lease_id AND l.cause = 'failed'",
            principal.uuid(),
            key
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
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
