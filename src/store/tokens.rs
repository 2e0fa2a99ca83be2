//! Rows of `token`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgPool, types::Json};

use crate::{
    domain::{
        administration::{Administration, Scope, Scopes},
        principal::Principal,
        session::Client,
    },
    gather::{Bounds, Gather},
    ids::{PrincipalId, TokenId},
    store::{Store, Tx, administration, error::Error, people},
};

/// A token as it is needed to let its bearer in.
#[derive(Debug)]
pub struct KnownToken {
    /// Whose it is.
    pub principal: Principal,
    /// argon2id, PHC string.
    pub hash: String,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// It ends when it was not used for so long.
    pub idle: Option<TimeDelta>,
    /// What it carries of its principal's rights.
    pub scopes: Scopes,
    /// The only kind of client it is taken from.
    pub client: Option<Client>,
    /// Who holds which role in pgvalet.
    pub administration: Administration,
    /// Was it revoked?
    pub revoked: bool,
    /// Is its principal disabled?
    pub disabled: bool,
    /// When it was last used, as recorded: to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Who made it, if somebody else did than whose it is, and who made what it was made with.
    pub makers: Vec<PrincipalId>,
}

/// A token as it is shown.
#[derive(Debug, Clone)]
pub struct ListedToken {
    /// Its id.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// Whose it is, in words.
    pub principal: String,
    /// May its principal administer?
    pub admin: bool,
    /// The groups of its principal.
    pub groups: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// `api`, or `session` if a sign-in made it.
    pub kind: String,
    /// What it carries of its principal's rights; all, if none.
    pub scopes: Option<Vec<String>>,
}

/// A new token.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// What it is for.
    pub name: &'a str,
    /// argon2id, PHC string.
    pub hash: &'a str,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// The token that it was made with by its bearer: it ends with that one.
    pub made_with: Option<TokenId>,
    /// Who makes it, if somebody else does than whose it is, and who made what it is made with.
    pub makers: &'a [PrincipalId],
    /// What it carries of its principal's rights.
    pub scopes: Scopes,
}

/// Who asks at once is looked up together.
pub(in crate::store) struct Lookups(Gather<(), TokenId, Result<Option<Arc<KnownToken>>, Error>>);

const BOUNDS: Bounds = Bounds { in_a_batch: 128, at_once: 1, waiting: 4096 };

impl Lookups {
    pub(in crate::store) fn new(pool: &PgPool) -> Self {
        let pool = pool.clone();
        Self(Gather::new(BOUNDS, move |ids: Vec<TokenId>| {
            let pool = pool.clone();
            async move {
                match known_tokens(&pool, &ids).await {
                    Ok(known) => ids.iter().map(|id| known.of(*id)).collect(),
                    Err(e) => e.for_each_of(ids.len()),
                }
            }
        }))
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

/// What was found; none for a token that is there but cannot be read.
struct Known(HashMap<TokenId, Option<Arc<KnownToken>>>);

impl Known {
    fn of(&self, id: TokenId) -> Result<Option<Arc<KnownToken>>, Error> {
        match self.0.get(&id) {
            None => Ok(None),
            Some(Some(token)) => Ok(Some(Arc::clone(token))),
            Some(None) => Err(Error::Unreadable("token's principal")),
        }
    }
}

async fn known_tokens(pool: &PgPool, ids: &[TokenId]) -> Result<Known, Error> {
    // As JSON, of whose length the planner knows nothing: for an array it would plan anew each time.
    let ids = Json(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>());
    let rows = sqlx::query!(
        r#"SELECT t.id AS token_id, t.hash, t.expires_at, t.revoked_at, t.last_used_at, t.created_at, t.idle_seconds,
                  t.scopes, t.client, CASE WHEN t.makers = '{}' THEN t.makers ELSE with_whom_they_act_for(t.makers) END AS "makers!", p.id, p.issuer, p.subject, p.kind, p.admin,
                  p.groups || p.provider_groups AS "groups!", p.acts_for, p.claims AS "claims: Json<BTreeMap<String, String>>", p.disabled_at,
                  (SELECT jsonb_object_agg(role, allow) FROM administration) AS "administration: administration::Row"
           FROM token t JOIN principal p ON p.id = t.principal_id
           WHERE t.id = ANY (ARRAY(SELECT id::uuid FROM jsonb_array_elements_text($1) AS asked (id)))"#,
        ids as _
    )
    .fetch_all(pool)
    .await?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        let principal = people::principal_in!(row);
        let read = || {
            Some(KnownToken {
                principal: Principal::try_from(principal).ok()?,
                hash: row.hash,
                expires_at: row.expires_at,
                created_at: row.created_at,
                idle: row.idle_seconds.map(TimeDelta::seconds),
                scopes: scopes(row.scopes)?,
                client: match row.client {
                    Some(client) => Some(Client::from_text(&client)?),
                    None => None,
                },
                administration: administration::read(row.administration)?,
                revoked: row.revoked_at.is_some(),
                disabled: row.disabled_at.is_some(),
                last_used_at: row.last_used_at,
                makers: row.makers.into_iter().map(PrincipalId::from).collect(),
            })
        };
        known.insert(TokenId::from(row.token_id), read().map(Arc::new));
    }
    Ok(Known(known))
}

/// None for a word of a later release: such a token is not taken for one that may do everything.
fn scopes(words: Option<Vec<String>>) -> Option<Scopes> {
    let Some(words) = words else { return Some(Scopes(None)) };
    let scopes = words.iter().map(|word| word.parse::<Scope>().ok()).collect::<Option<_>>()?;
    Some(Scopes(Some(scopes)))
}

impl Store {
    /// Looks a token up. Asked on every request, so that a revoked token is refused at once on
    /// every daemon.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn token(&self, id: TokenId) -> Result<Option<Arc<KnownToken>>, Error> {
        self.token_lookups.0.ask((), id).await?
    }

