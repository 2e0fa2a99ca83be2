//! Say who may do what with a table or a column, and through what.

use crate::{
    app::{App, error::Error},
    document,
    domain::{
        administration::Right,
        explanation::{self, Explanation, ObjectName},
        name::Name,
        profile::Profile,
    },
    identity::Caller,
    target::explain::Found,
};

impl App {
    /// Explains an object of a profile's database. Who may see the profile may ask; who else has rights on
    /// the object is told under the profiles that the caller may see, and in full to an administrator.
    ///
    /// # Errors
    /// If there is no such profile for the caller, or no such object; if the target does not answer.
    pub async fn explain(
        &self,
        caller: &Caller,
        name: &Name,
        object: &ObjectName,
    ) -> Result<Explanation, Error> {
        let profile = self.profile(caller, name).await?;
        let (target, handle) = self.handle(profile.target_id).await?;
        let spec = &profile.spec;
        let group_role = spec.group_role();
        let found = handle.explain(&spec.database, &group_role, object).await;
        let found = found.map_err(|e| Error::target(target.spec.name.as_str(), None, e))?;
        let seen = match found {
            Found::Something(explained) => *explained,
            Found::Nothing { what, name, known } => {
                let near = document::nearest(&name, known.iter().map(String::as_str));
                return Err(Error::NotFound { what, near: near.map(str::to_owned), name });
            }
        };
        let mut explanation = Explanation {
            profile: spec.name.clone(),
            target: target.spec.name.clone(),
            database: spec.database.clone(),
            group_role,
            object: object.to_string(),
            seen,
            notes: Vec::new(),
        };
        self.name_profiles(caller, &profile, &mut explanation).await?;
        explanation.notes = explanation::notes(&explanation);
        Ok(explanation)
    }

    /// Whose group roles the other roles are.
    async fn name_profiles(
        &self,
        caller: &Caller,
        asked: &Profile,
        explanation: &mut Explanation,
    ) -> Result<(), Error> {
        let mut beside = self.profiles(caller).await?;
        beside.retain(|profile| {
            profile.target_id == asked.target_id && profile.spec.database == asked.spec.database
        });
        for other in &mut explanation.seen.others {
            let own = beside.iter().filter(|profile| profile.spec.group_role() == other.role);
            other.profiles = own.map(|profile| profile.spec.name.clone()).collect();
        }
        if !caller.may(Right::Read) {
            explanation.seen.others.retain(|other| !other.profiles.is_empty());
        }
        Ok(())
    }
}
