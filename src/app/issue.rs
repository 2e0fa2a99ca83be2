//! Issue a lease, as a story in four parts: record the intent, make the login on the target, record
//! that it was made, hand the credential out once.
//!
//! Stopped anywhere, the loop that ends leases clears up: a login that is not active by its
//! `give_up_at` is removed, whether or not its role was made. The deadline of everything done here
//! lies before that instant.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        access::Asked,
        audit::Event,
        lease::{Cause, Granted, Lease, State},
        name::Name,
        policy::Approval,
        profile::Profile,
        role::LoginName,
        target::{SslMode, Target},
    },
    identity::Caller,
    ids::{LeaseId, LoginId},
    rng,
    secret::Secret,
    store::{self, leases::NewLease},
    target::{Handle, NewLogin, scram},
    telemetry::labels::IssueStep,
};

/// A lease with its credential.
pub struct Answer {
    /// The lease.
    pub lease: Lease,
    /// How long it lasts, and by which rule.
    pub ttl: Option<Granted>,
    /// The credential; none if this request was answered before.
    pub credential: Option<Credential>,
}

/// What is needed to sign in to the target.
pub struct Credential {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// The login role.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
    /// How the connection is to be protected.
    pub sslmode: SslMode,
    /// The certificates to trust.
    pub sslrootcert_pem: Option<String>,
    /// libpq's `options`: starts the session as the group role.
    pub options: String,
    /// When the login stops by itself.
    pub valid_until: DateTime<Utc>,
}

/// A wish that was allowed.
pub(in crate::app) struct Wish<'a> {
    pub(in crate::app) caller: &'a Caller,
    pub(in crate::app) origin: &'a Origin,
    pub(in crate::app) asked: &'a Asked,
    pub(in crate::app) profile: &'a Profile,
    /// The idempotency key and the hash of the request.
    pub(in crate::app) key: Option<(&'a str, &'a [u8])>,
}

/// A login to be made on a target.
pub(in crate::app) struct ToMake<'a> {
    pub(in crate::app) lease_id: LeaseId,
    pub(in crate::app) login_id: LoginId,
    pub(in crate::app) role: &'a LoginName,
    pub(in crate::app) group_role: &'a str,
    pub(in crate::app) database: &'a str,
    pub(in crate::app) connection_limit: i32,
    pub(in crate::app) settings: &'a BTreeMap<String, String>,
    pub(in crate::app) valid_until: DateTime<Utc>,
    /// Nothing is sent to the target after this.
    pub(in crate::app) deadline: Instant,
}

/// A login that was made.
pub(in crate::app) struct Made {
    pub(in crate::app) oid: u32,
    pub(in crate::app) credential: Credential,
}

/// Between the deadline of issuing and the instant at which it is given up: long enough that
/// whatever was sent to the target before the deadline is over (`statement_timeout` there is shorter).
const MARGIN: TimeDelta = TimeDelta::seconds(3);

