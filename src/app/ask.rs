//! Ask for access: decide, then issue. Every refusal is an event.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

use crate::{
    app::{
        App, Origin,
        error::Error,
        issue::{Answer, Wish},
        offers::Offer,
    },
    domain::{
        access::Asked,
        audit::Event,
        name::Name,
        policy::{self, Approval, Decision, Refusal},
        profile::Profile,
    },
    identity::Caller,
    telemetry::labels::{IssueStep, Ruling},
};

/// Nothing takes the place of what the templates of a profile make.
static NO_CLAIMS: BTreeMap<String, String> = BTreeMap::new();

impl App {
    /// A lease, or why not.
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
    ) -> Result<Answer, Error> {
        let asking = Box::pin(self.decide_and_issue(caller, origin, asked, idempotency_key));
        self.metrics.issuing(IssueStep::Total, asking).await
    }

    async fn decide_and_issue(
        &self,
        caller: &Caller,
        origin: &Origin,
        asked: Asked,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, Error> {
        let request_hash = hash_of(&asked);
        if let Some(key) = idempotency_key
            && let Some(answer) = self.answered_before(caller, key, &request_hash).await?
        {
            return Ok(answer);
        }
        let key = idempotency_key.map(|key| (key, request_hash.as_slice()));
        // What was read before will do to say yes: the record takes no intent that was decided on
        // anything but what holds now. A no is only said on what was read for this very request.
        if let Some(offer) = self.offers.of(&asked.profile)
            && let Decision::Allow(approval) = ruling(caller, &asked, &offer.profile)
        {
            let wish =
                Wish { caller, origin, asked: &asked, offer: &offer, key, claims: &NO_CLAIMS };
            if let Some(answer) = self.issue(approval, wish).await? {
                self.metrics.decided(Ruling::Allowed);
                return Ok(answer);
            }
        }
        self.offers.forget(&asked.profile);
        let deciding = self.decide(caller, origin, &asked);
        let (approval, mut profile) = self.metrics.issuing(IssueStep::Decide, deciding).await?;
        let (target, handle) = self.handle(profile.target_id).await?;
        self.prepare_if_needed(origin, Some(caller), &mut profile, &handle).await?;
        let offer = Offer { profile, target };
        let wish = Wish { caller, origin, asked: &asked, offer: &offer, key, claims: &NO_CLAIMS };
        let answer = self.issue(approval, wish).await?;
        let answer = answer.ok_or_else(|| profile_changed(&asked.profile))?;
        self.offers.keep(offer);
        Ok(answer)
    }

    async fn decide(
        &self,
        caller: &Caller,
        origin: &Origin,
        asked: &Asked,
    ) -> Result<(Approval, Profile), Error> {
        let profile = self.profile_to_ask_for(caller, asked).await?;
        match ruling(caller, asked, &profile) {
            Decision::Allow(approval) => {
                self.metrics.decided(Ruling::Allowed);
                Ok((approval, profile))
            }
            Decision::Refuse(refusal) => {
                self.metrics.decided(match refusal {
                    Refusal::NoRule { .. } => Ruling::NoRule,
                    Refusal::ReasonNeeded => Ruling::ReasonRequired,
                    Refusal::ClaimMissing(_) => Ruling::ClaimMissing,
                    Refusal::ChecksFailed(_) => Ruling::ChecksFailed,
                });
                Err(self.refuse(caller, origin, &asked.profile, refusal).await?)
            }
        }
    }

    /// The answer to the first request with this key, less the credential, which is handed out once.
    pub(in crate::app) async fn answered_before(
        &self,
        caller: &Caller,
        key: &str,
        request_hash: &[u8],
    ) -> Result<Option<Answer>, Error> {
        let Some((hash, lease_id)) = self.store.answered_before(caller.principal().id, key).await?
        else {
            return Ok(None);
        };
        if hash != request_hash {
            return Err(Error::KeyReused);
        }
        let lease = self.lease(caller, lease_id).await?;
        match (lease.state, lease.cause) {
            (crate::domain::lease::State::Provisioning, _) => Err(Error::StillInProgress),
            // The first try came to nothing, so this one is a new try, under the same key.
            (_, Some(crate::domain::lease::Cause::Failed)) => Ok(None),
            _ => Ok(Some(Answer { lease, ttl: None, credential: None })),
        }
    }

    async fn profile_to_ask_for(&self, caller: &Caller, asked: &Asked) -> Result<Profile, Error> {
        if let Some(profile) = self.store.profile(&asked.profile).await? {
            return Ok(profile);
        }
        // Only names that the caller may see anyway are offered.
        self.profile(caller, &asked.profile).await
    }

    pub(in crate::app) async fn refuse(
        &self,
        caller: &Caller,
        origin: &Origin,
        profile: &Name,
        refusal: Refusal,
    ) -> Result<Error, Error> {
        let error = Error::Refused { refusal, profile: profile.to_string() };
        let event = Event::LeaseRefused {
            profile: profile.to_string(),
            code: error.code().to_owned(),
            why: error.detail(),
        };
        let mut tx = self.store.begin().await?;
        tx.audit(&origin.entry(caller, self.clock.now(), event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(error)
    }
}

#[tracing::instrument(target = "pgvalet::trace", name = "decide", skip_all)]
fn ruling(caller: &Caller, asked: &Asked, profile: &Profile) -> Decision {
    policy::decide(asked, caller.principal(), profile)
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
