//! Ask for access: decide, then issue, or record the request that others must agree to. Every refusal is an event.

use aws_lc_rs::digest;

use crate::{
    app::{
        App, Origin,
        error::Error,
        issue::{Answer, NO_CLAIMS, Wish},
        offers::Offer,
        requests::{Needing, Outcome},
    },
    domain::{
        access::Asked,
        audit::Event,
        name::Name,
        policy::{self, Approval, Circumstances, Condition, Decision, Finding, Refusal, Wanting},
        profile::Profile,
    },
    identity::Caller,
    store::idempotency::Before,
    telemetry::labels::{IssueStep, Ruling},
};

/// What was decided of a wish.
enum Decided {
    Allowed(Approval),
    NeedsAgreement(Wanting),
}

impl App {
    /// A lease, or what waits for others to agree, or why not.
    ///
    /// # Errors
    /// If the policy says no, the target refuses or does not answer, or our database does not. What
    /// was begun is taken back by the loop that ends leases.
    pub async fn ask(
        &self,
        caller: &Caller,
        origin: &Origin,
        asked: Asked,
        idempotency_key: Option<&str>,
    ) -> Result<Outcome, Error> {
        let asking = Box::pin(self.decide_and_issue(caller, origin, asked, idempotency_key));
        self.metrics.issuing(IssueStep::Total, asking).await
    }

    async fn decide_and_issue(
        &self,
        caller: &Caller,
        origin: &Origin,
        asked: Asked,
        idempotency_key: Option<&str>,
    ) -> Result<Outcome, Error> {
        let request_hash = hash_of(&asked);
        let idempotency_key = idempotency_key.map(|key| Self::own_key(caller, key));
        let idempotency_key = idempotency_key.as_deref();
        if let Some(key) = idempotency_key
            && let Some(outcome) = self.answered_before(caller, key, &request_hash).await?
        {
            return Ok(outcome);
        }
        let key = idempotency_key.map(|key| (key, request_hash.as_slice()));
        // What was read before will do to say yes: the record takes no intent that was decided on
        // anything but what holds now. A no is only said on what was read for this very request, and so is what
        // becomes of a wish for later.
        if !caller.may_ask() {
            return Err(self
                .refuse(caller, origin, &asked.profile, Refusal::NotForAsking, &[])
                .await?);
        }
        self.check_fresh(caller)?;
        if asked.start_at.is_none()
            && let Some(offer) = self.offers.of(&asked.profile)
            && let Decision::Allow(approval) = self.ruling(caller, origin, &asked, &offer.profile)
        {
            let wish =
                Wish { caller, origin, asked: &asked, offer: &offer, key, claims: &NO_CLAIMS };
            if let Some(answer) = self.issue(approval, wish).await? {
                self.metrics.decided(Ruling::Allowed);
                return Ok(Outcome::Issued(Box::new(answer)));
            }
        }
        self.offers.forget(&asked.profile);
        let deciding = self.decide(caller, origin, &asked);
        let (decided, profile) = self.metrics.issuing(IssueStep::Decide, deciding).await?;
        let approval = match decided {
            Decided::Allowed(approval) => approval,
            Decided::NeedsAgreement(wanting) => {
                return self
                    .wait_for_agreement(caller, origin, (&asked, wanting, &profile), key)
                    .await;
            }
        };
        let offer = self.offer(origin, caller, profile).await?;
        let wish = Wish { caller, origin, asked: &asked, offer: &offer, key, claims: &NO_CLAIMS };
        let Some(answer) = self.issue(approval, wish).await? else {
            return Err(self.why_not_recorded(caller, origin, &asked, &offer).await?);
        };
        self.offers.keep(offer);
        Ok(Outcome::Issued(Box::new(answer)))
    }

    async fn wait_for_agreement(
        &self,
        caller: &Caller,
        origin: &Origin,
        (asked, wanting, profile): (&Asked, Wanting, &Profile),
        key: Option<(&str, &[u8])>,
    ) -> Result<Outcome, Error> {
        let target = self.store.target(profile.target_id).await?;
        let target =
            target.ok_or_else(|| Error::not_found("target", profile.spec.target.as_str()))?;
        let needing = Needing { asked, wanting, profile, target: &target, extends: None, key };
        if let Some(request) = self.request_agreement(caller, origin, needing).await? {
            return Ok(Outcome::Waits(Box::new(request)));
        }
        let before = match key {
            Some((key, hash)) => self.answered_before(caller, key, hash).await?,
            None => None,
        };
        before.ok_or(Error::StillInProgress)
    }

    /// An intent was not recorded: a limit is reached, or the profile was changed in this moment.
    pub(in crate::app) async fn why_not_recorded(
        &self,
        caller: &Caller,
        origin: &Origin,
        asked: &Asked,
        offer: &Offer,
    ) -> Result<Error, Error> {
        if let Some(error) = self.refuse_spent(caller, origin).await? {
            return Ok(error);
        }
        let Some(reached) = self.limit_reached(caller.principal().id, offer).await? else {
            return Ok(profile_changed(&asked.profile));
        };
        self.metrics.decided(Ruling::Limit);
        let why = format!("{} of {} are there", reached.most, reached.limit.as_str());
        let finding = Finding { condition: Condition::Limits, holds: false, why };
        self.refuse(caller, origin, &asked.profile, Refusal::Limit(reached), &[finding]).await
    }

