//! What of the reviewed profiles was exercised: asked of their targets once a review is open, so that no target that is
//! slow keeps one from being opened.

use std::time::Duration;

use chrono::TimeDelta;

use crate::{
    app::{App, error::Error},
    domain::{profile::Profile, review::exercise::Exercise},
};

/// How long a target may take to tell.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// How many are asked about before it is looked whether to stop.
const AT_ONCE: i64 = 10;

/// When a target is asked again that could not tell: it was down, say, or its admin was not let to see.
const AGAIN_AFTER: TimeDelta = TimeDelta::hours(1);

impl App {
    /// Asks about profiles of open reviews of which it is not known yet how their grants were exercised.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn learn_exercise(&self) -> Result<(), Error> {
        let wanted = self.store.profiles_to_learn(self.clock.now(), AT_ONCE).await?;
        if wanted.is_empty() {
            return Ok(());
        }
        let profiles = self.store.profiles().await?;
        for (review, wanted) in wanted {
            let (exercise, again) = match profiles.iter().find(|profile| profile.id == wanted) {
                Some(profile) => (self.exercise_of(profile).await, true),
                None => (Exercise::Unknown { why: "the profile was removed".to_owned() }, false),
            };
            let is_known = matches!(exercise, Exercise::Known(_));
            let ask_at = (again && !is_known).then(|| self.clock.now() + AGAIN_AFTER);
            self.store.learn_exercise(review, wanted, (&exercise, ask_at)).await?;
        }
        Ok(())
    }

    async fn exercise_of(&self, profile: &Profile) -> Exercise {
        let spec = &profile.spec;
        let asking = async {
            let (_, handle) = self.handle(profile.target_id).await?;
            let asked = handle.exercise(&spec.database, &spec.group_role()).await;
            asked.map_err(|e| Error::target(spec.target.as_str(), None, e))
        };
        match tokio::time::timeout(LOOK_TIME, asking).await {
            Ok(Ok(exercise)) => exercise,
            Ok(Err(error)) => Exercise::Unknown { why: error.detail() },
            Err(_) => {
                Exercise::Unknown { why: format!("target {} did not answer in time", spec.target) }
            }
        }
    }
}
