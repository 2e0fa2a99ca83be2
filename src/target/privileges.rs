//! What a profile's group role holds in its database, as the catalogue shows it.
//!
//! Only what was granted to the group itself counts: what everybody has (PUBLIC) may be taken away
//! by somebody else tomorrow. Partitions are left out, because the rights on their parent suffice.

use sqlx::{FromRow, PgConnection, postgres::types::Oid};

use crate::target::{
    error::{self, Error},
    sql::Kind,
};

/// A schema, and what the group holds on it.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct SchemaSeen {
    pub(crate) name: String,
    pub(crate) owner: String,
    /// Then our admin must never be made a member of it.
    pub(crate) owner_is_superuser: bool,
    /// May our admin act for the owner?
    pub(crate) is_ours: bool,
    /// Does everybody have USAGE?
    pub(crate) is_open: bool,
    pub(crate) held: Vec<String>,
    pub(crate) held_from_others: Vec<String>,
}

/// A table, a view or a sequence, and what the group holds on it.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct ObjectSeen {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) is_sequence: bool,
    pub(crate) owner: String,
    /// Then our admin must never be made a member of it.
    pub(crate) owner_is_superuser: bool,
    /// May our admin act for the owner?
    pub(crate) is_ours: bool,
    pub(crate) held: Vec<String>,
    /// On some column of it.
    pub(crate) held_on_columns: Vec<String>,
    /// Granted by somebody other than the owner, so out of our reach.
    pub(crate) held_from_others: Vec<String>,
}

impl ObjectSeen {
    pub(crate) const fn kind(&self) -> Kind {
        if self.is_sequence { Kind::Sequence } else { Kind::Table }
    }
}

/// What the group gets on what somebody makes later.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct DefaultSeen {
    pub(crate) schema: String,
    pub(crate) owner: String,
    pub(crate) is_ours: bool,
    pub(crate) is_for_sequences: bool,
    pub(crate) held: Vec<String>,
}

impl DefaultSeen {
    pub(crate) const fn kind(&self) -> Kind {
        if self.is_for_sequences { Kind::Sequence } else { Kind::Table }
    }
}

/// All of it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) schemas: Vec<SchemaSeen>,
    pub(crate) objects: Vec<ObjectSeen>,
    pub(crate) defaults: Vec<DefaultSeen>,
}

// `pg_database_owner` owns schema `public` from 15 on and stands for the database's owner; nobody
// makes anything as it, so the owner is named in its place.
const SCHEMAS: &str = "\
SELECT n.nspname::text AS name, o.rolname::text AS owner, o.rolsuper AS owner_is_superuser,
       pg_has_role(o.oid, 'USAGE') AS is_ours,
       EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner)))
               WHERE grantee = 0 AND privilege_type = 'USAGE') AS is_open,
       array(SELECT DISTINCT privilege_type FROM aclexplode(n.nspacl)
             WHERE grantee = $2 AND grantor = n.nspowner ORDER BY 1) AS held,
       array(SELECT DISTINCT privilege_type FROM aclexplode(n.nspacl)
             WHERE grantee = $2 AND grantor <> n.nspowner ORDER BY 1) AS held_from_others
FROM pg_namespace n
JOIN pg_roles r ON r.oid = n.nspowner
JOIN pg_database d ON d.datname = current_database()
JOIN pg_roles o ON o.oid = CASE r.rolname WHEN 'pg_database_owner' THEN d.datdba ELSE r.oid END
WHERE n.nspname = ANY ($1)
   OR (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND EXISTS (SELECT FROM aclexplode(n.nspacl) WHERE grantee = $2))
ORDER BY 1";

const OBJECTS: &str = "\
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'S' AS is_sequence,
       o.rolname::text AS owner, o.rolsuper AS owner_is_superuser,
       pg_has_role(o.oid, 'USAGE') AS is_ours,
       array(SELECT DISTINCT privilege_type FROM aclexplode(c.relacl)
             WHERE grantee = $2 AND grantor = c.relowner ORDER BY 1) AS held,
       array(SELECT DISTINCT x.privilege_type
             FROM pg_attribute t, aclexplode(t.attacl) x
             WHERE t.attrelid = c.oid AND NOT t.attisdropped
               AND x.grantee = $2 AND x.grantor = c.relowner ORDER BY 1) AS held_on_columns,
       array(SELECT DISTINCT privilege_type FROM aclexplode(c.relacl)
             WHERE grantee = $2 AND grantor <> c.relowner ORDER BY 1) AS held_from_others
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles o ON o.oid = c.relowner
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND ((n.nspname = ANY ($1) AND NOT c.relispartition)
       OR (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           AND (EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantee = $2)
                OR EXISTS (SELECT FROM pg_attribute t, aclexplode(t.attacl) x
                           WHERE t.attrelid = c.oid AND x.grantee = $2))))
ORDER BY 1, 2";

const DEFAULTS: &str = "\
SELECT n.nspname::text AS schema, o.rolname::text AS owner,
       pg_has_role(o.oid, 'USAGE') AS is_ours, a.defaclobjtype = 'S' AS is_for_sequences,
       array(SELECT DISTINCT privilege_type FROM aclexplode(a.defaclacl)
             WHERE grantee = $1 ORDER BY 1) AS held
FROM pg_default_acl a
JOIN pg_namespace n ON n.oid = a.defaclnamespace
JOIN pg_roles o ON o.oid = a.defaclrole
WHERE a.defaclobjtype IN ('r', 'S')
  AND EXISTS (SELECT FROM aclexplode(a.defaclacl) WHERE grantee = $1)
ORDER BY 1, 2, 4";

/// Reads the named schemas with all that is in them, and whatever else the group holds. A group that
/// is not there yet holds nothing.
pub(crate) async fn seen(
    connection: &mut PgConnection,
    schemas: &[String],
    group: Option<Oid>,
) -> Result<Seen, Error> {
    const READ: &str = "read what a group role holds";
    Ok(Seen {
        schemas: sqlx::query_as(SCHEMAS)
            .bind(schemas)
            .bind(group)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(READ))?,
        objects: sqlx::query_as(OBJECTS)
            .bind(schemas)
            .bind(group)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(READ))?,
        defaults: sqlx::query_as(DEFAULTS)
            .bind(group)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::failed(READ))?,
    })
}
