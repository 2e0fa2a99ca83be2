//! What is counted from the record for metrics, every few seconds: each by an index of what is live.

use chrono::{DateTime, Utc};

use crate::store::{Store, error::Error};

/// Counts of what is live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases that are being made.
    pub provisioning: i64,
    /// Leases that work.
    pub active: i64,
    /// Leases that are being ended.
    pub revoking: i64,
    /// Logins that should be gone.
    pub overdue: i64,
    /// Logins whose removal was tried in vain.
    pub stuck: i64,
    /// Audit entries that should be sealed.
    pub unsealed: i64,
    /// Audit entries that were not told to others.
    pub untold: i64,
}

impl Store {
    /// Counts what is live. A login is overdue if its end was before `late`, or if it is being ended
    /// and nobody looked at it since then, or tried four times in vain (which takes longer than
    /// `late` is ago); an entry is unsealed if it was written before `unsealed_since`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn counts(
        &self,
        late: DateTime<Utc>,
        unsealed_since: DateTime<Utc>,
    ) -> Result<Counts, Error> {
        Ok(sqlx::query_as!(
            Counts,
            r#"SELECT
                   count(*) FILTER (WHERE state = 'provisioning') AS "provisioning!",
                   count(*) FILTER (WHERE state = 'active') AS "active!",
                   count(*) FILTER (WHERE state = 'revoking') AS "revoking!",
                   (SELECT count(*) FROM login WHERE state <> 'revoked'
                        AND (ends_at < $1 OR (state = 'revoking' AND (due_at < $1 OR attempts > 3)))
                   ) AS "overdue!",
                   (SELECT count(*) FROM login WHERE state <> 'revoked' AND attempts > 0) AS "stuck!",
                   (SELECT count(*) FROM audit_entry WHERE position IS NULL AND created_at < $2) AS "unsealed!",
                   (SELECT count(*) FROM outbox) AS "untold!"
               FROM lease WHERE state <> 'revoked'"#,
            late,
            unsealed_since
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Connections of the pool: those in use, and those that idle.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        let all = u64::from(self.pool.size());
        let idle = u64::try_from(self.pool.num_idle()).unwrap_or(0);
        (all.saturating_sub(idle), idle)
    }
}
