//! Rows of `offboarding`, and what the record says that somebody who leaves still has.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        offboarding::{Agreed, MadeToken, Offboarding, ShutOut},
        request::State,
    },
    ids::{AccessRequestId, LeaseId, OffboardingId, PrincipalId, TokenId},
    store::{Store, Tx, error::Error},
};

/// A login of a standing role whose password somebody was given.
#[derive(Debug, Clone)]
pub struct ReadSecret {
    /// The standing role.
    pub standing_role: String,
    /// The lease of the login.
    pub lease_id: LeaseId,
    /// When they last read it.
    pub read_at: DateTime<Utc>,
}

/// That somebody leaves, to be recorded.
#[derive(Debug)]
pub struct NewOffboarding<'a> {
    /// Its id.
    pub id: OffboardingId,
    /// Who.
    pub principal: PrincipalId,
    /// Who says so.
    pub by: PrincipalId,
    /// For whom sealed codes were withdrawn.
    pub codes_withdrawn: &'a [String],
}

struct Row {
    id: Uuid,
    principal_id: Uuid,
    started_at: DateTime<Utc>,
    started_by: String,
    codes_withdrawn: Vec<String>,
    finished_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<Row> for Offboarding {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            principal_id: row.principal_id.into(),
            started_at: row.started_at,
            started_by: row.started_by,
            codes_withdrawn: row.codes_withdrawn,
            finished_at: row.finished_at,
            ended_at: row.ended_at,
        }
    }
}

/// What is recorded of those who leave, all with the same columns; what follows says of whom.
macro_rules! offboarding_rows {
    ($which:tt $($arguments:tt)*) => {
        sqlx::query_as!(
            Row,
            r#"SELECT o.id, o.principal_id, o.started_at, p.kind || ':' || p.subject AS "started_by!",
                      o.codes_withdrawn, o.finished_at, o.ended_at
               FROM offboarding o JOIN principal p ON p.id = o.started_by
               "# + $which $($arguments)*
        )
    };
}

