//! Rows of `principal`. Its groups are those that were given here and those of its provider, kept apart and read
//! together.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::{
        name::Name,
        principal::{Kind, Principal, PrincipalName},
    },
    ids::PrincipalId,
    store::{Store, Tx, error::Error, exactly_one},
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
    pub(in crate::store) acts_for: Option<uuid::Uuid>,
}

/// The columns of a principal in a row that has others, too.
macro_rules! principal_in {
    ($row:ident) => {
        $crate::store::people::Row {
            id: $row.id,
            issuer: $row.issuer,
            subject: $row.subject,
            kind: $row.kind,
            groups: $row.groups,
            admin: $row.admin,
            claims: $row.claims,
            acts_for: $row.acts_for,
        }
    };
}
pub(in crate::store) use principal_in;

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
            acts_for: row.acts_for.map(PrincipalId::from),
        })
    }
}

/// Names of groups, which were checked on their way in: those given here and the provider's, each once.
fn names(mut texts: Vec<String>) -> Result<Vec<Name>, Error> {
    texts.sort_unstable();
    texts.dedup();
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
    /// The person that it acts for.
    pub acts_for: Option<PrincipalId>,
}

/// A principal as it is listed.
#[derive(Debug)]
pub struct ListedPrincipal {
    /// Its id.
    pub id: PrincipalId,
    /// What kind of caller it is.
    pub kind: String,
    /// Its name.
    pub subject: String,
    /// May it administer, by what is recorded of it?
    pub admin: bool,
    /// The groups that it was given here.
    pub groups: Vec<String>,
    /// The groups of its provider.
    pub provider_groups: Vec<String>,
    claims: Json<BTreeMap<String, String>>,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When it was disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it last signed in or used a token.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Sessions that are open.
    pub sessions: i64,
    /// Tokens that hold.
    pub tokens: i64,
    /// Leases that are live.
    pub live_leases: i64,
}

impl ListedPrincipal {
    /// What is claimed of it.
    #[must_use]
    pub const fn claims(&self) -> &BTreeMap<String, String> {
        &self.claims.0
    }
}

/// Which principals are listed.
#[derive(Debug, Default)]
pub struct PrincipalFilter {
    /// This one.
    pub id: Option<PrincipalId>,
    /// Those of this kind.
    pub kind: Option<Kind>,
    /// Those recorded before this one.
    pub before: Option<PrincipalId>,
}

/// A principal, locked until the transaction ends, and whether it is disabled.
pub type Locked = (Principal, bool);

/// A name is one principal's; this is what says so.
pub const NAME_TAKEN: &str = "principal_name";

