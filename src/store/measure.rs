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
    /// Profiles whose target differs from them.
    pub drifted: i64,
    /// Audit entries that should be sealed.
    pub unsealed: i64,
    /// Audit entries that were not told to others.
    pub untold: i64,
}

/// What happened since an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent {
    /// Leases that were issued.
    pub issued: i64,
    /// Leases that were refused.
    pub refused: i64,
    /// Leases whose login could not be made.
    pub failed: i64,
    /// Leases that were renewed.
    pub renewed: i64,
    /// Leases that were given a fresh login.
    pub rotated: i64,
    /// Logins that were removed.
    pub removed: i64,
}

/// What waits for persons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How much of it there is.
    pub count: i64,
    /// Since when the oldest waits.
    pub oldest: Option<DateTime<Utc>>,
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
                   (SELECT count(*) FROM drift) AS "drifted!",
                   (SELECT count(*) FROM audit_entry WHERE position IS NULL AND created_at < $2) AS "unsealed!",
                   (SELECT count(*) FROM audit_entry WHERE position IS NULL)
                       + (SELECT h.position - t.position FROM audit_head h, audit_told t) AS "untold!"
               FROM lease WHERE ended_at IS NULL"#,
            late,
            unsealed_since
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Counts the requests that wait for others now.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn waiting_requests(&self, now: DateTime<Utc>) -> Result<Waiting, Error> {
        Ok(sqlx::query_as!(
            Waiting,
            r#"SELECT count(*) AS "count!", min(created_at) AS oldest FROM request
               WHERE ended_at IS NULL AND state = 'pending' AND lapse_at > $1"#,
            now
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Counts the emergencies that nobody else has looked at.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn open_emergencies(&self) -> Result<Waiting, Error> {
        Ok(sqlx::query_as!(
            Waiting,
            r#"SELECT count(*) AS "count!", min(l.created_at) AS oldest
               FROM emergency e JOIN lease l ON l.id = e.lease_id
               WHERE e.closed_at IS NULL AND l.cause IS DISTINCT FROM 'failed'"#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Counts the access reviews that are open, and those of them whose time is over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_open_reviews(&self, now: DateTime<Utc>) -> Result<(i64, i64), Error> {
        let row = sqlx::query!(
            r#"SELECT count(*) AS "open!", count(*) FILTER (WHERE due_at <= $1) AS "overdue!" FROM review
               WHERE state = 'open'"#,
            now
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((row.open, row.overdue))
    }

    /// Counts what the audit says since `from`. Its ids grow with time, so that a range of the index
    /// by kind is all that is read.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn happened_since(&self, from: DateTime<Utc>) -> Result<Recent, Error> {
        let millis = u64::try_from(from.timestamp_millis()).unwrap_or(0);
        let first = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
        Ok(sqlx::query_as!(
            Recent,
            r#"SELECT
                   count(*) FILTER (WHERE kind = 'lease.activated') AS "issued!",
                   count(*) FILTER (WHERE kind = 'lease.refused') AS "refused!",
                   count(*) FILTER (WHERE kind = 'lease.failed') AS "failed!",
                   count(*) FILTER (WHERE kind = 'lease.renewed') AS "renewed!",
                   count(*) FILTER (WHERE kind = 'lease.rotated') AS "rotated!",
                   count(*) FILTER (WHERE kind = 'login.removed') AS "removed!"
               FROM audit_entry
               WHERE id >= $1 AND kind IN ('lease.activated', 'lease.refused', 'lease.failed',
                                           'lease.renewed', 'lease.rotated', 'login.removed')"#,
            first
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// The targets by name, with how many leases are not over on each.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn live_leases_by_target(&self) -> Result<Vec<(String, i64)>, Error> {
        let rows = sqlx::query!(
            r#"SELECT t.name, (SELECT count(*) FROM lease l WHERE l.target_id = t.id AND l.ended_at IS NULL) AS "leases!"
               FROM target t WHERE t.removed_at IS NULL ORDER BY t.name"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.name, row.leases)).collect())
    }

    /// Connections of the pool: those in use, and those that idle.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        let all = u64::from(self.pool.size());
        let idle = u64::try_from(self.pool.num_idle()).unwrap_or(0);
        (all.saturating_sub(idle), idle)
    }
}