impl Store {
    /// The latest time that somebody left.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn offboarding_of(&self, id: PrincipalId) -> Result<Option<Offboarding>, Error> {
        let row =
            offboarding_rows!("WHERE o.principal_id = $1 ORDER BY o.id DESC LIMIT 1", id.uuid())
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(Offboarding::from))
    }

    /// Those who leave, and of whom something may be left.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn unfinished_offboardings(&self) -> Result<Vec<Offboarding>, Error> {
        let rows = offboarding_rows!(
            "WHERE o.finished_at IS NULL AND o.ended_at IS NULL ORDER BY o.started_at LIMIT 1000"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(Offboarding::from).collect())
    }

    /// The leases that they had when they left, or that were recorded since; those of services that act for them
    /// included.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn leases_of_leaver(&self, of: &Offboarding) -> Result<Vec<LeaseId>, Error> {
        let ids = sqlx::query_scalar!(
            r#"SELECT l.id FROM lease l
               WHERE l.principal_id = ANY (ARRAY(SELECT id FROM principal WHERE id = $1 OR acts_for = $1))
                 AND l.standing_role IS NULL AND (l.ended_at IS NULL OR l.ended_at >= $2)
                 AND ($3::timestamptz IS NULL OR l.created_at < $3)
               ORDER BY l.id"#,
            of.principal_id.uuid(),
            of.started_at,
            of.ended_at as Option<DateTime<Utc>>
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(LeaseId::from).collect())
    }

    /// The passwords of standing roles that they were given and that held when they left.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn secrets_of_leaver(&self, id: OffboardingId) -> Result<Vec<ReadSecret>, Error> {
        let rows = sqlx::query!(
            "SELECT standing_role, lease_id, read_at FROM offboarding_secret
             WHERE offboarding_id = $1 ORDER BY standing_role, lease_id",
            id.uuid()
        )
        .fetch_all(&self.pool)
        .await?;
        let read = rows.into_iter().map(|row| ReadSecret {
            standing_role: row.standing_role,
            lease_id: row.lease_id.into(),
            read_at: row.read_at,
        });
        Ok(read.collect())
    }

    /// What they can sign in with no more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn shut_out(&self, of: &Offboarding, now: DateTime<Utc>) -> Result<ShutOut, Error> {
        let row = sqlx::query!(
            r#"SELECT p.disabled_at,
                      (SELECT count(*) FROM token t WHERE t.principal_id = p.id AND t.kind = 'session'
                           AND t.revoked_at >= $2) AS "sessions_ended!",
                      (SELECT count(*) FROM token t WHERE t.principal_id = p.id AND t.kind = 'api'
                           AND t.revoked_at IS NULL AND coalesce(t.expires_at > $3, true)) AS "tokens!",
                      ARRAY(SELECT i.issuer FROM identity i WHERE i.principal_id = p.id
                            ORDER BY i.created_at, i.issuer, i.subject) AS "issuers!",
                      ARRAY(SELECT i.subject FROM identity i WHERE i.principal_id = p.id
                            ORDER BY i.created_at, i.issuer, i.subject) AS "subjects!",
                      ARRAY(SELECT a.kind || ':' || a.subject FROM principal a WHERE a.acts_for = p.id
                            ORDER BY a.subject) AS "agents!"
               FROM principal p WHERE p.id = $1"#,
            of.principal_id.uuid(),
            of.started_at,
            now
        )
        .fetch_one(&self.pool)
        .await?;
        let known = row.issuers.into_iter().zip(row.subjects);
        let (certificates, identities): (Vec<_>, Vec<_>) =
            known.partition(|(issuer, _)| issuer == crate::store::certificates::ISSUER);
        Ok(ShutOut {
            disabled_at: row.disabled_at,
            sessions_ended: row.sessions_ended,
            tokens: row.tokens,
            certificates: certificates.into_iter().map(|(_, name)| name).collect(),
            identities,
            agents: row.agents,
        })
    }

    /// What they agreed to, latest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn agreed_to_by(&self, who: PrincipalId, most: i64) -> Result<Vec<Agreed>, Error> {
        let rows = sqlx::query!(
            r#"SELECT r.id, request_state(r.state, r.extends, l.cause) AS "state!", r.profile, r.lease_id, v.created_at,
                      p.kind || ':' || p.subject AS "principal!"
               FROM vote v JOIN request r ON r.id = v.request_id JOIN principal p ON p.id = r.principal_id
               LEFT JOIN lease l ON l.id = r.lease_id
               WHERE v.principal_id = $1 AND v.verdict = 'agreed'
               ORDER BY v.created_at DESC LIMIT $2"#,
            who.uuid(),
            most
        )
        .fetch_all(&self.pool)
        .await?;
        let agreed = rows.into_iter().map(|row| {
            Ok(Agreed {
                request_id: row.id.into(),
                principal: row.principal,
                profile: row.profile,
                at: row.created_at,
                state: State::from_text(&row.state).ok_or(Error::Unreadable("request's state"))?,
                lease_id: row.lease_id.map(LeaseId::from),
            })
        });
        agreed.collect()
    }

    /// Their requests that were withdrawn since they left.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn requests_withdrawn_of(
        &self,
        of: &Offboarding,
    ) -> Result<Vec<AccessRequestId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT id FROM request
             WHERE principal_id = ANY (ARRAY(SELECT id FROM principal WHERE id = $1 OR acts_for = $1))
               AND state = 'withdrawn' AND ended_at >= $2 ORDER BY id",
            of.principal_id.uuid(),
            of.started_at
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(AccessRequestId::from).collect())
    }

    /// The tokens that they made for others, and that hold.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tokens_made_by(
        &self,
        maker: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<Vec<MadeToken>, Error> {
        let rows = sqlx::query!(
            r#"SELECT t.id, t.name, p.kind || ':' || p.subject AS "principal!", t.last_used_at, t.expires_at
               FROM token t JOIN principal p ON p.id = t.principal_id
               WHERE t.makers @> ARRAY[$1::uuid] AND t.principal_id <> $1 AND t.revoked_at IS NULL
                 AND coalesce(t.expires_at > $2, true) AND p.disabled_at IS NULL
               ORDER BY p.kind, p.subject, t.id"#,
            maker.uuid(),
            now
        )
        .fetch_all(&self.pool)
        .await?;
        let made = rows.into_iter().map(|row| MadeToken {
            id: TokenId::from(row.id),
            name: row.name,
            principal: row.principal,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
        });
        Ok(made.collect())
    }
}

