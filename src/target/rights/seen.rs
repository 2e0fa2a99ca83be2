//! What is there: the things that a profile may name, and whatever its group role holds, in a few
//! questions however much there is.
//!
//! Only what was granted to the group itself counts as held: what everybody has (PUBLIC) may be taken
//! away by somebody else tomorrow. What it holds outside the schemas that the profile names is found by
//! `pg_shdepend`, which has a row for each thing whose privileges name a role.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use sqlx::{FromRow, PgConnection, postgres::types::Oid};

use crate::{
    domain::rights::grant::{Grant, Kind, Privilege, Selection, is_pattern},
    target::{
        error::{self, Error},
        rights::object::{Column, Later, Object, On, Privileges},
    },
};

const READ: &str = "read what a group role holds";

/// The first version with privileges on parameters.
pub(crate) const PARAMETERS_HAVE_PRIVILEGES: i32 = 150_000;

// `pg_database_owner` owns schema `public` from 15 on and stands for the database's owner; nobody
// makes anything as it, so the owner is named in its place, while grants go by what the catalogue says.
const OBJECTS: &str = "\
WITH mine AS MATERIALIZED (
    SELECT classid, objid FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1 AND deptype = 'a'
      AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
), thing (kind, oid, schema, name, arguments, is_partition, is_trusted, owner, acts, acl) AS (
    SELECT 'database', oid, '', datname::text, NULL, false, true, datdba, datdba,
           coalesce(datacl, acldefault('d', datdba))
    FROM pg_database
    WHERE datname = current_database()
       OR oid IN (SELECT objid FROM mine WHERE classid = 'pg_database'::regclass)
  UNION ALL
    SELECT 'schema', n.oid, '', n.nspname::text, NULL, false, true, n.nspowner,
           CASE r.rolname WHEN 'pg_database_owner' THEN d.datdba ELSE n.nspowner END, n.nspacl
    FROM pg_namespace n
    JOIN pg_roles r ON r.oid = n.nspowner
    JOIN pg_database d ON d.datname = current_database()
    WHERE (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
       OR n.oid IN (SELECT objid FROM mine WHERE classid = 'pg_namespace'::regclass)
  UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, c.oid, n.nspname::text, c.relname::text,
           NULL, c.relispartition, true, c.relowner, c.relowner, c.relacl
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = ANY ($2)
               AND (NOT c.relispartition OR c.relname = ANY ($3)))
       OR (c.relkind = 'S' AND n.nspname = ANY ($4))
       OR (c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
               AND c.oid IN (SELECT objid FROM mine WHERE classid = 'pg_class'::regclass))
  UNION ALL
    SELECT 'routine', p.oid, n.nspname::text, p.proname::text, oidvectortypes(p.proargtypes), false, true,
           p.proowner, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    -- Of PostgreSQL's own, only what reads and writes large objects is granted.
    WHERE (n.nspname = ANY ($5) AND (n.nspname <> 'pg_catalog' OR p.proname ~ '^(lo_|loread$|lowrite$)'))
       OR p.oid IN (SELECT objid FROM mine WHERE classid = 'pg_proc'::regclass)
  UNION ALL
    -- Arrays go with their elements, multiranges with their ranges, and rows with their tables.
    SELECT 'type', t.oid, n.nspname::text, t.typname::text, NULL, false, true, t.typowner, t.typowner,
           coalesce(t.typacl, acldefault('T', t.typowner))
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE (n.nspname = ANY ($6) AND t.typisdefined AND t.typtype IN ('b', 'c', 'd', 'e', 'r')
               AND NOT (t.typelem <> 0 AND t.typlen = -1)
               AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid)))
       OR t.oid IN (SELECT objid FROM mine WHERE classid = 'pg_type'::regclass)
  UNION ALL
    SELECT 'language', oid, '', lanname::text, NULL, false, lanpltrusted, lanowner, lanowner,
           coalesce(lanacl, acldefault('l', lanowner))
    FROM pg_language
  UNION ALL
    SELECT 'wrapper', oid, '', fdwname::text, NULL, false, true, fdwowner, fdwowner, fdwacl
    FROM pg_foreign_data_wrapper
  UNION ALL
    SELECT 'server', oid, '', srvname::text, NULL, false, true, srvowner, srvowner, srvacl
    FROM pg_foreign_server
  UNION ALL
    SELECT 'tablespace', oid, '', spcname::text, NULL, false, true, spcowner, spcowner, spcacl
    FROM pg_tablespace
    WHERE oid IN (SELECT objid FROM mine WHERE classid = 'pg_tablespace'::regclass)
  UNION ALL
    SELECT 'large object', oid, '', oid::text, NULL, false, true, lomowner, lomowner, lomacl
    FROM pg_largeobject_metadata
    WHERE oid IN (SELECT objid FROM mine WHERE classid = 'pg_largeobject'::regclass)
{parameters}
)
SELECT kind, thing.oid, schema, name, arguments, is_partition, is_trusted,
       o.rolname::text AS owner, o.rolsuper AS owner_is_superuser, o.is_ours,
       held, held_from_others, of_everybody, of_everybody_in_reach, may_pass_on
