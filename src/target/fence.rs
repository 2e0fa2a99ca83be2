//! Shutting a login out: nobody new gets in, and everybody who is in goes.
//!
//! The order matters, because none of NOLOGIN, REVOKE and even DROP ROLE ends a session, and because
//! a client may be between its password and its place in `pg_stat_activity` at that very moment. It
//! holds the lock on its `virtualxid` from before its password on, and that is what is waited for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{PgConnection, postgres::types::Oid};
use tokio::time::Instant;

use crate::target::{
    connect::{Patience, run},
    error::{self, Error, Meaning},
    prepared,
    remove::{REMOVE, Removal},
    sql, way,
};

/// How long one try waits for sessions to go.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long one try waits when only clients that are signing in are left. Anybody who reaches the
/// server can stall there without a password, and each removal would keep its turn for that long.
const SIGN_IN_TIME: Duration = Duration::from_millis(300);

/// How long we struggle for the row of the login, which a session of it can lock again and again.
const FENCE_TIME: Duration = Duration::from_secs(5);

/// How long memberships are struggled for before the login is shut out, which must not wait.
const HASTE: Duration = Duration::from_millis(500);

/// What was done to logins that are not proven to be gone yet, by their OID, over all tries of this
/// daemon: a batch may have ended the sessions of a login that falls out of it.
#[derive(Default)]
pub(crate) struct Fences(Mutex<HashMap<u32, Fence>>);

/// What was done to one login.
#[derive(Default)]
struct Fence {
    /// The processes that may still become sessions of it, once it is shut out.
    signing_in: Option<BTreeSet<i32>>,
    /// The processes that were told to end.
    ended: BTreeSet<i32>,
}

impl Fences {
    /// Was its removal tried before?
    pub(in crate::target) fn know(&self, oid: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&oid)
    }

    /// Who was signing in at an earlier fence says nothing more: they are gone, or it may sign in again.
    pub(in crate::target) fn wait_for_none(&self, oid: u32) {
        self.of(oid, |fence| fence.signing_in = None);
    }

    /// Those who were signing in when it was shut out: as an earlier try noted, or these.
    pub(in crate::target) fn waited_for(&self, oid: u32, now: &BTreeSet<i32>) -> BTreeSet<i32> {
        self.of(oid, |fence| fence.signing_in.get_or_insert_with(|| now.clone()).clone())
    }

    /// Those of them who are still to be waited for.
    pub(in crate::target) fn wait_for(&self, oid: u32, left: BTreeSet<i32>) {
        self.of(oid, |fence| fence.signing_in = Some(left));
    }

    /// A session of it was told to end.
    pub(in crate::target) fn ended(&self, oid: u32, pid: i32) {
        self.of(oid, |fence| fence.ended.insert(pid));
    }

    /// It is proven to be gone; gives how many of its sessions were ended.
    pub(in crate::target) fn forget(&self, oid: u32) -> i64 {
        let fence = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&oid);
        fence.map_or(0, |fence| i64::try_from(fence.ended.len()).unwrap_or(i64::MAX))
    }

    fn of<T>(&self, oid: u32, change: impl FnOnce(&mut Fence) -> T) -> T {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(oid).or_default())
    }
}

