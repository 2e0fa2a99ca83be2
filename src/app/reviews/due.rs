//! What the time does to reviews: one is opened by schedule, it is said that the time is nearly over, and what nobody
//! decided in time is removed, or said aloud. Each once, whichever daemon is first.

use crate::{
    app::{
        App, Author,
        error::Error,
        reviews::{
            ItemFilter,
            decide::{Applied, Said, hold},
            length,
        },
    },
    domain::{
        audit::{Event, ReviewEvent},
        review::{OnDue, ReviewCause, ReviewVerdict},
    },
    ids::ReviewId,
};

/// What is written beside an item that nobody decided.
const NOBODY: &str = "nobody decided by the due date";

impl App {
    /// Does what is due of all reviews. What fails of it keeps nothing else from being done; the first fault is given.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn look_after_reviews(&self) -> Result<(), Error> {
        let opened = self.open_scheduled_review().await;
        let wanted = self.open_wanted_reviews().await;
        let settled = self.settle_what_is_due().await;
        let ended = self.end_kept_passwords().await;
        opened.and(wanted).and(settled).and(ended)
    }

    /// Opens the review of everybody whose time has come. One that no daemon ran for is opened at the next start; while
    /// the one before it is open, it waits for that to be signed off.
    async fn open_scheduled_review(&self) -> Result<(), Error> {
        let (schedule, now) = (&self.reviews.schedule, self.clock.now());
        let (text, next_at) = (schedule.to_string(), schedule.next_after(now));
        let due = match self.store.next_review().await? {
            // If the clock was ahead once, what was recorded lies too far away.
            Some((recorded, Some(at)))
                if recorded == text && next_at.is_none_or(|next| at <= next) =>
            {
                at
            }
            Some((recorded, None)) if recorded == text && next_at.is_none() => return Ok(()),
            _ => return Ok(self.store.schedule_reviews(&text, next_at).await?),
        };
        if due > now {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        let why = (ReviewCause::Schedule, None);
        if tx.move_review_schedule(due, next_at).await?
            && self.begin_review(&mut tx, Author::Pgvalet, why).await?.is_some()
        {
            tx.commit().await?;
            self.nudges.audit.notify_one();
        }
        Ok(())
    }

    /// Says of which reviews the time is nearly over, and does what was said to those for which it is. Not while the record
    /// may be an old one, or the clock a wrong one: somebody may have decided what is not known here.
    async fn settle_what_is_due(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let to_announce =
            self.store.reviews_to_announce(now + length(self.reviews.announce_before)).await?;
        let to_settle = self.store.reviews_to_settle(now).await?;
        if (to_announce.is_empty() && to_settle.is_empty())
            || self.caution().await?.is_some()
            || self.check_record().await?.is_some()
        {
            return Ok(());
        }
        for id in to_announce {
            self.announce_review(id).await?;
        }
        for id in to_settle {
            self.settle_review(id).await?;
        }
        Ok(())
    }

    /// Says that the time is nearly over, and what happens then: which holds, whatever the settings say by that time. If it
    /// is late, because no daemon ran, there is more time: nothing is removed of which that was not said before.
    async fn announce_review(&self, id: ReviewId) -> Result<(), Error> {
        let (now, on_due) = (self.clock.now(), self.reviews.on_due);
        let mut tx = self.store.begin().await?;
        let Some(review) = tx.lock_review(id).await? else { return Ok(()) };
        let due_at = review.due_at.max(now + length(self.reviews.announce_before));
        if review.counts.undecided == 0 || !tx.announce_review(id, now, (due_at, on_due)).await? {
            return Ok(());
        }
        let undecided = review.counts.undecided;
        let event = ReviewEvent::DueSoon { review_id: id, due_at, undecided, on_due };
        tx.audit(&Author::Pgvalet.entry(now, Event::Review(event))).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    async fn settle_review(&self, id: ReviewId) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let Some(review) = tx.lock_review(id).await? else { return Ok(()) };
        if !tx.settle_review(id, now).await? {
            return Ok(());
        }
        let waiting = ItemFilter { undecided: true, ..ItemFilter::default() };
        let items = tx.review_items(id, &waiting).await?;
        let event = match review.on_due.unwrap_or(self.reviews.on_due) {
            _ if items.is_empty() => return Ok(()),
            OnDue::Escalate => {
                let undecided = i64::try_from(items.len()).unwrap_or(i64::MAX);
                ReviewEvent::Escalated { review_id: id, undecided }
            }
            OnDue::Remove => {
                let said = Said {
                    verdict: ReviewVerdict::Remove,
                    max_ttl: None,
                    reason: NOBODY.to_owned(),
                };
                let mut held = hold(&mut tx, &items, said.verdict).await?;
                let items: Vec<_> =
                    items.into_iter().filter(|item| held.refusal(item, &said).is_none()).collect();
                let applied = Applied { review: id, items: &items, said: &said, by: None };
                self.apply_decisions(&mut tx, Author::Pgvalet, applied, &mut held).await?;
                ReviewEvent::LapsedItemsRemoved { review_id: id, removed: items.len() }
            }
        };
        tx.audit(&Author::Pgvalet.entry(now, Event::Review(event))).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.rotations.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }
}
