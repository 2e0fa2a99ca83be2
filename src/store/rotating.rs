//! Claims on the rotation of standing roles, and what a rotation records: the lease of the fresh login,
//! its promotion, or what stood in the way.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    domain::{lease::Granted, profile::Profile, role::LoginName, standing::StandingRole},
    ids::{LeaseId, LoginId, StandingRoleId},
    store::{Store, Tx, error::Error, exactly_one, standing::SealedStandingPassword},
};

/// A standing role whose rotation is ours until the claim ends.
#[derive(Debug)]
pub struct ClaimedStandingRole {
    /// The standing role.
    pub role: StandingRole,
    /// How often its rotation was tried in vain.
    pub attempts: i32,
    /// What must be shown when the work is given back.
    token: Uuid,
}

/// A lease whose login is to be made for a standing role.
#[derive(Debug)]
pub struct NewStandingLease<'a> {
    /// Its id.
    pub id: LeaseId,
    /// Its login.
    pub login_id: LoginId,
    /// That login's role on the target.
    pub role_name: &'a LoginName,
    /// The profile, as it was when its terms were taken.
    pub profile: &'a Profile,
    /// What stands in the place of a tool.
    pub tool: &'a str,
    /// How long it lasts, and why.
    pub ttl: &'a Granted,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When an unfinished creation is given up.
    pub give_up_at: DateTime<Utc>,
}

/// What a rotation hands out from now on.
#[derive(Debug)]
pub struct Promotion<'a> {
    /// The lease of the fresh login.
    pub lease_id: LeaseId,
    /// Its password, sealed.
    pub password: &'a SealedStandingPassword,
    /// When the next rotation is due.
    pub due_at: DateTime<Utc>,
}

impl Store {
    /// Takes up to `limit` standing roles whose rotation is due and that nobody works on.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_due_standing_roles(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedStandingRole>, Error> {
        let token = Uuid::now_v7();
        let claimed = sqlx::query!(
            "UPDATE standing_role SET claim_token = $1, claimed_until = $2 WHERE id IN (
                 SELECT id FROM standing_role
                 WHERE again_at <= $3 AND (claimed_until IS NULL OR claimed_until <= $3)
                 ORDER BY again_at LIMIT $4 FOR UPDATE SKIP LOCKED)
             RETURNING name, attempts",
            token,
            until,
            now,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        let mut roles = self.standing_roles().await?;
        let find = |name: &str| roles.iter().position(|role| role.spec.name.as_str() == name);
        let mut found = Vec::new();
        for row in &claimed {
            found.extend(find(&row.name).map(|at| (at, row.attempts)));
        }
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let take = |(at, attempts)| ClaimedStandingRole { role: roles.remove(at), attempts, token };
        Ok(found.into_iter().map(take).collect())
    }

    /// Takes one standing role to be rotated now, whenever it was due, and records that it is. None if
    /// somebody works on it, or it is gone.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_standing_role(
        &self,
        id: StandingRoleId,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<ClaimedStandingRole>, Error> {
        let token = Uuid::now_v7();
        let claimed = sqlx::query!(
            "UPDATE standing_role SET claim_token = $1, claimed_until = $2, due_at = least(due_at, $3),
                    again_at = least(again_at, $3)
             WHERE id = $4 AND (claimed_until IS NULL OR claimed_until <= $3)
             RETURNING attempts",
            token,
            until,
            now,
            id.uuid()
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(claimed) = claimed else { return Ok(None) };
        let role = self.standing_roles().await?.into_iter().find(|role| role.id == id);
        Ok(role.map(|role| ClaimedStandingRole { role, attempts: claimed.attempts, token }))
    }

    /// Keeps a claim while the work goes on.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn keep_standing_claim(
        &self,
        claimed: &ClaimedStandingRole,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE standing_role SET claimed_until = $3 WHERE id = $1 AND claim_token = $2",
            claimed.role.id.uuid(),
            claimed.token,
            until
        )
        .execute(&self.pool)
        .await?;
        exactly_one(&done)
    }
}

