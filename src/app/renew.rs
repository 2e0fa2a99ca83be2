//! Make a live lease last longer, within its profile's `max_ttl`.
//!
//! The record is moved first: if the target then cannot be told, the login stops earlier than
//! recorded, which is the safe side, and the record is moved back.

use chrono::{DateTime, Utc};

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        audit::Event,
        duration::Seconds,
        lease::{self, Cause, Lease, Renewal, State, TtlRule},
        policy,
        profile::Profile,
    },
    identity::Caller,
    ids::LeaseId,
    store::{self, leases::LoginTerms},
    telemetry::labels::RenewStep,
};

/// A lease with its new end.
#[derive(Debug)]
pub struct Renewed {
    /// The lease.
    pub lease: Lease,
    /// The rule that gave it its end.
    pub rule: TtlRule,
    /// The rule in words.
    pub because: String,
}

impl App {
    /// Renews a lease: `ttl` from now, or as long as it was issued for.
    ///
    /// # Errors
    /// If it is not active, cannot last longer, or the target does not answer.
    pub async fn renew(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
        ttl: Option<Seconds>,
    ) -> Result<Renewed, Error> {
        let renewing = Box::pin(self.renew_lease(caller, origin, id, ttl));
        self.metrics.renewing(RenewStep::Total, renewing).await
    }

    async fn renew_lease(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
        ttl: Option<Seconds>,
    ) -> Result<Renewed, Error> {
        let before = self.lease_to_change(caller, origin, id).await?;
        if before.state != State::Active {
            return Err(Error::LeaseOver { state: before.state, cause: before.cause });
        }
        self.check_still_allowed(caller, origin, &before).await?;
        let length = match ttl {
            Some(length) => length,
            None => self.length_as_issued(&before).await?,
        };
        let now = self.clock.now();
        let (to, rule) = match lease::renew(before.expires_at, before.max_expires_at, length, now) {
            Renewal::Until { expires_at, rule } => (expires_at, rule),
            Renewal::Exhausted { max_expires_at } => {
                return Err(Error::RenewalExhausted { max_expires_at });
            }
        };
        let because = match rule {
            TtlRule::ProfileMaxTtl => {
                format!("the profile's max_ttl ends it at {}", to.format("%Y-%m-%d %H:%M:%S UTC"))
            }
            TtlRule::Asked | TtlRule::ProfileTtl | TtlRule::StandingRole => {
                format!("{length} from now")
            }
        };

        let recording = self.move_end(caller, origin, id, before.expires_at, to);
        let terms = self.metrics.renewing(RenewStep::Record, recording).await?;
        let telling = self.tell_target(&before, &terms, to);
        if let Err(error) = self.metrics.renewing(RenewStep::Target, telling).await {
            self.move_end(caller, origin, id, to, before.expires_at).await?;
            return Err(error);
        }
        let lease = self.lease(caller, id).await?;
        Ok(Renewed { lease, rule, because })
    }

    /// Why a lease that was not found active cannot be worked on.
    pub(in crate::app) async fn lease_over(
        &self,
        caller: &Caller,
        id: LeaseId,
    ) -> Result<Error, Error> {
        let lease = self.lease(caller, id).await?;
        let over = lease.state == State::Active;
        let (state, cause) =
            if over { (State::Revoking, Some(Cause::Expired)) } else { (lease.state, lease.cause) };
        Ok(Error::LeaseOver { state, cause })
    }

    /// A lease is made longer, or given a fresh login, only while its principal would get a new one:
    /// the profile is there and a rule of it still holds.
    pub(in crate::app) async fn check_still_allowed(
        &self,
        caller: &Caller,
        origin: &Origin,
        lease: &Lease,
    ) -> Result<Profile, Error> {
        self.refuse_standing(lease.id).await?;
        let name = lease.profile.parse().map_err(Error::internal)?;
        let Some(profile) = self.store.profile(&name).await? else {
            return Err(Error::not_found("profile", lease.profile.clone()));
        };
        let principal = self.store.principal(lease.principal_id).await?;
        let here = (origin.source, self.clock.now());
        let Some((refusal, trace)) = policy::still_refused(principal.as_ref(), here, &profile)
        else {
            return Ok(profile);
        };
        Err(self.refuse(caller, origin, &name, refusal, &trace).await?)
    }

    /// Without a wish, a renewal gives the profile's `ttl` again; of a profile that is gone, what is
    /// left of the cap.
    async fn length_as_issued(&self, lease: &Lease) -> Result<Seconds, Error> {
        if let Ok(name) = lease.profile.parse()
            && let Some(profile) = self.store.profile(&name).await?
        {
            return Ok(profile.spec.ttl);
        }
        Seconds::new((lease.max_expires_at - lease.created_at).num_seconds().max(1))
            .map_err(Error::internal)
    }

    async fn move_end(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<LoginTerms, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let Some(terms) = tx.lock_active_lease(id, now).await? else {
            drop(tx);
            return Err(self.lease_over(caller, id).await?);
        };
        match tx.move_lease_end(id, from, to).await {
            Err(store::error::Error::NotOneRow(_)) => {
                return Err(Error::Conflict {
                    code: "renewed_meanwhile",
                    detail: "somebody else renewed this lease just now: look at its new end"
                        .to_owned(),
                });
            }
            moved => moved?,
        }
        tx.move_login_end(terms.login_id, to).await?;
        tx.audit(&origin.entry(caller, now, Event::LeaseRenewed { lease_id: id, from, to }))
            .await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(terms)
    }

    async fn tell_target(
        &self,
        lease: &Lease,
        terms: &LoginTerms,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        let (target, handle) = self.handle(lease.target_id).await?;
        let oid =
            terms.role_oid.ok_or_else(|| Error::not_found("login", terms.role_name.to_string()))?;
        tokio::time::timeout(
            self.times.issue_deadline,
            handle.set_valid_until(&terms.role_name, oid, until),
        )
        .await
        .map_err(|_| Error::TimedOut {
            what: "moving the login's end on the target",
            lease: Some(lease.id),
        })?
        .map_err(|e| Error::target(target.spec.name.as_str(), Some(lease.id), e))
    }
}
