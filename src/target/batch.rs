//! Many logins in one transaction: what gathered while the last transaction ran is made in the next.
//!
//! Nobody waits for a batch to fill: a caller puts its login into the queue and then asks for a turn;
//! whoever gets one takes what is there and makes all of it, and answers the others. A batch takes
//! four round trips whatever its size: begin and all statements, a look at the groups, a look at the
//! outcome, commit. If anything about it is not as it should be, nothing of it is kept, and each
//! caller goes the slow way by itself ([`create`]), which finds out what is wrong with whose login:
//! so one bad login fails alone.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use sqlx::{PgConnection, Postgres, pool::PoolConnection, postgres::types::Oid};
use tokio::sync::{Semaphore, oneshot};

use crate::target::{
    Created, NewLogin,
    connect::{Connections, run},
    create,
    error::Error,
    observe,
    sql::{self, LoginTerms, LoginVerb, Membership},
};

/// Logins in one transaction. From PostgreSQL 16 on a GRANT locks its group until the commit, so
/// that longer batches under one group keep the other connections waiting.
const MOST_IN_A_BATCH: usize = 8;

/// Batches at once on one database: where two cores hash the verifiers, more only queue there.
const AT_ONCE: usize = 4;

/// Logins that may wait. Beyond, a caller is told to try again, before it has waited in vain.
const MOST_WAITING: usize = 512;

/// The queues of one target, one for each database.
pub(crate) struct Batches {
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    /// The server's version, once a login was made the slow way; 0 before. It decides how a GRANT is
    /// written; if the server was upgraded meanwhile, the batch fails and the slow way sets it right.
    version: AtomicI32,
}

struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    /// Is everybody let into the database? A login that needs CONNECT of its own is made the slow
    /// way, which alone gives it, and would only spoil the batch for the others.
    is_open: AtomicBool,
    turns: Semaphore,
}

/// A login in the queue. It owns what it needs: its caller may give up at any time.
struct Waiting {
    statements: Statements,
    role: String,
    group: String,
    answer: oneshot::Sender<Outcome>,
}

/// What makes one login, each statement with its semicolon.
struct Statements {
    create: String,
    the_rest: String,
}

/// What a batch answers for one login: made, or to be made the slow way.
enum Outcome {
    Made(u32),
    GoSlowly,
}

impl Batches {
    pub(crate) fn new() -> Self {
        Self { queues: Mutex::default(), version: AtomicI32::new(0) }
    }

    /// Makes a login, together with others that are asked for at the same time.
    pub(crate) async fn create(
        &self,
        connections: &Connections,
        new: &NewLogin<'_>,
    ) -> Result<Created, Error> {
        let version = self.version.load(Ordering::Relaxed);
        let queue = self.queue(new.database);
        if queue.is_open.load(Ordering::Relaxed)
            && let Some(statements) = statements(new, version)
        {
            let answer = queue.enter(new, statements)?;
            if let Outcome::Made(oid) = queue.wait(connections, new.database, answer).await {
                return Ok(Created { oid });
            }
        }
        let created = create::create(connections, new).await?;
        self.version.store(created.server_version, Ordering::Relaxed);
        queue.is_open.store(created.is_open, Ordering::Relaxed);
        Ok(Created { oid: created.oid })
    }

    fn queue(&self, database: &str) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(database) {
            return Arc::clone(queue);
        }
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            is_open: AtomicBool::new(true),
            turns: Semaphore::new(AT_ONCE),
        });
        queues.insert(database.to_owned(), Arc::clone(&queue));
        queue
    }
}

impl Queue {
    fn enter(
        &self,
        new: &NewLogin<'_>,
        statements: Statements,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| !one.answer.is_closed());
        if waiting.len() >= MOST_WAITING {
            return Err(Error::QueueFull);
        }
        waiting.push_back(Waiting {
            statements,
            role: new.role.to_string(),
            group: new.group_role.to_owned(),
            answer,
        });
        Ok(receiver)
    }

    /// Waits for the answer, and makes batches itself whenever there is a turn to be had.
    async fn wait(
        &self,
        connections: &Connections,
        database: &str,
        mut answer: oneshot::Receiver<Outcome>,
    ) -> Outcome {
        loop {
            tokio::select! {
                biased;
                // An answer that never comes: whoever made the batch was cancelled in it.
                outcome = &mut answer => return outcome.unwrap_or(Outcome::GoSlowly),
                turn = self.turns.acquire() => {
                    if turn.is_err() {
                        return Outcome::GoSlowly;
                    }
                    let batch = self.take();
                    if batch.is_empty() {
                        drop(turn);
                        return answer.await.unwrap_or(Outcome::GoSlowly);
                    }
                    make(connections, database, batch).await;
                }
            }
        }
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| !one.answer.is_closed());
        let count = waiting.len().min(MOST_IN_A_BATCH);
        let mut batch: Vec<_> = waiting.drain(..count).collect();
        // From 16 on each GRANT locks its group until the commit: two batches that came to the same
        // groups in different orders would deadlock. Each login carries its own answer with it.
        batch.sort_by(|one, other| one.group.cmp(&other.group));
        batch
    }
}

