//! A standing role gets a fresh login, as a story in four parts: record the intent, make the login on
//! the target, sign in with it once, hand it out in the place of the one before.
//!
//! Each version is a lease of its own, so what is stopped on the way is given up and removed as every
//! unfinished lease is; the rotation stays due, and is begun anew.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    app::{
        App, Author, ClaimedStandingRole, Origin,
        error::Error,
        issue::{Made, ToMake},
        rotations::{CLAIM, Claim, DEADLINE, chance, in_the_way, jitter},
    },
    domain::{
        audit::Event,
        backoff,
        duration::Seconds,
        lease::{Cause, Granted, State, TtlRule},
        name::Name,
        profile::Profile,
        rights::context::{self, Filled},
        role::LoginName,
        schedule,
        standing::StandingRole,
        target::Target,
    },
    identity::Admin,
    ids::{LeaseId, LoginId, RequestId},
    rng,
    store::{
        self, Tx,
        rotating::{NewStandingLease, Promotion},
        standing::SealedStandingPassword,
    },
    target::Handle,
};

/// What the tool of a standing role's leases is called.
const TOOL: &str = "standing-role";

/// When the login of before stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// After the grace.
    AfterGrace,
    /// At once: its password is known to somebody who should not know it.
    Now,
}

/// A login that is being made.
struct Fresh {
    lease_id: LeaseId,
    login_id: LoginId,
    role: LoginName,
    filled: Filled,
    due_at: DateTime<Utc>,
    valid_until: DateTime<Utc>,
}

impl App {
    /// Rotates a standing role now.
    ///
    /// # Errors
    /// If somebody does so already, or the target refuses or does not answer; it is tried again then.
    pub async fn rotate_standing_role(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
        before: Before,
    ) -> Result<StandingRole, Error> {
        let role = self.standing_role(admin, name).await?;
        let now = self.clock.now();
        let claimed = self.store.claim_standing_role(role.id, now, now + CLAIM).await?;
        let claimed = claimed.ok_or_else(|| being_rotated(name))?;
        self.rotate_claimed(Author::Caller(origin, admin), &claimed, before).await?;
        self.standing_role(admin, name).await
    }

    /// Rotates a standing role that was due.
    ///
    /// # Errors
    /// As [`App::rotate_standing_role`]; what stood in the way is recorded.
    pub async fn rotate_due_standing_role(
        &self,
        claimed: &ClaimedStandingRole,
    ) -> Result<(), Error> {
        self.rotate_claimed(Author::Pgvalet, claimed, Before::AfterGrace).await
    }

    async fn rotate_claimed(
        &self,
        author: Author<'_>,
        claimed: &ClaimedStandingRole,
        before: Before,
    ) -> Result<(), Error> {
        let work = tokio::time::timeout(DEADLINE, self.rotate_step(author, claimed, before));
        let done = match self.under_claim(Claim::StandingRole(claimed), Box::pin(work)).await {
            None => return Err(being_rotated(&claimed.role.spec.name)),
            Some(Err(_)) => {
                Err(Error::TimedOut { what: "rotating the standing role", lease: None })
            }
            Some(Ok(done)) => done,
        };
        if let Err(error) = &done {
            self.record_standing_failure(author, claimed, error).await?;
        }
        done
    }

