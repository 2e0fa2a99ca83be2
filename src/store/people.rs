//! Rows of `principal`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::{
        name::Name,
        principal::{Kind, Principal, PrincipalName},
    },
    ids::PrincipalId,
    store::{Store, Tx, error::Error},
};

/// A principal's row, on its way to being a [`Principal`].
pub(in crate::store) struct Row {
    pub(in crate::store) id: uuid::Uuid,
    pub(in crate::store) issuer: String,
    pub(in crate::store) subject: String,
    pub(in crate::store) kind: String,
    pub(in crate::store) groups: Vec<String>,
    pub(in crate::store) admin: bool,
    pub(in crate::store) claims: Json<BTreeMap<String, String>>,
}

impl TryFrom<Row> for Principal {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: PrincipalId::from(row.id),
            issuer: row.issuer,
            subject: row.subject.parse().map_err(|_| Error::Unreadable("principal's name"))?,
            kind: Kind::from_text(&row.kind).ok_or(Error::Unreadable("kind of principal"))?,
            groups: names(row.groups)?,
            admin: row.admin,
            claims: row.claims.0,
        })
    }
}

/// Names of groups, which were checked on their way in.
fn names(texts: Vec<String>) -> Result<Vec<Name>, Error> {
    let read = |text: String| text.parse().map_err(|_| Error::Unreadable("name of a group"));
    texts.into_iter().map(read).collect()
}

/// What is to be recorded of a principal; none leaves it as it was.
#[derive(Debug, Default)]
pub struct PrincipalChange {
    /// The groups that it is in.
    pub groups: Option<Vec<Name>>,
    /// May it administer?
    pub admin: Option<bool>,
    /// What is claimed of it.
    pub claims: Option<BTreeMap<String, String>>,
}

impl Store {
    /// A principal, unless it is disabled.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal(&self, id: PrincipalId) -> Result<Option<Principal>, Error> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT id, issuer, subject, kind, groups, admin, claims AS "claims: Json<BTreeMap<String, String>>"
               FROM principal WHERE id = $1 AND disabled_at IS NULL"#,
            id.uuid()
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(Principal::try_from).transpose()
    }
}

impl Store {
    /// The principal of that name, and whether it is disabled.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal_named(
        &self,
        name: &PrincipalName,
    ) -> Result<Option<(Principal, bool)>, Error> {
        let row = sqlx::query!(
            r#"SELECT id, issuer, subject, kind, groups, admin, claims AS "claims: Json<BTreeMap<String, String>>",
                      disabled_at IS NOT NULL AS "disabled!"
               FROM principal WHERE kind = $1 AND subject = $2"#,
            name.kind.as_str(),
            name.subject.as_str()
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let principal = Row {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            kind: row.kind,
            groups: row.groups,
            admin: row.admin,
            claims: row.claims,
        };
        Ok(Some((principal.try_into()?, row.disabled)))
    }
}

impl Tx {
    /// Finds or records a principal, and changes what is asked for.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn ensure_principal(
        &mut self,
        issuer: &str,
        kind: Kind,
        subject: &Name,
        change: &PrincipalChange,
        now: DateTime<Utc>,
    ) -> Result<Principal, Error> {
        let groups: Option<Vec<String>> =
            change.groups.as_ref().map(|groups| groups.iter().map(Name::to_string).collect());
        let row = sqlx::query_as!(
            Row,
            r#"INSERT INTO principal (id, issuer, subject, kind, groups, admin, created_at, claims)
               VALUES ($1, $2, $3, $4, coalesce($5::text[], '{}'), coalesce($6::boolean, false), $7,
                       coalesce($8::jsonb, '{}'))
               ON CONFLICT ON CONSTRAINT principal_name DO UPDATE
               SET groups = coalesce($5::text[], principal.groups), admin = coalesce($6::boolean, principal.admin),
                   claims = coalesce($8::jsonb, principal.claims)
               RETURNING id, issuer, subject, kind, groups, admin, claims AS "claims: Json<BTreeMap<String, String>>""#,
            PrincipalId::new().uuid(),
            issuer,
            subject.as_str(),
            kind.as_str(),
            groups.as_deref() as Option<&[String]>,
            change.admin as Option<bool>,
            now,
            change.claims.as_ref().map(Json) as _
        )
        .fetch_one(&mut *self.inner)
        .await?;
        row.try_into()
    }
}
