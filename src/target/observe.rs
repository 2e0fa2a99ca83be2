//! What is there: questions to a target's catalogues, which change nothing.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, postgres::types::Oid};

use crate::{
    domain::{role::GROUP_PREFIX, target::Way},
    target::{
        Server,
        error::{self, Error, Meaning},
        sql, way,
    },
};

/// What a target says of itself, and the name of our admin there.
pub(crate) struct Facts {
    pub(crate) server: Server,
    pub(crate) admin: String,
    /// How our admin acts here.
    pub(crate) way: Way,
}

impl Facts {
    /// Do memberships have options of their own?
    pub(crate) const fn grants_have_options(&self) -> bool {
        self.server.version_num >= sql::GRANTS_HAVE_OPTIONS
    }
}

#[derive(FromRow)]
struct FactsRow {
    system_identifier: Option<i64>,
    version_num: i32,
    now: DateTime<Utc>,
    in_recovery: bool,
    admin: String,
    admin_is_superuser: bool,
    may_create_roles: bool,
    may_end_sessions: bool,
    has_functions: Option<bool>,
    shares: Option<bool>,
}

/// A cluster's own number, made by initdb. Everybody may ask for it, unless that was taken away, and
/// PostgreSQL looks at that right before it runs anything, so that no CASE gets round it.
pub(crate) const SYSTEM_IDENTIFIER: &str = "(SELECT system_identifier FROM pg_control_system())";

const FACTS: &str = "\
       current_setting('server_version_num')::int AS version_num,
       clock_timestamp() AS now,
       pg_is_in_recovery() AS in_recovery,
       rolname::text AS admin,
       rolsuper AS admin_is_superuser,
       rolsuper OR rolcreaterole AS may_create_roles,
       rolsuper OR pg_has_role(oid, 'pg_signal_backend', 'USAGE') AS may_end_sessions,
       installed.has_functions, installed.shares
FROM pg_roles
-- Functions of somebody else would run with our admin's rights: those that bootstrap-target installed
-- are a superuser's, or of whoever made the role that the shards have in common.
LEFT JOIN LATERAL (
    SELECT bool_or(p.proname = 'issue') AS has_functions, bool_or(p.proname = 'shard') AS shares
    FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner JOIN pg_proc p ON p.pronamespace = n.oid
    WHERE NOT pg_roles.rolcreaterole AND n.nspname = 'pgvalet_admin'
      AND has_schema_privilege(n.oid, 'USAGE')
      AND (o.rolsuper OR EXISTS (
          SELECT FROM pg_auth_members m JOIN pg_roles s ON s.oid = m.roleid
          WHERE s.rolname = 'pgvalet_shards' AND m.member = o.oid AND m.admin_option))
) installed ON true
WHERE rolname = current_user";

/// Asks the target about itself.
pub(crate) async fn facts(connection: &mut PgConnection) -> Result<Facts, Error> {
    let row = match facts_row(connection, SYSTEM_IDENTIFIER).await {
        Err(error) if error::meaning_of(&error) == Some(Meaning::NotAllowed) => {
            facts_row(connection, "NULL::bigint").await
        }
        outcome => outcome,
    };
    let row = row.map_err(error::failed("say what it is"))?;
    if row.version_num < sql::OLDEST {
        return Err(Error::TooOld { major: row.version_num / 10_000 });
    }
    let way = match (row.has_functions, row.shares) {
        (Some(true), Some(true)) => Way::Shards,
        (Some(true), _) => Way::Functions,
        _ => Way::Direct,
    };
    Ok(Facts {
        way,
        admin: row.admin,
        server: Server {
            system_identifier: row.system_identifier,
            version_num: row.version_num,
            now: row.now,
            in_recovery: row.in_recovery,
            admin_is_superuser: row.admin_is_superuser,
            may_create_roles: row.may_create_roles,
            may_end_sessions: row.may_end_sessions || way.calls(),
        },
    })
}

async fn facts_row(
    connection: &mut PgConnection,
    system_identifier: &str,
) -> Result<FactsRow, sqlx::Error> {
    let query = format!("SELECT {system_identifier} AS system_identifier,\n{FACTS}");
    sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_one(connection).await
}

/// The same, before a change: refuses a standby.
pub(crate) async fn facts_to_change(connection: &mut PgConnection) -> Result<Facts, Error> {
    let facts = facts(connection).await?;
    if facts.server.in_recovery {
        return Err(Error::InRecovery);
    }
    Ok(facts)
}

