//! What the daemon costs while nothing happens: its start, its memory and its share of a core at
//! rest, with 10 targets and 10,000 live leases.
//!
//! `cargo bench --bench idle` starts a playground for its PostgreSQL and its record, and beside it
//! the real daemon (`pgvalet serve`, release build) on the same record, which is the process that is
//! measured. It makes the targets and leases by the API, looks at what is left in memory when the
//! load is over, and starts the daemon again over all of it.
//!
//! Options after `--`: `--leases N`, `--targets N`, `--seconds N` of rest, `--json FILE` appends a
//! line of figures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark prints its figures, and should stop where it cannot measure"
)]

mod playground;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::playground::{Playground, Process, argument};

/// How many ask at once while the leases are made.
const CLIENTS: usize = 32;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let number =
        |name, usual| argument(name).map_or(usual, |text| text.parse::<usize>().expect("a number"));
    let (leases, targets) = (number("--leases", 10_000), number("--targets", 10).max(1));
    let rest = Duration::from_secs(number("--seconds", 20) as u64);
    let playground = Playground::start();

    println!("{:<44} {:>9} {:>11} {:>12}", "", "ready ms", "memory MiB", "% of a core");
    let (daemon, ready) = started(&playground).await;
    let first = at_rest(&daemon, rest).await;
    row("started on an empty record, at rest", Some(ready), &first);

    let profiles = introduce(&playground, &daemon, targets).await;
    let began = Instant::now();
    let cpu = daemon.cpu_seconds();
    issue(&playground, &daemon, &profiles, leases).await;
    let seconds = began.elapsed().as_secs_f64();
    let load = Rest {
        memory: daemon.peak_mib(),
        core_percent: (daemon.cpu_seconds() - cpu) / seconds * 100.0,
    };
    let rate = leases as f64 / seconds;
    row(&format!("making {leases} leases, {rate:.0}/s (peak)"), None, &load);
    let after = at_rest(&daemon, rest).await;
    row(&format!("at rest, {leases} leases on {targets} targets"), None, &after);
    daemon.stop();

    let (daemon, ready_again) = started(&playground).await;
    let again = at_rest(&daemon, rest).await;
    row("started again over them, at rest", Some(ready_again), &again);
    daemon.stop();

    println!("\ngoals: at most 40 MiB and 1 % of a core at rest, 64 MiB under load");
    if let Some(path) = argument("--json") {
        let figures = json!({
            "leases": leases, "targets": targets, "rate": rate,
            "empty": {"ready_ms": ready, "memory_mib": first.memory, "core_percent": first.core_percent},
            "load": {"memory_mib": load.memory, "core_percent": load.core_percent},
            "after": {"memory_mib": after.memory, "core_percent": after.core_percent},
            "again": {"ready_ms": ready_again, "memory_mib": again.memory, "core_percent": again.core_percent},
        });
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{figures}").unwrap();
    }
}

/// What a process used.
struct Rest {
    memory: f64,
    core_percent: f64,
}

fn row(what: &str, ready_ms: Option<f64>, used: &Rest) {
    let ready = ready_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0}"));
    println!("{what:<44} {ready:>9} {:>11.1} {:>12.2}", used.memory, used.core_percent);
}

/// A daemon on the playground's record, and the milliseconds from its start until it was ready.
async fn started(playground: &Playground) -> (Process, f64) {
    let began = Instant::now();
    let daemon = playground.serve();
    let ready = format!("{}/readyz", daemon.url);
    while !reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200) {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not get ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (daemon, began.elapsed().as_secs_f64() * 1000.0)
}

async fn at_rest(daemon: &Process, length: Duration) -> Rest {
    // What was begun is finished: the audit is sealed, connections that idle are closed after a minute.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (began, cpu) = (Instant::now(), daemon.cpu_seconds());
    tokio::time::sleep(length).await;
    let seconds = began.elapsed().as_secs_f64();
    Rest {
        memory: daemon.memory_mib(),
        core_percent: (daemon.cpu_seconds() - cpu) / seconds * 100.0,
    }
}

/// Targets, all of them the playground's shop, and a profile on each: their names.
async fn introduce(playground: &Playground, daemon: &Process, targets: usize) -> Vec<String> {
    let http = reqwest::Client::new();
    let put = async |path: String, body: Value| {
        let url = format!("{}/v1/{path}", daemon.url);
        let request = http.put(url).bearer_auth(&playground.token).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    };
    let mut profiles = Vec::new();
    for n in 0..targets {
        let (target, profile) = (format!("rest{n}"), format!("rest{n}-read"));
        let spec = json!({
            "host": "127.0.0.1", "port": playground.port, "sslmode": "disable",
            "admin_user": "pgvalet_admin", "databases": ["shop"], "rotate_admin": "never",
            "admin_password": playground.secret("shop-admin.secret"),
        });
        put(format!("targets/{target}"), spec).await;
        let spec = json!({
            "name": profile, "target": target, "database": "shop", "preset": "readonly",
            "schemas": ["public"], "ttl": "8h", "max_ttl": "8h", "connection_limit": 5,
            "allow": ["anyone"],
        });
        put(format!("profiles/{profile}"), spec).await;
        profiles.push(profile);
    }
    profiles
}

async fn issue(playground: &Playground, daemon: &Process, profiles: &[String], leases: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, url, token, profiles) =
            (Arc::clone(&next), daemon.url.clone(), playground.token.clone(), profiles.to_vec());
        tasks.spawn(async move {
            let http = reqwest::Client::builder().pool_max_idle_per_host(1).build().unwrap();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= leases {
                    return;
                }
                let profile = profiles.get(n % profiles.len()).unwrap();
                let answer = http
                    .post(format!("{url}/v1/leases"))
                    .bearer_auth(&token)
                    .json(&json!({"profile": profile, "tool": "bench"}))
                    .send()
                    .await
                    .unwrap();
                let status = answer.status();
                let body = answer.text().await.unwrap();
                assert_eq!(status, 201, "{body}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
