//! How fast leases are issued and revoked, beside what PostgreSQL itself can do in the same run.
//!
//! `cargo bench --bench issue` starts the real daemon (release build) on a real PostgreSQL with
//! durable commits, and asks for leases over HTTP with keep-alive from 1, 8 and 32 clients. The
//! ceiling is measured in the same run, in turns with ours: the same statements, sent straight to
//! PostgreSQL in the best of several ways. All of it twice: with verifiers of 4096 iterations, where
//! PostgreSQL's own hashing is nearly all of the cost, and of 1, where everything else shows. Absolute
//! figures depend on the machine; the ratios are what counts.
//!
//! Options after `--`: `--seconds N` for each measurement, `--iterations N` for one of the two, `--clients
//! N` for one of the three, `--json FILE` appends a line of figures for each.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark prints its figures, and should stop where it cannot measure"
)]

mod playground;

use std::{
    io::Write as _,
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use pgvalet::{rng, secret::Secret, target::scram};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, postgres::PgConnectOptions,
};

use crate::playground::Playground;

fn main() {
    let options = Options::from_arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&options));
}

struct Options {
    length: Duration,
    iterations: Vec<NonZeroU32>,
    clients: Vec<usize>,
    history: Option<PathBuf>,
}

impl Options {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let after = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1)
        };
        let seconds =
            after("--seconds").map_or(5, |text| text.parse().expect("--seconds takes a number"));
        let both = || vec![scram::DEFAULT_ITERATIONS, NonZeroU32::MIN];
        let iterations = after("--iterations")
            .map_or_else(both, |text| vec![text.parse().expect("--iterations takes a number")]);
        let clients = after("--clients").map_or_else(
            || vec![1, 8, 32],
            |text| vec![text.parse().expect("--clients takes a number")],
        );
        Self {
            length: Duration::from_secs(seconds),
            iterations,
            clients,
            history: after("--json").map(PathBuf::from),
        }
    }
}

async fn measure(options: &Options) {
    let playground = Playground::start();
    for iterations in &options.iterations {
        use_iterations(&playground, *iterations).await;
        let figures = measure_with(&playground, *iterations, options).await;
        if let Some(path) = &options.history {
            let mut file =
                std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            writeln!(file, "{figures}").unwrap();
        }
    }
}

async fn measure_with(
    playground: &Playground,
    iterations: NonZeroU32,
    options: &Options,
) -> serde_json::Value {
    let length = options.length;
    println!(
        "PostgreSQL itself, the same statements, verifiers of {iterations} iterations ({} s each)",
        length.as_secs()
    );
    let mut straight = Straight::begin(playground, iterations).await;
    let best = best_way(&mut straight, length).await;
    println!("  best: {best}\n");

    println!(
        "pgvalet over HTTP          leases/s    p50 ms    p99 ms   of the ceiling   CPU ms/lease"
    );
    let mut figures = serde_json::Map::new();
    for &clients in &options.clients {
        let beside = Beside::measure(playground, &mut straight, (clients, best), length).await;
        let (ours, cpu_ms) = (&beside.ours, beside.cpu_ms);
        let (rate, ceiling) = (ours.rate(), beside.ceiling.rate());
        let (p50_ms, p99_ms, share) = (ours.at(0.50), ours.at(0.99), rate / ceiling);
        println!(
            "  {clients:>2} clients             {rate:>10.0} {p50_ms:>9.2} {p99_ms:>9.2} {:>7.0}% of {ceiling:>4.0} {cpu_ms:>14.2}",
            share * 100.0
        );
        if let Some(bare) = &beside.bare {
            let bare_ms = bare.at(0.50);
            println!(
                "     p50 is {:.2} times the bare statements on one connection ({bare_ms:.2} ms)",
                p50_ms / bare_ms
            );
            figures.insert("bare_p50_ms".to_owned(), bare_ms.into());
        }
        figures.insert(
            format!("clients_{clients}"),
            serde_json::json!({"rate": rate, "p50_ms": p50_ms, "p99_ms": p99_ms, "cpu_ms": cpu_ms, "ceiling": ceiling, "of_ceiling": share}),
        );
        let (revoked, rate) = revoke_all(playground).await;
        println!("     {revoked} of them revoked with proof at {rate:.0}/s");
        figures.insert(format!("revoke_after_{clients}"), rate.into());
    }
    straight.end().await;
    let memory = playground.memory_mib();
    println!("\nmemory of the daemon: {memory:.0} MiB\n");
    figures.insert("iterations".to_owned(), iterations.get().into());
    figures.insert("memory_mib".to_owned(), memory.into());
    serde_json::Value::Object(figures)
}

