//! Decide about what others reach, answer for it, give back what was taken away.
//!
//! What is decided is recorded while the review is locked, and takes effect in the same transaction: the profile's bounds,
//! the leases that end with them, the audit.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::{
    app::{
        App, Author, Origin,
        error::Error,
        reviews::{ItemFilter, no_review, open},
    },
    domain::{
        access,
        audit::{Event, ReviewEvent},
        duration::Seconds,
        name::Name,
        principal::Principal,
        profile::Profile,
        request::Via,
        review::{
            ANYONE, Bound, Item, NotTheirs, Review, ReviewVerdict, bound_of, is_kept_from,
            is_tighter, may_answer, may_decide, may_restore,
        },
        standing::StandingRole,
    },
    identity::{Admin, Caller},
    ids::{PrincipalId, ProfileId, ReviewId, ReviewItemId},
    store::{Tx, review_items::Ruling},
};

/// Which items somebody decides.
#[derive(Debug, Clone)]
pub enum Which {
    /// These, all of which must be theirs to decide.
    Items(Vec<ReviewItemId>),
    /// Those that wait and are theirs to decide, of those that are meant.
    Those(ItemFilter),
}

/// What somebody says of them.
#[derive(Debug, Clone)]
pub struct Said {
    /// What becomes of them.
    pub verdict: ReviewVerdict,
    /// How long a lease lasts at most, if they are narrowed.
    pub max_ttl: Option<Seconds>,
    /// Why.
    pub reason: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Decided {
    /// How many were decided.
    pub decided: usize,
    /// How many of those that were meant are not theirs to decide.
    pub left_out: usize,
    /// How many more wait still, because they cannot be decided so: they are that narrow already, or their profile was
    /// replaced.
    pub unfit: usize,
    /// The review as it is now.
    pub review: Review,
}

/// A reason is a few sentences.
const LONGEST_REASON: usize = 1000;

/// Who decided what of which review.
pub(in crate::app::reviews) struct Applied<'a> {
    pub(in crate::app::reviews) review: ReviewId,
    pub(in crate::app::reviews) items: &'a [Item],
    pub(in crate::app::reviews) said: &'a Said,
    /// By which way; pgvalet itself, if none.
    pub(in crate::app::reviews) by: Option<(PrincipalId, Option<Via>)>,
}

/// Who there is, and which standing roles.
struct Everybody {
    principals: BTreeMap<PrincipalId, Principal>,
    standing: Vec<StandingRole>,
}

impl App {
    /// Decides items of a review.
    ///
    /// # Errors
    /// If the caller may not, or an item that is named was decided already.
    pub async fn decide_review(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: ReviewId,
        which: Which,
        said: Said,
    ) -> Result<Decided, Error> {
        const WHAT: &str = "deciding in an access review";
        self.reviewer(caller, origin, WHAT).await?;
        let said = checked(said)?;
        let by = caller.as_decider();
        if let Err(why) = may_answer(by) {
            return Err(self.refuse_review(caller, origin, (WHAT, why)).await?);
        }
        let mut tx = self.store.begin().await?;
        // Whoever is shut out meanwhile decides nothing any more.
        if !tx.hold_let_in(caller.principal().id).await? {
            return Err(Error::TokenRefused);
        }
        let review = tx.lock_review(id).await?.ok_or_else(|| no_review(id))?;
        if let Err(why) = open(&review) {
            return Err(Error::NotTheirsToReview(why));
        }
        let (filter, named) = match which {
            Which::Items(ids) => {
                (ItemFilter { ids: Some(ids.clone()), ..ItemFilter::default() }, ids)
            }
            Which::Those(filter) => (ItemFilter { undecided: true, ..filter }, Vec::new()),
        };
        let found = tx.review_items(id, &filter).await?;
        let missing = named.iter().find(|id| found.iter().all(|item| item.id != **id));
        if let Some(missing) = missing {
            return Err(Error::not_found("review item", missing.to_string()));
        }
        // Of those that are named each must be theirs, and fit to be decided so; of the others those that are.
        let must = !named.is_empty();
        let (theirs, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|item| must || may_decide(item, by).is_ok());
        if let Some(why) = theirs.iter().find_map(|item| may_decide(item, by).err()) {
            drop(tx);
            return Err(self.refuse_review(caller, origin, (WHAT, why)).await?);
        }
        let mut held = hold(&mut tx, &theirs, said.verdict).await?;
        let (items, unfit): (Vec<_>, Vec<_>) =
            theirs.into_iter().partition(|item| must || held.refusal(item, &said).is_none());
        if let Some(refusal) = items.iter().find_map(|item| held.refusal(item, &said)) {
            return Err(refusal);
        }
        let author = Author::Caller(origin, caller);
        let by = Some((caller.principal().id, caller.via()));
        let applied = Applied { review: id, items: &items, said: &said, by };
        self.apply_decisions(&mut tx, author, applied, &mut held).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.rotations.notify_one();
        self.nudges.audit.notify_one();
        let review = self.access_review(caller, origin, id).await?;
        let (left_out, unfit) = (others.len(), unfit.len());
        Ok(Decided { decided: items.len(), left_out, unfit, review })
    }

