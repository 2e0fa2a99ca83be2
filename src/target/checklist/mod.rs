//! The deployment checklist: what a server and its databases let people do beside what profiles give,
//! and the settings that a careful deployment has. It is read from the catalogue, which everybody may
//! read; what our admin may not see is said.
//!
//! Each question is one query, whatever the size of the catalogue: it gives names and the SQL that mends
//! each, of which a few are told, with how many more there are.

mod logins;
mod public;
mod reach;
mod rows;
pub(crate) mod settings;

use sqlx::{FromRow, PgConnection};

use crate::{
    domain::diagnosis::{Finding, Severity},
    target::{
        connect::Connections,
        error::{self, Error},
        observe::Facts,
    },
};

/// Names that are told of one finding.
const MOST_NAMES: usize = 5;

/// Our own schemas: what is in them is checked when it is installed.
const OURS: &str = "('pg_catalog', 'information_schema', 'pgvalet', 'pgvalet_admin')";

/// One question.
struct Question<'a> {
    check: &'static str,
    severity: Severity,
    /// What is wrong with those that it names.
    found: &'static str,
    /// Why that matters.
    reason: &'static str,
    /// A query for rows `(name text, mend text)`: one for each that something is wrong with.
    rows: &'a str,
    /// What its `$1` is, if it has one.
    words: Option<&'a [&'a str]>,
}

#[derive(FromRow)]
struct Seen {
    total: i64,
    names: Vec<String>,
    mends: Vec<String>,
}

/// Asks; none if nothing is wrong.
async fn ask(
    connection: &mut PgConnection,
    question: &Question<'_>,
) -> Result<Option<Finding>, Error> {
    let query = format!(
        "SELECT count(*) AS total, coalesce((array_agg(name ORDER BY name))[:{MOST_NAMES}], '{{}}') AS names, \
         coalesce((array_agg(mend ORDER BY name))[:{MOST_NAMES}], '{{}}') AS mends FROM ({}) found",
        question.rows.replace("{ours}", OURS)
    );
    let asked = sqlx::query_as(sqlx::AssertSqlSafe(query));
    let asked = match question.words {
        Some(words) => asked.bind(words),
        None => asked,
    };
    let seen: Seen = match asked.fetch_one(connection).await {
        Ok(seen) => seen,
        Err(error) => return question.not_looked_at(error).map(Some),
    };
    let total = usize::try_from(seen.total).unwrap_or(usize::MAX);
    Ok(question.told(total, seen.names, seen.mends))
}

impl Question<'_> {
    /// One question that a server cannot answer in time keeps nobody from the others.
    fn not_looked_at(&self, error: sqlx::Error) -> Result<Finding, Error> {
        let sqlx::Error::Database(said) = error else {
            return Err(error::failed("go through the checklist")(error));
        };
        let found = format!("could not be looked at: {}", said.message());
        Ok(Finding::bad(self.check, Severity::Note, found, None))
    }

    /// What was found: how many in all, the first of them, and what mends these. None if nothing is wrong.
    fn told(&self, total: usize, names: Vec<String>, mends: Vec<String>) -> Option<Finding> {
        if total == 0 {
            return None;
        }
        let more = total.saturating_sub(names.len());
        let mut found = format!("{}: {}", self.found, names.join(", "));
        let mut mend = mends.join(";\n");
        if more > 0 {
            found.push_str(&format!(" and {more} more"));
            mend.push_str(&format!(
                ";\n-- and so on for {more} more, which come up when these are mended"
            ));
        }
        let finding = Finding::bad(self.check, self.severity, found, mend);
        Some(finding.because(self.reason))
    }
}

/// Everything about one database.
pub(crate) async fn about_a_database(
    connection: &mut PgConnection,
    database: &str,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for question in public::QUESTIONS.iter().chain(&rows::QUESTIONS).chain(&reach::QUESTIONS) {
        let found = ask(connection, question).await?;
        findings.extend(found.map(|finding| finding.in_database(database)));
    }
    let forgeable = rows::about_forgeable_policies(connection).await?;
    findings.extend(forgeable.map(|finding| finding.in_database(database)));
    Ok(findings)
}

/// Everything about the server as a whole. `groups` are the roles that profiles hand out there.
pub(crate) async fn about_the_server(
    connections: &Connections,
    connection: &mut PgConnection,
    facts: &Facts,
    groups: &[String],
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for question in &logins::QUESTIONS {
        findings.extend(ask(connection, question).await?);
    }
    // Rights on catalogues differ from database to database: they are looked at, and given, in this one.
    let here: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut *connection)
        .await
        .map_err(error::failed("say which database this is"))?;
    findings.push(logins::about_passwords(connection, &facts.admin).await?.in_database(&here));
    let databases = connections.databases();
    let signing_in =
        settings::about_signing_in(connection, &facts.admin, groups, databases).await?;
    findings.extend(signing_in.into_iter().map(|finding| finding.in_database(&here)));
    findings.extend(settings::about_settings(connections, &here).await?);
    Ok(findings)
}
