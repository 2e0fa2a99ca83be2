//! Targets and profiles as code: plan, apply, export.
//!
//! All that a file says is checked before anything is changed, on its targets too ([`crate::app::fit`]);
//! what it changes in our record is one transaction; then its profiles are made, all of a database in one
//! transaction there, and what could not be made is named: it is made when it is next applied or asked for.

use std::collections::BTreeMap;

use crate::{
    app::{
        App, Origin,
        error::Error,
        fit::{Looked, by_database},
        targets::{Given, NewTarget, keep_source},
    },
    document,
    domain::{
        name::Name,
        plan::{self, Action, Change, Desired, DesiredTarget},
        profile::{Profile, ProfileSpec},
        profile_file::{self, Written},
        schedule::Schedule,
        standing::{StandingRole, StandingRoleSpec},
        target::{self, Target},
    },
    identity::Admin,
    secret::Secret,
    store::Tx,
    target::Prepared,
};

/// A file with targets and profiles.
#[derive(Debug)]
pub struct Code {
    /// Its name, for the messages.
    pub name: String,
    /// TOML.
    pub text: String,
    /// The passwords that it names, by the name it gives them.
    pub secrets: BTreeMap<String, Secret<String>>,
}

/// One line of a plan, or of what was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLine {
    /// `target`, `profile`, `standing-role`, `administration`, `issuer` or `ci`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What happens.
    pub action: Action,
    /// What differs.
    pub changed: Vec<&'static str>,
    /// The statements on the target.
    pub statements: Vec<String>,
    /// What to know.
    pub notes: Vec<String>,
}

impl App {
    /// What applying a file would do. Nothing is changed.
    ///
    /// # Errors
    /// If the file is not sound, or our database does not answer.
    pub async fn plan(&self, _: &Admin<'_>, code: &Code) -> Result<Vec<PlannedLine>, Error> {
        let desired = self.read(code).await?;
        let (targets, profiles) = (self.store.targets().await?, self.store.profiles().await?);
        let looked = self.look(code, &desired, &targets).await?;
        let mut lines = Vec::new();
        for target in &desired.targets {
            lines.push(target_line(target, find_target(&targets, &target.spec.name)));
        }
        for (spec, looked) in desired.profiles.iter().zip(looked) {
            let recorded = profiles.iter().find(|profile| profile.spec.name == spec.name);
            let mut line = profile_line(spec, recorded);
            match looked {
                Ok(planned) => {
                    line.statements = planned.statements;
                    line.notes.extend(planned.notes);
                }
                Err(Error::Invalid(_)) => line.notes.push(format!(
                    "target `{}` is new, or to be reached in another way: its statements are shown by apply, which sends the password",
                    spec.target
                )),
                Err(e) => {
                    line.notes.push(format!("could not look at the target: {}", e.detail()));
                }
            }
            lines.push(line);
        }
        let roles = self.store.standing_roles().await?;
        lines.extend(desired.standing_roles.iter().map(|spec| standing_role_line(spec, &roles)));
        lines.extend(self.administration_line(&desired).await?);
        lines.extend(self.ci_lines(&desired).await?);
        Ok(lines)
    }

