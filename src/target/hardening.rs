//! What everybody, and so each login, may do in the databases of a target beyond what was granted.

use sqlx::{FromRow, PgConnection};

use crate::{
    domain::diagnosis::{Finding, Severity},
    target::{
        error::{self, Error},
        observe::{self, Facts},
        sql,
    },
};

#[derive(FromRow)]
struct DatabaseSeen {
    is_open: bool,
    may_let_in: bool,
    has_temporary: bool,
    has_create: bool,
}

/// What everybody has stands under OID 0.
const DATABASE: &str = "\
WITH of_all AS (
    SELECT a.privilege_type FROM pg_database d,
           aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
    WHERE d.datname = current_database() AND a.grantee = 0
)
SELECT EXISTS (SELECT FROM of_all WHERE privilege_type = 'CONNECT') AS is_open,
       has_database_privilege(current_database(), 'CONNECT WITH GRANT OPTION') AS may_let_in,
       EXISTS (SELECT FROM of_all WHERE privilege_type = 'TEMPORARY') AS has_temporary,
       EXISTS (SELECT FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
               WHERE n.nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE') AS has_create";

pub(crate) async fn about_a_database(
    connection: &mut PgConnection,
    facts: &Facts,
    database: &str,
) -> Result<Vec<Finding>, Error> {
    let seen: DatabaseSeen = sqlx::query_as(DATABASE)
        .fetch_one(&mut *connection)
        .await
        .map_err(error::failed("say what everybody may do"))?;
    let name = sql::identifier(database);
    let mut findings = Vec::new();
    if facts.way.calls() {
        let here = observe::facts(connection).await?.way;
        findings.push(if here == facts.way {
            Finding::good("functions", format!("the functions are in `{database}`"))
        } else {
            let found = format!(
                "the functions are not in `{database}`: run `pgvalet bootstrap-target` for it, too"
            );
            Finding::bad("functions", Severity::Broken, found, None)
        });
    } else {
        findings.push(about_connect(&seen, facts, database));
    }
    if seen.has_create {
        findings.push(Finding::bad(
            "schema_public",
            Severity::Risk,
            format!("everybody, and so each login, may make tables and functions in schema public of `{database}`"),
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
        ));
    }
    if seen.has_temporary {
        findings.push(Finding::bad(
            "temporary",
            Severity::Note,
            format!("everybody may make temporary tables in `{database}`"),
            format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"),
        ));
    }
    Ok(findings)
}

fn about_connect(seen: &DatabaseSeen, facts: &Facts, database: &str) -> Finding {
    match (seen.is_open, seen.may_let_in) {
        (true, true) => Finding::good(
            "connect",
            format!("everybody may connect to `{database}`; so may logins"),
        ),
        (true, false) => Finding::bad(
            "connect",
            Severity::Note,
            format!(
                "everybody may connect to `{database}`; were it closed, the admin could not let logins in"
            ),
            sql::let_admin_grant_connect(database, &facts.admin),
        ),
        (false, true) => {
            Finding::good("connect", format!("the admin may let logins into `{database}`"))
        }
        (false, false) => Finding::bad(
            "connect",
            Severity::Broken,
            format!("the admin may not let logins into `{database}`, which is closed"),
            sql::let_admin_grant_connect(database, &facts.admin),
        ),
    }
}

const OTHERS: &str = "\
SELECT d.datname::text FROM pg_database d
WHERE d.datallowconn AND d.datname <> ALL ($1)
  AND EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
              WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT') ORDER BY 1";

pub(crate) async fn about_other_databases(
    connection: &mut PgConnection,
    databases: &[String],
) -> Result<Option<Finding>, Error> {
    let open: Vec<String> = sqlx::query_scalar(OTHERS)
        .bind(databases)
        .fetch_all(connection)
        .await
        .map_err(error::failed("list its databases"))?;
    let close = |name: &String| {
        format!("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", sql::identifier(name))
    };
    Ok((!open.is_empty()).then(|| {
        Finding::bad(
            "other_databases",
            Severity::Note,
            format!(
                "everybody, and so each login, may connect to databases that the target does not name: {}",
                open.join(", ")
            ),
            open.iter().map(close).collect::<Vec<_>>().join("; "),
        )
    }))
}
