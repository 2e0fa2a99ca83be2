//! Drift: does a target still hold what the profiles say? Looked for by schedule and when somebody asks;
//! told once, in the audit; mended where the profile, or who asks, says so.
//!
//! Silence of a target proves nothing: what was known of it stays.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    app::{App, Origin, error::Error, own_entry},
    domain::{audit::Event, name::Name, profile::Profile, rights::OnDrift},
    identity::Admin,
    ids::{RequestId, TargetId},
    store::drift::Drift,
    target::{Handle, Prepared},
};

/// How long a target may take to show what it holds for one profile.
const LOOK_TIME: Duration = Duration::from_secs(120);

/// One profile that was looked at.
#[derive(Debug)]
pub struct Looked {
    /// Its name.
    pub profile: Name,
    /// Its target's.
    pub target: Name,
    /// What would be run, or was, to make the target what the profile says. Empty if it is so.
    pub statements: Vec<String>,
    /// What to know.
    pub notes: Vec<String>,
    /// Was it run?
    pub mended: bool,
    /// Why it could not be looked at, or mended.
    pub fault: Option<String>,
}

impl App {
    /// What is known of drift, without looking anew.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn known_drift(&self, _: &Admin<'_>) -> Result<Vec<Drift>, Error> {
        Ok(self.store.drift().await?)
    }

    /// Looks whether targets hold what profiles say, all profiles if none is named; with `mend`, makes it
    /// so.
    ///
    /// # Errors
    /// If there is no such profile, or our database does not answer.
    pub async fn look_for_drift(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        names: &[Name],
        mend: bool,
    ) -> Result<Vec<Looked>, Error> {
        let mut profiles = self.store.profiles().await?;
        for name in names {
            if !profiles.iter().any(|profile| profile.spec.name == *name) {
                return Err(Error::not_found("profile", name.to_string()));
            }
        }
        profiles.retain(|profile| names.is_empty() || names.contains(&profile.spec.name));
        self.compare(profiles, Some((admin, origin)), mend).await
    }

    /// Looks at all profiles, and mends those that ask for it.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn look_for_drift_by_schedule(&self) -> Result<(), Error> {
        let profiles = self.store.profiles().await?;
        for looked in self.compare(profiles, None, false).await? {
            match &looked.fault {
                Some(fault) => {
                    tracing::warn!(profile = %looked.profile, reason = fault, "drift could not be looked for");
                }
                None if looked.statements.is_empty() => {}
                None => {
                    let count = looked.statements.len();
                    tracing::warn!(profile = %looked.profile, target = %looked.target, count, mended = looked.mended,
                        "a target differs from what a profile says");
                }
            }
        }
        Ok(())
    }

    /// The profiles of one target one after the other, targets side by side.
    async fn compare(
        &self,
        profiles: Vec<Profile>,
        who: Option<(&Admin<'_>, &Origin)>,
        mend: bool,
    ) -> Result<Vec<Looked>, Error> {
        let mut by_target: BTreeMap<TargetId, Vec<Profile>> = BTreeMap::new();
        for profile in profiles {
            by_target.entry(profile.target_id).or_default().push(profile);
        }
        let each = by_target.into_values().map(async |profiles| {
            let mut looked = Vec::new();
            for profile in &profiles {
                looked.push(self.compare_one(profile, who, mend).await?);
            }
            Ok::<_, Error>(looked)
        });
        let mut all = Vec::new();
        for looked in join_all(each).await {
            all.extend(looked?);
        }
        all.sort_by(|one: &Looked, other| one.profile.cmp(&other.profile));
        Ok(all)
    }

    async fn compare_one(
        &self,
        profile: &Profile,
        who: Option<(&Admin<'_>, &Origin)>,
        mend: bool,
    ) -> Result<Looked, Error> {
        let spec = &profile.spec;
        let mut looked = Looked {
            profile: spec.name.clone(),
            target: spec.target.clone(),
            statements: Vec::new(),
            notes: Vec::new(),
            mended: false,
            fault: None,
        };
        let (_, handle) = self.handle(profile.target_id).await?;
        match self.planned_within(profile, &handle).await {
            Ok(planned) => (looked.statements, looked.notes) = (planned.statements, planned.notes),
            Err(error) => {
                looked.fault = Some(error.detail());
                return Ok(looked);
            }
        }
        self.record_drift(profile, &looked.statements, &looked.notes, who).await?;
        let mend = mend || spec.rights.drift == Some(OnDrift::Mend);
        if !looked.statements.is_empty() && mend {
            let own = Origin { request_id: RequestId::new(), source: None };
            let (caller, origin) = match who {
                Some((admin, origin)) => (Some(&**admin), origin),
                None => (None, &own),
            };
            match self.prepare(origin, caller, profile, &handle).await {
                Ok(prepared) => {
                    looked.mended = true;
                    looked.notes = prepared.notes;
                    self.record_drift(profile, &[], &looked.notes, who).await?;
                }
                Err(error) => looked.fault = Some(error.detail()),
            }
        }
        Ok(looked)
    }

    async fn planned_within(
        &self,
        profile: &Profile,
        handle: &Arc<Handle>,
    ) -> Result<Prepared, Error> {
        let planning = tokio::time::timeout(LOOK_TIME, handle.plan_profile(&profile.spec));
        let planned = planning.await.map_err(|_| Error::TimedOut {
            what: "looking at what the target holds for a profile",
            lease: None,
        })?;
        planned.map_err(|e| Error::target(profile.spec.target.as_str(), None, e))
    }

    async fn record_drift(
        &self,
        profile: &Profile,
        statements: &[String],
        notes: &[String],
        who: Option<(&Admin<'_>, &Origin)>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let (profile_id, name) = (profile.id, profile.spec.name.to_string());
        let target = profile.spec.target.to_string();
        let mut tx = self.store.begin().await?;
        let event = if statements.is_empty() {
            let was = tx.forget_drift(profile_id).await?;
            was.then_some(Event::DriftGone { profile_id, profile: name, target })
        } else {
            let is_news = tx.record_drift(profile_id, statements, notes, now).await?;
            is_news.then(|| Event::DriftFound {
                profile_id,
                profile: name,
                target,
                statements: statements.to_vec(),
                notes: notes.to_vec(),
            })
        };
        if let Some(event) = event {
            let entry = match who {
                Some((admin, origin)) => origin.entry(admin, now, event),
                None => own_entry(now, event),
            };
            tx.audit(&entry).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }
}
