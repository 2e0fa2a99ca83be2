//! Making a login: one transaction, which looks at the outcome before it commits.
//!
//! The login holds nothing itself (NOINHERIT): its sessions start as the group role and work with
//! that role's rights. What has to hold of it is read back from the catalogue in the same
//! transaction, because some of the statements only warn when they do nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection, postgres::types::Oid};

use crate::{
    domain::role::LoginName,
    target::{
        NewLogin,
        connect::{Connections, Patience, run},
        context,
        error::{self, Error, Meaning},
        observe::{self, Facts, Owns, Role},
        sql::{self, LoginTerms, LoginVerb, Membership},
        way,
    },
};

/// Another transaction in the way is gone within this time, or the caller tries again later.
const CONFLICT_TIME: Duration = Duration::from_secs(6);

const MAKE: &str = "make a login";

/// A login that was made, and what making the next ones takes on this server.
pub(crate) struct Made {
    pub(crate) oid: u32,
    /// 0 where our admin calls functions, which need no statements of ours.
    pub(crate) server_version: i32,
    /// Is everybody let into the database, so that a login needs no CONNECT of its own?
    pub(crate) is_open: bool,
}

/// Makes a login, or sets right one that is there.
pub(crate) async fn create(connections: &Connections, new: &NewLogin<'_>) -> Result<Made, Error> {
    let mut patience = Patience::lasting(CONFLICT_TIME);
    loop {
        match create_once(connections, new).await {
            Err(error) if error.is_conflict() && patience.wait().await => {}
            outcome => return outcome,
        }
    }
}

/// Moves a login's end.
pub(crate) async fn set_valid_until(
    connections: &Connections,
    login: &LoginName,
    oid: u32,
    until: DateTime<Utc>,
) -> Result<(), Error> {
    let mut patience = Patience::lasting(CONFLICT_TIME);
    loop {
        match set_valid_until_once(connections, login, oid, until).await {
            Err(error) if error.is_conflict() && patience.wait().await => {}
            outcome => return outcome,
        }
    }
}

async fn set_valid_until_once(
    connections: &Connections,
    login: &LoginName,
    oid: u32,
    until: DateTime<Utc>,
) -> Result<(), Error> {
    const MOVE: &str = "move the end of a login";
    let (mut connection, facts) = connections.to_change_cluster(None).await?;
    let mut tx = connection.begin().await.map_err(error::failed(MOVE))?;
    let found = observe::role(&mut tx, login.as_str()).await?;
    if found.is_none_or(|role| role.oid != Oid(oid)) {
        return Err(Error::Gone { role: login.to_string() });
    }
    let statement = facts.way.valid_until(login.as_str(), oid, until);
    run(&mut tx, &statement).await.map_err(error::failed(MOVE))?;
    tx.commit().await.map_err(error::failed(MOVE))
}

async fn create_once(connections: &Connections, new: &NewLogin<'_>) -> Result<Made, Error> {
    let (mut connection, facts) = connections.to_change(new.database).await?;
    if facts.way.calls() {
        let mut tx = connection.begin().await.map_err(error::failed(MAKE))?;
        let oid = way::issue(&mut tx, new).await?;
        keep_claims(&mut tx, new).await?;
        tx.commit().await.map_err(error::failed(MAKE))?;
        return Ok(Made { oid, server_version: 0, is_open: false });
    }
    if !facts.server.may_create_roles {
        return Err(Error::LacksRight {
            action: "create roles".to_owned(),
            remedy: format!("ALTER ROLE {} CREATEROLE", sql::identifier(&facts.admin)),
            source: None,
        });
    }
    // A login whose sessions cannot be ended is not handed out.
    if !facts.server.may_end_sessions {
        return Err(Error::LacksRight {
            action: "end sessions of a login".to_owned(),
            remedy: sql::let_admin_end_sessions(&facts.admin, facts.server.version_num),
            source: None,
        });
    }
    let mut tx = connection.begin().await.map_err(error::failed(MAKE))?;
    let group = observe::safe_group(&mut tx, new.group_role, Owns::by(new.group_may_own))
        .await?
        .ok_or_else(|| Error::GroupMissing { group: new.group_role.to_owned() })?;
    observe::check_may_grant(&mut tx, &facts, &group).await?;

    make_role(&mut tx, new).await?;
    // The group before the role for CONNECT, everywhere: from 16 on each GRANT locks its group
    // until the commit, and two orders would deadlock.
    let membership = sql::grant_membership(
        new.group_role,
        new.role.as_str(),
        Membership::ToBecome,
        facts.server.version_num,
    );
    run(&mut tx, &membership).await.map_err(error::failed("grant a login its group role"))?;
    give_settings(&mut tx, new).await?;
    run(&mut tx, &sql::comment_on_role(new.role.as_str(), &new.comment))
        .await
        .map_err(error::failed(MAKE))?;
    keep_claims(&mut tx, new).await?;
    let is_open = may_connect(&mut tx, new.role.as_str()).await?;
    let connect_role = let_in(&mut tx, &facts, new, is_open).await?;

    let oid = check(&mut tx, &facts, new, connect_role.as_ref()).await?;
    tx.commit().await.map_err(error::failed(MAKE))?;
    Ok(Made { oid, server_version: facts.server.version_num, is_open })
}