/// Changes how often the target's verifiers are hashed.
async fn use_iterations(playground: &Playground, iterations: NonZeroU32) {
    let url = format!("{}/v1/targets/shop", playground.url);
    let target = serde_json::json!({
        "environment": "dev", "host": "127.0.0.1", "port": playground.port, "sslmode": "disable",
        "admin_user": "pgvalet_admin", "databases": ["shop"], "scram_iterations": iterations,
        "rotate_admin": "never",
    });
    let http = reqwest::Client::new();
    let answer = http.put(url).bearer_auth(&playground.token).json(&target).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// How logins are made without us: on so many connections, so many a transaction.
#[derive(Clone, Copy)]
struct Way {
    connections: usize,
    batch: usize,
}

const BARE: Way = Way { connections: 1, batch: 1 };

/// The administrator may have 32 on the target (`bootstrap-target`), and the daemon needs some of them.
const MOST_CONNECTIONS: usize = 8;

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} connections, {} logins a transaction", self.connections, self.batch)
    }
}

/// Tries the ways, in turns, and gives the best.
async fn best_way(straight: &mut Straight, length: Duration) -> Way {
    let ways =
        [1, MOST_CONNECTIONS].map(|connections| [1, 8, 64].map(|batch| Way { connections, batch }));
    let mut tried: Vec<_> = ways.into_iter().flatten().map(|way| (way, Run::default())).collect();
    while tried.iter().any(|(_, run)| run.seconds < length.as_secs_f64()) {
        for (way, run) in &mut tried {
            run.add(straight.make(*way, TURN).await);
        }
    }
    straight.clear().await;
    let (mut best, mut best_rate) = (BARE, 0.0);
    for (way, run) in tried {
        println!("  {:<38} {:>8.0} logins/s", way.to_string(), run.rate());
        if run.rate() > best_rate {
            (best, best_rate) = (way, run.rate());
        }
    }
    best
}

/// Ours and PostgreSQL's own, in turns of half a second: a machine that is shared is faster in one minute
/// than in the next, and what is compared has to meet the same of both.
struct Beside {
    ours: Run,
    ceiling: Run,
    /// One login at a time on one connection, for one client to be compared with.
    bare: Option<Run>,
    /// Of the daemon, for each lease.
    cpu_ms: f64,
}

const TURN: Duration = Duration::from_millis(500);

impl Beside {
    async fn measure(
        playground: &Playground,
        straight: &mut Straight,
        (clients, best): (usize, Way),
        length: Duration,
    ) -> Self {
        let is_compared = clients == 1;
        let clients: Vec<_> = std::iter::repeat_with(client).take(clients).collect();
        let (mut ours, mut ceiling, mut bare) = (Run::default(), Run::default(), Run::default());
        let mut cpu_seconds = 0.0;
        // The first leases pay for connections and plans.
        issue(playground, &clients, TURN).await;
        while ours.seconds < length.as_secs_f64() {
            ceiling.add(straight.make(best, TURN).await);
            if is_compared {
                bare.add(straight.make(BARE, TURN).await);
            }
            let before = playground.cpu_seconds();
            ours.add(issue(playground, &clients, TURN).await);
            // What the daemon still does for its last leases is nobody else's time, and counts as its own.
            tokio::time::sleep(TURN / 5).await;
            cpu_seconds += playground.cpu_seconds() - before;
        }
        straight.clear().await;
        let cpu_ms = cpu_seconds * 1000.0 / ours.count as f64;
        Self { ours, ceiling, bare: is_compared.then_some(bare), cpu_ms }
    }
}

/// Logins made by the statements that pgvalet sends, one simple query for each transaction, on
/// connections that stay.
struct Straight {
    sessions: Vec<Session>,
    superuser: sqlx::PgConnection,
    verifier: Arc<Secret<String>>,
}

struct Session {
    connection: sqlx::PgConnection,
}

/// Where PostgreSQL keeps what is said of a role.
const CATALOGUES: [&str; 5] =
    ["pg_authid", "pg_auth_members", "pg_db_role_setting", "pg_shdepend", "pg_shdescription"];

const CLEAR: &str = "\
BEGIN;
SET LOCAL allow_system_table_mods = on;
CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT oid FROM pg_authid WHERE rolname LIKE 'bench\\_%';
ANALYZE made, pg_authid, pg_auth_members, pg_db_role_setting, pg_shdepend, pg_shdescription;
DELETE FROM pg_shdepend WHERE classid = 'pg_auth_members'::regclass AND objid IN (
    SELECT objid FROM pg_shdepend WHERE classid = 'pg_auth_members'::regclass AND refobjid IN (SELECT oid FROM made));
DELETE FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid IN (SELECT oid FROM made);
DELETE FROM pg_auth_members WHERE member IN (SELECT oid FROM made) OR roleid IN (SELECT oid FROM made);
DELETE FROM pg_db_role_setting WHERE setrole IN (SELECT oid FROM made);
DELETE FROM pg_shdescription WHERE classoid = 'pg_authid'::regclass AND objoid IN (SELECT oid FROM made);
DELETE FROM pg_authid WHERE oid IN (SELECT oid FROM made);
COMMIT";

