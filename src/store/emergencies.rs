//! Rows of `emergency`, which issuing records with the intent; and the reviews that close them.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::{
        emergency::{Emergency, Review, State, Verdict},
        lease::{self, Proof},
    },
    ids::{LeaseId, LoginId, PrincipalId},
    store::{Store, Tx, error::Error, exactly_one},
};

struct Row {
    lease_id: uuid::Uuid,
    state: String,
    cause: Option<String>,
    principal_id: uuid::Uuid,
    principal: String,
    acts_for: Option<uuid::Uuid>,
    asker_makers: Vec<uuid::Uuid>,
    profile: String,
    target: String,
    database: String,
    reason: Option<String>,
    ticket: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    code: Option<i32>,
    code_made_by: Option<uuid::Uuid>,
    verdict: Option<String>,
    comment: Option<String>,
    closed_by: Option<String>,
    closed_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Emergency {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let review = match (row.verdict, row.comment, row.closed_by, row.closed_at) {
            (Some(verdict), Some(comment), Some(closed_by), Some(closed_at)) => Some(Review {
                verdict: Verdict::from_text(&verdict).ok_or(Error::Unreadable("verdict"))?,
                comment,
                closed_by,
                closed_at,
            }),
            _ => None,
        };
        Ok(Self {
            lease_id: LeaseId::from(row.lease_id),
            lease_state: row.state.parse()?,
            lease_cause: row.cause.as_deref().map(str::parse).transpose()?,
            principal_id: PrincipalId::from(row.principal_id),
            principal: row.principal,
            acts_for: row.acts_for.map(PrincipalId::from),
            asker_makers: row.asker_makers.into_iter().map(PrincipalId::from).collect(),
            profile: row.profile,
            target: row.target,
            database: row.database,
            reason: row.reason,
            ticket: row.ticket,
            opened_at: row.created_at,
            expires_at: row.expires_at,
            ended_at: row.ended_at,
            code: row.code,
            code_made_by: row.code_made_by.map(PrincipalId::from),
            review,
        })
    }
}

/// One login of a lease, as it is shown to whoever looks at what was done.
#[derive(Debug, Clone)]
pub struct SeenLogin {
    /// Its id.
    pub id: LoginId,
    /// Its role on the target.
    pub role_name: String,
    /// Where it is in its life.
    pub state: lease::State,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it was seen to be gone.
    pub removed_at: Option<DateTime<Utc>>,
    /// What was seen then.
    pub proof: Option<Proof>,
}

/// Emergencies as they are read, all with the same columns; what follows says which.
macro_rules! emergency_rows {
    ($which:tt $($arguments:tt)*) => {
        sqlx::query_as!(
            Row,
            r#"SELECT e.lease_id, l.state, l.cause, l.principal_id, p.kind || ':' || p.subject AS "principal!", p.acts_for AS "acts_for?",
                      with_whom_they_act_for(e.asker_makers) AS "asker_makers!",
                      l.profile, t.name AS target, l.database, l.reason, l.ticket, l.created_at, l.expires_at,
                      l.ended_at, e.code, e.code_made_by, e.verdict, e.comment,
                      c.kind || ':' || c.subject AS closed_by, e.closed_at
               FROM emergency e JOIN lease l ON l.id = e.lease_id
               JOIN target t ON t.id = l.target_id
               JOIN principal p ON p.id = l.principal_id
               LEFT JOIN principal c ON c.id = e.closed_by
               "# + $which $($arguments)*
        )
    };
}

impl Store {
    /// A page of emergencies, newest first: all, or those whose review stands so.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn emergencies(
        &self,
        state: Option<State>,
        before: Option<LeaseId>,
        limit: i64,
    ) -> Result<Vec<Emergency>, Error> {
        let mut tx = self.begin_list().await?;
        let rows = emergency_rows!(
            "WHERE ($1::uuid IS NULL OR e.lease_id < $1)
                 AND ($2::text IS NULL
                      OR $2 = 'closed' AND e.closed_at IS NOT NULL
                      OR $2 = 'failed' AND e.closed_at IS NULL AND l.cause = 'failed'
                      OR $2 = 'open' AND e.closed_at IS NULL AND l.cause IS DISTINCT FROM 'failed')
               ORDER BY e.lease_id DESC LIMIT $3",
            before.map(LeaseId::uuid) as Option<uuid::Uuid>,
            state.map(State::as_str) as Option<&str>,
            limit
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows.into_iter().map(Emergency::try_from).collect()
    }

    /// The emergency of a lease, if it is one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn emergency(&self, lease: LeaseId) -> Result<Option<Emergency>, Error> {
        let row = emergency_rows!("WHERE e.lease_id = $1", lease.uuid())
            .fetch_optional(&self.pool)
            .await?;
        row.map(Emergency::try_from).transpose()
    }

    /// The logins of a lease, oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn logins_of(&self, lease: LeaseId) -> Result<Vec<SeenLogin>, Error> {
        let rows = sqlx::query!(
            r#"SELECT id, role_name, state, created_at, removed_at, proof AS "proof: Json<Proof>"
               FROM login WHERE lease_id = $1 ORDER BY id"#,
            lease.uuid()
        )
        .fetch_all(&self.pool)
        .await?;
        let seen = rows.into_iter().map(|row| {
            Ok(SeenLogin {
                id: LoginId::from(row.id),
                role_name: row.role_name,
                state: row.state.parse()?,
                created_at: row.created_at,
                removed_at: row.removed_at,
                proof: row.proof.map(|proof| proof.0),
            })
        });
        seen.collect()
    }
}

impl Tx {
    /// Closes the review of an emergency.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is closed already.
    pub async fn close_emergency(
        &mut self,
        lease: LeaseId,
        (verdict, comment): (Verdict, &str),
        by: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE emergency SET verdict = $2, comment = $3, closed_by = $4, closed_at = $5
             WHERE lease_id = $1 AND closed_at IS NULL",
            lease.uuid(),
            verdict.as_str(),
            comment,
            by.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }
}
