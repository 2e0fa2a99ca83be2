//! What is on a target, all of it at once: a few questions, whatever the number of logins.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection, postgres::types::Oid};

use crate::{
    domain::{
        caution::Epoch,
        sweep::{Membership, Seen},
    },
    target::{
        Server,
        connect::Connections,
        error::{self, Error},
        observe::Facts,
        sql,
    },
};

/// What was seen of a target.
#[derive(Debug)]
pub struct Survey {
    /// Itself.
    pub server: Server,
    /// Every role of a login's shape.
    pub logins: Vec<Seen>,
    /// Sessions whose role is gone: its OID, and how many.
    pub roleless: Vec<(u32, i64)>,
}

const LOOK: &str = "look at all logins";

/// All of a consistent picture, but for sessions, of which there is none.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

#[derive(FromRow)]
struct RoleRow {
    oid: Oid,
    role: String,
    comment: Option<String>,
    may_sign_in: bool,
    inherits: bool,
    is_superuser: bool,
    may_create_roles: bool,
    may_create_databases: bool,
    may_replicate: bool,
    bypasses_rls: bool,
    connection_limit: i32,
    valid_until: Option<DateTime<Utc>>,
    settings: Vec<String>,
}

const ROLES: &str = "\
SELECT r.oid, r.rolname::text AS role, d.description AS comment, r.rolcanlogin AS may_sign_in,
       r.rolinherit AS inherits, r.rolsuper AS is_superuser, r.rolcreaterole AS may_create_roles,
       r.rolcreatedb AS may_create_databases, r.rolreplication AS may_replicate,
       r.rolbypassrls AS bypasses_rls, r.rolconnlimit AS connection_limit,
       CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END AS valid_until,
       coalesce(r.rolconfig, '{}') AS settings
FROM pg_roles r
LEFT JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE r.rolname LIKE 'pgv\\_%' AND ($1::oid IS NULL OR r.oid = $1)";

#[derive(FromRow)]
struct MembershipRow {
    member: Oid,
    group_name: String,
    is_admin: bool,
    inherits: bool,
    may_set: bool,
}

/// Before 16 memberships have no options, and NOINHERIT decides: `inherits` is false then.
const MEMBERSHIPS: &str = "\
SELECT m.member, g.rolname::text AS group_name, m.admin_option AS is_admin,
       coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, false) AS inherits,
       coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) AS may_set
FROM pg_auth_members m
JOIN pg_roles r ON r.oid = m.member
JOIN pg_roles g ON g.oid = m.roleid
WHERE r.rolname LIKE 'pgv\\_%' AND ($1::oid IS NULL OR r.oid = $1)";

/// Who is a member of a login. From 16 on whoever made a role holds it with ADMIN and no more.
const MEMBERS: &str = "\
SELECT m.roleid, u.rolname::text
FROM pg_auth_members m
JOIN pg_roles r ON r.oid = m.roleid
JOIN pg_roles u ON u.oid = m.member
WHERE r.rolname LIKE 'pgv\\_%' AND ($1::oid IS NULL OR r.oid = $1) AND u.rolname <> current_user
  AND NOT (m.admin_option AND NOT coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
           AND NOT coalesce((to_jsonb(m) ->> 'set_option')::boolean, true))";

const DATABASE_SETTINGS: &str = "\
SELECT s.setrole, d.datname::text
FROM pg_db_role_setting s
JOIN pg_roles r ON r.oid = s.setrole
JOIN pg_database d ON d.oid = s.setdatabase
WHERE r.rolname LIKE 'pgv\\_%' AND ($1::oid IS NULL OR r.oid = $1)";

const ROLELESS: &str = "\
SELECT a.usesysid, count(*)
FROM pg_stat_activity a
WHERE a.usesysid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid)
GROUP BY 1";

/// Looks at every login, and at sessions without a role.
pub(crate) async fn survey(connections: &Connections) -> Result<Survey, Error> {
    let (mut connection, Facts { server, .. }) = connections.to_change_cluster(None).await?;
    let logins = logins(&mut connection, None).await?;
    let roleless: Vec<(Oid, i64)> = sqlx::query_as(ROLELESS)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::failed("look for sessions without a role"))?;
    let roleless = roleless.into_iter().map(|(oid, count)| (oid.0, count)).collect();
    Ok(Survey { server, logins, roleless })
}

