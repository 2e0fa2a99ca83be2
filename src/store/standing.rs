//! Rows of `standing_role`. The password of the login that is handed out now is
//! sealed here, to its lease: the one password of a login that the store keeps.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    domain::{
        duration::Seconds,
        name::Name,
        principal::AllowRule,
        standing::{Present, StandingRole, StandingRoleSpec},
    },
    ids::{LeaseId, PrincipalId, ProfileId, StandingRoleId},
    secret::Secret,
    store::{
        Store, Tx,
        error::Error,
        exactly_one,
        seal::{KeyRing, Place},
    },
};

/// The password of a standing role's login on its way into the record.
#[derive(Debug)]
pub struct SealedStandingPassword(pub(in crate::store) Vec<u8>);

impl SealedStandingPassword {
    /// Seals a password to its lease. The nonce must never have been used before.
    ///
    /// # Errors
    /// If the cipher fails.
    pub fn seal(
        keys: &KeyRing,
        lease: LeaseId,
        nonce: [u8; 12],
        password: &Secret<String>,
    ) -> Result<Self, Error> {
        Ok(Self(keys.seal(place(lease), nonce, password)?))
    }
}

/// Where the password is sealed to: the lease's row, so that one login's never opens as another's.
const fn place(lease: LeaseId) -> Place {
    Place { table: "standing_role", row: lease.uuid(), column: "password" }
}

struct Row {
    id: Uuid,
    name: String,
    version: i32,
    description: String,
    profile: String,
    principal_id: Uuid,
    target: String,
    database: String,
    rotate: String,
    window_seconds: i64,
    jitter_seconds: Option<i64>,
    grace_seconds: i64,
    allow: Vec<String>,
    lease_id: Option<Uuid>,
    lease_state: Option<String>,
    role_name: Option<String>,
    valid_until: Option<DateTime<Utc>>,
    generation: i32,
    rotated_at: Option<DateTime<Utc>>,
    due_at: DateTime<Utc>,
    blocked_by: Option<String>,
}

impl TryFrom<Row> for StandingRole {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let seconds = |n| Seconds::new(n).map_err(|_| Error::Unreadable("length of time"));
        let rule = |text: &String| text.parse::<AllowRule>().map_err(|_| Error::Unreadable("rule"));
        let present = match (row.lease_id, row.lease_state, row.role_name, row.valid_until) {
            (Some(lease), Some(state), Some(role_name), Some(valid_until)) => Some(Present {
                lease_id: LeaseId::from(lease),
                state: state.parse()?,
                role_name,
                valid_until,
            }),
            _ => None,
        };
        Ok(Self {
            id: StandingRoleId::from(row.id),
            version: row.version,
            spec: StandingRoleSpec {
                name: row.name.parse().map_err(|_| Error::Unreadable("standing role's name"))?,
                description: row.description,
                profile: row.profile.parse().map_err(|_| Error::Unreadable("profile's name"))?,
                rotate: row.rotate.parse().map_err(|_| Error::Unreadable("schedule"))?,
                window: seconds(row.window_seconds)?,
                jitter: row.jitter_seconds.map(seconds).transpose()?,
                grace: seconds(row.grace_seconds)?,
                allow: row.allow.iter().map(rule).collect::<Result<_, _>>()?,
            },
            principal_id: PrincipalId::from(row.principal_id),
            target: row.target,
            database: row.database,
            present,
            generation: row.generation,
            rotated_at: row.rotated_at,
            due_at: row.due_at,
            blocked_by: row.blocked_by,
        })
    }
}

async fn standing_roles(on: impl PgExecutor<'_>) -> Result<Vec<StandingRole>, Error> {
    let rows = sqlx::query_as!(
            Row,
            r#"SELECT s.id, s.name, s.version, s.description, p.name AS profile, s.principal_id, t.name AS target,
                      p.database, s.rotate, s.window_seconds, s.jitter_seconds, s.grace_seconds, s.allow, s.lease_id,
                      l.state AS "lease_state?", g.role_name AS "role_name?", l.expires_at AS "valid_until?",
                      s.generation, s.rotated_at, s.due_at, s.blocked_by
               FROM standing_role s JOIN profile p ON p.id = s.profile_id JOIN target t ON t.id = p.target_id
               LEFT JOIN lease l ON l.id = s.lease_id LEFT JOIN login g ON g.id = l.login_id
               ORDER BY s.name"#
        )
        .fetch_all(on)
        .await?;
    rows.into_iter().map(StandingRole::try_from).collect()
}

