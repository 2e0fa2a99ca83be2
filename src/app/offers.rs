//! What was last read of each profile that leases are asked for, with its target. It serves to say
//! yes at once: the record takes no intent that was decided on anything but what holds now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::domain::{name::Name, profile::Profile, target::Target};

/// A profile that is prepared on its target.
pub(in crate::app) struct Offer {
    pub(in crate::app) profile: Profile,
    pub(in crate::app) target: Target,
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
