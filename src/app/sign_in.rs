//! Who is calling? Answers to every wrong token are the same, in words and in time.

use std::sync::Arc;

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        administration::Right,
        audit::{Actor, Event},
        session::Client,
    },
    identity::{
        Admin, Caller, Held, jwt,
        throttle::{Attempt, Turn},
        token::{self, Presented, Verified},
    },
    ids::TokenId,
    store::tokens::KnownToken,
};

/// A session of a browser is taken from a cookie alone, and nothing else is: what a page could be led to send
/// by itself is of no use as a token, and the other way round.
fn is_taken_from(client: Client, token: &KnownToken) -> bool {
    match client {
        Client::Browser => token.client == Some(Client::Browser),
        Client::CommandLine => token.client != Some(Client::Browser),
    }
}

impl App {
    /// Lets the bearer of a token in.
    ///
    /// # Errors
    /// If it is not a good one, if its source guessed too often, or if our database does not answer.
    pub async fn sign_in(&self, bearer: Option<&str>, origin: &Origin) -> Result<Caller, Error> {
        let text = bearer.ok_or(Error::TokenMissing)?;
        if jwt::is_like_one(text) {
            return self.sign_in_job(text, origin).await;
        }
        self.sign_in_as(Client::CommandLine, text, origin).await
    }

    /// Lets a browser in by its cookie.
    ///
    /// # Errors
    /// As [`App::sign_in`].
    pub async fn sign_in_by_cookie(&self, cookie: &str, origin: &Origin) -> Result<Caller, Error> {
        self.sign_in_as(Client::Browser, cookie, origin).await
    }

    async fn sign_in_as(
        &self,
        client: Client,
        text: &str,
        origin: &Origin,
    ) -> Result<Caller, Error> {
        let presented = Presented::read(text);
        let claimed = presented.as_ref().map(Presented::id);
        let recalled = presented.as_ref().and_then(|presented| self.tokens.recall(presented));
        let verified = match recalled {
            Some(verified) => Some(verified),
            None => self.verify_slowly(presented, origin).await?,
        };
        // Read now, not before the secret was checked: it may have been revoked meanwhile.
        let known = match claimed {
            Some(id) => self.store.token(id).await?,
            None => None,
        };
        match (verified, known) {
            (Some(verified), Some(known)) if !is_taken_from(client, &known) => {
                self.refuse_token(Some(verified.token_id()), "for another client", origin).await
            }
            (Some(verified), Some(known)) => self.admit(verified, known, origin).await,
            (_, known) => {
                let why = if known.is_some() { "wrong secret" } else { "no such token" };
                self.refuse_token(claimed, why, origin).await
            }
        }
    }

    /// One of these rights, for what is named. A caller without it is refused, and the refusal audited.
    ///
    /// # Errors
    /// If the caller holds none of them, or our database does not answer.
    pub async fn admin<'a>(
        &self,
        caller: &'a Caller,
        origin: &Origin,
        (rights, what): (&[Right], &'static str),
    ) -> Result<Admin<'a>, Error> {
        if let Some(admin) = rights.iter().find_map(|right| caller.holding(*right)) {
            return Ok(admin);
        }
        let refusal = Error::Forbidden { what, rights: rights.to_vec() };
        let event = Event::AccessRefused { what: what.to_owned(), code: refusal.code().to_owned() };
        self.record(origin.entry(caller, self.clock.now(), event)).await?;
        Err(refusal)
    }

    /// A try of this source's, before it costs anything: it counts as a failure unless it is seen to be good.
    ///
    /// # Errors
    /// If the source failed too often, or tries too much at once.
    pub(in crate::app) async fn may_try(&self, origin: &Origin) -> Result<Attempt<'_>, Error> {
        let now = self.clock.now();
        match self.throttle.begin(origin.source, now) {
            Turn::Try(attempt) => Ok(attempt),
            Turn::TooManyOpen => Err(Error::Busy),
            Turn::MustWait { seconds, first } => {
                self.metrics.token_refused("throttled");
                if first {
                    self.metrics.source_throttled();
                    let failures_per_minute = self.throttle.failures_per_minute();
                    let event = Event::SourceThrottled { failures_per_minute };
                    self.record(origin.entry_by(Actor::Unknown, now, event)).await?;
                }
                Err(Error::Throttled { retry_after_seconds: seconds })
            }
        }
    }

    /// Checks a secret that was not seen before. The try counts as a failure from before it costs
    /// anything until it is seen to be good: so a source that asks often at once, or hangs up before
    /// the answer, gains nothing.
    async fn verify_slowly(
        &self,
        presented: Option<Presented>,
        origin: &Origin,
    ) -> Result<Option<Verified>, Error> {
        let attempt = self.may_try(origin).await?;
        let known = match &presented {
            Some(presented) => self.store.token(presented.id()).await?,
            None => None,
        };
        let hash = known.as_ref().map(|known| known.hash.as_str());
        match self.tokens.verify(presented, hash).await {
            Ok(None) => Ok(None),
            Ok(verified) => {
                // The right secret of a token that is over is refused in the end, and counts.
                if known.is_some_and(|known| !known.revoked && !known.disabled) {
                    attempt.was_good();
                }
                Ok(verified)
            }
            Err(token::Error::Busy) => {
                attempt.was_good();
                Err(Error::Busy)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The secret was right: does the token still hold?
    async fn admit(
        &self,
        verified: Verified,
        known: Arc<KnownToken>,
        origin: &Origin,
    ) -> Result<Caller, Error> {
        let now = self.clock.now();
        let id = verified.token_id();
        let over = known.expires_at.is_some_and(|end| end <= now);
        let last_used = known.last_used_at.unwrap_or(known.created_at);
        let idle = known.idle.is_some_and(|idle| last_used + idle <= now);
        let why = match (known.revoked, known.disabled, over || idle) {
            (true, _, _) => Some("revoked"),
            (_, true, _) => Some("principal disabled"),
            (_, _, true) => Some("expired"),
            (false, false, false) => None,
        };
        if let Some(why) = why {
            self.tokens.forget(id);
            return self.refuse_token(Some(id), why, origin).await;
        }
        // To the minute is enough to find unused tokens, and spares a write on each request.
        if known.last_used_at.is_none_or(|used| now - used >= chrono::TimeDelta::minutes(1)) {
            self.store.note_token_used(id, now).await?;
        }
        let rights = (&known.administration, &known.scopes);
        let held = Held {
            expires_at: known.expires_at,
            session: known.client,
            makers: known.makers.clone(),
        };
        Ok(Caller::by_token(verified, known.principal.clone(), held, rights))
    }

    async fn refuse_token(
        &self,
        token_id: Option<TokenId>,
        why: &str,
        origin: &Origin,
    ) -> Result<Caller, Error> {
        self.metrics.token_refused(why);
        let event = Event::TokenRefused { token_id, why: why.to_owned() };
        self.record(origin.entry_by(Actor::Unknown, self.clock.now(), event)).await?;
        Err(Error::TokenRefused)
    }
}