/// The role itself. A role of this name is from an earlier try whose outcome we did not hear: names
/// are never used twice. Altering it locks its row, so that a DROP cannot slip between it and the
/// grant, which would leave a membership of nobody.
async fn make_role(tx: &mut PgConnection, new: &NewLogin<'_>) -> Result<(), Error> {
    let name = new.role.as_str();
    let terms = LoginTerms {
        verifier: new.verifier,
        valid_until: new.valid_until,
        connection_limit: new.connection_limit,
    };
    let earlier = observe::role(tx, name).await?;
    if let Some(power) = earlier.as_ref().and_then(Role::power) {
        return Err(Error::NotOurs {
            role: name.to_owned(),
            fault: format!("it has {power}; a login of ours never has"),
        });
    }
    let verb = if earlier.is_some() { LoginVerb::Alter } else { LoginVerb::Create };
    let statement = sql::login(verb, name, &terms).ok_or_else(|| Error::Failure {
        doing: MAKE,
        source: "the verifier is malformed, and PostgreSQL would take it for a password".into(),
    })?;
    run(tx, &statement).await.map_err(error::failed(MAKE))?;
    if earlier.is_some() {
        run(tx, &sql::reset_settings(name)).await.map_err(error::failed(MAKE))?;
    }
    Ok(())
}

/// What the login's sessions begin with: as the group role, and with the profile's settings.
async fn give_settings(tx: &mut PgConnection, new: &NewLogin<'_>) -> Result<(), Error> {
    let name = new.role.as_str();
    run(tx, &sql::set_setting(name, "role", new.group_role))
        .await
        .map_err(error::failed("let a login start as its group role"))?;
    for (setting, value) in new.settings {
        run(tx, &sql::set_setting(name, setting, value)).await.map_err(|error| {
            match error::meaning_of(&error) {
                Some(Meaning::NotAllowed | Meaning::Other) => Error::SettingRefused {
                    setting: setting.clone(),
                    source: error::source_of(error),
                },
                _ => error::failed(MAKE)(error),
            }
        })?;
    }
    Ok(())
}

async fn keep_claims(tx: &mut PgConnection, new: &NewLogin<'_>) -> Result<(), Error> {
    let Some(statement) = context::keep(new.role.as_str(), new.claims) else { return Ok(()) };
    run(tx, &statement).await.map_err(|error| match error::meaning_of(&error) {
        Some(Meaning::NoSuchObject | Meaning::NotAllowed) => Error::ContextMissing {
            database: new.database.to_owned(),
            source: error::source_of(error),
        },
        _ => error::failed("keep what row-level security sees of a login")(error),
    })
}

const MAY_CONNECT: &str = "SELECT has_database_privilege($1, current_database(), 'CONNECT')";