    /// Notes that a token was used.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_token_used(&self, id: TokenId, now: DateTime<Utc>) -> Result<(), Error> {
        sqlx::query!("UPDATE token SET last_used_at = $2 WHERE id = $1", id.uuid(), now)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// A page of tokens, newest first: of one principal, or all.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tokens(
        &self,
        of: Option<PrincipalId>,
        before: Option<TokenId>,
        limit: i64,
    ) -> Result<Vec<ListedToken>, Error> {
        let rows = sqlx::query_as!(
            ListedToken,
            r#"SELECT t.id AS "id!", t.name, p.id AS "principal_id!", p.kind || ':' || p.subject AS "principal!",
                      p.admin, ARRAY(SELECT DISTINCT g FROM unnest(p.groups || p.provider_groups) AS of_both (g) ORDER BY g) AS "groups!", t.created_at, t.expires_at, t.last_used_at, t.revoked_at,
                      t.kind, t.scopes
               FROM token t JOIN principal p ON p.id = t.principal_id
               WHERE ($1::uuid IS NULL OR t.principal_id = $1) AND ($2::uuid IS NULL OR t.id < $2)
               ORDER BY t.id DESC LIMIT $3"#,
            of.map(PrincipalId::uuid) as Option<uuid::Uuid>,
            before.map(TokenId::uuid) as Option<uuid::Uuid>,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}

impl Tx {
    /// Records a token.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn create_token(
        &mut self,
        token: &NewToken<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let scopes = token.scopes.words();
        let makers: Vec<uuid::Uuid> = token.makers.iter().map(|id| id.uuid()).collect();
        sqlx::query!(
            "INSERT INTO token (id, principal_id, name, hash, created_at, expires_at, made_with, scopes, makers)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            token.id.uuid(),
            token.principal.uuid(),
            token.name,
            token.hash,
            now,
            token.expires_at,
            token.made_with.map(TokenId::uuid) as Option<uuid::Uuid>,
            scopes.as_deref() as Option<&[String]>,
            &makers
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// One token, locked until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_token(&mut self, id: TokenId) -> Result<Option<ListedToken>, Error> {
        let row = sqlx::query_as!(
            ListedToken,
            r#"SELECT t.id AS "id!", t.name, p.id AS "principal_id!", p.kind || ':' || p.subject AS "principal!",
                      p.admin, ARRAY(SELECT DISTINCT g FROM unnest(p.groups || p.provider_groups) AS of_both (g) ORDER BY g) AS "groups!", t.created_at, t.expires_at, t.last_used_at, t.revoked_at,
                      t.kind, t.scopes
               FROM token t JOIN principal p ON p.id = t.principal_id
               WHERE t.id = $1 FOR UPDATE OF t"#,
            id.uuid()
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        Ok(row)
    }

    /// Revokes a token and those that were made with it, and so on. Gives those that were not revoked
    /// yet.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn revoke_token(
        &mut self,
        id: TokenId,
        now: DateTime<Utc>,
    ) -> Result<Vec<(TokenId, PrincipalId, String)>, Error> {
        let rows = sqlx::query!(
            "WITH RECURSIVE ending AS (
                 SELECT id FROM token WHERE id = $1
                 UNION SELECT t.id FROM token t JOIN ending e ON t.made_with = e.id)
             UPDATE token SET revoked_at = $2, provider_token = NULL, recheck_at = NULL
             WHERE id IN (SELECT id FROM ending) AND revoked_at IS NULL
             RETURNING id, principal_id, name",
            id.uuid(),
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let ended = |id, principal, name| (TokenId::from(id), PrincipalId::from(principal), name);
        Ok(rows.into_iter().map(|row| ended(row.id, row.principal_id, row.name)).collect())
    }
}
