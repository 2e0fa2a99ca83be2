//! Removing a login, with proof: nobody new gets in and everybody who is in goes (`fence.rs`), what it
//! owns is handed over (`owned.rs`), the role goes, and then we look.
//!
//! Each step may find that an earlier try, or somebody else, has taken it already. Between tries
//! nothing is kept but who was signing in and which sessions were ended; all else the target shows.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection, postgres::types::Oid};
use tokio::time::Instant;

use crate::{
    domain::lease::{Proof, RemovalStep, StepTook},
    target::{
        RemoveLogin,
        connect::{Connections, Patience, run},
        context,
        error::{self, Error, Meaning},
        fence::{DRAIN_TIME, Fences, signing_in},
        observe::{self, Facts, Role},
        owned::TakenBack,
        prepared::{self, Prepared},
        sql,
    },
};

/// How long one DROP ROLE, or taking something back, may lose against other transactions.
pub(crate) const DROP_TIME: Duration = Duration::from_secs(4);

pub(crate) const REMOVE: &str = "remove a login";

/// One removal under way.
pub(crate) struct Removal<'a> {
    pub(crate) login: &'a RemoveLogin<'a>,
    pub(crate) facts: Facts,
    pub(crate) fences: &'a Fences,
    /// What was taken back so far.
    pub(crate) taken: TakenBack,
    /// Prepared transactions that may be the login's.
    prepared: Vec<Prepared>,
    steps: Vec<StepTook>,
}

/// Makes sure that a login is gone.
pub(crate) async fn remove(
    connections: &Connections,
    fences: &Fences,
    login: &RemoveLogin<'_>,
) -> Result<Proof, Error> {
    let started = Instant::now();
    let (mut connection, facts) = connections.to_change_cluster(Some(login.database)).await?;
    let mut removal = Removal::begin(login, facts, fences);
    let oid = match removal.find(&mut connection).await? {
        Some(role) => {
            removal.take_down(connections, &mut connection, &role).await?;
            Some(role.oid.0)
        }
        None => {
            if let Some(oid) = login.oid {
                let since = Instant::now();
                let signing_in = signing_in(&mut connection).await?;
                removal.drain(&mut connection, oid, &signing_in).await?;
                removal.note_prepared(&mut connection).await?;
                removal.took(RemovalStep::Sessions, since);
            }
            login.oid
        }
    };
    removal.prove(&mut connection, oid, started).await
}

/// Shuts a login out and ends its sessions, and leaves it there.
pub(crate) async fn quarantine(
    connections: &Connections,
    fences: &Fences,
    login: &RemoveLogin<'_>,
) -> Result<(), Error> {
    let (mut connection, facts) = connections.to_change_cluster(Some(login.database)).await?;
    let mut removal = Removal::begin(login, facts, fences);
    let Some(role) = removal.look(&mut connection).await? else {
        return Err(Error::Gone { role: removal.name().to_owned() });
    };
    removal.take_memberships_in_haste(&mut connection, role.oid).await?;
    removal.fence(&mut connection, role.oid.0).await?;
    let signing_in = signing_in(&mut connection).await?;
    removal.drain(&mut connection, role.oid.0, &signing_in).await?;
    removal.take_memberships(&mut connection, role.oid, DROP_TIME).await
}

impl<'a> Removal<'a> {
    fn begin(login: &'a RemoveLogin<'a>, facts: Facts, fences: &'a Fences) -> Self {
        Self {
            login,
            facts,
            fences,
            taken: TakenBack::default(),
            prepared: Vec::new(),
            steps: Vec::new(),
        }
    }

    pub(in crate::target) fn name(&self) -> &str {
        self.login.role.as_str()
    }

    pub(in crate::target) fn blocked(&self, obstacle: impl Into<String>) -> Error {
        Error::Blocked { role: self.name().to_owned(), obstacle: obstacle.into() }
    }

