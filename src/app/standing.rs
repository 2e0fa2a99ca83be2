//! Standing roles: recorded, changed, removed, and read. To read is to be given a password, so each
//! reading is an audit entry, written before the password is told.

use chrono::{DateTime, Utc};

use crate::{
    app::{App, Origin, error::Error, issue, rotations::chance},
    domain::{
        access::Fault,
        audit::Event,
        lease::State,
        name::Name,
        plan::{self, Action},
        principal::Kind,
        profile::Preset,
        review::is_kept_from,
        schedule,
        standing::{self, Present, StandingRole, StandingRoleSpec},
    },
    identity::{Admin, Caller},
    ids::{LeaseId, StandingRoleId},
    store::{self, Tx, people::PrincipalChange},
};

/// Who vouches for the principals of standing roles: no sign-in ever gives one of those.
const ISSUER: &str = "standing-role";

impl App {
    /// The standing roles whose credential a caller may read; all of them, if it may read everything.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn standing_roles(&self, caller: &Caller) -> Result<Vec<StandingRole>, Error> {
        let mut roles = self.store.standing_roles().await?;
        roles.retain(|role| caller.may_see(&role.spec.allow));
        Ok(roles)
    }

    /// One standing role, if the caller may see it.
    ///
    /// # Errors
    /// If there is none of that name for this caller.
    pub async fn standing_role(&self, caller: &Caller, name: &Name) -> Result<StandingRole, Error> {
        let roles = self.standing_roles(caller).await?;
        Error::unless_found("standing role", name, roles, |role| &role.spec.name)
    }

    /// The credential that a standing role hands out now. Default deny: a standing role without rules
    /// is for nobody, administrators included.
    ///
    /// # Errors
    /// If no rule allows the caller, or there is no login yet.
    pub async fn standing_credential(
        &self,
        caller: &Caller,
        origin: &Origin,
        name: &Name,
    ) -> Result<(StandingRole, issue::Credential), Error> {
        let role = self.standing_role(caller, name).await?;
        let principal = caller.principal();
        let rule = role.spec.allow.iter().find(|rule| rule.matches(principal)).cloned();
        let Some(rule) = rule else {
            return Err(self.refuse_reading(caller, origin, &role).await?);
        };
        let role_id = role.id;
        let mut role = role;
        // A rotation may come between the two looks: then what it hands out is looked at again.
        let (role, lease, password) = loop {
            let lease_id = present(&role)?.lease_id;
            let password = self.store.standing_password(role_id, lease_id, &self.keys).await;
            match password {
                Err(store::error::Error::NotOneRow(_)) => {
                    role = self.standing_role(caller, name).await?;
                }
                password => {
                    let lease = self.store.lease(lease_id).await?;
                    break (role, lease, password?);
                }
            }
        };
        let lease = lease.ok_or_else(|| not_ready(&role))?;
        let target = self.store.target(lease.target_id).await?.ok_or_else(|| not_ready(&role))?;

        let event = Event::StandingRoleRead {
            standing_role_id: role.id,
            standing_role: name.to_string(),
            generation: role.generation,
            lease_id: lease.id,
            allowed_by: rule.to_string(),
        };
        let mut tx = self.store.begin().await?;
        // Whoever is shut out meanwhile is not given what would have to be replaced for it.
        if !tx.hold_let_in(principal.id).await? {
            return Err(Error::TokenRefused);
        }
        let profile = tx.hold_profile(&role.spec.profile).await?;
        if profile.is_none_or(|profile| is_kept_from(&role.spec, &profile, principal)) {
            drop(tx);
            return Err(self.refuse_reading(caller, origin, &role).await?);
        }
        self.spend(&mut tx, caller, lease.id).await?;
        tx.note_reading(lease.id, principal.id, self.clock.now()).await?;
        tx.audit(&origin.entry(caller, self.clock.now(), event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        let credential = issue::Credential {
            host: target.spec.host,
            port: target.spec.port,
            database: lease.database,
            user: present(&role)?.role_name.clone(),
            password,
            sslmode: target.spec.sslmode,
            sslrootcert_pem: target.spec.sslrootcert_pem,
            options: issue::session_options(&lease.group_role),
            valid_until: lease.expires_at,
        };
        Ok((role, credential))
    }

    async fn refuse_reading(
        &self,
        caller: &Caller,
        origin: &Origin,
        role: &StandingRole,
    ) -> Result<Error, Error> {
        let name = &role.spec.name;
        let event = Event::AccessRefused {
            what: format!("reading the credential of standing role {name}"),
            code: "not_allowed".to_owned(),
        };
        self.record(origin.entry(caller, self.clock.now(), event)).await?;
        Ok(Error::NotReadable { standing_role: name.to_string() })
    }

    /// Records a standing role, or changes it. True if it is new: its first login is made at once.
    ///
    /// # Errors
    /// If it is not sound, or names no profile.
    pub async fn put_standing_role(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        spec: StandingRoleSpec,
    ) -> Result<(StandingRole, bool), Error> {
        let faults = standing::faults(&spec);
        if !faults.is_empty() {
            let fault =
                |(field, message): (&'static str, String)| Fault { field: field.into(), message };
            return Err(Error::Invalid(faults.into_iter().map(fault).collect()));
        }
        let mut tx = self.store.begin().await?;
        let action = self.write_standing_role(&mut tx, admin, origin, &spec).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.nudges.rotations.notify_one();
        Ok((self.standing_role(admin, &spec.name).await?, action == Action::Create))
    }

    /// Writes a standing role within a transaction.
    pub(in crate::app) async fn write_standing_role(
        &self,
        tx: &mut Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        spec: &StandingRoleSpec,
    ) -> Result<Action, Error> {
        let now = self.clock.now();
        let Some(profile) = tx.lock_profile(&spec.profile).await? else {
            let message = format!("there is no profile `{}`: record it first", spec.profile);
            return Err(Error::invalid("profile", message));
        };
        if profile.spec.preset == Preset::BreakGlass {
            let message = "an emergency is for somebody who says why, and no standing one is: take another preset";
            return Err(Error::invalid("profile", message));
        }
        let recorded = tx.standing_roles().await?;
        let recorded = recorded.into_iter().find(|role| role.spec.name == spec.name);
        let change = plan::standing_role_change(spec, recorded.as_ref());
        let standing_role = spec.name.to_string();
        let event = match recorded {
            None => {
                let id = StandingRoleId::new();
                let nothing = PrincipalChange::default();
                let principal =
                    tx.ensure_principal(ISSUER, Kind::Service, &spec.name, &nothing, now).await?;
                let created =
                    tx.create_standing_role(id, spec, profile.id, principal.id, now).await;
                created.map_err(name_taken)?;
                Event::StandingRoleCreated { standing_role_id: id, standing_role }
            }
            Some(_) if change.action == Action::Keep => return Ok(Action::Keep),
            Some(recorded) => {
                let due_at = self.due_after_change(&recorded, spec, &change.changed)?;
                tx.change_standing_role(recorded.id, spec, profile.id, due_at, now).await?;
                let changed = change.changed.iter().map(|key| (*key).to_owned()).collect();
                Event::StandingRoleChanged { standing_role_id: recorded.id, standing_role, changed }
            }
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        Ok(change.action)
    }

    /// A change of the schedule counts from the last rotation; a change of the profile makes a fresh
    /// login at once, since the present one has the rights of before.
    fn due_after_change(
        &self,
        recorded: &StandingRole,
        spec: &StandingRoleSpec,
        changed: &[&str],
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let now = self.clock.now();
        if changed.contains(&"profile") {
            return Ok(Some(now));
        }
        let Some(last) = recorded.rotated_at else { return Ok(None) };
        if !changed.contains(&"rotate") && !changed.contains(&"jitter") {
            return Ok(None);
        }
        Ok(schedule::next_due(&spec.rotate, spec.jitter, last, chance()?))
    }

    /// Removes a standing role: its password is forgotten, and its logins are ended.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn remove_standing_role(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
    ) -> Result<(), Error> {
        let role = self.standing_role(admin, name).await?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let leases = match tx.remove_standing_role(role.id, name).await {
            Err(store::error::Error::NotOneRow(_)) => {
                return Err(Error::not_found("standing role", name.to_string()));
            }
            leases => leases?,
        };
        for lease_id in leases {
            self.record_revoking(&mut tx, admin, origin, lease_id).await?;
        }
        let event = Event::StandingRoleRemoved {
            standing_role_id: role.id,
            standing_role: name.to_string(),
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// What is done to leases one by one is not for those of standing roles: a lease that is revoked
    /// would leave the role without a login, and one that is renewed would outlive its rotation.
    pub(in crate::app) async fn refuse_standing(&self, lease: LeaseId) -> Result<(), Error> {
        let Some(name) = self.store.standing_role_of(lease).await? else { return Ok(()) };
        let detail = format!(
            "the lease belongs to standing role `{name}`: `pgvalet standing rotate {name}` gives it a fresh login (with --now the one before stops at once), `pgvalet standing remove {name}` ends it"
        );
        Err(Error::Conflict { code: "lease_of_standing_role", detail })
    }
}

/// What is handed out now.
fn present(role: &StandingRole) -> Result<&Present, Error> {
    let present = role.present.as_ref().filter(|present| present.state == State::Active);
    present.ok_or_else(|| not_ready(role))
}

/// There is no login to hand out.
fn not_ready(role: &StandingRole) -> Error {
    let name = &role.spec.name;
    let detail = match &role.blocked_by {
        Some(why) => format!("standing role `{name}` has no login: {why}"),
        None => format!("standing role `{name}` has no login yet: ask again in a few seconds"),
    };
    Error::Conflict { code: "standing_role_not_ready", detail }
}

fn name_taken(e: store::error::Error) -> Error {
    if e.is_constraint("standing_role_name") {
        let detail =
            "somebody else recorded a standing role of this name just now: look at it and try again"
                .to_owned();
        return Error::Conflict { code: "name_taken", detail };
    }
    e.into()
}
