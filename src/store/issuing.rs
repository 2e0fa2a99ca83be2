//! What issuing records: the intent before, the activation after. Each is one statement for all that
//! are asked for at once ([`Gather`]), so that they share one round trip and one durable commit.
//!
//! A statement that fails is run again for each of its leases alone: what is wrong with one is no
//! trouble of the others, and each hears its own fault.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use crate::{
    domain::{
        audit::Entry,
        conditions::Limits,
        emergency::EmergencyCode,
        lease::{Granted, Lease},
        profile::ProfileSpec,
        role::LoginName,
    },
    gather::{Bounds, Gather, NotDone},
    ids::{AccessRequestId, LeaseId, LoginId, PrincipalId},
    store::{Store, audit, error::Error, limits},
    telemetry::{labels, metrics::Metrics},
};

/// One commit at a time: what is asked for meanwhile shares the next.
const BOUNDS: Bounds = Bounds { in_a_batch: 64, at_once: 1, waiting: 1024 };

/// How often a statement is run that loses to another transaction (a deadlock: one of them is undone).
const TRIES: usize = 3;

/// The queues of what issuing records.
pub(in crate::store) struct Issuing {
    intents: Queue,
    activations: Queue,
}

type Queue = Gather<PrincipalId, Record, Result<bool, Error>>;

/// One lease's part of a statement.
pub(in crate::store) struct Record {
    pub(in crate::store) lease_id: LeaseId,
    /// The columns, by name.
    pub(in crate::store) row: Value,
    /// What bounds it, if anything.
    pub(in crate::store) bounds: Option<limits::Bounds>,
}

/// The intent to issue a lease.
#[derive(Debug)]
pub struct Intent<'a> {
    /// The lease as it will be once it is active.
    pub lease: &'a Lease,
    /// The profile that it was decided on.
    pub profile: &'a ProfileSpec,
    /// That profile's version.
    pub profile_version: i32,
    /// Is it for a check? It is recorded though the profile's checks failed.
    pub is_for_check: bool,
    /// Its settings, with their places filled in.
    pub settings: &'a BTreeMap<String, String>,
    /// What row-level security is to see of the lease.
    pub context: &'a BTreeMap<String, String>,
    /// The version of its target.
    pub target_version: i32,
    /// How long, and by which rule.
    pub ttl: &'a Granted,
    /// Its first login.
    pub login_id: LoginId,
    /// That login's role on the target.
    pub role_name: &'a LoginName,
    /// When an unfinished creation is given up.
    pub give_up_at: DateTime<Utc>,
    /// What bounds it.
    pub limits: Limits,
    /// The idempotency key, and the hash of the request.
    pub key: Option<(&'a str, &'a [u8])>,
    /// What is spent on it.
    pub spent: Option<Spent<'a>>,
    /// What others agreed to, which is used up by it.
    pub request: Option<AccessRequestId>,
    /// The emergency that it opens.
    pub emergency: Option<Opened<'a>>,
    /// What the audit says.
    pub entry: &'a Entry,
}

/// An emergency, to be recorded with its lease.
#[derive(Debug)]
pub struct Opened<'a> {
    /// The sealed code that it was asked for with.
    pub code: Option<&'a EmergencyCode>,
    /// Who made the token that it was asked for with, if others did.
    pub asker_makers: &'a [PrincipalId],
    /// What the audit says.
    pub entry: Entry,
}

/// A job's token, or a sealed code: each hands out one credential.
#[derive(Debug, Clone, Copy)]
pub struct Spent<'a> {
    /// What tells it from others.
    pub hash: &'a [u8],
    /// When it is over, and need not be remembered.
    pub ends_at: DateTime<Utc>,
}

/// That a lease and its first login were made.
#[derive(Debug)]
pub struct Activation<'a> {
    /// The lease.
    pub lease_id: LeaseId,
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// Its login.
    pub login_id: LoginId,
    /// That login's OID on the target.
    pub role_oid: u32,
    /// What the audit says.
    pub entry: &'a Entry,
}

impl std::fmt::Debug for Issuing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuing").finish_non_exhaustive()
    }
}

impl Issuing {
    pub(in crate::store) fn new(pool: &PgPool, metrics: &Arc<Metrics>) -> Self {
        let queue = |statement: Statement| {
            let (pool, metrics) = (pool.clone(), Arc::clone(metrics));
            Gather::new(BOUNDS, move |records: Vec<Record>| {
                record(pool.clone(), Arc::clone(&metrics), statement, records)
            })
        };
        Self { intents: queue(Statement::Intents), activations: queue(Statement::Activations) }
    }
}

