//! Is the record to be believed? What speaks for and against it, in the one row of `installation`.

use chrono::{DateTime, Utc};

use crate::{
    domain::audit::Hash,
    store::{Store, Tx, error::Error},
};

/// What is recorded of it.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// When a daemon last found all well, by its clock.
    pub seen_at: Option<DateTime<Utc>>,
    /// The caution, if there is one: since when, and why.
    pub caution: Option<(DateTime<Utc>, String)>,
    /// How far the audit is sealed.
    pub position: i64,
    /// The clock of the database.
    pub now: DateTime<Utc>,
}

impl Store {
    /// Reads it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn standing(&self) -> Result<Standing, Error> {
        let row = sqlx::query!(
            r#"SELECT i.seen_at, i.cautious_since, i.cautious_because, h.position,
                      clock_timestamp() AS "now!"
               FROM installation i CROSS JOIN audit_head h"#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Standing {
            seen_at: row.seen_at,
            caution: row.cautious_since.zip(row.cautious_because),
            position: row.position,
            now: row.now,
        })
    }

    /// The hash at a position of the audit, if it is known.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn sealed_hash(&self, position: i64) -> Result<Option<Hash>, Error> {
        let hash = sqlx::query_scalar!(
            r#"SELECT hash AS "hash!" FROM audit_entry WHERE position = $1"#,
            position
        )
        .fetch_optional(&self.pool)
        .await?;
        hash.map(|bytes| Hash::from_bytes(&bytes).ok_or(Error::Unreadable("hash"))).transpose()
    }

    /// Records that all is well now.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_well(&self, now: DateTime<Utc>) -> Result<(), Error> {
        sqlx::query!("UPDATE installation SET seen_at = $1 WHERE cautious_since IS NULL", now)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

impl Tx {
    /// Begins a caution, unless there is one. True if there was none.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin_caution(
        &mut self,
        because: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE installation SET cautious_since = $1, cautious_because = $2 WHERE cautious_since IS NULL",
            now,
            because
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends the caution that began at `since`; from now on the clock is believed. False if there is no
    /// such one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn end_caution(
        &mut self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE installation SET cautious_since = NULL, cautious_because = NULL, seen_at = $2
             WHERE cautious_since = $1",
            since,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}
