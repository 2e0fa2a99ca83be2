//! Rows of `review`, and when the next is opened (`review_schedule`).

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    domain::{
        name::Name,
        review::{Counts, OnDue, Review, ReviewCause, ReviewState},
    },
    ids::{PrincipalId, ReviewId},
    store::{Store, Tx, error::Error, exactly_one},
};

/// A review that is opened.
#[derive(Debug)]
pub struct NewReview {
    /// Its id.
    pub id: ReviewId,
    /// Why.
    pub cause: ReviewCause,
    /// Of whom alone.
    pub principal_id: Option<PrincipalId>,
    /// When.
    pub opened_at: DateTime<Utc>,
    /// Until when.
    pub due_at: DateTime<Utc>,
}

/// Somebody who is to be looked at.
#[derive(Debug)]
pub struct WantedReview {
    /// Why.
    pub cause: ReviewCause,
    /// The groups that they were in before.
    pub groups: Vec<Name>,
}

/// Which reviews are meant: those for which all holds that is said.
#[derive(Default)]
struct Which {
    id: Option<ReviewId>,
    before: Option<ReviewId>,
    /// Those that are open.
    open: bool,
}

/// Newest first.
async fn reviews(on: impl PgExecutor<'_>, which: Which, limit: i64) -> Result<Vec<Review>, Error> {
    let rows = sqlx::query!(
        r#"SELECT r.id, r.state, r.cause, p.kind || ':' || p.subject AS "principal?", r.opened_at, r.due_at, r.announced_at,
                  r.on_due, r.settled_at, r.signed_off_at, s.kind || ':' || s.subject AS "signed_off_by?", c.items AS "items!",
                  c.undecided AS "undecided!", c.kept AS "kept!", c.narrowed AS "narrowed!", c.removed AS "removed!"
           FROM review r
           LEFT JOIN principal p ON p.id = r.principal_id
           LEFT JOIN principal s ON s.id = r.signed_off_by
           CROSS JOIN LATERAL (
               SELECT count(*) AS items, count(*) FILTER (WHERE verdict IS NULL) AS undecided,
                      count(*) FILTER (WHERE verdict = 'keep') AS kept, count(*) FILTER (WHERE verdict = 'narrow') AS narrowed,
                      count(*) FILTER (WHERE verdict = 'remove') AS removed
               FROM review_item i WHERE i.review_id = r.id) AS c
           WHERE ($1::uuid IS NULL OR r.id = $1) AND ($2::uuid IS NULL OR r.id < $2)
             AND (NOT $3 OR r.state = 'open')
           ORDER BY r.id DESC LIMIT $4"#,
        which.id.map(ReviewId::uuid) as Option<Uuid>,
        which.before.map(ReviewId::uuid) as Option<Uuid>,
        which.open,
        limit
    )
    .fetch_all(on)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Review {
                id: row.id.into(),
                state: ReviewState::from_text(&row.state)
                    .ok_or(Error::Unreadable("review's state"))?,
                cause: ReviewCause::from_text(&row.cause)
                    .ok_or(Error::Unreadable("review's cause"))?,
                principal: row.principal,
                opened_at: row.opened_at,
                due_at: row.due_at,
                announced_at: row.announced_at,
                on_due: row.on_due.as_deref().and_then(OnDue::from_text),
                settled_at: row.settled_at,
                signed_off_at: row.signed_off_at,
                signed_off_by: row.signed_off_by,
                counts: Counts {
                    items: row.items,
                    undecided: row.undecided,
                    kept: row.kept,
                    narrowed: row.narrowed,
                    removed: row.removed,
                },
            })
        })
        .collect()
}

impl Store {
    /// A page of reviews, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn reviews(
        &self,
        before: Option<ReviewId>,
        limit: i64,
    ) -> Result<Vec<Review>, Error> {
        reviews(&self.pool, Which { before, ..Which::default() }, limit).await
    }

    /// Reviews that are open, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn open_reviews(&self, limit: i64) -> Result<Vec<Review>, Error> {
        reviews(&self.pool, Which { open: true, ..Which::default() }, limit).await
    }

    /// One review.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn review(&self, id: ReviewId) -> Result<Option<Review>, Error> {
        Ok(reviews(&self.pool, Which { id: Some(id), ..Which::default() }, 1).await?.pop())
    }

    /// Open reviews with items that wait, whose time is over before this instant, and of which that was not said yet.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn reviews_to_announce(
        &self,
        due_before: DateTime<Utc>,
    ) -> Result<Vec<ReviewId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT id FROM review r WHERE state = 'open' AND due_at <= $1 AND announced_at IS NULL
               AND EXISTS (SELECT FROM review_item i WHERE i.review_id = r.id AND i.verdict IS NULL)
             ORDER BY due_at",
            due_before
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(ReviewId::from).collect())
    }

    /// Open reviews whose time is over, which was said before, and for which nothing was done about it yet.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn reviews_to_settle(&self, now: DateTime<Utc>) -> Result<Vec<ReviewId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT id FROM review r
             WHERE state = 'open' AND due_at <= $1 AND announced_at IS NOT NULL AND settled_at IS NULL
               AND EXISTS (SELECT FROM review_item i WHERE i.review_id = r.id AND i.verdict IS NULL)
             ORDER BY due_at",
            now
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(ReviewId::from).collect())
    }

    /// By which schedule, and when, the next review is opened.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn next_review(&self) -> Result<Option<(String, Option<DateTime<Utc>>)>, Error> {
        let row = sqlx::query!("SELECT schedule, next_at FROM review_schedule")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| (row.schedule, row.next_at)))
    }

    /// Takes over a schedule, or an earlier instant of it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn schedule_reviews(
        &self,
        schedule: &str,
        next_at: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO review_schedule AS s (schedule, next_at) VALUES ($1, $2)
             ON CONFLICT (single) DO UPDATE SET schedule = $1, next_at = $2 WHERE s.schedule <> $1 OR s.next_at > $2",
            schedule,
            next_at as Option<DateTime<Utc>>
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Store {
    /// Those who are to be looked at, the longest waiting first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn wanted_reviews(&self) -> Result<Vec<PrincipalId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT principal_id FROM review_wanted ORDER BY wanted_at LIMIT 1000"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(PrincipalId::from).collect())
    }
}