/// Lets the login into its database, when not everybody is let in. CONNECT is checked before a
/// session becomes its group role, so the group's own CONNECT does not help a NOINHERIT login.
///
/// From 16 on a role that holds only CONNECT is inherited beside the group: a grant of its own for
/// each login would make them all write to the database's one row in `pg_database`.
async fn let_in(
    tx: &mut PgConnection,
    facts: &Facts,
    new: &NewLogin<'_>,
    is_open: bool,
) -> Result<Option<Role>, Error> {
    let name = sql::connect_role_name(new.database);
    let existing = if facts.grants_have_options() { observe::role(tx, &name).await? } else { None };
    if is_open {
        return Ok(existing);
    }
    if !facts.grants_have_options() {
        grant_connect(tx, facts, new.database, new.role.as_str()).await?;
        return Ok(None);
    }
    if existing.is_none() {
        run(tx, &sql::create_group(&name)).await.map_err(error::failed(MAKE))?;
        let comment = format!("pgvalet: holds CONNECT on database {}, nothing else", new.database);
        run(tx, &sql::comment_on_role(&name, &comment)).await.map_err(error::failed(MAKE))?;
    }
    let role = observe::safe_group(tx, &name, Owns::Nothing)
        .await?
        .ok_or_else(|| Error::GroupMissing { group: name.clone() })?;
    observe::check_may_grant(tx, facts, &role).await?;
    if !may_connect(tx, &name).await? {
        grant_connect(tx, facts, new.database, &name).await?;
    }
    let version = facts.server.version_num;
    run(tx, &sql::grant_membership(&name, new.role.as_str(), Membership::ToInherit, version))
        .await
        .map_err(error::failed("let a login into its database"))?;
    Ok(Some(role))
}

async fn may_connect(tx: &mut PgConnection, role: &str) -> Result<bool, Error> {
    sqlx::query_scalar(MAY_CONNECT)
        .bind(role)
        .fetch_one(tx)
        .await
        .map_err(error::failed("look up who may connect"))
}

/// Grants CONNECT and looks whether that did anything: without the right to, it only warns.
async fn grant_connect(
    tx: &mut PgConnection,
    facts: &Facts,
    database: &str,
    role: &str,
) -> Result<(), Error> {
    let lacks = |source| Error::LacksRight {
        action: format!("let logins into the database `{database}`"),
        remedy: sql::let_admin_grant_connect(database, &facts.admin),
        source,
    };
    match run(tx, &sql::grant_connect(database, role)).await {
        Ok(()) if may_connect(tx, role).await? => Ok(()),
        Ok(()) => Err(lacks(None)),
        Err(error) if error::meaning_of(&error) == Some(Meaning::NotAllowed) => {
            Err(lacks(Some(error::source_of(error))))
        }
        Err(error) => Err(error::failed("let a login into its database")(error)),
    }
}

/// One membership of a role. Before 16 there are no options: NOINHERIT decides, SET is always there.
#[derive(Debug, PartialEq, Eq, FromRow)]
struct MembershipRow {
    group_oid: Oid,
    group_name: String,
    is_admin: bool,
    inherits: bool,
    may_set: bool,
}

const MEMBERSHIPS: &str = "\
SELECT m.roleid AS group_oid, r.rolname::text AS group_name, m.admin_option AS is_admin,
       coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, false) AS inherits,
       coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) AS may_set
FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = $1 ORDER BY 2";

async fn memberships(tx: &mut PgConnection, member: Oid) -> Result<Vec<MembershipRow>, Error> {
    sqlx::query_as(MEMBERSHIPS)
        .bind(member)
        .fetch_all(tx)
        .await
        .map_err(error::failed("look up memberships"))
}

/// Reads the login back: what is promised of it must be so before anybody can use it.
async fn check(
    tx: &mut PgConnection,
    facts: &Facts,
    new: &NewLogin<'_>,
    connect_role: Option<&Role>,
) -> Result<u32, Error> {
    let unsafe_because = |fault| Error::LoginUnsafe { role: new.role.to_string(), fault };
    let login = observe::role(tx, new.role.as_str())
        .await?
        .ok_or_else(|| unsafe_because("it is not there".to_owned()))?;
    if login.inherits || !login.may_sign_in {
        return Err(unsafe_because("it must have LOGIN and NOINHERIT".to_owned()));
    }
    if let Some(power) = login.power() {
        return Err(unsafe_because(format!("it has {power}")));
    }
    let found = memberships(tx, login.oid).await?;
    if !found.iter().any(|found| found.group_name == new.group_role && found.may_set) {
        return Err(unsafe_because(format!("it cannot become `{}`", new.group_role)));
    }
    for membership in found {
        let is_connect = connect_role.is_some_and(|role| role.oid == membership.group_oid);
        let expected = if is_connect && facts.grants_have_options() {
            !membership.is_admin && membership.inherits && !membership.may_set
        } else {
            membership.group_name == new.group_role && !membership.is_admin && !membership.inherits
        };
        if !expected {
            return Err(unsafe_because(format!(
                "it is a member of `{}` in a way that was not asked for",
                membership.group_name
            )));
        }
    }
    Ok(login.oid.0)
}