    /// Records what becomes of items, and takes away what is to be.
    pub(in crate::app::reviews) async fn apply_decisions(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        Applied { review, items, said, by }: Applied<'_>,
        held: &mut Held,
    ) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        if said.verdict != ReviewVerdict::Keep {
            let every = tx.every_principal().await?;
            let everybody = Everybody {
                principals: every.into_iter().map(|principal| (principal.id, principal)).collect(),
                standing: tx.standing_roles().await?,
            };
            for profile in held.profiles.values_mut() {
                let of = items.iter().filter(|item| item.profile_id == Some(profile.id));
                let bound = |item: &Item| Bound {
                    principal_id: item.principal_id,
                    principal: item.principal.clone(),
                    max_ttl: said.max_ttl,
                    item: item.id,
                    at: now,
                };
                let bounds: Vec<_> = of.map(bound).collect();
                if !bounds.is_empty() {
                    self.take_away(tx, author, profile, (bounds, &everybody)).await?;
                }
            }
            // Leases first, then passwords, as where somebody leaves: who comes from the other side waits, and does not stand still.
            for profile in held.profiles.values() {
                keep_from_passwords(tx, profile, &everybody, now).await?;
            }
            self.replace_kept(tx, author).await?;
        }
        let ids: Vec<_> = items.iter().map(|item| item.id).collect();
        let Said { verdict, max_ttl, reason } = said;
        let ruling = Ruling { verdict: *verdict, max_ttl: *max_ttl, reason, by, at: now };
        tx.decide_items(&ids, &ruling).await?;
        let event = |item: &Item| ReviewEvent::Decided {
            review_id: review,
            item_id: item.id,
            principal_id: item.principal_id,
            principal: item.principal.clone(),
            profile: item.profile.clone(),
            rule: item.rule.clone(),
            verdict: *verdict,
            max_ttl: *max_ttl,
            reason: reason.clone(),
            via: by.and_then(|(_, via)| via),
        };
        let entry = |item| author.entry(now, Event::Review(event(item)));
        let entries: Vec<_> = items.iter().map(entry).collect();
        Ok(tx.audit_all(&entries).await?)
    }

    /// Adds bounds to a profile; what lives beyond them ends, or is not renewed beyond them.
    async fn take_away(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        profile: &mut Profile,
        (bounds, everybody): (Vec<Bound>, &Everybody),
    ) -> Result<(), Error> {
        for bound in bounds {
            profile.bounds.retain(|before| before.principal_id != bound.principal_id);
            profile.bounds.push(bound);
        }
        tx.bound_profile(profile.id, profile.version, &profile.bounds).await?;
        let mut ending = Vec::new();
        for (lease, whose) in tx.live_leases_under(profile.id).await? {
            let whose = everybody.principals.get(&whose);
            match whose.and_then(|whose| bound_of(profile, whose)).map(|bound| bound.max_ttl) {
                Some(None) => ending.push(lease),
                Some(Some(longest)) => tx.cap_lease(lease, longest).await?,
                None => {}
            }
        }
        self.end_leases(tx, author, &ending).await
    }

    /// Answers for a review, in which everything is decided: it is over. Nobody decided what is theirs, so that whoever
    /// is in it may do so too.
    ///
    /// # Errors
    /// If items wait, or the caller may not.
    pub async fn sign_review_off(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: ReviewId,
        comment: Option<String>,
    ) -> Result<Review, Error> {
        const WHAT: &str = "signing an access review off";
        self.reviewer(caller, origin, WHAT).await?;
        let comment = comment.map(|text| checked_text("comment", &text)).transpose()?;
        if let Err(why) = may_answer(caller.as_decider()) {
            return Err(self.refuse_review(caller, origin, (WHAT, why)).await?);
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        // Whoever is shut out meanwhile decides nothing any more.
        if !tx.hold_let_in(caller.principal().id).await? {
            return Err(Error::TokenRefused);
        }
        let review = tx.lock_review(id).await?.ok_or_else(|| no_review(id))?;
        open(&review).map_err(Error::NotTheirsToReview)?;
        if review.counts.undecided > 0 {
            return Err(Error::NotTheirsToReview(NotTheirs::Undecided));
        }
        tx.sign_review_off(id, caller.principal().id, now).await?;
        tx.ask_no_more(id).await?;
        let (counts, via) = (review.counts, caller.via());
        let event = ReviewEvent::SignedOff { review_id: id, counts, comment, via };
        tx.audit(&origin.entry(caller, now, Event::Review(event))).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.access_review(caller, origin, id).await
    }

    /// Gives back what a review took away: of a principal, or of `anyone`.
    ///
    /// # Errors
    /// If nothing was, or it was the caller's own.
    pub async fn restore_reviewed(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        (profile, principal): (&Name, &str),
        reason: &str,
    ) -> Result<Profile, Error> {
        const WHAT: &str = "giving back what an access review took away";
        let reason = checked_text("reason", reason)?;
        let found = match principal {
            ANYONE => None,
            name => {
                let name = name.parse().map_err(|e| Error::invalid("principal", format!("{e}")))?;
                let found = self.store.principal_named(&name).await?;
                let (found, _) =
                    found.ok_or_else(|| Error::not_found("principal", principal.to_owned()))?;
                Some(found)
            }
        };
        let whose = found.as_ref().map(|found| found.id);
        let mut tx = self.store.begin().await?;
        if !tx.hold_let_in(admin.principal().id).await? {
            return Err(Error::TokenRefused);
        }
        let locked = tx.lock_profile(profile).await?;
        let mut locked = locked.ok_or_else(|| Error::not_found("profile", profile.to_string()))?;
        let mut standing = tx.standing_roles().await?;
        standing.retain(|role| role.spec.profile == *profile);
        let makers = match whose {
            Some(whose) => tx.token_makers_of(whose).await?,
            None => Vec::new(),
        };
        let of = found.as_ref().map(|found| (found, makers.as_slice()));
        if let Err(why) = may_restore((&locked, &standing), of, admin.as_decider()) {
            drop(tx);
            return Err(self.refuse_review(admin, origin, (WHAT, why)).await?);
        }
        let Some(at) = locked.bounds.iter().position(|bound| bound.principal_id == whose) else {
            let what = format!("{principal} under profile {profile}");
            return Err(Error::not_found("restriction by an access review", what));
        };
        let bound = locked.bounds.remove(at);
        tx.bound_profile(locked.id, locked.version, &locked.bounds).await?;
        let event = ReviewEvent::Restored {
            principal_id: whose,
            principal: principal.to_owned(),
            profile: profile.to_string(),
            item_id: bound.item,
            reason,
        };
        tx.audit(&origin.entry(admin, self.clock.now(), Event::Review(event))).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.profile(admin, profile).await
    }
}

