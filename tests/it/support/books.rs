//! Do the books balance? What stands in the state database, what is on the target, and what callers
//! were told, against one another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Mutex,
};

use serde_json::json;
use sqlx::PgConnection;

use crate::support::{eventually, people::Answer, seconds, sessions::text, world::World};

/// What callers were told: for each lease the events that must be in the audit.
#[derive(Default)]
pub(crate) struct Ledger {
    told: Mutex<BTreeMap<(String, &'static str), i64>>,
    faults: Mutex<BTreeSet<String>>,
    others: Mutex<BTreeMap<String, u64>>,
}

impl Ledger {
    /// A caller was told that this is done.
    pub(crate) fn told(&self, lease: &str, event: &'static str) {
        *self.told.lock().unwrap().entry((lease.to_owned(), event)).or_default() += 1;
    }

    /// A caller was answered with something else.
    pub(crate) fn answered(&self, answer: &Answer) {
        let code = answer.body["code"].as_str().unwrap_or("none").to_owned();
        *self.others.lock().unwrap().entry(code).or_default() += 1;
        if answer.status == 500 {
            self.faults.lock().unwrap().insert(format!("an answer says 500: {}", answer.text));
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().iter().cloned().collect()
    }
}

/// How much there was.
pub(crate) struct Counts {
    /// Rows of each table.
    rows: Vec<(&'static str, String)>,
    /// Answers that said that something was done.
    pub(crate) told: i64,
    /// Others, by the code of the problem.
    others: BTreeMap<String, u64>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, rows) in &self.rows {
            write!(f, "{rows} rows of {table}, ")?;
        }
        write!(f, "{} things told to be done; other answers: {:?}", self.told, self.others)
    }
}

async fn names(session: &mut PgConnection, query: String) -> BTreeSet<String> {
    let rows: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(session).await.unwrap();
    rows.into_iter().collect()
}

/// What must hold at every moment, whatever was killed. What was not so before we looked at the target
/// or is not so after, changed meanwhile, and is no fault.
pub(crate) async fn while_it_runs(world: &World) -> Vec<String> {
    let mut state = world.on_state().await;
    let mut target = world.on_target().await;
    let logins = |state: &str| format!("SELECT role_name FROM login WHERE state = '{state}'");
    let (gone, active) =
        (names(&mut state, logins("revoked")).await, names(&mut state, logins("active")).await);
    let ours = format!("LIKE 'pgv\\_{}-%'", world.name);
    let sessions =
        format!("SELECT DISTINCT usename::text FROM pg_stat_activity WHERE usename {ours}");
    let sessions = names(&mut target, sessions).await;
    let roles = format!("SELECT rolname::text FROM pg_roles WHERE rolname {ours}");
    let roles = names(&mut target, roles).await;
    let known = names(&mut state, "SELECT role_name FROM login".to_owned()).await;
    let (still_gone, still_active) =
        (names(&mut state, logins("revoked")).await, names(&mut state, logins("active")).await);
    let untracked = roles.difference(&known).map(|role| format!("untracked: the role {role}"));
    let orphans = roles
        .iter()
        .chain(&sessions)
        .filter(|role| gone.contains(*role) && still_gone.contains(*role))
        .map(|role| format!("orphan: {role} is proven gone, and there"));
    let lost = active
        .intersection(&still_active)
        .filter(|role| !roles.contains(*role))
        .map(|role| format!("lost: {role} is active on record, and not there"));
    untracked.chain(orphans).chain(lost).collect()
}

/// Queries that must find nothing at the end, when every lease was ended.
const NOTHING: [(&str, &str); 6] = [
    ("leases that are not over", "SELECT id::text FROM lease WHERE state <> 'revoked'"),
    (
        "logins without a proof",
        "SELECT id::text FROM login WHERE state <> 'revoked' OR proof IS NULL",
    ),
    (
        "proofs that prove nothing",
        "SELECT id::text FROM login
         WHERE proof->>'role_absent' <> 'true' OR proof->>'sessions_left' <> '0'",
    ),
    (
        "leases whose beginning is not in the audit",
        "SELECT id::text FROM lease l WHERE NOT EXISTS
         (SELECT FROM audit_entry a WHERE a.lease_id = 'lse_' || replace(l.id::text, '-', '') AND a.kind = 'lease.intended')",
    ),
    (
        "leases whose end is not in the audit",
        "SELECT id::text FROM lease l WHERE NOT EXISTS
         (SELECT FROM audit_entry a WHERE a.lease_id = 'lse_' || replace(l.id::text, '-', '') AND a.kind = 'lease.revoked')",
    ),
    (
        "logins whose removal is not in the audit",
        "SELECT id::text FROM login l WHERE NOT EXISTS
         (SELECT FROM audit_entry a WHERE a.lease_id = 'lse_' || replace(l.lease_id::text, '-', '') AND a.kind = 'login.removed'
          AND a.body LIKE '%' || replace(l.id::text, '-', '') || '%')",
    ),
];

/// Ends every lease, and gives what does not balance then.
pub(crate) async fn at_the_end(world: &World, ledger: &Ledger) -> (Vec<String>, Counts) {
    eventually("every lease is revoked", seconds(60), async || {
        let answer = world.admin.post("/v1/revocations", &json!({ "target": world.name })).await;
        [200, 202].contains(&answer.status)
    })
    .await;
    let mut state = world.on_state().await;
    eventually("every login is removed", seconds(60), async || {
        text(&mut state, "SELECT count(*) FROM login WHERE state <> 'revoked'").await == "0"
    })
    .await;
    let mut faults = while_it_runs(world).await;
    let mut target = world.on_target().await;
    for (what, query) in [
        ("orphan: the role", "SELECT rolname::text FROM pg_roles WHERE rolname"),
        ("orphan: a session of", "SELECT usename::text FROM pg_stat_activity WHERE usename"),
    ] {
        let left = names(&mut target, format!("{query} LIKE 'pgv\\_{}-%'", world.name)).await;
        faults.extend(left.into_iter().map(|name| format!("{what} {name} is left")));
    }
    for (what, query) in NOTHING {
        let found = names(&mut state, query.to_owned()).await;
        faults.extend(found.into_iter().map(|id| format!("{what}: {id}")));
    }
    let recorded: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT lease_id, kind, count(*) FROM audit_entry WHERE lease_id IS NOT NULL GROUP BY 1, 2",
    )
    .fetch_all(&mut state)
    .await
    .unwrap();
    let recorded: BTreeMap<_, _> =
        recorded.into_iter().map(|(lease, kind, count)| ((lease, kind), count)).collect();
    let told = ledger.told.lock().unwrap().clone();
    for ((lease, event), times) in &told {
        // The same end may be told twice, and the same beginning under one key.
        let least = if *event == "lease.rotated" || *event == "lease.renewed" { *times } else { 1 };
        let found = recorded.get(&(lease.clone(), (*event).to_owned())).copied().unwrap_or(0);
        if found < least {
            faults.push(format!("lost audit: {lease} {event} told {times}, recorded {found}"));
        }
    }
    eventually("the audit is sealed", seconds(20), async || {
        text(&mut state, "SELECT count(*) FROM audit_entry WHERE position IS NULL").await == "0"
    })
    .await;
    let verified = world.admin.get("/v1/audit/verify").await.expect(200);
    if verified["intact"] != true {
        faults.push(format!("the audit: {verified}"));
    }
    let mut rows = Vec::new();
    for table in ["lease", "login", "audit_entry"] {
        rows.push((table, text(&mut state, &format!("SELECT count(*) FROM {table}")).await));
    }
    let others = ledger.others.lock().unwrap().clone();
    let counts = Counts { rows, told: told.values().sum(), others };
    (faults, counts)
}