impl Straight {
    async fn begin(playground: &Playground, iterations: NonZeroU32) -> Self {
        let verifier = scram::verifier(&rng::password().unwrap(), [7; 16], iterations);
        let verifier = Arc::new(Secret::new(verifier.text().to_owned()));
        let password = playground.secret("shop-admin.secret");
        let mut sessions = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            let connection = sign_in(playground.port, "pgvalet_admin", &password).await;
            sessions.push(Session { connection });
        }
        let password = playground.secret("superuser.secret");
        let superuser = sign_in(playground.port, "postgres", &password).await;
        Self { sessions, superuser, verifier }
    }

    async fn make(&mut self, Way { connections, batch }: Way, length: Duration) -> Run {
        let mut tasks = tokio::task::JoinSet::new();
        let began = Instant::now();
        for mut session in self.sessions.drain(..connections) {
            let verifier = Arc::clone(&self.verifier);
            tasks.spawn(async move {
                let mut run = Run::default();
                while began.elapsed() < length {
                    let sent = Instant::now();
                    session.make(batch, &verifier).await;
                    run.times.push(sent.elapsed().as_secs_f64() * 1000.0);
                    run.count += batch;
                }
                (session, run)
            });
        }
        let mut whole = Run::default();
        while let Some(done) = tasks.join_next().await {
            let (session, run) = done.unwrap();
            self.sessions.push(session);
            whole.add(run);
        }
        whole.seconds = began.elapsed().as_secs_f64();
        whole
    }

    /// Removes what was made: a server with a hundred thousand roles is another server. DROP ROLE takes longer for
    /// them than making them did, so their rows go, which takes a superuser of a server that is thrown away.
    async fn clear(&mut self) {
        self.superuser.execute(CLEAR).await.unwrap();
        for table in CATALOGUES {
            let vacuum = format!("VACUUM {table}");
            self.superuser.execute(AssertSqlSafe(vacuum)).await.unwrap();
        }
    }

    async fn end(self) {
        for session in self.sessions {
            session.connection.close().await.unwrap();
        }
        self.superuser.close().await.unwrap();
    }
}

impl Session {
    async fn make(&mut self, batch: usize, verifier: &Secret<String>) {
        let mut sql = String::from("BEGIN;");
        for _ in 0..batch {
            let role = format!("bench_{}", uuid::Uuid::now_v7().simple());
            sql.push_str(&format!(
                "CREATE ROLE {role} LOGIN NOINHERIT PASSWORD '{}' VALID UNTIL '2040-01-01 00:00:00+00' CONNECTION LIMIT 5;\
                 GRANT pgvg_shop_read TO {role};ALTER ROLE {role} SET role = 'pgvg_shop_read';\
                 ALTER ROLE {role} SET statement_timeout = '30s';\
                 ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s';\
                 COMMENT ON ROLE {role} IS 'a lease';",
                verifier.expose()
            ));
        }
        sql.push_str("COMMIT");
        self.connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

async fn sign_in(port: u16, user: &str, password: &str) -> sqlx::PgConnection {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .database("shop")
        .username(user)
        .password(password)
        .disable_statement_logging()
        .connect()
        .await
        .unwrap()
}

/// What was made, and how long each transaction or request took.
#[derive(Default)]
struct Run {
    count: usize,
    seconds: f64,
    times: Vec<f64>,
}

impl Run {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.seconds += other.seconds;
        self.times.extend(other.times);
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// The time below which such a share of them lies, in milliseconds.
    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share) as usize]
    }
}

/// A client with one connection, which it keeps.
fn client() -> reqwest::Client {
    reqwest::Client::builder().pool_max_idle_per_host(1).build().unwrap()
}

async fn issue(playground: &Playground, clients: &[reqwest::Client], length: Duration) -> Run {
    let mut tasks = tokio::task::JoinSet::new();
    let began = Instant::now();
    for http in clients {
        let (http, token) = (http.clone(), playground.token.clone());
        let url = format!("{}/v1/leases", playground.url);
        tasks.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < length {
                let asked = Instant::now();
                let answer = http
                    .post(&url)
                    .bearer_auth(&token)
                    .json(&serde_json::json!({"profile": "shop-read", "tool": "bench"}))
                    .send()
                    .await
                    .unwrap();
                let status = answer.status();
                let body = answer.text().await.unwrap();
                assert_eq!(status, 201, "{body}");
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done.unwrap());
    }
    Run { count: times.len(), seconds: began.elapsed().as_secs_f64(), times }
}

/// Revokes everything of the bench, and gives how many it were and how many a second.
async fn revoke_all(playground: &Playground) -> (usize, f64) {
    let http = reqwest::Client::new();
    let url = &playground.url;
    let began = Instant::now();
    let answer: serde_json::Value = http
        .post(format!("{url}/v1/revocations"))
        .bearer_auth(&playground.token)
        .json(&serde_json::json!({"tool": "bench"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let count = answer["leases"].as_array().map_or(0, Vec::len);
    loop {
        let page: serde_json::Value = http
            .get(format!("{url}/v1/leases?state=live&tool=bench&limit=1"))
            .bearer_auth(&playground.token)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        if page["items"].as_array().is_some_and(Vec::is_empty) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (count, count as f64 / began.elapsed().as_secs_f64())
}
