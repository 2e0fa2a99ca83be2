//! Rows of `profile`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::{
        conditions::Conditions,
        duration::Seconds,
        name::Name,
        principal::AllowRule,
        profile::{OwnedObjects, Preset, Profile, ProfileSpec, Reason},
        review::Bound,
        rights::{Rights, context::Template},
    },
    ids::{ProfileId, TargetId},
    store::{Store, Tx, error::Error, exactly_one},
};

struct Row {
    id: uuid::Uuid,
    target_id: uuid::Uuid,
    target: String,
    name: String,
    version: i32,
    prepared_version: Option<i32>,
    failed_checks: Json<Vec<String>>,
    settable: Vec<String>,
    bounds: Json<Vec<Bound>>,
    description: String,
    database: String,
    preset: String,
    schemas: Vec<String>,
    group_role: Option<String>,
    ttl_seconds: i64,
    max_ttl_seconds: i64,
    connection_limit: i32,
    settings: Json<BTreeMap<String, Template>>,
    owned_objects: String,
    allow: Vec<String>,
    reason: String,
    conditions: Json<Conditions>,
    rights: Json<Rights>,
}

impl TryFrom<Row> for Profile {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let unreadable = |what| move |_| Error::Unreadable(what);
        let seconds = |n| Seconds::new(n).map_err(unreadable("ttl"));
        let rule = |text: &String| text.parse::<AllowRule>().map_err(|_| Error::Unreadable("rule"));
        Ok(Self {
            id: ProfileId::from(row.id),
            target_id: TargetId::from(row.target_id),
            version: row.version,
            prepared_version: row.prepared_version,
            failed_checks: row.failed_checks.0,
            settable: row.settable,
            bounds: row.bounds.0,
            spec: ProfileSpec {
                name: row.name.parse().map_err(|_| Error::Unreadable("profile's name"))?,
                description: row.description,
                target: row.target.parse().map_err(|_| Error::Unreadable("target's name"))?,
                database: row.database,
                preset: Preset::from_text(&row.preset).ok_or(Error::Unreadable("preset"))?,
                schemas: row.schemas,
                group_role: row.group_role,
                ttl: seconds(row.ttl_seconds)?,
                max_ttl: seconds(row.max_ttl_seconds)?,
                connection_limit: row.connection_limit,
                settings: row.settings.0,
                owned_objects: OwnedObjects::from_text(&row.owned_objects)
                    .ok_or(Error::Unreadable("owned objects"))?,
                allow: row.allow.iter().map(rule).collect::<Result<_, _>>()?,
                reason: Reason::from_text(&row.reason).ok_or(Error::Unreadable("reason"))?,
                conditions: row.conditions.0,
                rights: row.rights.0,
            },
        })
    }
}

/// Profiles as they are read, all with the same columns; what follows says which.
macro_rules! profile_rows {
    ($which:tt $($arguments:tt)*) => {
        sqlx::query_as!(
            Row,
            r#"SELECT p.id, p.target_id, t.name AS target, p.name, p.version, p.prepared_version,
                      CASE WHEN p.checked_version = p.version THEN p.failed_checks ELSE '[]' END AS "failed_checks!: Json<Vec<String>>",
                      p.description,
                      p.database, p.preset, p.schemas, p.group_role, p.ttl_seconds, p.max_ttl_seconds,
                      p.connection_limit, p.settings AS "settings: Json<BTreeMap<String, Template>>",
                      p.owned_objects, p.allow, p.reason, p.settable, p.bounds AS "bounds: Json<Vec<Bound>>", p.conditions AS "conditions: Json<Conditions>", p.rights AS "rights: Json<Rights>"
               FROM profile p JOIN target t ON t.id = p.target_id
               "# + $which $($arguments)*
        )
    };
}

impl Store {
    /// All profiles, by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn profiles(&self) -> Result<Vec<Profile>, Error> {
        let rows = profile_rows!("ORDER BY p.name").fetch_all(&self.pool).await?;
        rows.into_iter().map(Profile::try_from).collect()
    }

    /// One profile by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn profile(&self, name: &Name) -> Result<Option<Profile>, Error> {
        let row =
            profile_rows!("WHERE p.name = $1", name.as_str()).fetch_optional(&self.pool).await?;
        row.map(Profile::try_from).transpose()
    }
}