impl Tx {
    /// Is somebody leaving, and not let in again since?
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn is_leaving(&mut self, id: PrincipalId) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM offboarding WHERE principal_id = $1 AND ended_at IS NULL) AS "is_leaving!""#,
            id.uuid()
        )
        .fetch_one(&mut *self.inner)
        .await?)
    }

    /// Records that somebody leaves, and the passwords of standing roles that they were given and that still hold.
    /// Gives the standing roles, by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_offboarding(
        &mut self,
        new: &NewOffboarding<'_>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, Error> {
        sqlx::query!(
            "INSERT INTO offboarding (id, principal_id, started_at, started_by, codes_withdrawn)
             VALUES ($1, $2, $3, $4, $5)",
            new.id.uuid(),
            new.principal.uuid(),
            now,
            new.by.uuid(),
            new.codes_withdrawn
        )
        .execute(&mut *self.inner)
        .await?;
        let mut roles = sqlx::query_scalar!(
            r#"INSERT INTO offboarding_secret (offboarding_id, lease_id, standing_role, read_at)
               SELECT $1, l.id, l.standing_role, max(r.read_at)
               FROM standing_reading r JOIN lease l ON l.id = r.lease_id
               WHERE l.standing_role IS NOT NULL AND l.ended_at IS NULL
                 AND r.principal_id IN (SELECT p.id FROM principal p WHERE p.id = $2 OR p.acts_for = $2)
               GROUP BY l.id, l.standing_role
               RETURNING standing_role"#,
            new.id.uuid(),
            new.principal.uuid()
        )
        .fetch_all(&mut *self.inner)
        .await?;
        roles.sort_unstable();
        roles.dedup();
        Ok(roles)
    }

    /// Records that nothing is left of somebody. False if something is, or it was recorded before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn finish_offboarding(
        &mut self,
        id: OffboardingId,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE offboarding o SET finished_at = $2
             WHERE o.id = $1 AND o.finished_at IS NULL AND o.ended_at IS NULL
               AND NOT EXISTS (
                   SELECT FROM lease l
                   WHERE l.principal_id = ANY (ARRAY(
                             SELECT p.id FROM principal p WHERE p.id = o.principal_id OR p.acts_for = o.principal_id))
                     AND l.state <> 'revoked' AND l.standing_role IS NULL)
               AND NOT EXISTS (
                   SELECT FROM offboarding_secret s JOIN lease l ON l.id = s.lease_id
                   WHERE s.offboarding_id = o.id AND l.state <> 'revoked')",
            id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that somebody who left is let in again. None if nobody said that they leave.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn end_offboarding(
        &mut self,
        of: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<Option<OffboardingId>, Error> {
        let id = sqlx::query_scalar!(
            "UPDATE offboarding SET ended_at = $2 WHERE principal_id = $1 AND ended_at IS NULL RETURNING id",
            of.uuid(),
            now
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        Ok(id.map(OffboardingId::from))
    }

    /// Is a principal still let in? It is neither shut out nor let in again until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn hold_let_in(&mut self, id: PrincipalId) -> Result<bool, Error> {
        let found = sqlx::query_scalar!(
            r#"SELECT 1 AS "one!" FROM principal WHERE id = $1 AND disabled_at IS NULL FOR SHARE"#,
            id.uuid()
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        Ok(found.is_some())
    }
}
