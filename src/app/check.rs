//! Check a profile: run the statements of its file in real leases of it, and record what came of them.
//!
//! A profile whose checks fail gives no leases until they pass, unless it says `failed_checks = "warn"`;
//! the record itself takes no intent then, so that every daemon holds to it. Standing roles and leases that
//! are live go on: a check that fails must not stop a program that works.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    app::{
        App, Origin,
        ask::profile_changed,
        error::Error,
        issue::{Answer, Wish},
        offers::Offer,
    },
    domain::{
        access::Asked,
        administration::Right,
        audit::Event,
        name::Name,
        policy,
        profile::Profile,
        rights::check::{Check, CheckRun, Checked, Outcome},
    },
    identity::Admin,
    store,
};

/// The tool of the leases that checks are run in.
const TOOL: &str = "check";

impl App {
    /// Runs the checks of a profile.
    ///
    /// # Errors
    /// If there is no such profile, no lease of it can be made, or our database does not answer. Nothing is
    /// recorded of the checks then.
    pub async fn check(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
    ) -> Result<CheckRun, Error> {
        let profile = self.profile(admin, name).await?;
        let offer = self.offer(origin, admin, profile).await?;
        let all = &offer.profile.spec.rights.checks;
        let mut checked: Vec<Option<Checked>> = all.iter().map(|_| None).collect();
        // Those with the same claims share a lease.
        let mut by_claims: BTreeMap<&BTreeMap<String, String>, Vec<&Check>> = BTreeMap::new();
        for check in all {
            by_claims.entry(&check.claims).or_default().push(check);
        }
        for (claims, checks) in by_claims {
            let running = self.run_in_a_lease(admin, origin, &offer, claims, &checks);
            let mut outcomes = Box::pin(running).await?.into_iter();
            let places = all.iter().zip(&mut checked).filter(|(check, _)| check.claims == *claims);
            for (check, place) in places {
                *place = outcomes.next().map(|(got, took)| Checked {
                    passed: check.expect.is_met_by(&got),
                    check: check.clone(),
                    got,
                    ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                });
            }
        }
        self.record_checks(admin, origin, &offer.profile, checked.into_iter().flatten().collect())
            .await
    }

    /// What there is to say of a profile's checks once it was applied.
    pub(in crate::app) async fn check_after_apply(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &str,
    ) -> Vec<String> {
        let Ok(name) = &name.parse::<Name>() else { return Vec::new() };
        match self.profile(admin, name).await {
            Ok(profile) if profile.spec.rights.checks.is_empty() => return Vec::new(),
            Ok(_) => {}
            Err(e) => return vec![format!("its checks could not be run: {}", e.detail())],
        }
        match Box::pin(self.check(admin, origin, name)).await {
            Err(e) => vec![format!("its checks could not be run: {}", e.detail())],
            Ok(run) if run.passed => vec![format!("{} checks passed", run.checks.len())],
            Ok(run) => {
                let failed = run.checks.iter().filter(|checked| !checked.passed).map(|checked| {
                    let Checked { check, got, .. } = checked;
                    format!(
                        "check `{}` failed: expected {}, got {got}",
                        check.title(),
                        check.expect
                    )
                });
                let blocked = run.blocked.then(|| {
                    format!("it gives no leases until its checks pass: mend it, and run `pgvalet check {name}`")
                });
                failed.chain(blocked).collect()
            }
        }
    }

    /// Runs checks with the same claims in one lease, which ends with them.
    async fn run_in_a_lease(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        offer: &Offer,
        claims: &BTreeMap<String, String>,
        checks: &[&Check],
    ) -> Result<Vec<(Outcome, Duration)>, Error> {
        let spec = &offer.profile.spec;
        let approval =
            policy::approve_check(admin.principal(), admin.rights(), &offer.profile).ok_or(
                Error::Forbidden { what: "checking a profile", rights: vec![Right::Profiles] },
            )?;
        let asked = Asked {
            profile: spec.name.clone(),
            ttl: None,
            tool: TOOL.parse().map_err(Error::internal)?,
            reason: Some("the checks of the profile".to_owned()),
            ticket: None,
            start_at: None,
        };
        let wish = Wish { caller: admin, origin, asked: &asked, offer, key: None, claims };
        let answer = match self.issue(approval, wish).await {
            Err(error @ Error::Refused { .. }) => {
                let why = error.detail();
                let not_run = |_: &&Check| (Outcome::NotRun { why: why.clone() }, Duration::ZERO);
                return Ok(checks.iter().map(not_run).collect());
            }
            answer => answer?.ok_or_else(|| profile_changed(&spec.name))?,
        };
        let Answer { lease, credential: Some(credential), .. } = answer else {
            return Err(profile_changed(&spec.name));
        };
        let handle = self.open(&offer.target).await?;
        let ran = handle
            .check(
                &lease.database,
                &credential.user,
                &lease.group_role,
                &credential.password,
                checks,
            )
            .await;
        self.start_revoking(admin, origin, &lease).await?;
        ran.map_err(|e| Error::target(offer.target.spec.name.as_str(), Some(lease.id), e))
    }

    async fn record_checks(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        profile: &Profile,
        checks: Vec<Checked>,
    ) -> Result<CheckRun, Error> {
        let now = self.clock.now();
        let name = &profile.spec.name;
        let failed = checks.iter().filter(|checked| !checked.passed);
        let failed: Vec<String> = failed.map(|checked| checked.check.title().to_owned()).collect();
        let event = Event::ProfileChecked {
            profile_id: profile.id,
            profile: name.to_string(),
            version: profile.version,
            passed: checks.len() - failed.len(),
            failed: failed.clone(),
            statements: checks.iter().map(|checked| checked.check.sql.clone()).collect(),
        };
        let mut tx = self.store.begin().await?;
        match tx.record_checks(profile.id, profile.version, &failed, now).await {
            Err(store::error::Error::NotOneRow(_)) => return Err(profile_changed(name)),
            recorded => recorded?,
        }
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.offers.forget(name);
        let (passed, version) = (failed.is_empty(), profile.version);
        let blocked = Profile { failed_checks: failed, ..profile.clone() }.blocked_by().is_some();
        Ok(CheckRun { profile: name.clone(), version, checked_at: now, passed, blocked, checks })
    }
}
