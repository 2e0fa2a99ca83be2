//! Rows of `login`, and the claims on them: taking, keeping and giving back due work.
//!
//! A claim has an end and a token. Whoever finishes the work must show the token, so that a daemon
//! that slept through its claim's end cannot overwrite what another did meanwhile.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        lease::{Cause, Login, State},
        profile::OwnedObjects,
        role::LoginName,
    },
    ids::{LeaseId, LoginId, TargetId},
    store::{Store, Tx, error::Error, exactly_one},
};

/// A login whose work is ours until the claim ends.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The login.
    pub login: Login,
    /// Was it superseded by a rotation?
    pub superseded: bool,
    /// What must be shown when the work is given back.
    pub token: Uuid,
}

/// What is left out of claims.
#[derive(Debug, Clone, Default)]
pub struct But {
    /// Targets whose logins wait for their turn already.
    pub full: Vec<TargetId>,
    /// Targets on which nothing can be done now. That a lease there ends is recorded all the same.
    pub left_alone: Vec<TargetId>,
}

fn uuids(targets: &[TargetId]) -> Vec<Uuid> {
    targets.iter().map(|target| target.uuid()).collect()
}

/// A login to be made.
#[derive(Debug)]
pub struct NewLogin<'a> {
    /// Its id.
    pub id: LoginId,
    /// Its lease.
    pub lease_id: LeaseId,
    /// Its target.
    pub target_id: TargetId,
    /// The role on the target.
    pub role_name: &'a LoginName,
    /// When an unfinished creation is given up.
    pub give_up_at: DateTime<Utc>,
    /// When it must stop working.
    pub ends_at: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    lease_id: Uuid,
    target_id: Uuid,
    database: String,
    group_role: String,
    owned_objects: String,
    has_context: bool,
    role_name: String,
    role_oid: Option<i64>,
    state: String,
    cause: Option<String>,
    give_up_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    superseded: bool,
    attempts: i32,
}

impl Row {
    fn claimed(self, token: Uuid) -> Result<Claimed, Error> {
        let login = Login {
            id: LoginId::from(self.id),
            lease_id: LeaseId::from(self.lease_id),
            target_id: TargetId::from(self.target_id),
            database: self.database,
            group_role: self.group_role,
            owned_objects: OwnedObjects::from_text(&self.owned_objects)
                .ok_or(Error::Unreadable("owned objects"))?,
            has_context: self.has_context,
            role_name: LoginName::recognise(&self.role_name)
                .ok_or(Error::Unreadable("role name"))?,
            role_oid: self.role_oid.and_then(|oid| u32::try_from(oid).ok()),
            state: self.state.parse()?,
            cause: self.cause.as_deref().map(str::parse).transpose()?,
            give_up_at: self.give_up_at,
            ends_at: self.ends_at,
            attempts: self.attempts,
        };
        Ok(Claimed { login, superseded: self.superseded, token })
    }
}