    /// Makes it so.
    ///
    /// # Errors
    /// If the file is not sound, a target cannot be signed in to (nothing is changed then), or our
    /// database does not answer. A profile that could not be made on its target is named in its line.
    pub async fn apply(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        code: &Code,
    ) -> Result<Vec<PlannedLine>, Error> {
        let desired = self.read(code).await?;
        let recorded = self.store.targets().await?;
        self.check_rights(admin, origin, &desired, &recorded).await?;
        let mut clusters = Vec::new();
        for target in &desired.targets {
            let known = find_target(&recorded, &target.spec.name);
            let changes = plan::target_change(&target.spec, known).action != Action::Keep;
            clusters.push(if changes {
                self.try_target(&target.spec, given_for(target, known, code)?).await?
            } else {
                None
            });
        }

        let looked = self.look(code, &desired, &recorded).await?;

        let mut lines = Vec::new();
        let profiles = self.store.profiles().await?;
        let mut tx = self.store.begin().await?;
        for (target, cluster_id) in desired.targets.iter().zip(clusters) {
            let known = find_target(&recorded, &target.spec.name);
            let line = target_line(target, known);
            let given = given_for(target, known, code)?;
            let new = NewTarget { spec: &target.spec, given, cluster_id };
            self.write_target(&mut tx, admin, origin, &new).await?;
            lines.push(line);
        }
        for spec in &desired.profiles {
            let known = profiles.iter().find(|profile| profile.spec.name == spec.name);
            self.write_profile(&mut tx, admin, origin, spec).await?;
            lines.push(profile_line(spec, known));
        }
        lines.extend(self.write_standing_roles(&mut tx, admin, origin, &desired).await?);
        lines.extend(self.write_administration(&mut tx, admin, origin, &desired).await?);
        lines.extend(self.write_ci(&mut tx, admin, origin, &desired).await?);
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.nudges.rotations.notify_one();

        self.make_on_targets(admin, origin, (&desired.profiles, looked), &mut lines).await?;
        Ok(lines)
    }

    async fn write_standing_roles(
        &self,
        tx: &mut Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        desired: &Desired,
    ) -> Result<Vec<PlannedLine>, Error> {
        let recorded = self.store.standing_roles().await?;
        for spec in &desired.standing_roles {
            self.write_standing_role(tx, admin, origin, spec).await?;
        }
        let specs = desired.standing_roles.iter();
        Ok(specs.map(|spec| standing_role_line(spec, &recorded)).collect())
    }

