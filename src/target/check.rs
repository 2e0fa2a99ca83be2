//! The statements of checks, run as a leased login runs them, and what came of each.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Connection as _, Either, Executor as _, PgConnection, Row as _, SqlSafeStr as _,
    ValueRef as _, postgres::PgRow,
};
use tokio::time::Instant;

use crate::{
    domain::rights::check::{Check, Outcome},
    secret::Secret,
    target::{
        Handle,
        connect::{Connections, Login},
        error::{self, Error},
    },
};

const CHECK: &str = "run a check";

/// No check waits longer, for its own work or for a lock.
const BOUNDS: &str = "SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '2s'";

impl Handle {
    /// Runs the statements of checks in a session of a leased login, each in a transaction that is rolled
    /// back; gives what came of each, and how long it took.
    ///
    /// # Errors
    /// When the login is not let in, or the connection breaks.
    pub async fn check(
        &self,
        database: &str,
        role: &str,
        group_role: &str,
        password: &Secret<String>,
        checks: &[&Check],
    ) -> Result<Vec<(Outcome, Duration)>, Error> {
        let login = Login { user: role, password: password.expose(), role: Some(group_role) };
        run(&self.connections, database, &login, checks).await
    }
}

/// Runs them one by one.
async fn run(
    connections: &Connections,
    database: &str,
    login: &Login<'_>,
    checks: &[&Check],
) -> Result<Vec<(Outcome, Duration)>, Error> {
    let mut session = connections.session_of(database, login).await?;
    let mut outcomes = Vec::with_capacity(checks.len());
    for check in checks {
        let mut tx = session.begin().await.map_err(error::failed(CHECK))?;
        sqlx::raw_sql(BOUNDS).execute(&mut *tx).await.map_err(error::failed(CHECK))?;
        let began = Instant::now();
        let outcome = outcome(&mut tx, &check.sql).await;
        let took = began.elapsed();
        // Whatever came of it is undone; a session that cannot do that is none any more.
        tx.rollback().await.map_err(error::failed(CHECK))?;
        outcomes.push((outcome?, took));
    }
    // It did all that was asked; how it takes the goodbye is all the same.
    let _ = session.close().await;
    Ok(outcomes)
}

async fn outcome(session: &mut PgConnection, sql: &str) -> Result<Outcome, Error> {
    match ran(session, sql).await {
        Ok((rows, value)) => Ok(Outcome::Ran { rows, value }),
        Err(sqlx::Error::Database(said)) => Ok(Outcome::Refused {
            sqlstate: said.code().unwrap_or_default().into_owned(),
            message: said.message().to_owned(),
        }),
        Err(error) => Err(error::failed(CHECK)(error)),
    }
}

/// PostgreSQL takes one statement to prepare, never two: so that what is rolled back is all there was. It is
/// run unprepared after that, because values then come as text, whatever their type.
async fn ran(session: &mut PgConnection, sql: &str) -> Result<(u64, Option<String>), sqlx::Error> {
    session.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
    if let Some(copies) = copies(sql) {
        return copied(session, sql, copies).await;
    }
    let (mut rows, mut value, mut is_first) = (0, None, true);
    let mut answers = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(session);
    while let Some(answer) = answers.try_next().await? {
        match answer {
            Either::Left(done) => rows = done.rows_affected(),
            Either::Right(row) if is_first => {
                value = first_value(&row)?;
                is_first = false;
            }
            Either::Right(_) => {}
        }
    }
    Ok((rows, value))
}

fn first_value(row: &PgRow) -> Result<Option<String>, sqlx::Error> {
    if row.is_empty() {
        return Ok(None);
    }
    let value = row.try_get_raw(0)?;
    if value.is_null() {
        return Ok(None);
    }
    let text = value.as_str().map_err(sqlx::Error::Decode)?;
    Ok(Some(text.to_owned()))
}

/// Which way a COPY goes between the server and us.
#[derive(Clone, Copy)]
enum Copies {
    Out,
    In,
}

fn copies(sql: &str) -> Option<Copies> {
    let sql = sql.to_lowercase();
    let mut words = sql.split_whitespace();
    if words.next() != Some("copy") {
        return None;
    }
    let has = |wanted: &str| words.clone().any(|word| word.trim_end_matches(';') == wanted);
    if has("stdout") { Some(Copies::Out) } else { has("stdin").then_some(Copies::In) }
}

/// Of a COPY out the rows are counted; one in is given none.
async fn copied(
    session: &mut PgConnection,
    sql: &str,
    copies: Copies,
) -> Result<(u64, Option<String>), sqlx::Error> {
    match copies {
        Copies::Out => {
            let mut rows = 0;
            let mut data = session.copy_out_raw(sql).await?;
            while data.try_next().await?.is_some() {
                rows += 1;
            }
            Ok((rows, None))
        }
        Copies::In => Ok((session.copy_in_raw(sql).await?.finish().await?, None)),
    }
}
