//! Rows of `chat_message` and `chat_link`: what was said in chat, so that it is said once by however many daemons;
//! and the links by which people say which account there is theirs.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::{Store, Tx, error::Error};

/// A message that is ours to post or to change until the claim ends.
#[derive(Debug, Clone)]
pub struct ClaimedMessage {
    /// What it is about.
    pub subject: String,
    /// Which part of what is said about that.
    pub part: String,
    /// The proof that it is ours.
    pub claim: Uuid,
    /// Where it stands: its channel and its time there, if it was posted.
    pub place: Option<(String, String)>,
    /// When it was last begun to be posted, if nobody knows what became of that.
    pub tried_at: Option<DateTime<Utc>>,
    /// A hash of what it says.
    pub said: Option<Vec<u8>>,
}

/// What became of a claimed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It stands there; and it says that, if that is known.
    Stands {
        /// The channel.
        channel: &'a str,
        /// Its time there.
        ts: &'a str,
        /// A hash of what it says.
        said: Option<&'a [u8]>,
    },
    /// Nothing was posted.
    NotPosted,
    /// Nothing is known that was not known before.
    AsBefore,
}

/// An account of a chat that a person is about to link to themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatLink {
    /// Whose word the account is.
    pub issuer: String,
    /// Its key there.
    pub subject: String,
    /// What it is called there.
    pub user_name: String,
}

impl Store {
    /// Claims a message, which is recorded if it is new. None if somebody else is at it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_chat_message(
        &self,
        (subject, part): (&str, &str),
        (now, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Option<ClaimedMessage>, Error> {
        let claim = Uuid::now_v7();
        let row = sqlx::query!(
            "INSERT INTO chat_message AS m (subject, part, created_at, claim, claimed_until) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT ON CONSTRAINT chat_message_once DO UPDATE SET claim = $4, claimed_until = $5
             WHERE m.claimed_until IS NULL OR m.claimed_until <= $3
             RETURNING channel, ts, tried_at, said",
            subject,
            part,
            now,
            claim,
            until
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| ClaimedMessage {
            subject: subject.to_owned(),
            part: part.to_owned(),
            claim,
            place: row.channel.zip(row.ts),
            tried_at: row.tried_at,
            said: row.said,
        }))
    }

    /// Notes that a claimed message is about to be posted. False if it is not ours any more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin_chat_message(
        &self,
        message: &ClaimedMessage,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE chat_message SET tried_at = $4 WHERE subject = $1 AND part = $2 AND claim = $3 AND claimed_until > $4",
            message.subject,
            message.part,
            message.claim,
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a claimed message back, with what became of it. Nothing happens if it is not ours any more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn give_chat_message_back(
        &self,
        message: &ClaimedMessage,
        outcome: Outcome<'_>,
    ) -> Result<(), Error> {
        let (place, said, forget) = match outcome {
            Outcome::Stands { channel, ts, said } => (Some((channel, ts)), said, true),
            Outcome::NotPosted => (None, None, true),
            Outcome::AsBefore => (None, None, false),
        };
        sqlx::query!(
            "UPDATE chat_message
             SET claim = NULL, claimed_until = NULL, channel = coalesce($4, channel), ts = coalesce($5, ts),
                 said = coalesce($6, said), tried_at = CASE WHEN $7 THEN NULL ELSE tried_at END
             WHERE subject = $1 AND part = $2 AND claim = $3",
            message.subject,
            message.part,
            message.claim,
            place.map(|(channel, _)| channel) as Option<&str>,
            place.map(|(_, ts)| ts) as Option<&str>,
            said as Option<&[u8]>,
            forget
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Where a message stands that was posted.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn chat_message_place(
        &self,
        subject: &str,
        part: &str,
    ) -> Result<Option<(String, String)>, Error> {
        let row = sqlx::query!(
            r#"SELECT channel AS "channel!", ts AS "ts!" FROM chat_message
               WHERE subject = $1 AND part = $2 AND ts IS NOT NULL"#,
            subject,
            part
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| (row.channel, row.ts)))
    }

    /// Records a link, in place of the one that its account had.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn add_chat_link(
        &self,
        key: &[u8],
        link: &ChatLink,
        ends_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO chat_link (key, issuer, subject, user_name, ends_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT ON CONSTRAINT chat_link_of_account DO UPDATE SET key = $1, user_name = $4, ends_at = $5",
            key,
            link.issuer,
            link.subject,
            link.user_name,
            ends_at
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The account that a link is for, which stays as it is.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn chat_link(
        &self,
        key: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<ChatLink>, Error> {
        Ok(sqlx::query_as!(
            ChatLink,
            "SELECT issuer, subject, user_name FROM chat_link WHERE key = $1 AND ends_at > $2",
            key,
            now
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Forgets links that are over, and messages from before that instant.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_chat(
        &self,
        now: DateTime<Utc>,
        said_before: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!("DELETE FROM chat_link WHERE ends_at <= $1", now).execute(&self.pool).await?;
        sqlx::query!("DELETE FROM chat_message WHERE created_at < $1", said_before)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

impl Tx {
    /// Takes a link, which gives its account once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_chat_link(
        &mut self,
        key: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<ChatLink>, Error> {
        Ok(sqlx::query_as!(
            ChatLink,
            "DELETE FROM chat_link WHERE key = $1 AND ends_at > $2 RETURNING issuer, subject, user_name",
            key,
            now
        )
        .fetch_optional(&mut *self.inner)
        .await?)
    }
}