/// Looks at one login.
pub(crate) async fn look(connections: &Connections, oid: u32) -> Result<Option<Seen>, Error> {
    let mut connection = connections.to_cluster(None).await?;
    Ok(logins(&mut connection, Some(oid)).await?.pop())
}

async fn logins(connection: &mut PgConnection, only: Option<u32>) -> Result<Vec<Seen>, Error> {
    let failed = error::failed(LOOK);
    let found = read(connection, only.map(Oid)).await.map_err(failed)?;
    Ok(found.into_values().collect())
}

async fn read(
    connection: &mut PgConnection,
    only: Option<Oid>,
) -> Result<HashMap<u32, Seen>, sqlx::Error> {
    let mut tx = connection.begin_with(BEGIN).await?;
    let roles: Vec<RoleRow> = sqlx::query_as(ROLES).bind(only).fetch_all(&mut *tx).await?;
    let mut found: HashMap<u32, Seen> =
        roles.into_iter().map(|row| (row.oid.0, seen(row))).collect();
    let rows: Vec<MembershipRow> =
        sqlx::query_as(MEMBERSHIPS).bind(only).fetch_all(&mut *tx).await?;
    for row in rows {
        let is_connect = row.group_name.starts_with(sql::CONNECT_PREFIX)
            && row.inherits
            && !row.may_set
            && !row.is_admin;
        if let Some(login) = found.get_mut(&row.member.0) {
            login.memberships.push(Membership {
                group: row.group_name,
                is_admin: row.is_admin,
                inherits: row.inherits,
                is_connect,
            });
        }
    }
    let rows: Vec<(Oid, String)> = sqlx::query_as(MEMBERS).bind(only).fetch_all(&mut *tx).await?;
    for (oid, member) in rows {
        if let Some(login) = found.get_mut(&oid.0) {
            login.members.push(member);
        }
    }
    let rows: Vec<(Oid, String)> =
        sqlx::query_as(DATABASE_SETTINGS).bind(only).fetch_all(&mut *tx).await?;
    for (oid, database) in rows {
        if let Some(login) = found.get_mut(&oid.0) {
            login.database_settings.push(database);
        }
    }
    tx.commit().await?;
    Ok(found)
}

fn seen(row: RoleRow) -> Seen {
    let powers = [
        (row.is_superuser, "SUPERUSER"),
        (row.may_create_roles, "CREATEROLE"),
        (row.may_create_databases, "CREATEDB"),
        (row.may_replicate, "REPLICATION"),
        (row.bypasses_rls, "BYPASSRLS"),
    ];
    Seen {
        oid: row.oid.0,
        role: row.role,
        comment: row.comment,
        may_sign_in: row.may_sign_in,
        inherits: row.inherits,
        powers: powers.into_iter().filter(|(has, _)| *has).map(|(_, power)| power).collect(),
        connection_limit: row.connection_limit,
        valid_until: row.valid_until,
        settings: row.settings,
        database_settings: Vec::new(),
        memberships: Vec::new(),
        members: Vec::new(),
    }
}

/// What a target knows of an installation: its epoch, and the time.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// The epoch, if one was kept.
    pub epoch: Option<Epoch>,
    /// The target's clock.
    pub now: DateTime<Utc>,
    /// Is it a standby, which takes no changes?
    pub in_recovery: bool,
}

const MEMORY: &str = "\
SELECT (SELECT d.description FROM pg_roles r
        JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
        WHERE r.rolname = $1),
       clock_timestamp(), pg_is_in_recovery()";

/// Reads it.
pub(crate) async fn memory(
    connections: &Connections,
    installation: uuid::Uuid,
) -> Result<Memory, Error> {
    let mut connection = connections.to_cluster(None).await?;
    let (comment, now, in_recovery): (Option<String>, _, _) = sqlx::query_as(MEMORY)
        .bind(Epoch::role(installation))
        .fetch_one(&mut *connection)
        .await
        .map_err(error::failed("read the epoch"))?;
    let epoch = comment.as_deref().and_then(Epoch::read);
    let epoch = epoch.filter(|epoch| epoch.installation == installation);
    Ok(Memory { epoch, now, in_recovery })
}
