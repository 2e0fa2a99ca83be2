//! Lines for a target's `pg_hba.conf` that let leased logins in, for review by a person.

use ipnet::IpNet;

use crate::{
    app::{App, error::Error},
    domain::{
        name::Name,
        pg_hba::review::{Entrance, Review},
        target::Target,
    },
    identity::Admin,
};

impl App {
    /// Writes them: for what the profiles on the target hand out, from these networks. A target that cannot
    /// be reached has them all the same.
    ///
    /// # Errors
    /// If there is none of that name, or our database does not answer.
    pub async fn pg_hba(
        &self,
        admin: &Admin<'_>,
        name: &Name,
        networks: &[IpNet],
    ) -> Result<String, Error> {
        let (target, handle) = {
            let recorded = self.target(admin, name).await?;
            self.handle(recorded.id).await?
        };
        let entrances = self.entrances_of(admin, &target).await?;
        let read = handle.pg_hba().await;
        let lines = match &read {
            Ok(Some(lines)) => Ok(lines.as_slice()),
            Ok(None) => {
                Err(format!("only a superuser may, and `{}` is none", target.spec.admin_user))
            }
            Err(_) => Err("the target could not be asked".to_owned()),
        };
        let (target, now) = (&target.spec, self.clock.now());
        Ok(Review { target, entrances: &entrances, networks, lines, now }.text())
    }

    /// The group roles of the target's profiles, each with the databases that it is for.
    async fn entrances_of(
        &self,
        admin: &Admin<'_>,
        target: &Target,
    ) -> Result<Vec<Entrance>, Error> {
        let mut entrances: Vec<Entrance> = Vec::new();
        for profile in self.profiles(admin).await?.into_iter().filter(|p| p.target_id == target.id)
        {
            let (group, database) = (profile.spec.group_role(), profile.spec.database.clone());
            match entrances.iter_mut().find(|known| known.group == group) {
                Some(known) => known.databases.push(database),
                None => entrances.push(Entrance { group, databases: vec![database] }),
            }
        }
        for entrance in &mut entrances {
            entrance.databases.sort();
            entrance.databases.dedup();
        }
        entrances.sort();
        Ok(entrances)
    }
}
