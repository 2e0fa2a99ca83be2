//! Issue a lease, as a story in four parts: record the intent, make the login on the target, record
//! that it was made, hand the credential out once.
//!
//! Stopped anywhere, the loop that ends leases clears up: a login that is not active by its
//! `give_up_at` is removed, whether or not its role was made. The deadline of everything done here
//! lies before that instant.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::{
    app::{
        App, Origin,
        error::Error,
        offers::Offer,
        passwords::{Fresh, FreshPassword},
        requests::Outcome,
    },
    domain::{
        access::Asked,
        audit::Event,
        conditions::Limits,
        lease::{Cause, Granted, Lease, State},
        policy::Approval,
        profile::Preset,
        rights::context::{self, Filled},
        role::{LoginName, Mark},
        target::{SslMode, Target},
    },
    identity::Caller,
    ids::{LeaseId, LoginId, PrincipalId},
    secret::Secret,
    store::{
        self,
        issuing::{Activation, Intent},
    },
    target::{Handle, NewLogin},
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

/// Nothing takes the place of what the templates of a profile make.
pub(in crate::app) static NO_CLAIMS: BTreeMap<String, String> = BTreeMap::new();

/// A wish that was allowed.
pub(in crate::app) struct Wish<'a> {
    pub(in crate::app) caller: &'a Caller,
    pub(in crate::app) origin: &'a Origin,
    pub(in crate::app) asked: &'a Asked,
    pub(in crate::app) offer: &'a Offer,
    /// The idempotency key and the hash of the request.
    pub(in crate::app) key: Option<(&'a str, &'a [u8])>,
    /// Claims in place of those that the profile's templates make.
    pub(in crate::app) claims: &'a BTreeMap<String, String>,
}

/// A login to be made on a target.
pub(in crate::app) struct ToMake<'a> {
    pub(in crate::app) lease_id: LeaseId,
    pub(in crate::app) login_id: LoginId,
    pub(in crate::app) principal_id: PrincipalId,
    pub(in crate::app) role: &'a LoginName,
    pub(in crate::app) group_role: &'a str,
    pub(in crate::app) group_may_own: bool,
    pub(in crate::app) database: &'a str,
    pub(in crate::app) connection_limit: i32,
    pub(in crate::app) settings: &'a BTreeMap<String, String>,
    pub(in crate::app) claims: &'a BTreeMap<String, String>,
    pub(in crate::app) valid_until: DateTime<Utc>,
    /// Nothing is sent to the target after this.
    pub(in crate::app) deadline: Instant,
}

/// A login that was made.
pub(in crate::app) struct Made {
    pub(in crate::app) oid: u32,
    pub(in crate::app) credential: Credential,
}

impl Wish<'_> {
    /// The lease as it will be once it is active.
    fn lease(
        &self,
        (lease_id, role): (LeaseId, &LoginName),
        approval: &Approval,
        now: DateTime<Utc>,
    ) -> Lease {
        let Offer { profile, target } = self.offer;
        let (spec, principal) = (&profile.spec, self.caller.principal());
        Lease {
            id: lease_id,
            state: State::Active,
            cause: None,
            profile_id: Some(approval.profile()),
            profile: spec.name.to_string(),
            target_id: target.id,
            target: target.spec.name.to_string(),
            database: spec.database.clone(),
            group_role: spec.group_role(),
            principal_id: approval.principal(),
            principal: principal.to_string(),
            tool: self.asked.tool.to_string(),
            reason: self.asked.reason.clone(),
            ticket: self.asked.ticket.clone(),
            job: self.caller.job().map(|job| job.seen.job.clone()),
            role_name: Some(role.to_string()),
            created_at: now,
            expires_at: now + approval.granted().granted.delta(),
            max_expires_at: now + approval.max_ttl().delta(),
            ended_at: None,
            blocked_by: None,
            proof: None,
        }
    }
}

/// Between the deadline of issuing and the instant at which it is given up: long enough that
/// whatever was sent to the target before the deadline is over (`statement_timeout` there is shorter).
const MARGIN: TimeDelta = TimeDelta::seconds(3);

