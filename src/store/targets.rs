//! Rows of `target`, with their sealed admin password.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        name::Name,
        target::{SslMode, Target, TargetSpec},
    },
    ids::TargetId,
    secret::Secret,
    store::{
        Store, Tx,
        error::Error,
        exactly_one,
        seal::{KeyRing, Place},
    },
};

struct Row {
    id: uuid::Uuid,
    name: String,
    version: i32,
    environment: String,
    host: String,
    port: i32,
    sslmode: String,
    sslrootcert_pem: Option<String>,
    sslcert_pem: Option<String>,
    admin_user: String,
    admin_source: Option<serde_json::Value>,
    databases: Vec<String>,
    max_live: Option<i32>,
    scram_iterations: i32,
    rotate_admin: String,
    admin_version: i32,
}

impl TryFrom<Row> for Target {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: TargetId::from(row.id),
            version: row.version,
            admin_version: row.admin_version,
            spec: TargetSpec {
                name: row.name.parse().map_err(|_| Error::Unreadable("target's name"))?,
                environment: row.environment,
                host: row.host,
                port: u16::try_from(row.port).map_err(|_| Error::Unreadable("port"))?,
                sslmode: SslMode::from_text(&row.sslmode).ok_or(Error::Unreadable("sslmode"))?,
                sslrootcert_pem: row.sslrootcert_pem,
                sslcert_pem: row.sslcert_pem,
                admin_user: row.admin_user,
                admin_source: row
                    .admin_source
                    .map(serde_json::from_value)
                    .transpose()
                    .map_err(|_| Error::Unreadable("admin_source"))?,
                databases: row.databases,
                max_live: row.max_live,
                scram_iterations: u32::try_from(row.scram_iterations)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .ok_or(Error::Unreadable("scram_iterations"))?,
                rotate_admin: row
                    .rotate_admin
                    .parse()
                    .map_err(|_| Error::Unreadable("schedule"))?,
            },
        })
    }
}

/// As the column has it; the schema's check refuses what does not fit.
fn iterations(spec: &TargetSpec) -> i32 {
    i32::try_from(spec.scram_iterations.get()).unwrap_or(i32::MAX)
}

fn source_of(spec: &TargetSpec) -> Result<Option<serde_json::Value>, Error> {
    let source = spec.admin_source.as_ref().map(serde_json::to_value);
    source.transpose().map_err(|_| Error::Unreadable("admin_source"))
}

/// Where the admin's password of a target is sealed to.
pub(in crate::store) const fn password_place(id: TargetId) -> Place {
    Place { table: "target", row: id.uuid(), column: "admin_password" }
}

/// Where the key of the certificate that a target is shown is sealed to.
pub(in crate::store) const fn ssl_key_place(id: TargetId) -> Place {
    Place { table: "target", row: id.uuid(), column: "ssl_key" }
}

/// An admin's password on its way into the record.
#[derive(Debug)]
pub struct SealedPassword(pub(in crate::store) Vec<u8>);

/// The key of the certificate that a target is shown, on its way into the record.
#[derive(Debug)]
pub struct SealedKey(Vec<u8>);

/// What of a target is kept sealed, where it is new or another one.
#[derive(Debug, Default)]
pub struct SealedSecrets {
    /// The admin's password.
    pub password: Option<SealedPassword>,
    /// The key of its client certificate.
    pub ssl_key: Option<SealedKey>,
}

impl SealedKey {
    /// Seals a key for one target. The nonce must never have been used before.
    ///
    /// # Errors
    /// If the cipher fails.
    pub fn seal(
        keys: &KeyRing,
        id: TargetId,
        nonce: [u8; 12],
        key: &Secret<String>,
    ) -> Result<Self, Error> {
        Ok(Self(keys.seal(ssl_key_place(id), nonce, key)?))
    }
}

impl SealedPassword {
    /// Seals a password for one target. The nonce must never have been used before.
    ///
    /// # Errors
    /// If the cipher fails.
    pub fn seal(
        keys: &KeyRing,
        id: TargetId,
        nonce: [u8; 12],
        password: &Secret<String>,
    ) -> Result<Self, Error> {
        Ok(Self(keys.seal(password_place(id), nonce, password)?))
    }
}

impl Store {
    /// All targets, by name. There are tens of them, not thousands.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn targets(&self) -> Result<Vec<Target>, Error> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, name, version, environment, host, port, sslmode, sslrootcert_pem, sslcert_pem, admin_user,
                    admin_source, databases, max_live, scram_iterations, rotate_admin, admin_version
             FROM target WHERE removed_at IS NULL ORDER BY name"
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Target::try_from).collect()
    }

    /// One target by id.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn target(&self, id: TargetId) -> Result<Option<Target>, Error> {
        let row = sqlx::query_as!(
            Row,
            "SELECT id, name, version, environment, host, port, sslmode, sslrootcert_pem, sslcert_pem, admin_user,
                    admin_source, databases, max_live, scram_iterations, rotate_admin, admin_version
             FROM target WHERE id = $1",
            id.uuid()
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(Target::try_from).transpose()
    }
}

