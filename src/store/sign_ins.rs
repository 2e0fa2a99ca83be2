//! Rows of `sign_in`: sign-ins under way. Kept here and not in a daemon's memory, because a browser may come
//! back to another daemon than it left.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    domain::session::Client,
    store::{Store, Tx, error::Error},
};

/// A sign-in that begins.
#[derive(Debug)]
pub struct NewSignIn<'a> {
    /// A hash of what the client alone holds.
    pub key: &'a [u8],
    /// What its sealed part is bound to.
    pub id: Uuid,
    /// What the session is to be for.
    pub client: Client,
    /// The network it is begun from.
    pub source: Option<&'a str>,
    /// What only the daemons may know of it.
    pub sealed: &'a [u8],
    /// How long to wait between two questions.
    pub interval: TimeDelta,
    /// When it is too late.
    pub ends_at: DateTime<Utc>,
}

/// One that is under way.
#[derive(Debug)]
pub struct SignIn {
    /// What its sealed part is bound to.
    pub id: Uuid,
    /// What only the daemons may know of it.
    pub sealed: Vec<u8>,
    /// How long to wait between two questions.
    pub interval: TimeDelta,
}

/// What a poll finds.
#[derive(Debug)]
pub enum Turn {
    /// It is time to ask the provider.
    Ask(SignIn),
    /// It is too soon: the wait is this long.
    Wait(TimeDelta),
    /// There is none, or it is over.
    Unknown,
}

/// Sign-ins under way at most, of all and of one network: a person needs one, a large office some dozens at
/// once; whoever begins them for nothing fills no more than this, and they end by themselves.
const MOST: (i64, i64) = (10_000, 100);

impl Store {
    /// Records a sign-in that begins. False if there are too many under way.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin_sign_in(
        &self,
        new: &NewSignIn<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO sign_in (key, id, client, source, sealed, interval_seconds, next_poll_at, ends_at)
             SELECT $1, $2, $3, $4::text, $5, $6, $7::timestamptz, $8
             WHERE (SELECT count(*) FROM sign_in WHERE ends_at > $7) < $9
               AND (SELECT count(*) FROM sign_in WHERE source = $4 AND ends_at > $7) < $10",
            new.key,
            new.id,
            new.client.as_str(),
            new.source as Option<&str>,
            new.sealed,
            new.interval.num_seconds(),
            now,
            new.ends_at,
            MOST.0,
            MOST.1
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes the turn to ask the provider how a device's sign-in stands, if it is time: one question in each
    /// interval, however many ask us.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn poll_sign_in(&self, key: &[u8], now: DateTime<Utc>) -> Result<Turn, Error> {
        let taken = sqlx::query!(
            "UPDATE sign_in SET next_poll_at = $2::timestamptz + interval_seconds * interval '1 second'
             WHERE key = $1 AND client = 'command-line' AND ends_at > $2 AND next_poll_at <= $2
             RETURNING id, sealed, interval_seconds",
            key,
            now
        )
        .fetch_optional(&self.pool)
        .await?;
        if let Some(row) = taken {
            let interval = TimeDelta::seconds(row.interval_seconds);
            return Ok(Turn::Ask(SignIn { id: row.id, sealed: row.sealed, interval }));
        }
        let waits = sqlx::query_scalar!(
            "SELECT interval_seconds FROM sign_in WHERE key = $1 AND client = 'command-line' AND ends_at > $2",
            key,
            now
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(waits.map_or(Turn::Unknown, |seconds| Turn::Wait(TimeDelta::seconds(seconds))))
    }

    /// The provider wants to be asked less often.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn slow_sign_in_down(&self, key: &[u8], now: DateTime<Utc>) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE sign_in SET interval_seconds = interval_seconds + 5,
                                next_poll_at = $2::timestamptz + (interval_seconds + 5) * interval '1 second'
             WHERE key = $1",
            key,
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes a sign-in of a browser out of the record: whoever comes second finds none.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_sign_in(
        &self,
        key: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<SignIn>, Error> {
        let row = sqlx::query!(
            "DELETE FROM sign_in WHERE key = $1 AND client = 'browser' AND ends_at > $2
             RETURNING id, sealed, interval_seconds",
            key,
            now
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| SignIn {
            id: row.id,
            sealed: row.sealed,
            interval: TimeDelta::seconds(row.interval_seconds),
        }))
    }

    /// Forgets a sign-in that came to nothing.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn drop_sign_in(&self, key: &[u8]) -> Result<(), Error> {
        sqlx::query!("DELETE FROM sign_in WHERE key = $1", key).execute(&self.pool).await?;
        Ok(())
    }

    /// Forgets those that are over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_sign_ins(&self, before: DateTime<Utc>) -> Result<u64, Error> {
        let done = sqlx::query!("DELETE FROM sign_in WHERE ends_at < $1", before)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}

impl Tx {
    /// Ends a sign-in in the transaction of its session, so that it gives one and no more. False if it was over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn finish_sign_in(&mut self, key: &[u8]) -> Result<bool, Error> {
        let done = sqlx::query!("DELETE FROM sign_in WHERE key = $1", key)
            .execute(&mut *self.inner)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