    /// All targets, profiles and standing roles as a file that applies to nothing new.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn export(&self, _: &Admin<'_>) -> Result<String, Error> {
        let (targets, profiles) = (self.store.targets().await?, self.store.profiles().await?);
        let targets: Vec<_> = targets.into_iter().map(|target| target.spec).collect();
        let profiles: Vec<_> = profiles.into_iter().map(|profile| profile.spec).collect();
        let roles = self.store.standing_roles().await?;
        let roles: Vec<_> = roles.into_iter().map(|role| role.spec).collect();
        let administration = self.store.administration().await?;
        Ok(profile_file::write(&Written {
            targets: &targets,
            profiles: &profiles,
            standing_roles: &roles,
            administration: Some(&administration),
            issuers: &self.store.issuers().await?,
            ci_rules: &self.store.ci_rules().await?,
        }))
    }

    /// Reads a file and checks it against what is recorded.
    async fn read(&self, code: &Code) -> Result<Desired, Error> {
        let mut desired = profile_file::read(&code.name, &code.text)
            .map_err(|faults| Error::File(faults.into_iter().collect()))?;
        let recorded = self.store.targets().await?;
        let mut faults = self.complete(&mut desired, code, &recorded);
        for spec in &desired.profiles {
            if let Some(name) = plan::names_unknown_target(spec, &desired, &recorded) {
                let names: Vec<&str> = recorded
                    .iter()
                    .map(|target| target.spec.name.as_str())
                    .chain(desired.targets.iter().map(|target| target.spec.name.as_str()))
                    .collect();
                let near = crate::document::nearest(name.as_str(), names);
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let message = format!(
                    "profile `{}` names target `{name}`, which is neither in the file nor recorded{hint}",
                    spec.name
                );
                let path = format!("profile.{}.target", spec.name);
                faults.push(desired.fault_at(&code.name, &path, message));
            }
        }
        for issuer in &desired.issuers {
            let fault = issuer.token_review.as_ref().and_then(|review| self.review_fault(review));
            let path = format!("issuer.{}.token_review", issuer.name);
            faults.extend(fault.map(|message| desired.fault_at(&code.name, &path, message)));
        }
        let profiles = self.store.profiles().await?;
        for spec in &desired.standing_roles {
            let there = desired.profiles.iter().any(|profile| profile.name == spec.profile)
                || profiles.iter().any(|profile| profile.spec.name == spec.profile);
            if !there {
                let message = format!(
                    "standing role `{}` names profile `{}`, which is neither in the file nor recorded",
                    spec.name, spec.profile
                );
                let path = format!("standing-role.{}.profile", spec.name);
                faults.push(desired.fault_at(&code.name, &path, message));
            }
        }
        if faults.is_empty() { Ok(desired) } else { Err(Error::File(faults)) }
    }

    /// Puts into the targets of a file what was sent along with it, and what they leave as it is recorded.
    fn complete(
        &self,
        desired: &mut Desired,
        code: &Code,
        recorded: &[Target],
    ) -> Vec<document::Fault> {
        let mut faults = Vec::new();
        for target in &mut desired.targets {
            let (spec, sent) = (&mut target.spec, &target.sent);
            let name = spec.name.clone();
            let mut fault = |key: &str, message: String| {
                let path = format!("target.{name}.{key}");
                let message = format!("`{path}`: {message}");
                faults.push(document::Fault::without_position(&code.name, &path, message));
            };
            for (certificate, named, key) in [
                (&mut spec.sslcert_pem, &sent.ssl_cert, "sslcert"),
                (&mut spec.sslrootcert_pem, &sent.ssl_root_cert, "sslrootcert"),
            ] {
                let Some(named) = named else { continue };
                match code.secrets.get(named) {
                    Some(text) => *certificate = Some(text.expose().clone()),
                    None => fault(key, format!("the certificate `{named}` was not sent along")),
                }
            }
            keep_source(spec, sent.password.is_some(), find_target(recorded, &spec.name));
            for (key, message) in target::faults(spec).into_iter().chain(self.source_fault(spec)) {
                fault(key, message);
            }
        }
        faults
    }

    /// Makes the profiles, those of a database together; what could not be made is told in their lines.
    async fn make_on_targets(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        (specs, looked): (&[ProfileSpec], Vec<Looked>),
        lines: &mut [PlannedLine],
    ) -> Result<(), Error> {
        let recorded = self.store.profiles().await?;
        let find = |place: usize| {
            let spec = specs.get(place)?;
            recorded.iter().find(|profile| profile.spec.name == spec.name)
        };
        let mut looked: Vec<_> = looked.into_iter().map(Some).collect();
        let mut lines: Vec<_> = lines.iter_mut().filter(|line| line.what == "profile").collect();
        for together in by_database(specs) {
            let profiles: Vec<&Profile> = together.places.iter().filter_map(|p| find(*p)).collect();
            let mut seen =
                together.places.iter().map(|p| looked.get_mut(*p).and_then(Option::take));
            let seen: Option<Vec<Prepared>> = seen.by_ref().map(|seen| seen?.ok()).collect();
            let as_it_is = seen.filter(|seen| {
                seen.iter().all(|planned| planned.statements.is_empty())
                    && profiles.iter().all(|profile| profile.is_prepared())
            });
            let made = match as_it_is {
                Some(seen) => Ok(seen),
                None => self.prepare_together(origin, Some(admin), &profiles).await,
            };
            let (mut made, unmade) = match made {
                Ok(made) => (made.into_iter(), None),
                Err(unmade) => (Vec::new().into_iter(), Some(unmade)),
            };
            for place in &together.places {
                let Some(line) = lines.get_mut(*place) else { continue };
                if let Some(prepared) = made.next() {
                    line.statements = prepared.statements;
                    line.notes.extend(prepared.notes);
                    line.notes.extend(self.check_after_apply(admin, origin, &line.name).await);
                }
                line.notes.extend(unmade.as_ref().map(|unmade| unmade.note(&line.name, &together)));
            }
        }
        Ok(())
    }
}

pub(in crate::app) fn find_target<'a>(targets: &'a [Target], name: &Name) -> Option<&'a Target> {
    targets.iter().find(|target| target.spec.name == *name)
}

