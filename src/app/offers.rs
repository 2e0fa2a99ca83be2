//! What was last read of each profile that leases are asked for, with its target. It serves to say
//! yes at once: the record takes no intent that was decided on anything but what holds now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    app::{App, Origin, error::Error},
    domain::{name::Name, profile::Profile, target::Target},
    identity::Caller,
};

/// A profile that is prepared on its target.
pub(in crate::app) struct Offer {
    pub(in crate::app) profile: Profile,
    pub(in crate::app) target: Target,
}

impl App {
    /// A profile with its target, prepared there.
    pub(in crate::app) async fn offer(
        &self,
        origin: &Origin,
        caller: &Caller,
        mut profile: Profile,
    ) -> Result<Offer, Error> {
        let (target, handle) = self.handle(profile.target_id).await?;
        self.prepare_if_needed(origin, Some(caller), &mut profile, &handle).await?;
        Ok(Offer { profile, target })
    }
}

/// The offers, by the profile's name.
#[derive(Default)]
pub(in crate::app) struct Offers(Mutex<HashMap<Name, Arc<Offer>>>);

impl Offers {
    pub(in crate::app) fn of(&self, name: &Name) -> Option<Arc<Offer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    pub(in crate::app) fn keep(&self, offer: Offer) {
        let mut offers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offers.insert(offer.profile.spec.name.clone(), Arc::new(offer));
    }

    pub(in crate::app) fn forget(&self, name: &Name) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
