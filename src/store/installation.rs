//! The one row of `installation`: which installation this is, and the proof that the daemon holds
//! the master key that the sealed values were sealed under.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::{Store, Tx, error::Error, exactly_one};

/// The one row.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Which installation.
    pub id: Uuid,
    /// A known text, sealed.
    pub key_check: Vec<u8>,
    /// When the first administrator's token was made.
    pub bootstrapped_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Reads it; none on a database that no daemon has started on.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn installation(&self) -> Result<Option<Installation>, Error> {
        let row = sqlx::query_as!(
            Installation,
            "SELECT id, key_check, bootstrapped_at FROM installation"
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }

    /// Records it, unless another daemon was first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn record_installation(
        &self,
        id: Uuid,
        key_check: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO installation (id, key_check, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            id,
            key_check,
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Tx {
    /// Records that the first administrator's token was made.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it was made before.
    pub async fn mark_bootstrapped(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE installation SET bootstrapped_at = $1 WHERE bootstrapped_at IS NULL",
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }
}
