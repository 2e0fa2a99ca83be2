//! Targets: recorded, changed, removed.

use std::sync::Arc;

use crate::{
    app::{App, Origin, apply::find_target, error::Error},
    domain::{
        access::Fault,
        audit::Event,
        name::Name,
        plan::{self, Action},
        schedule::Schedule,
        target::{self, Target, TargetSpec},
    },
    identity::Admin,
    ids::TargetId,
    rng,
    secret::Secret,
    store::{
        self, Tx,
        targets::{SealedKey, SealedPassword, SealedSecrets},
    },
    target::{Credentials, Handle},
};

impl App {
    /// All targets.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn targets(&self, _: &Admin<'_>) -> Result<Vec<Target>, Error> {
        Ok(self.store.targets().await?)
    }

    /// One target.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn target(&self, _: &Admin<'_>, name: &Name) -> Result<Target, Error> {
        let targets = self.store.targets().await?;
        Error::unless_found("target", name, targets, |target| &target.spec.name)
    }

    /// Records a target, or changes it. True if it is new.
    ///
    /// # Errors
    /// If it is not sound, cannot be signed in to, or our database does not answer.
    pub async fn put_target(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        mut spec: TargetSpec,
        given: Given<'_>,
    ) -> Result<(Target, bool), Error> {
        let recorded = self.store.targets().await?;
        let known = find_target(&recorded, &spec.name);
        keep_source(&mut spec, given.password.is_some(), known);
        let mut faults = target::faults(&spec);
        faults.extend(self.source_fault(&spec));
        if !faults.is_empty() {
            let fault =
                |(field, message): (&'static str, String)| Fault { field: field.into(), message };
            return Err(Error::Invalid(faults.into_iter().map(fault).collect()));
        }
        let cluster_id = self.try_target(&spec, given).await?;
        let mut tx = self.store.begin().await?;
        let new = NewTarget { spec: &spec, given, cluster_id };
        let action = self.write_target(&mut tx, admin, origin, &new).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.nudges.rotations.notify_one();
        let target = self.target(admin, &spec.name).await?;
        Ok((target, action == Action::Create))
    }

    /// Signs in to a target as it is to be recorded, so that a mistyped password or host is told to
    /// the one who typed it, and changes nothing.
    pub(in crate::app) async fn try_target(
        &self,
        spec: &TargetSpec,
        given: Given<'_>,
    ) -> Result<Option<i64>, Error> {
        let (id, handle) = self.open_trial(spec, given).await?;
        let probed = handle.probe().await;
        self.targets.forget(id);
        let server = probed.map_err(|e| Error::target(spec.name.as_str(), None, e))?;
        if server.in_recovery {
            return Err(Error::Conflict {
                code: "target_in_recovery",
                detail: format!(
                    "target `{}` is a standby, which takes no changes: name the primary",
                    spec.name
                ),
            });
        }
        Ok(server.system_identifier)
    }

    /// Opens a target as it is to be recorded, under an id of its own. Whoever opens it closes it.
    pub(in crate::app) async fn open_trial(
        &self,
        spec: &TargetSpec,
        given: Given<'_>,
    ) -> Result<(TargetId, Arc<Handle>), Error> {
        let recorded = self.store.targets().await?;
        let recorded = find_target(&recorded, &spec.name);
        let change = plan::target_change(spec, recorded);
        let kept = match recorded {
            Some(target) => Some(self.store.admin_secrets(target.id, &self.keys).await?),
            None => None,
        };
        let (kept, kept_key) = kept.map_or((None, None), |kept| (kept.current, kept.ssl_key));
        let password = match given.password {
            _ if spec.admin_source.is_some() => None,
            Some(password) => Some(password.duplicate()),
            None if recorded.is_none() => return Err(password_missing(&spec.name, "is new")),
            None if plan::needs_password(&change.changed) => {
                return Err(password_missing(&spec.name, "is to be reached in another way"));
            }
            None => kept,
        };
        let ssl_key = match given.ssl_key {
            _ if spec.sslcert_pem.is_none() => None,
            Some(key) => Some(key.duplicate()),
            None if recorded.is_none() || plan::needs_ssl_key(&change.changed) => {
                let message = format!(
                    "target `{}` is shown a certificate that is new: its key is needed",
                    spec.name
                );
                return Err(Error::invalid("ssl_key", message));
            }
            None => kept_key,
        };
        let trial =
            Target { id: TargetId::new(), version: 0, admin_version: 0, spec: spec.clone() };
        let credentials = Credentials { version: 0, password, ssl_key };
        Ok((trial.id, self.targets.open(&trial, credentials, None)))
    }

    /// Why this daemon does not get a target's password from where it comes.
    pub(in crate::app) fn source_fault(&self, spec: &TargetSpec) -> Option<(&'static str, String)> {
        let source = spec.admin_source.as_ref()?;
        self.targets.source_rules().check(source).err().map(|why| ("admin.password", why))
    }

    /// Writes a target within a transaction.
    pub(in crate::app) async fn write_target(
        &self,
        tx: &mut Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        new: &NewTarget<'_>,
    ) -> Result<Action, Error> {
        let NewTarget { spec, given, cluster_id } = *new;
        let now = self.clock.now();
        let recorded = tx.lock_target(&spec.name).await?;
        let change = plan::target_change(spec, recorded.as_ref());
        let id = recorded.as_ref().map_or_else(TargetId::new, |target| target.id);
        let sealed = self.seal_given(id, spec, given)?;
        // A cluster made anew at the same address: daemons refuse to work there until it is recorded.
        let leads_elsewhere = match (&recorded, cluster_id) {
            (Some(_), Some(seen)) => tx.cluster_id(id).await?.is_some_and(|known| known != seen),
            _ => false,
        };
        let target = spec.name.to_string();
        let has_password = sealed.password.is_some();
        let event = match recorded {
            None => {
                if !has_password && spec.admin_source.is_none() {
                    return Err(password_missing(&spec.name, "is new"));
                }
                tx.create_target(id, spec, &sealed, now).await.map_err(name_taken)?;
                Event::TargetCreated { target_id: id, target }
            }
            Some(_)
                if change.action == Action::Keep
                    && !leads_elsewhere
                    && !has_password
                    && sealed.ssl_key.is_none() =>
            {
                return Ok(Action::Keep);
            }
            Some(_) => {
                tx.change_target(id, spec, &sealed, now).await?;
                let mut changed = change.changed.clone();
                changed.extend(leads_elsewhere.then_some("cluster"));
                changed.extend(has_password.then_some("admin.password"));
                changed.extend(sealed.ssl_key.is_some().then_some("sslkey"));
                changed.dedup();
                let changed = changed.into_iter().map(str::to_owned).collect();
                Event::TargetChanged { target_id: id, target, changed }
            }
        };
        self.check_same_cluster(tx, id, spec, cluster_id).await?;
        // What was on its way is over, too, if the password comes from elsewhere now.
        let is_another = has_password || change.changed.contains(&"admin.password");
        if is_another || change.changed.contains(&"rotate_admin") {
            self.schedule_admin(tx, (id, spec), is_another, now).await?;
        }
        tx.audit(&origin.entry(admin, now, event)).await?;
        Ok(if change.action == Action::Create { Action::Create } else { Action::Change })
    }

    /// Seals what was given for a target, as far as it is of use there.
    fn seal_given(
        &self,
        id: TargetId,
        spec: &TargetSpec,
        given: Given<'_>,
    ) -> Result<SealedSecrets, Error> {
        let password = given.password.filter(|_| spec.admin_source.is_none());
        let password = match password {
            Some(text) => Some(SealedPassword::seal(&self.keys, id, rng::bytes()?, text)?),
            None => None,
        };
        let key = given.ssl_key.filter(|_| spec.sslcert_pem.is_some());
        let ssl_key = match key {
            Some(text) => Some(SealedKey::seal(&self.keys, id, rng::bytes()?, text)?),
            None => None,
        };
        Ok(SealedSecrets { password, ssl_key })
    }

    /// The logins of live leases are on the cluster that they were made on: at another one, none would
    /// be found, and each would be taken for gone.
    async fn check_same_cluster(
        &self,
        tx: &mut Tx,
        id: TargetId,
        spec: &TargetSpec,
        seen: Option<i64>,
    ) -> Result<(), Error> {
        let Some(seen) = seen else { return Ok(()) };
        let known = tx.cluster_id(id).await?;
        if known.is_some_and(|known| known != seen) {
            let (_, live) = tx.users_of_target(id).await?;
            if live > 0 {
                return Err(Error::Conflict {
                    code: "target_is_another_cluster",
                    detail: format!(
                        "target `{0}` would be another PostgreSQL cluster, and {live} leases are live on the present one: revoke them first (`pgvalet revoke --target {0}`), or record the other one under a name of its own",
                        spec.name
                    ),
                });
            }
        }
        Ok(tx.set_cluster_id(id, seen).await?)
    }

    /// Removes a target. Refused while profiles or live leases need it.
    ///
    /// # Errors
    /// If it is needed, or there is none of that name.
    pub async fn remove_target(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
    ) -> Result<(), Error> {
        let id = self.target(admin, name).await?.id;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        tx.lock_target(name).await?.ok_or_else(|| Error::not_found("target", name.to_string()))?;
        let (profiles, leases) = tx.users_of_target(id).await?;
        if !profiles.is_empty() {
            let detail = format!(
                "profiles still name target `{name}`: remove {} first",
                profiles.join(", ")
            );
            return Err(Error::Conflict { code: "target_in_use", detail });
        }
        if leases > 0 {
            let detail = format!(
                "{leases} leases are live on target `{name}`: revoke them first (`pgvalet revoke --target {name}`)"
            );
            return Err(Error::Conflict { code: "target_in_use", detail });
        }
        tx.remove_target(id, now).await?;
        tx.forget_admin_rotation(id).await?;
        let event = Event::TargetRemoved { target_id: id, target: name.to_string() };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.targets.forget(id);
        self.nudges.audit.notify_one();
        Ok(())
    }
}