impl Store {
    /// Takes up to `limit` logins that are due and that nobody works on, but for those left out.
    /// In caution these are what a person revoked, and what was made after it began; and none if the
    /// audit is shorter than it was known to be: the database was restored under our feet.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_due_logins(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        but: &But,
        limit: i64,
        known_position: i64,
    ) -> Result<Vec<Claimed>, Error> {
        let (full, left_alone) = (uuids(&but.full), uuids(&but.left_alone));
        let token = Uuid::now_v7();
        let rows = sqlx::query_as!(
            Row,
            r#"UPDATE login g SET claim_token = $1, claimed_until = $2
             FROM lease l
             WHERE l.id = g.lease_id AND g.id = ANY (ARRAY(
                 SELECT id FROM login
                 WHERE due_at <= $3 AND state <> 'revoked' AND (claimed_until IS NULL OR claimed_until <= $3)
                   AND target_id <> ALL ($5) AND (state <> 'revoking' OR target_id <> ALL ($6))
                   AND ((state = 'revoking' AND cause = 'revoked')
                        OR created_at >= coalesce((SELECT cautious_since FROM installation), '-infinity'))
                   AND (SELECT position FROM audit_head) >= $7
                 ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED))
             RETURNING g.id, g.lease_id, g.target_id, l.database, l.group_role, l.owned_objects, g.role_name, g.role_oid,
                       g.state, g.cause, g.give_up_at, g.ends_at, g.superseded, g.attempts,
                       l.context <> '{}' AS "has_context!""#,
            token,
            until,
            now,
            limit,
            &full,
            &left_alone,
            known_position
        )
        .fetch_all(&self.pool)
        .await?;
        // One row that cannot be read (a newer release wrote it, somebody damaged it) must not hold up
        // the others: it stays claimed, and is looked at again when its claim ends.
        let read = |row: Row| {
            let id = row.id;
            row.claimed(token)
                .inspect_err(|e| {
                    tracing::error!(login.id = %id, error = e as &dyn std::error::Error, "a login cannot be read");
                })
                .ok()
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Keeps a claim while the work goes on.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn keep_claim(&self, claimed: &Claimed, until: DateTime<Utc>) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE login SET claimed_until = $3 WHERE id = $1 AND claim_token = $2",
            claimed.login.id.uuid(),
            claimed.token,
            until
        )
        .execute(&self.pool)
        .await?;
        exactly_one(&done)
    }

    /// When the next login is due, if any will ever be: no earlier than the end of its claim. But for
    /// those left out. Read off the index by time, however many there are: what is claimed is what was
    /// due.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn next_due_login(
        &self,
        now: DateTime<Utc>,
        but: &But,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let (full, left_alone) = (uuids(&but.full), uuids(&but.left_alone));
        Ok(sqlx::query_scalar!(
            "WITH counted AS NOT MATERIALIZED (
                 SELECT due_at, claimed_until FROM login
                 WHERE state <> 'revoked' AND target_id <> ALL ($1)
                   AND (state <> 'revoking' OR target_id <> ALL ($2))
                   AND ((state = 'revoking' AND cause = 'revoked')
                        OR created_at >= coalesce((SELECT cautious_since FROM installation), '-infinity')))
             SELECT least(
                 (SELECT due_at FROM counted WHERE claimed_until IS NULL OR claimed_until <= due_at
                  ORDER BY due_at LIMIT 1),
                 (SELECT min(claimed_until) FROM counted WHERE claimed_until > due_at AND due_at <= $3))",
            &full,
            &left_alone,
            now
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

impl Tx {
    /// Records the intent to make a login.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn create_login(
        &mut self,
        new: &NewLogin<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO login (id, lease_id, target_id, role_name, state, created_at, give_up_at, ends_at, due_at)
             VALUES ($1, $2, $3, $4, 'provisioning', $5, $6, $7, $6)",
            new.id.uuid(),
            new.lease_id.uuid(),
            new.target_id.uuid(),
            new.role_name.as_str(),
            now,
            new.give_up_at,
            new.ends_at
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Records that a login was made.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it was given up meanwhile.
    pub async fn activate_login(&mut self, id: LoginId, oid: u32) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE login SET state = 'active', role_oid = $2, due_at = ends_at
             WHERE id = $1 AND state = 'provisioning'",
            id.uuid(),
            i64::from(oid)
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Moves the end of an active login.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is not active.
    pub async fn move_login_end(&mut self, id: LoginId, to: DateTime<Utc>) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE login SET ends_at = $2, due_at = $2 WHERE id = $1 AND state = 'active'",
            id.uuid(),
            to
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that a fresh login takes the place of this one, which ends after the grace.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is not active.
    pub async fn supersede_login(
        &mut self,
        id: LoginId,
        ends_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE login SET superseded = true, ends_at = least(ends_at, $2), due_at = least(ends_at, $2)
             WHERE id = $1 AND state = 'active'",
            id.uuid(),
            ends_at
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that one login is ending, unless it is already, or, if it is active, unless its end was
    /// moved meanwhile. It is due at once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_revoking_login(
        &mut self,
        id: LoginId,
        from: State,
        cause: Cause,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE login SET state = 'revoking', cause = $3, due_at = $4, attempts = 0
             WHERE id = $1 AND state = $2 AND (state <> 'active' OR ends_at <= $4)",
            id.uuid(),
            from.as_str(),
            cause.as_str(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that every login of a lease is ending; gives those that were not yet. Each is due at
    /// once, even while a claim of an earlier step is held; but one that is still being made is due
    /// only when its making is over, because to see no role before then proves nothing.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_revoking_logins_of(
        &mut self,
        lease: LeaseId,
        cause: Cause,
        now: DateTime<Utc>,
    ) -> Result<Vec<(LoginId, String)>, Error> {
        let rows = sqlx::query!(
            "UPDATE login SET state = 'revoking', cause = $2, attempts = 0,
                    due_at = CASE WHEN state = 'provisioning' THEN give_up_at ELSE $3 END,
                    claim_token = NULL, claimed_until = NULL
             WHERE lease_id = $1 AND state IN ('provisioning', 'active')
             RETURNING id, role_name",
            lease.uuid(),
            cause.as_str(),
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(rows.into_iter().map(|row| (LoginId::from(row.id), row.role_name)).collect())
    }

    /// Takes up a login again whose role was made after it was given up: it is due at once.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it was not given up.
    pub async fn reopen_login(
        &mut self,
        id: LoginId,
        oid: u32,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE login SET state = 'revoking', role_oid = $2, proof = NULL, removed_at = NULL, due_at = $3,
                    attempts = 0, claim_token = NULL, claimed_until = NULL
             WHERE id = $1 AND state IN ('revoking', 'revoked')",
            id.uuid(),
            i64::from(oid),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Ends the grace of the logins of a lease that were superseded before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn end_graces(&mut self, lease: LeaseId, now: DateTime<Utc>) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE login SET ends_at = least(ends_at, $2), due_at = least(due_at, $2)
             WHERE lease_id = $1 AND state = 'active' AND superseded",
            lease.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Is a login being made for this lease?
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn is_making_login(&mut self, lease: LeaseId) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM login WHERE lease_id = $1 AND state = 'provisioning') AS "making!""#,
            lease.uuid()
        )
        .fetch_one(&mut *self.inner)
        .await?)
    }

    /// Is this login the present one of its lease?
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn is_present_login(
        &mut self,
        lease: LeaseId,
        login: LoginId,
    ) -> Result<bool, Error> {
        let found = sqlx::query_scalar!(
            r#"SELECT login_id = $2 AS "same" FROM lease WHERE id = $1"#,
            lease.uuid(),
            login.uuid()
        )
        .fetch_one(&mut *self.inner)
        .await?;
        Ok(found.unwrap_or(false))
    }

    /// Gives claimed work back: to be looked at again then.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn release_login(
        &mut self,
        claimed: &Claimed,
        due_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE login SET claim_token = NULL, claimed_until = NULL, due_at = $3
             WHERE id = $1 AND claim_token = $2",
            claimed.login.id.uuid(),
            claimed.token,
            due_at
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Gives claimed work back that could not be done, and says why. True if the reason is a new one.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn release_blocked_login(
        &mut self,
        claimed: &Claimed,
        why: &str,
        due_at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let before = sqlx::query_scalar!(
            "SELECT blocked_by FROM login WHERE id = $1 AND claim_token = $2 FOR UPDATE",
            claimed.login.id.uuid(),
            claimed.token
        )
        .fetch_optional(&mut *self.inner)
        .await?
        .ok_or(Error::NotOneRow(0))?;
        sqlx::query!(
            "UPDATE login SET claim_token = NULL, claimed_until = NULL, due_at = $3, blocked_by = $4,
                    attempts = attempts + 1
             WHERE id = $1 AND claim_token = $2",
            claimed.login.id.uuid(),
            claimed.token,
            due_at,
            why
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(before.as_deref() != Some(why))
    }
}
