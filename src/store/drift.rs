//! Rows of `drift`: how targets differ from what profiles say, as they were last seen to.

use chrono::{DateTime, Utc};

use crate::{
    ids::ProfileId,
    store::{Store, Tx, error::Error},
};

/// How a target differs from a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The profile's name.
    pub profile: String,
    /// The target's name.
    pub target: String,
    /// When it was first seen to differ in this way.
    pub found_at: DateTime<Utc>,
    /// When it was last looked at.
    pub looked_at: DateTime<Utc>,
    /// What would be run to mend it.
    pub statements: Vec<String>,
    /// What to know.
    pub notes: Vec<String>,
}

impl Store {
    /// All that is known of, by profile.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn drift(&self) -> Result<Vec<Drift>, Error> {
        Ok(sqlx::query_as!(
            Drift,
            "SELECT p.name AS profile, t.name AS target, d.found_at, d.looked_at, d.statements, d.notes
             FROM drift d JOIN profile p ON p.id = d.profile_id JOIN target t ON t.id = p.target_id ORDER BY p.name"
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

impl Tx {
    /// Records that a target differs from a profile. True if that is news: it did not before, or in
    /// another way.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn record_drift(
        &mut self,
        id: ProfileId,
        statements: &[String],
        notes: &[String],
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let found_at = sqlx::query_scalar!(
            "INSERT INTO drift (profile_id, found_at, looked_at, statements, notes)
             SELECT id, $4, $4, $2, $3 FROM profile WHERE id = $1
             ON CONFLICT (profile_id) DO UPDATE
             SET looked_at = $4, statements = $2, notes = $3,
                 found_at = CASE WHEN drift.statements = $2 THEN drift.found_at ELSE $4 END
             RETURNING found_at",
            id.uuid(),
            statements,
            notes,
            now
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        // PostgreSQL keeps microseconds, as our clock does.
        Ok(found_at == Some(now))
    }

    /// Records that a target is as a profile says. True if it was not before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_drift(&mut self, id: ProfileId) -> Result<bool, Error> {
        let done = sqlx::query!("DELETE FROM drift WHERE profile_id = $1", id.uuid())
            .execute(&mut *self.inner)
            .await?;
        Ok(done.rows_affected() > 0)
    }
}
