//! Make a profile's group role and grants on its target, and record that it was done. Running it
//! twice changes nothing: the target module emits only what is missing.

use std::sync::Arc;

use crate::{
    app::{App, Origin, error::Error, fit::Together, own_entry},
    domain::{audit::Event, name::Name, profile::Profile},
    identity::Caller,
    store,
    target::{Handle, Prepared},
};

impl App {
    /// Prepares a profile unless this version of it is prepared already.
    pub(in crate::app) async fn prepare_if_needed(
        &self,
        origin: &Origin,
        caller: Option<&Caller>,
        profile: &mut Profile,
        handle: &Arc<Handle>,
    ) -> Result<(), Error> {
        if !profile.is_prepared() {
            profile.settable = self.prepare(origin, caller, profile, handle).await?.settable;
        }
        Ok(())
    }

    /// Prepares a profile.
    pub(in crate::app) async fn prepare(
        &self,
        origin: &Origin,
        caller: Option<&Caller>,
        profile: &Profile,
        handle: &Arc<Handle>,
    ) -> Result<Prepared, Error> {
        let prepared = self.prepare_all(origin, caller, &[profile], handle).await;
        let prepared = prepared.map_err(|unmade| unmade.error)?;
        Ok(prepared.into_iter().next().unwrap_or_default())
    }

    /// Prepares profiles of one database, all or none.
    pub(in crate::app) async fn prepare_together(
        &self,
        origin: &Origin,
        caller: Option<&Caller>,
        profiles: &[&Profile],
    ) -> Result<Vec<Prepared>, Unmade> {
        let Some(first) = profiles.first() else { return Ok(Vec::new()) };
        let (_, handle) = self.handle(first.target_id).await?;
        self.prepare_all(origin, caller, profiles, &handle).await
    }

    async fn prepare_all(
        &self,
        origin: &Origin,
        caller: Option<&Caller>,
        profiles: &[&Profile],
        handle: &Arc<Handle>,
    ) -> Result<Vec<Prepared>, Unmade> {
        let Some(first) = profiles.first() else { return Ok(Vec::new()) };
        let _turn = self.preparing.lock().await;
        let specs: Vec<_> = profiles.iter().map(|profile| &profile.spec).collect();
        let prepared = handle.prepare_profiles(&first.spec.database, &specs).await;
        let prepared = prepared.map_err(|failed| Unmade {
            profile: failed.profile,
            error: Error::target(first.spec.target.as_str(), None, failed.error),
        })?;
        for (profile, prepared) in profiles.iter().zip(&prepared) {
            // What was so already is no event.
            if !(profile.is_prepared() && prepared.statements.is_empty()) {
                self.record_prepared(origin, caller, profile, prepared).await?;
            }
        }
        Ok(prepared)
    }

    async fn record_prepared(
        &self,
        origin: &Origin,
        caller: Option<&Caller>,
        profile: &Profile,
        prepared: &Prepared,
    ) -> Result<(), Error> {
        let event = Event::ProfilePrepared {
            profile_id: profile.id,
            profile: profile.spec.name.to_string(),
            group_role: profile.spec.group_role(),
            statements: prepared.statements.clone(),
        };
        let now = self.clock.now();
        let entry = match caller {
            Some(caller) => origin.entry(caller, now, event),
            None => own_entry(now, event),
        };
        let mut tx = self.store.begin().await?;
        match tx.mark_profile_prepared(profile.id, profile.version, &prepared.settable).await {
            // Changed meanwhile, perhaps by another daemon, which may have prepared it already: then our
            // grants came after its own. It is prepared anew before the next lease.
            Err(store::error::Error::NotOneRow(_)) => {
                tx.mark_profile_unprepared(profile.id).await?;
            }
            marked => marked?,
        }
        tx.audit(&entry).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }
}

/// Profiles of one database that were not made.
pub(in crate::app) struct Unmade {
    /// The one that it failed at, if it was one.
    profile: Option<Name>,
    error: Error,
}

impl Unmade {
    /// What the line of one of them says.
    pub(in crate::app) fn note(&self, name: &str, together: &Together<'_>) -> String {
        let why = match &self.profile {
            Some(failed) if failed.as_str() != name => format!(
                "profile `{failed}` could not be made, and the database `{}` is as it was",
                together.database
            ),
            _ => self.error.detail(),
        };
        format!("recorded, but not made on the target yet: {why}")
    }
}

impl From<Error> for Unmade {
    fn from(error: Error) -> Self {
        Self { profile: None, error }
    }
}
