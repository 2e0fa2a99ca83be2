//! Rows of `review_item`: what a review looks at, what is known of it, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use crate::{
    domain::{
        duration::Seconds,
        principal::Principal,
        request::Via,
        review::{ANYONE, Decision, Facts, Item, ReviewVerdict},
    },
    ids::{LeaseId, PrincipalId, ProfileId, ReviewId, ReviewItemId},
    store::{Store, Tx, error::Error, people},
};

/// An item of it, as it is written.
#[derive(Debug, serde::Serialize)]
pub struct NewItem {
    /// Its id.
    pub id: Uuid,
    /// The profile.
    pub profile_id: Uuid,
    /// Its name.
    pub profile: String,
    /// Whose.
    pub principal_id: Option<Uuid>,
    /// The rule.
    pub rule: String,
    /// How it was used.
    pub facts: Facts,
}

/// Which items are meant: those for which all holds that is said.
#[derive(Debug, Clone, Default)]
pub struct ItemFilter {
    /// These.
    pub ids: Option<Vec<ReviewItemId>>,
    /// Those that wait.
    pub undecided: bool,
    /// Those of this profile.
    pub profile: Option<String>,
    /// Those of this principal, in words.
    pub principal: Option<String>,
    /// Those that were never used.
    pub never_used: bool,
    /// Those behind this one.
    pub after: Option<ReviewItemId>,
}

/// What becomes of items.
#[derive(Debug, Clone)]
pub struct Ruling<'a> {
    /// What.
    pub verdict: ReviewVerdict,
    /// How long a lease lasts at most.
    pub max_ttl: Option<Seconds>,
    /// Why.
    pub reason: &'a str,
    /// Who decided, and by which way; pgvalet, if none.
    pub by: Option<(PrincipalId, Option<Via>)>,
    /// When.
    pub at: DateTime<Utc>,
}

/// How somebody used a profile.
pub type Usage = BTreeMap<(ProfileId, PrincipalId), Facts>;

/// In the order in which they were made: by profile and principal.
async fn items(
    on: impl PgExecutor<'_>,
    review: ReviewId,
    filter: &ItemFilter,
    limit: i64,
) -> Result<Vec<Item>, Error> {
    let ids: Option<Vec<Uuid>> =
        filter.ids.as_ref().map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = sqlx::query!(
        r#"SELECT i.id, i.profile_id AS "profile_id?", i.profile, i.principal_id AS "principal_id?", p.acts_for AS "acts_for?",
                  p.kind || ':' || p.subject AS "principal?", i.rule, i.facts AS "facts!: Json<Facts>", i.verdict,
                  i.max_ttl_seconds, i.reason, i.decided_at, d.kind || ':' || d.subject AS "decided_by?", i.via,
                  token_makers_of(i.principal_id) AS "token_makers!"
           FROM review_item i
           LEFT JOIN principal p ON p.id = i.principal_id
           LEFT JOIN principal d ON d.id = i.decided_by
           WHERE i.review_id = $1 AND ($2::uuid[] IS NULL OR i.id = ANY ($2)) AND (NOT $3 OR i.verdict IS NULL)
             AND ($4::text IS NULL OR i.profile = $4) AND ($5::text IS NULL OR coalesce(p.kind || ':' || p.subject, 'anyone') = $5)
             AND (NOT $6 OR i.facts ->> 'last_used' IS NULL) AND ($7::uuid IS NULL OR i.id > $7)
           ORDER BY i.id LIMIT $8"#,
        review.uuid(),
        ids.as_deref() as Option<&[Uuid]>,
        filter.undecided,
        filter.profile.as_deref() as Option<&str>,
        filter.principal.as_deref() as Option<&str>,
        filter.never_used,
        filter.after.map(ReviewItemId::uuid) as Option<Uuid>,
        limit
    )
    .fetch_all(on)
    .await?;
    rows.into_iter()
        .map(|row| {
            let (verdict, reason) = (row.verdict.as_deref(), row.reason);
            let decision = match (verdict, reason, row.decided_at) {
                (Some(verdict), Some(reason), Some(at)) => Some(Decision {
                    verdict: ReviewVerdict::from_text(verdict)
                        .ok_or(Error::Unreadable("verdict of a review"))?,
                    max_ttl: row
                        .max_ttl_seconds
                        .map(Seconds::new)
                        .transpose()
                        .map_err(|_| Error::Unreadable("ttl"))?,
                    reason,
                    by: row.decided_by.unwrap_or_else(|| "pgvalet".to_owned()),
                    via: row.via.as_deref().and_then(Via::from_text),
                    at,
                }),
                _ => None,
            };
            Ok(Item {
                id: row.id.into(),
                profile_id: row.profile_id.map(ProfileId::from),
                profile: row.profile,
                principal_id: row.principal_id.map(PrincipalId::from),
                principal: row.principal.unwrap_or_else(|| ANYONE.to_owned()),
                acts_for: row.acts_for.map(PrincipalId::from),
                token_makers: row.token_makers.into_iter().map(PrincipalId::from).collect(),
                rule: row.rule,
                facts: row.facts.0,
                decision,
            })
        })
        .collect()
}