    async fn rotate_step(
        &self,
        author: Author<'_>,
        claimed: &ClaimedStandingRole,
        before: Before,
    ) -> Result<(), Error> {
        let role = &claimed.role;
        let profile = self.store.profile(&role.spec.profile).await?;
        let mut profile =
            profile.ok_or_else(|| Error::not_found("profile", role.spec.profile.to_string()))?;
        let (target, handle) = self.handle(profile.target_id).await?;
        // A target that is away costs no intent: it is asked again for as long as it is.
        let probed = handle.probe().await;
        probed.map_err(|e| Error::target(target.spec.name.as_str(), None, e))?;
        match author {
            Author::Caller(origin, caller) => {
                self.prepare_if_needed(origin, Some(caller), &mut profile, &handle).await?;
            }
            Author::Pgvalet => {
                let origin = Origin { request_id: RequestId::new(), source: None };
                self.prepare_if_needed(&origin, None, &mut profile, &handle).await?;
            }
        }
        let deadline = Instant::now() + self.times.issue_deadline;
        let password = self.passwords.take(target.spec.scram_iterations)?;

        // 1. The intent.
        let fresh = self.record_standing_intent(author, claimed, &profile).await?;
        let (settings, claims) = (&fresh.filled.settings, &fresh.filled.context);

        // 2. The effect, and 3. the proof that it works.
        let spec = &profile.spec;
        let group_role = spec.group_role();
        let to_make = ToMake {
            lease_id: fresh.lease_id,
            login_id: fresh.login_id,
            principal_id: claimed.role.principal_id,
            role: &fresh.role,
            group_role: &group_role,
            group_may_own: spec.group_may_own(),
            database: &spec.database,
            connection_limit: spec.connection_limit,
            settings,
            claims,
            valid_until: fresh.valid_until,
            deadline,
        };
        let made = match self.make_login(&target, &handle, password, &to_make).await {
            Ok(made) => self.sign_in_once(&to_make, (&target, &handle), made).await,
            Err(error) => Err(error),
        };
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                self.give_up_fresh(author, &fresh, &error).await?;
                return Err(error);
            }
        };

        // 4. The fresh login is handed out from now on.
        match self.promote_standing(author, claimed, &fresh, &made, before).await {
            Err(Error::Conflict { code, detail }) => {
                // The claim was lost, or the lease given up meanwhile.
                let error = Error::Conflict { code, detail };
                self.give_up_fresh(author, &fresh, &error).await?;
                self.take_up_again(fresh.lease_id, fresh.login_id, made.oid).await?;
                Err(error)
            }
            promoted => promoted,
        }
    }

    async fn record_standing_intent(
        &self,
        author: Author<'_>,
        claimed: &ClaimedStandingRole,
        profile: &Profile,
    ) -> Result<Fresh, Error> {
        let (role, spec) = (&claimed.role, &profile.spec);
        let now = self.clock.now();
        let due_at = schedule::next_due(&role.spec.rotate, role.spec.jitter, now, chance()?);
        let due_at = due_at.ok_or_else(|| being_rotated(&role.spec.name))?;
        let valid_until = schedule::valid_until(now, due_at);
        let (lease_id, login_id) = (LeaseId::new(), LoginId::new());
        let tool: Name = TOOL.parse().map_err(Error::internal)?;
        let principal = self.store.principal(role.principal_id).await?;
        let principal =
            principal.ok_or_else(|| Error::not_found("principal", role.spec.name.to_string()))?;
        let facts = context::Facts {
            principal: &principal,
            given: &BTreeMap::new(),
            lease_id: &lease_id.to_string(),
            profile: spec.name.as_str(),
            tool: TOOL,
        };
        let filled = context::fill(profile, &facts);
        let filled = filled.map_err(|missing| Error::claim_missing(&spec.name, missing))?;
        let name = LoginName::mint(&spec.name, &role.spec.name, &tool, login_id);
        let granted = Granted {
            asked: None,
            granted: Seconds::new((valid_until - now).num_seconds()).map_err(Error::internal)?,
            rule: TtlRule::StandingRole,
            because: format!("standing role {} is rotated: {}", role.spec.name, role.spec.rotate),
        };
        let mut tx = self.store.begin().await?;
        let new = NewStandingLease {
            id: lease_id,
            login_id,
            role_name: &name,
            profile,
            filled: &filled,
            tool: TOOL,
            ttl: &granted,
            expires_at: valid_until,
            give_up_at: self.give_up_at(now),
        };
        let created = tx.create_standing_lease(claimed, &new, now).await;
        created.map_err(|e| not_one_row(e, |()| being_rotated(&role.spec.name)))?;
        let event = Event::StandingRoleRotating {
            standing_role_id: role.id,
            standing_role: role.spec.name.to_string(),
            lease_id,
            login_id,
            role: name.to_string(),
        };
        tx.audit(&author.entry(now, event)).await?;
        tx.commit().await?;
        Ok(Fresh { lease_id, login_id, role: name, filled, due_at, valid_until })
    }

    async fn sign_in_once(
        &self,
        asked: &ToMake<'_>,
        (target, handle): (&Target, &Arc<Handle>),
        made: Made,
    ) -> Result<Made, Error> {
        let password = &made.credential.password;
        let accepted =
            handle.accepts_login(asked.database, asked.role, asked.group_role, password).await;
        match accepted {
            Ok(true) => Ok(made),
            Ok(false) => Err(Error::Conflict {
                code: "login_refused",
                detail: format!(
                    "the target made the login `{}` and does not let it in: look at pg_hba.conf; the login of before is handed out still",
                    asked.role
                ),
            }),
            Err(e) => Err(Error::target(target.spec.name.as_str(), Some(asked.lease_id), e)),
        }
    }

    /// Looks whether somebody knows a password who is kept from it, and it was not replaced: a changed schedule may have
    /// put that off, and a daemon of an earlier release knows nothing of it.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn end_kept_passwords(&self) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let is_any = self.replace_kept(&mut tx, Author::Pgvalet).await?;
        tx.commit().await?;
        if is_any {
            self.nudges.rotations.notify_one();
            self.nudges.leases.notify_one();
            self.nudges.audit.notify_one();
        }
        Ok(())
    }

    /// What somebody knows who is kept from it is replaced at once, and ends without the grace that a rotation leaves. Whether
    /// there was any.
    pub(in crate::app) async fn replace_kept(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
    ) -> Result<bool, Error> {
        let replaced = tx.replace_kept_passwords(self.clock.now()).await?;
        let known = tx.kept_leases().await?;
        self.end_leases(tx, author, &known).await?;
        Ok(replaced > 0 || !known.is_empty())
    }

    async fn promote_standing(
        &self,
        author: Author<'_>,
        claimed: &ClaimedStandingRole,
        fresh: &Fresh,
        made: &Made,
        before: Before,
    ) -> Result<(), Error> {
        let role = &claimed.role;
        let now = self.clock.now();
        let lost = |_| being_rotated(&role.spec.name);
        let password = SealedStandingPassword::seal(
            &self.keys,
            fresh.lease_id,
            rng::bytes()?,
            &made.credential.password,
        )?;
        let mut tx = self.store.begin().await?;
        tx.activate_standing_lease(fresh.lease_id, fresh.login_id, made.oid)
            .await
            .map_err(|e| not_one_row(e, lost))?;
        let promotion =
            Promotion { lease_id: fresh.lease_id, password: &password, due_at: fresh.due_at };
        tx.promote_standing_role(claimed, &promotion, now)
            .await
            .map_err(|e| not_one_row(e, lost))?;
        let superseded = self.supersede(&mut tx, author, role, before).await?;
        let event = Event::StandingRoleRotated {
            standing_role_id: role.id,
            standing_role: role.spec.name.to_string(),
            generation: role.generation + 1,
            lease_id: fresh.lease_id,
            role: fresh.role.to_string(),
            valid_until: fresh.valid_until,
            due_at: fresh.due_at,
            superseded: superseded.map(|(lease_id, _)| lease_id),
            superseded_ends_at: superseded.map(|(_, ends_at)| ends_at),
        };
        tx.audit(&author.entry(now, event)).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        tracing::info!(
            standing_role = %role.spec.name,
            generation = role.generation + 1,
            "a standing role was rotated"
        );
        Ok(())
    }

    /// What was handed out until now ends: after its grace, or at once if somebody knows it who is kept from it. Asked once
    /// the role is ours to change, so whoever is kept from it meanwhile waits for us, and ends what we leave behind.
    async fn supersede(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        role: &StandingRole,
        before: Before,
    ) -> Result<Option<(LeaseId, DateTime<Utc>)>, Error> {
        let Some(old) = role.present.as_ref().map(|present| present.lease_id) else {
            return Ok(None);
        };
        let is_known = tx.is_known_to_kept(old).await?;
        let now = self.clock.now();
        let ends_at = match before {
            Before::AfterGrace if !is_known => now + role.spec.grace.delta(),
            Before::AfterGrace | Before::Now => now,
        };
        if !tx.supersede_lease(old, ends_at).await? {
            return Ok(None);
        }
        if is_known {
            self.end_leases(tx, author, &[old]).await?;
        }
        Ok(Some((old, ends_at)))
    }

    /// The login that was being made is removed, whether or not it was made.
    async fn give_up_fresh(
        &self,
        author: Author<'_>,
        fresh: &Fresh,
        error: &Error,
    ) -> Result<(), Error> {
        let (lease_id, login_id) = (fresh.lease_id, fresh.login_id);
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if tx.start_revoking_login(login_id, State::Provisioning, Cause::Failed, now).await? {
            tx.start_revoking_lease(lease_id, Cause::Failed).await?;
            let (code, why) = (error.code().to_owned(), error.detail());
            let event = Event::LeaseFailed { lease_id, login_id, code, why };
            tx.audit(&author.entry(now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.leases.notify_one();
        Ok(())
    }

    async fn record_standing_failure(
        &self,
        author: Author<'_>,
        claimed: &ClaimedStandingRole,
        error: &Error,
    ) -> Result<(), Error> {
        let role = &claimed.role;
        let now = self.clock.now();
        let why = in_the_way(error);
        let again_at = now + backoff::wait_after(claimed.attempts.saturating_add(1), jitter());
        let mut tx = self.store.begin().await?;
        match tx.release_standing_role(claimed, &why, again_at).await {
            Err(store::error::Error::NotOneRow(_)) => return Ok(()),
            Err(e) => return Err(e.into()),
            Ok(false) => {}
            Ok(true) => {
                let event = Event::StandingRoleFailed {
                    standing_role_id: role.id,
                    standing_role: role.spec.name.to_string(),
                    code: error.code().to_owned(),
                    why: why.clone(),
                };
                tx.audit(&author.entry(now, event)).await?;
            }
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        tracing::warn!(
            standing_role = %role.spec.name,
            attempts = claimed.attempts + 1,
            why,
            "a standing role could not be rotated; it is tried again"
        );
        Ok(())
    }
}

fn being_rotated(name: &Name) -> Error {
    Error::Conflict {
        code: "rotation_in_progress",
        detail: format!(
            "standing role `{name}` is being rotated or changed just now: try again in a few seconds"
        ),
    }
}

/// What a row means that is not any more as it was.
fn not_one_row(e: store::error::Error, meaning: impl FnOnce(()) -> Error) -> Error {
    match e {
        store::error::Error::NotOneRow(_) => meaning(()),
        other => other.into(),
    }
}
