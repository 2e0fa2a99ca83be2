//! Taking back what a login owns and was granted, in every database of the cluster, so that its role can
//! be dropped and nothing of value goes with it.
//!
//! What depends on a role stands in `pg_shdepend`, which all databases share: only databases that have
//! something are visited. The work in one of them is in `handover.rs`.

use std::collections::BTreeMap;

use sqlx::{Connection, PgConnection, postgres::types::Oid};

use crate::{
    domain::{lease::HandedOver, role::GRAVEYARD},
    target::{
        connect::{Connections, Patience, run},
        error::{self, Error, Meaning},
        handover,
        observe::{self, Role},
        remove::{DROP_TIME, Removal},
        sql, way,
    },
};

pub(crate) const TAKE_BACK: &str = "take back what a login owns";

/// How often the databases are gone through, as long as something moves: what is handed over may bring
/// other things to light, and many objects are handed over bit by bit.
const MOST_ROUNDS: usize = 40;

/// How much of each kind a proof names, and how many obstacles are told at once.
const MOST_NAMED: usize = 20;
const MOST_OBSTACLES: usize = 5;

/// What was taken back from a login.
#[derive(Debug, Default)]
pub(crate) struct TakenBack {
    /// The first of the objects that changed hands.
    pub(crate) handed_over: Vec<HandedOver>,
    /// How many there were.
    pub(crate) objects: i64,
    /// Grants that it had on others' objects.
    pub(crate) grants: i64,
    /// What went with it: the first.
    pub(crate) dropped: Vec<String>,
    /// For each database what could not be taken back there, and why.
    obstacles: BTreeMap<String, Vec<String>>,
    /// Databases that could not be looked into, and why.
    closed: BTreeMap<String, String>,
}