/// Makes a batch and answers each of its callers. One who gave up meanwhile leaves a role that the
/// loop that ends leases removes.
async fn make(connections: &Connections, database: &str, batch: Vec<Waiting>) {
    let made = match connections.to(database).await {
        Ok(connection) => {
            let mut lent = Lent(Some(connection));
            let made = lent.try_make(&batch).await;
            if made.is_some() || lent.roll_back().await {
                lent.give_back();
            }
            made
        }
        Err(_) => None,
    };
    let mut oids = made.unwrap_or_default().into_iter();
    for one in batch {
        let outcome = oids.next().map_or(Outcome::GoSlowly, Outcome::Made);
        // A caller that gave up does not hear it.
        let _ = one.answer.send(outcome);
    }
}

/// A connection in a transaction of ours. Dropped before it was given back (the caller that made the
/// batch gave up), it is closed, so that nobody else gets it with our transaction open.
struct Lent(Option<PoolConnection<Postgres>>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Lent {
    fn give_back(mut self) {
        drop(self.0.take());
    }

    async fn roll_back(&mut self) -> bool {
        match self.0.as_mut() {
            Some(connection) => run(connection, "ROLLBACK").await.is_ok(),
            None => false,
        }
    }

    /// The OIDs in the batch's order; none if anything was not as it should be. The fault itself is
    /// found again, and told, by the slow way.
    async fn try_make(&mut self, batch: &[Waiting]) -> Option<Vec<u32>> {
        let connection = self.0.as_mut()?;
        // All roles before the first GRANT, which locks its group. When we are cancelled here, the
        // server may go on for a while, and the others make their logins anew: with no group locked
        // yet, whoever waits there for the name of a role keeps nobody waiting.
        let mut statements = String::from("BEGIN;");
        statements.extend(batch.iter().map(|one| one.statements.create.as_str()));
        statements.extend(batch.iter().map(|one| one.statements.the_rest.as_str()));
        run(connection, &statements).await.ok()?;
        let groups: BTreeSet<&str> = batch.iter().map(|one| one.group.as_str()).collect();
        for group in groups {
            observe::safe_group(connection, group).await.ok()??;
        }
        let oids = sound_logins(connection, batch).await.ok()?;
        if oids.len() != batch.len() {
            return None;
        }
        run(connection, "COMMIT").await.ok()?;
        Some(oids)
    }
}

/// The same things that the slow way looks at: nothing but what was asked for may be committed.
const SOUND: &str = "
SELECT r.oid
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (role, group_role, place)
JOIN pg_roles r ON r.rolname = asked.role
JOIN pg_roles g ON g.rolname = asked.group_role
WHERE r.rolcanlogin
  AND NOT (r.rolinherit OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
  AND (SELECT count(*) = 1 AND bool_and(m.roleid = g.oid AND NOT m.admin_option)
       FROM pg_auth_members m WHERE m.member = r.oid)
  AND pg_has_role('pg_signal_backend', 'USAGE')
  AND has_database_privilege(r.oid, current_database(), 'CONNECT')
ORDER BY asked.place";

async fn sound_logins(
    connection: &mut PgConnection,
    batch: &[Waiting],
) -> Result<Vec<u32>, sqlx::Error> {
    let roles: Vec<&str> = batch.iter().map(|one| one.role.as_str()).collect();
    let groups: Vec<&str> = batch.iter().map(|one| one.group.as_str()).collect();
    let oids: Vec<Oid> =
        sqlx::query_scalar(SOUND).bind(roles).bind(groups).fetch_all(connection).await?;
    Ok(oids.into_iter().map(|oid| oid.0).collect())
}

/// None if the server's version is not known yet, or the verifier is malformed.
fn statements(new: &NewLogin<'_>, version: i32) -> Option<Statements> {
    if version == 0 {
        return None;
    }
    let name = new.role.as_str();
    let terms = LoginTerms {
        verifier: new.verifier,
        valid_until: new.valid_until,
        connection_limit: new.connection_limit,
    };
    let create = sql::login(LoginVerb::Create, name, &terms)? + ";";
    let mut all = vec![
        sql::grant_membership(new.group_role, name, Membership::ToBecome, version),
        sql::set_setting(name, "role", new.group_role),
    ];
    all.extend(new.settings.iter().map(|(setting, value)| sql::set_setting(name, setting, value)));
    all.push(sql::comment_on_role(name, &new.comment));
    let the_rest = all.into_iter().map(|statement| statement + ";").collect();
    Some(Statements { create, the_rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_to_its_groups_in_one_order_and_takes_no_more_than_it_may() {
        let queue = Queue {
            waiting: Mutex::default(),
            is_open: AtomicBool::new(true),
            turns: Semaphore::new(AT_ONCE),
        };
        let mut answers = Vec::new();
        for (place, group) in ["b", "a", "c", "b", "a", "c", "b", "a", "b", "a"].iter().enumerate()
        {
            let (answer, receiver) = oneshot::channel();
            answers.push(receiver);
            queue.waiting.lock().unwrap().push_back(Waiting {
                statements: Statements { create: String::new(), the_rest: String::new() },
                role: format!("pgv_{place}"),
                group: (*group).to_owned(),
                answer,
            });
        }
        // The caller of the second login gives up.
        drop(answers.remove(1));
        let roles = || -> Vec<_> { queue.take().into_iter().map(|one| one.role).collect() };
        let first = ["pgv_4", "pgv_7", "pgv_0", "pgv_3", "pgv_6", "pgv_8", "pgv_2", "pgv_5"];
        assert_eq!(roles(), first);
        assert_eq!(roles(), ["pgv_9"]);
    }
}
