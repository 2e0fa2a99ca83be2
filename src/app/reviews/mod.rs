//! Access reviews: shown, exported. `open.rs` opens them, `decide.rs` has what becomes of their items, `due.rs` what their
//! time does.
//!
//! A review is a picture of the day on which it was opened: its items and what is known of them are recorded, so that a
//! person decides about what they saw. What they decide holds from that instant on.

mod decide;
mod due;
mod exercise;
mod open;

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;

pub use self::decide::{Decided, Said, Which};
/// Which items are meant.
pub use crate::store::review_items::ItemFilter;
/// A profile that a review is about.
pub use crate::store::review_profiles::ReviewProfile;
use crate::{
    app::{App, Origin, error::Error},
    domain::{
        administration::Right,
        audit::Event,
        review::{self, Item, NotTheirs, Review, ReviewState, exercise::Exercise},
    },
    identity::Caller,
    ids::ReviewId,
};

/// In which form a review is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For a spreadsheet.
    Csv,
    /// To be read.
    Markdown,
}

fn length(of: Duration) -> TimeDelta {
    TimeDelta::from_std(of).unwrap_or(TimeDelta::MAX)
}

impl App {
    fn is_reviewer(&self, caller: &Caller) -> bool {
        match &self.reviews.reviewers {
            Some(rules) => rules.iter().any(|rule| rule.matches(caller.principal())),
            None => caller.may(Right::Roles),
        }
    }

    /// Only reviewers open reviews and decide in them.
    async fn reviewer(
        &self,
        caller: &Caller,
        origin: &Origin,
        what: &'static str,
    ) -> Result<(), Error> {
        if self.is_reviewer(caller) {
            return Ok(());
        }
        if self.reviews.reviewers.is_none() {
            return self.admin(caller, origin, (&[Right::Roles], what)).await.map(drop);
        }
        Err(self.refuse_review(caller, origin, (what, NotTheirs::NotNamed)).await?)
    }

    async fn refuse_review(
        &self,
        caller: &Caller,
        origin: &Origin,
        (what, why): (&'static str, NotTheirs),
    ) -> Result<Error, Error> {
        let event = Event::AccessRefused { what: what.to_owned(), code: why.as_str().to_owned() };
        self.record(origin.entry(caller, self.clock.now(), event)).await?;
        Ok(Error::NotTheirsToReview(why))
    }

    async fn may_look(&self, caller: &Caller, origin: &Origin) -> Result<(), Error> {
        if caller.may(Right::Read) {
            return Ok(());
        }
        self.reviewer(caller, origin, "looking at access reviews").await
    }

    /// A page of reviews, newest first.
    ///
    /// # Errors
    /// If the caller is no reviewer, and may not read everything.
    pub async fn reviews(
        &self,
        caller: &Caller,
        origin: &Origin,
        before: Option<ReviewId>,
        most: i64,
    ) -> Result<Vec<Review>, Error> {
        self.may_look(caller, origin).await?;
        Ok(self.store.reviews(before, most).await?)
    }

    /// One review.
    ///
    /// # Errors
    /// If there is none for this caller.
    pub async fn access_review(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: ReviewId,
    ) -> Result<Review, Error> {
        self.may_look(caller, origin).await?;
        self.store.review(id).await?.ok_or_else(|| no_review(id))
    }

    /// Items of a review, by profile and principal.
    ///
    /// # Errors
    /// If there is no such review for this caller.
    pub async fn review_items(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: ReviewId,
        filter: &ItemFilter,
        most: i64,
    ) -> Result<Vec<Item>, Error> {
        self.access_review(caller, origin, id).await?;
        Ok(self.store.review_items(id, filter, most).await?)
    }

    /// The profiles that a review is about, and how their grants were exercised.
    ///
    /// # Errors
    /// If there is no such review for this caller.
    pub async fn review_profiles(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: ReviewId,
    ) -> Result<Vec<ReviewProfile>, Error> {
        self.access_review(caller, origin, id).await?;
        Ok(self.store.review_profiles(id).await?)
    }

    /// A review with all its items as a file.
    ///
    /// # Errors
    /// If there is no such review for this caller.
    pub async fn export_review(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: ReviewId,
        form: Form,
    ) -> Result<String, Error> {
        let review = self.access_review(caller, origin, id).await?;
        let all = ItemFilter::default();
        let items = self.store.review_items(id, &all, i64::from(i32::MAX)).await?;
        let profiles = self.store.review_profiles(id).await?;
        let exercised: BTreeMap<String, Exercise> =
            profiles.into_iter().filter_map(|of| Some((of.profile, of.exercise?))).collect();
        Ok(match form {
            Form::Csv => review::csv(&review, &items, &exercised),
            Form::Markdown => review::markdown(&review, &items, &exercised),
        })
    }
}

fn no_review(id: ReviewId) -> Error {
    Error::not_found("review", id.to_string())
}

/// Only an open review changes.
fn open(review: &Review) -> Result<(), NotTheirs> {
    if review.state == ReviewState::Open { Ok(()) } else { Err(NotTheirs::Over) }
}