impl TakenBack {
    fn add(&mut self, database: &str, done: handover::Done) {
        self.objects = self.objects.saturating_add(count(done.handed_over.len()));
        self.grants = self.grants.saturating_add(done.grants);
        let handed_over = done.handed_over.into_iter().map(|object| HandedOver {
            object: shortened(object),
            database: database.to_owned(),
            to: GRAVEYARD.to_owned(),
        });
        self.handed_over.extend(handed_over);
        self.handed_over.truncate(MOST_NAMED);
        let here = |what: String| format!("{} in database `{database}`", shortened(what));
        self.dropped.extend(done.dropped.into_iter().map(here));
        self.dropped.truncate(MOST_NAMED);
        self.closed.remove(database);
        self.obstacles.insert(database.to_owned(), done.obstacles);
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The text says what a login named its things; it may be as long as a function has arguments.
fn shortened(mut text: String) -> String {
    const MOST_BYTES: usize = 300;
    if text.len() > MOST_BYTES {
        text.truncate(text.floor_char_boundary(MOST_BYTES));
        text.push('…');
    }
    text
}

/// Where something depends on a role: none for what all databases share.
const WHERE: &str = "\
SELECT DISTINCT coalesce(d.datname::text, current_database()::text)
FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 AND (s.dbid = 0 OR d.oid IS NOT NULL)
ORDER BY 1";

/// What depends on a role still. In another database than this one, it has no name.
const LEFT: &str = "\
SELECT coalesce(d.datname::text, current_database()::text),
       format('%s %s %s',
              CASE s.deptype WHEN 'o' THEN 'owns' WHEN 'a' THEN 'has a grant on' ELSE 'is named in' END,
              CASE s.classid::regclass::text
                   WHEN 'pg_class' THEN 'relation' WHEN 'pg_proc' THEN 'routine' WHEN 'pg_type' THEN 'type'
                   WHEN 'pg_namespace' THEN 'schema' WHEN 'pg_largeobject' THEN 'large object'
                   WHEN 'pg_policy' THEN 'policy' WHEN 'pg_default_acl' THEN 'default privileges'
                   WHEN 'pg_database' THEN 'database' ELSE s.classid::regclass::text END,
              s.objid)
FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 ORDER BY s.dbid, s.classid, s.objid LIMIT 100";

impl Removal<'_> {
    /// Takes back whatever depends on the role, wherever it is. What cannot be taken back is left for
    /// [`Removal::still_needed`] to name.
    pub(in crate::target) async fn take_back_all(
        &mut self,
        connections: &Connections,
        connection: &mut PgConnection,
        role: Oid,
    ) -> Result<(), Error> {
        if self.facts.way.calls() {
            return self.go_through_databases(connections, connection, role).await;
        }
        self.check_graveyard(connection).await?;
        self.act_for(connection).await?;
        let done = self.go_through_databases(connections, connection, role).await;
        let clear =
            self.taken.closed.is_empty() && self.taken.obstacles.values().all(Vec::is_empty);
        if done.is_err() || !clear {
            // The role stays for now: each role that our admin is a member of slows it down.
            let statement = sql::revoke_membership(self.name(), &self.facts.admin);
            if let Err(error) = run(connection, &statement).await {
                tracing::warn!(
                    role = self.name(),
                    error = &error as &dyn std::error::Error,
                    "our admin stays a member of the login until it is tried again"
                );
            }
        }
        done
    }

    async fn go_through_databases(
        &mut self,
        connections: &Connections,
        connection: &mut PgConnection,
        role: Oid,
    ) -> Result<(), Error> {
        for _ in 0..MOST_ROUNDS {
            let databases: Vec<String> = sqlx::query_scalar(WHERE)
                .bind(role)
                .fetch_all(&mut *connection)
                .await
                .map_err(error::failed(TAKE_BACK))?;
            let mut moved = false;
            for database in databases {
                moved |= self.visit(connections, &database, role).await?;
            }
            if !moved {
                break;
            }
        }
        Ok(())
    }

    /// Takes back what is in one database, and what all share; true if anything changed.
    async fn visit(
        &mut self,
        connections: &Connections,
        database: &str,
        role: Oid,
    ) -> Result<bool, Error> {
        let mut there = match connections.once(database).await {
            Ok(there) => there,
            Err(error) => {
                self.taken.closed.insert(database.to_owned(), error.to_string());
                return Ok(false);
            }
        };
        let mut patience = Patience::lasting(DROP_TIME);
        let done = loop {
            let done = if self.facts.way.calls() {
                way::take_back(&mut there, self.name(), role).await
            } else {
                handover::take_back(&mut there, self, role).await
            };
            match done {
                Err(error) if error.is_conflict() && patience.wait().await => {}
                outcome => break outcome,
            }
        };
        // Whatever became of it, the server is told that we go.
        let closed = there.close().await;
        let done = done?;
        closed.map_err(error::failed(TAKE_BACK))?;
        let moved = done.moved;
        self.taken.add(database, done);
        Ok(moved)
    }

    /// Makes sure that there is a role that objects can be given to, and that it is powerless.
    async fn check_graveyard(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let (admin, version) = (&self.facts.admin, self.facts.server.version_num);
        let graveyard = match observe::role(connection, GRAVEYARD).await? {
            Some(graveyard) => graveyard,
            None => self.make_graveyard(connection).await?,
        };
        if let Some(fault) = powerful(connection, &graveyard).await? {
            return Err(self.shut_out(format!(
                "what it owns is not given to `{GRAVEYARD}`, because that role {fault}"
            )));
        }
        let may: bool = sqlx::query_scalar("SELECT pg_has_role($1, 'USAGE')")
            .bind(graveyard.oid)
            .fetch_one(&mut *connection)
            .await
            .map_err(error::failed(TAKE_BACK))?;
        if may {
            return Ok(());
        }
        let grant = sql::let_admin_hand_over(GRAVEYARD, admin, version);
        match run(connection, &grant).await {
            Err(error) if error::meaning_of(&error) == Some(Meaning::NotAllowed) => {
                Err(Error::LacksRight {
                    action: format!("hand objects over to the role `{GRAVEYARD}`"),
                    remedy: grant,
                    source: Some(error::source_of(error)),
                })
            }
            outcome => outcome.map_err(error::failed(TAKE_BACK)),
        }
    }

    async fn make_graveyard(&self, connection: &mut PgConnection) -> Result<Role, Error> {
        let mut tx = connection.begin().await.map_err(error::failed(TAKE_BACK))?;
        run(&mut tx, &sql::create_group(GRAVEYARD)).await.map_err(error::failed(TAKE_BACK))?;
        let comment = "pgvalet: owns what removed logins owned, and can do nothing";
        run(&mut tx, &sql::comment_on_role(GRAVEYARD, comment))
            .await
            .map_err(error::failed(TAKE_BACK))?;
        let made = observe::role(&mut tx, GRAVEYARD).await?;
        tx.commit().await.map_err(error::failed(TAKE_BACK))?;
        made.ok_or_else(|| Error::Gone { role: GRAVEYARD.to_owned() })
    }

    /// Lets our admin act for the login, which is what giving its things away takes. Never before it is
    /// shut out, and for no longer than this: an admin that is a member of many roles gets slow.
    async fn act_for(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let (admin, version) = (&self.facts.admin, self.facts.server.version_num);
        if self.facts.server.admin_is_superuser {
            return Ok(());
        }
        let statement = sql::in_haste(&sql::let_admin_act_for(self.name(), admin, version));
        let mut patience = Patience::lasting(DROP_TIME);
        loop {
            let Err(error) = run(connection, &statement).await else { return Ok(()) };
            match error::failed(TAKE_BACK)(error) {
                error if error.is_conflict() && patience.wait().await => {}
                Error::LacksRight { source, .. } => {
                    return Err(Error::LacksRight {
                        action: format!(
                            "act for the login `{}`, which another admin made",
                            self.name()
                        ),
                        remedy: sql::let_admin_grant(self.name(), admin, version),
                        source,
                    });
                }
                error => return Err(error),
            }
        }
    }

    /// What keeps the role, with the database that each thing is in.
    pub(in crate::target) async fn still_needed(
        &self,
        connection: &mut PgConnection,
        role: Oid,
    ) -> Result<Error, Error> {
        let left: Vec<(String, String)> = sqlx::query_as(LEFT)
            .bind(role)
            .fetch_all(connection)
            .await
            .map_err(error::failed(TAKE_BACK))?;
        let mut named: Vec<String> = self
            .taken
            .obstacles
            .iter()
            .flat_map(|(database, obstacles)| {
                obstacles
                    .iter()
                    .map(move |obstacle| format!("{obstacle} (in database `{database}`)"))
            })
            .collect();
        for (database, why) in &self.taken.closed {
            let there: Vec<&str> = left
                .iter()
                .filter(|(of, _)| of == database)
                .map(|(_, what)| what.as_str())
                .take(MOST_NAMED)
                .collect();
            if !there.is_empty() {
                let there = there.join(", ");
                named.push(format!("in database `{database}` it {there}, and {why}"));
            }
        }
        if named.is_empty() {
            let all = left.iter();
            named.extend(all.map(|(database, what)| format!("it {what} in database `{database}`")));
        }
        let more = named.len().saturating_sub(MOST_OBSTACLES);
        named.truncate(MOST_OBSTACLES);
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        Ok(self.shut_out(named.join("; ")))
    }
}

/// What makes a role more than an owner of what is left over, in words that follow its name.
async fn powerful(connection: &mut PgConnection, role: &Role) -> Result<Option<String>, Error> {
    if role.may_sign_in {
        return Ok(Some("may sign in: take LOGIN from it".to_owned()));
    }
    if let Some(power) = role.power() {
        return Ok(Some(format!("has {power}: take that from it")));
    }
    const GROUPS: &str = "\
SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = $1 LIMIT 1";
    let group: Option<String> = sqlx::query_scalar(GROUPS)
        .bind(role.oid)
        .fetch_optional(connection)
        .await
        .map_err(error::failed(TAKE_BACK))?;
    Ok(group.map(|group| {
        let revoke = sql::revoke_membership(&group, &role.name);
        format!("is a member of `{group}`: run `{revoke}`")
    }))
}
