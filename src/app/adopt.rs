//! Adopt: a first file of profiles from a database that has grants already.

use crate::{
    app::{App, error::Error},
    domain::{
        name::Name,
        profile_file::{self, Written},
        rights::adopt,
    },
    identity::Admin,
};

impl App {
    /// Writes a file with a profile for each of these roles of a target's database, or for all roles that
    /// hold something there and cannot sign in. Nothing is changed, here or there.
    ///
    /// # Errors
    /// If there is no such target, or it does not answer.
    pub async fn adopt(
        &self,
        admin: &Admin<'_>,
        target: &Name,
        database: &str,
        roles: &[String],
    ) -> Result<String, Error> {
        let found = self.target(admin, target).await?;
        let (_, handle) = self.handle(found.id).await?;
        let holding = handle.read_grants(database, roles).await;
        let holding = holding.map_err(|e| Error::target(target.as_str(), None, e))?;
        let recorded = self.store.profiles().await?;
        let taken: Vec<_> = recorded.into_iter().map(|profile| profile.spec.name).collect();
        let profiles = adopt::profiles(target, database, &holding, &taken);
        Ok(profile_file::write(&Written { profiles: &profiles, ..Written::default() }))
    }
}