impl Removal<'_> {
    /// Memberships before the login is shut out: the login cannot lock those rows, and whoever slips
    /// in finds nothing. What is in the way now must not put the shutting out off: it is struggled for
    /// afterwards.
    pub(in crate::target) async fn take_memberships_in_haste(
        &self,
        connection: &mut PgConnection,
        oid: Oid,
    ) -> Result<(), Error> {
        match self.take_memberships(connection, oid, HASTE).await {
            Err(error) if error.is_conflict() => Ok(()),
            outcome => outcome,
        }
    }

    /// Some memberships may be out of our reach (granted by others); they go with the role.
    pub(in crate::target) async fn take_memberships(
        &self,
        connection: &mut PgConnection,
        oid: Oid,
        time: Duration,
    ) -> Result<(), Error> {
        const MEMBERSHIPS: &str = "\
SELECT DISTINCT g.rolname::text, m.rolname::text
FROM pg_auth_members a
JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE a.member = $1 OR (a.roleid = $1 AND m.rolname <> current_user) ORDER BY 1, 2";
        if self.facts.way.calls() {
            return Ok(());
        }
        let mut patience = Patience::lasting(time);
        let mut out_of_reach = BTreeSet::new();
        loop {
            let mut pairs: Vec<(String, String)> = sqlx::query_as(MEMBERSHIPS)
                .bind(oid)
                .fetch_all(&mut *connection)
                .await
                .map_err(error::failed(REMOVE))?;
            // Where there is nothing to revoke, PostgreSQL only warns: once is enough.
            pairs.retain(|pair| !out_of_reach.contains(pair));
            let mut conflict = None;
            for (group, member) in pairs {
                let statement = sql::in_haste(&sql::revoke_membership(&group, &member));
                match run(connection, &statement).await.map_err(error::failed(REMOVE)) {
                    Ok(()) => {}
                    Err(error) if error.is_conflict() => conflict = Some(error),
                    Err(Error::LacksRight { .. }) => {
                        tracing::warn!(role = self.name(), group, "membership is out of reach");
                        out_of_reach.insert((group, member));
                    }
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

    /// Lets nobody new in. A session of the login can keep its row locked (`ALTER ROLE CURRENT_USER
    /// …` in an open transaction), so sessions are ended in the same breath, again and again.
    /// Without the right to end them the login is shut out all the same, and the right asked for then.
    pub(in crate::target) async fn fence(
        &mut self,
        connection: &mut PgConnection,
        oid: u32,
    ) -> Result<(), Error> {
        let mut patience = Patience::lasting(FENCE_TIME);
        loop {
            let told = self.end_sessions(connection, oid).await.map(drop);
            if !matches!(told, Ok(()) | Err(Error::LacksRight { .. })) {
                return told;
            }
            let Err(error) = self.try_fence(connection).await else { return told };
            match error::meaning_of(&error) {
                Some(Meaning::Conflict) if self.facts.way.calls() => {
                    way::take_memberships(connection, self.name())
                        .await
                        .map_err(error::failed(REMOVE))?;
                }
                Some(Meaning::Conflict) => {}
                Some(Meaning::NotAllowed) => return Err(self.not_our_admins(error)),
                _ => return Err(error::failed("keep a login from signing in")(error)),
            }
            if !patience.wait().await {
                told?;
                let prepared = prepared::of(connection, &[self.name()]).await?;
                let what = match prepared.first() {
                    Some(prepared) => format!("{prepared} keeps its row locked"),
                    None => "a session of it keeps its row locked, and does not end".to_owned(),
                };
                return Err(
                    self.blocked(format!("{what}; it still may sign in, but has no rights left"))
                );
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
        run(connection, &sql::in_haste(&self.facts.way.fence(self.name()))).await
    }

    /// Ends sessions until there are none, and nobody is left who was signing in at the fence. A
    /// client may stall in signing in for the server's `authentication_timeout`, a minute: who they
    /// are is kept, and the caller comes back until they are gone.
    pub(in crate::target) async fn drain(
        &mut self,
        connection: &mut PgConnection,
        oid: u32,
        signing_in_now: &BTreeSet<i32>,
    ) -> Result<(), Error> {
        let mut waited_for = self.fences.waited_for(oid, signing_in_now);
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
                self.fences.wait_for(oid, waited_for);
                return Err(error);
            }
        }
        self.fences.wait_for_none(oid);
        Ok(())
    }

    /// Tells all sessions of the role to end; says how many there were. One statement reads and
    /// tells, so that a process number is not told to end after it has passed to somebody else.
    pub(in crate::target) async fn end_sessions(
        &mut self,
        connection: &mut PgConnection,
        oid: u32,
    ) -> Result<usize, Error> {
        let told: Vec<(i32, bool)> = sqlx::query_as(self.facts.way.end_sessions())
            .bind(Oid(oid))
            .fetch_all(connection)
            .await
            .map_err(|error| match error::meaning_of(&error) {
                Some(Meaning::NotAllowed) => Error::LacksRight {
                    action: "end sessions of a login".to_owned(),
                    remedy: sql::let_admin_end_sessions(
                        &self.facts.admin,
                        self.facts.server.version_num,
                    ),
                    source: Some(error::source_of(error)),
                },
                _ => error::failed("end sessions of a login")(error),
            })?;
        for (pid, _) in &told {
            self.fences.ended(oid, *pid);
        }
        Ok(told.len())
    }
}

/// The processes that are between their start and their place among the sessions. Those that are no
/// client (autovacuum and its like) are left out: they never become one. Without `pg_read_all_stats`
/// the type of others' processes is hidden; up to version 17 a client that signs in has no row there
/// at all, so that any row says enough.
pub(in crate::target) async fn signing_in(
    connection: &mut PgConnection,
) -> Result<BTreeSet<i32>, Error> {
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