impl Store {
    /// Records the intent to issue a lease: the lease, its first login, its key, its audit entry. False
    /// if it is not to be issued so: the profile or target is not any more what was decided on, the profile's
    /// checks failed meanwhile, its principal was shut out, the key, the job's token or the sealed code belongs to a
    /// lease that did not fail, or what others agreed to was used up.
    ///
    /// # Errors
    /// If the database does not answer.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "INSERT audit_entry",
        skip_all,
        fields(
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = "INSERT",
            db.collection.name = "audit_entry",
            audit.id = %intent.entry.id,
        )
    )]
    pub async fn record_intent(&self, intent: &Intent<'_>) -> Result<bool, Error> {
        let (lease, emergency) = (intent.lease, intent.emergency.as_ref());
        let code = emergency.and_then(|opened| opened.code);
        let row = serde_json::json!({
            "id": lease.id.uuid(),
            "profile_id": lease.profile_id.map(crate::ids::ProfileId::uuid),
            "profile_version": intent.profile_version,
            "is_for_check": intent.is_for_check,
            "profile": lease.profile,
            "target_id": lease.target_id.uuid(),
            "target_version": intent.target_version,
            "database": lease.database,
            "group_role": lease.group_role,
            "connection_limit": intent.profile.connection_limit,
            "settings": intent.settings,
            "context": intent.context,
            "principal_id": lease.principal_id.uuid(),
            "tool": lease.tool,
            "reason": lease.reason,
            "ticket": lease.ticket,
            "ttl": intent.ttl,
            "created_at": lease.created_at,
            "expires_at": lease.expires_at,
            "max_expires_at": lease.max_expires_at,
            "login_id": intent.login_id.uuid(),
            "role_name": intent.role_name.as_str(),
            "give_up_at": intent.give_up_at,
            "key": intent.key.map(|(key, _)| key),
            "request_hash": intent.key.map(|(_, hash)| hexadecimal(hash)),
            "job": lease.job,
            "spent": intent.spent.map(|spent| hexadecimal(spent.hash)),
            "spent_until": intent.spent.map(|spent| spent.ends_at),
            "request_id": intent.request.map(AccessRequestId::uuid),
            "code": code.map(|code| code.number),
            "code_made_by": code.map(|code| code.made_by.uuid()),
            "asker_makers": emergency.map(|opened| opened.asker_makers.iter().map(|id| id.uuid()).collect::<Vec<_>>()),
            "opened_id": emergency.map(|opened| opened.entry.id.uuid()),
            "opened_body": emergency.map(|opened| audit::body(&opened.entry)).transpose()?,
            "audit_id": intent.entry.id.uuid(),
            "audit_at": intent.entry.at,
            "audit_body": audit::body(intent.entry)?,
        });
        let record = Record { lease_id: lease.id, row, bounds: limits::Bounds::of(intent) };
        self.record(Statement::Intents, lease.principal_id, record).await
    }

    async fn record(
        &self,
        statement: Statement,
        principal: PrincipalId,
        record: Record,
    ) -> Result<bool, Error> {
        let _queued = self.metrics.queued(statement.queue());
        let asked = statement.of(&self.issuing).ask(principal, record).await;
        if matches!(asked, Err(NotDone::Full)) {
            self.metrics.queue_was_full(statement.queue());
        }
        asked?
    }

    /// Records that a lease and its first login were made. False if either was given up or revoked
    /// meanwhile.
    ///
    /// # Errors
    /// If the database does not answer.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "INSERT audit_entry",
        skip_all,
        fields(
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = "INSERT",
            db.collection.name = "audit_entry",
            audit.id = %activation.entry.id,
        )
    )]
    pub async fn record_activation(&self, activation: &Activation<'_>) -> Result<bool, Error> {
        let row = serde_json::json!({
            "lease_id": activation.lease_id.uuid(),
            "login_id": activation.login_id.uuid(),
            "role_oid": activation.role_oid,
            "audit_id": activation.entry.id.uuid(),
            "audit_at": activation.entry.at,
            "audit_body": audit::body(activation.entry)?,
        });
        let record = Record { lease_id: activation.lease_id, row, bounds: None };
        self.record(Statement::Activations, activation.principal_id, record).await
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug, Clone, Copy)]
enum Statement {
    Intents,
    Activations,
}

