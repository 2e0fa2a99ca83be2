//! Rows of `identity`: by what somebody else's word a principal is known.

use chrono::{DateTime, Utc};

use crate::{
    ids::PrincipalId,
    store::{Store, Tx, error::Error},
};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose word it is.
    pub issuer: String,
    /// Its key for the principal.
    pub subject: String,
    /// Whose identity it is.
    pub principal_id: PrincipalId,
    /// What the issuer calls them.
    pub user_name: Option<String>,
    /// Since when it is known.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Is its principal disabled?
    pub disabled: bool,
}

/// An identity is one principal's for ever; this is what says so.
pub const KNOWN_AS: &str = "identity_known_as";

impl Store {
    /// The identities of a principal, oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn identities_of(&self, principal: PrincipalId) -> Result<Vec<Identity>, Error> {
        Ok(sqlx::query_as!(
            Identity,
            r#"SELECT i.issuer, i.subject, i.principal_id, i.user_name, i.created_at, i.last_seen_at,
                      p.disabled_at IS NOT NULL AS "disabled!"
               FROM identity i JOIN principal p ON p.id = i.principal_id
               WHERE i.principal_id = $1 ORDER BY i.created_at, i.issuer, i.subject"#,
            principal.uuid()
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// A page of an issuer's identities, oldest first: all, or those of one name or subject. Gives how many there
    /// are as well.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn identities_at(
        &self,
        issuer: &str,
        (user_name, subject): (Option<&str>, Option<&str>),
        (offset, limit): (i64, i64),
    ) -> Result<(i64, Vec<Identity>), Error> {
        let rows = sqlx::query!(
            r#"SELECT i.issuer, i.subject, i.principal_id, i.user_name, i.created_at, i.last_seen_at,
                      p.disabled_at IS NOT NULL AS "disabled!", count(*) OVER () AS "total!"
               FROM identity i JOIN principal p ON p.id = i.principal_id
               WHERE i.issuer = $1 AND ($2::text IS NULL OR lower(i.user_name) = lower($2))
                 AND ($3::text IS NULL OR i.subject = $3)
               ORDER BY i.created_at, i.subject OFFSET $4 LIMIT $5"#,
            issuer,
            user_name as Option<&str>,
            subject as Option<&str>,
            offset,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        let total = rows.first().map_or(0, |row| row.total);
        let found = rows.into_iter().map(|row| Identity {
            issuer: row.issuer,
            subject: row.subject,
            principal_id: row.principal_id.into(),
            user_name: row.user_name,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            disabled: row.disabled,
        });
        Ok((total, found.collect()))
    }
}

impl Tx {
    /// Records that a principal is known by this.
    ///
    /// # Errors
    /// [`KNOWN_AS`] if somebody is already.
    pub async fn add_identity(
        &mut self,
        (issuer, subject): (&str, &str),
        principal: PrincipalId,
        user_name: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO identity (issuer, subject, principal_id, user_name, created_at) VALUES ($1, $2, $3, $4, $5)",
            issuer,
            subject,
            principal.uuid(),
            user_name as Option<&str>,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Forgets that a principal is known by this. False if it was not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn remove_identity(
        &mut self,
        (issuer, subject): (&str, &str),
        principal: PrincipalId,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "DELETE FROM identity WHERE issuer = $1 AND subject = $2 AND principal_id = $3",
            issuer,
            subject,
            principal.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whose identity this is, if it is known.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal_known_as(
        &mut self,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<PrincipalId>, Error> {
        let id = sqlx::query_scalar!(
            "SELECT principal_id FROM identity WHERE issuer = $1 AND subject = $2",
            issuer,
            subject
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        Ok(id.map(PrincipalId::from))
    }

    /// Notes what an issuer calls its own now, and that it vouched for them if `seen_at` says when.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_identity(
        &mut self,
        (issuer, subject): (&str, &str),
        user_name: &str,
        seen_at: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE identity SET user_name = $3, last_seen_at = coalesce($4, last_seen_at)
             WHERE issuer = $1 AND subject = $2",
            issuer,
            subject,
            user_name,
            seen_at as Option<DateTime<Utc>>
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