/// The profiles of items that are decided, locked.
pub(in crate::app::reviews) struct Held {
    profiles: BTreeMap<ProfileId, Profile>,
    /// Names that profiles have which were not looked at: those of items were removed, and these recorded since.
    replaced: BTreeSet<String>,
}

/// Locks the profiles of these items, if something is taken away.
pub(in crate::app::reviews) async fn hold(
    tx: &mut Tx,
    items: &[Item],
    verdict: ReviewVerdict,
) -> Result<Held, Error> {
    let mut held = Held { profiles: BTreeMap::new(), replaced: BTreeSet::new() };
    if verdict == ReviewVerdict::Keep {
        return Ok(held);
    }
    let ids: BTreeSet<_> = items.iter().filter_map(|item| item.profile_id).collect();
    held.profiles = tx.lock_profiles(&ids.into_iter().collect::<Vec<_>>()).await?;
    let gone: BTreeSet<_> =
        items.iter().filter(|item| held.of(item).is_none()).map(|item| &item.profile).collect();
    if !gone.is_empty() {
        let present = tx.profiles().await?.into_iter().map(|profile| profile.spec.name.to_string());
        held.replaced = present.filter(|name| gone.contains(name)).collect();
    }
    Ok(held)
}

impl Held {
    fn of(&self, item: &Item) -> Option<&Profile> {
        item.profile_id.and_then(|id| self.profiles.get(&id))
    }

