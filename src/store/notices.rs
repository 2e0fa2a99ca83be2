//! What is told to others: made from the sealed chain behind a cursor, claimed by whoever sends it, kept until it was
//! told or given up. One at a time of each subject and channel is claimed, the oldest, so that order holds.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    domain::notice::{ChannelName, Notice, NoticeState},
    ids::{AuditId, NoticeId},
    store::{Store, Tx, error::Error, exactly_one},
};

/// A notice for one channel, to be recorded.
#[derive(Debug)]
pub struct NewNotice<'a> {
    /// For whom.
    pub channel: &'a ChannelName,
    /// The place of its entry in the chain.
    pub position: i64,
    /// The entry.
    pub audit_id: AuditId,
    /// What is told.
    pub notice: &'a Notice,
}

/// A notice that is ours to send until the claim ends.
#[derive(Debug)]
pub struct ClaimedNotice {
    /// Its id, the same each time it is sent.
    pub id: NoticeId,
    /// The entry that it tells of.
    pub audit_id: AuditId,
    /// What is told; none if another release wrote what this one cannot read.
    pub notice: Option<Notice>,
    /// When it was recorded, or had to be sent again.
    pub waits_since: DateTime<Utc>,
    /// How often it was sent in vain.
    pub attempts: i32,
    /// What must be shown when the work is given back.
    token: Uuid,
}

/// A notice as it is listed.
#[derive(Debug)]
pub struct ListedNotice {
    /// Its id.
    pub id: NoticeId,
    /// For whom.
    pub channel: String,
    /// Its subject.
    pub subject: String,
    /// Its topic.
    pub topic: String,
    /// Its title.
    pub title: String,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When it is sent next, if it waits.
    pub due_at: DateTime<Utc>,
    /// How often it was sent in vain.
    pub attempts: i32,
    /// When it was told.
    pub told_at: Option<DateTime<Utc>>,
    /// When it was given up.
    pub dead_at: Option<DateTime<Utc>>,
    /// What stood in the way last.
    pub last_error: Option<String>,
}

impl ListedNotice {
    /// How it stands.
    #[must_use]
    pub const fn state(&self) -> NoticeState {
        match (self.told_at, self.dead_at) {
            (Some(_), _) => NoticeState::Told,
            (None, Some(_)) => NoticeState::Dead,
            (None, None) => NoticeState::Waiting,
        }
    }
}

/// Which notices are meant.
#[derive(Debug, Clone, Default)]
pub struct NoticeFilter {
    /// In one state.
    pub state: Option<NoticeState>,
    /// Of one channel.
    pub channel: Option<String>,
    /// Older than this one.
    pub before: Option<NoticeId>,
}

/// How many notices there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoticeCounts {
    /// That wait to be told.
    pub waiting: i64,
    /// That were given up and not sent again.
    pub dead: i64,
    /// Since when the oldest one waits.
    pub oldest: Option<DateTime<Utc>>,
}