impl Store {
    /// All standing roles, by name. There are as many as programs with a login of their own.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn standing_roles(&self) -> Result<Vec<StandingRole>, Error> {
        standing_roles(&self.pool).await
    }

    /// The password of a standing role's login.
    ///
    /// # Errors
    /// If the database does not answer, or the seal cannot be opened; [`Error::NotOneRow`] if another
    /// lease took this one's place.
    pub async fn standing_password(
        &self,
        id: StandingRoleId,
        lease: LeaseId,
        keys: &KeyRing,
    ) -> Result<Secret<String>, Error> {
        let sealed = sqlx::query_scalar!(
            r#"SELECT password AS "password!" FROM standing_role WHERE id = $1 AND lease_id = $2"#,
            id.uuid(),
            lease.uuid()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(keys.open(place(lease), &sealed.ok_or(Error::NotOneRow(0))?)?)
    }

    /// The leases of standing roles that are not over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn leases_of_standing_roles(&self) -> Result<HashSet<LeaseId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT id FROM lease WHERE standing_role IS NOT NULL AND ended_at IS NULL"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(LeaseId::from).collect())
    }

    /// The standing role that a lease is of, by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn standing_role_of(&self, lease: LeaseId) -> Result<Option<String>, Error> {
        let found =
            sqlx::query_scalar!("SELECT standing_role FROM lease WHERE id = $1", lease.uuid())
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.flatten())
    }
}