impl Tx {
    /// Records the intent to make a fresh login for a standing role: its lease and that login.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours, or the profile is not any more as it was.
    pub async fn create_standing_lease(
        &mut self,
        claimed: &ClaimedStandingRole,
        new: &NewStandingLease<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let profile = &new.profile.spec;
        let done = sqlx::query!(
            "WITH decided_on AS (
                 SELECT s.name, s.principal_id, p.owned_objects FROM standing_role s JOIN profile p ON p.id = $3 AND p.version = $4
                 WHERE s.id = $5 AND s.claim_token = $6 FOR SHARE OF p),
             lease AS (
                 INSERT INTO lease (id, state, profile_id, profile, target_id, database, group_role, connection_limit,
                                    settings, principal_id, tool, ttl, created_at, expires_at, max_expires_at, login_id,
                                    standing_role, owned_objects)
                 SELECT $1, 'provisioning', $3, $7, $8, $9, $10, $11, $12, principal_id, $13, $14, $15, $16, $16, $2, name,
                        owned_objects
                 FROM decided_on RETURNING id)
             INSERT INTO login (id, lease_id, target_id, role_name, state, created_at, give_up_at, ends_at, due_at)
             SELECT $2, id, $8, $17, 'provisioning', $15, $18, $16, $18 FROM lease",
            new.id.uuid(),
            new.login_id.uuid(),
            new.profile.id.uuid(),
            new.profile.version,
            claimed.role.id.uuid(),
            claimed.token,
            profile.name.as_str(),
            new.profile.target_id.uuid(),
            profile.database,
            profile.group_role(),
            profile.connection_limit,
            Json(new.profile.login_settings()) as _,
            new.tool,
            Json(new.ttl) as _,
            now,
            new.expires_at,
            new.role_name.as_str(),
            new.give_up_at
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that the login of a standing role's lease was made.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it was given up meanwhile.
    pub async fn activate_standing_lease(
        &mut self,
        id: LeaseId,
        login: LoginId,
        oid: u32,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET state = 'active' WHERE id = $1 AND state = 'provisioning'",
            id.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)?;
        self.activate_login(login, oid).await
    }

    /// Records what a standing role hands out from now on, and gives its claim back.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn promote_standing_role(
        &mut self,
        claimed: &ClaimedStandingRole,
        promotion: &Promotion<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE standing_role SET lease_id = $3, password = $4, generation = generation + 1, rotated_at = $5,
                    due_at = $6, again_at = $6, attempts = 0, blocked_by = NULL, overdue_at = NULL,
                    claim_token = NULL, claimed_until = NULL
             WHERE id = $1 AND claim_token = $2",
            claimed.role.id.uuid(),
            claimed.token,
            promotion.lease_id.uuid(),
            promotion.password.0,
            now,
            promotion.due_at
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Gives a claim back whose rotation failed, and says why. True if the reason is a new one.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn release_standing_role(
        &mut self,
        claimed: &ClaimedStandingRole,
        why: &str,
        again_at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE standing_role SET claim_token = NULL, claimed_until = NULL, again_at = $3, blocked_by = $4,
                    attempts = attempts + 1
             WHERE id = $1 AND claim_token = $2",
            claimed.role.id.uuid(),
            claimed.token,
            again_at,
            why
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)?;
        Ok(claimed.role.blocked_by.as_deref() != Some(why))
    }

    /// Marks the standing roles that are overdue and were not marked before; gives them.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mark_overdue_standing_roles(
        &mut self,
        now: DateTime<Utc>,
    ) -> Result<Vec<(StandingRoleId, String, DateTime<Utc>)>, Error> {
        let rows = sqlx::query!(
            "UPDATE standing_role SET overdue_at = $1
             WHERE overdue_at IS NULL AND due_at + make_interval(secs => window_seconds) < $1
             RETURNING id, name, due_at",
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let row = |id, name, due_at| (StandingRoleId::from(id), name, due_at);
        Ok(rows.into_iter().map(|found| row(found.id, found.name, found.due_at)).collect())
    }
}
