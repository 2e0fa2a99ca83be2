//! Other people's databases: the only module that holds the SQL sent to targets.
//!
//! [`Targets`] keeps a [`Handle`] for each target that is in use; a handle answers questions and
//! makes changes, each named as one. Every change may be made twice: create means "make it so",
//! remove means "make sure it is gone".

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;

use crate::{
    clock::Clock,
    domain::{
        breaker, lease::Proof, pg_hba::Line, profile::OwnedObjects, role::LoginName, target::Target,
    },
    ids::{PrincipalId, TargetId},
    secret::Secret,
    telemetry::metrics::Metrics,
};

pub mod aws;
pub mod error;
pub mod scram;
pub mod source;

pub mod bootstrap;
pub mod printed;

mod admin;
mod adopt;
mod batch;
mod check;
mod checklist;
mod connect;
mod context;
mod create;
pub mod doctor;
mod exercise;
pub mod explain;
mod fence;
mod gate;
mod handover;
mod hardening;
mod installed;
mod observe;
mod owned;
mod passwords;
mod policies;
mod pool;
mod prepared;
mod put_back;
mod remove;
mod rights;
pub mod script;
mod sound;
mod sql;
pub mod superuser;
mod survey;
mod together;
mod way;

use self::scram::Verifier;
pub use self::{
    admin::SETS_WITHIN,
    error::Error,
    rights::NotPrepared,
    source::SourceRules,
    survey::{Memory, Survey},
};

/// The passwords that a target's administrator may have, as they are recorded now.
pub struct AdminPasswords {
    /// Grows with each change of them.
    pub version: i32,
    /// The one that holds, as far as is known; none if it is not recorded.
    pub current: Option<Secret<String>>,
    /// The one that is being set.
    pub next: Option<Secret<String>>,
}

/// What a target's administrator signs in with, as it is recorded.
pub struct Credentials {
    /// Grows with each change of the passwords.
    pub version: i32,
    /// The password; none if it comes from elsewhere.
    pub password: Option<Secret<String>>,
    /// The key of the certificate that is shown, if one is.
    pub ssl_key: Option<Secret<String>>,
}

/// Reads them, when a sign-in was refused; none if the record does not answer.
pub type Reread = Box<dyn Fn() -> BoxFuture<'static, Option<AdminPasswords>> + Send + Sync>;

/// Connections to each database for all but removals: batches of creations, and a few that are not.
const MOST_CONNECTIONS: u32 = 6;

/// Connections to each database for removals.
const MOST_REMOVING: u32 = 4;

/// Clocks that are closer than this are taken for right.
pub const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(2);

/// The targets that are in use. Copies share the same connections.
#[derive(Clone)]
pub struct Targets {
    application_name: Arc<str>,
    metrics: Arc<Metrics>,
    rules: Arc<SourceRules>,
    handles: Arc<Mutex<HashMap<TargetId, Arc<Handle>>>>,
}

impl Targets {
    /// None yet. The name shows in the targets' `pg_stat_activity`.
    #[must_use]
    pub fn new(application_name: &str, rules: SourceRules, metrics: Arc<Metrics>) -> Self {
        let (application_name, rules) = (application_name.into(), Arc::new(rules));
        Self { application_name, metrics, rules, handles: Arc::default() }
    }

    /// Where the passwords of administrators may come from, beside the record.
    #[must_use]
    pub fn source_rules(&self) -> &SourceRules {
        &self.rules
    }

