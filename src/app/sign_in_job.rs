//! CI jobs: from a token that their CI system signed to a caller, and what such a token may be used for.
//!
//! It is verified each time: that costs less than remembering whether it still holds. A token of an issuer that is
//! not ours costs one look into the record, and nobody is asked about it.

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        audit::{Actor, Event},
        ci::{IssuerSpec, system::cut},
    },
    identity::{
        Caller,
        issuers::Address,
        job::{self, Refused, VerifiedJob},
        jwt::{self, Unverified},
    },
    ids::LeaseId,
    store::{Tx, ci::KnownIssuer, issuing::Spent},
};

impl App {
    /// Lets the bearer of a job's token in.
    ///
    /// # Errors
    /// If it is not a good one, if its source guessed too often, or if our database or the issuer does not answer.
    pub(in crate::app) async fn sign_in_job(
        &self,
        text: &str,
        origin: &Origin,
    ) -> Result<Caller, Error> {
        let unverified = match Unverified::read(text) {
            Ok(unverified) => unverified,
            Err(fault) => return self.refuse_job(Refused::Token(fault), "", origin).await,
        };
        let issuer = &unverified.issuer;
        let Some(known) = self.store.issuer_of(issuer).await? else {
            let fault = jwt::Fault::Issuer(cut(issuer));
            return self.refuse_job(Refused::Token(fault), issuer, origin).await;
        };
        let keys = self.issuers.keys(&address(&known.spec), unverified.key_id.as_deref()).await;
        let keys = keys.map_err(Error::IssuerUnavailable)?;
        let rules = known.rules.iter().map(|(rule, _)| rule);
        match job::verify(text, &keys, &known.spec, rules, self.clock.now()) {
            Ok(job) => self.admit_job(text, job, &known, origin).await,
            Err(refused) => self.refuse_job(refused, issuer, origin).await,
        }
    }

    async fn admit_job(
        &self,
        text: &str,
        job: VerifiedJob,
        known: &KnownIssuer,
        origin: &Origin,
    ) -> Result<Caller, Error> {
        if let Some(review) = &known.spec.token_review {
            let rule = known.rules.iter().find(|(rule, _)| rule.name == *job.rule());
            let audience = rule.and_then(|(rule, _)| rule.audience(&known.spec));
            let audiences: Vec<String> = audience.into_iter().map(str::to_owned).collect();
            let reviewed = self.review(review, text, &audiences).await;
            if let Err(why) = reviewed.map_err(Error::IssuerUnavailable)? {
                let refused = Refused::NotThere(cut(&why));
                return self.refuse_job(refused, &known.spec.url, origin).await;
            }
        }
        let principal = known.rules.iter().find(|(rule, _)| rule.name == *job.rule());
        let Some((_, principal)) = principal else {
            return Err(Error::TokenRefused);
        };
        Ok(Caller::by_job(job, principal.clone()))
    }

    /// The caller hears nothing but that it is refused; the audit has the reason. A source that goes on so is
    /// told to wait, and writes nothing any more. Good tokens from there go on working.
    async fn refuse_job<T>(
        &self,
        refused: Refused,
        issuer: &str,
        origin: &Origin,
    ) -> Result<T, Error> {
        // Dropped unsettled, it counts as a failure.
        drop(self.may_try(origin).await?);
        self.metrics.token_refused(refused.word());
        let why = match issuer {
            "" => format!("a CI job's token: {refused}"),
            issuer => format!("a CI job's token of {}: {refused}", cut(issuer)),
        };
        let event = Event::TokenRefused { token_id: None, why };
        self.record(origin.entry_by(Actor::Unknown, self.clock.now(), event)).await?;
        Err(Error::TokenRefused)
    }

    /// What a job asks with may be too old for a credential, though it is good for looking at and ending those
    /// that it has.
    ///
    /// # Errors
    /// If it is.
    pub(in crate::app) fn check_fresh(&self, caller: &Caller) -> Result<(), Error> {
        match caller.job() {
            Some(job) if !job.may_ask(self.clock.now()) => Err(Error::TokenTooOld),
            _ => Ok(()),
        }
    }

    /// A job's token hands out one credential, and so does a sealed code: what is recorded with it.
    pub(in crate::app) fn spending(caller: &Caller) -> Option<Spent<'_>> {
        if let Some(verified) = caller.code() {
            return Some(Spent { hash: verified.spent_as(), ends_at: verified.code().ends_at });
        }
        let job = caller.job()?;
        Some(Spent { hash: job.token_hash(), ends_at: job.forgotten_at() })
    }

    /// Spends a job's token on another credential of a lease that is there.
    ///
    /// # Errors
    /// If it was spent before, or is too old.
    pub(in crate::app) async fn spend(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        lease: LeaseId,
    ) -> Result<(), Error> {
        self.check_fresh(caller)?;
        match Self::spending(caller) {
            Some(spent) if !tx.spend_token(spent, lease).await? => Err(Error::TokenSpent),
            _ => Ok(()),
        }
    }

    /// That this job's token, or this sealed code, was spent before, if it was. The audit hears of it: what is used
    /// twice may be in two hands.
    ///
    /// # Errors
    /// If our database does not answer.
    pub(in crate::app) async fn refuse_spent(
        &self,
        caller: &Caller,
        origin: &Origin,
    ) -> Result<Option<Error>, Error> {
        let Some(spent) = Self::spending(caller) else { return Ok(None) };
        if !self.store.is_spent(spent.hash).await? {
            return Ok(None);
        }
        let Some(job) = caller.job() else {
            let name = caller.principal().name();
            return Ok(Some(self.refuse_code(origin, &name, "used before").await?));
        };
        self.metrics.token_refused("spent");
        let why = format!("it was spent before, by {}", job.seen.job);
        let event = Event::TokenRefused { token_id: None, why };
        self.record(origin.entry(caller, self.clock.now(), event)).await?;
        Ok(Some(Error::TokenSpent))
    }

    /// Idempotency keys are a job's own: others under the same rule may think of the same.
    pub(in crate::app) fn own_key(caller: &Caller, key: &str) -> String {
        match caller.job() {
            Some(job) => format!("{} {key}", job.seen.job),
            None => key.to_owned(),
        }
    }
}

/// Where an issuer's keys are.
pub(in crate::app) fn address(issuer: &IssuerSpec) -> Address {
    Address { issuer: issuer.url.clone(), jwks_url: issuer.jwks_url.clone(), ca: issuer.ca.clone() }
}
