//! A fresh login under the same lease; the old one is shut out after a grace.
//!
//! Changing the password alone would be no rotation: a live session may change its own password
//! back, and a client that stalls while it signs in gets in with the old one.

use chrono::TimeDelta;
use tokio::time::Instant;

use crate::{
    app::{
        App, Origin,
        error::Error,
        issue::{Answer, ToMake},
    },
    domain::{audit::Event, lease::Lease, name::Name, role::LoginName},
    identity::Caller,
    ids::{LeaseId, LoginId},
    store::{self, leases::LoginTerms},
    telemetry::labels::RotateStep,
};

/// A login that was made and is to take over.
struct Fresh<'a> {
    login_id: LoginId,
    role: &'a LoginName,
    oid: u32,
}

/// The tool or profile of a lease in a role name, where what was recorded is no name any more.
const UNNAMED: &str = "lease";

impl App {
    /// Rotates a lease.
    ///
    /// # Errors
    /// If it is not active, or the target does not answer. The old login goes on working then.
    pub async fn rotate(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
    ) -> Result<Answer, Error> {
        let rotating = Box::pin(self.rotate_lease(caller, origin, id));
        self.metrics.rotating(RotateStep::Total, rotating).await
    }

    async fn rotate_lease(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
    ) -> Result<Answer, Error> {
        let lease = self.own_lease(caller, id).await?;
        let profile = self.check_still_allowed(caller, origin, &lease).await?;
        // A fresh login is as good as the first one.
        if let Some(request) = self.store.request_of_lease(id).await? {
            self.refuse_lent(caller, origin, &request, "rotate").await?;
        }
        let (target, handle) = self.handle(lease.target_id).await?;
        let deadline = Instant::now() + self.times.issue_deadline;

        let password = self.passwords.take(target.spec.scram_iterations)?;

        // 1. The intent.
        let login_id = LoginId::new();
        let role = self.fresh_name(&lease, login_id)?;
        let recording = self.record_rotation(caller, origin, &lease, login_id, &role);
        let terms = self.metrics.rotating(RotateStep::Intent, recording).await?;

        // 2. The effect.
        let to_make = ToMake {
            lease_id: id,
            login_id,
            principal_id: lease.principal_id,
            role: &role,
            group_role: &lease.group_role,
            group_may_own: profile.spec.group_may_own(),
            database: &lease.database,
            connection_limit: terms.connection_limit,
            settings: &terms.settings,
            claims: &terms.context,
            valid_until: terms.expires_at,
            deadline,
        };
        let making = self.make_login(&target, &handle, password, &to_make);
        let made = match self.metrics.rotating(RotateStep::Target, making).await {
            Ok(made) => made,
            Err(error) => {
                self.record_failure(origin, caller, id, login_id, &error).await;
                return Err(error);
            }
        };

        // 3. The fresh login takes the place of the one that is present now.
        let fresh = Fresh { login_id, role: &role, oid: made.oid };
        let taking_over = self.take_over(caller, origin, id, &fresh);
        if let Err(error) = self.metrics.rotating(RotateStep::Activate, taking_over).await {
            self.record_failure(origin, caller, id, login_id, &error).await;
            self.take_up_again(id, login_id, made.oid).await?;
            return Err(error);
        }
        let lease = self.lease(caller, id).await?;
        if lease.expires_at != terms.expires_at {
            // Renewed while the login was made, with the end of before.
            let until = lease.expires_at;
            let told = handle.set_valid_until(&role, made.oid, until).await;
            told.map_err(|e| Error::target(target.spec.name.as_str(), Some(id), e))?;
        }
        Ok(Answer { lease, ttl: None, credential: Some(made.credential) })
    }

    fn fresh_name(&self, lease: &Lease, login_id: LoginId) -> Result<LoginName, Error> {
        let name =
            |text: &str| text.parse::<Name>().or_else(|_| UNNAMED.parse()).map_err(Error::internal);
        let who = lease.principal.split_once(':').map_or(lease.principal.as_str(), |(_, who)| who);
        Ok(LoginName::mint(&name(&lease.profile)?, &name(who)?, &name(&lease.tool)?, login_id))
    }

    async fn record_rotation(
        &self,
        caller: &Caller,
        origin: &Origin,
        lease: &Lease,
        login_id: LoginId,
        role: &LoginName,
    ) -> Result<LoginTerms, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let Some(terms) = tx.lock_active_lease(lease.id, now).await? else {
            drop(tx);
            return Err(self.lease_over(caller, lease.id).await?);
        };
        if tx.is_making_login(lease.id).await? {
            return Err(Error::Conflict {
                code: "rotation_in_progress",
                detail: "this lease is being rotated already: wait for that one".to_owned(),
            });
        }
        self.spend(&mut tx, caller, lease.id).await?;
        tx.create_login(
            &store::logins::NewLogin {
                id: login_id,
                lease_id: lease.id,
                target_id: lease.target_id,
                role_name: role,
                give_up_at: self.give_up_at(now),
                ends_at: terms.expires_at,
            },
            now,
        )
        .await?;
        let event = Event::LeaseRotating { lease_id: lease.id, login_id, role: role.to_string() };
        tx.audit(&origin.entry(caller, now, event)).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        Ok(terms)
    }

    async fn take_over(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
        fresh: &Fresh<'_>,
    ) -> Result<(), Error> {
        let Fresh { login_id, role, oid } = *fresh;
        let now = self.clock.now();
        let grace = TimeDelta::from_std(self.times.rotation_grace).map_err(Error::internal)?;
        let mut tx = self.store.begin().await?;
        let Some(present) = tx.lock_active_lease(id, now).await? else {
            drop(tx);
            return Err(self.lease_over(caller, id).await?);
        };
        match tx.activate_login(login_id, oid).await {
            Err(store::error::Error::NotOneRow(_)) => {
                drop(tx);
                return Err(self.lease_over(caller, id).await?);
            }
            activated => activated?,
        }
        tx.move_login_end(login_id, present.expires_at).await?;
        // A lease has at most two logins that work: the present one, and one in its grace.
        tx.end_graces(id, now).await?;
        tx.supersede_login(present.login_id, now + grace).await?;
        tx.set_present_login(id, login_id).await?;
        let event = Event::LeaseRotated {
            lease_id: id,
            login_id,
            role: role.to_string(),
            superseded: present.login_id,
            superseded_ends_at: now + grace,
        };
        tx.audit(&origin.entry(caller, now, event)).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }
}