    async fn decide(
        &self,
        caller: &Caller,
        origin: &Origin,
        asked: &Asked,
    ) -> Result<(Decided, Profile), Error> {
        let profile = self.profile_to_ask_for(caller, asked).await?;
        match self.ruling(caller, origin, asked, &profile) {
            Decision::Allow(_) if asked.start_at.is_some() => {
                let message = "is for what others must agree to: ask when it is time";
                Err(Error::invalid("start_at", message))
            }
            Decision::Allow(approval) => {
                self.metrics.decided(Ruling::Allowed);
                Ok((Decided::Allowed(approval), profile))
            }
            Decision::NeedsAgreement(wanting) => {
                self.metrics.decided(Ruling::NeedsAgreement);
                Ok((Decided::NeedsAgreement(wanting), profile))
            }
            Decision::Refuse(refusal, trace) => {
                self.metrics.decided(match refusal {
                    Refusal::NoRule { .. } => Ruling::NoRule,
                    Refusal::Network(_) => Ruling::Network,
                    Refusal::Hours(_) => Ruling::Hours,
                    Refusal::Limit(_) => Ruling::Limit,
                    Refusal::NotForAsking | Refusal::NotByCode => Ruling::NotForAsking,
                    Refusal::ReasonNeeded | Refusal::TicketNeeded => Ruling::ReasonRequired,
                    Refusal::NotAsAgreed(_) | Refusal::RequestOver(_) | Refusal::TooEarly(_) => {
                        Ruling::NeedsAgreement
                    }
                    Refusal::ClaimMissing(_) => Ruling::ClaimMissing,
                    Refusal::ChecksFailed(_) => Ruling::ChecksFailed,
                    Refusal::RemovedByReview => Ruling::RemovedByReview,
                });
                Err(self.refuse(caller, origin, &asked.profile, refusal, &trace).await?)
            }
        }
    }

    /// The answer to the first request with this key, less the credential, which is handed out once.
    pub(in crate::app) async fn answered_before(
        &self,
        caller: &Caller,
        key: &str,
        request_hash: &[u8],
    ) -> Result<Option<Outcome>, Error> {
        let Some((hash, before)) = self.store.answered_before(caller.principal().id, key).await?
        else {
            return Ok(None);
        };
        if hash != request_hash {
            return Err(Error::KeyReused);
        }
        let lease_id = match before {
            Before::Lease(id) => id,
            Before::Request(id) => {
                return Ok(Some(Outcome::Waits(Box::new(self.request(caller, id).await?))));
            }
        };
        let lease = self.lease(caller, lease_id).await?;
        match (lease.state, lease.cause) {
            (crate::domain::lease::State::Provisioning, _) => Err(Error::StillInProgress),
            // The first try came to nothing, so this one is a new try, under the same key.
            (_, Some(crate::domain::lease::Cause::Failed)) => Ok(None),
            _ => Ok(Some(Outcome::Issued(Box::new(Answer { lease, ttl: None, credential: None })))),
        }
    }

    async fn profile_to_ask_for(&self, caller: &Caller, asked: &Asked) -> Result<Profile, Error> {
        if let Some(profile) = self.store.profile(&asked.profile).await? {
            return Ok(profile);
        }
        // Only names that the caller may see anyway are offered.
        self.profile(caller, &asked.profile).await
    }

    #[tracing::instrument(target = "pgvalet::trace", name = "decide", skip_all)]
    fn ruling(
        &self,
        caller: &Caller,
        origin: &Origin,
        asked: &Asked,
        profile: &Profile,
    ) -> Decision {
        let (principal, source) = (caller.principal(), origin.source);
        let of = Circumstances { principal, source, now: self.clock.now() };
        if caller.code().is_some_and(|verified| !verified.code().opens(&profile.spec)) {
            return Decision::Refuse(Refusal::NotByCode, Vec::new());
        }
        policy::decide(asked, of, profile)
    }

    pub(in crate::app) async fn refuse(
        &self,
        caller: &Caller,
        origin: &Origin,
        profile: &Name,
        refusal: Refusal,
        trace: &[Finding],
    ) -> Result<Error, Error> {
        let error = Error::Refused { refusal, profile: profile.to_string() };
        let event = Event::LeaseRefused {
            profile: profile.to_string(),
            code: error.code().to_owned(),
            why: error.detail(),
            trace: trace.to_vec(),
        };
        self.record(origin.entry(caller, self.clock.now(), event)).await?;
        Ok(error)
    }
}

pub(in crate::app) fn profile_changed(name: &Name) -> Error {
    let detail = format!("profile `{name}` was changed just now: ask again");
    Error::Conflict { code: "profile_changed", detail }
}

/// What makes two requests with one key the same.
fn hash_of(asked: &Asked) -> Vec<u8> {
    let text = format!("{asked:?}");
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}
