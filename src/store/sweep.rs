//! What a sweep compares with, and what it finds: logins as recorded, orphans, lost logins.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    domain::{lease::Proof, role::LoginName, sweep::Recorded},
    ids::{LeaseId, LoginId, TargetId},
    store::{Store, Tx, error::Error},
};

/// Logins read at a time.
const PAGE: i64 = 10_000;

/// An orphan that was not seen to be gone yet.
#[derive(Debug, Clone)]
pub struct OpenOrphan {
    /// Its role.
    pub role: LoginName,
    /// The role's OID.
    pub oid: u32,
    /// When it was first found.
    pub found_at: DateTime<Utc>,
    /// When it was shut out.
    pub quarantined_at: Option<DateTime<Utc>>,
}

/// A login that is over by the record, and is left alone while the daemon is cautious.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its target.
    pub target_id: TargetId,
    /// Its lease.
    pub lease_id: LeaseId,
    /// Its role.
    pub role: String,
    /// Its end, as recorded.
    pub ends_at: DateTime<Utc>,
}

/// Whose sessions they are, of a role that is gone.
#[derive(Debug, Clone)]
pub struct Former {
    /// The role's OID.
    pub oid: u32,
    /// Its name.
    pub role: String,
    /// Its lease.
    pub lease_id: LeaseId,
}

struct Row {
    id: Uuid,
    lease_id: Uuid,
    role_name: String,
    role_oid: Option<i64>,
    state: String,
    valid_until: DateTime<Utc>,
    group_role: String,
    connection_limit: i32,
    settings: Json<BTreeMap<String, String>>,
}

impl TryFrom<Row> for Recorded {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            login_id: LoginId::from(row.id),
            lease_id: LeaseId::from(row.lease_id),
            role: row.role_name,
            oid: row.role_oid.and_then(|oid| u32::try_from(oid).ok()),
            state: row.state.parse()?,
            valid_until: row.valid_until,
            group_role: row.group_role,
            connection_limit: row.connection_limit,
            settings: row.settings.0,
        })
    }
}