    fn took(&mut self, step: RemovalStep, since: Instant) {
        self.steps.push(StepTook { step, ms: milliseconds(since) });
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
            let made = run(&mut tx, &self.facts.way.wait_for(self.name())).await;
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

    async fn take_down(
        &mut self,
        connections: &Connections,
        connection: &mut PgConnection,
        role: &Role,
    ) -> Result<(), Error> {
        let oid = role.oid.0;
        if role.may_sign_in {
            self.fences.wait_for_none(oid);
        }
        let mut since = Instant::now();
        self.take_memberships_in_haste(connection, role.oid).await?;
        self.took(RemovalStep::Memberships, since);

        since = Instant::now();
        self.fence(connection, oid).await?;
        self.took(RemovalStep::ShutOut, since);

        since = Instant::now();
        let signing_in = signing_in(connection).await?;
        self.drain(connection, oid, &signing_in).await?;
        self.note_prepared(connection).await?;
        self.took(RemovalStep::Sessions, since);

        // Once more: up to version 14 a login may make others members of itself, until now.
        since = Instant::now();
        self.take_memberships(connection, role.oid, DROP_TIME).await?;
        self.take_connect(connection, role.oid).await?;
        if !self.drop_role(connection).await? {
            let dropping = since.elapsed();
            since = Instant::now();
            self.take_back_all(connections, connection, role.oid).await?;
            self.took(RemovalStep::Owned, since);
            since = Instant::now().checked_sub(dropping).unwrap_or_else(Instant::now);
            if !self.drop_role(connection).await? {
                return Err(self.still_needed(connection, role.oid).await?);
            }
        }
        self.took(RemovalStep::Drop, since);
        Ok(())
    }

    /// CONNECT that was granted to the login itself, in whatever database: it would keep the role.
    async fn take_connect(&self, connection: &mut PgConnection, oid: Oid) -> Result<(), Error> {
        if self.facts.way.calls() {
            return Ok(());
        }
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

    /// While the role is there, because PostgreSQL shows whose they are by that.
    async fn note_prepared(&mut self, connection: &mut PgConnection) -> Result<(), Error> {
        self.prepared = prepared::of(connection, &[self.name(), self.login.group_role]).await?;
        Ok(())
    }

    /// Drops the role; false if something depends on it.
    async fn drop_role(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        let mut patience = Patience::lasting(DROP_TIME);
        let mut forget = self.login.has_context.then(|| context::forget(self.name()) + "; ");
        loop {
            let drop = self.facts.way.drop_role(self.name());
            let statement = sql::in_haste(&(forget.clone().unwrap_or_default() + &drop));
            let Err(error) = run(connection, &statement).await else { return Ok(true) };
            match error::meaning_of(&error) {
                Some(Meaning::StillNeeded) => return Ok(false),
                // Somebody dropped it all, or this is not the login's own database: without its role the
                // row says nothing to anybody.
                Some(Meaning::NoSuchObject | Meaning::NotAllowed) if forget.is_some() => {
                    forget = None;
                }
                Some(Meaning::Conflict) if patience.wait().await => {}
                Some(Meaning::Conflict) => {
                    return Err(match self.prepared.first() {
                        Some(prepared) => self.shut_out(format!("{prepared} may hold it")),
                        None => error::failed(REMOVE)(error),
                    });
                }
                _ => return Err(error::failed(REMOVE)(error)),
            }
        }
    }

    /// What blocks a login that can do no harm any more.
    pub(in crate::target) fn shut_out(&self, obstacle: String) -> Error {
        self.blocked(format!(
            "{obstacle}; the login cannot sign in any more, has no session and no rights of a group"
        ))
    }

    /// Looks once more, by name and by OID, with the target's own clock.
    async fn prove(
        mut self,
        connection: &mut PgConnection,
        oid: Option<u32>,
        started: Instant,
    ) -> Result<Proof, Error> {
        const LOOK: &str = "\
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 OR oid = $2) AS role_absent,
       (SELECT count(*) FROM pg_stat_activity WHERE usesysid = $2) AS sessions_left,
       ARRAY (SELECT datname::text FROM pg_database
              WHERE NOT (datallowconn AND has_database_privilege(oid, 'CONNECT'))
                AND datname <> 'template0' ORDER BY 1 LIMIT 20) AS databases_not_seen,
       clock_timestamp() AS seen_at";
        let since = Instant::now();
        let mut patience = Patience::lasting(DRAIN_TIME);
        loop {
            let seen: Seen = sqlx::query_as(LOOK)
                .bind(self.name())
                .bind(oid.map(Oid))
                .fetch_one(&mut *connection)
                .await
                .map_err(error::failed("look whether a login is gone"))?;
            if seen.role_absent && seen.sessions_left == 0 {
                self.took(RemovalStep::Look, since);
                return Ok(self.proof(oid, seen, started));
            }
            if let Some(oid) = oid {
                self.end_sessions(connection, oid).await?;
            }
            if !seen.role_absent || !patience.wait().await {
                return Err(self.blocked("it was removed, and is seen again"));
            }
        }
    }

    fn proof(self, oid: Option<u32>, seen: Seen, started: Instant) -> Proof {
        let left = self.prepared.iter().map(|prepared| {
            format!("{prepared}; it was perhaps prepared by this login, and outlives its sessions")
        });
        Proof {
            role: self.login.role.to_string(),
            role_absent: seen.role_absent,
            sessions_left: seen.sessions_left,
            sessions_ended: oid.map_or(0, |oid| self.fences.forget(oid)),
            seen_at: seen.seen_at,
            took_ms: milliseconds(started),
            steps: self.steps,
            objects_handed_over: self.taken.objects,
            handed_over: self.taken.handed_over,
            grants_taken_back: self.taken.grants,
            dropped: self.taken.dropped,
            left: left.collect(),
            databases_not_seen: seen.databases_not_seen,
        }
    }
}

/// What a target shows of a login that should be gone.
#[derive(FromRow)]
struct Seen {
    role_absent: bool,
    sessions_left: i64,
    databases_not_seen: Vec<String>,
    seen_at: DateTime<Utc>,
}

fn milliseconds(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