FROM thing
JOIN (SELECT oid, rolname, rolsuper, pg_has_role(oid, 'USAGE') AS is_ours FROM pg_roles OFFSET 0) o
     ON o.oid = thing.acts,
LATERAL (
    SELECT array_agg(privilege_type) FILTER (WHERE grantee = $1 AND in_reach) AS held,
           array_agg(privilege_type) FILTER (WHERE grantee = $1 AND NOT in_reach) AS held_from_others,
           array_agg(privilege_type) FILTER (WHERE grantee = 0) AS of_everybody,
           array_agg(privilege_type) FILTER (WHERE grantee = 0 AND in_reach) AS of_everybody_in_reach,
           array_agg(privilege_type) FILTER (WHERE is_grantable AND CASE grantee WHEN 0 THEN false
                                             ELSE pg_has_role(grantee, 'USAGE') END) AS may_pass_on
    FROM (SELECT *, CASE WHEN o.is_ours THEN grantor = thing.owner
                         ELSE pg_has_role(grantor, 'USAGE') END AS in_reach
          FROM aclexplode(thing.acl)) a
) held";

// A parameter has no owner: its rights are the first superuser's. One of an extension that is not
// loaded is known by nothing but its name.
const PARAMETERS: &str = "\
  UNION ALL
    SELECT 'parameter', coalesce(a.oid, 0), '', s.name, NULL, false, true, 10, 10, a.paracl
    FROM (SELECT lower(name) AS name FROM pg_settings WHERE cardinality($7::text[]) > 0
          UNION SELECT parname FROM pg_parameter_acl
          UNION SELECT name FROM unnest($7::text[]) AS wanted (name) WHERE name LIKE '%.%') s
    LEFT JOIN pg_parameter_acl a ON a.parname = s.name
    WHERE cardinality($7::text[]) > 0
       OR a.oid IN (SELECT objid FROM mine WHERE classid = 'pg_parameter_acl'::regclass)";

/// There are none; the placeholder has to have a type all the same.
const NO_PARAMETERS: &str = "\
  UNION ALL
    SELECT 'parameter', 0, '', '', NULL, false, true, 10, 10, NULL::aclitem[] WHERE cardinality($7::text[]) < 0";

// Table by table: a look at all columns of the database for the few that matter takes far longer.
const COLUMNS: &str = "\
WITH named (oid) AS MATERIALIZED (
    SELECT unnest($2::oid[])
  UNION
    SELECT objid FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1 AND deptype = 'a'
      AND classid = 'pg_class'::regclass AND objsubid > 0
      AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT t.attrelid AS table, t.attname::text AS name, held, held_from_others
FROM named
JOIN pg_class c ON c.oid = named.oid
JOIN pg_attribute t ON t.attrelid = named.oid AND t.attnum > 0 AND NOT t.attisdropped,
LATERAL (
    SELECT array_agg(privilege_type) FILTER (WHERE in_reach) AS held,
           array_agg(privilege_type) FILTER (WHERE NOT in_reach) AS held_from_others
    FROM (SELECT privilege_type, CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN grantor = c.relowner
                                      ELSE pg_has_role(grantor, 'USAGE') END AS in_reach
          FROM aclexplode(t.attacl) WHERE grantee = $1) a
) held
ORDER BY t.attrelid, t.attnum";

const LATER: &str = "\
SELECT CASE a.defaclobjtype WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'routine'
                            WHEN 'T' THEN 'type' WHEN 'n' THEN 'schema' WHEN 'L' THEN 'large object'
                            ELSE '' END AS kind,
       coalesce(n.nspname::text, '') AS schema, o.rolname::text AS owner, pg_has_role(o.oid, 'USAGE') AS is_ours,
       array(SELECT privilege_type FROM aclexplode(a.defaclacl) WHERE grantee = $1) AS held,
       array(SELECT privilege_type FROM aclexplode(a.defaclacl) WHERE grantee = 0) AS of_everybody
FROM pg_default_acl a
JOIN pg_roles o ON o.oid = a.defaclrole
LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
ORDER BY 2, 3, 1";

#[derive(FromRow)]
struct ObjectRow {
    kind: String,
    oid: Oid,
    schema: String,
    name: String,
    arguments: Option<String>,
    is_partition: bool,
    is_trusted: bool,
    owner: String,
    owner_is_superuser: bool,
    is_ours: bool,
    held: Option<Vec<String>>,
    held_from_others: Option<Vec<String>>,
    of_everybody: Option<Vec<String>>,
    of_everybody_in_reach: Option<Vec<String>>,
    may_pass_on: Option<Vec<String>>,
}

