//! What is there: questions to a target's catalogues, which change nothing.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, postgres::types::Oid};

use crate::target::{
    Server,
    error::{self, Error},
    sql,
};

/// What a target says of itself, and the name of our admin there.
pub(crate) struct Facts {
    pub(crate) server: Server,
    pub(crate) admin: String,
}

impl Facts {
    /// Do memberships have options of their own?
    pub(crate) const fn grants_have_options(&self) -> bool {
        self.server.version_num >= sql::GRANTS_HAVE_OPTIONS
    }
}

#[derive(FromRow)]
struct FactsRow {
    version_num: i32,
    now: DateTime<Utc>,
    in_recovery: bool,
    admin: String,
    admin_is_superuser: bool,
    may_create_roles: bool,
    may_end_sessions: bool,
}

const FACTS: &str = "\
SELECT current_setting('server_version_num')::int AS version_num,
       clock_timestamp() AS now,
       pg_is_in_recovery() AS in_recovery,
       rolname::text AS admin,
       rolsuper AS admin_is_superuser,
       rolsuper OR rolcreaterole AS may_create_roles,
       rolsuper OR pg_has_role(oid, 'pg_signal_backend', 'USAGE') AS may_end_sessions
FROM pg_roles WHERE rolname = current_user";

/// Asks the target about itself.
pub(crate) async fn facts(connection: &mut PgConnection) -> Result<Facts, Error> {
    let row: FactsRow = sqlx::query_as(FACTS)
        .fetch_one(connection)
        .await
        .map_err(error::failed("say what it is"))?;
    if row.version_num < sql::OLDEST {
        return Err(Error::TooOld { major: row.version_num / 10_000 });
    }
    Ok(Facts {
        admin: row.admin,
        server: Server {
            version_num: row.version_num,
            now: row.now,
            in_recovery: row.in_recovery,
            admin_is_superuser: row.admin_is_superuser,
            may_create_roles: row.may_create_roles,
            may_end_sessions: row.may_end_sessions,
        },
    })
}

/// The same, before a change: refuses a standby.
pub(crate) async fn facts_to_change(connection: &mut PgConnection) -> Result<Facts, Error> {
    let facts = facts(connection).await?;
    if facts.server.in_recovery {
        return Err(Error::InRecovery);
    }
    Ok(facts)
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
const POWERFUL: [&str; 5] = [
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_signal_backend",
    "pg_create_subscription",
];

/// Everything that a member of the role may become, one step or many: only the dangerous.
const REACHES: &str = "\
WITH RECURSIVE reached AS (
    SELECT roleid FROM pg_auth_members WHERE member = $1
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN reached ON m.member = reached.roleid
)
SELECT r.rolname::text FROM reached JOIN pg_roles r ON r.oid = reached.roleid
WHERE r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls OR r.rolname = ANY ($2)
ORDER BY 1 LIMIT 1";

/// Finds a group role, and makes sure that handing it out hands out grants and nothing more.
pub(crate) async fn safe_group(
    connection: &mut PgConnection,
    name: &str,
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
    let reached: Option<String> = sqlx::query_scalar(REACHES)
        .bind(group.oid)
        .bind(powerful)
        .fetch_optional(connection)
        .await
        .map_err(error::failed("look up what a role reaches"))?;
    match reached {
        Some(other) => Err(unsafe_because(format!(
            "its members could become `{other}`: take that membership away, or name another role"
        ))),
        None => Ok(Some(group)),
    }
}

/// May our admin hand the group out?
pub(crate) async fn check_may_grant(
    connection: &mut PgConnection,
    facts: &Facts,
    group: &Role,
) -> Result<(), Error> {
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

/// How many sessions a role has. By OID: a session outlives the name of its role.
pub(crate) async fn sessions(connection: &mut PgConnection, oid: u32) -> Result<i64, Error> {
    sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usesysid = $1")
        .bind(Oid(oid))
        .fetch_one(connection)
        .await
        .map_err(error::failed("count sessions"))
}
