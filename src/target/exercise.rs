//! Which of a group role's privileges the statements exercised that a database remembers (`pg_stat_statements`,
//! <https://www.postgresql.org/docs/current/pgstatstatements.html>).
//!
//! Sessions of leases work as the group role, so that its statements are all of them. They are read one after the other:
//! a server may be told to remember very many.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use sqlx::{FromRow, PgConnection, postgres::types::Oid};

use crate::{
    domain::review::exercise::{Exercise, Grant, Privilege, Reading},
    target::{
        Handle,
        error::{self, Error},
        observe,
    },
};

const READ: &str = "say which statements were run";

/// Where the extension's views are in this database, quoted; and whether they tell since when.
const VIEWS: &str = "\
SELECT quote_ident(n.nspname) AS schema, EXISTS (
           SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements_info') AS tells_since
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'";

// A partition is reached through the table that it is a part of, whose privileges count then.
const GRANTS: &str = "\
SELECT n.nspname::text AS schema, c.relname::text AS relation, array_agg(DISTINCT lower(x.privilege_type)) AS privileges
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT privilege_type FROM aclexplode(c.relacl) WHERE grantee = $1
  UNION ALL
    SELECT y.privilege_type FROM pg_attribute t, aclexplode(t.attacl) y
    WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped AND y.grantee = $1) x
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname !~ '^pg_'
GROUP BY 1, 2 ORDER BY 1, 2";

#[derive(FromRow)]
struct Views {
    schema: String,
    tells_since: bool,
}

#[derive(FromRow)]
struct GrantRow {
    schema: String,
    relation: String,
    privileges: Vec<String>,
}

/// What PostgreSQL writes in the place of a statement to those who may not see it.
const HIDDEN: &str = "<insufficient privilege>";

impl Handle {
    /// What the sessions of a group role exercised in a database. That the server does not remember statements, or not to
    /// us, is an answer too.
    ///
    /// # Errors
    /// When there is no such group role, or the target does not answer.
    pub async fn exercise(&self, database: &str, group_role: &str) -> Result<Exercise, Error> {
        let mut connection = self.connections.to(database).await?;
        let connection: &mut PgConnection = &mut connection;
        let Some(group) = observe::role(connection, group_role).await? else {
            return Err(Error::GroupMissing { group: group_role.to_owned() });
        };
        let views: Option<Views> = sqlx::query_as(VIEWS)
            .fetch_optional(&mut *connection)
            .await
            .map_err(error::failed(READ))?;
        let Some(views) = views else {
            return Ok(unknown(format!(
                "database {database} does not have the extension pg_stat_statements"
            )));
        };
        let grants: Vec<GrantRow> = sqlx::query_as(GRANTS)
            .bind(group.oid)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(READ))?;
        let mut reading = Reading::of(grants.into_iter().filter_map(grant).collect());
        match read(connection, &views, group.oid, &mut reading).await? {
            Seen::All => {}
            Seen::Hidden => {
                return Ok(unknown(
                    "the target's admin may not see the statements of others: grant it pg_read_all_stats"
                        .to_owned(),
                ));
            }
        }
        let (since, forgotten) = since(connection, &views).await?;
        Ok(Exercise::Known(reading.end(since, forgotten)))
    }
}

enum Seen {
    All,
    Hidden,
}

async fn read(
    connection: &mut PgConnection,
    views: &Views,
    group: Oid,
    reading: &mut Reading,
) -> Result<Seen, Error> {
    let query = format!(
        "SELECT query FROM {}.pg_stat_statements
         WHERE userid = $1 AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        views.schema
    );
    let mut rows = sqlx::query_scalar::<_, Option<String>>(sqlx::AssertSqlSafe(query))
        .bind(group)
        .fetch(connection);
    while let Some(statement) = rows.try_next().await.map_err(error::failed(READ))? {
        match statement.as_deref() {
            None | Some(HIDDEN) => return Ok(Seen::Hidden),
            Some(statement) => reading.read(statement),
        }
    }
    Ok(Seen::All)
}

async fn since(
    connection: &mut PgConnection,
    views: &Views,
) -> Result<(Option<DateTime<Utc>>, Option<i64>), Error> {
    if !views.tells_since {
        return Ok((None, None));
    }
    let query =
        format!("SELECT stats_reset, dealloc FROM {}.pg_stat_statements_info", views.schema);
    let (since, forgotten) = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .map_err(error::failed(READ))?;
    Ok((since, Some(forgotten)))
}

fn grant(row: GrantRow) -> Option<Grant> {
    let privileges: BTreeSet<_> =
        row.privileges.iter().filter_map(|text| Privilege::from_text(text)).collect();
    let GrantRow { schema, relation, .. } = row;
    (!privileges.is_empty()).then_some(Grant { schema, relation, privileges })
}

const fn unknown(why: String) -> Exercise {
    Exercise::Unknown { why }
}
