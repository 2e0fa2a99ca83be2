//! Rows of `identity` whose issuer is `x509`: by which name of a client's certificate a principal is known.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::{administration::Administration, principal::Principal},
    ids::PrincipalId,
    store::{Store, Tx, administration, error::Error, people},
};

/// Whose word certificates are: that of the authorities which the daemon's configuration names.
pub(in crate::store) const ISSUER: &str = "x509";

/// A principal that is known by a certificate's name.
#[derive(Debug)]
pub struct KnownCertificate {
    /// The name.
    pub subject: String,
    /// Whose it is.
    pub principal: Principal,
    /// Who holds which role in pgvalet.
    pub administration: Administration,
    /// Is the principal disabled?
    pub disabled: bool,
    /// When somebody last signed in by it, as recorded: to the minute.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// The same as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCertificate {
    /// The name.
    pub subject: String,
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// Whose it is, in words.
    pub principal: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When somebody last signed in by it.
    pub last_seen_at: Option<DateTime<Utc>>,
}

impl Store {
    /// The principals that are known by one of these names.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn known_certificates(
        &self,
        names: &[String],
    ) -> Result<Vec<KnownCertificate>, Error> {
        let rows = sqlx::query!(
            r#"SELECT i.subject AS name, i.last_seen_at, p.id, p.issuer, p.subject, p.kind,
                      p.groups || p.provider_groups AS "groups!", p.acts_for, p.admin, p.claims AS "claims: Json<BTreeMap<String, String>>", p.disabled_at,
                      (SELECT jsonb_object_agg(role, allow) FROM administration) AS "administration: administration::Row"
               FROM identity i JOIN principal p ON p.id = i.principal_id
               WHERE i.issuer = $1 AND i.subject = ANY ($2) ORDER BY i.subject"#,
            ISSUER,
            names
        )
        .fetch_all(&self.pool)
        .await?;
        let mut known = Vec::with_capacity(rows.len());
        for row in rows {
            let principal = people::principal_in!(row);
            let administration = administration::read(row.administration);
            known.push(KnownCertificate {
                subject: row.name,
                principal: Principal::try_from(principal)?,
                administration: administration.ok_or(Error::Unreadable("role's rules"))?,
                disabled: row.disabled_at.is_some(),
                last_seen_at: row.last_seen_at,
            });
        }
        Ok(known)
    }

    /// Notes that somebody signed in by a name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_certificate_used(
        &self,
        subject: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE identity SET last_seen_at = $3 WHERE issuer = $1 AND subject = $2",
            ISSUER,
            subject,
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All names, in order.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn certificates(&self) -> Result<Vec<ListedCertificate>, Error> {
        Ok(sqlx::query_as!(
            ListedCertificate,
            r#"SELECT i.subject, i.principal_id, p.kind || ':' || p.subject AS "principal!", i.created_at, i.last_seen_at
               FROM identity i JOIN principal p ON p.id = i.principal_id WHERE i.issuer = $1 ORDER BY i.subject"#,
            ISSUER
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

impl Tx {
    /// Whose a name is, if it is known; locked until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_certificate(
        &mut self,
        subject: &str,
    ) -> Result<Option<ListedCertificate>, Error> {
        Ok(sqlx::query_as!(
            ListedCertificate,
            r#"SELECT i.subject, i.principal_id, p.kind || ':' || p.subject AS "principal!", i.created_at, i.last_seen_at
               FROM identity i JOIN principal p ON p.id = i.principal_id
               WHERE i.issuer = $1 AND i.subject = $2 FOR UPDATE OF i"#,
            ISSUER,
            subject
        )
        .fetch_optional(&mut *self.inner)
        .await?)
    }

    /// Records whose a name is.
    ///
    /// # Errors
    /// A constraint `identity_known_as` if it is somebody's already.
    pub async fn add_certificate(
        &mut self,
        subject: &str,
        principal: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO identity (issuer, subject, principal_id, created_at) VALUES ($1, $2, $3, $4)",
            ISSUER,
            subject,
            principal.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Forgets whose a name is.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn remove_certificate(&mut self, subject: &str) -> Result<(), Error> {
        sqlx::query!("DELETE FROM identity WHERE issuer = $1 AND subject = $2", ISSUER, subject)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}
