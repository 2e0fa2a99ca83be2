//! Requests that others must agree to: recorded when somebody asks, shown, and over when their time is.
//!
//! What happens to a request is recorded in one transaction that holds its row, so that one of several who decide,
//! withdraw and claim at the same instant is first, and the others hear what it became.

mod claim;
mod decide;

use chrono::{DateTime, Utc};

pub use self::{claim::Claimed, decide::Agreement};
use crate::{
    app::{App, Author, Origin, error::Error, issue::Answer},
    domain::{
        access::Asked,
        administration::Right,
        approval,
        audit::{Event, RequestEvent},
        lease::Lease,
        policy::Wanting,
        principal::Principal,
        profile::Profile,
        request::{FURTHEST_START, MOST_OPEN, Request, State},
        target::Target,
    },
    identity::Caller,
    ids::AccessRequestId,
    store::{
        self, Tx,
        requests::{Move, RequestFilter},
    },
};

/// What comes of a wish for a lease.
pub enum Outcome {
    /// The lease.
    Issued(Box<Answer>),
    /// Others must agree first.
    Waits(Box<Request>),
}

/// Which requests are meant.
#[derive(Debug, Clone, Default)]
pub struct Wished {
    /// The caller's own.
    pub own: bool,
    /// Those that the caller may agree to now.
    pub to_decide: bool,
    /// Those in one of these states.
    pub states: Option<Vec<State>>,
    /// Those for this profile.
    pub profile: Option<String>,
}

/// What is asked for, of whom: a new lease, or that one lasts longer.
pub(in crate::app) struct Needing<'a> {
    pub(in crate::app) asked: &'a Asked,
    pub(in crate::app) wanting: Wanting,
    pub(in crate::app) profile: &'a Profile,
    pub(in crate::app) target: &'a Target,
    pub(in crate::app) extends: Option<&'a Lease>,
    pub(in crate::app) key: Option<(&'a str, &'a [u8])>,
}

/// Requests that are looked at in one pass.
const BATCH: i64 = 100;

