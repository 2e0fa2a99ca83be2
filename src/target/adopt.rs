//! What the roles of a database were granted by hand, read for a first file of profiles.

use sqlx::FromRow;

use crate::{
    domain::{
        rights::adopt::{Held, Holding, PolicySeen},
        role::{GRAVEYARD, GROUP_PREFIX, LOGIN_PREFIX},
    },
    target::{
        Handle,
        error::{self, Error},
        sql::CONNECT_PREFIX,
    },
};

const READ: &str = "read what the roles of a database were granted";

/// One privilege of one role on one thing, and how many things of its kind the schema has.
#[derive(FromRow)]
struct Row {
    role: String,
    kind: String,
    schema: String,
    name: String,
    part: Option<String>,
    privilege: String,
    of_kind: i64,
    is_later: bool,
}

// Roles that are granted to people and programs: those that cannot sign in themselves, and are neither
// PostgreSQL's nor ours. What its owner holds on a thing is no grant.
const GRANTED: &str = "\
WITH asked AS (
    SELECT oid, rolname::text AS name FROM pg_roles
    WHERE (NOT rolcanlogin OR rolname = ANY ($1)) AND NOT rolsuper AND (cardinality($1) = 0 OR rolname = ANY ($1))
      AND rolname !~ '^pg_' AND NOT starts_with(rolname, $2) AND NOT starts_with(rolname, $3)
      AND NOT starts_with(rolname, $4) AND rolname <> $5
), thing (kind, schema, name, part, owner, acl, of_kind) AS (
    SELECT 'database', '', datname::text, NULL::text, datdba, datacl, 1 FROM pg_database
    WHERE datname = current_database()
  UNION ALL
    SELECT 'schema', nspname::text, nspname::text, NULL, nspowner, nspacl, 1 FROM pg_namespace
  UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname::text, c.relname::text, NULL,
           c.relowner, c.relacl, count(*) OVER (PARTITION BY n.oid, c.relkind = 'S')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT c.relispartition
  UNION ALL
    SELECT 'column', n.nspname::text, c.relname::text, t.attname::text, c.relowner, t.attacl, 0
    FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.attacl IS NOT NULL AND NOT t.attisdropped AND NOT c.relispartition
  UNION ALL
    SELECT 'function', n.nspname::text, p.proname || '(' || oidvectortypes(p.proargtypes) || ')', NULL,
           p.proowner, p.proacl, count(*) OVER (PARTITION BY n.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  UNION ALL
    SELECT 'type', n.nspname::text, t.typname::text, NULL, t.typowner, t.typacl, 0
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typacl IS NOT NULL
  UNION ALL
    SELECT 'language', '', lanname::text, NULL, lanowner, lanacl, 0 FROM pg_language
  UNION ALL
    SELECT 'server', '', srvname::text, NULL, srvowner, srvacl, 0 FROM pg_foreign_server
  UNION ALL
    SELECT 'wrapper', '', fdwname::text, NULL, fdwowner, fdwacl, 0 FROM pg_foreign_data_wrapper
)
SELECT asked.name AS role, kind, schema, thing.name, part, lower(x.privilege_type) AS privilege, of_kind,
       EXISTS (SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) y
               WHERE d.defaclnamespace <> 0 AND d.defaclnamespace = (SELECT oid FROM pg_namespace WHERE nspname = schema)
                 AND d.defaclobjtype = CASE kind WHEN 'table' THEN 'r' WHEN 'sequence' THEN 'S' WHEN 'function' THEN 'f' END
                 AND y.grantee = asked.oid AND y.privilege_type = x.privilege_type) AS is_later
FROM thing, aclexplode(thing.acl) x JOIN asked ON asked.oid = x.grantee
WHERE x.grantee <> thing.owner AND schema !~ '^pg_' AND schema NOT IN ('information_schema', 'pgvalet', 'pgvalet_admin')
ORDER BY 1, 2, 3, 4, 5 NULLS FIRST, 6";

const POLICIES: &str = "\
SELECT r.role, p.schemaname::text AS schema, p.tablename::text AS table, p.policyname::text AS name,
       p.permissive = 'PERMISSIVE' AS is_permissive, lower(p.cmd) AS command, p.qual AS using, p.with_check
FROM pg_policies p, unnest(p.roles::text[]) AS r (role)
WHERE r.role = ANY ($1) ORDER BY 1, 2, 3, 4";

impl Handle {
    /// What the roles of a database were granted by hand: of these, or of all that cannot sign in.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn read_grants(&self, database: &str, roles: &[String]) -> Result<Holding, Error> {
        let mut connection = self.connections.to(database).await?;
        let rows: Vec<Row> = sqlx::query_as(GRANTED)
            .bind(roles)
            .bind(LOGIN_PREFIX)
            .bind(GROUP_PREFIX)
            .bind(CONNECT_PREFIX)
            .bind(GRAVEYARD)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(READ))?;
        let mut holders: Vec<&str> = rows.iter().map(|row| row.role.as_str()).collect();
        holders.dedup();
        let policies: Vec<PolicyRow> = sqlx::query_as(POLICIES)
            .bind(holders)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(READ))?;
        Ok(Holding {
            held: rows.into_iter().map(Held::from).collect(),
            policies: policies.into_iter().map(PolicySeen::from).collect(),
        })
    }
}

impl From<Row> for Held {
    fn from(row: Row) -> Self {
        Self {
            role: row.role,
            kind: row.kind,
            schema: row.schema,
            name: row.name,
            column: row.part,
            privilege: row.privilege,
            of_kind: usize::try_from(row.of_kind).unwrap_or(0),
            is_later: row.is_later,
        }
    }
}

/// A policy that names one of the roles.
#[derive(FromRow)]
struct PolicyRow {
    role: String,
    schema: String,
    table: String,
    name: String,
    is_permissive: bool,
    command: String,
    using: Option<String>,
    with_check: Option<String>,
}

impl From<PolicyRow> for PolicySeen {
    fn from(row: PolicyRow) -> Self {
        Self {
            role: row.role,
            schema: row.schema,
            table: row.table,
            name: row.name,
            is_permissive: row.is_permissive,
            command: row.command,
            using: row.using,
            with_check: row.with_check,
        }
    }
}