/// What the file names for a target that is new or to be reached in another way: its password, and the key
/// of its certificate.
pub(in crate::app) fn given_for<'a>(
    target: &DesiredTarget,
    recorded: Option<&Target>,
    code: &'a Code,
) -> Result<Given<'a>, Error> {
    let password = password_of(target, recorded, code)?;
    let change = plan::target_change(&target.spec, recorded);
    let is_kept = recorded.is_some() && !plan::needs_ssl_key(&change.changed);
    if target.spec.sslcert_pem.is_none() || is_kept {
        return Ok(Given { password, ssl_key: None });
    }
    let name = &target.spec.name;
    let missing = |message| Error::invalid("sslkey", message);
    let source = target.sent.ssl_key.as_ref().ok_or_else(|| {
        missing(format!(
            "target `{name}` is shown a certificate that is new: say where its key is, `sslkey = {{ file = \"…\" }}`"
        ))
    })?;
    let key = code.secrets.get(source);
    let ssl_key = key.map(Some).ok_or_else(|| {
        missing(format!("target `{name}`: the key `{source}` was not sent along"))
    })?;
    Ok(Given { password, ssl_key })
}

/// The password that the file names, for a target that is new or to be reached in another way. One that
/// is recorded as it was keeps its password: the file goes on naming the one that was typed, which may
/// be long gone.
fn password_of<'a>(
    target: &DesiredTarget,
    recorded: Option<&Target>,
    code: &'a Code,
) -> Result<Option<&'a Secret<String>>, Error> {
    let change = plan::target_change(&target.spec, recorded);
    let is_kept = recorded.is_some() && !plan::needs_password(&change.changed);
    if is_kept || target.spec.admin_source.is_some() {
        return Ok(None);
    }
    let name = &target.spec.name;
    let missing = |message| Error::invalid("admin.password", message);
    let Some(source) = &target.sent.password else {
        return Err(missing(format!(
            "target `{name}` is new, or to be reached in another way: say where its admin's password is, `password = {{ file = \"…\" }}`"
        )));
    };
    let password = code.secrets.get(source);
    password.map(Some).ok_or_else(|| {
        missing(format!("target `{name}`: the password `{source}` was not sent along"))
    })
}

pub(in crate::app) fn line(what: &'static str, name: &str, change: Change) -> PlannedLine {
    PlannedLine {
        what,
        name: name.to_owned(),
        action: change.action,
        changed: change.changed,
        statements: Vec::new(),
        notes: Vec::new(),
    }
}

fn target_line(desired: &DesiredTarget, recorded: Option<&Target>) -> PlannedLine {
    let change = plan::target_change(&desired.spec, recorded);
    let mut notes = Vec::new();
    if let Some(source) = &desired.spec.admin_source {
        notes.push(format!(
            "the password of `{}` is asked from {source} by the daemon",
            desired.spec.admin_user
        ));
    }
    let is_new = recorded.is_none() || plan::needs_password(&change.changed);
    if is_new && desired.spec.rotate_admin != Schedule::Never {
        notes.push(format!(
            "the password of `{}` is renewed at once, and the one that was typed is over; `rotate_admin = \"never\"` keeps it",
            desired.spec.admin_user
        ));
    }
    PlannedLine { notes, ..line("target", desired.spec.name.as_str(), change) }
}

fn standing_role_line(desired: &StandingRoleSpec, recorded: &[StandingRole]) -> PlannedLine {
    let recorded = recorded.iter().find(|role| role.spec.name == desired.name);
    let change = plan::standing_role_change(desired, recorded);
    let mut notes = Vec::new();
    if desired.allow.is_empty() {
        notes.push("nobody may read its credential: access.allow is empty".to_owned());
    }
    PlannedLine { notes, ..line("standing-role", desired.name.as_str(), change) }
}

fn profile_line(desired: &ProfileSpec, recorded: Option<&Profile>) -> PlannedLine {
    let change = plan::profile_change(desired, recorded);
    let mut notes = Vec::new();
    if desired.allow.is_empty() {
        notes.push("nobody may ask for it: access.allow is empty".to_owned());
    }
    PlannedLine { notes, ..line("profile", desired.name.as_str(), change) }
}
