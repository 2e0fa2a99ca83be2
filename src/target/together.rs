//! Logins that end at the same time are removed together: the same steps as in `remove.rs`, each taken
//! for all of them at once.
//!
//! A batch has no patience. A login about which anything is out of the ordinary (it owns something, a
//! session does not end, somebody else's lock is in the way, it is not there) falls out of it at any
//! step, and is removed by itself, which looks anew and can say what is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, postgres::types::Oid};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    domain::lease::{Proof, RemovalStep, StepTook},
    gather::{Bounds, Gather},
    target::{
        RemoveLogin,
        connect::{Connections, Patience, run},
        context,
        error::{self, Error, Meaning},
        fence::{self, Fences},
        remove::REMOVE,
        sql,
    },
    telemetry::{labels, metrics::Metrics},
};

/// Two batches keep two cores busy, and leave connections to those that go by themselves. A role that
/// does not go costs its batch a few tries more.
const BOUNDS: Bounds = Bounds { in_a_batch: 16, at_once: 2, waiting: 4096 };

/// Logins that are removed by themselves at once: each has a connection for as long as it takes.
const ALONE: usize = 2;

/// How long a batch waits for its sessions, and for clients that are just signing in.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// The logins of one target that are to be removed. Groups take turns.
pub(crate) struct Removals {
    fences: Arc<Fences>,
    metrics: Arc<Metrics>,
    jobs: Gather<String, Job, Option<Proof>>,
    /// Turns of those that are removed by themselves.
    pub(crate) alone: Semaphore,
}

/// A login to be removed. It owns what it needs: its caller may give up at any time.
struct Job {
    role: String,
    oid: u32,
    database: String,
    group_role: String,
    has_context: bool,
}

impl Removals {
    pub(crate) fn new(
        connections: Arc<Connections>,
        fences: Arc<Fences>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (of_batches, told) = (Arc::clone(&fences), Arc::clone(&metrics));
        let jobs = Gather::new(BOUNDS, move |jobs: Vec<Job>| {
            let (connections, fences) = (Arc::clone(&connections), Arc::clone(&of_batches));
            told.batched(labels::Queue::Removals, jobs.len());
            async move { remove_together(&connections, &fences, &jobs).await }
        });
        Self { fences, metrics, jobs, alone: Semaphore::new(ALONE) }
    }

    /// Removes a login together with others that end at the same time; none if it must be removed by
    /// itself.
    pub(crate) async fn remove(&self, login: &RemoveLogin<'_>) -> Option<Proof> {
        // One that was made as we never heard, or that an earlier try could not finish, takes longer.
        let oid = login.oid?;
        if self.fences.know(oid) {
            return None;
        }
        let job = Job {
            role: login.role.to_string(),
            oid,
            database: login.database.to_owned(),
            group_role: login.group_role.to_owned(),
            has_context: login.has_context,
        };
        let _queued = self.metrics.queued(labels::Queue::Removals);
        // Where too many wait, or a batch was broken off, it goes by itself.
        self.jobs.ask(job.group_role.clone(), job).await.ok().flatten()
    }
}

/// Removes as many of these logins as can be removed together; gives the proofs of those that were, in
/// the order of the jobs.
async fn remove_together(
    connections: &Connections,
    fences: &Fences,
    jobs: &[Job],
) -> Vec<Option<Proof>> {
    let mut batch = Batch { fences, steps: Vec::new() };
    let mut proven = match batch.remove(connections, jobs).await {
        Ok(proven) => proven,
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                count = jobs.len(),
                "logins are not removed together, but each by itself"
            );
            BTreeMap::new()
        }
    };
    jobs.iter().map(|job| proven.remove(&job.oid)).collect()
}

struct Batch<'a> {
    fences: &'a Fences,
    steps: Vec<StepTook>,
}

/// A login as it is seen before.
#[derive(FromRow)]
struct Found {
    place: i64,
    groups: Vec<String>,
}

/// The logins that are there under their own name and OID, with no power and nothing prepared by them
/// or in their group's name, and which nobody has made others members of. A standby, or an admin that
/// may not end sessions, finds none.
const FOUND: &str = "\
SELECT asked.place,
       ARRAY (SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
              WHERE m.member = r.oid ORDER BY 1) AS groups
FROM unnest($1::text[], $2::oid[], $3::text[]) WITH ORDINALITY AS asked (name, oid, group_role, place)
JOIN pg_roles r ON r.oid = asked.oid AND r.rolname = asked.name
WHERE r.rolcanlogin AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
  AND NOT pg_is_in_recovery() AND pg_has_role('pg_signal_backend', 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member
                  WHERE m.roleid = r.oid AND u.rolname <> current_user)
  AND NOT EXISTS (SELECT FROM pg_prepared_xacts p WHERE p.owner IN (asked.name, asked.group_role))
