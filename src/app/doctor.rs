//! Look what can and cannot be done on a target, and say what would mend it.

use chrono::TimeDelta;

use crate::{
    app::{App, error::Error},
    domain::{
        diagnosis::{self, Diagnosis, Finding, Severity},
        name::Name,
        profile::Preset,
        role::LoginName,
        target::Target,
    },
    identity::Admin,
    ids::LoginId,
    target::doctor::{Examined, Group},
};

/// Clocks further apart than this are told of: leases end by the target's clock, too.
const MUCH_SKEW: TimeDelta = TimeDelta::seconds(2);

impl App {
    /// Examines a target. That it cannot be reached is a finding, too.
    ///
    /// # Errors
    /// If there is none of that name, or our database does not answer.
    pub async fn diagnose(&self, admin: &Admin<'_>, name: &Name) -> Result<Diagnosis, Error> {
        let (target, handle) = {
            let recorded = self.target(admin, name).await?;
            self.handle(recorded.id).await?
        };
        let groups = self.groups_on(admin, &target).await?;
        let word: Name = "doctor".parse().map_err(|e| Error::Internal(Box::new(e)))?;
        let trial = LoginName::mint(&word, &word, &word, LoginId::new());
        let examined = handle.examine(&trial, &groups).await;
        let seen_at = self.clock.now();
        let mut diagnosis = Diagnosis {
            target: target.spec.name.clone(),
            seen_at,
            way: None,
            server_version: None,
            clock_skew_ms: None,
            sound: false,
            findings: Vec::new(),
        };
        match examined {
            Ok(Examined { server, way, findings }) => {
                diagnosis.findings.extend(about_the_password(&target));
                let skew = server.now - seen_at;
                diagnosis.way = Some(way);
                diagnosis.server_version = Some(server.version_num);
                diagnosis.clock_skew_ms = Some(skew.num_milliseconds());
                diagnosis.findings.extend(findings);
                diagnosis
                    .findings
                    .extend(diagnosis::about_the_major_version(server.version_num, seen_at));
                diagnosis.findings.push(about_the_clock(skew));
                let known = self.store.begin().await?.cluster_id(target.id).await?;
                diagnosis.findings.extend(about_the_cluster(known, server.system_identifier));
            }
            Err(error) => {
                let error = Error::target(name.as_str(), None, error);
                let found = error.detail();
                diagnosis.findings.push(Finding::bad("sign_in", Severity::Broken, found, None));
            }
        }
        diagnosis.sound =
            diagnosis.findings.iter().all(|finding| finding.severity < Severity::Broken);
        Ok(diagnosis)
    }

    /// The roles that the target's profiles hand out.
    async fn groups_on(&self, admin: &Admin<'_>, target: &Target) -> Result<Vec<Group>, Error> {
        let profiles = self.profiles(admin).await?;
        let own = profiles.iter().filter(|profile| profile.target_id == target.id);
        let mut groups: Vec<Group> = own
            .map(|profile| Group {
                role: profile.spec.group_role(),
                is_given: profile.spec.preset == Preset::Custom,
            })
            .collect();
        groups.sort();
        groups.dedup();
        Ok(groups)
    }
}

fn about_the_password(target: &Target) -> Option<Finding> {
    let source = target.spec.admin_source.as_ref()?;
    let user = &target.spec.admin_user;
    let found =
        format!("`{user}` was signed in with what came from {source}; pgvalet does not renew it");
    Some(Finding::good("password_source", found))
}

fn about_the_clock(skew: TimeDelta) -> Finding {
    let ms = skew.num_milliseconds();
    if skew.abs() <= MUCH_SKEW {
        return Finding::good("clock", format!("its clock is {ms} ms from ours"));
    }
    Finding::bad(
        "clock",
        Severity::Risk,
        format!("its clock is {ms} ms from ours: let both machines follow a time server"),
        None,
    )
}

fn about_the_cluster(known: Option<i64>, seen: Option<i64>) -> Option<Finding> {
    match (known, seen) {
        (Some(known), Some(seen)) if known != seen => Some(Finding::bad(
            "cluster",
            Severity::Broken,
            format!(
                "this is another cluster ({seen}) than the one that the target was recorded with ({known}): the address leads somewhere else now"
            ),
            None,
        )),
        (Some(known), Some(_)) => {
            Some(Finding::good("cluster", format!("it is the cluster that was recorded ({known})")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_and_another_cluster_are_told() {
        for (ms, severity) in [(0, Severity::Good), (-2000, Severity::Good), (2001, Severity::Risk)]
        {
            assert_eq!(about_the_clock(TimeDelta::milliseconds(ms)).severity, severity);
        }
        assert_eq!(about_the_clock(TimeDelta::seconds(-9)).severity, Severity::Risk);
        let severity = |known, seen| about_the_cluster(known, seen).map(|found| found.severity);
        assert_eq!(severity(Some(1), Some(2)), Some(Severity::Broken));
        assert_eq!(severity(Some(1), Some(1)), Some(Severity::Good));
        assert_eq!((severity(None, Some(1)), severity(Some(1), None)), (None, None));
    }
}
