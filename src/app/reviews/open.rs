//! Reviews are opened: by hand, by schedule, and of one whose groups changed or who is let in again. That is noted where it
//! happens, and opened by a loop, so that no sign-in fails for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    app::{App, Author, Origin, error::Error, reviews::length},
    domain::{
        audit::{Event, ReviewEvent},
        principal::{Principal, PrincipalName},
        profile::Profile,
        review::{
            COUNTED, Facts, Reach, Review, ReviewCause, moved, open_to_anyone, reaches, users,
        },
        standing::StandingRole,
    },
    identity::Caller,
    ids::{PrincipalId, ReviewId, ReviewItemId},
    store::{
        Tx,
        review_items::{ItemFilter, NewItem, Usage},
        reviews::{NewReview, WantedReview},
    },
};

/// What a review looks at.
struct Picture {
    profiles: Vec<Profile>,
    standing: Vec<StandingRole>,
    principals: Vec<Principal>,
}

impl App {
    /// Opens a review: of everybody, or of one principal.
    ///
    /// # Errors
    /// If the caller is no reviewer, there is no such principal, or one of the same is open.
    pub async fn open_review(
        &self,
        caller: &Caller,
        origin: &Origin,
        of: Option<&PrincipalName>,
    ) -> Result<Review, Error> {
        self.reviewer(caller, origin, "opening an access review").await?;
        let of = match of {
            Some(name) => {
                let found = self.store.principal_named(name).await?;
                let (principal, _) =
                    found.ok_or_else(|| Error::not_found("principal", name.to_string()))?;
                Some(principal)
            }
            None => None,
        };
        let mut tx = self.store.begin().await?;
        let why = (ReviewCause::Asked, of.as_ref());
        let Some(id) = self.begin_review(&mut tx, Author::Caller(origin, caller), why).await?
        else {
            let what = of.map_or_else(|| "everybody".to_owned(), |of| of.to_string());
            let detail = format!(
                "a review of {what} is open already (`pgvalet review list` names it): sign that off first"
            );
            return Err(Error::Conflict { code: "review_open", detail });
        };
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.access_review(caller, origin, id).await
    }

    /// Records a review within a transaction; none if one of the same is open.
    pub(in crate::app::reviews) async fn begin_review(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        (cause, of): (ReviewCause, Option<&Principal>),
    ) -> Result<Option<ReviewId>, Error> {
        let now = self.clock.now();
        let new = NewReview {
            id: ReviewId::new(),
            cause,
            principal_id: of.map(|of| of.id),
            opened_at: now,
            due_at: now + length(self.reviews.due_after),
        };
        if !tx.open_review(&new).await? {
            return Ok(None);
        }
        let picture = picture(tx, of).await?;
        let mut found = reaches(&picture.profiles, &picture.standing, &picture.principals);
        if of.is_none() {
            found.extend(open_to_anyone(&picture.profiles, &picture.standing));
        }
        self.record_items(tx, new.id, (&found, &picture.principals)).await?;
        let event = ReviewEvent::Opened {
            review_id: new.id,
            cause,
            principal: of.map(ToString::to_string),
            items: found.len(),
            due_at: new.due_at,
        };
        tx.audit(&author.entry(now, Event::Review(event))).await?;
        Ok(Some(new.id))
    }

