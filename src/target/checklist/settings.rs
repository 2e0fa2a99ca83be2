//! How the server lets people in, and its settings.

use std::collections::BTreeMap;

use sqlx::{Connection as _, FromRow, PgConnection};

use crate::{
    domain::{
        diagnosis::{Finding, Severity},
        pg_hba::{self, Line},
    },
    target::{
        connect::Connections,
        error::{self, Error},
        sql,
    },
};

#[derive(FromRow)]
struct LineRow {
    number: i32,
    kind: Option<String>,
    databases: Option<Vec<String>>,
    users: Option<Vec<String>>,
    address: Option<String>,
    netmask: Option<String>,
    method: Option<String>,
    error: Option<String>,
}

/// In the order in which they are tried: since 16 a line may stand in a file of its own.
const LINES: &str = "\
SELECT line_number AS number, type AS kind, database AS databases, user_name AS users, address, netmask,
       auth_method AS method, error
FROM pg_hba_file_rules ORDER BY ";

const MAY_READ: &str = "\
SELECT has_table_privilege('pg_hba_file_rules', 'SELECT') AND has_function_privilege('pg_hba_file_rules()', 'EXECUTE'),
       current_setting('server_version_num')::int";

/// Lines of `pg_hba.conf`, and the faults of those that are none.
pub(crate) struct HbaFile {
    /// In the order in which they are tried.
    pub(crate) lines: Vec<Line>,
    faults: Vec<(i32, String)>,
}

/// Reads them; none if our admin may not.
pub(crate) async fn read_pg_hba(connection: &mut PgConnection) -> Result<Option<HbaFile>, Error> {
    let (may_read, version): (bool, i32) = sqlx::query_as(MAY_READ)
        .fetch_one(&mut *connection)
        .await
        .map_err(error::failed("say whether pg_hba.conf may be read"))?;
    if !may_read {
        return Ok(None);
    }
    let order =
        if version >= 160_000 { "rule_number NULLS LAST, line_number" } else { "line_number" };
    let query = sqlx::AssertSqlSafe(format!("{LINES}{order}"));
    let rows: Vec<LineRow> = sqlx::query_as(query)
        .fetch_all(connection)
        .await
        .map_err(error::failed("show pg_hba.conf"))?;
    let mut file = HbaFile { lines: Vec::new(), faults: Vec::new() };
    for row in rows {
        // A line that cannot fit for now, as `hostssl` without a certificate, has an error and is whole.
        match (&row.method, row.error.clone()) {
            (None, Some(error)) => file.faults.push((row.number, error)),
            _ => file.lines.push(row.into()),
        }
    }
    Ok(Some(file))
}

/// What the lines of `pg_hba.conf` let in, if our admin may read them.
pub(super) async fn about_signing_in(
    connection: &mut PgConnection,
    admin: &str,
    groups: &[String],
    databases: &[String],
) -> Result<Vec<Finding>, Error> {
    let Some(HbaFile { lines, faults }) = read_pg_hba(connection).await? else {
        return Ok(vec![pg_hba::unread(&sql::identifier(admin), groups, databases)]);
    };
    let mut findings = Vec::new();
    for (number, error) in faults {
        let found = format!("line {number} of pg_hba.conf is wrong: {error}");
        let reason = "the server takes no change of the file over as long as it is";
        findings.push(Finding::bad("pg_hba_fault", Severity::Risk, found, None).because(reason));
    }
    findings.extend(pg_hba::judge(&lines, groups, databases));
    Ok(findings)
}

impl From<LineRow> for Line {
    fn from(row: LineRow) -> Self {
        Self {
            number: row.number,
            kind: row.kind.unwrap_or_default(),
            databases: row.databases.unwrap_or_default(),
            users: row.users.unwrap_or_default(),
            address: row.address,
            netmask: row.netmask,
            method: row.method.unwrap_or_default(),
        }
    }
}

/// A setting that is not as it should be.
struct Setting {
    name: &'static str,
    /// The values that are not.
    bad: &'static [&'static str],
    severity: Severity,
    /// What it should be.
    better: &'static str,
    reason: &'static str,
}

const SETTINGS: [Setting; 7] = [
    Setting {
        name: "ssl",
        bad: &["off"],
        severity: Severity::Risk,
        better: "on",
        reason: "what is read and written, other than passwords kept as SCRAM, crosses the network in clear text; the server needs a certificate first",
    },
    Setting {
        name: "password_encryption",
        bad: &["md5", "on"],
        severity: Severity::Risk,
        better: "scram-sha-256",
        reason: "each password that is set is kept as an md5 hash, with which one can sign in",
    },
    Setting {
        name: "log_connections",
        // Since 18 it is a list.
        bad: &["off", ""],
        severity: Severity::Note,
        better: "on",
        reason: "who signed in, and from where, is then in the server's log, whose lines can be laid beside our audit",
    },
    Setting {
        name: "row_security",
        bad: &["off"],
        severity: Severity::Risk,
        better: "on",
        reason: "queries that a policy would filter fail, which tempts people to switch the policies off",
    },
    Setting {
        name: "track_commit_timestamp",
        bad: &["off"],
        severity: Severity::Note,
        better: "on",
        reason: "when a change was committed can then be asked, which helps to find out who made it; the server must be restarted",
    },
    Setting {
        name: "idle_in_transaction_session_timeout",
        bad: &["0"],
        severity: Severity::Note,
        better: "10min",
        reason: "a session that is left in a transaction holds locks, and keeps old rows from being cleaned up, for ever",
    },
    Setting {
        name: "statement_timeout",
        bad: &["0"],
        severity: Severity::Note,
        better: "15min",
        reason: "one statement can keep the server busy for ever; a profile's `settings` can say it for its leases alone",
    },
];

/// The server's settings, as a session has them that asks for none of its own.
pub(super) async fn about_settings(
    connections: &Connections,
    database: &str,
) -> Result<Vec<Finding>, Error> {
    let mut connection = connections.without_settings(database).await?;
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let query = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY ($1)";
    let seen = sqlx::query_as::<_, (String, String)>(query)
        .bind(names)
        .fetch_all(&mut connection)
        .await
        .map_err(error::failed("show its settings"))?;
    // It said all that was asked; how it takes the goodbye is all the same.
    let _ = connection.close().await;
    let seen: BTreeMap<String, String> = seen.into_iter().collect();
    let bad = SETTINGS.iter().filter_map(|setting| {
        let value = seen.get(setting.name)?;
        setting.bad.contains(&value.as_str()).then(|| {
            let shown = if value.is_empty() { "empty" } else { value };
            let mend = format!(
                "ALTER SYSTEM SET {} = {}; SELECT pg_reload_conf()",
                setting.name,
                sql::literal(setting.better)
            );
            Finding::bad(
                "settings",
                setting.severity,
                format!("`{}` is {shown}", setting.name),
                mend,
            )
            .because(setting.reason)
        })
    });
    Ok(bad.collect())
}