impl Store {
    /// How far the chain was looked at for what is to be told.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn notice_cursor(&self) -> Result<i64, Error> {
        Ok(sqlx::query_scalar!("SELECT position FROM notice_cursor").fetch_one(&self.pool).await?)
    }

    /// Moves the cursor to the end of the chain: nobody wants to be told anything.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn pass_over_notices(&self) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE notice_cursor c SET position = h.position FROM audit_head h WHERE c.position < h.position"
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes up to `limit` notices of a channel that are due and that nobody sends, each the oldest of its subject.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_notices(
        &self,
        channel: &ChannelName,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedNotice>, Error> {
        let token = Uuid::now_v7();
        let mut rows = sqlx::query!(
            r#"UPDATE notice SET claim_token = $1, claimed_until = $2 WHERE id IN (
                   SELECT n.id FROM notice n
                   WHERE n.channel = $3 AND n.told_at IS NULL AND n.dead_at IS NULL AND n.due_at <= $4
                     AND (n.claimed_until IS NULL OR n.claimed_until <= $4)
                     AND NOT EXISTS (SELECT FROM notice earlier
                                     WHERE earlier.channel = n.channel AND earlier.subject = n.subject
                                       AND earlier.position < n.position
                                       AND earlier.told_at IS NULL AND earlier.dead_at IS NULL)
                   ORDER BY n.position LIMIT $5 FOR UPDATE SKIP LOCKED)
               RETURNING id, audit_id, position, body AS "body: Json<serde_json::Value>", waits_since, attempts"#,
            token,
            until,
            channel.to_string(),
            now,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        rows.sort_by_key(|row| row.position);
        let claimed = rows.into_iter().map(|row| ClaimedNotice {
            id: row.id.into(),
            audit_id: row.audit_id.into(),
            notice: serde_json::from_value(row.body.0).ok(),
            waits_since: row.waits_since,
            attempts: row.attempts,
            token,
        });
        Ok(claimed.collect())
    }

    /// Records that a notice was told, and gives its claim back.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn notice_told(
        &self,
        claimed: &ClaimedNotice,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE notice SET told_at = $3, claim_token = NULL, claimed_until = NULL, last_error = NULL
             WHERE id = $1 AND claim_token = $2",
            claimed.id.uuid(),
            claimed.token,
            now
        )
        .execute(&self.pool)
        .await?;
        exactly_one(&done)
    }

    /// Gives a claim back that came to nothing, and says why. It is sent again.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn notice_failed(
        &self,
        claimed: &ClaimedNotice,
        why: &str,
        again_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE notice SET due_at = $3, last_error = $4, attempts = attempts + 1,
                    claim_token = NULL, claimed_until = NULL
             WHERE id = $1 AND claim_token = $2",
            claimed.id.uuid(),
            claimed.token,
            again_at,
            why
        )
        .execute(&self.pool)
        .await?;
        exactly_one(&done)
    }

    /// Gives a notice up, and says why. It is sent again only if somebody says so.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn notice_given_up(
        &self,
        claimed: &ClaimedNotice,
        why: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE notice SET dead_at = $3, last_error = $4, attempts = attempts + 1,
                    claim_token = NULL, claimed_until = NULL
             WHERE id = $1 AND claim_token = $2",
            claimed.id.uuid(),
            claimed.token,
            now,
            why
        )
        .execute(&self.pool)
        .await?;
        exactly_one(&done)
    }

    /// A page of notices, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn notices(
        &self,
        filter: &NoticeFilter,
        limit: i64,
    ) -> Result<Vec<ListedNotice>, Error> {
        let mut tx = self.begin_list().await?;
        let notices = sqlx::query_as!(
            ListedNotice,
            r#"SELECT id, channel, subject, topic, coalesce(body ->> 'title', '') AS "title!", created_at, due_at,
                      attempts, told_at, dead_at, last_error
               FROM notice
               WHERE ($1::text IS NULL
                      OR CASE $1 WHEN 'told' THEN told_at IS NOT NULL WHEN 'dead' THEN dead_at IS NOT NULL
                                 ELSE told_at IS NULL AND dead_at IS NULL END)
                 AND ($2::text IS NULL OR channel = $2) AND ($3::uuid IS NULL OR id < $3)
               ORDER BY id DESC LIMIT $4"#,
            filter.state.map(NoticeState::as_str) as Option<&str>,
            filter.channel.as_deref() as Option<&str>,
            filter.before.map(NoticeId::uuid) as Option<Uuid>,
            limit
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(notices)
    }

    /// Is there such a notice?
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn has_notice(&self, id: NoticeId) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM notice WHERE id = $1) AS "there!""#,
            id.uuid()
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// When the last digest was made, or would have been had there been anything to say.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn digest_at(&self) -> Result<DateTime<Utc>, Error> {
        Ok(sqlx::query_scalar!("SELECT digest_at FROM notice_cursor").fetch_one(&self.pool).await?)
    }

    /// The roles of up to `limit` logins whose removal was tried again and again in vain.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn stuck_logins(&self, limit: i64) -> Result<Vec<String>, Error> {
        Ok(sqlx::query_scalar!(
            "SELECT role_name FROM login WHERE state <> 'revoked' AND attempts > 3 ORDER BY ends_at LIMIT $1",
            limit
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// How many wait, and how many were given up.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_notices(&self) -> Result<NoticeCounts, Error> {
        Ok(sqlx::query_as!(
            NoticeCounts,
            r#"SELECT (SELECT count(*) FROM notice WHERE told_at IS NULL AND dead_at IS NULL) AS "waiting!",
                      (SELECT count(*) FROM notice WHERE dead_at IS NOT NULL) AS "dead!",
                      (SELECT min(waits_since) FROM notice WHERE told_at IS NULL AND dead_at IS NULL) AS oldest"#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Forgets what was told before `told_before`, and what was given up before `dead_before`; gives up what waits since
    /// before `waits_before`: no daemon has its channel any more, or one would have given it up.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_notices(
        &self,
        told_before: DateTime<Utc>,
        dead_before: DateTime<Utc>,
        waits_before: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!("DELETE FROM notice WHERE told_at < $1", told_before)
            .execute(&self.pool)
            .await?;
        sqlx::query!("DELETE FROM notice WHERE dead_at < $1", dead_before)
            .execute(&self.pool)
            .await?;
        sqlx::query!(
            "UPDATE notice SET dead_at = $2, last_error = coalesce(last_error, 'no daemon has this channel')
             WHERE told_at IS NULL AND dead_at IS NULL AND waits_since < $1
               AND (claimed_until IS NULL OR claimed_until <= $2)",
            waits_before,
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Tx {
    /// Moves the cursor from one position to another.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if another daemon moved it meanwhile: then it has recorded the notices, too.
    pub async fn move_notice_cursor(&mut self, from: i64, to: i64) -> Result<(), Error> {
        let done =
            sqlx::query!("UPDATE notice_cursor SET position = $2 WHERE position = $1", from, to)
                .execute(&mut *self.inner)
                .await?;
        exactly_one(&done)
    }

    /// Records notices, which are due at once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn add_notices(
        &mut self,
        new: &[NewNotice<'_>],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        for NewNotice { channel, position, audit_id, notice } in new {
            sqlx::query!(
                "INSERT INTO notice (id, channel, subject, topic, position, audit_id, body, created_at,
                                     waits_since, due_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8) ON CONFLICT ON CONSTRAINT notice_once DO NOTHING",
                NoticeId::new().uuid(),
                channel.to_string(),
                notice.subject,
                notice.topic.as_str(),
                position,
                audit_id.uuid(),
                Json(notice) as _,
                now
            )
            .execute(&mut *self.inner)
            .await?;
        }
        Ok(())
    }

    /// Has notices that were given up sent again: one of them, or all of a channel, or all. Those that were.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn replay_notices(
        &mut self,
        id: Option<NoticeId>,
        channel: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<u64, Error> {
        let done = sqlx::query!(
            "UPDATE notice SET dead_at = NULL, attempts = 0, due_at = $3, waits_since = $3
             WHERE dead_at IS NOT NULL AND ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR channel = $2)",
            id.map(NoticeId::uuid) as Option<Uuid>,
            channel as Option<&str>,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected())
    }

    /// Records that a digest is made after the one of an instant. False if another daemon was faster.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_digest(
        &mut self,
        last: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done =
            sqlx::query!("UPDATE notice_cursor SET digest_at = $2 WHERE digest_at = $1", last, now)
                .execute(&mut *self.inner)
                .await?;
        Ok(done.rows_affected() == 1)
    }
}
