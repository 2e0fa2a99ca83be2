//! An emergency is opened with a sealed code, without a sign-in: nobody but our own database is asked who it is.
//! Answers to every wrong code are the same, in words and in time, whether or not there is such a person.

use crate::{
    app::{
        App, Origin,
        error::Error,
        issue::{Answer, Wish},
        requests::Outcome,
    },
    domain::{
        access::Asked,
        audit::{Actor, Event},
        lease::Lease,
        policy::{Approval, Refusal},
        principal::PrincipalName,
        profile::Preset,
    },
    identity::{
        Caller,
        code::{PresentedCode, VerifiedCode},
        token,
    },
    secret::Secret,
    store::issuing::Opened,
};

impl App {
    /// A lease for whoever has a sealed code, under a profile that the code opens. The code is used up once the lease
    /// is there.
    ///
    /// # Errors
    /// If it is not a good one, its source guessed too often, or the profile does not allow its person.
    pub async fn open_emergency(
        &self,
        origin: &Origin,
        (person, code): (&PrincipalName, &Secret<String>),
        asked: Asked,
    ) -> Result<Answer, Error> {
        let caller = self.sign_in_by_code(origin, person, code).await?;
        let profile = asked.profile.to_string();
        match self.ask(&caller, origin, asked, None).await? {
            Outcome::Issued(answer) => Ok(*answer),
            // What others must agree to is no emergency, and no code opens it.
            Outcome::Waits(_) => Err(Error::Refused { refusal: Refusal::NotByCode, profile }),
        }
    }

    /// Lets in whoever has a sealed code, for one lease.
    async fn sign_in_by_code(
        &self,
        origin: &Origin,
        person: &PrincipalName,
        code: &Secret<String>,
    ) -> Result<Caller, Error> {
        // Dropped before it is seen to be good, it counts as a failure.
        let attempt = self.may_try(origin).await?;
        let presented = PresentedCode::read(code.expose());
        let number = presented.as_ref().map_or(0, PresentedCode::number);
        let known = self.store.emergency_code(person, number).await?;
        let kept = known.as_ref().map(|known| (known.code.clone(), known.hash.as_str()));
        let verified = match VerifiedCode::check(&self.tokens, presented, kept).await {
            Err(token::Error::Busy) => {
                attempt.was_good();
                return Err(Error::Busy);
            }
            checked => checked?,
        };
        let (Some(verified), Some(known)) = (verified, known) else {
            return Err(self.refuse_code(origin, person, "wrong").await?);
        };
        let why = if known.disabled {
            Some("principal disabled")
        } else if known.code.ends_at <= self.clock.now() {
            Some("expired")
        } else if self.store.is_spent(verified.spent_as()).await? {
            Some("used before")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(self.refuse_code(origin, person, why).await?);
        }
        attempt.was_good();
        Ok(Caller::by_code(verified, known.principal))
    }

    pub(in crate::app) async fn refuse_code(
        &self,
        origin: &Origin,
        person: &PrincipalName,
        why: &str,
    ) -> Result<Error, Error> {
        self.metrics.token_refused("emergency code");
        let event =
            Event::EmergencyCodeRefused { principal: person.to_string(), why: why.to_owned() };
        self.record(origin.entry_by(Actor::Unknown, self.clock.now(), event)).await?;
        Ok(Error::CodeRefused)
    }

    /// What is recorded with the intent of a lease that is an emergency. A check is none: its credential stays here.
    pub(in crate::app) fn opened<'a>(
        &self,
        wish: &Wish<'a>,
        approval: &Approval,
        lease: &Lease,
    ) -> Option<Opened<'a>> {
        let is_one = wish.offer.profile.spec.preset == Preset::BreakGlass;
        if !is_one || approval.is_for_check() {
            return None;
        }
        let code = wish.caller.code().map(VerifiedCode::code);
        let event = Event::EmergencyOpened {
            lease_id: lease.id,
            profile: lease.profile.clone(),
            target: lease.target.clone(),
            database: lease.database.clone(),
            reason: lease.reason.clone(),
            ticket: lease.ticket.clone(),
            expires_at: lease.expires_at,
            code: code.map(|code| code.number),
        };
        let entry = wish.origin.entry(wish.caller, lease.created_at, event);
        Some(Opened { code, asker_makers: wish.caller.token_makers(), entry })
    }

    /// Says loudly that an emergency was opened: somebody should hear of it while it lasts.
    pub(in crate::app) fn tell_opened(&self, lease: &Lease) {
        tracing::warn!(
            lease.id = %lease.id,
            profile = %lease.profile,
            principal = %lease.principal,
            "an emergency is opened: somebody else looks at it, `pgvalet emergency show`"
        );
        self.metrics.glass_broken();
    }
}
