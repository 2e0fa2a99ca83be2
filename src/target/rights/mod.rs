//! Everything that a profile says of its database, against what is there, as SQL: what is shown is what is
//! run.
//!
//! First what is there is read ([`seen`]), then what the grants mean for it ([`wanted`]), then how the two
//! differ ([`mod@difference`]). All profiles of a database are made in one transaction, which is read back
//! before it ends, because a GRANT that may not only warns.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::{
    document::did_you_mean,
    domain::{
        name::Name,
        profile::{Preset, ProfileSpec},
    },
    target::{
        Handle, Prepared,
        connect::{Connections, Patience, run},
        context,
        error::{self, Error},
        observe::{self, Facts, Owns, Role},
        policies, sql,
    },
};

mod difference;
mod harden;
mod object;
mod placed;
mod seen;
mod signature;
mod statement;
mod wanted;

#[cfg(test)]
mod tests;

pub(in crate::target) use self::difference::some_of;
use self::{
    difference::{Compared, difference},
    placed::Grants,
    wanted::Wanted,
};

/// Another transaction in the way is gone within this time, or the caller tries again later.
const CONFLICT_TIME: Duration = Duration::from_secs(6);

/// Nobody waits long behind a change that itself waits; a database with very many things takes its time; and
/// compiling a question that is asked once takes longer than its answer.
const LIMITS: &str =
    "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s'; SET LOCAL jit = off";

const PREPARE: &str = "prepare a profile";

/// What a profile takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    /// The SQL, in order.
    pub(crate) statements: Vec<String>,
    /// What could not be covered, in words.
    pub(crate) notes: Vec<String>,
    /// What is wrong with the profile: the key that it is about, as in a file, and what.
    pub(crate) faults: Vec<(String, String)>,
    /// Which of the settings of the server's log its logins may be given.
    pub(crate) settable: Vec<String>,
}

impl Planned {
    /// Adds what comes after it.
    fn append(&mut self, next: Self) {
        self.statements.extend(next.statements);
        self.notes.extend(next.notes);
        self.faults.extend(next.faults);
        self.settable.extend(next.settable);
    }

    fn sound(self) -> Result<Prepared, Error> {
        if self.faults.is_empty() {
            let Self { statements, notes, settable, .. } = self;
            return Ok(Prepared { statements, notes, settable });
        }
        Err(Error::Unfit { faults: self.faults })
    }
}

/// Profiles that were not made; nothing of any is there.
#[derive(Debug)]
pub struct NotPrepared {
    /// The one that it failed at, if it was one.
    pub profile: Option<Name>,
    /// Why.
    pub error: Error,
}

impl From<Error> for NotPrepared {
    fn from(error: Error) -> Self {
        Self { profile: None, error }
    }
}

impl Handle {
    /// What [`Handle::prepare_profile`] would run.
    ///
    /// # Errors
    /// When the profile cannot be prepared as it is.
    pub async fn plan_profile(&self, spec: &ProfileSpec) -> Result<Prepared, Error> {
        let planned = self.plan_profiles(&spec.database, &[spec]).await?;
        planned.into_iter().next().unwrap_or_else(|| Ok(Prepared::default()))
    }

    /// The same for profiles of one database, each by itself.
    ///
    /// # Errors
    /// When the target cannot be looked at. What is wrong with a profile stands in its place.
    pub async fn plan_profiles(
        &self,
        database: &str,
        specs: &[&ProfileSpec],
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        plan(&self.connections, database, specs).await
    }

    /// Makes a profile's group role and its grants what the profile says.
    ///
    /// # Errors
    /// When that is not possible; nothing is changed then.
    pub async fn prepare_profile(&self, spec: &ProfileSpec) -> Result<Prepared, Error> {
        let prepared = self.prepare_profiles(&spec.database, &[spec]).await;
        let prepared = prepared.map_err(|failed| failed.error)?;
        Ok(prepared.into_iter().next().unwrap_or_default())
    }

    /// The same for profiles of one database, in one transaction.
    ///
    /// # Errors
    /// When that is not possible for one of them; nothing is changed for any then.
    pub async fn prepare_profiles(
        &self,
        database: &str,
        specs: &[&ProfileSpec],
    ) -> Result<Vec<Prepared>, NotPrepared> {
        prepare(&self.connections, database, specs).await
    }
}

/// What would be run for profiles of one database, each by itself.
pub(crate) async fn plan(
    connections: &Connections,
    database: &str,
    specs: &[&ProfileSpec],
) -> Result<Vec<Result<Prepared, Error>>, Error> {
    let (mut connection, facts) = connections.to_change(database).await?;
    let mut tx = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await
        .map_err(error::failed(PREPARE))?;
    run(&mut tx, LIMITS).await.map_err(error::failed(PREPARE))?;
    let mut plans = Vec::new();
    for spec in specs {
        plans.push(match everything(&mut tx, &facts, spec).await {
            Ok(planned) => planned.sound(),
            Err(error) if error.is_the_profiles() => Err(error),
            Err(error) => return Err(error),
        });
    }
    tx.rollback().await.map_err(error::failed(PREPARE))?;
    Ok(plans)
}

/// Runs it: for all of these profiles, which are of one database, or for none.
pub(crate) async fn prepare(
    connections: &Connections,
    database: &str,
    specs: &[&ProfileSpec],
) -> Result<Vec<Prepared>, NotPrepared> {
    let mut patience = Patience::lasting(CONFLICT_TIME);
    loop {
        match prepare_once(connections, database, specs).await {
            Err(NotPrepared { error, .. }) if error.is_conflict() && patience.wait().await => {}
            outcome => return outcome,
        }
    }
}

