//! What is sent in each of the ways to act: the statements themselves where our admin has CREATEROLE,
//! and calls of the functions that `bootstrap-target` installed (`setup/maker.sql`) where it has not.
//!
//! A function of its own runs each: whether a role is one that may be touched is decided there, by
//! rights that our admin does not have.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, postgres::types::Oid};

use crate::{
    domain::target::Way,
    target::{
        NewLogin,
        error::{self, Error, Meaning},
        handover::Done,
        installed::SCHEMA,
        sql,
    },
};

impl Way {
    /// Does our admin call functions?
    pub(crate) const fn calls(self) -> bool {
        !matches!(self, Self::Direct)
    }

    /// Lets nobody new in as this login.
    pub(crate) fn fence(self, role: &str) -> String {
        if self.calls() { call("fence", role) } else { sql::fence(role) }
    }

    /// Removes a login's role.
    pub(crate) fn drop_role(self, role: &str) -> String {
        if self.calls() { call("remove", role) } else { sql::drop_role(role) }
    }

    /// Waits for whoever is making a role of this name; to be rolled back.
    pub(crate) fn wait_for(self, role: &str) -> String {
        if self.calls() {
            format!("SELECT {SCHEMA}.wait_for({})", sql::literal(role))
        } else {
            sql::create_group(role)
        }
    }

    /// Moves the end of a login.
    pub(crate) fn valid_until(self, role: &str, oid: u32, until: DateTime<Utc>) -> String {
        if self.calls() {
            format!(
                "SELECT {SCHEMA}.extend(ARRAY[{}], ARRAY[{oid}::oid], ARRAY[{}::timestamptz])",
                sql::literal(role),
                sql::instant(until)
            )
        } else {
            sql::valid_until(role, until)
        }
    }

    /// Keeps an epoch, by the functions.
    pub(crate) fn keep_epoch(self, role: &str, comment: &str) -> String {
        let (role, comment) = (sql::literal(role), sql::literal(comment));
        format!("SELECT {SCHEMA}.keep_epoch({role}, {comment})")
    }

    /// Makes a profile's group role, with what it is for.
    pub(crate) fn make_group(self, role: &str, comment: &str) -> Vec<String> {
        if self.calls() {
            let (role, comment) = (sql::literal(role), sql::literal(comment));
            vec![format!("SELECT {SCHEMA}.make_group({role}, {comment})")]
        } else {
            vec![sql::create_group(role), sql::comment_on_role(role, comment)]
        }
    }

    /// Tells all sessions of a role (by its OID) to end: a row for each.
    pub(crate) const fn end_sessions(self) -> &'static str {
        match self {
            Self::Direct => {
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = $1"
            }
            Self::Functions | Self::Shards => {
                "SELECT pid, told FROM pgvalet_admin.end_sessions(ARRAY[$1])"
            }
        }
    }
}

fn call(function: &str, role: &str) -> String {
    format!("SELECT {SCHEMA}.{function}(ARRAY[{}], ARRAY[NULL]::oid[])", sql::literal(role))
}

/// Takes the memberships of a login that cannot be shut out at once. Only then: from 16 on each REVOKE
/// reads all members of the group, and with the role the memberships go anyway.
pub(crate) async fn take_memberships(
    connection: &mut PgConnection,
    role: &str,
) -> Result<(), sqlx::Error> {
    crate::target::connect::run(connection, &call("take_memberships", role)).await
}

/// Makes a login, in one call. Its start as the group role is not among its settings: `role` cannot be
/// set by such a function, and is in the connection string that is handed out.
pub(crate) async fn issue(connection: &mut PgConnection, new: &NewLogin<'_>) -> Result<u32, Error> {
    const ISSUE: &str = "\
SELECT pgvalet_admin.issue(ARRAY[$1], ARRAY[$2], ARRAY[$3], ARRAY[$4], ARRAY[$5], ARRAY[$6], ARRAY[$7::jsonb])";
    const MAKE: &str = "make a login";
    let settings = serde_json::to_string(new.settings)
        .map_err(|e| Error::Failure { doing: MAKE, source: e.into() })?;
    let oids: Vec<Oid> = sqlx::query_scalar(ISSUE)
        .bind(new.role.as_str())
        .bind(new.group_role)
        .bind(new.verifier.text())
        .bind(new.valid_until)
        .bind(new.connection_limit)
        .bind(&new.comment)
        .bind(settings)
        .fetch_one(connection)
        .await
        .map_err(|error| match error::meaning_of(&error) {
            Some(Meaning::NotAllowed) => Error::LacksRight {
                action: format!("make the login `{}` as asked for", new.role),
                remedy: "pgvalet bootstrap-target --apply … --group, --allow-setting, --longest-life or --most-connections, as the reason says".to_owned(),
                source: Some(error::source_of(error)),
            },
            _ => error::failed(MAKE)(error),
        })?;
    let made = oids.first().map(|oid| oid.0);
    made.ok_or_else(|| Error::LoginUnsafe {
        role: new.role.to_string(),
        fault: "the function that makes logins gave none".to_owned(),
    })
}

/// May the functions hand this group out?
pub(crate) async fn check_group(connection: &mut PgConnection, group: &str) -> Result<(), Error> {
    sqlx::query("SELECT pgvalet_admin.check_group($1)")
        .bind(group)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| match error::meaning_of(&error) {
            Some(Meaning::NotAllowed) => Error::LacksRight {
                action: format!("grant the role `{group}`"),
                remedy: format!("pgvalet bootstrap-target --apply … --group {group}"),
                source: Some(error::source_of(error)),
            },
            _ => error::failed("look up whether a role may be granted")(error),
        })
}

/// Gives away what a login has in this database, and takes what it was granted.
pub(crate) async fn take_back(
    connection: &mut PgConnection,
    login: &str,
    role: Oid,
) -> Result<Done, Error> {
    const TAKE_BACK: &str = "take back what a login owns";
    const OWNED: &str = "\
SELECT coalesce(array_agg(pg_describe_object(classid, objid, objsubid)) FILTER (WHERE deptype = 'o'), '{}'),
       count(*) FILTER (WHERE deptype = 'a')
FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1
  AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let (handed_over, grants): (Vec<String>, i64) = sqlx::query_as(OWNED)
        .bind(role)
        .fetch_one(&mut *connection)
        .await
        .map_err(error::failed(TAKE_BACK))?;
    let done = sqlx::query("SELECT pgvalet_admin.take_back($1, $2)")
        .bind(login)
        .bind(role)
        .execute(connection)
        .await;
    match done {
        Ok(_) => {
            let moved = !handed_over.is_empty() || grants > 0;
            Ok(Done { handed_over, grants, moved, ..Done::default() })
        }
        Err(error) => match error::meaning_of(&error) {
            // No such schema or function here, or one that is not for us.
            Some(Meaning::Other | Meaning::NotAllowed | Meaning::StillNeeded) => {
                let obstacle = format!(
                    "what it has there cannot be taken back ({}): run `pgvalet bootstrap-target --apply` for this database, too",
                    error::source_of(error)
                );
                Ok(Done { obstacles: vec![obstacle], ..Done::default() })
            }
            _ => Err(error::failed(TAKE_BACK)(error)),
        },
    }
}
