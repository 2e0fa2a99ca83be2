//! What row-level security sees of a lease: a table of claims that no session can read or write, and
//! functions that answer from it by `session_user`, which no session can change.
//!
//! An answer is empty as soon as the login is shut out or its time is over, whatever its session does:
//! the functions look at the role itself, not only at the row. They are PARALLEL SAFE, because
//! a parallel worker has the `session_user` of its leader, and STABLE, so that a policy that asks in a
//! sub-select asks once a statement.

use std::collections::BTreeMap;

use sqlx::{FromRow, PgConnection};

use crate::{
    domain::role::SCHEMA,
    target::{
        error::{self, Error},
        observe::Facts,
        sql,
    },
};

const READ: &str = "look at what row-level security sees of leases";

/// A function of the schema, answering with a text.
struct Function {
    name: &'static str,
    arguments: &'static str,
    body: &'static str,
}

/// The one that the others call. `pg_roles` and not `pg_authid`, which only superusers read.
const CLAIM: &str = "
SELECT c.claims ->> $1
FROM pg_catalog.pg_roles r JOIN pgvalet.lease_context c ON c.login = r.oid AND c.role = r.rolname
WHERE r.rolname = session_user AND r.rolcanlogin AND r.rolvaliduntil > pg_catalog.clock_timestamp()
";

const FUNCTIONS: [Function; 5] = [
    Function { name: "claim", arguments: "text", body: CLAIM },
    Function { name: "lease_id", arguments: "", body: "SELECT pgvalet.claim('lease_id')" },
    Function { name: "tenant_id", arguments: "", body: "SELECT pgvalet.claim('tenant_id')" },
    Function { name: "tool", arguments: "", body: "SELECT pgvalet.claim('tool')" },
    Function { name: "user_id", arguments: "", body: "SELECT pgvalet.claim('user_id')" },
];

/// What is there of it.
#[derive(FromRow)]
struct Seen {
    schema_owner: Option<String>,
    schema_is_ours: bool,
    /// Everybody may look names up in it, and only we may make any.
    schema_is_open: bool,
    has_table: bool,
    /// Whoever else holds something on the table or a column of it; `public` is everybody.
    table_open_to: Vec<String>,
    /// The functions that are as they should be.
    sound: Vec<String>,
    may_create: bool,
}

// What a function should be is compared as it is kept: any other owner, body, setting or right to call
// it makes it another function.
const SEEN: &str = "\
SELECT (SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE oid = s.oid) AS schema_owner,
       coalesce((SELECT nspowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
                 FROM pg_namespace WHERE oid = s.oid), false) AS schema_is_ours,
       coalesce((SELECT bool_or(grantee = 0 AND privilege_type = 'USAGE')
                    AND NOT bool_or(grantee <> nspowner AND privilege_type = 'CREATE')
                 FROM pg_namespace n, aclexplode(n.nspacl) WHERE n.oid = s.oid), false) AS schema_is_open,
       t.oid IS NOT NULL AS has_table,
       ARRAY(SELECT DISTINCT CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee)::text END
             FROM (SELECT (aclexplode(relacl)).grantee FROM pg_class WHERE oid = t.oid
                   UNION ALL SELECT (aclexplode(attacl)).grantee FROM pg_attribute WHERE attrelid = t.oid) x
             WHERE x.grantee <> (SELECT relowner FROM pg_class WHERE oid = t.oid) ORDER BY 1) AS table_open_to,
       ARRAY(SELECT p.proname || '(' || oidvectortypes(p.proargtypes) || ')'
             FROM pg_proc p JOIN unnest($1::text[], $2::text[], $3::text[]) AS f (name, arguments, body)
               ON p.proname = f.name AND oidvectortypes(p.proargtypes) = f.arguments AND p.prosrc = f.body
             WHERE p.pronamespace = s.oid AND p.prosecdef AND p.provolatile = 's' AND p.proparallel = 's'
               AND p.prorettype = 'text'::regtype AND p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')
               AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp']
               AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
               AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))
                           WHERE grantee = 0 AND privilege_type = 'EXECUTE')) AS sound,
       has_database_privilege(current_database(), 'CREATE') AS may_create
FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = 'pgvalet') AS oid) s
LEFT JOIN pg_class t ON t.relnamespace = s.oid AND t.relname = 'lease_context' AND t.relkind = 'r'";