impl Tx {
    /// All standing roles, by name, as this transaction sees them.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn standing_roles(&mut self) -> Result<Vec<StandingRole>, Error> {
        standing_roles(&mut *self.inner).await
    }

    /// Records that somebody is given the password of a login of a standing role.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_reading(
        &mut self,
        lease: LeaseId,
        by: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO standing_reading (lease_id, principal_id, read_at) VALUES ($1, $2, $3)
             ON CONFLICT (lease_id, principal_id) DO UPDATE SET read_at = $3, kept_at = NULL",
            lease.uuid(),
            by.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Notes what these were given by the audit: a daemon of an earlier release, which may run on for a while, writes its
    /// readings there alone.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_readings_in_audit(&mut self, readers: &[PrincipalId]) -> Result<(), Error> {
        let readers: Vec<Uuid> = readers.iter().map(|id| id.uuid()).collect();
        sqlx::query!(
            "INSERT INTO standing_reading (lease_id, principal_id, read_at)
             SELECT l.id, p.id, max(a.created_at)
             FROM lease l
             JOIN audit_entry a ON a.lease_id = 'lse_' || replace(l.id::text, '-', '') AND a.kind = 'standing-role.read'
             JOIN principal p ON p.id = ANY ($1) AND a.body::jsonb -> 'actor' ->> 'id' = 'prn_' || replace(p.id::text, '-', '')
             WHERE l.standing_role IS NOT NULL AND l.ended_at IS NULL
             GROUP BY l.id, p.id
             ON CONFLICT DO NOTHING",
            &readers
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Records that these are kept from what standing roles hand out, or from what one does, so that what they know of it is
    /// replaced.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn keep_from_passwords(
        &mut self,
        readers: &[PrincipalId],
        of: Option<&Name>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let readers: Vec<Uuid> = readers.iter().map(|id| id.uuid()).collect();
        sqlx::query!(
            "UPDATE standing_reading r SET kept_at = $3 FROM lease l
             WHERE r.principal_id = ANY ($1) AND r.kept_at IS NULL AND l.id = r.lease_id AND l.ended_at IS NULL
               AND ($2::text IS NULL OR l.standing_role = $2)",
            &readers,
            of.map(Name::as_str) as Option<&str>,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// What standing roles hand out now that somebody knows who is kept from it is due to be replaced, whatever else moved
    /// its next rotation. How many that are.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn replace_kept_passwords(&mut self, now: DateTime<Utc>) -> Result<u64, Error> {
        let done = sqlx::query!(
            "UPDATE standing_role SET due_at = $1, again_at = least(again_at, $1)
             WHERE id IN (
                 SELECT id FROM standing_role
                 WHERE due_at > $1 AND lease_id IN (SELECT lease_id FROM standing_reading WHERE kept_at IS NOT NULL)
                 ORDER BY id FOR UPDATE)",
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected())
    }

    /// The live leases that no standing role hands out any more, and whose password somebody knows who is kept from it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn kept_leases(&mut self) -> Result<Vec<LeaseId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT l.id FROM lease l
             WHERE l.id IN (SELECT lease_id FROM standing_reading WHERE kept_at IS NOT NULL)
               AND l.state IN ('provisioning', 'active') AND l.ended_at IS NULL
               AND NOT EXISTS (SELECT FROM standing_role s WHERE s.lease_id = l.id)
             ORDER BY l.id"
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(ids.into_iter().map(LeaseId::from).collect())
    }

    /// Does somebody know the password of a login who is kept from it?
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn is_known_to_kept(&mut self, lease: LeaseId) -> Result<bool, Error> {
        let found = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM standing_reading WHERE lease_id = $1 AND kept_at IS NOT NULL) AS "is_known!""#,
            lease.uuid()
        )
        .fetch_one(&mut *self.inner)
        .await?;
        Ok(found)
    }

    /// Records a new standing role, to be rotated for the first time at `now`.
    ///
    /// # Errors
    /// A constraint `standing_role_name` if there is one of that name.
    pub async fn create_standing_role(
        &mut self,
        id: StandingRoleId,
        spec: &StandingRoleSpec,
        profile: ProfileId,
        principal: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let allow: Vec<String> = spec.allow.iter().map(AllowRule::to_string).collect();
        sqlx::query!(
            "INSERT INTO standing_role (id, name, version, description, profile_id, principal_id, rotate,
                                        window_seconds, jitter_seconds, grace_seconds, allow, due_at, again_at,
                                        created_at, updated_at)
             VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11, $11)",
            id.uuid(),
            spec.name.as_str(),
            spec.description,
            profile.uuid(),
            principal.uuid(),
            spec.rotate.to_string(),
            spec.window.get(),
            spec.jitter.map(Seconds::get),
            spec.grace.get(),
            &allow,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Changes a standing role; with `due_at`, when it is rotated next.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is gone.
    pub async fn change_standing_role(
        &mut self,
        id: StandingRoleId,
        spec: &StandingRoleSpec,
        profile: ProfileId,
        due_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let allow: Vec<String> = spec.allow.iter().map(AllowRule::to_string).collect();
        let done = sqlx::query!(
            "UPDATE standing_role SET version = version + 1, description = $2, profile_id = $3, rotate = $4,
                    window_seconds = $5, jitter_seconds = $6, grace_seconds = $7, allow = $8,
                    due_at = coalesce($9, due_at), again_at = coalesce($9, again_at), updated_at = $10
             WHERE id = $1",
            id.uuid(),
            spec.description,
            profile.uuid(),
            spec.rotate.to_string(),
            spec.window.get(),
            spec.jitter.map(Seconds::get),
            spec.grace.get(),
            &allow,
            due_at,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Removes a standing role, and forgets its password. Gives its leases that are to be ended.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is gone.
    pub async fn remove_standing_role(
        &mut self,
        id: StandingRoleId,
        name: &Name,
    ) -> Result<Vec<LeaseId>, Error> {
        let done = sqlx::query!("DELETE FROM standing_role WHERE id = $1", id.uuid())
            .execute(&mut *self.inner)
            .await?;
        exactly_one(&done)?;
        let leases = sqlx::query_scalar!(
            "SELECT id FROM lease WHERE standing_role = $1 AND state IN ('provisioning', 'active') ORDER BY id FOR UPDATE",
            name.as_str()
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(leases.into_iter().map(LeaseId::from).collect())
    }
}