async fn record(
    pool: PgPool,
    metrics: Arc<Metrics>,
    statement: Statement,
    records: Vec<Record>,
) -> Vec<Result<bool, Error>> {
    metrics.batched(statement.queue(), records.len());
    let answers = match statement.run(&pool, &records).await {
        Ok(held) => records.iter().map(|one| Ok(held.contains(&one.lease_id.uuid()))).collect(),
        Err(error) if records.len() == 1 || matches!(error, Error::Unavailable(_)) => {
            error.for_each_of(records.len())
        }
        Err(_) => {
            let mut answers = Vec::with_capacity(records.len());
            for one in &records {
                let done = statement.run(&pool, std::slice::from_ref(one)).await;
                answers.push(done.map(|held| !held.is_empty()));
            }
            answers
        }
    };
    let written = answers.iter().filter(|answer| matches!(answer, Ok(true))).count();
    metrics.audited(u64::try_from(written).unwrap_or(0));
    answers
}

impl Statement {
    const fn of(self, issuing: &Issuing) -> &Queue {
        match self {
            Self::Intents => &issuing.intents,
            Self::Activations => &issuing.activations,
        }
    }

    const fn queue(self) -> labels::Queue {
        match self {
            Self::Intents => labels::Queue::Intents,
            Self::Activations => labels::Queue::Activations,
        }
    }

    /// Runs the statement for these leases; gives those that it held for.
    async fn run(self, pool: &PgPool, records: &[Record]) -> Result<Vec<Uuid>, Error> {
        let records: Vec<&Record> = records.iter().collect();
        let mut tries = 0;
        loop {
            let done = match self {
                Self::Intents => limits::intents(pool, &records).await,
                Self::Activations => activations(pool, &records).await,
            };
            tries += 1;
            match done {
                Err(Error::LostRace(_)) if tries < TRIES => {}
                done => return done,
            }
        }
    }
}

/// The profile is locked against changes until the commit: what is issued is what was decided on. A
/// key whose lease failed goes over to the new one, and so does the token of a job, a sealed code, and what others
/// agreed to; one that was spent before spends no key. Whoever was shut out since they asked gets nothing.
pub(in crate::store) async fn intents(
    on: impl sqlx::PgExecutor<'_>,
    records: &[&Record],
) -> Result<Vec<Uuid>, Error> {
    let rows = Json(records.iter().map(|record| &record.row).collect::<Vec<_>>());
    Ok(sqlx::query_scalar!(
        r#"WITH asked AS (
               SELECT * FROM jsonb_to_recordset($1::jsonb) AS a (
                   id uuid, profile_id uuid, profile_version int, is_for_check bool, profile text, target_id uuid, target_version int,
                   database text, group_role text, connection_limit int, settings jsonb, context jsonb, principal_id uuid, tool text,
                   reason text, ticket text, ttl jsonb, created_at timestamptz, expires_at timestamptz,
                   max_expires_at timestamptz, login_id uuid, role_name text, give_up_at timestamptz, key text,
                   request_hash text, job text, spent text, spent_until timestamptz, request_id uuid, code int,
                   code_made_by uuid, asker_makers uuid[], opened_id uuid, opened_body text, audit_id uuid, audit_at timestamptz,
                   audit_body text)),
           decided_on AS (
               SELECT p.id, p.version, p.owned_objects,
                      p.checked_version = p.version AND p.failed_checks <> '[]'
                          AND p.rights ->> 'failed_checks' IS DISTINCT FROM 'warn' AS is_blocked
               FROM profile p
               WHERE (p.id, p.version) IN (SELECT profile_id, profile_version FROM asked)
               ORDER BY p.id FOR SHARE OF p),
           sound AS (
               SELECT a.*, p.owned_objects FROM asked a
               JOIN decided_on p ON p.id = a.profile_id AND p.version = a.profile_version
                   AND (a.is_for_check OR p.is_blocked IS NOT TRUE)
               JOIN target t ON t.id = a.target_id AND t.version = a.target_version AND t.removed_at IS NULL
               JOIN principal w ON w.id = a.principal_id AND w.disabled_at IS NULL),
           spent AS (
               INSERT INTO spent_token AS s (hash, lease_id, ends_at)
               SELECT decode(spent, 'hex'), id, spent_until FROM sound WHERE spent IS NOT NULL ORDER BY spent
               ON CONFLICT (hash) DO UPDATE SET lease_id = excluded.lease_id, ends_at = excluded.ends_at
               WHERE EXISTS (SELECT FROM lease l WHERE l.id = s.lease_id AND l.cause = 'failed')
               RETURNING s.lease_id),
           claimed AS (
               UPDATE request r SET state = 'claimed', lease_id = a.id
               FROM sound a
               WHERE r.id = a.request_id AND r.use_by > a.created_at AND r.extends IS NULL AND r.ended_at IS NULL
                 AND request_state(r.state, r.extends, (SELECT l.cause FROM lease l WHERE l.id = r.lease_id)) = 'approved'
               RETURNING r.lease_id),
           paid AS (
               SELECT * FROM sound
               WHERE (spent IS NULL OR id IN (SELECT lease_id FROM spent))
                 AND (request_id IS NULL OR id IN (SELECT lease_id FROM claimed))),
           keyed AS (
               INSERT INTO idempotency AS i (principal_id, key, request_hash, lease_id, created_at)
               SELECT principal_id, key, decode(request_hash, 'hex'), id, created_at FROM paid WHERE key IS NOT NULL
               ON CONFLICT (principal_id, key) DO UPDATE
               SET request_hash = excluded.request_hash, lease_id = excluded.lease_id, created_at = excluded.created_at
               WHERE EXISTS (SELECT FROM lease l WHERE l.id = i.lease_id AND l.cause = 'failed')
               RETURNING i.lease_id),
           intended AS (
               SELECT * FROM paid WHERE key IS NULL OR id IN (SELECT lease_id FROM keyed)),
           leases AS (
               INSERT INTO lease (id, state, profile_id, profile, target_id, database, group_role, connection_limit,
                                  settings, context, principal_id, tool, reason, ticket, ttl, created_at, expires_at,
                                  max_expires_at, login_id, owned_objects, job)
               SELECT id, 'provisioning', profile_id, profile, target_id, database, group_role, connection_limit,
                      settings, context, principal_id, tool, reason, ticket, ttl, created_at, expires_at, max_expires_at,
                      login_id, owned_objects, job
               FROM intended),
           logins AS (
               INSERT INTO login (id, lease_id, target_id, role_name, state, created_at, give_up_at, ends_at, due_at)
               SELECT login_id, id, target_id, role_name, 'provisioning', created_at, give_up_at, expires_at, give_up_at
               FROM intended),
           emergencies AS (
               INSERT INTO emergency (lease_id, code, code_made_by, asker_makers)
               SELECT id, code, code_made_by, asker_makers FROM intended WHERE opened_id IS NOT NULL),
           audited AS (
               INSERT INTO audit_entry (id, body, created_at)
               SELECT audit_id, audit_body, audit_at FROM intended
               UNION ALL SELECT opened_id, opened_body, audit_at FROM intended WHERE opened_id IS NOT NULL)
           SELECT id AS "id!" FROM intended"#,
        rows as _
    )
    .fetch_all(on)
    .await?)
}

