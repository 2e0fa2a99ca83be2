//! What a sweep asks of a target, and what it changes there beside removing: logins are put back to what their leases say,
//! sessions without a role are ended, and the epoch is kept.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::types::Oid};
use uuid::Uuid;

use crate::{
    domain::{
        caution::Epoch,
        role::LoginName,
        sweep::{PutBack, Seen},
        target::Way,
    },
    target::{
        Handle, Memory, RemoveLogin, Survey,
        connect::{Connections, Patience, run},
        error::{self, Error, Meaning},
        observe::{self, Facts},
        remove::quarantine,
        sql, survey,
    },
};

const PUT_BACK: &str = "put a login back to what its lease says";

const KEEP: &str = "keep the epoch";

/// Another transaction in the way is gone within this time, or the next sweep tries again.
const CONFLICT_TIME: Duration = Duration::from_secs(3);

/// What a sweep asks of a target.
impl Handle {
    /// Shuts a login out and ends its sessions, and leaves it there, holding nothing.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is not there. It may be tried again at any time.
    pub async fn quarantine(&self, login: &RemoveLogin<'_>) -> Result<(), Error> {
        quarantine(&self.removing, &self.fences, login).await
    }

    /// Looks at every login that is there.
    ///
    /// # Errors
    /// When the target does not answer, or is a standby.
    pub async fn survey(&self) -> Result<Survey, Error> {
        survey::survey(&self.connections).await
    }

    /// Looks at one login.
    ///
    /// # Errors
    /// When the target does not answer.
    pub async fn look(&self, oid: u32) -> Result<Option<Seen>, Error> {
        survey::look(&self.connections, oid).await
    }

    /// Puts a login back to what its lease says.
    ///
    /// # Errors
    /// When that is not possible, or name and OID do not both agree; nothing is changed then.
    pub async fn put_back(&self, role: &LoginName, oid: u32, back: &PutBack) -> Result<(), Error> {
        let valid_until = back.valid_until.map(|until| self.gate.there(until));
        let back = PutBack { valid_until, ..back.clone() };
        put_back(&self.connections, role, oid, &back).await
    }

    /// Ends the sessions of a role that is gone, and says how many there were.
    ///
    /// # Errors
    /// When our admin may not.
    pub async fn end_roleless(&self, oid: u32) -> Result<i64, Error> {
        end_roleless(&self.connections, oid).await
    }

    /// What the target knows of an installation.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn memory(&self, installation: Uuid) -> Result<Memory, Error> {
        survey::memory(&self.connections, installation).await
    }

    /// Keeps an epoch on the target.
    ///
    /// # Errors
    /// When our admin may not make roles, or the target does not answer.
    pub async fn keep_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        keep_epoch(&self.connections, epoch).await
    }
}

/// Puts a login back, all or nothing.
pub(crate) async fn put_back(
    connections: &Connections,
    login: &LoginName,
    oid: u32,
    back: &PutBack,
) -> Result<(), Error> {
    let mut patience = Patience::lasting(CONFLICT_TIME);
    loop {
        match put_back_once(connections, login, oid, back).await {
            Err(error) if error.is_conflict() && patience.wait().await => {}
            outcome => return outcome,
        }
    }
}

async fn put_back_once(
    connections: &Connections,
    login: &LoginName,
    oid: u32,
    back: &PutBack,
) -> Result<(), Error> {
    let (mut connection, facts) = connections.to_change_cluster(None).await?;
    let statements = statements(facts.way, (login.as_str(), oid), back, facts.server.version_num);
    if facts.way.calls() && (back.valid_until.is_none() || statements.len() > 1) {
        // Nothing but the end can be set there; a login that has more than it should is ended instead.
        return Err(Error::LacksRight {
            action: format!("put `{login}` back to what its lease says"),
            remedy: "revoke the lease: what the functions of `pgvalet bootstrap-target` can change of a login is its end"
                .to_owned(),
            source: None,
        });
    }
    let mut tx = connection.begin().await.map_err(error::failed(PUT_BACK))?;
    let found = observe::role(&mut tx, login.as_str()).await?;
    if found.is_none_or(|role| role.oid != Oid(oid)) {
        return Err(Error::Gone { role: login.to_string() });
    }
    for statement in statements {
        run(&mut tx, &statement).await.map_err(error::failed(PUT_BACK))?;
    }
    tx.commit().await.map_err(error::failed(PUT_BACK))
}

