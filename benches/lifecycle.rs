//! How fast leases end, and what a crowd of them costs: `cargo bench --bench lifecycle`.
//!
//! The real daemon (release build) on a real PostgreSQL with durable commits. Measured are revokes a
//! second with proof; how late 1,000 leases that end in the same second are proven gone; issuing while
//! thousands are revoked; one issue and one revoke with more and more live leases; and the start with a
//! store full of leases. Absolute figures depend on the machine; the ratios are what counts.
//!
//! Options after `--`: `--live 100,1000,10000,50000`, `--storm 5000`, `--stored 100000`, `--json FILE`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark prints its figures, and should stop where it cannot measure"
)]

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::playground::Playground;

mod playground;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let live = after("--live").unwrap_or_else(|| "100,1000,10000".to_owned());
    let plan = Plan {
        live: live.split(',').map(|count| count.parse().expect("--live takes numbers")).collect(),
        storm: after("--storm").map_or(5000, |count| count.parse().unwrap()),
        stored: after("--stored").map_or(100_000, |count| count.parse().unwrap()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let figures = runtime.block_on(measure(&plan));
    if let Some(path) = after("--json") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{}", Value::Object(figures)).unwrap();
    }
}

struct Plan {
    /// How many leases are live while one more is issued and revoked.
    live: Vec<usize>,
    /// How many are revoked while others are issued.
    storm: usize,
    /// How many the store holds at the start.
    stored: i64,
}

async fn measure(plan: &Plan) -> Map<String, Value> {
    let mut figures = Map::new();
    let mut say = |name: &str, unit: &str, value: f64| {
        println!("{name:<58} {value:>10.2} {unit}");
        figures.insert(format!("{name} ({unit})"), value.into());
    };
    let playground = Playground::start();
    let api = Api::of(&playground);

    issue_many(&api, "rate", 1000, None).await;
    say("revokes with proof, 1,000 at once", "/s", 1000.0 / revoke_all(&api, "rate").await);
    lag(&playground, &api, &mut say).await;
    storm(&api, plan.storm, &mut say).await;
    crowd(&api, &plan.live, &mut say).await;
    drop(playground);
    start_up(plan.stored, &mut say).await;
    figures
}

/// A client of the daemon.
#[derive(Clone)]
struct Api {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    fn of(playground: &Playground) -> Self {
        let (url, token) = (playground.url.clone(), playground.token.clone());
        Self { http: reqwest::Client::new(), url, token }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = request.bearer_auth(&self.token);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Issues one lease; gives its id.
    async fn issue(&self, tool: &str, ttl: Option<&str>) -> String {
        let mut wish = json!({ "profile": "shop-read", "tool": tool });
        if let Some(ttl) = ttl {
            wish["ttl"] = ttl.into();
        }
        let issued = self.call(reqwest::Method::POST, "/v1/leases", Some(wish)).await;
        issued["lease"]["id"].as_str().unwrap().to_owned()
    }

