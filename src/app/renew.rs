//! Make a live lease last longer, within its profile's `max_ttl`.
//!
//! The record is moved first: if the target then cannot be told, the login stops earlier than
//! recorded, which is the safe side, and the record is moved back.

use chrono::{DateTime, Utc};

use crate::{
    app::{App, Origin, error::Error, requests::Needing},
    domain::{
        access::Asked,
        approval::Needs,
        audit::{Event, RequestEvent},
        duration::Seconds,
        lease::{self, Cause, Lease, State, TtlRule},
        policy::{self, Wanted, Wanting},
        profile::Profile,
        request::Request,
    },
    identity::Caller,
    ids::{AccessRequestId, LeaseId},
    store::{self, leases::LoginTerms},
    telemetry::labels::RenewStep,
};

/// What comes of a wish that a lease lasts longer.
#[derive(Debug)]
pub enum Renewal {
    /// It does.
    Renewed(Box<Renewed>),
    /// Others must agree first.
    Waits(Box<Request>),
}

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

/// Did others agree that a lease lasts longer?
#[derive(Debug, Clone, Copy)]
enum Agreed {
    /// Nobody had to.
    ToNothing,
    /// They did, to this request.
    To(AccessRequestId),
    /// They did, and it came to nothing: it is theirs to use again.
    InVain(AccessRequestId),
}

impl Agreed {
    const fn in_vain(self) -> Self {
        match self {
            Self::To(request) => Self::InVain(request),
            other => other,
        }
    }
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
    ) -> Result<Renewal, Error> {
        let renewing = Box::pin(self.renew_lease(caller, origin, id, ttl));
        self.metrics.renewing(RenewStep::Total, renewing).await
    }

    async fn renew_lease(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
        ttl: Option<Seconds>,
    ) -> Result<Renewal, Error> {
        let before = self.lease_to_change(caller, origin, id).await?;
        if before.state != State::Active {
            return Err(Error::LeaseOver { state: before.state, cause: before.cause });
        }
        let profile = self.check_still_allowed(caller, origin, &before).await?;
        let length = ttl.unwrap_or(profile.spec.ttl);
        if let Some(needs) = &profile.spec.conditions.approval {
            let request =
                self.request_extension(caller, origin, (&before, length), (&profile, needs));
            return Ok(Renewal::Waits(Box::new(request.await?)));
        }
        let renewed = self.renew_by(caller, origin, (before, length), Agreed::ToNothing).await?;
        Ok(Renewal::Renewed(Box::new(renewed)))
    }

    /// Asks that a lease lasts longer, under a profile for which others must agree.
    async fn request_extension(
        &self,
        caller: &Caller,
        origin: &Origin,
        (lease, length): (&Lease, Seconds),
        (profile, needs): (&Profile, &Needs),
    ) -> Result<Request, Error> {
        if lease.principal_id != caller.principal().id {
            let detail = "others must agree before it lasts longer: whoever has it asks for that";
            return Err(Error::Conflict { code: "needs_agreement", detail: detail.to_owned() });
        }
        let now = self.clock.now();
        if let lease::Renewal::Exhausted { max_expires_at } =
            lease::renew(lease.expires_at, lease.max_expires_at, length, now)
        {
            return Err(Error::RenewalExhausted { max_expires_at });
        }
        let target = self.store.target(profile.target_id).await?;
        let target = target.ok_or_else(|| Error::not_found("target", lease.target.clone()))?;
        let asked = Asked {
            profile: profile.spec.name.clone(),
            ttl: Some(length),
            tool: lease.tool.parse().map_err(Error::internal)?,
            reason: lease.reason.clone(),
            ticket: lease.ticket.clone(),
            start_at: None,
        };
        let granted = lease::grant_ttl(Some(length), profile.spec.ttl, profile.spec.max_ttl);
        let wanting = Wanting { needs: needs.clone(), granted, trace: Vec::new() };
        let extends = Some(lease);
        let needing =
            Needing { asked: &asked, wanting, profile, target: &target, extends, key: None };
        let request = self.request_agreement(caller, origin, needing).await?;
        request.ok_or(Error::StillInProgress)
    }

    /// Makes a lease last longer as others agreed to.
    pub(in crate::app) async fn claim_extension(
        &self,
        caller: &Caller,
        origin: &Origin,
        request: &Request,
        wanted: &Wanted,
    ) -> Result<Renewed, Error> {
        let (approval, _) = self.decide_claim(caller, origin, request, wanted).await?;
        let id = request.extends.ok_or_else(|| Error::not_found("lease", String::new()))?;
        let before = self.lease(caller, id).await?;
        if before.state != State::Active {
            return Err(Error::LeaseOver { state: before.state, cause: before.cause });
        }
        let length = approval.granted().granted;
        self.renew_by(caller, origin, (before, length), Agreed::To(request.id)).await
    }

    async fn renew_by(
        &self,
        caller: &Caller,
        origin: &Origin,
        (before, length): (Lease, Seconds),
        agreed: Agreed,
    ) -> Result<Renewed, Error> {
        let (id, now) = (before.id, self.clock.now());
        let (to, rule) = match lease::renew(before.expires_at, before.max_expires_at, length, now) {
            lease::Renewal::Until { expires_at, rule } => (expires_at, rule),
            lease::Renewal::Exhausted { max_expires_at } => {
                return Err(Error::RenewalExhausted { max_expires_at });
            }
        };
        let because = match rule {
            TtlRule::ProfileMaxTtl => {
                format!("the profile's max_ttl ends it at {}", to.format("%Y-%m-%d %H:%M:%S UTC"))
            }
            TtlRule::Asked
            | TtlRule::ProfileTtl
            | TtlRule::StandingRole
            | TtlRule::Agreed
            | TtlRule::Review => format!("{length} from now"),
        };

        let recording = self.move_end(caller, origin, id, (before.expires_at, to, agreed));
        let terms = self.metrics.renewing(RenewStep::Record, recording).await?;
        let telling = self.tell_target(&before, &terms, to);
        if let Err(error) = self.metrics.renewing(RenewStep::Target, telling).await {
            self.move_end(caller, origin, id, (to, before.expires_at, agreed.in_vain())).await?;
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

    async fn move_end(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: LeaseId,
        (from, to, agreed): (DateTime<Utc>, DateTime<Utc>, Agreed),
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
        match agreed {
            Agreed::ToNothing => {}
            Agreed::To(request_id) => {
                match tx.claim_extension(request_id, now).await {
                    Err(store::error::Error::NotOneRow(_)) => {
                        let detail = "what was agreed to is used up, or its time is over";
                        let code = "request_over";
                        return Err(Error::Conflict { code, detail: detail.to_owned() });
                    }
                    claimed => claimed?,
                }
                let event = RequestEvent::Claimed { request_id, lease_id: id };
                tx.audit(&origin.entry(caller, now, Event::Request(event))).await?;
            }
            Agreed::InVain(request_id) => tx.give_extension_back(request_id).await?,
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
