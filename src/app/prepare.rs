//! Make a profile's group role and grants on its target, and record that it was done. Running it
//! twice changes nothing: the target module emits only what is missing.

use std::sync::Arc;

use crate::{
    app::{App, Origin, error::Error, own_entry},
    domain::{audit::Event, profile::Profile},
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
        profile: &Profile,
        handle: &Arc<Handle>,
    ) -> Result<(), Error> {
        if profile.is_prepared() {
            return Ok(());
        }
        self.prepare(origin, caller, profile, handle).await.map(drop)
    }

    /// Prepares a profile.
    pub(in crate::app) async fn prepare(
        &self,
        origin: &Origin,
        caller: Option<&Caller>,
        profile: &Profile,
        handle: &Arc<Handle>,
    ) -> Result<Prepared, Error> {
        let _turn = self.preparing.lock().await;
        let spec = &profile.spec;
        let prepared = handle
            .prepare_profile(spec)
            .await
            .map_err(|e| Error::target(spec.target.as_str(), None, e))?;
        let event = Event::ProfilePrepared {
            profile_id: profile.id,
            profile: spec.name.to_string(),
            group_role: spec.group_role(),
            statements: prepared.statements.clone(),
        };
        let now = self.clock.now();
        let entry = match caller {
            Some(caller) => origin.entry(caller, now, event),
            None => own_entry(now, event),
        };
        let mut tx = self.store.begin().await?;
        match tx.mark_profile_prepared(profile.id, profile.version).await {
            // Changed meanwhile, perhaps by another daemon, which may have prepared it already: then our
            // grants came after its own. It is prepared anew before the next lease.
            Err(store::error::Error::NotOneRow(_)) => {
                tx.mark_profile_unprepared(profile.id).await?;
                tx.audit(&entry).await?;
                tx.commit().await?;
                return Ok(prepared);
            }
            marked => marked?,
        }
        tx.audit(&entry).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(prepared)
    }
}