/// Which cluster this is, if it may be asked, and what its clock says.
pub(crate) async fn whereabouts(
    connection: &mut PgConnection,
    system_identifier: &str,
) -> Result<(Option<i64>, DateTime<Utc>), sqlx::Error> {
    let query = format!("SELECT {system_identifier}, clock_timestamp()");
    sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_one(connection).await
}

/// A role as the catalogue shows it.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Role {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) inherits: bool,
    pub(crate) may_sign_in: bool,
    pub(crate) is_superuser: bool,
    pub(crate) may_create_roles: bool,
    pub(crate) may_create_databases: bool,
    pub(crate) may_replicate: bool,
    pub(crate) bypasses_rls: bool,
}

impl Role {
    /// An attribute that reaches beyond grants, in PostgreSQL's word for it.
    pub(crate) const fn power(&self) -> Option<&'static str> {
        match self {
            Self { is_superuser: true, .. } => Some("SUPERUSER"),
            Self { may_create_roles: true, .. } => Some("CREATEROLE"),
            Self { may_create_databases: true, .. } => Some("CREATEDB"),
            Self { may_replicate: true, .. } => Some("REPLICATION"),
            Self { bypasses_rls: true, .. } => Some("BYPASSRLS"),
            _ => None,
        }
    }
}

const ROLES: &str = "\
SELECT oid, rolname::text AS name, rolinherit AS inherits, rolcanlogin AS may_sign_in,
       rolsuper AS is_superuser, rolcreaterole AS may_create_roles,
       rolcreatedb AS may_create_databases, rolreplication AS may_replicate,
       rolbypassrls AS bypasses_rls
FROM pg_roles WHERE rolname = $1 OR oid = $2 ORDER BY oid";

/// The role of this name, and that of this OID, which may be another or the same.
pub(crate) async fn roles(
    connection: &mut PgConnection,
    name: &str,
    oid: Option<u32>,
) -> Result<Vec<Role>, Error> {
    sqlx::query_as(ROLES)
        .bind(name)
        .bind(oid.map(Oid))
        .fetch_all(connection)
        .await
        .map_err(error::failed("look a role up"))
}

/// The role of this name.
pub(crate) async fn role(connection: &mut PgConnection, name: &str) -> Result<Option<Role>, Error> {
    Ok(roles(connection, name, None).await?.into_iter().next())
}

/// Roles that run programs or touch files of the server, end other people's sessions, or connect
/// outwards from it: whoever reaches one of these has left the database.
pub(crate) const POWERFUL: [&str; 5] = [
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_signal_backend",
    "pg_create_subscription",
];

/// Everything that a member of the role may become, the role itself first, then one step or many:
/// only what speaks against handing it out. What a role owns stands in the catalogue that all
/// databases share, found by its index on the owner. A user mapping counts as the role's own there,
/// but is only a password for elsewhere that somebody gave it.
const REACHES: &str = "\
WITH RECURSIVE reached (oid) AS (
    SELECT $1::oid
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN reached ON m.member = reached.oid
), found AS (
    SELECT r.oid, r.rolname, owned.what,
           r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
               OR r.rolname = ANY ($2) AS has_power
    FROM reached JOIN pg_roles r ON r.oid = reached.oid
    LEFT JOIN LATERAL (
        SELECT CASE WHEN d.dbid = 0 OR b.datname = current_database()
                    THEN pg_describe_object(d.classid, d.objid, d.objsubid)
                    ELSE 'one in database ' || b.datname END AS what
        FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o'
          AND d.classid <> 'pg_user_mapping'::regclass
        LIMIT 1
    ) owned ON true
)
SELECT rolname::text AS name, what AS owns, has_power
FROM found WHERE has_power OR (what IS NOT NULL AND NOT ($4 AND oid = $1)) OR ($3 AND oid <> $1)
ORDER BY oid <> $1, 1 LIMIT 1";

/// A role that a group role's members could become, or the group role itself.
#[derive(Debug, FromRow)]
struct Reached {
    name: String,
    owns: Option<String>,
    has_power: bool,
}

impl Reached {
    /// Why the group role is not handed out, and what to do.
    fn fault(&self, group: &str) -> String {
        let name = &self.name;
        let revoke =
            format!("run `REVOKE {} FROM {}`", sql::identifier(name), sql::identifier(group));
        match &self.owns {
            Some(owned) if name == group => format!(
                "it owns objects, such as {owned}: a login could alter and drop them; give them to another role (`REASSIGN OWNED BY {} TO …`), or name another role",
                sql::identifier(group)
            ),
            Some(owned) => format!(
                "its members could become `{name}`, which owns objects, such as {owned}: {revoke}, or name another role"
            ),
            None if name == group => {
                "it reaches beyond its database by itself: name another role".to_owned()
            }
            None if self.has_power => {
                format!("its members could become `{name}`: {revoke}, or name another role")
            }
            None => format!(
                "it is a member of `{name}`, but pgvalet keeps it for what it grants itself: {revoke}"
            ),
        }
    }
}

