//! Many logins in one transaction: what gathered while the last transaction ran is made in the next
//! ([`Gather`]), in one round trip whatever its size.
//!
//! If anything about a batch is not as it should be, nothing of it is kept, and its halves are made
//! each by itself: so the good ones are found without knowing what is wrong with whose. A login that
//! fails alone goes the slow way ([`create`]), which finds out what is wrong, and says so.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use crate::{
    gather::{Bounds, Gather, NotDone},
    ids::PrincipalId,
    target::{
        Created, NewLogin,
        connect::Connections,
        context, create,
        error::Error,
        sound,
        sql::{self, LoginTerms, LoginVerb, Membership},
    },
    telemetry::{labels, metrics::Metrics},
};

/// From PostgreSQL 16 on a GRANT locks its group until the commit, so that longer batches under one
/// group keep the other connections waiting; and where two cores hash the verifiers, more batches at
/// once only queue there.
const BOUNDS: Bounds = Bounds { in_a_batch: 8, at_once: 4, waiting: 512 };

/// The queues of one target, one for each database.
pub(crate) struct Batches {
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    /// The server's version, once a login was made the slow way; 0 before. It decides how a GRANT is
    /// written; if the server was upgraded meanwhile, the batch fails and the slow way sets it right.
    version: AtomicI32,
}

/// Callers take turns, and so do the profiles of one caller, which are told apart by their group.
type Lane = (PrincipalId, String);

struct Queue {
    jobs: Gather<Lane, Job, Outcome>,
    /// Is everybody let into the database? A login that needs CONNECT of its own is made the slow
    /// way, which alone gives it, and would only spoil the batch for the others.
    is_open: AtomicBool,
}

/// A login to be made. It owns what it needs: its caller may give up at any time.
struct Job {
    statements: Statements,
    role: String,
    group: String,
}

/// What makes one login, each statement with its semicolon.
struct Statements {
    create: String,
    the_rest: String,
}

/// What a batch answers for one login: made, or to be made the slow way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Made(u32),
    GoSlowly,
}

impl Batches {
    pub(crate) fn new(connections: Arc<Connections>, metrics: Arc<Metrics>) -> Self {
        Self { connections, metrics, queues: Mutex::default(), version: AtomicI32::new(0) }
    }

    /// Makes a login, together with others that are asked for at the same time.
    pub(crate) async fn create(&self, new: &NewLogin<'_>) -> Result<Created, Error> {
        let version = self.version.load(Ordering::Relaxed);
        let queue = self.queue(new.database);
        if queue.is_open.load(Ordering::Relaxed)
            && let Some(statements) = statements(new, version)
        {
            let (role, group) = (new.role.to_string(), new.group_role.to_owned());
            let lane = (new.asked_by, group.clone());
            let _queued = self.metrics.queued(labels::Queue::Creations);
            match queue.jobs.ask(lane, Job { statements, role, group }).await {
                Ok(Outcome::Made(oid)) => return Ok(Created { oid }),
                Err(NotDone::Full) => {
                    self.metrics.queue_was_full(labels::Queue::Creations);
                    return Err(Error::QueueFull);
                }
                Ok(Outcome::GoSlowly) | Err(NotDone::BrokenOff) => {}
            }
        }
        let created = create::create(&self.connections, new).await?;
        self.version.store(created.server_version, Ordering::Relaxed);
        queue.is_open.store(created.is_open, Ordering::Relaxed);
        Ok(Created { oid: created.oid })
    }

    fn queue(&self, database: &str) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(database) {
            return Arc::clone(queue);
        }
        let (connections, name) = (Arc::clone(&self.connections), Arc::<str>::from(database));
        let metrics = Arc::clone(&self.metrics);
        let jobs = Gather::new(BOUNDS, move |jobs: Vec<Job>| {
            let (connections, name) = (Arc::clone(&connections), Arc::clone(&name));
            metrics.batched(labels::Queue::Creations, jobs.len());
            async move { make(&connections, &name, &jobs).await }
        });
        let queue = Arc::new(Queue { jobs, is_open: AtomicBool::new(true) });
        queues.insert(database.to_owned(), Arc::clone(&queue));
        queue
    }
}

/// Makes as many of these logins as can be made together. A role whose caller gave up meanwhile is
/// removed by the loop that ends leases.
async fn make(connections: &Connections, database: &str, jobs: &[Job]) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::GoSlowly; jobs.len()];
    let mut to_try = vec![(0, jobs.len())];
    while let Some((start, end)) = to_try.pop() {
        let Some(some) = jobs.get(start..end) else { continue };
        let Ok(mut connection) = connections.to(database).await else { break };
        match sound::make(&mut connection, &in_one(some)).await {
            Ok(oids) => {
                let made = oids.into_iter().map(Outcome::Made);
                outcomes.iter_mut().skip(start).zip(made).for_each(|(one, made)| *one = made);
            }
            Err(sqlx::Error::Database(_)) if some.len() > 1 => {
                let middle = start + some.len() / 2;
                to_try.extend([(middle, end), (start, middle)]);
            }
            Err(sqlx::Error::Database(_)) => {}
            // The connection broke: whether they were made is not known, and the slow way looks.
            Err(_) => break,
        }
    }
    outcomes
}

/// The statements that make these logins.
///
/// All roles come before the first GRANT, which from 16 on locks its group until the commit; and the
/// groups come in one order, because two batches that came to them in different ones would deadlock.
fn in_one(jobs: &[Job]) -> String {
    let mut by_group: Vec<&Job> = jobs.iter().collect();
    by_group.sort_by(|one, other| one.group.cmp(&other.group));
    let creates = jobs.iter().map(|job| job.statements.create.as_str());
    let rests = by_group.iter().map(|job| job.statements.the_rest.as_str());
    let mut all: String = creates.chain(rests).collect();
    all.push_str(&sound::look(jobs.iter().map(|job| (job.role.as_str(), job.group.as_str()))));
    all
}

/// None if the server's version is not known yet, or the verifier is malformed; or if the group may own
/// things, which [`sound`] takes for a fault.
fn statements(new: &NewLogin<'_>, version: i32) -> Option<Statements> {
    if version == 0 || new.group_may_own {
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
    all.extend(context::keep(name, new.claims));
    let the_rest = all.into_iter().map(|statement| statement + ";").collect();
    Some(Statements { create, the_rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_makes_all_roles_first_and_comes_to_its_groups_in_one_order() {
        let job = |role: &str, group: &str| Job {
            statements: Statements {
                create: format!("CREATE {role};"),
                the_rest: format!("GRANT {group} TO {role};"),
            },
            role: role.to_owned(),
            group: group.to_owned(),
        };
        let text = in_one(&[job("r1", "b"), job("r2", "a"), job("r3", "b")]);
        assert_eq!(
            text,
            "CREATE r1;CREATE r2;CREATE r3;GRANT a TO r2;GRANT b TO r1;GRANT b TO r3;\
             EXECUTE pgvalet_sound (ARRAY['r1','r2','r3']::text[], ARRAY['b','a','b']::text[])"
        );
    }
}
