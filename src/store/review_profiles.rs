//! Rows of `review_profile`: the profiles that a review is about, and how their grants were exercised.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::review::exercise::Exercise,
    ids::{ProfileId, ReviewId},
    store::{Store, Tx, error::Error},
};

/// A profile that a review is about.
#[derive(Debug, Clone)]
pub struct ReviewProfile {
    /// Its name, on the day on which the review was opened.
    pub profile: String,
    /// How its grants were exercised; none until its target was asked.
    pub exercise: Option<Exercise>,
}

impl Store {
    /// The profiles that a review is about, by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn review_profiles(&self, review: ReviewId) -> Result<Vec<ReviewProfile>, Error> {
        let rows = sqlx::query!(
            r#"SELECT profile, exercise AS "exercise: Json<Exercise>" FROM review_profile
               WHERE review_id = $1 ORDER BY profile"#,
            review.uuid()
        )
        .fetch_all(&self.pool)
        .await?;
        let shown = rows.into_iter().map(|row| ReviewProfile {
            profile: row.profile,
            exercise: row.exercise.map(|json| json.0),
        });
        Ok(shown.collect())
    }

    /// Profiles of open reviews whose targets are to be asked.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn profiles_to_learn(
        &self,
        now: DateTime<Utc>,
        most: i64,
    ) -> Result<Vec<(ReviewId, ProfileId)>, Error> {
        let rows = sqlx::query!(
            "SELECT p.review_id, p.profile_id FROM review_profile p JOIN review r ON r.id = p.review_id
             WHERE p.ask_at <= $1 AND r.state = 'open' ORDER BY p.ask_at, p.profile LIMIT $2",
            now,
            most
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.review_id.into(), row.profile_id.into())).collect())
    }

    /// Records how the grants of a profile were exercised, and when its target is to be asked again, if at all. What is
    /// known stands.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn learn_exercise(
        &self,
        review: ReviewId,
        profile: ProfileId,
        (exercise, ask_at): (&Exercise, Option<DateTime<Utc>>),
    ) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE review_profile SET exercise = $3, ask_at = $4
             WHERE review_id = $1 AND profile_id = $2 AND ask_at IS NOT NULL",
            review.uuid(),
            profile.uuid(),
            Json(exercise) as _,
            ask_at as Option<DateTime<Utc>>
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Tx {
    /// What is not known of a review's profiles is not asked for any more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn ask_no_more(&mut self, review: ReviewId) -> Result<(), Error> {
        sqlx::query!("UPDATE review_profile SET ask_at = NULL WHERE review_id = $1", review.uuid())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Records which profiles a review is about, besides those that it is about already; their targets are to be asked.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn add_review_profiles(
        &mut self,
        review: ReviewId,
        profiles: &BTreeMap<ProfileId, &str>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let (ids, names): (Vec<_>, Vec<_>) =
            profiles.iter().map(|(id, name)| (id.uuid(), (*name).to_owned())).unzip();
        sqlx::query!(
            "INSERT INTO review_profile (review_id, profile_id, profile, ask_at)
             SELECT $1, id, name, $4 FROM unnest($2::uuid[], $3::text[]) AS p (id, name)
             ON CONFLICT (review_id, profile_id) DO NOTHING",
            review.uuid(),
            &ids,
            &names,
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
