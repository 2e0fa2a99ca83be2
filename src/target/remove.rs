//! Removing a login, with proof: first nobody new gets in, then everybody who is in goes, then the
//! role goes, then we look.
//!
//! The order matters, because none of NOLOGIN, REVOKE and even DROP ROLE ends a session, and because
//! a client may be between its password and its place in `pg_stat_activity` at that very moment. It
//! holds the lock on its `virtualxid` from before its password on, and that is what is waited for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, postgres::types::Oid};
use tokio::time::Instant;

use crate::{
    domain::lease::Proof,
    target::{
        RemoveLogin,
        connect::{Connections, Patience, run},
        error::{self, Error, Meaning},
        observe::{self, Facts, Role},
        sql,
    },
};

/// How long one try waits for sessions to go.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long one try waits when only clients that are signing in are left. Anybody who reaches the
/// server can stall there without a password, and each removal would keep its turn for that long.
const SIGN_IN_TIME: Duration = Duration::from_millis(300);

/// How long we struggle for the row of the login, which a session of it can lock again and again.
const FENCE_TIME: Duration = Duration::from_secs(5);

/// How long one DROP ROLE may lose against other transactions.
const DROP_TIME: Duration = Duration::from_secs(4);

const REMOVE: &str = "remove a login";

/// For each fenced login the processes that may still become sessions of it.
type Fences = Mutex<HashMap<u32, BTreeSet<i32>>>;

/// One removal under way.
struct Removal<'a> {
    login: &'a RemoveLogin<'a>,
    facts: Facts,
    fences: &'a Fences,
    ended: BTreeSet<i32>,
}

/// Makes sure that a login is gone.
pub(crate) async fn remove(
    connections: &Connections,
    fences: &Fences,
    login: &RemoveLogin<'_>,
) -> Result<Proof, Error> {
    let started = Instant::now();
    let mut connection = connections.to_cluster(Some(login.database)).await?;
    let facts = observe::facts_to_change(&mut connection).await?;
    let mut removal = Removal { login, facts, fences, ended: BTreeSet::new() };
    let oid = match removal.find(&mut connection).await? {
        Some(role) => {
            removal.take_down(&mut connection, &role).await?;
            Some(role.oid.0)
        }
        None => {
            if let Some(oid) = login.oid {
                let signing_in = signing_in(&mut connection).await?;
                removal.drain(&mut connection, oid, signing_in).await?;
            }
            login.oid
        }
    };
    removal.prove(&mut connection, oid, started).await
}