/// What has to be run so that this database tells row-level security of leases.
pub(crate) async fn difference(
    tx: &mut PgConnection,
    facts: &Facts,
    database: &str,
) -> Result<Vec<String>, Error> {
    let column =
        |read: fn(&Function) -> &'static str| FUNCTIONS.iter().map(read).collect::<Vec<_>>();
    let seen: Seen = sqlx::query_as(SEEN)
        .bind(column(|function| function.name))
        .bind(column(|function| function.arguments))
        .bind(column(|function| function.body))
        .fetch_one(tx)
        .await
        .map_err(error::failed(READ))?;
    let mut statements = Vec::new();
    match &seen.schema_owner {
        // Whoever owns the schema could put other functions in the place of ours.
        Some(owner) if !seen.schema_is_ours => {
            return Err(Error::LacksRight {
                action: format!("use the schema `{SCHEMA}`, which belongs to `{owner}`,"),
                remedy: format!(
                    "DROP SCHEMA {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA} AUTHORIZATION {}",
                    sql::identifier(&facts.admin)
                ),
                source: None,
            });
        }
        Some(_) => {}
        None if seen.may_create => statements.push(format!("CREATE SCHEMA {SCHEMA}")),
        None => {
            return Err(Error::LacksRight {
                action: format!("create the schema `{SCHEMA}` in database `{database}`"),
                remedy: format!(
                    "CREATE SCHEMA {SCHEMA} AUTHORIZATION {}",
                    sql::identifier(&facts.admin)
                ),
                source: None,
            });
        }
    }
    if !seen.schema_is_open {
        statements.push(format!("REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC"));
        statements.push(format!("GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC"));
    }
    if !seen.has_table {
        statements.push(
            "CREATE TABLE pgvalet.lease_context (login oid PRIMARY KEY, role name NOT NULL, claims jsonb NOT NULL)"
                .to_owned(),
        );
        // Default privileges of our admin may have given it away already.
        statements.push("REVOKE ALL ON TABLE pgvalet.lease_context FROM PUBLIC".to_owned());
    }
    for role in &seen.table_open_to {
        let role = if role == "public" { "PUBLIC".to_owned() } else { sql::identifier(role) };
        statements.push(format!("REVOKE ALL ON TABLE pgvalet.lease_context FROM {role} CASCADE"));
    }
    for function in &FUNCTIONS {
        let signature = format!("{}({})", function.name, function.arguments);
        if !seen.sound.contains(&signature) {
            statements.push(format!(
                "CREATE OR REPLACE FUNCTION {SCHEMA}.{signature} RETURNS text LANGUAGE sql STABLE PARALLEL SAFE \
                 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgvalet${}$pgvalet$",
                function.body
            ));
            statements.push(format!("GRANT EXECUTE ON FUNCTION {SCHEMA}.{signature} TO PUBLIC"));
        }
    }
    Ok(statements)
}

/// The statement that keeps what is claimed of a login that was just made. None of what is not there any
/// .
pub(crate) fn keep(login: &str, claims: &BTreeMap<String, String>) -> Option<String> {
    if claims.is_empty() {
        return None;
    }
    let claims = serde_json::json!(claims).to_string();
    Some(format!(
        "INSERT INTO pgvalet.lease_context (login, role, claims) \
         SELECT r.oid, r.rolname, {}::jsonb FROM pg_catalog.pg_roles r WHERE r.rolname = {} \
         ON CONFLICT (login) DO UPDATE SET role = excluded.role, claims = excluded.claims",
        sql::literal(&claims),
        sql::literal(login)
    ))
}

/// The statement that forgets it, for the transaction that drops the role.
pub(crate) fn forget(login: &str) -> String {
    format!(
        "DELETE FROM pgvalet.lease_context WHERE login = \
         (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = {})",
        sql::literal(login)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_cannot_break_out_of_their_statement() {
        let claims = [("tenant_id".to_owned(), "1'; DROP TABLE x; --\\".to_owned())].into();
        let statement = keep("pgv_a", &claims).unwrap();
        assert!(
            statement.contains(r#"E'{"tenant_id":"1''; DROP TABLE x; --\\\\\\\\"}'::jsonb"#)
                || statement.contains(r#"E'{"tenant_id":"1''; DROP TABLE x; --\\\\"}'::jsonb"#),
            "{statement}"
        );
        assert_eq!(keep("pgv_a", &BTreeMap::new()), None);
    }
}