impl App {
    /// Issues a lease that was allowed; none if what it was decided on holds no more.
    pub(in crate::app) async fn issue(
        &self,
        approval: Approval,
        wish: Wish<'_>,
    ) -> Result<Option<Answer>, Error> {
        let Offer { profile, target } = wish.offer;
        let spec = &profile.spec;
        let handle = self.open(target).await?;
        // The deadline counts from before the intent is recorded, by a clock that nobody can set, so
        // that it lies before `give_up_at` whatever holds the recording up.
        let deadline = Instant::now() + self.times.issue_deadline;
        let password = self.passwords.take(target.spec.scram_iterations)?;

        // 1. The intent, its audit entry and its key are one transaction.
        let now = self.clock.now();
        let granted = approval.granted().clone();
        let expires_at = now + granted.granted.delta();
        let (lease_id, login_id) = (LeaseId::new(), LoginId::new());
        let principal = wish.caller.principal();
        let role = LoginName::mint(&spec.name, &principal.subject, &wish.asked.tool, login_id);
        let facts = context::Facts {
            principal,
            given: wish.claims,
            lease_id: &lease_id.to_string(),
            profile: spec.name.as_str(),
            tool: wish.asked.tool.as_str(),
        };
        let filled = context::fill(profile, &facts);
        let filled = filled.map_err(|missing| Error::claim_missing(&spec.name, missing))?;
        let lease = wish.lease((lease_id, &role), &approval, now);
        let recording = self.record_intent(&wish, &approval, &lease, (login_id, &role), &filled);
        if !self.metrics.issuing(IssueStep::Intent, recording).await? {
            let before = match wish.key {
                Some((key, hash)) => self.answered_before(wish.caller, key, hash).await?,
                None => None,
            };
            return match before {
                Some(Outcome::Issued(answer)) => Ok(Some(*answer)),
                // The key is a request's, which a wish that needs nobody's agreement is not.
                Some(Outcome::Waits(_)) => Err(Error::KeyReused),
                None => Ok(None),
            };
        }

        // 2. The effect. The password stays in `made` until it is handed out.
        let to_make = ToMake {
            lease_id,
            login_id,
            principal_id: lease.principal_id,
            role: &role,
            group_role: &lease.group_role,
            group_may_own: spec.group_may_own(),
            database: &lease.database,
            connection_limit: spec.connection_limit,
            settings: &filled.settings,
            claims: &filled.context,
            valid_until: expires_at,
            deadline,
        };
        let making = self.make_login(target, &handle, password, &to_make);
        let made = match self.metrics.issuing(IssueStep::Target, making).await {
            Ok(made) => made,
            Err(error) => {
                self.record_failure(wish.origin, wish.caller, lease_id, login_id, &error).await;
                return Err(error);
            }
        };

        // 3. Activation, or the finding that somebody revoked the lease meanwhile.
        let activating = self.record_activation(&wish, &lease, login_id, &role, made.oid);
        self.metrics.issuing(IssueStep::Activate, activating).await?;
        // Only now is it due at its end: woken earlier, the loop saw the end of its making.
        self.nudge_if_soon(expires_at, self.clock.now());

        // 4. The one answer with the credential.
        Ok(Some(Answer { lease, ttl: Some(granted), credential: Some(made.credential) }))
    }

    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "record intent",
        skip_all,
        fields(otel.kind = "client", db.system.name = "postgresql", lease.id = %lease.id)
    )]
    async fn record_intent(
        &self,
        wish: &Wish<'_>,
        approval: &Approval,
        lease: &Lease,
        (login_id, role): (LoginId, &LoginName),
        filled: &Filled,
    ) -> Result<bool, Error> {
        let now = lease.created_at;
        let event = Event::LeaseIntended {
            lease_id: lease.id,
            login_id,
            profile: lease.profile.clone(),
            target: lease.target.clone(),
            database: lease.database.clone(),
            role: role.to_string(),
            group_role: lease.group_role.clone(),
            tool: lease.tool.clone(),
            reason: lease.reason.clone(),
            ticket: lease.ticket.clone(),
            ttl: approval.granted().clone(),
            allowed_by: approval.allowed_by(),
            trace: approval.trace().to_vec(),
            expires_at: lease.expires_at,
            context: filled.context.clone(),
            break_glass: wish.offer.profile.spec.preset == Preset::BreakGlass
                && !approval.is_for_check(),
            job: wish.caller.job().map(|job| Box::new(job.seen.clone())),
            request_id: approval.request(),
        };
        let intent = Intent {
            lease,
            profile: &wish.offer.profile.spec,
            settings: &filled.settings,
            context: &filled.context,
            profile_version: approval.profile_version(),
            is_for_check: approval.is_for_check(),
            target_version: wish.offer.target.version,
            ttl: approval.granted(),
            login_id,
            role_name: role,
            give_up_at: self.give_up_at(now),
            limits: if approval.is_for_check() {
                Limits::default()
            } else {
                self.limits(wish.offer)
            },
            key: wish.key,
            spent: Self::spending(wish.caller),
            request: approval.request(),
            emergency: self.opened(wish, approval, lease),
            entry: &wish.origin.entry(wish.caller, now, event),
        };
        let recorded = self.store.record_intent(&intent).await?;
        if recorded && intent.emergency.is_some() {
            self.tell_opened(lease);
        }
        if recorded {
            self.nudge_if_soon(lease.expires_at, now);
        }
        Ok(recorded)
    }

    /// Makes a login on its target, within the deadline.
    pub(in crate::app) async fn make_login(
        &self,
        target: &Target,
        handle: &Arc<Handle>,
        password: FreshPassword,
        to_make: &ToMake<'_>,
    ) -> Result<Made, Error> {
        let Fresh { password, verifier, .. } = password.made().await?;
        let new = NewLogin {
            role: to_make.role,
            group_role: to_make.group_role,
            group_may_own: to_make.group_may_own,
            database: to_make.database,
            verifier: &verifier,
            valid_until: to_make.valid_until,
            connection_limit: to_make.connection_limit,
            settings: to_make.settings,
            claims: to_make.claims,
            comment: Mark {
                lease: to_make.lease_id,
                login: to_make.login_id,
                installation: Some(self.standing.installation),
            }
            .to_string(),
            asked_by: to_make.principal_id,
        };
        let too_late = || Error::TimedOut {
            what: "making the login on the target",
            lease: Some(to_make.lease_id),
        };
        if Instant::now() >= to_make.deadline {
            return Err(too_late());
        }
        self.passwords.make_next(target.spec.scram_iterations);
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
        fields(otel.kind = "client", db.system.name = "postgresql", lease.id = %lease.id)
    )]
    async fn record_activation(
        &self,
        wish: &Wish<'_>,
        lease: &Lease,
        login_id: LoginId,
        role: &LoginName,
        role_oid: u32,
    ) -> Result<(), Error> {
        let lease_id = lease.id;
        let event = Event::LeaseActivated { lease_id, login_id, role: role.to_string(), role_oid };
        let activation = Activation {
            lease_id,
            principal_id: lease.principal_id,
            login_id,
            role_oid,
            entry: &wish.origin.entry(wish.caller, self.clock.now(), event),
        };
        if !self.store.record_activation(&activation).await? {
            self.take_up_again(lease_id, login_id, role_oid).await?;
            let lease = self.lease(wish.caller, lease_id).await?;
            return Err(Error::LeaseOver { state: lease.state, cause: lease.cause });
        }
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

    /// When a login whose making begins now is given up.
    pub(in crate::app) fn give_up_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.times.issue_deadline).unwrap_or(MARGIN) + MARGIN
    }
}

/// libpq's `options` for a session that starts as the group role. A connection whose login is not,
/// or no longer, a member of the role then fails, where the login's own setting would only warn.
/// Within `options` a space and a backslash are escaped by a backslash
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>).
pub(in crate::app) fn session_options(group_role: &str) -> String {
    let escaped = group_role.replace('\\', "\\\\").replace(' ', "\\ ");
    format!("-c role={escaped}")
}

/// The longest that a caller may be kept waiting for what it can look up later.
pub(in crate::app) const PATIENCE: Duration = Duration::from_secs(10);