/// What takes comes before what gives.
fn statements(way: Way, (login, oid): (&str, u32), back: &PutBack, version: i32) -> Vec<String> {
    let mut all: Vec<String> =
        back.leave.iter().map(|group| sql::revoke_membership(group, login)).collect();
    all.extend(back.members.iter().map(|member| sql::revoke_membership(login, member)));
    all.extend(back.powers.iter().map(|power| sql::take_attribute(login, power)));
    if back.takes_inherit {
        all.push(sql::take_attribute(login, "INHERIT"));
    }
    all.extend(back.valid_until.map(|until| way.valid_until(login, oid, until)));
    all.extend(back.connection_limit.map(|limit| sql::connection_limit(login, limit)));
    let databases = back.database_settings.iter();
    all.extend(databases.map(|database| sql::reset_database_settings(login, database)));
    if let Some(group) = &back.join_again {
        all.push(sql::grant_membership(group, login, sql::Membership::ToBecome, version));
    }
    if let Some(settings) = &back.settings {
        all.push(sql::reset_settings(login));
        all.extend(settings.iter().map(|(name, value)| sql::set_setting(login, name, value)));
    }
    all
}

/// Ends the sessions of a role that is gone; says how many there were. One statement looks and
/// tells, so that a process number is not told to end after it has passed to somebody else.
pub(crate) async fn end_roleless(connections: &Connections, oid: u32) -> Result<i64, Error> {
    const END: &str = "\
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
WHERE a.usesysid = $1 AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = $1)";
    let mut connection = connections.to_cluster(None).await?;
    let facts = observe::facts(&mut connection).await?;
    sqlx::query_scalar(END).bind(Oid(oid)).fetch_one(&mut *connection).await.map_err(|error| {
        match error::meaning_of(&error) {
            Some(Meaning::NotAllowed) => Error::LacksRight {
                action: "end sessions of a role that is gone".to_owned(),
                remedy: sql::let_admin_end_sessions(&facts.admin, facts.server.version_num),
                source: Some(error::source_of(error)),
            },
            _ => error::failed("end sessions of a role that is gone")(error),
        }
    })
}

/// Keeps the epoch in the comment of a role that can do nothing.
pub(crate) async fn keep_epoch(connections: &Connections, epoch: &Epoch) -> Result<(), Error> {
    let (mut connection, Facts { way, .. }) = connections.to_change_cluster(None).await?;
    let name = Epoch::role(epoch.installation);
    if way.calls() {
        let statement = way.keep_epoch(&name, &epoch.to_string());
        return run(&mut connection, &statement).await.map_err(error::failed(KEEP));
    }
    let mut tx = connection.begin().await.map_err(error::failed(KEEP))?;
    comment(&mut tx, &name, epoch).await?;
    tx.commit().await.map_err(error::failed(KEEP))
}

async fn comment(tx: &mut PgConnection, name: &str, epoch: &Epoch) -> Result<(), Error> {
    if observe::role(tx, name).await?.is_none() {
        run(tx, &sql::create_group(name)).await.map_err(error::failed(KEEP))?;
    }
    run(tx, &sql::comment_on_role(name, &epoch.to_string())).await.map_err(error::failed(KEEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_comes_before_what_gives() {
        let back = PutBack {
            takes_inherit: true,
            powers: vec!["CREATEROLE"],
            leave: vec!["g".to_owned(), "boss".to_owned()],
            join_again: Some("g".to_owned()),
            members: vec!["eve".to_owned()],
            connection_limit: Some(3),
            settings: Some([("role".to_owned(), "g".to_owned())].into()),
            database_settings: vec!["shop".to_owned()],
            ..PutBack::default()
        };
        assert_eq!(
            statements(Way::Direct, ("u", 7), &back, 160_000),
            [
                "REVOKE \"g\" FROM \"u\" CASCADE",
                "REVOKE \"boss\" FROM \"u\" CASCADE",
                "REVOKE \"u\" FROM \"eve\" CASCADE",
                "ALTER ROLE \"u\" NOCREATEROLE",
                "ALTER ROLE \"u\" NOINHERIT",
                "ALTER ROLE \"u\" CONNECTION LIMIT 3",
                "ALTER ROLE \"u\" IN DATABASE \"shop\" RESET ALL",
                "GRANT \"g\" TO \"u\" WITH ADMIN FALSE, INHERIT FALSE, SET TRUE",
                "ALTER ROLE \"u\" RESET ALL",
                "ALTER ROLE \"u\" SET \"role\" = 'g'",
            ]
        );
    }
}
