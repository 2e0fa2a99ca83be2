//! Sessions with a leased credential: over sqlx, and in the real psql.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use pgvalet::cluster::programs;
use serde_json::Value;
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::support::{eventually, seconds};

/// Signs in with the credential of an answer.
pub(crate) async fn sign_in(issued: &Value) -> Result<PgConnection, sqlx::Error> {
    let credential = &issued["credential"];
    let text = |key: &str| credential[key].as_str().expect("an answer with a credential");
    let role = text("options").strip_prefix("-c role=").expect("options start the role");
    let options = PgConnectOptions::new_without_pgpass()
        .host(text("host"))
        .port(u16::try_from(credential["port"].as_u64().unwrap()).unwrap())
        .database(text("database"))
        .username(text("user"))
        .password(text("password"))
        .ssl_mode(PgSslMode::Disable)
        .options([("role", role)]);
    PgConnection::connect_with(&options).await
}

/// The SQLSTATE with which the credential is refused; stops the test if it is not.
pub(crate) async fn refusal(issued: &Value) -> String {
    match sign_in(issued).await {
        Ok(_) => panic!("the login still works: {}", issued["credential"]["user"]),
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        Err(error) => panic!("not refused, but: {error}"),
    }
}

/// Does the credential let nobody in any more?
pub(crate) async fn is_shut_out(issued: &Value) -> bool {
    matches!(sign_in(issued).await, Err(sqlx::Error::Database(_)))
}

/// The one text value that a query gives.
pub(crate) async fn text(connection: &mut PgConnection, query: &str) -> String {
    try_text(connection, query).await.unwrap()
}

/// The same, where the session may be gone.
pub(crate) async fn try_text(
    connection: &mut PgConnection,
    query: &str,
) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT ({query})::text")))
        .fetch_one(connection)
        .await
}

/// What psql printed, and whether it ended well.
#[derive(Debug)]
pub(crate) struct Psql {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the real psql on a connection string.
pub(crate) async fn psql(uri: &str, sql: &str) -> Psql {
    let output = psql_command(uri, sql).output().await.unwrap();
    Psql {
        ok: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap().trim().to_owned(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The real psql, to be started.
pub(crate) fn psql_command(uri: &str, sql: &str) -> tokio::process::Command {
    let program = programs::find(None).unwrap().psql.unwrap_or_else(|| "psql".into());
    let mut command = tokio::process::Command::new(program);
    command
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--dbname", uri])
        .args(["--set", "ON_ERROR_STOP=1", "--command", sql])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A client of a lease that comes back as fast as it can.
pub(crate) struct Reconnecting {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Reconnecting {
    /// Starts it, and waits until it has come in.
    pub(crate) async fn start(issued: &Value) -> Self {
        let (stop, entered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, counted, issued) = (Arc::clone(&stop), Arc::clone(&entered), issued.clone());
        let task = tokio::spawn(async move {
            while !stopping.load(Ordering::Relaxed) {
                if let Ok(mut session) = sign_in(&issued).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = try_text(&mut session, "SELECT count(*) FROM orders").await;
                }
            }
        });
        eventually("the reconnecting client comes in", seconds(20), async || {
            entered.load(Ordering::Relaxed) > 0
        })
        .await;
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