/// The lease is locked first: so it and its login move together or not at all. Rows are named by arrays,
/// because a planner that joins may prefer to read all that live.
async fn activations(pool: &PgPool, records: &[&Record]) -> Result<Vec<Uuid>, Error> {
    let rows = Json(records.iter().map(|record| &record.row).collect::<Vec<_>>());
    Ok(sqlx::query_scalar!(
        r#"WITH asked AS (
               SELECT * FROM jsonb_to_recordset($1::jsonb) AS a (
                   lease_id uuid, login_id uuid, role_oid bigint, audit_id uuid, audit_at timestamptz, audit_body text)),
           provisioning AS (
               SELECT l.id, l.login_id FROM lease l
               WHERE l.id = ANY (ARRAY(SELECT lease_id FROM asked)) AND l.state = 'provisioning'
                 AND (l.id, l.login_id) IN (SELECT lease_id, login_id FROM asked)
               ORDER BY l.id FOR UPDATE OF l),
           logins AS (
               UPDATE login g SET state = 'active', role_oid = a.role_oid, due_at = g.ends_at
               FROM asked a
               WHERE g.id = ANY (ARRAY(SELECT login_id FROM provisioning)) AND g.id = a.login_id
                 AND g.state = 'provisioning'
               RETURNING g.lease_id),
           leases AS (
               UPDATE lease l SET state = 'active'
               WHERE l.id = ANY (ARRAY(SELECT lease_id FROM logins)) RETURNING l.id),
           audited AS (
               INSERT INTO audit_entry (id, body, created_at)
               SELECT audit_id, audit_body, audit_at FROM asked WHERE lease_id IN (SELECT id FROM leases))
           SELECT id AS "id!" FROM leases"#,
        rows as _
    )
    .fetch_all(pool)
    .await?)
}