ORDER BY asked.place";

/// The logins that something has come to depend on since, or that are members of something still.
const SPOILT: &str = "\
SELECT roleid FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member
WHERE roleid = ANY ($1) AND u.rolname <> current_user
UNION SELECT member FROM pg_auth_members WHERE member = ANY ($1)
UNION SELECT refobjid FROM pg_shdepend
WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY ($1) AND classid <> 'pg_auth_members'::regclass";

/// What a target shows of a login that should be gone.
#[derive(FromRow)]
struct Seen {
    oid: Oid,
    role_absent: bool,
    sessions_left: i64,
    databases_not_seen: Vec<String>,
    seen_at: DateTime<Utc>,
}

const LOOK: &str = "\
WITH closed AS (
    SELECT ARRAY (SELECT datname::text FROM pg_database
                  WHERE NOT (datallowconn AND has_database_privilege(oid, 'CONNECT'))
                    AND datname <> 'template0' ORDER BY 1 LIMIT 20) AS databases
), session AS (SELECT usesysid, count(*) AS count FROM pg_stat_activity WHERE usesysid = ANY ($2) GROUP BY 1)
SELECT asked.oid,
       NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = asked.name OR r.oid = asked.oid) AS role_absent,
       coalesce((SELECT count FROM session WHERE usesysid = asked.oid), 0) AS sessions_left,
       (SELECT databases FROM closed) AS databases_not_seen,
       clock_timestamp() AS seen_at
FROM unnest($1::text[], $2::oid[]) AS asked (name, oid)";

