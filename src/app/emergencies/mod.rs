//! Emergencies: a lease under a profile of the preset `break-glass` is recorded as one in the transaction of its
//! intent, waits for nobody, and is looked at afterwards by somebody else.

pub mod codes;
mod open;

use crate::{
    app::{App, Listed, Origin, error::Error},
    domain::{
        audit::Event,
        emergency::{self, Emergency, State, Verdict},
        lease::Lease,
    },
    identity::Admin,
    ids::LeaseId,
    store::{self, emergencies::SeenLogin},
};

/// Entries of one lease that are shown at most: it lives for an hour.
const MOST_ENTRIES: i64 = 500;

/// An emergency with what was done in it.
#[derive(Debug)]
pub struct Looked {
    /// The emergency.
    pub emergency: Emergency,
    /// Its lease.
    pub lease: Lease,
    /// Its logins, oldest first.
    pub logins: Vec<SeenLogin>,
    /// What the audit says of it, oldest first.
    pub entries: Vec<Listed>,
}

/// What somebody found who looked at an emergency.
#[derive(Debug)]
pub struct ReviewWish {
    /// In a word.
    pub verdict: Verdict,
    /// In their own.
    pub comment: String,
}

impl App {
    /// A page of emergencies, newest first.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn emergencies(
        &self,
        _: &Admin<'_>,
        state: Option<State>,
        before: Option<LeaseId>,
        limit: i64,
    ) -> Result<Vec<Emergency>, Error> {
        Ok(self.store.emergencies(state, before, limit).await?)
    }

    /// An emergency, with what was done in it.
    ///
    /// # Errors
    /// If the lease is none.
    pub async fn emergency(&self, _: &Admin<'_>, id: LeaseId) -> Result<Looked, Error> {
        let missing = || Error::not_found("emergency", id.to_string());
        let emergency = self.store.emergency(id).await?.ok_or_else(missing)?;
        let lease = self.store.lease(id).await?.ok_or_else(missing)?;
        let logins = self.store.logins_of(id).await?;
        let mut entries = self.store.audit_entries(None, Some(id), None, MOST_ENTRIES).await?;
        entries.reverse();
        Ok(Looked { emergency, lease, logins, entries })
    }

    /// Closes the review of an emergency: a person does, who neither opened it nor may have.
    ///
    /// # Errors
    /// If the lease is none, its review is closed already, or the caller may not.
    pub async fn close_emergency(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: LeaseId,
        wish: ReviewWish,
    ) -> Result<Emergency, Error> {
        if let Some(message) = emergency::comment_fault(&wish.comment) {
            return Err(Error::invalid("comment", message));
        }
        let missing = || Error::not_found("emergency", id.to_string());
        let found = self.store.emergency(id).await?.ok_or_else(missing)?;
        let now = self.clock.now();
        if let Err(why) = emergency::may_close(&found, admin.as_decider()) {
            let error = Error::NotToClose(why);
            let what = format!("closing the review of emergency {id}");
            let event = Event::AccessRefused { what, code: error.code().to_owned() };
            self.record(origin.entry(admin, now, event)).await?;
            return Err(error);
        }
        let comment = wish.comment.trim();
        let mut tx = self.store.begin().await?;
        let by = admin.principal().id;
        match tx.close_emergency(id, (wish.verdict, comment), by, now).await {
            Err(store::error::Error::NotOneRow(_)) => return Err(self.closed_before(id).await?),
            closed => closed?,
        }
        let event = Event::EmergencyClosed {
            lease_id: id,
            verdict: wish.verdict,
            comment: comment.to_owned(),
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.store.emergency(id).await?.ok_or_else(missing)
    }

    async fn closed_before(&self, id: LeaseId) -> Result<Error, Error> {
        let review = self.store.emergency(id).await?.and_then(|found| found.review);
        let detail = review.map_or_else(
            || "the review of this emergency was closed just now".to_owned(),
            |review| {
                format!(
                    "{} closed the review of this emergency as {}: what was said stands",
                    review.closed_by,
                    review.verdict.as_str()
                )
            },
        );
        Ok(Error::Conflict { code: "emergency_closed", detail })
    }
}
