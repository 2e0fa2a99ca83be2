//! Agree to somebody else's request, or deny it.

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        access,
        approval::{self, NotTheirs},
        audit::{Event, RequestEvent},
        duration::Seconds,
        request::{Request, State, Verdict, Vote},
    },
    identity::Caller,
    ids::AccessRequestId,
    store::requests::Move,
};

/// What somebody agrees to.
#[derive(Debug, Clone, Default)]
pub struct Agreement {
    /// For no longer than this.
    pub ttl: Option<Seconds>,
    /// Why.
    pub comment: Option<String>,
}

/// What is said to a request is a few sentences.
const LONGEST_COMMENT: usize = 1000;

impl App {
    /// Agrees to a request. When enough did, it is approved, and may be claimed.
    ///
    /// # Errors
    /// If the caller may not decide about it, or somebody decided already.
    pub async fn approve(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: AccessRequestId,
        agreement: Agreement,
    ) -> Result<Request, Error> {
        let comment = checked_comment(agreement.comment)?;
        self.vote(caller, origin, id, (Verdict::Agreed, comment, agreement.ttl)).await
    }

    /// Denies a request: it is over.
    ///
    /// # Errors
    /// If the caller may not decide about it, or says nothing, or somebody decided already.
    pub async fn deny(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: AccessRequestId,
        comment: &str,
    ) -> Result<Request, Error> {
        let comment = checked_comment(Some(comment.to_owned()))?;
        if comment.is_none() {
            return Err(Error::invalid("comment", "say why, so that they know what to change"));
        }
        self.vote(caller, origin, id, (Verdict::Denied, comment, None)).await
    }

    async fn vote(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: AccessRequestId,
        (verdict, comment, ttl): (Verdict, Option<String>, Option<Seconds>),
    ) -> Result<Request, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        // Whoever is shut out meanwhile agrees to nothing. Held before the request is, as whoever shuts them out does.
        if !tx.hold_let_in(caller.principal().id).await? {
            return Err(Error::TokenRefused);
        }
        let locked = tx.lock_request(id).await?;
        let (is_there, what) = (locked.is_some(), what(verdict));
        let mut request = match self.seen_by(caller, id, locked) {
            // It is not said that it is there; but that they tried is on record.
            Err(error) if is_there => {
                drop(tx);
                return Err(self.refuse_with(caller, origin, id, (what, error)).await?);
            }
            seen => seen?,
        };
        let decider = caller.as_decider();
        let decided = approval::may_decide(&request, decider)
            .and_then(|step| Ok((step, decider.via.ok_or(NotTheirs::NotByThis)?)));
        let (step, via) = match decided {
            Ok(decided) => decided,
            Err(why) => {
                drop(tx);
                let error = Error::NotTheirsToDecide { why, state: request.state };
                return Err(self.refuse_with(caller, origin, id, (what, error)).await?);
            }
        };
        if let Some(ttl) = ttl {
            if ttl > request.length() {
                let message = format!("is longer than was asked for, {}", request.length());
                return Err(Error::invalid("ttl", message));
            }
            tx.shorten_request(id, ttl).await?;
            request.agreed = Some(ttl);
        }
        let principal = caller.principal();
        let vote = Vote {
            principal_id: principal.id,
            principal: principal.to_string(),
            step: i32::try_from(step).unwrap_or(i32::MAX),
            verdict,
            comment: comment.clone(),
            via,
            at: now,
            void_at: None,
        };
        tx.add_vote(id, &vote).await?;
        // In place of what they said before, if that is void.
        request.votes.retain(|before| before.principal_id != vote.principal_id);
        request.votes.push(vote);
        let event = if verdict == Verdict::Denied {
            tx.end_request(id, Move { from: State::Pending, to: State::Denied, at: now }).await?;
            let comment = comment.unwrap_or_default();
            RequestEvent::Denied { request_id: id, step, comment, via }
        } else if approval::open_step(&request).is_some() {
            let seconds = ttl.map(Seconds::get);
            RequestEvent::Agreed { request_id: id, step, comment, via, seconds }
        } else {
            let use_by = request.use_by(now);
            tx.approve_request(id, (now, use_by)).await?;
            let seconds = request.length().get();
            RequestEvent::Approved { request_id: id, step, comment, via, seconds, use_by }
        };
        tx.audit(&origin.entry(caller, now, Event::Request(event))).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.request(caller, id).await
    }
}

const fn what(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agreed => "approve",
        Verdict::Denied => "deny",
    }
}

fn checked_comment(comment: Option<String>) -> Result<Option<String>, Error> {
    let comment = access::filled(comment);
    match comment.as_deref().and_then(|text| access::text_fault(text, LONGEST_COMMENT)) {
        Some(message) => Err(Error::invalid("comment", message)),
        None => Ok(comment),
    }
}