async fn prepare_once(
    connections: &Connections,
    database: &str,
    specs: &[&ProfileSpec],
) -> Result<Vec<Prepared>, NotPrepared> {
    let (mut connection, facts) = connections.to_change(database).await?;
    let mut tx = connection.begin().await.map_err(error::failed(PREPARE))?;
    run(&mut tx, LIMITS).await.map_err(error::failed(PREPARE))?;
    let mut all = Vec::new();
    for spec in specs {
        let at = |error| NotPrepared { profile: Some(spec.name.clone()), error };
        let planned = everything(&mut tx, &facts, spec).await.map_err(at)?;
        let prepared = planned.sound().map_err(at)?;
        for statement in &prepared.statements {
            run(&mut tx, statement).await.map_err(error::failed(PREPARE)).map_err(at)?;
        }
        all.push(prepared);
    }
    for (spec, _) in specs.iter().zip(&all).filter(|(_, made)| !made.statements.is_empty()) {
        let at = |error| NotPrepared { profile: Some(spec.name.clone()), error };
        let left = everything(&mut tx, &facts, spec).await.map_err(at)?.statements;
        if let Some(first) = left.first() {
            return Err(at(Error::GrantsWithoutEffect { left: left.len(), first: first.clone() }));
        }
    }
    tx.commit().await.map_err(error::failed(PREPARE))?;
    Ok(all)
}

/// All that a profile says of its database, in the order in which it is run: what policies see of a lease, its
/// group role and grants, its policies, then what is taken from everybody.
async fn everything(
    tx: &mut PgConnection,
    facts: &Facts,
    spec: &ProfileSpec,
) -> Result<Planned, Error> {
    let mut planned = Planned::default();
    if spec.rights.needs_context() {
        planned.statements = context::difference(tx, facts, &spec.database).await?;
    }
    planned.append(grants(tx, facts, spec).await?);
    planned.append(policies::difference(tx, facts, spec).await?);
    planned.append(harden::difference(tx, spec).await?);
    planned.append(harden::settable(tx, facts, spec).await?);
    Ok(planned)
}

/// The group role, and what it is granted.
async fn grants(
    tx: &mut PgConnection,
    facts: &Facts,
    spec: &ProfileSpec,
) -> Result<Planned, Error> {
    let name = spec.group_role();
    let group = observe::safe_group(tx, &name, Owns::by(spec.group_may_own())).await?;
    if let Some(group) = &group {
        observe::check_may_grant(tx, facts, group).await?;
    }
    if spec.is_group_given() {
        return given(tx, spec, &name, group.as_ref()).await;
    }
    let mut planned = Planned::default();
    if group.is_none() {
        if !facts.server.may_create_roles && !facts.way.calls() {
            return Err(Error::LacksRight {
                action: "create roles".to_owned(),
                remedy: format!("ALTER ROLE {} CREATEROLE", sql::identifier(&facts.admin)),
                source: None,
            });
        }
        let comment = format!("pgvalet group role of profile {}", spec.name);
        planned.statements.extend(facts.way.make_group(&name, &comment));
    }
    let (oid, version) = (group.map(|group| group.oid), facts.server.version_num);
    let grants = Grants::of(spec);
    let objects = seen::objects(tx, version, grants.as_slice(), oid).await?;
    let mut wanted = Wanted::read(&grants, (&spec.database, version), &objects);
    let columns = seen::columns(tx, wanted.tables_of_columns(&objects), oid).await?;
    wanted.add_columns(&grants, &objects, &columns);
    let later = seen::later(tx, oid).await?;
    let differs = difference(&Compared {
        facts,
        group: &name,
        objects: &objects,
        columns: &columns,
        later: &later,
        wanted: &wanted,
    });
    planned.append(differs);
    Ok(planned)
}

/// A group role that is somebody else's is granted nothing. To work as the schemas' owner it has to be that.
async fn given(
    tx: &mut PgConnection,
    spec: &ProfileSpec,
    name: &str,
    group: Option<&Role>,
) -> Result<Planned, Error> {
    let mut planned = Planned::default();
    if group.is_none() {
        let roles: Vec<String> =
            sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE NOT rolcanlogin")
                .fetch_all(&mut *tx)
                .await
                .map_err(error::failed("look up roles"))?;
        let hint = did_you_mean(name, roles.iter().map(String::as_str));
        let message =
            format!("there is no role `{name}` on the target{hint}: make it, or correct its name");
        planned.faults.push(("group_role".to_owned(), message));
        return Ok(planned);
    }
    if spec.preset != Preset::Admin {
        return Ok(planned);
    }
    let objects = seen::objects(tx, 0, &[], None).await?;
    let schemas: Vec<_> = objects.iter().filter(|object| object.on == object::On::Schema).collect();
    for wanted in &spec.schemas {
        let message = match schemas.iter().find(|schema| schema.name == *wanted) {
            Some(schema) if schema.owner == name => continue,
            Some(schema) => format!(
                "schema `{wanted}` is owned by `{}`, not by `{name}`: name its owner as `group_role`, or leave `group_role` out",
                schema.owner
            ),
            None => {
                let hint = did_you_mean(wanted, schemas.iter().map(|schema| schema.name.as_str()));
                format!("the database `{}` has no schema `{wanted}`{hint}", spec.database)
            }
        };
        planned.faults.push(("schemas".to_owned(), message));
    }
    Ok(planned)
}
