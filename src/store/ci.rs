//! Rows of `issuer` and `ci_rule`: whose CI jobs are let in; and of `spent_token`: which of their tokens handed
//! out a credential.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::{PgPool, types::Json};

use crate::{
    domain::{
        ci::{IssuerSpec, rule::RuleSpec},
        name::Name,
        principal::{Kind, Principal},
    },
    gather::{Bounds, Gather},
    ids::LeaseId,
    store::{
        Store, Tx,
        error::Error,
        issuing::Spent,
        people::{self, PrincipalChange},
    },
};

/// An issuer with its rules.
#[derive(Debug)]
pub struct KnownIssuer {
    /// The issuer.
    pub spec: IssuerSpec,
    /// Its rules, each with the principal that its jobs are. Those of disabled ones are left out.
    pub rules: Vec<(RuleSpec, Principal)>,
}

/// Jobs of one pipeline ask at once: they are looked up together.
pub(in crate::store) struct Lookups(Gather<(), String, Result<Option<Arc<KnownIssuer>>, Error>>);

const BOUNDS: Bounds = Bounds { in_a_batch: 128, at_once: 1, waiting: 4096 };

impl Lookups {
    pub(in crate::store) fn new(pool: &PgPool) -> Self {
        let pool = pool.clone();
        Self(Gather::new(BOUNDS, move |urls: Vec<String>| {
            let pool = pool.clone();
            async move {
                match known_issuers(&pool, &urls).await {
                    Ok(known) => urls.iter().map(|url| Ok(known.get(url).cloned())).collect(),
                    Err(e) => e.for_each_of(urls.len()),
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

async fn known_issuers(
    pool: &PgPool,
    urls: &[String],
) -> Result<HashMap<String, Arc<KnownIssuer>>, Error> {
    let rows = sqlx::query!(
        r#"SELECT i.url, i.spec AS "issuer: Json<IssuerSpec>", r.spec AS "rule?: Json<RuleSpec>", p.id AS "id?",
                  p.issuer AS "vouches?", p.subject AS "subject?", p.groups AS "groups?", p.admin AS "admin?",
                  p.claims AS "claims?: Json<BTreeMap<String, String>>"
           FROM issuer i
           LEFT JOIN (ci_rule r JOIN principal p ON p.kind = 'ci' AND p.subject = r.name AND p.disabled_at IS NULL)
               ON r.issuer = i.name
           WHERE i.url = ANY (ARRAY(SELECT url FROM jsonb_array_elements_text($1) AS asked (url)))
           ORDER BY r.name"#,
        Json(urls) as _
    )
    .fetch_all(pool)
    .await?;
    let mut known: HashMap<String, KnownIssuer> = HashMap::new();
    for row in rows {
        let fresh = KnownIssuer { spec: row.issuer.0, rules: Vec::new() };
        let issuer = known.entry(row.url).or_insert(fresh);
        let (Some(rule), Some(id), Some(subject)) = (row.rule, row.id, row.subject) else {
            continue;
        };
        let principal = people::Row {
            id,
            issuer: row.vouches.unwrap_or_default(),
            subject,
            kind: Kind::Ci.as_str().to_owned(),
            groups: row.groups.unwrap_or_default(),
            admin: row.admin.unwrap_or_default(),
            claims: row.claims.unwrap_or_default(),
            acts_for: None,
        };
        issuer.rules.push((rule.0, principal.try_into()?));
    }
    Ok(known.into_iter().map(|(url, issuer)| (url, Arc::new(issuer))).collect())
}

impl Store {
    /// The issuer of that URL, to the letter. Asked for each token, so that a rule that is taken back holds on no
    /// daemon.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn issuer_of(&self, url: &str) -> Result<Option<Arc<KnownIssuer>>, Error> {
        self.issuer_lookups.0.ask((), url.to_owned()).await?
    }

    /// All issuers, by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn issuers(&self) -> Result<Vec<IssuerSpec>, Error> {
        let rows = sqlx::query_scalar!(
            r#"SELECT spec AS "spec: Json<IssuerSpec>" FROM issuer ORDER BY name"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|Json(spec)| spec).collect())
    }

    /// All rules for CI jobs, by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn ci_rules(&self) -> Result<Vec<RuleSpec>, Error> {
        let rows = sqlx::query_scalar!(
            r#"SELECT spec AS "spec: Json<RuleSpec>" FROM ci_rule ORDER BY name"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|Json(spec)| spec).collect())
    }

    /// Did a job's token hand out a credential already? One whose lease failed did not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn is_spent(&self, hash: &[u8]) -> Result<bool, Error> {
        let spent = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM spent_token s
                              WHERE s.hash = $1 AND NOT EXISTS (
                                  SELECT FROM lease l WHERE l.id = s.lease_id AND l.cause = 'failed')) AS "spent!""#,
            hash
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(spent)
    }

    /// Forgets tokens that ended before this instant.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_spent_tokens(&self, before: DateTime<Utc>) -> Result<u64, Error> {
        let done = sqlx::query!("DELETE FROM spent_token WHERE ends_at < $1", before)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}

impl Tx {
    /// Records an issuer.
    ///
    /// # Errors
    /// [`Error::Constraint`] `issuer_url` if another one has its URL.
    pub async fn put_issuer(&mut self, spec: &IssuerSpec) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO issuer (name, url, spec) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET url = excluded.url, spec = excluded.spec",
            spec.name.as_str(),
            spec.url,
            Json(spec) as _
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Records a rule, and the principal that its jobs are.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn put_ci_rule(
        &mut self,
        spec: &RuleSpec,
        issuer: &IssuerSpec,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO ci_rule (name, issuer, spec) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET issuer = excluded.issuer, spec = excluded.spec",
            spec.name.as_str(),
            spec.issuer.as_str(),
            Json(spec) as _
        )
        .execute(&mut *self.inner)
        .await?;
        let change = PrincipalChange::default();
        self.ensure_principal(&issuer.url, Kind::Ci, &spec.name, &change, now).await?;
        Ok(())
    }

    /// Removes a rule. Its principal stays: leases name it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn remove_ci_rule(&mut self, name: &Name) -> Result<bool, Error> {
        let done = sqlx::query!("DELETE FROM ci_rule WHERE name = $1", name.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes an issuer.
    ///
    /// # Errors
    /// [`Error::Constraint`] `ci_rule_issuer` if it has rules.
    pub async fn remove_issuer(&mut self, name: &Name) -> Result<bool, Error> {
        let done = sqlx::query!("DELETE FROM issuer WHERE name = $1", name.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Spends a job's token on a credential of a lease that is there. False if it was spent before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn spend_token(&mut self, spent: Spent<'_>, lease: LeaseId) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO spent_token (hash, lease_id, ends_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            spent.hash,
            lease.uuid(),
            spent.ends_at
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}