impl Store {
    /// Items of a review.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn review_items(
        &self,
        review: ReviewId,
        filter: &ItemFilter,
        limit: i64,
    ) -> Result<Vec<Item>, Error> {
        items(&self.pool, review, filter, limit).await
    }
}

impl Tx {
    /// Every principal that is not disabled, by its id.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn every_principal(&mut self) -> Result<Vec<Principal>, Error> {
        let rows = sqlx::query_as!(
            people::Row,
            r#"SELECT id, issuer, subject, kind, groups || provider_groups AS "groups!", admin, acts_for,
                      claims AS "claims: Json<BTreeMap<String, String>>"
               FROM principal WHERE disabled_at IS NULL ORDER BY id"#
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.into_iter().map(Principal::try_from).collect()
    }

    /// How these used profiles, each one profile; those who never did are left out. Leases since then are
    /// counted, up to 1,000.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn usage(
        &mut self,
        since: DateTime<Utc>,
        of: &BTreeSet<(ProfileId, PrincipalId)>,
    ) -> Result<Usage, Error> {
        let (profiles, principals): (Vec<_>, Vec<_>) =
            of.iter().map(|(profile, principal)| (profile.uuid(), principal.uuid())).unzip();
        // Each is looked up by itself: there may be more leases than can be read.
        let rows = sqlx::query!(
            r#"SELECT w.profile_id AS "profile_id!", w.principal_id AS "principal_id!", l.created_at, c.leases AS "leases!",
                      v.live AS "live!"
               FROM unnest($2::uuid[], $3::uuid[]) AS w (profile_id, principal_id)
               CROSS JOIN LATERAL (
                   SELECT created_at FROM lease l WHERE l.profile_id = w.profile_id AND l.principal_id = w.principal_id
                     AND l.cause IS DISTINCT FROM 'failed' ORDER BY created_at DESC LIMIT 1) AS l
               CROSS JOIN LATERAL (
                   SELECT count(*) AS leases FROM (
                       SELECT FROM lease l WHERE l.profile_id = w.profile_id AND l.principal_id = w.principal_id
                         AND l.created_at >= $1 AND l.cause IS DISTINCT FROM 'failed'
                       ORDER BY l.created_at DESC LIMIT 1000) AS counted) AS c
               CROSS JOIN LATERAL (
                   SELECT count(*) AS live FROM lease l WHERE l.profile_id = w.profile_id
                     AND l.principal_id = w.principal_id AND l.state <> 'revoked') AS v"#,
            since,
            &profiles,
            &principals
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let of = rows.into_iter().map(|row| {
            let key = (row.profile_id.into(), row.principal_id.into());
            let last_used = Some(row.created_at);
            (key, Facts { leases: row.leases, last_used, live: row.live })
        });
        Ok(of.collect())
    }

    /// When passwords of standing roles were last read: by whom, under which profile.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn readings(
        &mut self,
    ) -> Result<BTreeMap<(ProfileId, PrincipalId), DateTime<Utc>>, Error> {
        let rows = sqlx::query!(
            r#"SELECT l.profile_id AS "profile_id!", r.principal_id, max(r.read_at) AS "read_at!"
               FROM standing_reading r JOIN lease l ON l.id = r.lease_id
               WHERE l.profile_id IS NOT NULL GROUP BY l.profile_id, r.principal_id"#
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let of = rows
            .into_iter()
            .map(|row| ((row.profile_id.into(), row.principal_id.into()), row.read_at));
        Ok(of.collect())
    }

    /// Who made tokens of somebody that are still good, and for whom these act.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn token_makers_of(&mut self, id: PrincipalId) -> Result<Vec<PrincipalId>, Error> {
        let makers = sqlx::query_scalar!(r#"SELECT token_makers_of($1) AS "makers!""#, id.uuid())
            .fetch_one(&mut *self.inner)
            .await?;
        Ok(makers.into_iter().map(PrincipalId::from).collect())
    }

    /// Records the items of a review.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn add_review_items(
        &mut self,
        review: ReviewId,
        items: &[NewItem],
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO review_item (id, review_id, profile_id, profile, principal_id, rule, facts)
             SELECT id, $1, profile_id, profile, principal_id, rule, facts FROM jsonb_to_recordset($2::jsonb)
                 AS i (id uuid, profile_id uuid, profile text, principal_id uuid, rule text, facts jsonb)",
            review.uuid(),
            Json(items) as _
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Items of a review, which nobody else decides while it is locked.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn review_items(
        &mut self,
        review: ReviewId,
        filter: &ItemFilter,
    ) -> Result<Vec<Item>, Error> {
        items(&mut *self.inner, review, filter, i64::from(i32::MAX)).await
    }

    /// Records what becomes of items.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if one of them was decided already.
    pub async fn decide_items(
        &mut self,
        ids: &[ReviewItemId],
        ruling: &Ruling<'_>,
    ) -> Result<(), Error> {
        let uuids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let (by, via) = ruling.by.unzip();
        let done = sqlx::query!(
            "UPDATE review_item SET verdict = $2, max_ttl_seconds = $3, reason = $4, decided_at = $5, decided_by = $6, via = $7
             WHERE id = ANY ($1) AND verdict IS NULL",
            &uuids,
            ruling.verdict.as_str(),
            ruling.max_ttl.map(Seconds::get) as Option<i64>,
            ruling.reason,
            ruling.at,
            by.map(PrincipalId::uuid) as Option<Uuid>,
            via.flatten().map(Via::as_str) as Option<&str>
        )
        .execute(&mut *self.inner)
        .await?;
        let changed = done.rows_affected();
        if usize::try_from(changed).is_ok_and(|changed| changed == ids.len()) {
            return Ok(());
        }
        Err(Error::NotOneRow(changed))
    }

    /// The live leases under a profile, and whose they are; without those of standing roles.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn live_leases_under(
        &mut self,
        profile: ProfileId,
    ) -> Result<Vec<(LeaseId, PrincipalId)>, Error> {
        let rows = sqlx::query!(
            "SELECT id, principal_id FROM lease
             WHERE state <> 'revoked' AND state IN ('provisioning', 'active') AND profile_id = $1 AND standing_role IS NULL
             ORDER BY id",
            profile.uuid()
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id.into(), row.principal_id.into())).collect())
    }

    /// From now on a lease is renewed up to so long after it was issued; it does not end before it would.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn cap_lease(&mut self, id: LeaseId, longest: Seconds) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE lease SET max_expires_at =
                 greatest(expires_at, least(max_expires_at, created_at + $2::bigint * interval '1 second'))
             WHERE id = $1",
            id.uuid(),
            longest.get()
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