#[derive(FromRow)]
struct ColumnRow {
    table: Oid,
    name: String,
    held: Option<Vec<String>>,
    held_from_others: Option<Vec<String>>,
}

#[derive(FromRow)]
struct LaterRow {
    kind: String,
    schema: String,
    owner: String,
    is_ours: bool,
    held: Vec<String>,
    of_everybody: Vec<String>,
}

/// A privilege that a later version of PostgreSQL has and we do not know is nobody's to grant here.
fn privileges(words: Option<Vec<String>>) -> Privileges {
    let words = words.unwrap_or_default().into_iter();
    words.filter_map(|word| Privilege::from_text(&word.to_lowercase())).collect()
}

/// The schemas that things of one kind are wanted in, and the names by themselves.
fn places(grants: &[Grant], kinds: &[Kind]) -> (Vec<String>, Vec<String>) {
    let (mut schemas, mut names) = (BTreeSet::new(), BTreeSet::new());
    let of_kind = |grant: &&Grant| grant.kind().is_some_and(|kind| kinds.contains(&kind));
    for grant in grants.iter().filter(of_kind) {
        schemas.extend(grant.schema.clone());
        if let Some(Selection::Named(named)) = grant.selection() {
            names.extend(named.iter().filter(|name| !is_pattern(name)).cloned());
        }
    }
    (schemas.into_iter().collect(), names.into_iter().collect())
}

/// What the grants may name, and whatever else the group holds, by kind, schema and name. A group that is
/// not there yet holds nothing.
pub(crate) async fn objects(
    connection: &mut PgConnection,
    version: i32,
    grants: &[Grant],
    group: Option<Oid>,
) -> Result<Vec<Object>, Error> {
    let has_parameters = version >= PARAMETERS_HAVE_PRIVILEGES;
    let query =
        OBJECTS.replace("{parameters}", if has_parameters { PARAMETERS } else { NO_PARAMETERS });
    let (table_schemas, table_names) = places(grants, &[Kind::Table, Kind::Column]);
    let parameters = grants.iter().flat_map(|grant| grant.parameters.iter().flatten());
    let parameters: Vec<String> = parameters.map(|name| name.to_lowercase()).collect();
    // Row by row: what is in the catalogue is not held twice.
    let mut rows = sqlx::query_as::<_, ObjectRow>(sqlx::AssertSqlSafe(query))
        .bind(group)
        .bind(table_schemas)
        .bind(table_names)
        .bind(places(grants, &[Kind::Sequence]).0)
        .bind(places(grants, &[Kind::Function]).0)
        .bind(places(grants, &[Kind::Type]).0)
        .bind(parameters)
        .fetch(connection);
    let mut objects = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(error::failed(READ))? {
        let Some(on) = On::from_text(&row.kind) else { continue };
        objects.push(Object {
            on,
            oid: row.oid,
            schema: row.schema,
            name: row.name,
            arguments: row.arguments,
            is_partition: row.is_partition,
            is_trusted: row.is_trusted,
            owner: row.owner,
            owner_is_superuser: row.owner_is_superuser,
            is_ours: row.is_ours,
            held: privileges(row.held),
            held_from_others: privileges(row.held_from_others),
            of_everybody: privileges(row.of_everybody),
            of_everybody_in_reach: privileges(row.of_everybody_in_reach),
            may_pass_on: privileges(row.may_pass_on),
        });
    }
    objects.sort_by(|one, other| {
        (one.on, &one.schema, &one.name, &one.arguments).cmp(&(
            other.on,
            &other.schema,
            &other.name,
            &other.arguments,
        ))
    });
    Ok(objects)
}

/// The columns of these tables, in their order, and of those that the group holds something of a column of.
pub(crate) async fn columns(
    connection: &mut PgConnection,
    tables: Vec<Oid>,
    group: Option<Oid>,
) -> Result<Vec<Column>, Error> {
    let mut rows =
        sqlx::query_as::<_, ColumnRow>(COLUMNS).bind(group).bind(tables).fetch(connection);
    let mut columns = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(error::failed(READ))? {
        columns.push(Column {
            table: row.table,
            name: row.name,
            held: privileges(row.held),
            held_from_others: privileges(row.held_from_others),
        });
    }
    Ok(columns)
}

/// What is granted on what anybody makes later.
pub(crate) async fn later(
    connection: &mut PgConnection,
    group: Option<Oid>,
) -> Result<Vec<Later>, Error> {
    let rows: Vec<LaterRow> = sqlx::query_as(LATER)
        .bind(group)
        .fetch_all(connection)
        .await
        .map_err(error::failed(READ))?;
    let read = |row: LaterRow| {
        Some(Later {
            on: On::from_text(&row.kind)?,
            schema: row.schema,
            owner: row.owner,
            is_ours: row.is_ours,
            held: privileges(Some(row.held)),
            of_everybody: privileges(Some(row.of_everybody)),
        })
    };
    Ok(rows.into_iter().filter_map(read).collect())
}
