//! Sessions, which are rows of `token`: made, ended, and looked after while their provider says that their
//! person is still there.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::session::Client,
    ids::{LeaseId, PrincipalId, TokenId},
    store::{Store, Tx, error::Error, exactly_one},
};

/// A new session.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// What it is for, in words.
    pub name: &'a str,
    /// What it is for.
    pub client: Client,
    /// argon2id, PHC string.
    pub hash: &'a str,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
    /// It ends when it was not used for so long.
    pub idle: TimeDelta,
    /// What its provider is asked with, sealed; and when.
    pub recheck: Option<(&'a [u8], DateTime<Utc>)>,
}

/// A session whose provider is to be asked whether its person is still there, ours until the claim ends.
#[derive(Debug)]
pub struct DueSession {
    /// Which.
    pub id: TokenId,
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// What its provider is asked with, sealed.
    pub provider_token: Vec<u8>,
    /// When it last said yes.
    pub checked_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Claims sessions that are due to be asked about, until the claim ends: then another daemon may.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_due_sessions(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<DueSession>, Error> {
        let rows = sqlx::query!(
            r#"UPDATE token SET recheck_at = $2
               WHERE id IN (SELECT id FROM token
                            WHERE recheck_at <= $1 AND revoked_at IS NULL AND expires_at > $1
                            ORDER BY recheck_at LIMIT $3 FOR UPDATE SKIP LOCKED)
               RETURNING id, principal_id, provider_token AS "provider_token!", checked_at"#,
            now,
            until,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        let due = rows.into_iter().map(|row| DueSession {
            id: row.id.into(),
            principal_id: row.principal_id.into(),
            provider_token: row.provider_token,
            checked_at: row.checked_at,
        });
        Ok(due.collect())
    }

    /// The next look at a session's person.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn put_off_recheck(&self, id: TokenId, at: DateTime<Utc>) -> Result<(), Error> {
        sqlx::query!("UPDATE token SET recheck_at = $2 WHERE id = $1", id.uuid(), at)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Live leases of principals that are disabled: they were asked for just before that, or it ended half-way.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn leases_of_the_disabled(&self) -> Result<Vec<LeaseId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT l.id FROM principal p JOIN lease l ON l.principal_id = p.id AND l.state <> 'revoked'
             WHERE p.disabled_at IS NOT NULL AND l.state IN ('provisioning', 'active') AND l.standing_role IS NULL
             ORDER BY l.id LIMIT 1000"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(LeaseId::from).collect())
    }
}

impl Tx {
    /// Records a session.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn create_session(
        &mut self,
        new: &NewSession<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let (provider_token, recheck_at) = new.recheck.unzip();
        sqlx::query!(
            "INSERT INTO token (id, principal_id, name, hash, created_at, expires_at, last_used_at, kind, idle_seconds,
                                client, provider_token, recheck_at, checked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $5, 'session', $7, $8, $9, $10, $5)",
            new.id.uuid(),
            new.principal.uuid(),
            new.name,
            new.hash,
            now,
            new.expires_at,
            new.idle.num_seconds(),
            new.client.as_str(),
            provider_token as Option<&[u8]>,
            recheck_at as Option<DateTime<Utc>>
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Ends the sessions of a principal. Gives those that had not ended.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn end_sessions(
        &mut self,
        principal: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<Vec<(TokenId, String)>, Error> {
        let rows = sqlx::query!(
            "UPDATE token SET revoked_at = $2, provider_token = NULL, recheck_at = NULL
             WHERE principal_id = $1 AND kind = 'session' AND revoked_at IS NULL
             RETURNING id, name",
            principal.uuid(),
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id.into(), row.name)).collect())
    }

    /// Records that the provider says that a session's person is still there, with what it is asked with next.
    ///
    /// # Errors
    /// If the session has ended meanwhile.
    pub async fn note_still_there(
        &mut self,
        id: TokenId,
        provider_token: &[u8],
        (now, next): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE token SET provider_token = $2, checked_at = $3, recheck_at = $4
             WHERE id = $1 AND revoked_at IS NULL",
            id.uuid(),
            provider_token,
            now,
            next
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// The live leases of a principal that it asked for.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn live_leases_of(&mut self, principal: PrincipalId) -> Result<Vec<LeaseId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT id FROM lease WHERE principal_id = $1 AND state <> 'revoked'
               AND state IN ('provisioning', 'active') AND standing_role IS NULL
             ORDER BY id",
            principal.uuid()
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(ids.into_iter().map(LeaseId::from).collect())
    }
}