impl Store {
    /// The logins of a target that are not over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn live_logins(&self, target: TargetId) -> Result<Vec<Recorded>, Error> {
        let mut found = Vec::new();
        let mut after = Uuid::nil();
        loop {
            let rows = sqlx::query_as!(
                Row,
                r#"SELECT g.id, g.lease_id, g.role_name, g.role_oid, g.state, l.expires_at AS valid_until, l.group_role,
                          l.connection_limit, l.settings AS "settings: Json<BTreeMap<String, String>>"
                   FROM login g JOIN lease l ON l.id = g.lease_id
                   WHERE g.target_id = $1 AND g.state <> 'revoked' AND g.id > $2
                   ORDER BY g.id LIMIT $3"#,
                target.uuid(),
                after,
                PAGE
            )
            .fetch_all(&self.pool)
            .await?;
            let Some(last) = rows.last() else { return Ok(found) };
            after = last.id;
            for row in rows {
                found.push(row.try_into()?);
            }
        }
    }

    /// The logins of these roles, over or not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn logins_named(
        &self,
        target: TargetId,
        roles: &[String],
    ) -> Result<Vec<Recorded>, Error> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT g.id, g.lease_id, g.role_name, g.role_oid, g.state, l.expires_at AS valid_until, l.group_role,
                      l.connection_limit, l.settings AS "settings: Json<BTreeMap<String, String>>"
               FROM login g JOIN lease l ON l.id = g.lease_id
               WHERE g.target_id = $1 AND g.role_name = ANY ($2)"#,
            target.uuid(),
            roles
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Recorded::try_from).collect()
    }

    /// Which of these OIDs are or were of logins of ours, and whose.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn former_logins(
        &self,
        target: TargetId,
        oids: &[u32],
    ) -> Result<Vec<Former>, Error> {
        let oids: Vec<i64> = oids.iter().map(|oid| i64::from(*oid)).collect();
        let rows = sqlx::query!(
            r#"SELECT role_oid AS "role_oid!", role_name, lease_id FROM login
               WHERE target_id = $1 AND role_oid = ANY ($2)"#,
            target.uuid(),
            &oids
        )
        .fetch_all(&self.pool)
        .await?;
        let former = |oid: i64, role: String, lease: Uuid| {
            let oid = u32::try_from(oid).ok()?;
            Some(Former { oid, role, lease_id: LeaseId::from(lease) })
        };
        Ok(rows
            .into_iter()
            .filter_map(|row| former(row.role_oid, row.role_name, row.lease_id))
            .collect())
    }

    /// What would have been ended, but for the caution that began at `since`: what was over by then.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn held_logins(&self, since: DateTime<Utc>) -> Result<Vec<Held>, Error> {
        let rows = sqlx::query!(
            "SELECT target_id, lease_id, role_name, ends_at FROM login
             WHERE state <> 'revoked' AND created_at < $1
               AND (ends_at <= $1 OR (state = 'provisioning' AND give_up_at <= $1)
                    OR (state = 'revoking' AND cause <> 'revoked'))
               AND NOT (state = 'revoking' AND cause = 'revoked')
             ORDER BY id",
            since
        )
        .fetch_all(&self.pool)
        .await?;
        let held = rows.into_iter().map(|row| Held {
            target_id: TargetId::from(row.target_id),
            lease_id: LeaseId::from(row.lease_id),
            role: row.role_name,
            ends_at: row.ends_at,
        });
        Ok(held.collect())
    }

    /// Does the caution, if there is one, hold this login?
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn is_login_held(&self, id: LoginId) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"SELECT created_at < (SELECT cautious_since FROM installation)
                      AND NOT (state = 'revoking' AND cause = 'revoked') IS TRUE AS "held"
               FROM login WHERE id = $1"#,
            id.uuid()
        )
        .fetch_one(&self.pool)
        .await?
        .unwrap_or(false))
    }

    /// The orphans of a target that were not seen to be gone yet.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn open_orphans(&self, target: TargetId) -> Result<Vec<OpenOrphan>, Error> {
        let rows = sqlx::query!(
            "SELECT role_name, role_oid, found_at, quarantined_at FROM orphan
             WHERE target_id = $1 AND removed_at IS NULL ORDER BY found_at, role_name",
            target.uuid()
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(OpenOrphan {
                    role: LoginName::recognise(&row.role_name)
                        .ok_or(Error::Unreadable("role name"))?,
                    oid: u32::try_from(row.role_oid).map_err(|_| Error::Unreadable("role OID"))?,
                    found_at: row.found_at,
                    quarantined_at: row.quarantined_at,
                })
            })
            .collect()
    }

    /// How many orphans there are on all targets.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_orphans(&self) -> Result<i64, Error> {
        Ok(sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM orphan WHERE removed_at IS NULL"#
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

impl Tx {
    /// Records an orphan, unless it is recorded already. True if it was not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn record_orphan(
        &mut self,
        target: TargetId,
        role: &LoginName,
        oid: u32,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO orphan (target_id, role_oid, role_name, found_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
            target.uuid(),
            i64::from(oid),
            role.as_str(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that an orphan was shut out, unless it was recorded already.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn quarantine_orphan(
        &mut self,
        target: TargetId,
        orphan: &OpenOrphan,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE orphan SET quarantined_at = $4
             WHERE target_id = $1 AND role_oid = $2 AND role_name = $3 AND quarantined_at IS NULL",
            target.uuid(),
            i64::from(orphan.oid),
            orphan.role.as_str(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that an orphan was seen to be gone, unless it was recorded already.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn finish_orphan(
        &mut self,
        target: TargetId,
        orphan: &OpenOrphan,
        proof: &Proof,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE orphan SET removed_at = $4, proof = $5
             WHERE target_id = $1 AND role_oid = $2 AND role_name = $3 AND removed_at IS NULL",
            target.uuid(),
            i64::from(orphan.oid),
            orphan.role.as_str(),
            now,
            Json(proof) as _
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that an active login is lost; it is due at once, for what is left of it. False if it is
    /// not active any more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lose_login(&mut self, id: LoginId, now: DateTime<Utc>) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE login SET state = 'revoking', cause = 'lost', due_at = $2, attempts = 0,
                    claim_token = NULL, claimed_until = NULL
             WHERE id = $1 AND state = 'active'",
            id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}
