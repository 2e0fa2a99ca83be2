//! Rows of `admin_rotation`: the next password of a target's administrator, from before it is set until
//! it is known to hold or not to; and the claims on that work.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    ids::TargetId,
    secret::Secret,
    store::{
        Store, Tx,
        error::Error,
        exactly_one,
        seal::{KeyRing, Place},
        targets::{SealedPassword, password_place, ssl_key_place},
    },
};

/// How the password of a target's administrator stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminRotation {
    /// When it was last renewed.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When it is to be renewed next; none if never by itself.
    pub due_at: Option<DateTime<Utc>>,
    /// What stood in the way of the latest try, in words.
    pub blocked_by: Option<String>,
    /// Since when the target refuses every password that is recorded.
    pub refused_at: Option<DateTime<Utc>>,
}

/// The passwords that a target's administrator may have.
#[derive(Debug)]
pub struct AdminSecrets {
    /// Grows with each change of them.
    pub version: i32,
    /// The one that holds, as far as is known; none if the daemon gets it elsewhere.
    pub current: Option<Secret<String>>,
    /// The one that is being set.
    pub next: Option<Secret<String>>,
    /// The key of the certificate that is shown, if one is.
    pub ssl_key: Option<Secret<String>>,
}

/// A renewal that is ours until the claim ends.
#[derive(Debug)]
pub struct ClaimedAdmin {
    /// The target.
    pub target_id: TargetId,
    /// How often it was tried in vain.
    pub attempts: i32,
    /// Why.
    pub blocked_by: Option<String>,
    /// When the next password was written down, if one was.
    pub next_at: Option<DateTime<Utc>>,
    token: Uuid,
}

/// Where the next password of a target is sealed to.
const fn next_place(id: TargetId) -> Place {
    Place { table: "admin_rotation", row: id.uuid(), column: "next_password" }
}

/// The next password of a target's administrator, sealed.
#[derive(Debug)]
pub struct SealedNext(Vec<u8>);

impl SealedNext {
    /// Seals it. The nonce must never have been used before.
    ///
    /// # Errors
    /// If the cipher fails.
    pub fn seal(
        keys: &KeyRing,
        id: TargetId,
        nonce: [u8; 12],
        password: &Secret<String>,
    ) -> Result<Self, Error> {
        Ok(Self(keys.seal(next_place(id), nonce, password)?))
    }
}

impl Store {
    /// The passwords that the administrator of a target may have.
    ///
    /// # Errors
    /// If the database does not answer, or a seal cannot be opened.
    pub async fn admin_secrets(&self, id: TargetId, keys: &KeyRing) -> Result<AdminSecrets, Error> {
        let row = sqlx::query!(
            r#"SELECT t.admin_version, t.admin_password, t.ssl_key, r.next_password AS "next_password?"
               FROM target t LEFT JOIN admin_rotation r ON r.target_id = t.id WHERE t.id = $1"#,
            id.uuid()
        )
        .fetch_one(&self.pool)
        .await?;
        let open = |place, sealed: Option<Vec<u8>>| {
            sealed.map(|sealed| keys.open(place, &sealed)).transpose()
        };
        Ok(AdminSecrets {
            version: row.admin_version,
            current: open(password_place(id), row.admin_password)?,
            next: open(next_place(id), row.next_password)?,
            ssl_key: open(ssl_key_place(id), row.ssl_key)?,
        })
    }

