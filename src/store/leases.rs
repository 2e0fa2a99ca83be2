//! Rows of `lease`; each move is a compare-and-set on the state that it leaves.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::{
        lease::{Cause, Lease, Proof, State},
        role::LoginName,
    },
    ids::{LeaseId, LoginId, PrincipalId, ProfileId, TargetId},
    store::{Store, Tx, error::Error, exactly_one},
};

/// A lease's row with what belongs to it.
struct Row {
    id: uuid::Uuid,
    state: String,
    cause: Option<String>,
    profile_id: Option<uuid::Uuid>,
    profile: String,
    target_id: uuid::Uuid,
    target: String,
    database: String,
    group_role: String,
    principal_id: uuid::Uuid,
    principal: String,
    tool: String,
    reason: Option<String>,
    ticket: Option<String>,
    job: Option<String>,
    role_name: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    max_expires_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    blocked_by: Option<String>,
    proof: Option<Json<Proof>>,
}

impl TryFrom<Row> for Lease {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: LeaseId::from(row.id),
            state: row.state.parse()?,
            cause: row.cause.as_deref().map(str::parse).transpose()?,
            profile_id: row.profile_id.map(ProfileId::from),
            profile: row.profile,
            target_id: TargetId::from(row.target_id),
            target: row.target,
            database: row.database,
            group_role: row.group_role,
            principal_id: PrincipalId::from(row.principal_id),
            principal: row.principal,
            tool: row.tool,
            reason: row.reason,
            ticket: row.ticket,
            job: row.job,
            role_name: row.role_name,
            created_at: row.created_at,
            expires_at: row.expires_at,
            max_expires_at: row.max_expires_at,
            ended_at: row.ended_at,
            blocked_by: row.blocked_by,
            proof: row.proof.map(|proof| proof.0),
        })
    }
}

/// What a rotation needs of a lease, besides the lease itself.
#[derive(Debug, Clone)]
pub struct LoginTerms {
    /// How many sessions at once.
    pub connection_limit: i32,
    /// Settings of its logins.
    pub settings: BTreeMap<String, String>,
    /// What row-level security sees of it.
    pub context: BTreeMap<String, String>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// Its present login.
    pub login_id: LoginId,
    /// That login's role.
    pub role_name: LoginName,
    /// That role's OID.
    pub role_oid: Option<u32>,
}

/// Which leases are meant; what is none does not matter.
#[derive(Debug, Clone, Default)]
pub struct LeaseFilter {
    /// In one of these states.
    pub states: Option<Vec<State>>,
    /// Of this principal.
    pub principal_id: Option<PrincipalId>,
    /// Asked for by this CI job.
    pub job: Option<String>,
    /// Of the principals with this name (`person:alice`, or `alice` of any kind).
    pub person: Option<String>,
    /// Under this profile.
    pub profile: Option<String>,
    /// For this tool.
    pub tool: Option<String>,
    /// On this target.
    pub target: Option<String>,
}

/// Leases as they are read, all with the same columns; what follows says which.
macro_rules! lease_rows {
    ($which:tt $($arguments:tt)*) => {
        sqlx::query_as!(
            Row,
            r#"SELECT l.id, l.state, l.cause, l.profile_id, l.profile, l.target_id, t.name AS target, l.database,
                      l.group_role, l.principal_id, p.kind || ':' || p.subject AS "principal!", l.tool, l.reason,
                      l.ticket, l.job, g.role_name AS "role_name?", l.created_at, l.expires_at, l.max_expires_at, l.ended_at,
                      (SELECT b.blocked_by FROM login b WHERE b.lease_id = l.id AND b.blocked_by IS NOT NULL LIMIT 1)
                          AS blocked_by,
                      g.proof AS "proof: Json<Proof>"
               FROM lease l
               JOIN target t ON t.id = l.target_id
               JOIN principal p ON p.id = l.principal_id
               LEFT JOIN login g ON g.id = l.login_id
               "# + $which $($arguments)*
        )
    };
}