/// Do we make and keep roles of such a name? They are members of nothing.
fn is_managed(name: &str) -> bool {
    name.starts_with(GROUP_PREFIX) || name.starts_with(sql::CONNECT_PREFIX)
}

/// May a group role own things?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owns {
    /// No: its logins could alter and drop them.
    Nothing,
    /// Yes: its sessions make them, or it was named for what it owns.
    WhatItMakes,
}

impl Owns {
    /// As the profile has it.
    pub(crate) const fn by(group_may_own: bool) -> Self {
        if group_may_own { Self::WhatItMakes } else { Self::Nothing }
    }
}

/// Finds a group role, and makes sure that handing it out hands out grants and nothing more.
pub(crate) async fn safe_group(
    connection: &mut PgConnection,
    name: &str,
    owns: Owns,
) -> Result<Option<Role>, Error> {
    let Some(group) = role(connection, name).await? else { return Ok(None) };
    let unsafe_because = |fault| Error::GroupUnsafe { group: name.to_owned(), fault };
    if group.may_sign_in {
        return Err(unsafe_because(format!(
            "it may sign in itself: run `ALTER ROLE {} NOLOGIN`, or name another role",
            sql::identifier(name)
        )));
    }
    if let Some(power) = group.power() {
        return Err(unsafe_because(format!(
            "it has {power}: run `ALTER ROLE {} NO{power}`, or name another role",
            sql::identifier(name)
        )));
    }
    let powerful: &[&str] = &POWERFUL;
    let reached: Option<Reached> = sqlx::query_as(REACHES)
        .bind(group.oid)
        .bind(powerful)
        .bind(is_managed(name))
        .bind(owns == Owns::WhatItMakes)
        .fetch_optional(connection)
        .await
        .map_err(error::failed("look up what a role reaches"))?;
    match reached {
        Some(reached) => Err(unsafe_because(reached.fault(name))),
        None => Ok(Some(group)),
    }
}

/// May our admin hand the group out?
pub(crate) async fn check_may_grant(
    connection: &mut PgConnection,
    facts: &Facts,
    group: &Role,
) -> Result<(), Error> {
    if facts.way.calls() {
        return way::check_group(connection, &group.name).await;
    }
    let may = if facts.grants_have_options() {
        sqlx::query_scalar("SELECT pg_has_role($1, 'MEMBER WITH ADMIN OPTION')")
            .bind(group.oid)
            .fetch_one(connection)
            .await
            .map_err(error::failed("look up whether a role may be granted"))?
    } else {
        facts.server.may_create_roles
    };
    if may {
        return Ok(());
    }
    Err(Error::LacksRight {
        action: format!("grant the role `{}`", group.name),
        remedy: sql::let_admin_grant(&group.name, &facts.admin, facts.server.version_num),
        source: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_group_names_what_helps() {
        let reached = |name: &str, owns: Option<&str>, has_power| {
            Reached { name: name.to_owned(), owns: owns.map(str::to_owned), has_power }.fault("g")
        };
        for (fault, begins, helps) in [
            (
                reached("g", Some("table a"), false),
                "it owns objects, such as table a:",
                "`REASSIGN OWNED BY \"g\" TO …`",
            ),
            (
                reached("o", Some("table a"), false),
                "its members could become `o`, which owns objects, such as table a:",
                "`REVOKE \"o\" FROM \"g\"`",
            ),
            (
                reached("o", None, true),
                "its members could become `o`:",
                "`REVOKE \"o\" FROM \"g\"`",
            ),
            (reached("g", None, true), "it reaches beyond its database", "name another role"),
            (reached("o", None, false), "it is a member of `o`,", "`REVOKE \"o\" FROM \"g\"`"),
        ] {
            assert!(fault.starts_with(begins) && fault.contains(helps), "{fault}");
        }
    }

    #[test]
    fn roles_of_ours_are_known_by_their_name() {
        assert!(is_managed("pgvg_shop_read") && is_managed("pgvc_shop"));
        assert!(!is_managed("reporting") && !is_managed("pgv_alice"));
    }
}
