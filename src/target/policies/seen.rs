//! Tables and their policies, as the catalogue shows them.

use std::collections::HashMap;

use sqlx::{FromRow, PgConnection, postgres::types::Oid};

use crate::target::{
    error::{self, Error},
    policies::statements::FINGERPRINT,
};

const LOOK: &str = "look at policies";

/// A table, or what a file may take for one.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Table {
    pub(super) oid: Oid,
    pub(super) schema: String,
    pub(super) name: String,
    /// Ordinary (`r`), partitioned (`p`), or no table: view (`v`), materialised view (`m`), foreign (`f`).
    pub(super) kind: String,
    pub(super) is_partition: bool,
    pub(super) is_enabled: bool,
    pub(super) is_forced: bool,
    pub(super) owner: String,
    /// Then our admin must never be made a member of it.
    pub(super) owner_is_superuser: bool,
    pub(super) owner_bypasses: bool,
    /// May our admin act for the owner?
    pub(super) is_ours: bool,
    /// May the group add rows or change them?
    pub(super) group_writes: bool,
    pub(super) group_truncates: bool,
}

impl Table {
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p")
    }

    /// What it is, if it is none.
    pub(super) fn what(&self) -> &'static str {
        match self.kind.as_str() {
            "v" => "a view",
            "m" => "a materialised view",
            "f" => "a foreign table",
            _ => "a table",
        }
    }

    pub(super) fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// A policy, whosever it is.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Policy {
    pub(super) table_oid: Oid,
    pub(super) name: String,
    pub(super) is_permissive: bool,
    /// `*`, `r`, `a`, `w` or `d`.
    pub(super) command: String,
    /// In the order of their names; `public` alone for everybody.
    pub(super) roles: Vec<String>,
    /// Does it hold for the profile's group role?
    pub(super) holds: bool,
    pub(super) using: Option<String>,
    pub(super) with_check: Option<String>,
    pub(super) comment: Option<String>,
    /// Of both expressions as they are now.
    pub(super) fingerprint: String,
}

/// What is there.
pub(super) struct Seen {
    /// In the order of their names.
    pub(super) tables: Vec<Table>,
    pub(super) policies: Vec<Policy>,
    pub(super) schemas: Vec<String>,
    /// All roles but leased logins.
    pub(super) roles: Vec<String>,
    pub(super) group: Option<Oid>,
    /// Is `pgvalet.claim` there?
    pub(super) has_claims: bool,
}

impl Seen {
    pub(super) fn policies_of(&self, table: Oid) -> impl Iterator<Item = &Policy> {
        let from = self.policies.partition_point(|policy| policy.table_oid.0 < table.0);
        let rest = self.policies.get(from..).unwrap_or_default();
        rest.iter().take_while(move |policy| policy.table_oid == table)
    }
}

const TABLES: &str = "\
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relispartition AS is_partition, c.relrowsecurity AS is_enabled, c.relforcerowsecurity AS is_forced,
       o.rolname::text AS owner, o.rolsuper AS owner_is_superuser, o.rolbypassrls AS owner_bypasses,
       pg_has_role(o.oid, 'USAGE') AS is_ours,
       coalesce(has_any_column_privilege($3, c.oid, 'INSERT, UPDATE'), false) AS group_writes,
       coalesce(has_table_privilege($3, c.oid, 'TRUNCATE'), false) AS group_truncates
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (n.nspname = ANY ($1) OR c.oid = ANY ($2))
ORDER BY 2, 3";

/// Tables with a policy that bears the mark of the profile.
const MARKED: &str = "\
SELECT DISTINCT p.polrelid FROM pg_description d JOIN pg_policy p ON p.oid = d.objoid
WHERE d.classoid = 'pg_policy'::regclass AND starts_with(d.description, $1)";

const CONTEXT: &str = "\
SELECT (SELECT oid FROM pg_roles WHERE rolname = $1) AS group_oid,
       to_regprocedure('pgvalet.claim(text)') IS NOT NULL AS has_claims,
       array(SELECT nspname::text FROM pg_namespace
             WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1) AS schemas,
       array(SELECT rolname::text FROM pg_roles WHERE rolname !~ '^pgv_' ORDER BY 1) AS roles";

#[derive(FromRow)]
struct Context {
    group_oid: Option<Oid>,
    has_claims: bool,
    schemas: Vec<String>,
    roles: Vec<String>,
}

/// Names read the same whatever the session was told before, and so does what is written with them.
const READ_THE_SAME: &str = "\
SELECT set_config('search_path', 'pg_catalog, pg_temp', true), set_config('standard_conforming_strings', 'on', true)";

