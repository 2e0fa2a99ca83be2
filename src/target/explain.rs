//! Who may do what with a table, a view or a sequence, as the catalogue of its database says it.
//!
//! PostgreSQL itself answers what the group role may do (`has_column_privilege`); the access lists say
//! through what. Answers come as JSON in the form of [`crate::domain::explanation`], one query for each
//! of its parts.

use sqlx::{FromRow, PgConnection, postgres::types::Oid, types::Json};

use crate::{
    domain::explanation::{Column, Explained, ObjectName, RowSecurity},
    target::{
        Handle,
        connect::Connections,
        error::{self, Error},
        observe,
    },
};

const EXPLAIN: &str = "say who may do what";

/// What was found of an object.
#[derive(Debug)]
pub enum Found {
    /// There is no such thing.
    Nothing {
        /// `schema`, `table` or `column`.
        what: &'static str,
        /// Its name, as it was asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// It is there.
    Something(Box<Explained>),
}

#[derive(FromRow)]
struct Relation {
    oid: Oid,
    kind: String,
    owner: String,
    schema_usage: bool,
    enabled: bool,
    forced: bool,
    /// For the group role: as an owner whom it does not hold for, or by an attribute.
    is_exempt: bool,
}

/// `$3` is the group role here and below.
const RELATION: &str = "\
SELECT c.oid, o.rolname::text AS owner, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'sequence' END AS kind,
       has_schema_privilege($3, n.oid, 'USAGE') AS schema_usage,
       g.rolsuper OR g.rolbypassrls
           OR (NOT c.relforcerowsecurity AND pg_has_role($3, c.relowner, 'USAGE')) AS is_exempt
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
JOIN pg_roles g ON g.oid = $3
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";

const NEAR: &str = "\
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";

const COLUMNS: &str = "\
SELECT a.attname::text AS name, has_column_privilege($3, a.attrelid, a.attnum, 'SELECT') AS \"select\",
       has_column_privilege($3, a.attrelid, a.attnum, 'INSERT') AS \"insert\",
       has_column_privilege($3, a.attrelid, a.attnum, 'UPDATE') AS \"update\",
       has_column_privilege($3, a.attrelid, a.attnum, 'REFERENCES') AS \"references\"
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'S' AND ($2::text IS NULL OR a.attname = $2)
ORDER BY a.attnum";

/// Every access list of the relation: the whole's first, whose default is that its owner may do all.
const LISTS: &str = "\
WITH listed AS (
    SELECT a.*, NULL::text AS col, 0 AS attnum, c.relowner FROM pg_class c,
           aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r' END, c.relowner))) a
    WHERE c.oid = $1
    UNION ALL
    SELECT a.*, t.attname::text, t.attnum, c.relowner FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid, aclexplode(t.attacl) a
    WHERE t.attrelid = $1 AND NOT t.attisdropped AND ($2::text IS NULL OR t.attname = $2)
)";

const HELD: &str = "
SELECT privilege_type AS privilege,
       CASE WHEN grantee = 0 THEN 'public' WHEN grantee = relowner THEN 'ownership'
            WHEN grantee = $3 THEN 'grant' ELSE 'membership' END AS way,
       coalesce(r.rolname::text, 'PUBLIC') AS holder,
       array_agg(col ORDER BY attnum) FILTER (WHERE col IS NOT NULL) AS columns
FROM listed LEFT JOIN pg_roles r ON r.oid = grantee
WHERE grantee = 0 OR pg_has_role($3, grantee, 'USAGE')
GROUP BY privilege_type, grantee, relowner, r.rolname, col IS NULL
UNION ALL
SELECT p.privilege, 'predefined', r.rolname::text, NULL
FROM pg_roles r JOIN (VALUES ('pg_read_all_data', 'SELECT'), ('pg_write_all_data', 'INSERT'),
    ('pg_write_all_data', 'UPDATE'), ('pg_write_all_data', 'DELETE')) p (role, privilege) ON p.role = r.rolname
WHERE pg_has_role($3, r.oid, 'USAGE')
ORDER BY 1, 2, 3";

const OTHERS: &str = "
SELECT role, '{}'::text[] AS profiles, bool_or(owns) AS owns,
       coalesce(array_agg(privilege_type ORDER BY privilege_type) FILTER (WHERE on_column IS NULL), '{}') AS privileges,
       coalesce(array_agg(on_column ORDER BY on_column) FILTER (WHERE on_column IS NOT NULL), '{}') AS on_columns
FROM (SELECT coalesce(r.rolname::text, 'PUBLIC') AS role, grantee = relowner AS owns, privilege_type,
             privilege_type || ' (' || string_agg(col, ', ' ORDER BY attnum) || ')' AS on_column
      FROM listed LEFT JOIN pg_roles r ON r.oid = grantee
      WHERE grantee <> $3
      GROUP BY r.rolname, grantee, relowner, privilege_type, col IS NULL) e
GROUP BY role ORDER BY role";

const POLICIES: &str = "\
SELECT polname::text AS name, CASE WHEN polpermissive THEN 'permissive' ELSE 'restrictive' END AS effect,
       CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END AS command,
       array(SELECT coalesce(r.rolname::text, 'PUBLIC') FROM unnest(polroles) o LEFT JOIN pg_roles r ON r.oid = o ORDER BY 1) AS roles,
       pg_get_expr(polqual, polrelid) AS using, pg_get_expr(polwithcheck, polrelid) AS with_check
FROM pg_policy
WHERE polrelid = $1 AND $2::text IS NOT DISTINCT FROM $2
  AND EXISTS (SELECT FROM unnest(polroles) o WHERE o = 0 OR pg_has_role($3, o, 'USAGE'))
