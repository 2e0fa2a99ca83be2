//! How many leases may live, and how often may be asked: counted in the statement that records one more.
//!
//! A count holds only while nobody else counts the same: whoever records a lease that has a limit first takes a
//! lock named after what the limit counts, on all daemons alike, and the statement that counts begins after that.
//! Leases without limits take none.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, types::Json};
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
        issuing::{self, Intent, Record},
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

/// What bounds one intent.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) struct Bounds {
    limits: Limits,
    profile: Uuid,
    target: Uuid,
    principal: Uuid,
    /// The id that a lease made at the beginning of the rate's window would have had at the least.
    window: Option<Uuid>,
}

impl Bounds {
    pub(in crate::store) fn of(intent: &Intent<'_>) -> Option<Self> {
        let (lease, limits) = (intent.lease, intent.limits);
        (!limits.are_none()).then(|| Self {
            limits,
            profile: lease.profile_id.map(ProfileId::uuid).unwrap_or_default(),
            target: lease.target_id.uuid(),
            principal: lease.principal_id.uuid(),
            window: limits.rate.map(|rate| window(lease.created_at, rate)),
        })
    }

    /// What its limits count, each with the limit.
    fn scopes(&self) -> impl Iterator<Item = (Scope, i64)> {
        let Self { limits, profile, target, principal, .. } = self;
        let rate = limits.rate.map(|rate| rate.most);
        [
            (Scope::Profile(*profile), limits.profile),
            (Scope::Each(*profile, *principal), limits.each),
            (Scope::Recent(*profile, *principal), rate),
            (Scope::Target(*target), limits.target),
            (Scope::Caller(*principal), limits.caller),
        ]
        .into_iter()
        .filter_map(|(scope, limit)| Some((scope, i64::from(limit?))))
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Profile(Uuid),
    Each(Uuid, Uuid),
    Recent(Uuid, Uuid),
    Target(Uuid),
    Caller(Uuid),
}

impl Scope {
    /// Its lock.
    fn lock(self) -> i64 {
        let key = match self {
            Self::Profile(id) | Self::Target(id) | Self::Caller(id) => id.as_u128(),
            // What of one caller under one profile is counted twice has one lock.
            Self::Each(profile, principal) | Self::Recent(profile, principal) => {
                profile.as_u128() ^ principal.as_u128().rotate_left(1)
            }
        };
        let [half, other] = [key >> 64, key & u128::from(u64::MAX)];
        i64::from_ne_bytes((u64::try_from(half ^ other).unwrap_or(0)).to_ne_bytes())
    }
}

/// The id that a lease made at the beginning of the window would have had at the least: ids begin with the
/// instant at which they were made (RFC 9562, version 7), so that the index on them will do.
fn window(now: DateTime<Utc>, rate: Rate) -> Uuid {
    let from = (now - rate.within.delta()).timestamp_millis();
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(from).unwrap_or(0), &[0; 10])
        .into_uuid()
}

/// Records intents; gives those that were recorded.
pub(in crate::store) async fn intents(
    pool: &PgPool,
    records: &[&Record],
) -> Result<Vec<Uuid>, Error> {
    let bounds: Vec<&Bounds> = records.iter().filter_map(|record| record.bounds.as_ref()).collect();
    if bounds.is_empty() {
        return issuing::intents(pool, records).await;
    }
    let scopes: BTreeSet<Scope> =
        bounds.iter().flat_map(|bounds| bounds.scopes()).map(|(scope, _)| scope).collect();
    // In one order for everybody, so that nobody waits in a circle.
    let locks: BTreeSet<i64> = scopes.into_iter().map(Scope::lock).collect();
    let mut tx = pool.begin().await?;
    for lock in locks {
        sqlx::query!("SELECT pg_advisory_xact_lock($1) AS taken", lock).fetch_one(&mut *tx).await?;
    }
    let there = count(&mut tx, &bounds).await?;
    let within = within(records, there);
    let recorded = issuing::intents(&mut *tx, &within).await?;
    tx.commit().await?;
    Ok(recorded)
}

/// Those for which there is room, one after the other.
fn within<'a>(records: &[&'a Record], mut there: BTreeMap<Scope, i64>) -> Vec<&'a Record> {
    let mut has_room = |record: &&&Record| {
        let Some(bounds) = &record.bounds else { return true };
        let full = |(scope, most): (Scope, i64)| there.get(&scope).is_some_and(|n| *n >= most);
        if bounds.scopes().any(full) {
            return false;
        }
        for (scope, _) in bounds.scopes() {
            *there.entry(scope).or_default() += 1;
        }
        true
    };
    records.iter().filter(|record| has_room(record)).copied().collect()
}

/// How many there are of what these limits count.
async fn count(
    connection: &mut PgConnection,
    bounds: &[&Bounds],
) -> Result<BTreeMap<Scope, i64>, Error> {
    let mut asked: Vec<&Bounds> = Vec::new();
    for one in bounds {
        let same = |other: &&Bounds| {
            (other.profile, other.target, other.principal)
                == (one.profile, one.target, one.principal)
        };
        // The first of those that differ in their window alone looks back furthest.
        if !asked.iter().any(same) {
            asked.push(one);
        }
    }
    let row = |one: &&Bounds| {
        serde_json::json!({
            "profile": one.limits.profile.map(|_| one.profile),
            "profile_each": (one.limits.each.is_some() || one.window.is_some()).then_some(one.profile),
            "principal": one.principal,
            "window": one.window,
            "target": one.limits.target.map(|_| one.target),
            "caller": one.limits.caller.map(|_| one.principal),
        })
    };
    let rows = Json(asked.iter().map(row).collect::<Vec<_>>());
    // What is asked with a null counts nothing, and reads nothing.
    let found = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM lease WHERE profile_id = a.profile AND state <> 'revoked') AS "profile!",
                  (SELECT count(*) FROM lease
                   WHERE principal_id = a.principal AND profile_id = a.profile_each AND state <> 'revoked') AS "each!",
                  (SELECT count(*) FROM lease
                   WHERE principal_id = a.principal AND profile_id = a.profile_each AND id > a."window"
                     AND cause IS DISTINCT FROM 'failed') AS "recent!",
                  (SELECT count(*) FROM lease WHERE target_id = a.target AND state <> 'revoked') AS "target!",
                  (SELECT count(*) FROM lease WHERE principal_id = a.caller AND state <> 'revoked') AS "caller!"
           FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (
                    profile uuid, profile_each uuid, principal uuid, "window" uuid, target uuid, caller uuid))
                WITH ORDINALITY AS a (profile, profile_each, principal, "window", target, caller, nth)
           ORDER BY nth"#,
        rows as _
    )
    .fetch_all(connection)
    .await?;
    let counts = asked.iter().zip(found).flat_map(|(one, row)| {
        [
            (Scope::Profile(one.profile), row.profile),
            (Scope::Each(one.profile, one.principal), row.each),
            (Scope::Recent(one.profile, one.principal), row.recent),
            (Scope::Target(one.target), row.target),
            (Scope::Caller(one.principal), row.caller),
        ]
    });
    // Whoever asks without a limit on something counts nothing of it: the most that anybody saw is true.
    let mut there = BTreeMap::new();
    for (scope, n) in counts {
        let seen = there.entry(scope).or_insert(n);
        *seen = n.max(*seen);
    }
    Ok(there)
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