    /// The target, if it is open in this very version.
    #[must_use]
    pub fn get(&self, id: TargetId, version: i32) -> Option<Arc<Handle>> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.get(&id).filter(|handle| handle.version == version).map(Arc::clone)
    }

    /// Opens a target in place of its other versions. Nothing is connected before it is needed.
    pub fn open(
        &self,
        target: &Target,
        credentials: Credentials,
        reread: Option<Reread>,
    ) -> Arc<Handle> {
        let gate = Arc::new(gate::Gate::default());
        let Credentials { version, password, ssl_key } = credentials;
        let origin = match target.spec.admin_source.clone() {
            Some(from) => {
                let source = source::Source::new(from, &target.spec, Arc::clone(&self.rules));
                passwords::Origin::Asked(source)
            }
            None => passwords::Origin::Recorded(reread),
        };
        let passwords = Arc::new(passwords::Passwords::new(version, password, origin));
        let ssl_key = ssl_key.map(Arc::new);
        let connections = |most| {
            connect::Connections::new(
                target.spec.clone(),
                (Arc::clone(&passwords), ssl_key.clone()),
                &self.application_name,
                most,
                Arc::clone(&gate),
            )
        };
        let removing = Arc::new(connections(MOST_REMOVING));
        let connections = Arc::new(connections(MOST_CONNECTIONS));
        let fences = Arc::default();
        let handle = Arc::new(Handle {
            version: target.version,
            batches: batch::Batches::new(Arc::clone(&connections), Arc::clone(&self.metrics)),
            removals: together::Removals::new(
                Arc::clone(&removing),
                Arc::clone(&fences),
                Arc::clone(&self.metrics),
            ),
            connections,
            removing,
            passwords,
            gate,
            fences,
        });
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = handles.insert(target.id, Arc::clone(&handle)) {
            older.abandon();
        }
        handle
    }

    /// Closes a target.
    pub fn forget(&self, id: TargetId) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.remove(&id) {
            handle.abandon();
        }
    }

    /// Connections to all of them: those in use, and those that idle.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let each = handles
            .values()
            .flat_map(|handle| [handle.connections.counts(), handle.removing.counts()]);
        each.fold((0, 0), |(used, idle), (more_used, more_idle)| {
            (used + more_used, idle + more_idle)
        })
    }

    /// The targets that are left alone now, because they could not be signed in to several times in a row;
    /// each with how long yet.
    #[must_use]
    pub fn left_alone(&self) -> Vec<(TargetId, Duration)> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.iter().filter_map(|(id, handle)| Some((*id, handle.gate.wait()?))).collect()
    }

    /// How many targets have a breaker in this state.
    #[must_use]
    pub fn breakers(&self, state: breaker::State) -> usize {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.values().filter(|handle| handle.gate.breaker() == state).count()
    }

    /// Closes all, and waits until they are.
    pub async fn close(&self) {
        let handles: Vec<_> = {
            let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            handles.drain().map(|(_, handle)| handle).collect()
        };
        for handle in handles {
            handle.connections.close().await;
            handle.removing.close().await;
        }
    }
}

/// One target.
pub struct Handle {
    version: i32,
    gate: Arc<gate::Gate>,
    passwords: Arc<passwords::Passwords>,
    connections: Arc<connect::Connections>,
    /// Removals have connections of their own, so that neither they nor issuing wait for the other.
    removing: Arc<connect::Connections>,
    batches: batch::Batches,
    removals: together::Removals,
    /// For each fenced login (by OID) the processes that were signing in when it was fenced, and
    /// might still become sessions of it. Kept between tries, so that those who come later, and
    /// cannot get in, do not put the removal off for ever.
    fences: Arc<fence::Fences>,
}

/// What a target says of itself and of our admin there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The number that tells its cluster from every other, standbys apart; none if our admin may not
    /// ask for it. At another number than before, the target's address leads somewhere else now.
    pub system_identifier: Option<i64>,
    /// Its version: 150004 is 15.4.
    pub version_num: i32,
    /// Its clock.
    pub now: DateTime<Utc>,
    /// Is it a standby?
    pub in_recovery: bool,
    /// Is our admin a superuser? It need not and should not be.
    pub admin_is_superuser: bool,
    /// May our admin create roles?
    pub may_create_roles: bool,
    /// May our admin end other roles' sessions?
    pub may_end_sessions: bool,
}

/// A login to be made.
pub struct NewLogin<'a> {
    /// Its name.
    pub role: &'a LoginName,
    /// The role that its sessions work as.
    pub group_role: &'a str,
    /// The database that it is for.
    pub database: &'a str,
    /// Its password's verifier.
    pub verifier: &'a Verifier,
    /// When PostgreSQL itself stops letting it in.
    pub valid_until: DateTime<Utc>,
    /// How many sessions it may have at once.
    pub connection_limit: i32,
    /// What its sessions begin with.
    pub settings: &'a BTreeMap<String, String>,
    /// What row-level security sees of it.
    pub claims: &'a BTreeMap<String, String>,
    /// Who it is for, to be read in the catalogue.
    pub comment: String,
    /// May the group role own things? Then it may be handed out although it does.
    pub group_may_own: bool,
    /// Whose request it is: callers take turns.
    pub asked_by: PrincipalId,
}

/// A login that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Its OID, which tells it from any later role of the same name.
    pub oid: u32,
}

/// A login to be removed.
pub struct RemoveLogin<'a> {
    /// Its name.
    pub role: &'a LoginName,
    /// Its OID, if it is known.
    pub oid: Option<u32>,
    /// The database that it is for.
    pub database: &'a str,
    /// The role that its sessions worked as.
    pub group_role: &'a str,
    /// What becomes of the objects that it owns.
    pub owned_objects: OwnedObjects,
    /// Is there something that row-level security sees of it?
    pub has_context: bool,
}

/// What preparing a profile takes on its target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prepared {
    /// The SQL, in order, as it was or would be run.
    pub statements: Vec<String>,
    /// What could not be covered, in words.
    pub notes: Vec<String>,
    /// Which of the settings of the server's log (`log`) the profile's logins may be given.
    pub settable: Vec<String>,
}