impl Batch<'_> {
    async fn remove(
        &mut self,
        connections: &Connections,
        jobs: &[Job],
    ) -> Result<BTreeMap<u32, Proof>, Error> {
        let Some(first) = jobs.first() else { return Ok(BTreeMap::new()) };
        let started = Instant::now();
        let mut connection = connections.to_cluster(Some(&first.database)).await?;
        let mut jobs = self.shut_out(&mut connection, jobs).await?;
        jobs.retain(|job| !job.has_context || job.database == first.database);
        let since = Instant::now();
        self.drain(&mut connection, &mut jobs).await?;
        self.took(RemovalStep::Sessions, since);

        let since = Instant::now();
        let spoilt: Vec<Oid> = sqlx::query_scalar(SPOILT)
            .bind(oids(&jobs))
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(REMOVE))?;
        jobs.retain(|job| !spoilt.contains(&Oid(job.oid)));
        drop_roles(&mut connection, &jobs).await?;
        self.took(RemovalStep::Drop, since);

        let since = Instant::now();
        let seen: Vec<Seen> = sqlx::query_as(LOOK)
            .bind(names(&jobs))
            .bind(oids(&jobs))
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed("look whether logins are gone"))?;
        self.took(RemovalStep::Look, since);
        let took_ms = milliseconds(started);
        let gone = seen.into_iter().filter(|seen| seen.role_absent && seen.sessions_left == 0);
        let names: BTreeMap<u32, &str> =
            jobs.iter().map(|job| (job.oid, job.role.as_str())).collect();
        Ok(gone
            .filter_map(|seen| {
                let role = names.get(&seen.oid.0)?;
                Some((seen.oid.0, self.proof(role, seen, took_ms)))
            })
            .collect())
    }

    /// Memberships and signing in, in one transaction; gives the logins that this was done for.
    async fn shut_out<'a>(
        &mut self,
        connection: &mut PgConnection,
        jobs: &'a [Job],
    ) -> Result<Vec<&'a Job>, Error> {
        let since = Instant::now();
        let groups: Vec<&str> = jobs.iter().map(|job| job.group_role.as_str()).collect();
        let all: Vec<&Job> = jobs.iter().collect();
        let found: Vec<Found> = sqlx::query_as(FOUND)
            .bind(names(&all))
            .bind(oids(&all))
            .bind(groups)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(REMOVE))?;
        let found: Vec<(&Job, Vec<String>)> = found
            .into_iter()
            .filter_map(|found| {
                let place = usize::try_from(found.place).ok()?.checked_sub(1)?;
                Some((*all.get(place)?, found.groups))
            })
            .collect();
        // From 16 on each REVOKE locks its group until the commit: in one order, or two batches that
        // come to their groups in different ones would deadlock.
        let mut memberships: Vec<(&str, &str)> = found
            .iter()
            .flat_map(|(job, groups)| {
                groups.iter().map(|group| (group.as_str(), job.role.as_str()))
            })
            .collect();
        memberships.sort_unstable();
        let mut statements: Vec<String> = memberships
            .into_iter()
            .map(|(group, role)| sql::revoke_membership(group, role))
            .collect();
        statements.extend(found.iter().map(|(job, _)| sql::fence(&job.role)));
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        run(connection, &sql::in_haste(&statements.join("; ")))
            .await
            .map_err(error::failed(REMOVE))?;
        self.took(RemovalStep::ShutOut, since);
        Ok(found.into_iter().map(|(job, _)| job).collect())
    }

    /// Ends sessions until there are none, and nobody is left who was signing in when the last of the
    /// logins was shut out. Those whose sessions stay fall out.
    async fn drain(
        &mut self,
        connection: &mut PgConnection,
        jobs: &mut Vec<&Job>,
    ) -> Result<(), Error> {
        let mut waited_for = fence::signing_in(connection).await?;
        for job in &*jobs {
            self.fences.wait_for(job.oid, waited_for.clone());
        }
        let mut patience = Patience::lasting(DRAIN_TIME);
        loop {
            let busy = self.end_sessions(connection, jobs).await?;
            if waited_for.is_empty() && busy.is_empty() {
                break;
            }
            if !patience.wait().await {
                jobs.retain(|job| waited_for.is_empty() && !busy.contains(&job.oid));
                break;
            }
            // In this order: a process that is not signing in any more is a session by now, and seen
            // by the statement after.
            let signing_in = fence::signing_in(connection).await?;
            waited_for.retain(|pid| signing_in.contains(pid));
        }
        for job in &*jobs {
            self.fences.wait_for_none(job.oid);
        }
        Ok(())
    }

    /// Tells all sessions of these logins to end; gives the logins that had any.
    async fn end_sessions(
        &mut self,
        connection: &mut PgConnection,
        jobs: &[&Job],
    ) -> Result<BTreeSet<u32>, Error> {
        const END: &str = "\
SELECT usesysid, pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = ANY ($1)";
        let told: Vec<(Oid, i32, bool)> = sqlx::query_as(END)
            .bind(oids(jobs))
            .fetch_all(connection)
            .await
            .map_err(error::failed("end sessions of logins"))?;
        let mut busy = BTreeSet::new();
        for (oid, pid, _) in told {
            busy.insert(oid.0);
            self.fences.ended(oid.0, pid);
        }
        Ok(busy)
    }

    fn proof(&self, role: &str, seen: Seen, took_ms: i64) -> Proof {
        Proof {
            role: role.to_owned(),
            role_absent: seen.role_absent,
            sessions_left: seen.sessions_left,
            sessions_ended: self.fences.forget(seen.oid.0),
            seen_at: seen.seen_at,
            took_ms,
            steps: self.steps.clone(),
            handed_over: Vec::new(),
            objects_handed_over: 0,
            grants_taken_back: 0,
            dropped: Vec::new(),
            left: Vec::new(),
            databases_not_seen: seen.databases_not_seen,
        }
    }

    fn took(&mut self, step: RemovalStep, since: Instant) {
        self.steps.push(StepTook { step, ms: milliseconds(since) });
    }
}

/// Drops the roles, all in one transaction; if one resists, its half is halved, and it alone stays.
async fn drop_roles(connection: &mut PgConnection, jobs: &[&Job]) -> Result<(), Error> {
    let mut to_try = vec![jobs];
    while let Some(some) = to_try.pop() {
        if some.is_empty() {
            continue;
        }
        // What is claimed of a login stands in its own database; a batch that cannot get at it falls apart.
        let forget =
            some.iter().filter(|job| job.has_context).map(|job| context::forget(&job.role));
        let drops: Vec<String> =
            forget.chain(some.iter().map(|job| sql::drop_role(&job.role))).collect();
        match run(connection, &sql::in_haste(&drops.join("; "))).await {
            Ok(()) => {}
            Err(error) => match error::meaning_of(&error) {
                Some(
                    Meaning::Conflict
                    | Meaning::StillNeeded
                    | Meaning::NoSuchObject
                    | Meaning::NotAllowed,
                ) => {
                    if some.len() > 1 {
                        let (one, other) = some.split_at(some.len() / 2);
                        to_try.extend([other, one]);
                    }
                }
                _ => return Err(error::failed(REMOVE)(error)),
            },
        }
    }
    Ok(())
}

fn names(jobs: &[&Job]) -> Vec<String> {
    jobs.iter().map(|job| job.role.clone()).collect()
}

fn oids(jobs: &[&Job]) -> Vec<Oid> {
    jobs.iter().map(|job| Oid(job.oid)).collect()
}

fn milliseconds(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
