//! What bounds leases: what the profile, its target and the daemon's own settings say.

use crate::{
    app::{App, error::Error, offers::Offer},
    domain::{conditions::Limits, policy::Reached},
    ids::PrincipalId,
    store::limits::{Count, Counted},
};

impl App {
    /// The limits of a lease under this profile.
    pub(in crate::app) fn limits(&self, offer: &Offer) -> Limits {
        let conditions = &offer.profile.spec.conditions;
        Limits {
            profile: conditions.max_live,
            each: conditions.max_live_each,
            rate: conditions.rate,
            target: offer.target.spec.max_live,
            caller: self.max_live_per_caller,
        }
    }

    /// How many there are of what they count, for this caller.
    pub(in crate::app) async fn counts(
        &self,
        principal: PrincipalId,
        offer: &Offer,
    ) -> Result<Vec<Count>, Error> {
        let limits = self.limits(offer);
        if limits.are_none() {
            return Ok(Vec::new());
        }
        let of = Counted { profile: offer.profile.id, target: offer.target.id, principal };
        Ok(self.store.count_for_limits(&limits, of, self.clock.now()).await?)
    }

    /// The limit that is in the way of one more lease.
    pub(in crate::app) async fn limit_reached(
        &self,
        principal: PrincipalId,
        offer: &Offer,
    ) -> Result<Option<Reached>, Error> {
        let now = self.clock.now();
        let counts = self.counts(principal, offer).await?;
        Ok(counts.iter().find_map(|count| count.reached(now)))
    }
}