impl Handle {
    /// From now on nothing is done on another cluster than this one.
    pub fn expect_cluster(&self, system_identifier: i64) {
        self.gate.expect_cluster(system_identifier);
    }

    fn abandon(&self) {
        self.connections.abandon();
        self.removing.abandon();
    }

    /// Asks the target about itself.
    ///
    /// # Errors
    /// When it does not answer, or does not let our admin in.
    pub async fn probe(&self) -> Result<Server, Error> {
        let mut connection = self.connections.to_cluster(None).await?;
        let sent = Clock.now();
        let server = observe::facts(&mut connection).await?.server;
        self.gate.note_clock(sent, server.now, Clock.now());
        Ok(server)
    }

    /// Tries what our admin can do here, for these group roles; nothing of it stays.
    ///
    /// # Errors
    /// When it does not answer, or does not let our admin in.
    pub async fn examine(
        &self,
        trial: &LoginName,
        groups: &[doctor::Group],
    ) -> Result<doctor::Examined, Error> {
        doctor::examine(&self.connections, trial, groups).await
    }

    /// Lines of `pg_hba.conf`; none if our admin may not read them.
    ///
    /// # Errors
    /// When it does not answer, or does not let our admin in.
    pub async fn pg_hba(&self) -> Result<Option<Vec<Line>>, Error> {
        let mut connection = self.connections.to_cluster(None).await?;
        let file = checklist::settings::read_pg_hba(&mut connection).await?;
        Ok(file.map(|file| file.lines))
    }

    /// Makes a login, or sets right one that an earlier try left.
    ///
    /// # Errors
    /// When it cannot be made exactly as asked; nothing is left of it then.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "CREATE ROLE",
        skip_all,
        fields(
            otel.kind = "client",
            db.system.name = "postgresql",
            db.namespace = new.database,
            db.query.summary = "CREATE ROLE",
            server.address = self.connections.host(),
            server.port = self.connections.port(),
        )
    )]
    pub async fn create_login(&self, new: &NewLogin<'_>) -> Result<Created, Error> {
        let new = NewLogin {
            valid_until: self.gate.there(new.valid_until),
            comment: new.comment.clone(),
            ..*new
        };
        self.batches.create(&new).await
    }

    /// The version of the administrator's passwords that are known here.
    #[must_use]
    pub fn admin_version(&self) -> i32 {
        self.passwords.version()
    }

    /// Signs in with this password from now on, if there is one. Connections that are open stay.
    pub fn use_admin_password(&self, version: i32, password: Option<Secret<String>>) {
        if let Some(password) = password {
            self.passwords.take(version, password);
        }
        self.gate.forgive();
    }

    /// Sets the administrator's own password, if `still_ours` says so when all else is done. The time
    /// from then on is bounded by the server ([`SETS_WITHIN`]).
    ///
    /// # Errors
    /// When it is not set, or not known to be.
    pub async fn set_admin_password(
        &self,
        verifier: &Verifier,
        still_ours: impl Future<Output = bool>,
    ) -> Result<(), Error> {
        admin::set_password(&self.connections, verifier, still_ours).await
    }

    /// Would the target let its administrator in with this password?
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn accepts_admin(&self, password: &Secret<String>) -> Result<bool, Error> {
        admin::accepts(&self.connections, password).await
    }

    /// Does the target let a login in, as its group role?
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn accepts_login(
        &self,
        database: &str,
        role: &LoginName,
        group_role: &str,
        password: &Secret<String>,
    ) -> Result<bool, Error> {
        let password = password.expose();
        let login = connect::Login { user: role.as_str(), password, role: Some(group_role) };
        self.connections.accepts(database, &login).await
    }

    /// Moves a login's end.
    ///
    /// # Errors
    /// [`Error::Gone`] when name and OID do not both agree any more.
    pub async fn set_valid_until(
        &self,
        role: &LoginName,
        oid: u32,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        let until = self.gate.there(until);
        create::set_valid_until(&self.connections, role, oid, until).await
    }

    /// Makes sure that a login is gone, with all its sessions, and says what was seen.
    ///
    /// # Errors
    /// When it is not gone yet. It may be tried again at any time.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "DROP ROLE",
        skip_all,
        fields(
            otel.kind = "client",
            db.system.name = "postgresql",
            db.namespace = login.database,
            db.query.summary = "DROP ROLE",
            server.address = self.connections.host(),
            server.port = self.connections.port(),
        )
    )]
    pub async fn remove_login(&self, login: &RemoveLogin<'_>) -> Result<Proof, Error> {
        if let Some(proof) = self.removals.remove(login).await {
            return Ok(proof);
        }
        // It is never closed: without a turn it would merely not wait for one.
        let _turn = self.removals.alone.acquire().await.ok();
        remove::remove(&self.removing, &self.fences, login).await
    }
}