/// What was given along with a target, to be kept sealed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// The admin's password.
    pub password: Option<&'a Secret<String>>,
    /// The key of the certificate that is shown.
    pub ssl_key: Option<&'a Secret<String>>,
}

/// Whoever says nothing of the password leaves it as it is, wherever it comes from.
pub(in crate::app) fn keep_source(
    spec: &mut TargetSpec,
    has_password: bool,
    recorded: Option<&Target>,
) {
    if spec.admin_source.is_none()
        && !has_password
        && let Some(source) = recorded.and_then(|target| target.spec.admin_source.clone())
    {
        spec.admin_source = Some(source);
        spec.rotate_admin = Schedule::Never;
    }
}

/// A target as it is to be recorded.
#[derive(Clone, Copy)]
pub(in crate::app) struct NewTarget<'a> {
    pub(in crate::app) spec: &'a TargetSpec,
    pub(in crate::app) given: Given<'a>,
    /// Which cluster answered at its address.
    pub(in crate::app) cluster_id: Option<i64>,
}

fn password_missing(name: &Name, why: &str) -> Error {
    let message = format!("target `{name}` {why}: its admin's password is needed");
    Error::invalid("admin_password", message)
}

fn name_taken(e: store::error::Error) -> Error {
    if e.is_constraint("target_name") {
        let detail =
            "somebody else recorded a target of this name just now: look at it and try again"
                .to_owned();
        return Error::Conflict { code: "name_taken", detail };
    }
    e.into()
}