impl Removal<'_> {
    fn name(&self) -> &str {
        self.login.role.as_str()
    }

    fn blocked(&self, obstacle: impl Into<String>) -> Error {
        Error::Blocked { role: self.name().to_owned(), obstacle: obstacle.into() }
    }

    /// The role, or that it is absent, and nobody is about to make it.
    async fn find(&self, connection: &mut PgConnection) -> Result<Option<Role>, Error> {
        if let Some(role) = self.look(connection).await? {
            return Ok(Some(role));
        }
        if self.login.oid.is_some() {
            return Ok(None);
        }
        // We never heard how its creation ended, and it may not have ended: a transaction that has
        // made the role and not committed is invisible. Making the same name waits for it.
        let mut patience = Patience::lasting(DROP_TIME);
        loop {
            let mut tx = connection.begin().await.map_err(error::failed(REMOVE))?;
            let made = run(&mut tx, &sql::create_group(self.name())).await;
            tx.rollback().await.map_err(error::failed(REMOVE))?;
            let Err(error) = made else { return Ok(None) };
            if let Some(role) = self.look(connection).await? {
                return Ok(Some(role));
            }
            let error = error::failed(REMOVE)(error);
            if !error.is_conflict() || !patience.wait().await {
                return Err(error);
            }
        }
    }

    /// The role, if it is there and the very one. [`crate::domain::role::LoginName`] has our shape;
    /// a role with powers that no login of ours has, or with another OID, is somebody else's.
    async fn look(&self, connection: &mut PgConnection) -> Result<Option<Role>, Error> {
        let found = observe::roles(connection, self.name(), self.login.oid).await?;
        let not_ours =
            |role: &Role, fault: String| Err(Error::NotOurs { role: role.name.clone(), fault });
        for role in &found {
            if role.name != self.name() {
                return not_ours(
                    role,
                    format!("it was renamed from `{}`: rename it back", self.name()),
                );
            }
            if self.login.oid.is_some_and(|oid| role.oid != Oid(oid)) {
                return not_ours(role, format!("its OID is {}: drop it by hand", role.oid.0));
            }
            if let Some(power) = role.power() {
                return not_ours(role, format!("it has {power}: drop it by hand"));
            }
        }
        Ok(found.into_iter().next())
    }

    async fn take_down(&mut self, connection: &mut PgConnection, role: &Role) -> Result<(), Error> {
        let oid = role.oid.0;
        if role.may_sign_in {
            // Not fenced (any more): who was signing in at an earlier fence says nothing.
            self.fences.lock().unwrap_or_else(PoisonError::into_inner).remove(&oid);
        }
        self.take_memberships(connection, role.oid).await?;
        self.fence(connection, oid).await?;
        let signing_in = signing_in(connection).await?;
        self.drain(connection, oid, signing_in).await?;
        self.take_connect(connection, role.oid).await?;
        self.drop_role(connection).await
    }

    /// Memberships first: the login cannot lock those rows, and whoever slips in finds nothing. Some
    /// may be out of our reach (granted by others); they go with the role.
    async fn take_memberships(&self, connection: &mut PgConnection, oid: Oid) -> Result<(), Error> {
        const MEMBERSHIPS: &str = "\
SELECT DISTINCT g.rolname::text, m.rolname::text
FROM pg_auth_members a
JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE a.member = $1 OR (a.roleid = $1 AND m.rolname <> current_user) ORDER BY 1, 2";
        let mut patience = Patience::lasting(DROP_TIME);
        loop {
            let pairs: Vec<(String, String)> = sqlx::query_as(MEMBERSHIPS)
                .bind(oid)
                .fetch_all(&mut *connection)
                .await
                .map_err(error::failed(REMOVE))?;
            let mut conflict = None;
            for (group, member) in pairs {
                match run(connection, &sql::revoke_membership(&group, &member)).await {
                    Ok(()) => {}
                    Err(error) => match error::failed(REMOVE)(error) {
                        error if error.is_conflict() => conflict = Some(error),
                        Error::LacksRight { .. } => {
                            tracing::warn!(role = self.name(), group, "membership is out of reach");
                        }
                        error => return Err(error),
                    },
                }
            }
            match conflict {
                Some(error) if !patience.wait().await => return Err(error),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// Lets nobody new in. A session of the login can keep its row locked (`ALTER ROLE CURRENT_USER
    /// …` in an open transaction), so sessions are ended in the same breath, again and again.
    /// Without the right to end them the login is shut out all the same, and the right asked for then.
    async fn fence(&mut self, connection: &mut PgConnection, oid: u32) -> Result<(), Error> {
        let mut patience = Patience::lasting(FENCE_TIME);
        loop {
            let told = self.end_sessions(connection, oid).await.map(drop);
            if !matches!(told, Ok(()) | Err(Error::LacksRight { .. })) {
                return told;
            }
            let Err(error) = self.try_fence(connection).await else { return told };
            match error::meaning_of(&error) {
                Some(Meaning::Conflict) => {}
                Some(Meaning::NotAllowed) => return Err(self.not_our_admins(error)),
                _ => return Err(error::failed("keep a login from signing in")(error)),
            }
            if !patience.wait().await {
                told?;
                return Err(self.blocked(
                    "a session of it keeps its row locked, and does not end; it still may sign in, but has no rights left",
                ));
            }
        }
    }

    /// From 16 on only the admin that made a role has rights over it.
    fn not_our_admins(&self, error: sqlx::Error) -> Error {
        let version = self.facts.server.version_num;
        Error::LacksRight {
            action: format!("alter the login `{}`, which another admin made", self.name()),
            remedy: sql::let_admin_grant(self.name(), &self.facts.admin, version),
            source: Some(error::source_of(error)),
        }
    }

    async fn try_fence(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut tx = connection.begin().await?;
        run(&mut tx, "SET LOCAL lock_timeout = '300ms'").await?;
        run(&mut tx, &sql::fence(self.name())).await?;
        tx.commit().await
    }

    /// Ends sessions until there are none, and nobody is left who was signing in at the fence. A
    /// client may stall in signing in for the server's `authentication_timeout`, a minute: who they
    /// are is kept, and the caller comes back until they are gone.
    async fn drain(
        &mut self,
        connection: &mut PgConnection,
        oid: u32,
        signing_in_now: BTreeSet<i32>,
    ) -> Result<(), Error> {
        let mut waited_for = {
            let mut fences = self.fences.lock().unwrap_or_else(PoisonError::into_inner);
            fences.entry(oid).or_insert(signing_in_now).clone()
        };
        let mut patience = Patience::lasting(DRAIN_TIME);
        let mut without_sessions_since = None;
        loop {
            // In this order: a process that is not signing in any more is a session by now, and
            // seen by the statement after.
            let signing_in = signing_in(connection).await?;
            waited_for.retain(|pid| signing_in.contains(pid));
            let sessions = self.end_sessions(connection, oid).await?;
            if waited_for.is_empty() && sessions == 0 {
                break;
            }
            let error = if sessions > 0 {
                without_sessions_since = None;
                self.blocked(format!(
                    "{sessions} of its sessions do not end although they were told to; it cannot sign in any more, and has no rights left"
                ))
            } else {
                Error::SigningIn { role: self.name().to_owned() }
            };
            let waits_too_long = sessions == 0
                && without_sessions_since.get_or_insert_with(Instant::now).elapsed()
                    >= SIGN_IN_TIME;
            if waits_too_long || !patience.wait().await {
                let mut fences = self.fences.lock().unwrap_or_else(PoisonError::into_inner);
                fences.insert(oid, waited_for);
                return Err(error);
            }
        }
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).remove(&oid);
        Ok(())
    }

    /// Tells all sessions of the role to end; says how many there were. One statement reads and
    /// tells, so that a process number is not told to end after it has passed to somebody else.
    async fn end_sessions(
        &mut self,
        connection: &mut PgConnection,
        oid: u32,
    ) -> Result<usize, Error> {
        const END: &str =
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = $1";
        let told: Vec<(i32, bool)> =
            sqlx::query_as(END).bind(Oid(oid)).fetch_all(connection).await.map_err(|error| {
                match error::meaning_of(&error) {
                    Some(Meaning::NotAllowed) => Error::LacksRight {
                        action: "end sessions of a login".to_owned(),
                        remedy: sql::let_admin_end_sessions(
                            &self.facts.admin,
                            self.facts.server.version_num,
                        ),
                        source: Some(error::source_of(error)),
                    },
                    _ => error::failed("end sessions of a login")(error),
                }
            })?;
        self.ended.extend(told.iter().map(|(pid, _)| *pid));
        Ok(told.len())
    }

    /// CONNECT that was granted to the login itself, in whatever database: it would keep the role.
    async fn take_connect(&self, connection: &mut PgConnection, oid: Oid) -> Result<(), Error> {
        const GRANTED: &str = "\
SELECT datname::text FROM pg_database
WHERE datacl IS NOT NULL AND EXISTS (SELECT FROM aclexplode(datacl) WHERE grantee = $1) ORDER BY 1";
        let mut patience = Patience::lasting(DROP_TIME);
        loop {
            let databases: Vec<String> = sqlx::query_scalar(GRANTED)
                .bind(oid)
                .fetch_all(&mut *connection)
                .await
                .map_err(error::failed(REMOVE))?;
            let mut conflict = None;
            for database in databases {
                let statement = sql::revoke_connect(&database, self.name());
                match run(connection, &statement).await.map_err(error::failed(REMOVE)) {
                    // Out of our reach: DROP ROLE will name it.
                    Ok(()) | Err(Error::LacksRight { .. }) => {}
                    Err(error) if error.is_conflict() => conflict = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match conflict {
                Some(error) if !patience.wait().await => return Err(error),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    async fn drop_role(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let mut patience = Patience::lasting(DROP_TIME);
        loop {
            let Err(error) = run(connection, &sql::drop_role(self.name())).await else {
                return Ok(());
            };
            match error::meaning_of(&error) {
                Some(Meaning::StillNeeded) => {
                    let objects = error::detail_of(&error).unwrap_or_default().replace('\n', ", ");
                    return Err(self.blocked(format!(
                        "something depends on it ({objects}): give that away or drop it; the login cannot sign in any more, has no session and no rights of a group"
                    )));
                }
                Some(Meaning::Conflict) if patience.wait().await => {}
                _ => return Err(error::failed(REMOVE)(error)),
            }
        }
    }

    /// Looks once more, by name and by OID, with the target's own clock.
    async fn prove(
        &mut self,
        connection: &mut PgConnection,
        oid: Option<u32>,
        started: Instant,
    ) -> Result<Proof, Error> {
        const LOOK: &str = "\
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 OR oid = $2),
       (SELECT count(*) FROM pg_stat_activity WHERE usesysid = $2),
       clock_timestamp()";
        let mut patience = Patience::lasting(DRAIN_TIME);
        loop {
            let (role_absent, sessions_left, seen_at): (bool, i64, DateTime<Utc>) =
                sqlx::query_as(LOOK)
                    .bind(self.name())
                    .bind(oid.map(Oid))
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(error::failed("look whether a login is gone"))?;
            if role_absent && sessions_left == 0 {
                return Ok(Proof {
                    role: self.name().to_owned(),
                    role_absent,
                    sessions_left,
                    sessions_ended: i64::try_from(self.ended.len()).unwrap_or(i64::MAX),
                    seen_at,
                    took_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
                });
            }
            if let Some(oid) = oid {
                self.end_sessions(connection, oid).await?;
            }
            if !role_absent || !patience.wait().await {
                return Err(self.blocked("it was removed, and is seen again"));
            }
        }
    }
}

/// The processes that are between their start and their place among the sessions. Those that are no
/// client (autovacuum and its like) are left out: they never become one. Without `pg_read_all_stats`
/// the type of others' processes is hidden; up to version 17 a client that signs in has no row there
/// at all, so that any row says enough.
async fn signing_in(connection: &mut PgConnection) -> Result<BTreeSet<i32>, Error> {
    const SIGNING_IN: &str = "\
SELECT DISTINCT l.pid FROM pg_locks l
WHERE l.locktype = 'virtualxid' AND l.pid IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_stat_activity a
    WHERE a.pid = l.pid AND (
        a.usesysid IS NOT NULL OR a.backend_type <> 'client backend'
        OR (a.backend_type IS NULL AND current_setting('server_version_num')::int < 180000)))";
    let pids: Vec<i32> = sqlx::query_scalar(SIGNING_IN)
        .fetch_all(connection)
        .await
        .map_err(error::failed("look who is signing in"))?;
    Ok(pids.into_iter().collect())
}