impl App {
    /// Issues a lease that was allowed.
    pub(in crate::app) async fn issue(
        &self,
        approval: Approval,
        wish: Wish<'_>,
    ) -> Result<Answer, Error> {
        let spec = &wish.profile.spec;
        let (target, handle) = self.handle(wish.profile.target_id).await?;
        self.prepare_if_needed(wish.origin, Some(wish.caller), wish.profile, &handle).await?;

        // The deadline counts from before the intent is recorded, by a clock that nobody can set, so
        // that it lies before `give_up_at` whatever holds the recording up.
        let deadline = Instant::now() + self.times.issue_deadline;

        // 1. The intent, its audit entry and its key are one transaction.
        let now = self.clock.now();
        let (lease_id, login_id) = (LeaseId::new(), LoginId::new());
        let role = LoginName::mint(
            &spec.name,
            &wish.caller.principal().subject,
            &wish.asked.tool,
            login_id,
        );
        let granted = approval.granted().clone();
        let expires_at = now + granted.granted.delta();
        let intent =
            Intent { lease_id, login_id, role: &role, expires_at, now, approval: &approval };
        let recording = self.record_intent(&wish, &target, &intent);
        match self.metrics.issuing(IssueStep::Intent, recording).await {
            Ok(()) => {}
            Err(store::error::Error::Constraint { constraint, .. })
                if constraint == "idempotency_key" =>
            {
                return self.lost_to_the_same_key(&wish).await;
            }
            Err(store::error::Error::NotOneRow(_)) => return Err(profile_changed(&spec.name)),
            Err(e) => return Err(e.into()),
        }

        // 2. The effect. The password stays in `made` until it is handed out.
        let group_role = spec.group_role();
        let to_make = ToMake {
            lease_id,
            login_id,
            role: &role,
            group_role: &group_role,
            database: &spec.database,
            connection_limit: spec.connection_limit,
            settings: &spec.settings,
            valid_until: expires_at,
            deadline,
        };
        let making = self.make_login(&target, &handle, &to_make);
        let made = match self.metrics.issuing(IssueStep::Target, making).await {
            Ok(made) => made,
            Err(error) => {
                self.record_failure(wish.origin, wish.caller, lease_id, login_id, &error).await;
                return Err(error);
            }
        };

        // 3. Activation, or the finding that somebody revoked the lease meanwhile.
        let activating = self.record_activation(&wish, lease_id, login_id, &role, made.oid);
        self.metrics.issuing(IssueStep::Activate, activating).await?;
        // Only now is it due at its end: woken earlier, the loop saw the end of its making.
        self.nudge_if_soon(expires_at, self.clock.now());

        // 4. The one answer with the credential.
        let lease = Lease {
            id: lease_id,
            state: State::Active,
            cause: None,
            profile_id: Some(wish.profile.id),
            profile: spec.name.to_string(),
            target_id: target.id,
            target: target.spec.name.to_string(),
            database: spec.database.clone(),
            group_role,
            principal_id: wish.caller.principal().id,
            principal: wish.caller.principal().to_string(),
            tool: wish.asked.tool.to_string(),
            reason: wish.asked.reason.clone(),
            ticket: wish.asked.ticket.clone(),
            role_name: Some(role.to_string()),
            created_at: now,
            expires_at,
            max_expires_at: now + spec.max_ttl.delta(),
            ended_at: None,
            blocked_by: None,
            proof: None,
        };
        Ok(Answer { lease, ttl: Some(granted), credential: Some(made.credential) })
    }

    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "record intent",
        skip_all,
        fields(otel.kind = "client", db.system.name = "postgresql", lease.id = %intent.lease_id)
    )]
    async fn record_intent(
        &self,
        wish: &Wish<'_>,
        target: &Target,
        intent: &Intent<'_>,
    ) -> Result<(), store::error::Error> {
        let Intent { lease_id, login_id, role, expires_at, now, approval } = *intent;
        let spec = &wish.profile.spec;
        let principal = wish.caller.principal();
        let group_role = spec.group_role();
        let mut tx = self.store.begin().await?;
        tx.create_lease(
            &NewLease {
                id: lease_id,
                profile_id: approval.profile(),
                profile_version: approval.profile_version(),
                profile: spec.name.as_str(),
                target_id: target.id,
                database: &spec.database,
                group_role: &group_role,
                connection_limit: spec.connection_limit,
                settings: &spec.settings,
                principal_id: approval.principal(),
                tool: wish.asked.tool.as_str(),
                reason: wish.asked.reason.as_deref(),
                ticket: wish.asked.ticket.as_deref(),
                ttl: approval.granted(),
                expires_at,
                max_expires_at: now + spec.max_ttl.delta(),
                login_id,
                role_name: role,
                give_up_at: self.give_up_at(now),
            },
            now,
        )
        .await?;
        if let Some((key, hash)) = wish.key {
            tx.free_failed_idempotency_key(principal.id, key).await?;
            tx.record_idempotency_key(principal.id, key, hash, lease_id, now).await?;
        }
        let event = Event::LeaseIntended {
            lease_id,
            login_id,
            profile: spec.name.to_string(),
            target: target.spec.name.to_string(),
            database: spec.database.clone(),
            role: role.to_string(),
            group_role,
            tool: wish.asked.tool.to_string(),
            reason: wish.asked.reason.clone(),
            ticket: wish.asked.ticket.clone(),
            ttl: approval.granted().clone(),
            allowed_by: approval.rule().to_string(),
            expires_at,
        };
        tx.audit(&wish.origin.entry(wish.caller, now, event)).await?;
        tx.commit().await?;
        self.nudge_if_soon(expires_at, now);
        Ok(())
    }

    /// Makes a login on its target, within the deadline.
    pub(in crate::app) async fn make_login(
        &self,
        target: &Target,
        handle: &Arc<Handle>,
        to_make: &ToMake<'_>,
    ) -> Result<Made, Error> {
        let password = rng::password()?;
        let salt = rng::bytes::<16>()?;
        let (password, verifier) = blocking(move || {
            let verifier = scram::verifier(&password, salt, SCRAM_ITERATIONS);
            (password, verifier)
        })
        .await?;
        let new = NewLogin {
            role: to_make.role,
            group_role: to_make.group_role,
            database: to_make.database,
            verifier: &verifier,
            valid_until: to_make.valid_until,
            connection_limit: to_make.connection_limit,
            settings: to_make.settings,
            comment: format!("pgvalet lease {} login {}", to_make.lease_id, to_make.login_id),
        };
        let too_late = || Error::TimedOut {
            what: "making the login on the target",
            lease: Some(to_make.lease_id),
        };
        if Instant::now() >= to_make.deadline {
            return Err(too_late());
        }
        let created = tokio::time::timeout_at(to_make.deadline, handle.create_login(&new))
            .await
            .map_err(|_| too_late())?
            .map_err(|e| Error::target(target.spec.name.as_str(), Some(to_make.lease_id), e))?;
        Ok(Made {
            oid: created.oid,
            credential: Credential {
                host: target.spec.host.clone(),
                port: target.spec.port,
                database: to_make.database.to_owned(),
                user: to_make.role.to_string(),
                password,
                sslmode: target.spec.sslmode,
                sslrootcert_pem: target.spec.sslrootcert_pem.clone(),
                options: session_options(to_make.group_role),
                valid_until: to_make.valid_until,
            },
        })
    }

    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "record activation",
        skip_all,
        fields(otel.kind = "client", db.system.name = "postgresql", lease.id = %lease_id)
    )]
    async fn record_activation(
        &self,
        wish: &Wish<'_>,
        lease_id: LeaseId,
        login_id: LoginId,
        role: &LoginName,
        role_oid: u32,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        match tx.activate_first_login(lease_id, login_id, role_oid).await {
            Ok(()) => {}
            Err(store::error::Error::NotOneRow(_)) => {
                drop(tx);
                self.take_up_again(lease_id, login_id, role_oid).await?;
                let lease = self.lease(wish.caller, lease_id).await?;
                return Err(Error::LeaseOver { state: lease.state, cause: lease.cause });
            }
            Err(e) => return Err(e.into()),
        }
        let event = Event::LeaseActivated { lease_id, login_id, role: role.to_string(), role_oid };
        tx.audit(&wish.origin.entry(wish.caller, self.clock.now(), event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// A role was made whose login was given up meanwhile (somebody revoked the lease, or this daemon
    /// slept): the caller gets no secret, and the login is due again, though it may have been recorded
    /// as gone when nobody had made it yet.
    pub(in crate::app) async fn take_up_again(
        &self,
        lease_id: LeaseId,
        login_id: LoginId,
        role_oid: u32,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        match tx.reopen_login(login_id, role_oid, self.clock.now()).await {
            Err(store::error::Error::NotOneRow(_)) => return Ok(()),
            reopened => reopened?,
        }
        tx.reopen_lease(lease_id).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        Ok(())
    }

    /// Records that a login could not be made, so that it is looked for and removed at once. If our
    /// database does not answer now, `give_up_at` does the same a little later.
    pub(in crate::app) async fn record_failure(
        &self,
        origin: &Origin,
        caller: &Caller,
        lease_id: LeaseId,
        login_id: LoginId,
        error: &Error,
    ) {
        if let Err(e) = self.try_record_failure(origin, caller, lease_id, login_id, error).await {
            tracing::warn!(
                lease.id = %lease_id,
                error = &e as &dyn std::error::Error,
                "could not record that a lease failed; it is given up by itself"
            );
        }
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
    }

    async fn try_record_failure(
        &self,
        origin: &Origin,
        caller: &Caller,
        lease_id: LeaseId,
        login_id: LoginId,
        error: &Error,
    ) -> Result<(), store::error::Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        tx.start_revoking_login(login_id, State::Provisioning, Cause::Failed, now).await?;
        if tx.is_present_login(lease_id, login_id).await? {
            tx.start_revoking_lease(lease_id, Cause::Failed).await?;
        }
        let event = Event::LeaseFailed {
            lease_id,
            login_id,
            code: error.code().to_owned(),
            why: error.detail(),
        };
        tx.audit(&origin.entry(caller, now, event)).await?;
        tx.commit().await
    }

    /// Two requests with one key at once: the other one was first.
    async fn lost_to_the_same_key(&self, wish: &Wish<'_>) -> Result<Answer, Error> {
        let (key, hash) = wish.key.ok_or(Error::StillInProgress)?;
        self.answered_before(wish.caller, key, hash).await?.ok_or(Error::StillInProgress)
    }

    /// When a login whose making begins now is given up.
    pub(in crate::app) fn give_up_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.times.issue_deadline).unwrap_or(MARGIN) + MARGIN
    }
}

fn profile_changed(name: &Name) -> Error {
    let detail = format!("profile `{name}` was changed just now: ask again");
    Error::Conflict { code: "profile_changed", detail }
}

/// What [`App::record_intent`] writes down.
#[derive(Clone, Copy)]
struct Intent<'a> {
    lease_id: LeaseId,
    login_id: LoginId,
    role: &'a LoginName,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
    approval: &'a Approval,
}

/// PostgreSQL's own default. Passwords of 240 random bits would be as safe with one iteration, but
/// some drivers refuse fewer than 4096 (RFC 7677 section 4 recommends at least that).
const SCRAM_ITERATIONS: NonZeroU32 = scram::DEFAULT_ITERATIONS;

/// libpq's `options` for a session that starts as the group role. A connection whose login is not,
/// or no longer, a member of the role then fails, where the login's own setting would only warn.
/// Within `options` a space and a backslash are escaped by a backslash
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>).
fn session_options(group_role: &str) -> String {
    let escaped = group_role.replace('\\', "\\\\").replace(' ', "\\ ");
    format!("-c role={escaped}")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

/// The longest that a caller may be kept waiting for what it can look up later.
pub(in crate::app) const PATIENCE: Duration = Duration::from_secs(10);
