//! Profiles: recorded, changed, removed; and made on their target.

use crate::{
    app::{App, LeaseFilter, Origin, apply::find_target, error::Error},
    domain::{
        access::Fault,
        audit::Event,
        lease::State,
        name::Name,
        plan::{self, Action},
        profile::{self, Profile, ProfileSpec},
        request::Request,
    },
    identity::{Admin, Caller},
    ids::ProfileId,
    store::{self, Tx},
    target,
};

impl App {
    /// The profiles that a caller may ask for; all of them, if it may read everything.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn profiles(&self, caller: &Caller) -> Result<Vec<Profile>, Error> {
        let mut profiles = self.store.profiles().await?;
        profiles.retain(|profile| caller.may_see(&profile.spec.allow));
        Ok(profiles)
    }

    /// One profile, if the caller may see it.
    ///
    /// # Errors
    /// If there is none of that name for this caller.
    pub async fn profile(&self, caller: &Caller, name: &Name) -> Result<Profile, Error> {
        let profiles = self.profiles(caller).await?;
        Error::unless_found("profile", name, profiles, |profile| &profile.spec.name)
    }

    /// The profile that a request is for, as it is now; none once it was removed. Whoever may see the request may
    /// see it: it is what they think about.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn profile_of_request(&self, request: &Request) -> Result<Option<Profile>, Error> {
        let name = request.profile.parse().map_err(Error::internal)?;
        Ok(self.store.profile(&name).await?)
    }

    /// Records a profile, or changes it, and makes its group role and grants on its target. True if
    /// it is new.
    ///
    /// # Errors
    /// If it is not sound; or if the target refuses or does not answer, in which case the profile is
    /// recorded, and made ready when it is first asked for.
    pub async fn put_profile(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        spec: ProfileSpec,
    ) -> Result<(Profile, bool), Error> {
        let faults = profile::faults(&spec);
        if !faults.is_empty() {
            let fault = |(field, message): (String, String)| Fault { field: field.into(), message };
            return Err(Error::Invalid(faults.into_iter().map(fault).collect()));
        }
        self.refuse_unfit(&spec).await?;
        let mut tx = self.store.begin().await?;
        let action = self.write_profile(&mut tx, admin, origin, &spec).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        let mut profile = self.profile(admin, &spec.name).await?;
        let (_, handle) = self.handle(profile.target_id).await?;
        self.prepare_if_needed(origin, Some(admin), &mut profile, &handle).await?;
        Ok((self.profile(admin, &spec.name).await?, action == Action::Create))
    }

    /// Refuses a profile that its target knows to be wrong. One that cannot be looked at says so when the
    /// profile is made there.
    async fn refuse_unfit(&self, spec: &ProfileSpec) -> Result<(), Error> {
        let targets = self.store.targets().await?;
        let Some(target) = find_target(&targets, &spec.target) else { return Ok(()) };
        if !target.spec.databases.contains(&spec.database) {
            return Ok(());
        }
        let (_, handle) = self.handle(target.id).await?;
        let Err(target::Error::Unfit { faults }) = handle.plan_profile(spec).await else {
            return Ok(());
        };
        let fault = |(field, message): (String, String)| Fault { field: field.into(), message };
        Err(Error::Invalid(faults.into_iter().map(fault).collect()))
    }

    /// Writes a profile within a transaction.
    pub(in crate::app) async fn write_profile(
        &self,
        tx: &mut Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        spec: &ProfileSpec,
    ) -> Result<Action, Error> {
        let now = self.clock.now();
        let Some(target) = tx.lock_target(&spec.target).await? else {
            let message = format!("there is no target `{}`: record it first", spec.target);
            return Err(Error::invalid("target", message));
        };
        if !target.spec.databases.contains(&spec.database) {
            let message = format!(
                "target `{}` does not list database `{}`: it lists {}",
                spec.target,
                spec.database,
                target.spec.databases.join(", ")
            );
            return Err(Error::invalid("database", message));
        }
        let recorded = tx.lock_profile(&spec.name).await?;
        let change = plan::profile_change(spec, recorded.as_ref());
        let profile = spec.name.to_string();
        let event = match recorded {
            None => {
                let profile_id = ProfileId::new();
                let created = tx.create_profile(profile_id, target.id, spec, now).await;
                created.map_err(|e| in_the_way(e, spec))?;
                Event::ProfileCreated { profile_id, profile }
            }
            Some(_) if change.action == Action::Keep => return Ok(Action::Keep),
            Some(recorded) => {
                let changed = tx.change_profile(recorded.id, target.id, spec, now).await;
                changed.map_err(|e| in_the_way(e, spec))?;
                let changed = change.changed.iter().map(|key| (*key).to_owned()).collect();
                Event::ProfileChanged { profile_id: recorded.id, profile, changed }
            }
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        Ok(change.action)
    }

    /// Removes a profile. Refused while leases under it are live. Its group role stays on the target
    /// without a member: it may own things, and what it was granted is for a person to judge.
    ///
    /// # Errors
    /// If leases are live, or there is none of that name.
    pub async fn remove_profile(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
    ) -> Result<(), Error> {
        let profile = self.profile(admin, name).await?;
        let live = LeaseFilter {
            states: Some(vec![State::Provisioning, State::Active, State::Revoking]),
            profile: Some(name.to_string()),
            ..LeaseFilter::default()
        };
        let mut tx = self.store.begin().await?;
        let locked = tx.lock_profile(name).await?;
        let locked = locked.ok_or_else(|| Error::not_found("profile", name.to_string()))?;
        // Recorded again it would give everybody back what was taken away.
        if let Some(bound) = locked.bounds.first() {
            let detail = format!(
                "access reviews took access away under profile `{name}`, of {} first (`pgvalet profile show {name}` names all): give it back (`pgvalet review restore`), which says why on record, and remove it then",
                bound.principal
            );
            return Err(Error::Conflict { code: "profile_reviewed", detail });
        }
        if !self.store.leases(&live, None, 1).await?.is_empty() {
            let detail = format!(
                "leases under profile `{name}` are live: revoke them first (`pgvalet revoke --profile {name}`)"
            );
            return Err(Error::Conflict { code: "profile_in_use", detail });
        }
        tx.remove_profile(profile.id).await.map_err(|e| {
            if !e.is_constraint("standing_role_profile") {
                return e.into();
            }
            let detail = format!(
                "standing roles work under profile `{name}`: remove them first (`pgvalet standing list` names them)"
            );
            Error::Conflict { code: "profile_in_use", detail }
        })?;
        let event = Event::ProfileRemoved { profile_id: profile.id, profile: name.to_string() };
        tx.audit(&origin.entry(admin, self.clock.now(), event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }
}

fn in_the_way(e: store::error::Error, spec: &ProfileSpec) -> Error {
    if e.is_constraint("profile_group_role") {
        let detail = format!(
            "another profile on target `{}` has the group role `{}` already (names that differ only in `-`, `_` and `.` share one): choose another name",
            spec.target,
            spec.group_role()
        );
        return Error::Conflict { code: "group_role_taken", detail };
    }
    if e.is_constraint("profile_name") {
        let detail =
            "somebody else recorded a profile of this name just now: look at it and try again"
                .to_owned();
        return Error::Conflict { code: "name_taken", detail };
    }
    e.into()
}