    /// Why an item cannot be decided so, if it cannot: it is narrow enough already, or another profile has the name.
    pub(in crate::app::reviews) fn refusal(&self, item: &Item, said: &Said) -> Option<Error> {
        if said.verdict == ReviewVerdict::Keep {
            return None;
        }
        let Some(profile) = self.of(item) else {
            let is_replaced = self.replaced.contains(&item.profile);
            return is_replaced.then_some(Error::NotTheirsToReview(NotTheirs::ProfileReplaced));
        };
        let longest = is_tighter(profile, item.principal_id, said.max_ttl).err()?;
        let (whose, name) = (&item.principal, &profile.spec.name);
        let message = match longest {
            Some(longest) => {
                format!("is not shorter than what {whose} may have under {name}: {longest}")
            }
            None => format!(
                "gives {whose} something back that a review removed under {name}: `pgvalet review restore` does"
            ),
        };
        Some(Error::invalid("max_ttl", message))
    }
}

/// Whoever a review keeps from standing roles under a profile is kept from the passwords of theirs that they know.
async fn keep_from_passwords(
    tx: &mut Tx,
    profile: &Profile,
    everybody: &Everybody,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let under = everybody.standing.iter().filter(|role| role.spec.profile == profile.spec.name);
    for role in under {
        let is_kept = |whose: &&Principal| is_kept_from(&role.spec, profile, whose);
        let kept: Vec<_> =
            everybody.principals.values().filter(is_kept).map(|whose| whose.id).collect();
        tx.keep_from_passwords(&kept, Some(&role.spec.name), now).await?;
    }
    Ok(())
}

fn checked(said: Said) -> Result<Said, Error> {
    let reason = checked_text("reason", &said.reason)?;
    match (said.verdict, said.max_ttl) {
        (ReviewVerdict::Narrow, None) => {
            Err(Error::invalid("max_ttl", "is needed to narrow: the longest that a lease may last"))
        }
        (ReviewVerdict::Keep | ReviewVerdict::Remove, Some(_)) => {
            Err(Error::invalid("max_ttl", "goes with the verdict `narrow` alone"))
        }
        _ => Ok(Said { reason, ..said }),
    }
}

fn checked_text(field: &'static str, text: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::invalid(field, "say why: it is read when the next review comes"));
    }
    match access::text_fault(text, LONGEST_REASON) {
        Some(message) => Err(Error::invalid(field, message)),
        None => Ok(text.to_owned()),
    }
}