impl App {
    /// Records a request that others must agree to, unless the same is open already; none if its key belongs to
    /// another by now.
    pub(in crate::app) async fn request_agreement(
        &self,
        caller: &Caller,
        origin: &Origin,
        needing: Needing<'_>,
    ) -> Result<Option<Request>, Error> {
        if caller.job().is_some() {
            return Err(Error::NotForJobs { what: "waiting for somebody's agreement" });
        }
        let now = self.clock.now();
        let request = request(caller, now, &needing)?;
        let event = RequestEvent::Created {
            request_id: request.id,
            profile: request.profile.clone(),
            target: request.target.clone(),
            database: request.database.clone(),
            tool: request.tool.clone(),
            reason: request.reason.clone(),
            ticket: request.ticket.clone(),
            ttl: Box::new(request.ttl.clone()),
            needs: request.needs.in_words(),
            extends: request.extends,
            start_at: request.start_at,
            lapse_at: request.lapse_at,
            trace: needing.wanting.trace,
        };
        let mut tx = self.store.begin().await?;
        // Of whoever is shut out meanwhile nothing waits; and who asks twice at once asks one after the other.
        if !tx.hold_to_ask(request.principal_id).await? {
            return Err(Error::TokenRefused);
        }
        // Whoever asks for the same again, as programs do, is told of what waits already.
        let request = match tx.same_open_request(&request).await? {
            Some(same) => same,
            None if tx.count_open_requests(request.principal_id).await? >= MOST_OPEN => {
                return Err(Error::TooManyRequests);
            }
            None => {
                tx.create_request(&request).await?;
                tx.audit(&origin.entry(caller, now, Event::Request(event))).await?;
                request
            }
        };
        if let Some(key) = needing.key
            && !tx.answer_key_with(&request, key, now).await?
        {
            return Ok(None);
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(Some(request))
    }

    /// One request: the caller's own, one that it may agree to, or any if it may read everything.
    ///
    /// # Errors
    /// If there is none, or it is not the caller's to see, which is answered alike.
    pub async fn request(&self, caller: &Caller, id: AccessRequestId) -> Result<Request, Error> {
        let request = self.store.request(id).await?;
        self.seen_by(caller, id, request)
    }

    fn seen_by(
        &self,
        caller: &Caller,
        id: AccessRequestId,
        request: Option<Request>,
    ) -> Result<Request, Error> {
        let may_see = |request: &Request| {
            request.principal_id == caller.principal().id
                || approval::is_named(request, caller.principal())
                || caller.may(Right::Read)
        };
        let request = request.filter(may_see);
        let request = request.ok_or_else(|| Error::not_found("request", id.to_string()))?;
        Ok(request.at(self.clock.now()))
    }

    /// A page of requests, newest first, of those that the caller may see.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn requests(
        &self,
        caller: &Caller,
        wished: &Wished,
        before: Option<AccessRequestId>,
        most: i64,
    ) -> Result<Vec<Request>, Error> {
        let principal = caller.principal();
        let mut filter = RequestFilter {
            principal_id: wished.own.then_some(principal.id),
            seen_by: (!caller.may(Right::Read)).then(|| (principal.id, principal.rules())),
            states: wished.states.clone(),
            profile: wished.profile.clone(),
            before,
            ..RequestFilter::default()
        };
        let now = self.clock.now();
        if !wished.to_decide {
            let page = self.store.requests(&filter, most).await?;
            return Ok(page.into_iter().map(|request| request.at(now)).collect());
        }
        filter.approvers = Some(principal.rules());
        filter.states = Some(vec![State::Pending]);
        let mut found = Vec::new();
        let enough = usize::try_from(most).unwrap_or(usize::MAX);
        loop {
            let page = self.store.requests(&filter, BATCH).await?;
            let Some(last) = page.last() else { return Ok(found) };
            filter.before = Some(last.id);
            for request in page.into_iter().map(|request| request.at(now)) {
                if approval::may_decide(&request, caller.as_decider()).is_ok() {
                    found.push(request);
                    if found.len() == enough {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Records of requests whose time is over that it is. True if there may be more.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn lapse_requests(&self) -> Result<bool, Error> {
        let now = self.clock.now();
        let settled = self.store.settle_requests(now, BATCH).await?;
        let due = self.store.due_requests(now, BATCH).await?;
        for id in &due {
            let mut tx = self.store.begin().await?;
            let Some(request) = tx.lock_request(*id).await? else { continue };
            if !request.is_due(now) {
                continue;
            }
            // What was agreed to and claimed is there again if its lease failed: then it was not unused.
            let was_tried = request.state == State::Approved && request.lease_id.is_some();
            let (to, event) = if was_tried {
                (State::Failed, RequestEvent::Failed { request_id: *id })
            } else {
                (State::Lapsed, RequestEvent::Lapsed { request_id: *id, from: request.state })
            };
            tx.end_request(*id, Move { from: request.state, to, at: now }).await?;
            tx.audit(&Author::Pgvalet.entry(now, Event::Request(event))).await?;
            tx.commit().await?;
            self.nudges.audit.notify_one();
        }
        let is_full = |n: Option<i64>| n == Some(BATCH);
        Ok(is_full(i64::try_from(due.len()).ok()) || is_full(i64::try_from(settled).ok()))
    }

    /// Withdraws what waits, or was agreed to and not used. To withdraw it again is no error.
    ///
    /// # Errors
    /// If there is no such request of the caller's, or it is over.
    pub async fn withdraw(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: AccessRequestId,
    ) -> Result<Request, Error> {
        self.own_request(caller, origin, id, "withdraw").await?;
        let mut tx = self.store.begin().await?;
        let locked = tx.lock_request(id).await?;
        let request = locked.ok_or_else(|| Error::not_found("request", id.to_string()))?;
        let request = request.at(self.clock.now());
        match request.state {
            State::Withdrawn => return Ok(request),
            State::Pending | State::Approved => {}
            over => {
                drop(tx);
                return Err(self.refuse_over(caller, origin, &request, over, "withdraw").await?);
            }
        }
        self.record_withdrawal(&mut tx, Author::Caller(origin, caller), &request).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.request(caller, id).await
    }

    /// Within the transaction that shuts a principal out: withdraws all that it has open, and has what it agreed to
    /// count no more where it was not used yet.
    pub(in crate::app) async fn shut_out_of_requests(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        principal: &Principal,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        for request in &tx.lock_requests_with(principal.id).await? {
            if request.principal_id != principal.id {
                tx.void_vote(request.id, principal.id, now).await?;
                let event = RequestEvent::AgreementVoid {
                    request_id: request.id,
                    principal_id: principal.id,
                    principal: principal.to_string(),
                    from: request.state,
                };
                tx.audit(&author.entry(now, Event::Request(event))).await?;
            } else if request.state.is_open() {
                self.record_withdrawal(tx, author, request).await?;
            }
        }
        Ok(())
    }

    async fn record_withdrawal(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        request: &Request,
    ) -> Result<(), store::error::Error> {
        let now = self.clock.now();
        let over = Move { from: request.state, to: State::Withdrawn, at: now };
        tx.end_request(request.id, over).await?;
        let event = RequestEvent::Withdrawn { request_id: request.id };
        tx.audit(&author.entry(now, Event::Request(event))).await
    }

    /// A request of the caller's own. That it tried this with another's is on record, even where it is not said that
    /// there is one.
    async fn own_request(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: AccessRequestId,
        what: &str,
    ) -> Result<Request, Error> {
        let found = self.store.request(id).await?;
        let is_there = found.is_some();
        let error = match self.seen_by(caller, id, found) {
            Ok(request) if request.principal_id == caller.principal().id => return Ok(request),
            Ok(_) => Error::NotYourRequest,
            Err(error) if is_there => error,
            Err(error) => return Err(error),
        };
        Err(self.refuse_with(caller, origin, id, (what, error)).await?)
    }

    /// Records that somebody tried with a request what they may not, and why.
    async fn refuse_with(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: AccessRequestId,
        (what, error): (&str, Error),
    ) -> Result<Error, Error> {
        let event = RequestEvent::Refused {
            request_id: id,
            what: what.to_owned(),
            code: error.code().to_owned(),
            why: error.detail(),
        };
        self.record(origin.entry(caller, self.clock.now(), Event::Request(event))).await?;
        Ok(error)
    }

    async fn refuse_over(
        &self,
        caller: &Caller,
        origin: &Origin,
        request: &Request,
        state: State,
        what: &str,
    ) -> Result<Error, Error> {
        let refusal = crate::domain::policy::Refusal::RequestOver(state);
        let error = Error::Refused { refusal, profile: request.profile.clone() };
        self.refuse_with(caller, origin, request.id, (what, error)).await
    }
}

fn request(caller: &Caller, now: DateTime<Utc>, needing: &Needing<'_>) -> Result<Request, Error> {
    let Needing { asked, wanting, profile, target, extends, .. } = needing;
    let lapse_at = now + wanting.needs.lapse_after.delta();
    if let Some(start) = asked.start_at {
        let fault = |message: &str| Err(Error::invalid("start_at", message));
        if start > now + FURTHEST_START {
            return fault("is too far away: at most 30 days");
        }
        if start < now {
            return fault("lies in the past");
        }
    }
    let principal = caller.principal();
    Ok(Request {
        id: AccessRequestId::new(),
        state: State::Pending,
        principal_id: principal.id,
        principal: principal.to_string(),
        acts_for: principal.acts_for,
        asker_makers: caller.token_makers().to_vec(),
        profile_id: Some(profile.id),
        profile: profile.spec.name.to_string(),
        profile_version: profile.version,
        target_id: target.id,
        target: target.spec.name.to_string(),
        environment: target.spec.environment.clone(),
        database: profile.spec.database.clone(),
        tool: asked.tool.to_string(),
        ttl: wanting.granted.clone(),
        agreed: None,
        reason: asked.reason.clone(),
        ticket: asked.ticket.clone(),
        extends: extends.map(|lease| lease.id),
        needs: wanting.needs.clone(),
        votes: Vec::new(),
        start_at: asked.start_at,
        created_at: now,
        lapse_at,
        decided_at: None,
        use_by: None,
        lease_id: None,
    })
}