impl Store {
    /// A page of leases, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn leases(
        &self,
        filter: &LeaseFilter,
        before: Option<LeaseId>,
        limit: i64,
    ) -> Result<Vec<Lease>, Error> {
        let states: Option<Vec<String>> = filter
            .states
            .as_ref()
            .map(|states| states.iter().map(|s| s.as_str().to_owned()).collect());
        let mut tx = self.begin_list().await?;
        let rows = lease_rows!(
            "WHERE ($1::text[] IS NULL OR l.state = ANY ($1))
                 AND ($2::uuid IS NULL OR l.principal_id = $2)
                 AND ($3::text IS NULL OR $3 IN (p.subject, p.kind || ':' || p.subject))
                 AND ($4::text IS NULL OR l.profile = $4)
                 AND ($5::text IS NULL OR l.tool = $5)
                 AND ($6::text IS NULL OR t.name = $6)
                 AND ($7::uuid IS NULL OR l.id < $7)
                 AND ($8::text IS NULL OR l.job = $8)
               ORDER BY l.id DESC LIMIT $9",
            states.as_deref() as Option<&[String]>,
            filter.principal_id.map(PrincipalId::uuid) as Option<uuid::Uuid>,
            filter.person.as_deref() as Option<&str>,
            filter.profile.as_deref() as Option<&str>,
            filter.tool.as_deref() as Option<&str>,
            filter.target.as_deref() as Option<&str>,
            before.map(LeaseId::uuid) as Option<uuid::Uuid>,
            filter.job.as_deref() as Option<&str>,
            limit
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows.into_iter().map(Lease::try_from).collect()
    }

    /// One lease.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, Error> {
        let row = lease_rows!("WHERE l.id = $1", id.uuid()).fetch_optional(&self.pool).await?;
        row.map(Lease::try_from).transpose()
    }

    /// These leases, oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn leases_of_ids(&self, ids: &[LeaseId]) -> Result<Vec<Lease>, Error> {
        let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
        let rows = lease_rows!(
            "WHERE l.id = ANY ($1)
               ORDER BY l.id",
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Lease::try_from).collect()
    }
}

impl Tx {
    /// Makes a login the present one of its active lease.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the lease is not active: it was revoked.
    pub async fn set_present_login(&mut self, id: LeaseId, login: LoginId) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET login_id = $2 WHERE id = $1 AND state = 'active'",
            id.uuid(),
            login.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// The terms of a lease, which is locked until the transaction ends; none if it is not active, or
    /// its time is over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_active_lease(
        &mut self,
        id: LeaseId,
        now: DateTime<Utc>,
    ) -> Result<Option<LoginTerms>, Error> {
        let lease = sqlx::query!(
            r#"SELECT connection_limit, settings AS "settings: Json<BTreeMap<String, String>>",
                      context AS "context: Json<BTreeMap<String, String>>", login_id, expires_at
               FROM lease WHERE id = $1 AND state = 'active' AND expires_at > $2 FOR UPDATE"#,
            id.uuid(),
            now
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        let Some(lease) = lease else { return Ok(None) };
        // A statement of its own: while the first one waited for the lock, a rotation may have given
        // the lease another login, which only a fresh snapshot sees.
        let login =
            sqlx::query!("SELECT id, role_name, role_oid FROM login WHERE id = $1", lease.login_id)
                .fetch_one(&mut *self.inner)
                .await?;
        Ok(Some(LoginTerms {
            connection_limit: lease.connection_limit,
            settings: lease.settings.0,
            context: lease.context.0,
            expires_at: lease.expires_at,
            login_id: LoginId::from(login.id),
            role_name: LoginName::recognise(&login.role_name)
                .ok_or(Error::Unreadable("role name"))?,
            role_oid: login.role_oid.and_then(|oid| u32::try_from(oid).ok()),
        }))
    }

    /// Moves the end of an active lease.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is not active, or its end was moved meanwhile, or may not be that far away any more.
    pub async fn move_lease_end(
        &mut self,
        id: LeaseId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET expires_at = $3
             WHERE id = $1 AND state = 'active' AND expires_at = $2 AND (max_expires_at >= $3 OR $3 <= $2)",
            id.uuid(),
            from,
            to
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Moves the end of an active lease and of its logins forward, never back. False if it was over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn supersede_lease(
        &mut self,
        id: LeaseId,
        ends_at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE lease SET expires_at = least(expires_at, $2) WHERE id = $1 AND state = 'active'",
            id.uuid(),
            ends_at
        )
        .execute(&mut *self.inner)
        .await?;
        sqlx::query!(
            "UPDATE login SET ends_at = least(ends_at, $2), due_at = least(due_at, $2)
             WHERE lease_id = $1 AND state = 'active'",
            id.uuid(),
            ends_at
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that a lease is ending, unless it is already.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_revoking_lease(&mut self, id: LeaseId, cause: Cause) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE lease SET state = 'revoking', cause = $2 WHERE id = $1 AND state IN ('provisioning', 'active')",
            id.uuid(),
            cause.as_str()
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes back that a lease is over: a role of it was found after all.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn reopen_lease(&mut self, id: LeaseId) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE lease SET state = 'revoking', ended_at = NULL WHERE id = $1 AND state = 'revoked'",
            id.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