impl Tx {
    /// Moves the schedule on from an instant that is over. False if another daemon did.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn move_review_schedule(
        &mut self,
        from: DateTime<Utc>,
        to: Option<DateTime<Utc>>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE review_schedule SET next_at = $2 WHERE next_at = $1",
            from,
            to as Option<DateTime<Utc>>
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records a review. False if one of the same is open.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn open_review(&mut self, review: &NewReview) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO review (id, state, cause, principal_id, opened_at, due_at)
             VALUES ($1, 'open', $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            review.id.uuid(),
            review.cause.as_str(),
            review.principal_id.map(PrincipalId::uuid) as Option<Uuid>,
            review.opened_at,
            review.due_at
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The open review of one principal alone, locked until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_review_of(&mut self, of: PrincipalId) -> Result<Option<Review>, Error> {
        let id = sqlx::query_scalar!(
            "SELECT id FROM review WHERE principal_id = $1 AND state = 'open' FOR UPDATE",
            of.uuid()
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        match id {
            Some(id) => self.lock_review(id.into()).await,
            None => Ok(None),
        }
    }

    /// Records that somebody is to be looked at, who was in these groups before. What was recorded first stands.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn want_review(
        &mut self,
        of: PrincipalId,
        (cause, groups): (ReviewCause, &[Name]),
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "INSERT INTO review_wanted (principal_id, cause, groups, wanted_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (principal_id) DO NOTHING",
            of.uuid(),
            cause.as_str(),
            &groups,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Takes back that somebody is to be looked at, to do it. None if another daemon was faster.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_wanted_review(
        &mut self,
        of: PrincipalId,
    ) -> Result<Option<WantedReview>, Error> {
        let row = sqlx::query!(
            "DELETE FROM review_wanted WHERE principal_id = $1 RETURNING cause, groups",
            of.uuid()
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        row.map(|row| {
            let groups = row.groups.iter().map(|group| group.parse()).collect::<Result<_, _>>();
            Ok(WantedReview {
                cause: ReviewCause::from_text(&row.cause)
                    .ok_or(Error::Unreadable("review's cause"))?,
                groups: groups.map_err(|_| Error::Unreadable("group"))?,
            })
        })
        .transpose()
    }

    /// Gives a review that looks at more now its whole time again, whatever was said of its end before.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is not open.
    pub async fn extend_review(
        &mut self,
        id: ReviewId,
        due_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE review SET due_at = greatest(due_at, $2), announced_at = NULL, on_due = NULL, settled_at = NULL
             WHERE id = $1 AND state = 'open'",
            id.uuid(),
            due_at
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// One review, locked until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_review(&mut self, id: ReviewId) -> Result<Option<Review>, Error> {
        sqlx::query!("SELECT 1 AS one FROM review WHERE id = $1 FOR UPDATE", id.uuid())
            .fetch_optional(&mut *self.inner)
            .await?;
        Ok(reviews(&mut *self.inner, Which { id: Some(id), ..Which::default() }, 1).await?.pop())
    }

    /// Records that it was said that the time is nearly over, when it is, and what happens then. False if it was said before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn announce_review(
        &mut self,
        id: ReviewId,
        now: DateTime<Utc>,
        (due_at, on_due): (DateTime<Utc>, OnDue),
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE review SET announced_at = $2, due_at = $3, on_due = $4 WHERE id = $1 AND state = 'open' AND announced_at IS NULL",
            id.uuid(),
            now,
            due_at,
            on_due.as_str()
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that something was done about what nobody decided in time. False if it was before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn settle_review(&mut self, id: ReviewId, now: DateTime<Utc>) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE review SET settled_at = $2 WHERE id = $1 AND state = 'open' AND settled_at IS NULL",
            id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that somebody answers for it.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if somebody did before, or items wait.
    pub async fn sign_review_off(
        &mut self,
        id: ReviewId,
        by: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE review r SET state = 'signed-off', signed_off_at = $2, signed_off_by = $3
             WHERE id = $1 AND state = 'open'
               AND NOT EXISTS (SELECT FROM review_item i WHERE i.review_id = r.id AND i.verdict IS NULL)",
            id.uuid(),
            now,
            by.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }
}