/// What is in these schemas, and what bears the mark of the profile; none if there is neither.
pub(super) async fn seen(
    tx: &mut PgConnection,
    schemas: &[String],
    mark: &str,
    group: &str,
) -> Result<Option<Seen>, Error> {
    let marked: Vec<Oid> = sqlx::query_scalar(MARKED)
        .bind(mark)
        .fetch_all(&mut *tx)
        .await
        .map_err(error::failed(LOOK))?;
    if schemas.is_empty() && marked.is_empty() {
        return Ok(None);
    }
    sqlx::query(READ_THE_SAME).execute(&mut *tx).await.map_err(error::failed(LOOK))?;
    let context: Context = sqlx::query_as(CONTEXT)
        .bind(group)
        .fetch_one(&mut *tx)
        .await
        .map_err(error::failed(LOOK))?;
    let tables: Vec<Table> = sqlx::query_as(TABLES)
        .bind(schemas)
        .bind(&marked)
        .bind(context.group_oid)
        .fetch_all(&mut *tx)
        .await
        .map_err(error::failed(LOOK))?;
    let oids: Vec<Oid> = tables.iter().map(|table| table.oid).collect();
    // pg_has_role says no of a role that is not there; 0 stands for everybody.
    let query = format!(
        "SELECT p.polrelid AS table_oid, p.polname::text AS name, p.polpermissive AS is_permissive,
                p.polcmd::text AS command,
                array(SELECT CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r)::text END
                      FROM unnest(p.polroles) r ORDER BY 1) AS roles,
                EXISTS (SELECT FROM unnest(p.polroles) r
                        WHERE r = 0 OR CASE WHEN r <> 0 THEN pg_has_role($2, r, 'USAGE') END) AS holds,
                pg_get_expr(p.polqual, p.polrelid) AS using,
                pg_get_expr(p.polwithcheck, p.polrelid) AS with_check,
                obj_description(p.oid, 'pg_policy') AS comment, {FINGERPRINT} AS fingerprint
         FROM pg_policy p WHERE p.polrelid = ANY ($1) ORDER BY 1, 2"
    );
    let policies = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(&oids)
        .bind(context.group_oid)
        .fetch_all(&mut *tx)
        .await
        .map_err(error::failed(LOOK))?;
    Ok(Some(Seen {
        tables,
        policies,
        schemas: context.schemas,
        roles: context.roles,
        group: context.group_oid,
        has_claims: context.has_claims,
    }))
}

/// A column that a form is on.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Column {
    pub(super) table_oid: Oid,
    pub(super) name: String,
    /// As SQL, without a length: a claim that is too long must not be cut until it fits.
    pub(super) type_name: String,
    /// Does an index begin with it?
    pub(super) is_indexed: bool,
}

const COLUMNS: &str = "\
SELECT a.attrelid AS table_oid, a.attname::text AS name, format_type(a.atttypid, -1) AS type_name,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid
               AND i.indpred IS NULL AND i.indkey[0] = a.attnum) AS is_indexed
FROM pg_attribute a
WHERE a.attrelid = ANY ($1) AND a.attname = ANY ($2) AND a.attnum > 0 AND NOT a.attisdropped";

/// Those of these tables with these names.
pub(super) async fn columns(
    tx: &mut PgConnection,
    tables: &[Oid],
    names: &[String],
) -> Result<Vec<Column>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(COLUMNS)
        .bind(tables)
        .bind(names)
        .fetch_all(tx)
        .await
        .map_err(error::failed(LOOK))
}

// By the types' numbers: the same columns, whatever they are called elsewhere.
const SHAPES: &str = "\
SELECT attrelid, md5(string_agg(concat_ws(' ', attname, atttypid, atttypmod), ', ' ORDER BY attname))
FROM pg_attribute WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped GROUP BY 1";

/// What tells tables with the same columns from others.
pub(super) async fn shapes(
    tx: &mut PgConnection,
    tables: &[Oid],
) -> Result<HashMap<u32, String>, Error> {
    let shapes: Vec<(Oid, String)> =
        sqlx::query_as(SHAPES).bind(tables).fetch_all(tx).await.map_err(error::failed(LOOK))?;
    Ok(shapes.into_iter().map(|(table, shape)| (table.0, shape)).collect())
}

/// All columns of a table, for somebody who wrote a wrong one.
pub(super) async fn column_names(tx: &mut PgConnection, table: Oid) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
    )
    .bind(table)
    .fetch_all(tx)
    .await
    .map_err(error::failed(LOOK))
}

/// A function that can be called with nothing.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Function {
    /// `schema.name`, not quoted.
    pub(super) name: String,
    pub(super) gives_array: bool,
}

const FUNCTIONS: &str = "\
SELECT n.nspname || '.' || p.proname AS name, t.typelem <> 0 AND t.typlen = -1 AS gives_array
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_type t ON t.oid = p.prorettype
WHERE n.nspname = ANY ($1) AND p.prokind = 'f' AND p.pronargs = p.pronargdefaults";

/// The functions of these schemas that a form could call.
pub(super) async fn functions(
    tx: &mut PgConnection,
    schemas: &[String],
) -> Result<Vec<Function>, Error> {
    if schemas.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(FUNCTIONS).bind(schemas).fetch_all(tx).await.map_err(error::failed(LOOK))
}
