//! Fetch what others agreed to: the lease, whose clock starts now, or a later end of one. Once.

use crate::{
    app::{
        App, Origin,
        ask::profile_changed,
        error::Error,
        issue::{Answer, NO_CLAIMS, Wish},
        renew::Renewed,
    },
    domain::{
        access::Asked,
        approval,
        policy::{self, Circumstances, Decision, Wanted},
        profile::Profile,
        request::{Request, Vote},
    },
    identity::Caller,
    ids::AccessRequestId,
    telemetry::labels::IssueStep,
};

/// What was fetched.
pub enum Claimed {
    /// The lease.
    Issued(Box<Answer>),
    /// A lease that lasts longer.
    Renewed(Box<Renewed>),
}

impl App {
    /// Fetches what others agreed to. Whoever asked must still be eligible, and it must be what was agreed to.
    ///
    /// # Errors
    /// If it was not agreed to, or not this, or not any more; or if the lease cannot be made: then it may be
    /// fetched again until its time is over.
    pub async fn claim(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: AccessRequestId,
        wanted: Wanted,
    ) -> Result<Claimed, Error> {
        let request = self.own_request(caller, origin, id, "claim").await?;
        if !caller.may_ask() {
            let refusal = policy::Refusal::NotForAsking;
            let error = Error::Refused { refusal, profile: request.profile };
            return Err(self.refuse_with(caller, origin, id, ("claim", error)).await?);
        }
        self.refuse_lent(caller, origin, &request, "claim").await?;
        if request.extends.is_some() {
            let renewed = self.claim_extension(caller, origin, &request, &wanted).await?;
            return Ok(Claimed::Renewed(Box::new(renewed)));
        }
        let issuing = Box::pin(self.claim_lease(caller, origin, &request, &wanted));
        let answer = self.metrics.issuing(IssueStep::Total, issuing).await?;
        Ok(Claimed::Issued(Box::new(answer)))
    }

    /// Whoever agreed to it is not given what came of it, by a token that they made for whoever asked.
    pub(in crate::app) async fn refuse_lent(
        &self,
        caller: &Caller,
        origin: &Origin,
        request: &Request,
        what: &str,
    ) -> Result<(), Error> {
        let Some(Vote { principal, .. }) = approval::lent_by(request, caller.token_makers()) else {
            return Ok(());
        };
        let why = format!("{principal} agreed to it, and made the token that you came with");
        let refusal = policy::Refusal::NotAsAgreed(why);
        let error = Error::Refused { refusal, profile: request.profile.clone() };
        Err(self.refuse_with(caller, origin, request.id, (what, error)).await?)
    }

    async fn claim_lease(
        &self,
        caller: &Caller,
        origin: &Origin,
        request: &Request,
        wanted: &Wanted,
    ) -> Result<Answer, Error> {
        let (approval, profile) = self.decide_claim(caller, origin, request, wanted).await?;
        let offer = self.offer(origin, caller, profile).await?;
        let asked = Asked {
            profile: offer.profile.spec.name.clone(),
            ttl: wanted.ttl,
            tool: request.tool.parse().map_err(Error::internal)?,
            reason: request.reason.clone(),
            ticket: request.ticket.clone(),
            start_at: None,
        };
        let wish =
            Wish { caller, origin, asked: &asked, offer: &offer, key: None, claims: &NO_CLAIMS };
        if let Some(answer) = self.issue(approval, wish).await? {
            return Ok(answer);
        }
        // Not recorded: somebody else was first, or a limit is reached, or the profile was changed just now.
        let now = self.store.request(request.id).await?.map(|request| request.at(self.clock.now()));
        match now {
            Some(now) if now.state != request.state => {
                Err(self.refuse_over(caller, origin, &now, now.state, "claim").await?)
            }
            _ => Err(self.why_not_recorded(caller, origin, &asked, &offer).await?),
        }
    }

    /// May what was agreed to be used now, as it is wanted?
    pub(in crate::app) async fn decide_claim(
        &self,
        caller: &Caller,
        origin: &Origin,
        request: &Request,
        wanted: &Wanted,
    ) -> Result<(policy::Approval, Profile), Error> {
        let name = request.profile.parse().map_err(Error::internal)?;
        let Some(profile) = self.store.profile(&name).await? else {
            return Err(Error::not_found("profile", request.profile.clone()));
        };
        let of = Circumstances {
            principal: caller.principal(),
            source: origin.source,
            now: self.clock.now(),
        };
        match policy::decide_claim(request, wanted, of, &profile) {
            Decision::Allow(approval) => Ok((approval, profile)),
            Decision::NeedsAgreement(_) => Err(profile_changed(&name)),
            Decision::Refuse(refusal, _) => {
                let error = Error::Refused { refusal, profile: request.profile.clone() };
                Err(self.refuse_with(caller, origin, request.id, ("claim", error)).await?)
            }
        }
    }
}