impl Store {
    /// Which cluster a target was recorded as, if it is known.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn target_cluster(&self, id: TargetId) -> Result<Option<i64>, Error> {
        Ok(sqlx::query_scalar!("SELECT cluster_id FROM target WHERE id = $1", id.uuid())
            .fetch_one(&self.pool)
            .await?)
    }
}

impl Tx {
    /// One target by name, locked until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_target(&mut self, name: &Name) -> Result<Option<Target>, Error> {
        let row = sqlx::query_as!(
            Row,
            "SELECT id, name, version, environment, host, port, sslmode, sslrootcert_pem, sslcert_pem, admin_user,
                    admin_source, databases, max_live, scram_iterations, rotate_admin, admin_version
             FROM target WHERE name = $1 AND removed_at IS NULL FOR UPDATE",
            name.as_str()
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        row.map(Target::try_from).transpose()
    }

    /// Records a new target.
    ///
    /// # Errors
    /// A constraint `target_name` if there is one of that name.
    pub async fn create_target(
        &mut self,
        id: TargetId,
        spec: &TargetSpec,
        sealed: &SealedSecrets,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO target (id, name, version, environment, host, port, sslmode, sslrootcert_pem,
                                 admin_user, admin_password, databases, created_at, updated_at,
                                 scram_iterations, rotate_admin, max_live, admin_source, sslcert_pem, ssl_key)
             VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14, $15, $16, $17)",
            id.uuid(),
            spec.name.as_str(),
            spec.environment,
            spec.host,
            i32::from(spec.port),
            spec.sslmode.as_str(),
            spec.sslrootcert_pem,
            spec.admin_user,
            sealed.password.as_ref().map(|p| p.0.as_slice()) as Option<&[u8]>,
            &spec.databases,
            now,
            iterations(spec),
            spec.rotate_admin.to_string(),
            spec.max_live,
            source_of(spec)? as Option<serde_json::Value>,
            spec.sslcert_pem,
            sealed.ssl_key.as_ref().map(|key| key.0.as_slice()) as Option<&[u8]>
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Records which cluster a target's address leads to, once it is known.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn set_cluster_id(&mut self, id: TargetId, cluster_id: i64) -> Result<(), Error> {
        sqlx::query!("UPDATE target SET cluster_id = $2 WHERE id = $1", id.uuid(), cluster_id)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Which cluster a target's address led to, if it is known.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn cluster_id(&mut self, id: TargetId) -> Result<Option<i64>, Error> {
        Ok(sqlx::query_scalar!("SELECT cluster_id FROM target WHERE id = $1", id.uuid())
            .fetch_one(&mut *self.inner)
            .await?)
    }

    /// Changes a target; what of its secrets is not given stays as it is, if it is still of use.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is gone.
    pub async fn change_target(
        &mut self,
        id: TargetId,
        spec: &TargetSpec,
        sealed: &SealedSecrets,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE target SET version = version + 1, environment = $2, host = $3, port = $4, sslmode = $5,
                    sslrootcert_pem = $6, admin_user = $7,
                    admin_password = CASE WHEN $14::jsonb IS NULL THEN coalesce($8, admin_password) END,
                    admin_source = $14, sslcert_pem = $15,
                    ssl_key = CASE WHEN $15::text IS NULL THEN NULL ELSE coalesce($16, ssl_key) END,
                    databases = $9, updated_at = $10, scram_iterations = $11, rotate_admin = $12, max_live = $13,
                    admin_version = admin_version + (CASE WHEN $8::bytea IS NULL THEN 0 ELSE 1 END)
             WHERE id = $1",
            id.uuid(),
            spec.environment,
            spec.host,
            i32::from(spec.port),
            spec.sslmode.as_str(),
            spec.sslrootcert_pem,
            spec.admin_user,
            sealed.password.as_ref().map(|p| p.0.as_slice()) as Option<&[u8]>,
            &spec.databases,
            now,
            iterations(spec),
            spec.rotate_admin.to_string(),
            spec.max_live,
            source_of(spec)? as Option<serde_json::Value>,
            spec.sslcert_pem.as_deref() as Option<&str>,
            sealed.ssl_key.as_ref().map(|key| key.0.as_slice()) as Option<&[u8]>
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Removes a target, and forgets what it was signed in to with.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is gone.
    pub async fn remove_target(&mut self, id: TargetId, now: DateTime<Utc>) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE target SET removed_at = $2, sslcert_pem = NULL, ssl_key = NULL,
                    admin_password = CASE WHEN admin_source IS NULL THEN ''::bytea END
             WHERE id = $1 AND removed_at IS NULL",
            id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// What still needs a target: the names of its profiles, and how many leases are live there.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn users_of_target(&mut self, id: TargetId) -> Result<(Vec<String>, i64), Error> {
        let row = sqlx::query!(
            r#"SELECT ARRAY(SELECT name FROM profile WHERE target_id = $1 ORDER BY name) AS "profiles!",
                      (SELECT count(*) FROM lease WHERE target_id = $1 AND ended_at IS NULL) AS "leases!""#,
            id.uuid()
        )
        .fetch_one(&mut *self.inner)
        .await?;
        Ok((row.profiles, row.leases))
    }
}
