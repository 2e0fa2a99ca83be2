//! What it costs that row-level security looks a lease's tenant up, on a table of 1,000,000 rows.
//!
//! `cargo bench --bench context` starts a playground, makes the table with a policy, and scans it through a
//! lease, with the policy written in turn with a constant, as pgvalet's forms write it, with a setting
//! (which any session can forge), and with a bare call of the function (which is asked for each row). Rounds
//! take turns, so that what else the machine does falls on all alike; medians are compared.
//!
//! Options after `--`: `--rows N`, `--rounds N`, `--json FILE` appends a line of figures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark prints its figures, and should stop where it cannot measure"
)]

mod playground;

use std::{io::Write as _, time::Instant};

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use crate::playground::{Playground, argument};

/// How the policy may be written: what it is, its expression, and whether it is measured with fewer rows,
/// because it takes so long.
const WAYS: [(&str, &str); 4] = [
    ("a constant", "tenant_id = 1"),
    ("pgvalet's forms", "tenant_id = (SELECT pgvalet.claim('tenant_id')::integer)"),
    ("a setting (can be forged)", "tenant_id = current_setting('app.tenant_id')::integer"),
    ("a bare call for each row", "tenant_id = pgvalet.claim('tenant_id')::integer"),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let number =
        |name, usual| argument(name).map_or(usual, |text| text.parse::<usize>().expect("a number"));
    let (rows, rounds) = (number("--rows", 1_000_000), number("--rounds", 7).max(1));
    let playground = Playground::start();
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(playground.port)
        .username("pgvalet_admin")
        .password(&playground.secret("shop-admin.secret"))
        .database("shop");
    let mut admin = PgConnection::connect_with(&options).await.unwrap();
    make_table(&mut admin, rows).await;
    let mut session = lease(&playground).await;
    session.execute("SET app.tenant_id = '1'").await.unwrap();

    let mut taken = vec![Vec::new(); WAYS.len()];
    for round in 0..=rounds {
        for (at, (name, using)) in WAYS.iter().enumerate() {
            // A call for each row is some hundred times slower: a hundredth of the rows says as much.
            let part = if name.starts_with("a bare") { rows / 100 } else { rows };
            change(&mut admin, using).await;
            let scan = match part {
                all if all == rows => "SELECT count(*) FROM wide.many".to_owned(),
                part => {
                    format!("SELECT count(*) FROM (SELECT FROM wide.many LIMIT {}) r", part / 2)
                }
            };
            let began = Instant::now();
            let seen: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(scan))
                .fetch_one(&mut session)
                .await
                .unwrap();
            assert_eq!(usize::try_from(seen).unwrap(), part / 2, "{name}");
            let seconds = began.elapsed().as_secs_f64() * (rows / part) as f64;
            // The first round warms up.
            if round > 0 {
                taken[at].push(seconds * 1000.0);
            }
        }
    }
    report(&mut taken, rows);
}

async fn make_table(admin: &mut PgConnection, rows: usize) {
    let make = format!(
        "CREATE SCHEMA wide;
         CREATE TABLE wide.many (id integer, tenant_id integer NOT NULL, body text NOT NULL);
         INSERT INTO wide.many SELECT n, 1 + n % 2, md5(n::text) FROM generate_series(1, {rows}) n;
         ALTER TABLE wide.many ENABLE ROW LEVEL SECURITY;
         CREATE POLICY wall ON wide.many USING (true)"
    );
    admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(make))).await.unwrap();
    admin.execute("VACUUM (ANALYZE, FREEZE) wide.many").await.unwrap();
}

async fn change(admin: &mut PgConnection, using: &str) {
    let change = format!("ALTER POLICY wall ON wide.many USING ({using})");
    admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(change))).await.unwrap();
}

/// A session in a lease of a profile whose context names a tenant.
async fn lease(playground: &Playground) -> PgConnection {
    let client = reqwest::Client::new();
    let profile = json!({
        "name": "wide", "target": "shop", "database": "shop", "preset": "readonly", "schemas": ["wide"],
        "ttl": "1h", "max_ttl": "1h", "connection_limit": 2, "allow": ["anyone"],
        "rights": { "context": { "tenant_id": "1" } },
    });
    let put =
        client.put(format!("{}/v1/profiles/wide", playground.url)).bearer_auth(&playground.token);
    let put = put.json(&profile).send().await.unwrap();
    assert!(put.status().is_success(), "{}", put.text().await.unwrap());
    let ask = client.post(format!("{}/v1/leases", playground.url)).bearer_auth(&playground.token);
    let issued = ask.json(&json!({ "profile": "wide" })).send().await.unwrap();
    let issued: Value = issued.json().await.unwrap();
    let credential = &issued["credential"];
    let text = |key: &str| credential[key].as_str().expect("a lease");
    let options = PgConnectOptions::new_without_pgpass()
        .host(text("host"))
        .port(playground.port)
        .username(text("user"))
        .password(text("password"))
        .database(text("database"))
        .options([("role", "pgvg_wide")]);
    PgConnection::connect_with(&options).await.unwrap()
}

fn report(taken: &mut [Vec<f64>], rows: usize) {
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let medians: Vec<f64> = taken.iter_mut().map(median).collect();
    println!("{:<28} {:>10} {:>8}", format!("policy on {rows} rows with"), "median ms", "ratio");
    for ((name, _), ms) in WAYS.iter().zip(&medians) {
        println!("{name:<28} {ms:>10.1} {:>7.2}x", ms / medians[0]);
    }
    println!("\ngoal: pgvalet's forms at most 1.05x of a constant");
    if let Some(path) = argument("--json") {
        let figures: Vec<Value> = WAYS
            .iter()
            .zip(&medians)
            .map(|((name, _), ms)| json!({ "policy": name, "ms": ms, "ratio": ms / medians[0] }))
            .collect();
        let line = json!({ "rows": rows, "policies": figures }).to_string();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}