    /// How the passwords of all targets' administrators stand.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn admin_rotations(&self) -> Result<Vec<(TargetId, AdminRotation)>, Error> {
        let rows = sqlx::query_as!(
            Read,
            "SELECT target_id, rotated_at, due_at, blocked_by, refused_at FROM admin_rotation"
        )
        .fetch_all(&self.pool)
        .await?;
        let read = |row| {
            let Read { target_id, rotated_at, due_at, blocked_by, refused_at } = row;
            let stands = AdminRotation { rotated_at, due_at, blocked_by, refused_at };
            (TargetId::from(target_id), stands)
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Takes up to `limit` renewals that are due and that nobody works on.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_due_admins(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedAdmin>, Error> {
        let token = Uuid::now_v7();
        let rows = sqlx::query!(
            "UPDATE admin_rotation SET claim_token = $1, claimed_until = $2 WHERE target_id IN (
                 SELECT target_id FROM admin_rotation
                 WHERE again_at <= $3 AND (claimed_until IS NULL OR claimed_until <= $3)
                 ORDER BY again_at LIMIT $4 FOR UPDATE SKIP LOCKED)
             RETURNING target_id, attempts, blocked_by, next_at",
            token,
            until,
            now,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        let claimed = rows.into_iter().map(|row| ClaimedAdmin {
            target_id: TargetId::from(row.target_id),
            attempts: row.attempts,
            blocked_by: row.blocked_by,
            next_at: row.next_at,
            token,
        });
        Ok(claimed.collect())
    }

    /// Takes one renewal to be made now, whenever it was due, and records that it is. None if somebody
    /// works on it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_admin(
        &self,
        id: TargetId,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<ClaimedAdmin>, Error> {
        let token = Uuid::now_v7();
        let row = sqlx::query!(
            "INSERT INTO admin_rotation (target_id, due_at, again_at, claim_token, claimed_until)
             VALUES ($4, $3, $3, $1, $2)
             ON CONFLICT (target_id) DO UPDATE
             SET claim_token = $1, claimed_until = $2, due_at = least(admin_rotation.due_at, $3),
                 again_at = least(admin_rotation.again_at, $3)
             WHERE admin_rotation.claimed_until IS NULL OR admin_rotation.claimed_until <= $3
             RETURNING attempts, blocked_by, next_at",
            token,
            until,
            now,
            id.uuid()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| ClaimedAdmin {
            target_id: id,
            attempts: row.attempts,
            blocked_by: row.blocked_by,
            next_at: row.next_at,
            token,
        }))
    }

    /// Keeps a claim while the work goes on.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn keep_admin_claim(
        &self,
        claimed: &ClaimedAdmin,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE admin_rotation SET claimed_until = $3 WHERE target_id = $1 AND claim_token = $2",
            claimed.target_id.uuid(),
            claimed.token,
            until
        )
        .execute(&self.pool)
        .await?;
        exactly_one(&done)
    }

    /// Other targets, by name, that sign in to the same cluster as the same role: to renew its password
    /// for one would shut out the others.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn targets_with_same_admin(&self, id: TargetId) -> Result<Vec<String>, Error> {
        Ok(sqlx::query_scalar!(
            "SELECT o.name FROM target t JOIN target o
                 ON o.id <> t.id AND o.admin_user = t.admin_user AND o.removed_at IS NULL
                AND (o.cluster_id = t.cluster_id OR (o.host = t.host AND o.port = t.port))
             WHERE t.id = $1 ORDER BY o.name",
            id.uuid()
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

struct Read {
    target_id: Uuid,
    rotated_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    blocked_by: Option<String>,
    refused_at: Option<DateTime<Utc>>,
}

impl Tx {
    /// Records when the password of a target's administrator is to be renewed.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn schedule_admin_rotation(
        &mut self,
        id: TargetId,
        due_at: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO admin_rotation (target_id, due_at, again_at) VALUES ($1, $2, $2)
             ON CONFLICT (target_id) DO UPDATE SET due_at = $2, again_at = $2, overdue_at = NULL",
            id.uuid(),
            due_at as Option<DateTime<Utc>>
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// When the password of a target's administrator was last renewed.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn admin_rotated_at(&mut self, id: TargetId) -> Result<Option<DateTime<Utc>>, Error> {
        let found = sqlx::query_scalar!(
            "SELECT rotated_at FROM admin_rotation WHERE target_id = $1",
            id.uuid()
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        Ok(found.flatten())
    }

    /// Forgets what was on its way because somebody gave a password that holds. False if a renewal is
    /// under way: what it sets would then not be what is recorded.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin_admin_anew(
        &mut self,
        id: TargetId,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO admin_rotation (target_id) VALUES ($1)
             ON CONFLICT (target_id) DO UPDATE
             SET next_password = NULL, next_at = NULL, refused_at = NULL, attempts = 0, blocked_by = NULL,
                 claim_token = NULL, claimed_until = NULL
             WHERE admin_rotation.claimed_until IS NULL OR admin_rotation.claimed_until <= $2",
            id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Writes the next password down, before it is set.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours, or another one is on its way.
    pub async fn write_next_admin_password(
        &mut self,
        claimed: &ClaimedAdmin,
        next: &SealedNext,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE admin_rotation SET next_password = $3, next_at = $4
             WHERE target_id = $1 AND claim_token = $2 AND next_password IS NULL",
            claimed.target_id.uuid(),
            claimed.token,
            next.0,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Throws the next password away: it does not hold.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn drop_next_admin_password(&mut self, claimed: &ClaimedAdmin) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE admin_rotation SET next_password = NULL, next_at = NULL WHERE target_id = $1 AND claim_token = $2",
            claimed.target_id.uuid(),
            claimed.token
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Makes the next password the one that holds, forgets the one before, and gives the claim back.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn promote_admin_password(
        &mut self,
        claimed: &ClaimedAdmin,
        password: &SealedPassword,
        due_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE admin_rotation SET next_password = NULL, next_at = NULL, rotated_at = $3, due_at = $4, again_at = $4,
                    attempts = 0, blocked_by = NULL, overdue_at = NULL, refused_at = NULL,
                    claim_token = NULL, claimed_until = NULL
             WHERE target_id = $1 AND claim_token = $2",
            claimed.target_id.uuid(),
            claimed.token,
            now,
            due_at as Option<DateTime<Utc>>
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)?;
        let done = sqlx::query!(
            "UPDATE target SET admin_password = $2, admin_version = admin_version + 1
             WHERE id = $1 AND removed_at IS NULL",
            claimed.target_id.uuid(),
            password.0
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Gives a claim back whose renewal failed, and says why. True if the reason is a new one.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the claim is no longer ours.
    pub async fn release_admin(
        &mut self,
        claimed: &ClaimedAdmin,
        why: &str,
        again_at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE admin_rotation SET claim_token = NULL, claimed_until = NULL, again_at = $3, blocked_by = $4,
                    attempts = attempts + 1
             WHERE target_id = $1 AND claim_token = $2",
            claimed.target_id.uuid(),
            claimed.token,
            again_at,
            why
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)?;
        Ok(claimed.blocked_by.as_deref() != Some(why))
    }

    /// Marks the renewals that are overdue, having been due before `late`, and were not marked before;
    /// gives their targets.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mark_overdue_admins(
        &mut self,
        late: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<(TargetId, String, DateTime<Utc>)>, Error> {
        let rows = sqlx::query!(
            r#"UPDATE admin_rotation r SET overdue_at = $2 FROM target t
               WHERE t.id = r.target_id AND r.overdue_at IS NULL AND r.due_at < $1 AND t.removed_at IS NULL
               RETURNING t.id, t.name, r.due_at AS "due_at!""#,
            late,
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(rows.into_iter().map(|row| (TargetId::from(row.id), row.name, row.due_at)).collect())
    }

    /// Records whether a target refuses its administrator. True if that is news.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mark_admin_refused(
        &mut self,
        id: TargetId,
        since: Option<DateTime<Utc>>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO admin_rotation (target_id, refused_at) VALUES ($1, $2)
             ON CONFLICT (target_id) DO UPDATE SET refused_at = $2
             WHERE (admin_rotation.refused_at IS NULL) <> ($2::timestamptz IS NULL)",
            id.uuid(),
            since as Option<DateTime<Utc>>
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets what is kept of the passwords of a target that is removed.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_admin_rotation(&mut self, id: TargetId) -> Result<(), Error> {
        sqlx::query!("DELETE FROM admin_rotation WHERE target_id = $1", id.uuid())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}
