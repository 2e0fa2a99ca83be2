//! Targets: recorded, changed, removed.

use std::sync::Arc;

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        access::Fault,
        audit::Event,
        name::Name,
        plan::{self, Action},
        target::{self, Target, TargetSpec},
    },
    identity::Admin,
    ids::TargetId,
    rng,
    secret::Secret,
    store::{self, Tx, targets::SealedPassword},
    target::Handle,
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
        spec: TargetSpec,
        password: Option<Secret<String>>,
    ) -> Result<(Target, bool), Error> {
        let faults = target::faults(&spec);
        if !faults.is_empty() {
            let fault =
                |(field, message): (&'static str, String)| Fault { field: field.into(), message };
            return Err(Error::Invalid(faults.into_iter().map(fault).collect()));
        }
        let cluster_id = self.try_target(&spec, password.as_ref()).await?;
        let mut tx = self.store.begin().await?;
        let new = NewTarget { spec: &spec, password: password.as_ref(), cluster_id };
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
        password: Option<&Secret<String>>,
    ) -> Result<Option<i64>, Error> {
        let (id, handle) = self.open_trial(spec, password).await?;
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
        password: Option<&Secret<String>>,
    ) -> Result<(TargetId, Arc<Handle>), Error> {
        let recorded =
            self.store.targets().await?.into_iter().find(|target| target.spec.name == spec.name);
        let change = plan::target_change(spec, recorded.as_ref());
        let password = match (password, &recorded) {
            (Some(password), _) => password.duplicate(),
            (None, Some(_)) if plan::needs_password(&change.changed) => {
                return Err(password_missing(&spec.name, "is to be reached in another way"));
            }
            (None, Some(target)) => self.store.admin_secrets(target.id, &self.keys).await?.current,
            (None, None) => return Err(password_missing(&spec.name, "is new")),
        };
        let trial =
            Target { id: TargetId::new(), version: 0, admin_version: 0, spec: spec.clone() };
        Ok((trial.id, self.targets.open(&trial, (0, password), None)))
    }

    /// Writes a target within a transaction.
    pub(in crate::app) async fn write_target(
        &self,
        tx: &mut Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        new: &NewTarget<'_>,
    ) -> Result<Action, Error> {
        let NewTarget { spec, password, cluster_id } = *new;
        let now = self.clock.now();
        let recorded = tx.lock_target(&spec.name).await?;
        let change = plan::target_change(spec, recorded.as_ref());
        let id = recorded.as_ref().map_or_else(TargetId::new, |target| target.id);
        let seal = |password| {
            SealedPassword::seal(&self.keys, id, rng::bytes()?, password).map_err(Error::from)
        };
        let sealed = password.map(seal).transpose()?;
        // A cluster made anew at the same address: daemons refuse to work there until it is recorded.
        let leads_elsewhere = match (&recorded, cluster_id) {
            (Some(_), Some(seen)) => tx.cluster_id(id).await?.is_some_and(|known| known != seen),
            _ => false,
        };
        let target = spec.name.to_string();
        let has_password = sealed.is_some();
        let event = match (recorded, sealed) {
            (None, None) => return Err(password_missing(&spec.name, "is new")),
            (None, Some(sealed)) => {
                tx.create_target(id, spec, &sealed, now).await.map_err(name_taken)?;
                Event::TargetCreated { target_id: id, target }
            }
            (Some(_), None) if change.action == Action::Keep && !leads_elsewhere => {
                return Ok(Action::Keep);
            }
            (Some(_), sealed) => {
                tx.change_target(id, spec, sealed.as_ref(), now).await?;
                let mut changed: Vec<String> =
                    change.changed.iter().map(|key| (*key).to_owned()).collect();
                if leads_elsewhere {
                    changed.push("cluster".to_owned());
                }
                if sealed.is_some() {
                    changed.push("admin.password".to_owned());
                }
                Event::TargetChanged { target_id: id, target, changed }
            }
        };
        self.check_same_cluster(tx, id, spec, cluster_id).await?;
        if has_password || change.changed.contains(&"rotate_admin") {
            self.schedule_admin(tx, (id, spec), has_password, now).await?;
        }
        tx.audit(&origin.entry(admin, now, event)).await?;
        Ok(if change.action == Action::Create { Action::Create } else { Action::Change })
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

/// A target as it is to be recorded.
#[derive(Clone, Copy)]
pub(in crate::app) struct NewTarget<'a> {
    pub(in crate::app) spec: &'a TargetSpec,
    pub(in crate::app) password: Option<&'a Secret<String>>,
    /// Which cluster answered at its address.
    pub(in crate::app) cluster_id: Option<i64>,
}

fn password_missing(name: &Name, why: &str) -> Error {
    let message = format!("target `{name}` {why}: its admin's password is needed");
    Error::Invalid(vec![Fault { field: "admin_password".into(), message }])
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