impl Store {
    /// A page of principals, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principals(
        &self,
        filter: &PrincipalFilter,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ListedPrincipal>, Error> {
        Ok(sqlx::query_as!(
            ListedPrincipal,
            r#"SELECT p.id AS "id!", p.kind, p.subject, p.admin, p.groups, p.provider_groups,
                      p.claims AS "claims: Json<BTreeMap<String, String>>", p.created_at, p.disabled_at,
                      greatest((SELECT max(t.last_used_at) FROM token t WHERE t.principal_id = p.id),
                               (SELECT max(i.last_seen_at) FROM identity i WHERE i.principal_id = p.id)) AS last_seen_at,
                      (SELECT count(*) FROM token t
                       WHERE t.principal_id = p.id AND t.kind = 'session' AND t.revoked_at IS NULL AND t.expires_at > $4
                         AND coalesce(t.last_used_at, t.created_at) + t.idle_seconds * interval '1 second' > $4) AS "sessions!",
                      (SELECT count(*) FROM token t
                       WHERE t.principal_id = p.id AND t.kind = 'api' AND t.revoked_at IS NULL
                         AND coalesce(t.expires_at > $4, true)) AS "tokens!",
                      (SELECT count(*) FROM lease l WHERE l.principal_id = p.id AND l.state <> 'revoked') AS "live_leases!"
               FROM principal p
               WHERE ($1::uuid IS NULL OR p.id = $1) AND ($2::text IS NULL OR p.kind = $2)
                 AND ($3::uuid IS NULL OR p.id < $3)
               ORDER BY p.id DESC LIMIT $5"#,
            filter.id.map(PrincipalId::uuid) as Option<uuid::Uuid>,
            filter.kind.map(Kind::as_str) as Option<&str>,
            filter.before.map(PrincipalId::uuid) as Option<uuid::Uuid>,
            now,
            limit
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// A principal, unless it is disabled.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal(&self, id: PrincipalId) -> Result<Option<Principal>, Error> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT id, issuer, subject, kind, groups || provider_groups AS "groups!", admin, acts_for,
                      claims AS "claims: Json<BTreeMap<String, String>>"
               FROM principal WHERE id = $1 AND disabled_at IS NULL"#,
            id.uuid()
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(Principal::try_from).transpose()
    }
}

impl Store {
    /// The principal that is known by what an issuer says, and whether it is disabled.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal_vouched_for(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<(Principal, bool)>, Error> {
        let row = sqlx::query!(
            r#"SELECT p.id, p.issuer, p.subject, p.kind, p.groups || p.provider_groups AS "groups!", p.admin, p.acts_for,
                      p.claims AS "claims: Json<BTreeMap<String, String>>", p.disabled_at IS NOT NULL AS "disabled!"
               FROM identity i JOIN principal p ON p.id = i.principal_id WHERE i.issuer = $1 AND i.subject = $2"#,
            issuer,
            subject
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let principal = principal_in!(row);
        Ok(Some((principal.try_into()?, row.disabled)))
    }

    /// A principal, whether or not it is disabled.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal_of_id(&self, id: PrincipalId) -> Result<Option<Principal>, Error> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT id, issuer, subject, kind, groups || provider_groups AS "groups!", admin, acts_for,
                      claims AS "claims: Json<BTreeMap<String, String>>"
               FROM principal WHERE id = $1"#,
            id.uuid()
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(Principal::try_from).transpose()
    }

    /// The principal of that name, and whether it is disabled.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal_named(
        &self,
        name: &PrincipalName,
    ) -> Result<Option<(Principal, bool)>, Error> {
        principal_named(&self.pool, name).await
    }
}

async fn principal_named(
    on: impl sqlx::PgExecutor<'_>,
    name: &PrincipalName,
) -> Result<Option<(Principal, bool)>, Error> {
    let row = sqlx::query!(
            r#"SELECT id, issuer, subject, kind, groups || provider_groups AS "groups!", admin, acts_for,
                      claims AS "claims: Json<BTreeMap<String, String>>", disabled_at IS NOT NULL AS "disabled!"
               FROM principal WHERE kind = $1 AND subject = $2"#,
        name.kind.as_str(),
        name.subject.as_str()
    )
    .fetch_optional(on)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let principal = principal_in!(row);
    Ok(Some((principal.try_into()?, row.disabled)))
}