    /// Records items, each with how it was used.
    async fn record_items(
        &self,
        tx: &mut Tx,
        review: ReviewId,
        (found, principals): (&[Reach<'_>], &[Principal]),
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let pairs: BTreeSet<_> = found
            .iter()
            .flat_map(|reach| {
                users(reach, principals).into_iter().map(|who| (reach.profile.id, who.id))
            })
            .collect();
        let mut usage = tx.usage(now - COUNTED, &pairs).await?;
        // To read the password of a standing role is to use what it gives.
        for (pair, read_at) in tx.readings().await? {
            let facts = usage.entry(pair).or_default();
            facts.last_used = facts.last_used.max(Some(read_at));
        }
        let items: Vec<_> = found.iter().map(|reach| new_item(reach, principals, &usage)).collect();
        tx.add_review_items(review, &items).await?;
        let profiles: BTreeMap<_, _> = found
            .iter()
            .map(|reach| (reach.profile.id, reach.profile.spec.name.as_str()))
            .collect();
        Ok(tx.add_review_profiles(review, &profiles, now).await?)
    }

    /// Notes that what somebody reaches is to be looked at, if their groups changed.
    pub(in crate::app) async fn review_moved(
        &self,
        tx: &mut Tx,
        before: &Principal,
        now: &Principal,
    ) -> Result<(), Error> {
        if before.groups == now.groups {
            return Ok(());
        }
        let why = (ReviewCause::Groups, before.groups.as_slice());
        Ok(tx.want_review(now.id, why, self.clock.now()).await?)
    }

    /// Opens what was noted, one after the other; one that fails keeps the others from nothing. What somebody reaches whose
    /// review is open is looked at in that one.
    pub(in crate::app::reviews) async fn open_wanted_reviews(&self) -> Result<(), Error> {
        let mut done = Ok(());
        for of in self.store.wanted_reviews().await? {
            done = done.and(self.open_wanted_review(of).await);
        }
        done
    }

    async fn open_wanted_review(&self, of: PrincipalId) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        // In the order in which it is noted: whoever changes somebody's groups holds them first.
        let locked = tx.lock_principal(of).await?;
        let wanted = tx.take_wanted_review(of).await?;
        if let (Some((now, false)), Some(wanted)) = (locked, wanted) {
            self.open_wanted(&mut tx, now, wanted).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    async fn open_wanted(
        &self,
        tx: &mut Tx,
        now: Principal,
        wanted: WantedReview,
    ) -> Result<(), Error> {
        let picture = picture(tx, Some(&now)).await?;
        let before = Principal { groups: wanted.groups, ..now.clone() };
        let all = (picture.profiles.as_slice(), picture.standing.as_slice());
        if wanted.cause == ReviewCause::Groups && !moved(all, &before, &now) {
            return Ok(());
        }
        let found = reaches(&picture.profiles, &picture.standing, &picture.principals);
        if found.is_empty() {
            return Ok(());
        }
        let Some(open) = tx.lock_review_of(now.id).await? else {
            self.begin_review(tx, Author::Pgvalet, (wanted.cause, Some(&now))).await?;
            return Ok(());
        };
        let there = tx.review_items(open.id, &ItemFilter::default()).await?;
        let is_new = |reach: &Reach<'_>| {
            !there
                .iter()
                .any(|item| item.profile_id == Some(reach.profile.id) && item.rule == reach.rule)
        };
        let new: Vec<_> = found.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.record_items(tx, open.id, (&new, &picture.principals)).await?;
        // What is new is announced too before anything becomes of it, and has its time.
        tx.extend_review(open.id, self.clock.now() + length(self.reviews.due_after)).await?;
        let event = ReviewEvent::Extended {
            review_id: open.id,
            cause: wanted.cause,
            principal: now.to_string(),
            items: new.len(),
        };
        Ok(tx.audit(&Author::Pgvalet.entry(self.clock.now(), Event::Review(event))).await?)
    }
}

/// What there is to reach, and who may: everybody, or one alone.
async fn picture(tx: &mut Tx, of: Option<&Principal>) -> Result<Picture, Error> {
    Ok(Picture {
        profiles: tx.profiles().await?,
        standing: tx.standing_roles().await?,
        principals: match of {
            Some(of) => vec![of.clone()],
            None => tx.every_principal().await?,
        },
    })
}

fn new_item(reach: &Reach<'_>, principals: &[Principal], usage: &Usage) -> NewItem {
    let Reach { profile, principal, rule } = reach;
    let of = |who: &&Principal| usage.get(&(profile.id, who.id)).copied();
    let facts = users(reach, principals).iter().filter_map(of).fold(Facts::default(), Facts::and);
    NewItem {
        id: ReviewItemId::new().uuid(),
        profile_id: profile.id.uuid(),
        profile: profile.spec.name.to_string(),
        principal_id: principal.map(|principal| PrincipalId::uuid(principal.id)),
        rule: rule.clone(),
        facts,
    }
}