impl Tx {
    /// All profiles, by name, as this transaction sees them.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn profiles(&mut self) -> Result<Vec<Profile>, Error> {
        let rows = profile_rows!("ORDER BY p.name").fetch_all(&mut *self.inner).await?;
        rows.into_iter().map(Profile::try_from).collect()
    }

    /// These profiles, locked until the transaction ends: in the order in which intents lock them too.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_profiles(
        &mut self,
        ids: &[ProfileId],
    ) -> Result<BTreeMap<ProfileId, Profile>, Error> {
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let rows = profile_rows!("WHERE p.id = ANY ($1) ORDER BY p.id FOR UPDATE OF p", &ids)
            .fetch_all(&mut *self.inner)
            .await?;
        rows.into_iter().map(|row| Ok((row.id.into(), Profile::try_from(row)?))).collect()
    }

    /// One profile by name, which nobody changes until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn hold_profile(&mut self, name: &Name) -> Result<Option<Profile>, Error> {
        let row = profile_rows!("WHERE p.name = $1 FOR SHARE OF p", name.as_str())
            .fetch_optional(&mut *self.inner)
            .await?;
        row.map(Profile::try_from).transpose()
    }

    /// One profile by name, locked until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_profile(&mut self, name: &Name) -> Result<Option<Profile>, Error> {
        let row = profile_rows!("WHERE p.name = $1 FOR UPDATE OF p", name.as_str())
            .fetch_optional(&mut *self.inner)
            .await?;
        row.map(Profile::try_from).transpose()
    }

    /// Records a new profile.
    ///
    /// # Errors
    /// A constraint `profile_name` or `profile_group_role` if another profile is in the way.
    pub async fn create_profile(
        &mut self,
        id: ProfileId,
        target_id: TargetId,
        spec: &ProfileSpec,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let allow: Vec<String> = spec.allow.iter().map(AllowRule::to_string).collect();
        sqlx::query!(
            "INSERT INTO profile (id, name, target_id, version, description, database, preset, schemas, group_role,
                                  effective_group_role, ttl_seconds, max_ttl_seconds, connection_limit, settings,
                                  allow, reason, created_at, updated_at, owned_objects, rights, conditions)
             VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17, $18, $19)",
            id.uuid(),
            spec.name.as_str(),
            target_id.uuid(),
            spec.description,
            spec.database,
            spec.preset.as_str(),
            &spec.schemas,
            spec.group_role,
            spec.group_role(),
            spec.ttl.get(),
            spec.max_ttl.get(),
            spec.connection_limit,
            Json(&spec.settings) as _,
            &allow,
            spec.reason.as_str(),
            now,
            spec.owned_objects.as_str(),
            Json(&spec.rights) as _,
            Json(&spec.conditions) as _
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Changes a profile. It is to be prepared anew.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is gone.
    pub async fn change_profile(
        &mut self,
        id: ProfileId,
        target_id: TargetId,
        spec: &ProfileSpec,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let allow: Vec<String> = spec.allow.iter().map(AllowRule::to_string).collect();
        let done = sqlx::query!(
            "UPDATE profile SET version = version + 1, target_id = $2, description = $3, database = $4, preset = $5,
                    schemas = $6, group_role = $7, effective_group_role = $8, ttl_seconds = $9, max_ttl_seconds = $10,
                    connection_limit = $11, settings = $12, allow = $13, reason = $14, updated_at = $15, owned_objects = $16, rights = $17,
                    conditions = $18
             WHERE id = $1",
            id.uuid(),
            target_id.uuid(),
            spec.description,
            spec.database,
            spec.preset.as_str(),
            &spec.schemas,
            spec.group_role,
            spec.group_role(),
            spec.ttl.get(),
            spec.max_ttl.get(),
            spec.connection_limit,
            Json(&spec.settings) as _,
            &allow,
            spec.reason.as_str(),
            now,
            spec.owned_objects.as_str(),
            Json(&spec.rights) as _,
            Json(&spec.conditions) as _
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that the target holds what this version of the profile says, and which of the settings of the
    /// server's log may be given there.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the profile was changed meanwhile.
    pub async fn mark_profile_prepared(
        &mut self,
        id: ProfileId,
        version: i32,
        settable: &[String],
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE profile SET prepared_version = version, settable = $3 WHERE id = $1 AND version = $2",
            id.uuid(),
            version,
            settable
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that it is not known what a profile's group role holds.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mark_profile_unprepared(&mut self, id: ProfileId) -> Result<(), Error> {
        sqlx::query!("UPDATE profile SET prepared_version = NULL WHERE id = $1", id.uuid())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Records what came of the checks of this version of a profile: the names of those that failed.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if the profile was changed meanwhile.
    pub async fn record_checks(
        &mut self,
        id: ProfileId,
        version: i32,
        failed: &[String],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE profile SET checked_version = version, checked_at = $4, failed_checks = $3
             WHERE id = $1 AND version = $2",
            id.uuid(),
            version,
            Json(failed) as _,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records what reviews left of a profile. Its version grows, so that nobody issues by what was decided before; what
    /// is prepared and checked stays so, and what others agreed to under it still holds.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is gone, or was changed meanwhile.
    pub async fn bound_profile(
        &mut self,
        id: ProfileId,
        version: i32,
        bounds: &[Bound],
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE profile SET bounds = $3, version = version + 1,
                    prepared_version = CASE WHEN prepared_version = version THEN version + 1 ELSE prepared_version END,
                    checked_version = CASE WHEN checked_version = version THEN version + 1 ELSE checked_version END
             WHERE id = $1 AND version = $2",
            id.uuid(),
            version,
            Json(bounds) as _
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)?;
        sqlx::query!(
            "WITH held AS (SELECT id FROM request WHERE profile_id = $1 AND profile_version = $2 AND ended_at IS NULL
                           ORDER BY id FOR UPDATE)
             UPDATE request r SET profile_version = $2 + 1 FROM held WHERE r.id = held.id",
            id.uuid(),
            version
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Removes a profile. Its leases keep what they need.
    ///
    /// # Errors
    /// [`Error::NotOneRow`] if it is gone.
    pub async fn remove_profile(&mut self, id: ProfileId) -> Result<(), Error> {
        let done = sqlx::query!("DELETE FROM profile WHERE id = $1", id.uuid())
            .execute(&mut *self.inner)
            .await?;
        exactly_one(&done)
    }
}