impl Tx {
    /// The principal of that name, and whether it is disabled.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn principal_named(
        &mut self,
        name: &PrincipalName,
    ) -> Result<Option<(Principal, bool)>, Error> {
        principal_named(&mut *self.inner, name).await
    }

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
            r#"INSERT INTO principal (id, issuer, subject, kind, groups, admin, created_at, claims, acts_for)
               VALUES ($1, $2, $3, $4, coalesce($5::text[], '{}'), coalesce($6::boolean, false), $7,
                       coalesce($8::jsonb, '{}'), $9)
               ON CONFLICT ON CONSTRAINT principal_name DO UPDATE
               SET groups = coalesce($5::text[], principal.groups), admin = coalesce($6::boolean, principal.admin),
                   claims = coalesce($8::jsonb, principal.claims), acts_for = coalesce($9, principal.acts_for)
               RETURNING id, issuer, subject, kind, principal.groups || principal.provider_groups AS "groups!", admin, acts_for,
                         claims AS "claims: Json<BTreeMap<String, String>>""#,
            PrincipalId::new().uuid(),
            issuer,
            subject.as_str(),
            kind.as_str(),
            groups.as_deref() as Option<&[String]>,
            change.admin as Option<bool>,
            now,
            change.claims.as_ref().map(Json) as _,
            change.acts_for.map(PrincipalId::uuid) as Option<uuid::Uuid>
        )
        .fetch_one(&mut *self.inner)
        .await?;
        row.try_into()
    }

    /// A principal, locked until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_principal(&mut self, id: PrincipalId) -> Result<Option<Locked>, Error> {
        Ok(self.lock_principals(&[id]).await?.pop())
    }

    /// Those of these principals that there are, locked until the transaction ends; all in one order, so that of two
    /// who lock the same none waits for the other for ever.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_principals(&mut self, ids: &[PrincipalId]) -> Result<Vec<Locked>, Error> {
        let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
        let rows = sqlx::query!(
            r#"SELECT id, issuer, subject, kind, groups || provider_groups AS "groups!", admin, acts_for,
                      claims AS "claims: Json<BTreeMap<String, String>>", disabled_at
               FROM principal WHERE id = ANY ($1) ORDER BY id FOR UPDATE"#,
            &ids
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let locked = rows.into_iter().map(|row| {
            let disabled = row.disabled_at.is_some();
            let row = principal_in!(row);
            Ok((row.try_into()?, disabled))
        });
        locked.collect()
    }

    /// The services that act for somebody.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn agents_of(&mut self, id: PrincipalId) -> Result<Vec<PrincipalId>, Error> {
        let ids = sqlx::query_scalar!("SELECT id FROM principal WHERE acts_for = $1", id.uuid())
            .fetch_all(&mut *self.inner)
            .await?;
        Ok(ids.into_iter().map(PrincipalId::from).collect())
    }

    /// Records a person that a provider vouches for.
    ///
    /// # Errors
    /// [`NAME_TAKEN`] if the name is another's.
    pub async fn create_person(
        &mut self,
        issuer: &str,
        name: &Name,
        now: DateTime<Utc>,
    ) -> Result<PrincipalId, Error> {
        let id = PrincipalId::new();
        sqlx::query!(
            "INSERT INTO principal (id, issuer, subject, kind, created_at) VALUES ($1, $2, $3, 'person', $4)",
            id.uuid(),
            issuer,
            name.as_str(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(id)
    }

    /// Takes over what a provider says of its person now: its groups in place of those that it said before, and
    /// its claims, of which `theirs` are the names.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_over(
        &mut self,
        id: PrincipalId,
        groups: &[Name],
        (theirs, claims): (&[String], &BTreeMap<String, String>),
    ) -> Result<(), Error> {
        let groups: Vec<String> = groups.iter().map(Name::to_string).collect();
        let done = sqlx::query!(
            "UPDATE principal SET provider_groups = $2, claims = (claims - $3::text[]) || $4::jsonb WHERE id = $1",
            id.uuid(),
            &groups,
            theirs,
            Json(claims) as _
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Sets the groups that a principal is given here.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn set_groups(&mut self, id: PrincipalId, groups: &[Name]) -> Result<(), Error> {
        let groups: Vec<String> = groups.iter().map(Name::to_string).collect();
        let done =
            sqlx::query!("UPDATE principal SET groups = $2 WHERE id = $1", id.uuid(), &groups)
                .execute(&mut *self.inner)
                .await?;
        exactly_one(&done)
    }

    /// Disables a principal, or enables it again.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn set_disabled(
        &mut self,
        id: PrincipalId,
        disabled_at: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE principal SET disabled_at = $2 WHERE id = $1",
            id.uuid(),
            disabled_at as Option<DateTime<Utc>>
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }
}
