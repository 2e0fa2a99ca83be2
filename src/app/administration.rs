//! Who may administer, as code: what a file says of it, and what it takes to apply a file.

use crate::{
    app::{
        App, Origin,
        apply::{PlannedLine, find_target, line},
        error::Error,
    },
    domain::{
        administration::Right,
        audit::Event,
        plan::{self, Action, Desired},
        profile::ProfileSpec,
        standing::StandingRoleSpec,
        target::Target,
    },
    identity::Admin,
    store::Tx,
};

impl App {
    /// What a file changes of who holds which role.
    pub(in crate::app) async fn administration_line(
        &self,
        desired: &Desired,
    ) -> Result<Option<PlannedLine>, Error> {
        let Some(administration) = &desired.administration else { return Ok(None) };
        let recorded = self.store.administration().await?;
        let change = plan::administration_change(administration, &recorded);
        Ok(Some(line("administration", "roles", change)))
    }

    /// A file may say things of several kinds: each that changes needs the right to it.
    pub(in crate::app) async fn check_rights(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        desired: &Desired,
        recorded: &[Target],
    ) -> Result<(), Error> {
        let keeps = |change: plan::Change| change.action == Action::Keep;
        let targets = desired.targets.iter().all(|target| {
            keeps(plan::target_change(&target.spec, find_target(recorded, &target.spec.name)))
        });
        let (profiles, roles) = (self.store.profiles().await?, self.store.standing_roles().await?);
        let same_profile = |spec: &ProfileSpec| {
            let known = profiles.iter().find(|profile| profile.spec.name == spec.name);
            keeps(plan::profile_change(spec, known))
        };
        let same_role = |spec: &StandingRoleSpec| {
            let known = roles.iter().find(|role| role.spec.name == spec.name);
            keeps(plan::standing_role_change(spec, known))
        };
        let same = desired.profiles.iter().all(same_profile)
            && desired.standing_roles.iter().all(same_role);
        let administration = self.administration_line(desired).await?;
        let administration = administration.is_none_or(|line| line.action == Action::Keep);
        let ci = self.ci_lines(desired).await?.iter().all(|line| line.action == Action::Keep);
        for (keeps, right, what) in [
            (targets, Right::Targets, "changing a target"),
            (same, Right::Profiles, "changing a profile"),
            (ci, Right::People, "saying whose CI jobs are let in"),
            (administration, Right::Roles, "saying who holds which role"),
        ] {
            if !keeps {
                self.admin(admin, origin, (&[right], what)).await?;
            }
        }
        Ok(())
    }

    /// Records who holds which role, if the file says; what it says takes the place of all that was recorded.
    pub(in crate::app) async fn write_administration(
        &self,
        tx: &mut Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        desired: &Desired,
    ) -> Result<Option<PlannedLine>, Error> {
        let Some(line) = self.administration_line(desired).await? else { return Ok(None) };
        if let Some(administration) = &desired.administration
            && line.action != Action::Keep
        {
            tx.replace_administration(administration).await?;
            let rules = |rules: &Vec<_>| rules.iter().map(ToString::to_string).collect();
            let held = administration.0.iter().map(|(role, held)| (*role, rules(held))).collect();
            let event = Event::AdministrationChanged { held };
            tx.audit(&origin.entry(admin, self.clock.now(), event)).await?;
        }
        Ok(Some(line))
    }
}
