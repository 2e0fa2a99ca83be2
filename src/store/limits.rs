//! How many leases may live, and how often may be asked: counted in the statement that records one more.
//!
//! A count holds only while nobody else counts the same: whoever records a lease that has a limit first takes a
//! lock named after what the limit counts, on all daemons alike, and the statement that counts begins after that.
//! Leases without limits take none.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use crate::{
    domain::{
        conditions::{Limits, Rate},
        policy::{Limit, Reached},
    },
    ids::{PrincipalId, ProfileId, TargetId},
    store::{
        Store,
        error::Error,
        issuing::{self, Intent},
    },
};

/// The longest that somebody who met a limit is told to wait: leases end before their time, too.
const LONGEST_WAIT: i64 = 60;

/// Whose leases are counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Those under this profile.
    pub profile: ProfileId,
    /// Those on this target.
    pub target: TargetId,
    /// Those of this caller.
    pub principal: PrincipalId,
}

/// How many of what a limit counts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The limit.
    pub limit: Limit,
    /// What it is.
    pub most: i32,
    /// How many there are.
    pub there: i64,
    /// When the first of them counts no more.
    pub next_end: Option<DateTime<Utc>>,
}

/// The names of the locks that an intent needs.
pub(in crate::store) fn locks(intent: &Intent<'_>) -> Vec<String> {
    let Limits { profile, each, rate, target, caller } = intent.limits;
    let lease = intent.lease;
    let mut locks = Vec::new();
    if profile.is_some() || each.is_some() || rate.is_some() {
        locks.extend(lease.profile_id.map(|id| id.to_string()));
    }
    if target.is_some() {
        locks.push(lease.target_id.to_string());
    }
    if caller.is_some() {
        locks.push(lease.principal_id.to_string());
    }
    locks
}

/// The id that a lease made at the beginning of the window would have had at the least: ids begin with the
/// instant at which they were made (RFC 9562, version 7), so that the index on them will do.
pub(in crate::store) fn window(now: DateTime<Utc>, rate: Rate) -> Uuid {
    let from = (now - rate.within.delta()).timestamp_millis();
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(from).unwrap_or(0), &[0; 10])
        .into_uuid()
}

/// Records intents; gives those that were recorded.
pub(in crate::store) async fn intents(
    pool: &PgPool,
    rows: Json<Vec<&Value>>,
) -> Result<Vec<Uuid>, Error> {
    let locks = rows.iter().filter_map(|row| row.get("limited_by")?.as_array());
    let mut locks: Vec<String> =
        locks.flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if locks.is_empty() {
        return issuing::intents(pool, &rows).await;
    }
    // In one order for everybody, so that nobody waits in a circle.
    locks.sort_unstable();
    locks.dedup();
    let mut tx = pool.begin().await?;
    for lock in &locks {
        sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended($1, 8)) AS taken", lock)
            .fetch_one(&mut *tx)
            .await?;
    }
    let recorded = issuing::intents(&mut *tx, &rows).await?;
    tx.commit().await?;
    Ok(recorded)
}

impl Store {
    /// How many there are of what these limits count.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_for_limits(
        &self,
        limits: &Limits,
        of: Counted,
        now: DateTime<Utc>,
    ) -> Result<Vec<Count>, Error> {
        let (principal, profile) = (of.principal.uuid(), of.profile.uuid());
        let from = limits.rate.map(|rate| window(now, rate));
        let found = sqlx::query!(
            r#"SELECT count(*) FILTER (WHERE live AND profile_id = $2) AS "profile!",
                      min(expires_at) FILTER (WHERE live AND profile_id = $2) AS profile_end,
                      count(*) FILTER (WHERE live AND profile_id = $2 AND principal_id = $1) AS "each!",
                      min(expires_at) FILTER (WHERE live AND profile_id = $2 AND principal_id = $1) AS each_end,
                      count(*) FILTER (WHERE live AND target_id = $3) AS "target!",
                      min(expires_at) FILTER (WHERE live AND target_id = $3) AS target_end,
                      count(*) FILTER (WHERE live AND principal_id = $1) AS "caller!",
                      min(expires_at) FILTER (WHERE live AND principal_id = $1) AS caller_end,
                      count(*) FILTER (WHERE recent) AS "recent!",
                      min(created_at) FILTER (WHERE recent) AS recent_begin
               FROM (SELECT profile_id, principal_id, target_id, expires_at, created_at, true AS live, false AS recent
                     FROM lease WHERE state <> 'revoked' AND (profile_id = $2 OR principal_id = $1 OR target_id = $3)
                     UNION ALL
                     SELECT profile_id, principal_id, target_id, expires_at, created_at, false, true
                     FROM lease WHERE principal_id = $1 AND profile_id = $2 AND id > $4
                       AND cause IS DISTINCT FROM 'failed') AS counted"#,
            principal,
            profile,
            of.target.uuid(),
            from as Option<Uuid>
        )
        .fetch_one(&self.pool)
        .await?;
        let rate_end = limits.rate.and_then(|rate| Some(found.recent_begin? + rate.within.delta()));
        let counts = [
            (Limit::Profile, limits.profile, found.profile, found.profile_end),
            (Limit::Each, limits.each, found.each, found.each_end),
            (Limit::Rate, limits.rate.map(|rate| rate.most), found.recent, rate_end),
            (Limit::Target, limits.target, found.target, found.target_end),
            (Limit::Caller, limits.caller, found.caller, found.caller_end),
        ];
        let counts = counts.into_iter().filter_map(|(limit, most, there, next_end)| {
            Some(Count { limit, most: most?, there, next_end })
        });
        Ok(counts.collect())
    }
}

impl Count {
    /// Is it reached? Then when it may be tried again.
    #[must_use]
    pub fn reached(&self, now: DateTime<Utc>) -> Option<Reached> {
        if self.there < i64::from(self.most) {
            return None;
        }
        let wait = self.next_end.map_or(1, |end| (end - now).num_seconds() + 1);
        let wait = wait.clamp(1, LONGEST_WAIT);
        let retry_after_seconds = u64::try_from(wait).unwrap_or(1);
        Some(Reached { limit: self.limit, most: self.most, retry_after_seconds })
    }
}