ORDER BY polname";

const DEFAULTS: &str = "\
SELECT o.rolname::text AS owner,
       array(SELECT DISTINCT privilege_type FROM aclexplode(d.defaclacl) WHERE grantee = $3 ORDER BY 1) AS privileges
FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole JOIN pg_class c ON c.oid = $1
WHERE d.defaclnamespace IN (0, c.relnamespace) AND $2::text IS NOT DISTINCT FROM $2
  AND d.defaclobjtype = CASE c.relkind WHEN 'S' THEN 'S'::\"char\" ELSE 'r' END
  AND EXISTS (SELECT FROM aclexplode(d.defaclacl) WHERE grantee = $3)
ORDER BY 1";

/// Views of views included. A dependency names the column that is read.
const VIEWS: &str = "\
WITH RECURSIVE reading (oid) AS (
    SELECT r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND r.ev_class <> $1
      AND ($2::text IS NULL OR d.refobjsubid = (SELECT attnum FROM pg_attribute WHERE attrelid = $1 AND attname = $2))
    UNION
    SELECT r.ev_class FROM reading JOIN pg_depend d ON d.refobjid = reading.oid JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class <> reading.oid
)
SELECT format('%I.%I', n.nspname, c.relname) AS name, o.rolname::text AS owner,
       coalesce((SELECT lower(option_value) IN ('true', 'on', 'yes', '1') FROM pg_options_to_table(c.reloptions)
                 WHERE option_name = 'security_invoker'), false) AS invoker,
       c.relkind = 'm' AS materialized,
       has_schema_privilege($3, n.oid, 'USAGE') AND has_any_column_privilege($3, c.oid, 'SELECT') AS readable
FROM reading JOIN pg_class c ON c.oid = reading.oid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
WHERE c.relkind IN ('v', 'm') ORDER BY 1";

impl Handle {
    /// Says who may do what with an object of a database: its group role first, then the others.
    ///
    /// # Errors
    /// When there is no such group role, or the target does not answer.
    pub async fn explain(
        &self,
        database: &str,
        group_role: &str,
        object: &ObjectName,
    ) -> Result<Found, Error> {
        explain(&self.connections, database, group_role, object).await
    }
}

/// Asks everything of one database.
async fn explain(
    connections: &Connections,
    database: &str,
    group_role: &str,
    object: &ObjectName,
) -> Result<Found, Error> {
    let mut connection = connections.to(database).await?;
    let connection: &mut PgConnection = &mut connection;
    let Some(group) = observe::role(connection, group_role).await? else {
        return Err(Error::GroupMissing { group: group_role.to_owned() });
    };
    let relation: Option<Relation> = sqlx::query_as(RELATION)
        .bind(&object.schema)
        .bind(&object.relation)
        .bind(group.oid)
        .fetch_optional(&mut *connection)
        .await
        .map_err(error::failed(EXPLAIN))?;
    let Some(relation) = relation else { return missing(connection, object).await };
    let column = object.column.as_deref();
    let about = (relation.oid, column, group.oid);
    let columns: Vec<Column> = answer(connection, COLUMNS, about).await?;
    if let (Some(name), []) = (column, columns.as_slice()) {
        let all: Vec<Column> = answer(connection, COLUMNS, (relation.oid, None, group.oid)).await?;
        let known = all.into_iter().map(|column| column.name).collect();
        return Ok(Found::Nothing { what: "column", name: name.to_owned(), known });
    }
    let held = answer(connection, &format!("{LISTS}{HELD}"), about).await?;
    let rows = RowSecurity {
        enabled: relation.enabled,
        forced: relation.forced,
        holds: relation.enabled && !relation.is_exempt,
        policies: answer(connection, POLICIES, about).await?,
    };
    let defaults = answer(connection, DEFAULTS, about).await?;
    let others = answer(connection, &format!("{LISTS}{OTHERS}"), about).await?;
    let views = answer(connection, VIEWS, about).await?;
    let Relation { kind, owner, schema_usage, .. } = relation;
    Ok(Found::Something(Box::new(Explained {
        kind,
        owner,
        schema_usage,
        held,
        columns,
        rows,
        defaults,
        others,
        views,
    })))
}

/// One list.
async fn answer<T>(
    connection: &mut PgConnection,
    query: &str,
    (relation, column, group): (Oid, Option<&str>, Oid),
) -> Result<Vec<T>, Error>
where
    T: serde::de::DeserializeOwned + Unpin + Send + 'static,
{
    let query = format!("SELECT coalesce(jsonb_agg(to_jsonb(q)), '[]') FROM ({query}) q");
    let Json(list) = sqlx::query_scalar::<_, Json<Vec<T>>>(sqlx::AssertSqlSafe(query))
        .bind(relation)
        .bind(column)
        .bind(group)
        .fetch_one(connection)
        .await
        .map_err(error::failed(EXPLAIN))?;
    Ok(list)
}

/// What may have been meant.
async fn missing(connection: &mut PgConnection, object: &ObjectName) -> Result<Found, Error> {
    let failed = error::failed(EXPLAIN);
    let schemas: Vec<String> = sqlx::query_scalar("SELECT nspname::text FROM pg_namespace")
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    if !schemas.contains(&object.schema) {
        return Ok(Found::Nothing { what: "schema", name: object.schema.clone(), known: schemas });
    }
    let known = sqlx::query_scalar(NEAR)
        .bind(&object.schema)
        .fetch_all(connection)
        .await
        .map_err(error::failed(EXPLAIN))?;
    Ok(Found::Nothing { what: "table", name: object.relation.clone(), known })
}