    async fn is_any_live(&self, tool: &str) -> bool {
        let path = format!("/v1/leases?state=live&tool={tool}&limit=1");
        let page = self.call(reqwest::Method::GET, &path, None).await;
        !page["items"].as_array().unwrap().is_empty()
    }
}

/// Issues so many from 16 clients; with an end, each with what is left until then.
async fn issue_many(api: &Api, tool: &'static str, count: usize, end: Option<Instant>) {
    let left = Arc::new(AtomicUsize::new(count));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (api, left) = (api.clone(), Arc::clone(&left));
        clients.spawn(async move {
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let ttl = end.map(|end| {
                    format!("{}s", end.saturating_duration_since(Instant::now()).as_secs().max(1))
                });
                api.issue(tool, ttl.as_deref()).await;
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
}

/// Revokes all of a tool; gives the seconds until all were proven gone.
async fn revoke_all(api: &Api, tool: &str) -> f64 {
    let began = Instant::now();
    let set = json!({ "tool": tool });
    api.call(reqwest::Method::POST, "/v1/revocations", Some(set)).await;
    while api.is_any_live(tool).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed().as_secs_f64()
}

/// A thousand leases that end in the same second.
async fn lag(playground: &Playground, api: &Api, say: &mut impl FnMut(&str, &str, f64)) {
    let end = Instant::now() + Duration::from_secs(40);
    issue_many(api, "lag", 1000, Some(end)).await;
    assert!(Instant::now() < end, "issuing took longer than the leases last");
    while api.is_any_live("lag").await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut state = state_of(playground).await;
    let (p50, p99, all): (f64, f64, f64) = sqlx::query_as(
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY late), percentile_disc(0.99) WITHIN GROUP (ORDER BY late),
                extract(epoch FROM max(ended_at) - min(expires_at))::float8
         FROM (SELECT *, extract(epoch FROM ended_at - expires_at)::float8 AS late FROM lease WHERE tool = 'lag') l",
    )
    .fetch_one(&mut state)
    .await
    .unwrap();
    say("1,000 ends within a second: proven late, p50", "s", p50);
    say("1,000 ends within a second: proven late, p99", "s", p99);
    say("1,000 ends within a second: first end to last proof", "s", all);
}

/// Issuing while many are revoked, beside issuing when all is quiet.
async fn storm(api: &Api, count: usize, say: &mut impl FnMut(&str, &str, f64)) {
    issue_many(api, "storm", count, None).await;
    let quiet_for = tokio::time::sleep(Duration::from_secs(5));
    let quiet = issue_while(api, quiet_for).await;
    let revoking = revoke_all(api, "storm");
    let stormy =
        issue_while(api, async { say("a storm of revokes", "/s", count as f64 / revoking.await) })
            .await;
    say("issue p99, quiet, 4 clients", "ms", at(&quiet, 0.99));
    say("issue p99, in the storm", "ms", at(&stormy, 0.99));
    say("issue p99, storm to quiet", "times", at(&stormy, 0.99) / at(&quiet, 0.99));
    revoke_all(api, "beside").await;
}

/// The times of issuing from 4 clients, in milliseconds and in order, as long as something goes on.
async fn issue_while(api: &Api, going_on: impl Future<Output = ()>) -> Vec<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (api, stop) = (api.clone(), Arc::clone(&stop));
        clients.spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                api.issue("beside", None).await;
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            times
        });
    }
    going_on.await;
    stop.store(true, Ordering::Relaxed);
    let mut times: Vec<f64> = clients.join_all().await.into_iter().flatten().collect();
    times.sort_by(f64::total_cmp);
    times
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// One issue and one revoke, one at a time, with more and more live leases.
async fn crowd(api: &Api, live: &[usize], say: &mut impl FnMut(&str, &str, f64)) {
    let mut made = 0;
    for count in live {
        issue_many(api, "crowd", count - made, None).await;
        made = *count;
        let (mut issues, mut revokes) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let began = Instant::now();
            let id = api.issue("one", None).await;
            issues.push(began.elapsed().as_secs_f64() * 1000.0);
            let began = Instant::now();
            api.call(reqwest::Method::DELETE, &format!("/v1/leases/{id}"), None).await;
            revokes.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        issues.sort_by(f64::total_cmp);
        revokes.sort_by(f64::total_cmp);
        say(&format!("issue with {count} live leases, p50"), "ms", at(&issues, 0.5));
        say(&format!("revoke with {count} live leases, p50"), "ms", at(&revokes, 0.5));
    }
    let seconds = revoke_all(api, "crowd").await;
    say("the crowd is revoked", "/s", made as f64 / seconds);
}

/// The start with a store full of live leases, beside the start with an empty one.
async fn start_up(stored: i64, say: &mut impl FnMut(&str, &str, f64)) {
    let playground = Playground::start();
    Api::of(&playground).issue("pattern", Some("8h")).await;
    let playground = playground.start_again();
    let empty = playground.ready_after;
    let mut state = state_of(&playground).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(FILL.replace("COUNT", &stored.to_string())))
        .execute(&mut state)
        .await
        .unwrap();
    state.close().await.unwrap();
    let full = playground.start_again().ready_after;
    say("start of the playground, nothing stored", "s", empty.as_secs_f64());
    say(&format!("start of the playground, {stored} leases stored"), "s", full.as_secs_f64());
    say("the difference", "s", full.as_secs_f64() - empty.as_secs_f64());
}

/// Copies of the one lease that is there, with logins of their own, which end much later.
const FILL: &str = "
BEGIN;
CREATE TEMPORARY TABLE copied AS
    SELECT gen_random_uuid() AS lease_id, gen_random_uuid() AS login_id, n FROM generate_series(1, COUNT) n;
CREATE TEMPORARY TABLE a_lease AS SELECT * FROM lease WHERE tool = 'pattern';
CREATE TEMPORARY TABLE a_login AS SELECT g.* FROM login g JOIN a_lease l ON l.id = g.lease_id;
INSERT INTO lease SELECT (jsonb_populate_record(NULL::lease, to_jsonb(l) || jsonb_build_object('id', c.lease_id, 'login_id', c.login_id))).*
    FROM a_lease l, copied c;
INSERT INTO login SELECT (jsonb_populate_record(NULL::login, to_jsonb(g) || jsonb_build_object('id', c.login_id, 'lease_id', c.lease_id,
    'role_name', 'pgv_shop_read_you_bench_' || lpad(c.n::text, 12, '0')))).*
    FROM a_login g, copied c;
COMMIT;
ANALYZE lease; ANALYZE login;";

/// A session with the state database.
async fn state_of(playground: &Playground) -> PgConnection {
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(playground.port)
        .database("pgvalet_state")
        .username("postgres")
        .password(&playground.secret("superuser.secret"));
    PgConnection::connect_with(&options).await.unwrap()
}
