//! How fast leases are issued and revoked, beside what PostgreSQL itself can do in the same run.
//!
//! `cargo bench --bench issue` starts the real daemon (release build) on a real PostgreSQL with
//! durable commits, and asks for leases over HTTP with keep-alive from 1, 8 and 32 clients. The
//! ceiling is measured in the same run: the same statements, sent straight to PostgreSQL in the best
//! of several ways. All of it twice: with verifiers of 4096 iterations, where PostgreSQL's own hashing is
//! nearly all of the cost, and of 1, where everything else shows. Absolute figures depend on the machine;
//! the ratios are what counts.
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
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
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
    let ceiling = Ceiling::measure(playground, iterations, length).await;
    println!(
        "PostgreSQL itself, the same statements, verifiers of {iterations} iterations ({} s each)",
        length.as_secs()
    );
    for (way, rate) in &ceiling.ways {
        println!("  {way:<38} {rate:>8.0} logins/s");
    }
    println!(
        "  best: {:.0}/s; one connection, one at a time: p50 {:.2} ms\n",
        ceiling.best, ceiling.bare_p50_ms
    );

    println!(
        "pgvalet over HTTP          leases/s    p50 ms    p99 ms   of the ceiling   CPU ms/lease"
    );
    let mut figures = serde_json::Map::new();
    for &clients in &options.clients {
        let before = playground.cpu_seconds();
        let run = issue(playground, clients, length).await;
        let cpu_ms = (playground.cpu_seconds() - before) * 1000.0 / run.count as f64;
        let share = run.rate / ceiling.best;
        println!(
            "  {clients:>2} clients             {:>10.0} {:>9.2} {:>9.2} {:>15.0}% {cpu_ms:>14.2}",
            run.rate,
            run.p50_ms,
            run.p99_ms,
            share * 100.0
        );
        if clients == 1 {
            println!(
                "     p50 is {:.2} times the bare statements",
                run.p50_ms / ceiling.bare_p50_ms
            );
        }
        figures.insert(
            format!("clients_{clients}"),
            serde_json::json!({"rate": run.rate, "p50_ms": run.p50_ms, "p99_ms": run.p99_ms, "cpu_ms": cpu_ms, "of_ceiling": share}),
        );
        let (revoked, rate) = revoke_all(playground).await;
        println!("     {revoked} of them revoked with proof at {rate:.0}/s");
        figures.insert(format!("revoke_after_{clients}"), rate.into());
    }
    let memory = playground.memory_mib();
    println!("\nmemory of the daemon: {memory:.0} MiB\n");
    figures.insert("iterations".to_owned(), iterations.get().into());
    figures.insert("ceiling".to_owned(), ceiling.best.into());
    figures.insert("bare_p50_ms".to_owned(), ceiling.bare_p50_ms.into());
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

/// What PostgreSQL does without us.
struct Ceiling {
    ways: Vec<(String, f64)>,
    best: f64,
    /// One login at a time on one connection.
    bare_p50_ms: f64,
}

impl Ceiling {
    async fn measure(playground: &Playground, iterations: NonZeroU32, length: Duration) -> Self {
        let mut ways = Vec::new();
        let mut bare_p50_ms = 0.0;
        for (connections, batch) in [(1, 1), (1, 8), (1, 64), (8, 1), (8, 8), (8, 64)] {
            let (rate, p50_ms) = straight(playground, iterations, connections, batch, length).await;
            ways.push((format!("{connections} connections, {batch} logins a transaction"), rate));
            if (connections, batch) == (1, 1) {
                bare_p50_ms = p50_ms;
            }
        }
        let best = ways.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        Self { ways, best, bare_p50_ms }
    }
}

/// Logins a second made by the statements that pgvalet sends, one simple query for each transaction;
/// and the median length of such a transaction.
async fn straight(
    playground: &Playground,
    iterations: NonZeroU32,
    connections: usize,
    batch: usize,
    length: Duration,
) -> (f64, f64) {
    let verifier = scram::verifier(&rng::password().unwrap(), [7; 16], iterations);
    let verifier = Arc::new(Secret::new(verifier.text().to_owned()));
    let made = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let password = playground.secret("shop-admin.secret");
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..connections {
        let (made, verifier, password, port) =
            (Arc::clone(&made), Arc::clone(&verifier), password.clone(), playground.port);
        tasks.spawn(async move {
            let mut session = sign_in(port, "pgvalet_admin", &password).await;
            let (mut roles, mut times) = (Vec::new(), Vec::new());
            while began.elapsed() < length {
                let mut sql = String::from("BEGIN;");
                for _ in 0..batch {
                    let role = format!("bench_{connections}_{batch}_{connection}_{}", roles.len());
                    sql.push_str(&format!(
                        "CREATE ROLE {role} LOGIN NOINHERIT PASSWORD '{}' VALID UNTIL '2040-01-01 00:00:00+00' CONNECTION LIMIT 5;\
                         GRANT pgvg_shop_read TO {role};ALTER ROLE {role} SET role = 'pgvg_shop_read';\
                         ALTER ROLE {role} SET statement_timeout = '30s';\
                         ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s';\
                         COMMENT ON ROLE {role} IS 'a lease';",
                        verifier.expose()
                    ));
                    roles.push(role);
                }
                sql.push_str("COMMIT");
                let sent = Instant::now();
                session.execute(AssertSqlSafe(sql)).await.unwrap();
                times.push(sent.elapsed().as_secs_f64() * 1000.0);
                made.fetch_add(batch, Ordering::Relaxed);
            }
            (session, roles, times)
        });
    }
    let mut sessions = Vec::new();
    while let Some(done) = tasks.join_next().await {
        sessions.push(done.unwrap());
    }
    let rate = made.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let mut all_times = Vec::new();
    for (mut session, roles, times) in sessions {
        all_times.extend(times);
        for some in roles.chunks(200) {
            session.execute(AssertSqlSafe(format!("DROP ROLE {}", some.join(",")))).await.unwrap();
        }
        session.close().await.unwrap();
    }
    all_times.sort_by(f64::total_cmp);
    (rate, at(&all_times, 0.50))
}

/// The value below which such a share of the sorted values lies.
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
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

struct Run {
    count: usize,
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
}

async fn issue(playground: &Playground, clients: usize, length: Duration) -> Run {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    let began = Instant::now();
    for _ in 0..clients {
        let (stop, url, token) =
            (Arc::clone(&stop), playground.url.clone(), playground.token.clone());
        tasks.spawn(async move {
            let http = reqwest::Client::builder().pool_max_idle_per_host(1).build().unwrap();
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = http
                    .post(format!("{url}/v1/leases"))
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
    tokio::time::sleep(length).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done.unwrap());
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Run {
        count: times.len(),
        rate: times.len() as f64 / seconds,
        p50_ms: at(&times, 0.50),
        p99_ms: at(&times, 0.99),
    }
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
