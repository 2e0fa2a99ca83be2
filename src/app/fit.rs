//! Does a file fit its targets? All its profiles are planned there before anything is changed, also on
//! targets that are new in it; what only a target can know to be wrong is told as a fault of the file, with
//! its line.

use std::sync::Arc;

use crate::{
    app::{
        App,
        apply::{Code, find_target, given_for},
        error::Error,
    },
    document,
    domain::{
        name::Name,
        plan::{self, Desired},
        profile::ProfileSpec,
        target::Target,
    },
    ids::TargetId,
    target::{self, Handle, Prepared},
};

/// What a profile takes on its target; or why that is not known.
pub(in crate::app) type Looked = Result<Prepared, Error>;

/// Profiles of one database, by their places in the file.
pub(in crate::app) struct Together<'a> {
    pub(in crate::app) target: &'a Name,
    pub(in crate::app) database: &'a str,
    pub(in crate::app) places: Vec<usize>,
}

/// The profiles of a file by database, in its order.
pub(in crate::app) fn by_database(profiles: &[ProfileSpec]) -> Vec<Together<'_>> {
    let mut all: Vec<Together<'_>> = Vec::new();
    for (place, spec) in profiles.iter().enumerate() {
        let same = all.iter_mut().find(|t| *t.target == spec.target && t.database == spec.database);
        match same {
            Some(together) => together.places.push(place),
            None => all.push(Together {
                target: &spec.target,
                database: &spec.database,
                places: vec![place],
            }),
        }
    }
    all
}

/// What is wrong with a profile, if it is the profile that is wrong: the key, as in a file, and what.
pub(in crate::app) fn faults_of(error: &target::Error) -> Vec<(String, String)> {
    match error {
        target::Error::Unfit { faults } => faults.clone(),
        target::Error::GroupUnsafe { .. } | target::Error::GroupMissing { .. } => {
            vec![("group_role".to_owned(), error.to_string())]
        }
        target::Error::DatabaseMissing { .. } => vec![("database".to_owned(), error.to_string())],
        target::Error::LacksRight { .. } => vec![(String::new(), error.to_string())],
        _ => Vec::new(),
    }
}

impl App {
    /// What each profile of a file takes on its target, in the file's order.
    ///
    /// # Errors
    /// The faults of the file that its targets know of.
    pub(in crate::app) async fn look(
        &self,
        code: &Code,
        desired: &Desired,
        recorded: &[Target],
    ) -> Result<Vec<Looked>, Error> {
        let mut looked: Vec<Looked> =
            desired.profiles.iter().map(|_| Ok(Prepared::default())).collect();
        for together in by_database(&desired.profiles) {
            let specs: Vec<&ProfileSpec> =
                together.places.iter().filter_map(|place| desired.profiles.get(*place)).collect();
            let plans = self.planned_on(code, desired, recorded, (&together, &specs)).await;
            let mut plans = match plans {
                Ok(plans) => plans.into_iter(),
                // All of them are in the same database: what is said of it is said of each.
                Err(error) => {
                    let (first, said) = (together.places.first(), error.detail());
                    for place in together.places.iter().skip(1) {
                        let same =
                            Error::Conflict { code: "target_not_seen", detail: said.clone() };
                        if let Some(looked) = looked.get_mut(*place) {
                            *looked = Err(same);
                        }
                    }
                    if let Some(looked) = first.and_then(|first| looked.get_mut(*first)) {
                        *looked = Err(error);
                    }
                    continue;
                }
            };
            for place in &together.places {
                if let (Some(looked), Some(plan)) = (looked.get_mut(*place), plans.next()) {
                    let named = |e| Error::target(together.target.as_str(), None, e);
                    *looked = plan.map_err(named);
                }
            }
        }
        let faults = faults_in(&code.name, desired, &looked);
        if faults.is_empty() { Ok(looked) } else { Err(Error::File(faults.into_iter().collect())) }
    }

    async fn planned_on(
        &self,
        code: &Code,
        desired: &Desired,
        recorded: &[Target],
        (together, specs): (&Together<'_>, &[&ProfileSpec]),
    ) -> Result<Vec<Result<Prepared, target::Error>>, Error> {
        let (handle, trial) = self.way_to(code, desired, recorded, together.target).await?;
        let planned = handle.plan_profiles(together.database, specs).await;
        if let Some(trial) = trial {
            self.targets.forget(trial);
        }
        planned.map_err(|e| Error::target(together.target.as_str(), None, e))
    }

    /// The way to a target: as it is recorded, or as the file has it if that is another one.
    async fn way_to(
        &self,
        code: &Code,
        desired: &Desired,
        recorded: &[Target],
        name: &Name,
    ) -> Result<(Arc<Handle>, Option<TargetId>), Error> {
        let known = find_target(recorded, name);
        let in_file = desired.targets.iter().find(|target| target.spec.name == *name);
        if let Some(target) = in_file {
            let change = plan::target_change(&target.spec, known);
            let is_another_way =
                plan::needs_password(&change.changed) || plan::needs_ssl_key(&change.changed);
            if known.is_none() || is_another_way {
                let given = given_for(target, known, code)?;
                let (id, handle) = self.open_trial(&target.spec, given).await?;
                return Ok((handle, Some(id)));
            }
        }
        let known = known.ok_or_else(|| Error::not_found("target", name.to_string()))?;
        let (_, handle) = self.handle(known.id).await?;
        Ok((handle, None))
    }
}

/// Faults at their lines.
fn faults_in(file: &str, desired: &Desired, looked: &[Looked]) -> document::Faults {
    let mut faults = document::Faults::default();
    for (spec, looked) in desired.profiles.iter().zip(looked) {
        let Err(Error::Target { source, .. }) = looked else { continue };
        for (path, message) in faults_of(source) {
            let whole = match path.is_empty() {
                true => format!("profile.{}", spec.name),
                false => format!("profile.{}.{path}", spec.name),
            };
            faults.push(desired.fault_at(file, &whole, message));
        }
    }
    faults
}
