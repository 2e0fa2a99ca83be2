//! What a sweep does about each of its findings. Each move is a compare-and-set on the record, so that
//! two daemons may do the same; and each may be done twice on the target.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    app::{
        App,
        error::Error,
        own_entry,
        revoke::start_ending,
        sweep::{LATER, Look, Told},
    },
    domain::{
        audit::Event,
        lease::{Cause, State},
        profile::OwnedObjects,
        role::LoginName,
        sweep::{Act, By, Finding, PutBack, Recorded, compare},
        target::Target,
    },
    ids::{LeaseId, LoginId},
    store::{self, sweep::OpenOrphan},
    target::{self, Handle, RemoveLogin},
};

/// What was done, in words; or what stands in the way.
type Done = Result<String, Trouble>;

/// What stands in the way.
enum Trouble {
    /// In words. The next sweep tries again.
    Words(String),
    /// Our own database: the sweep ends.
    Record(store::error::Error),
}

impl From<store::error::Error> for Trouble {
    fn from(error: store::error::Error) -> Self {
        Self::Record(error)
    }
}

/// A target at work.
struct Place<'a> {
    target: &'a Target,
    handle: &'a Arc<Handle>,
    by: By,
}

impl Place<'_> {
    fn trouble(&self, error: target::Error) -> Trouble {
        Trouble::Words(Error::target(self.target.spec.name.as_str(), None, error).detail())
    }
}

impl App {
    /// Deals with each finding, as long as there is time.
    pub(in crate::app) async fn deal_with(
        &self,
        look: Look,
        until: Instant,
    ) -> Result<Vec<Told>, Error> {
        let (target, handle) = self.handle(look.target.id).await?;
        let place = Place { target: &target, handle: &handle, by: look.by };
        let open = self.store.open_orphans(target.id).await?;
        let mut told = Vec::new();
        for finding in look.findings {
            self.metrics.swept(finding.kind.as_str());
            if finding.act != Act::Nothing && Instant::now() > until {
                told.push(Told { finding, done: LATER.to_owned(), failed: false });
                continue;
            }
            let (done, failed) = match self.deal_with_one(&place, &finding, &open).await {
                Ok(done) => (done, false),
                Err(Trouble::Words(why)) => (format!("could not: {why}"), true),
                Err(Trouble::Record(error)) => return Err(error.into()),
            };
            told.push(Told { finding, done, failed });
        }
        self.nudges.audit.notify_one();
        Ok(told)
    }

    async fn deal_with_one(
        &self,
        place: &Place<'_>,
        finding: &Finding,
        open: &[OpenOrphan],
    ) -> Done {
        let role = LoginName::recognise(&finding.role);
        let (role, oid) = match (role, finding.oid, &finding.act) {
            (_, _, Act::Nothing) => return Ok("nothing".to_owned()),
            (_, _, Act::Lose(login, lease)) => {
                return self.lose(finding, *login, *lease).await;
            }
            (Some(role), Some(oid), _) => (role, oid),
            _ => return Err(Trouble::Words("it has no name of ours".to_owned())),
        };
        match &finding.act {
            Act::Quarantine => {
                let known = open.iter().find(|known| known.oid == oid && known.role == role);
                self.quarantine(place, known.cloned(), role, oid).await
            }
            Act::End(login, lease) => self.take_up_left_over(finding, *login, *lease, oid).await,
            Act::PutBack(login, lease, back) => {
                self.put_back(place, (*login, *lease), (&role, oid), back).await
            }
            Act::EndSessions => self.end_roleless(place, finding, oid).await,
            Act::Nothing | Act::Lose(..) => Ok("nothing".to_owned()),
        }
    }

    /// Records an orphan, shuts it out, and removes it once its grace is over.
    async fn quarantine(
        &self,
        place: &Place<'_>,
        known: Option<OpenOrphan>,
        role: LoginName,
        role_oid: u32,
    ) -> Done {
        let Place { target, handle, .. } = place;
        let now = self.clock.now();
        let of_target = || target.spec.name.to_string();
        let orphan = match known {
            Some(known) => known,
            None => {
                let mut tx = self.store.begin().await?;
                if tx.record_orphan(target.id, &role, role_oid, now).await? {
                    let role = role.to_string();
                    let event = Event::OrphanFound { target: of_target(), role, role_oid };
                    tx.audit(&own_entry(now, event)).await?;
                    tx.commit().await?;
                }
                OpenOrphan { role, oid: role_oid, found_at: now, quarantined_at: None }
            }
        };
        let database = target.spec.databases.first().map_or("postgres", String::as_str);
        // Of whose profile it was nothing is known: nobody is given what it owns.
        let login = RemoveLogin {
            role: &orphan.role,
            oid: Some(role_oid),
            database,
            group_role: orphan.role.as_str(),
            owned_objects: OwnedObjects::Graveyard,
            has_context: true,
        };
        let remove_at = orphan.found_at + self.standing.orphan_grace;
        if orphan.quarantined_at.is_none() {
            match handle.quarantine(&login).await {
                // Gone meanwhile: what is left of it is looked for below.
                Ok(()) | Err(target::Error::Gone { .. }) => {}
                Err(error) => return Err(place.trouble(error)),
            }
            let mut tx = self.store.begin().await?;
            if tx.quarantine_orphan(target.id, &orphan, now).await? {
                let role = orphan.role.to_string();
                let event =
                    Event::OrphanQuarantined { target: of_target(), role, role_oid, remove_at };
                tx.audit(&own_entry(now, event)).await?;
                tx.commit().await?;
            }
        }
        if now < remove_at {
            let at = remove_at.format("%Y-%m-%d %H:%M:%S UTC");
            return Ok(format!("shut out; removed at {at}"));
        }
        let proof = handle.remove_login(&login).await.map_err(|e| place.trouble(e))?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if tx.finish_orphan(target.id, &orphan, &proof, now).await? {
            let role = orphan.role.to_string();
            let event = Event::OrphanRemoved { target: of_target(), role, role_oid, proof };
            tx.audit(&own_entry(now, event)).await?;
            tx.commit().await?;
        }
        Ok("removed, and seen to be gone".to_owned())
    }

    /// A login that is recorded as gone is due again: it ends as any other.
    async fn take_up_left_over(
        &self,
        finding: &Finding,
        login_id: LoginId,
        lease_id: LeaseId,
        oid: u32,
    ) -> Done {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        match tx.reopen_login(login_id, oid, now).await {
            Err(store::error::Error::NotOneRow(_)) => return Ok("is ended already".to_owned()),
            reopened => reopened?,
        }
        tx.reopen_lease(lease_id).await?;
        let why = "it was recorded as gone, and a sweep found its role".to_owned();
        let event = Event::LoginBlocked { lease_id, login_id, role: finding.role.clone(), why };
        tx.audit(&own_entry(now, event)).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        Ok("is being removed".to_owned())
    }

    /// Records a login as lost, and its lease with it if it is the present one. The loop that ends
    /// leases then looks once more, ends what sessions are left, and records the proof.
    async fn lose(&self, finding: &Finding, login_id: LoginId, lease_id: LeaseId) -> Done {
        let now = self.clock.now();
        let cause = Cause::Lost;
        let mut tx = self.store.begin().await?;
        if !tx.lose_login(login_id, now).await? {
            return Ok("is ended already".to_owned());
        }
        let role = finding.role.clone();
        let mut events = vec![Event::LoginRevoking { lease_id, login_id, role, cause }];
        if tx.is_present_login(lease_id, login_id).await? {
            if tx.start_revoking_lease(lease_id, cause).await? {
                events.push(Event::LeaseRevoking { lease_id, cause });
            }
            for (login_id, role) in tx.start_revoking_logins_of(lease_id, cause, now).await? {
                events.push(Event::LoginRevoking { lease_id, login_id, role, cause });
            }
        }
        for event in events {
            tx.audit(&own_entry(now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.leases.notify_one();
        Ok("recorded as lost".to_owned())
    }

    /// Puts a login back. One that has more than its lease says, and keeps it, ends.
    async fn put_back(
        &self,
        place: &Place<'_>,
        (login_id, lease_id): (LoginId, LeaseId),
        (role, oid): (&LoginName, u32),
        back: &PutBack,
    ) -> Done {
        let why = match place.handle.put_back(role, oid, back).await {
            Ok(()) => match self.still_has_more(place, role, oid).await? {
                None => {
                    let now = self.clock.now();
                    let (role, changes) = (role.to_string(), back.changes.clone());
                    let event = Event::LoginPutBack { lease_id, login_id, role, changes };
                    let mut tx = self.store.begin().await?;
                    tx.audit(&own_entry(now, event)).await?;
                    tx.commit().await?;
                    return Ok("put back".to_owned());
                }
                Some(why) => why,
            },
            Err(error @ target::Error::Gone { .. }) => return Err(place.trouble(error)),
            Err(error) if !back.has_more || error.is_worth_retrying() => {
                return Err(place.trouble(error));
            }
            Err(error) => Error::target(place.target.spec.name.as_str(), None, error).detail(),
        };
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if let Some(ending) = start_ending(&mut tx, lease_id, now).await? {
            let (role, mut changes) = (role.to_string(), back.changes.clone());
            changes.push(why);
            let beyond = Event::LoginBeyondLease { lease_id, login_id, role, changes };
            for event in [beyond].into_iter().chain(ending) {
                tx.audit(&own_entry(now, event)).await?;
            }
            tx.commit().await?;
            self.nudges.leases.notify_one();
        }
        Ok("could not be put back: its lease ends".to_owned())
    }

    /// Some statements only warn when they do nothing, so the login is looked at once more.
    async fn still_has_more(
        &self,
        place: &Place<'_>,
        role: &LoginName,
        oid: u32,
    ) -> Result<Option<String>, Trouble> {
        let Some(seen) = place.handle.look(oid).await.map_err(|e| place.trouble(e))? else {
            return Ok(None);
        };
        let recorded = self.store.logins_named(place.target.id, &[role.to_string()]).await?;
        let is_live = |login: &Recorded| login.state == State::Active;
        let recorded = recorded.into_iter().filter(is_live);
        let recorded = recorded.map(|login| (login.role.clone(), login)).collect();
        let found = compare(place.by, &[seen], &recorded);
        Ok(found.into_iter().find_map(|finding| match finding.act {
            Act::PutBack(_, _, back) if back.has_more => Some(format!("still: {}", finding.what)),
            _ => None,
        }))
    }

    async fn end_roleless(&self, place: &Place<'_>, finding: &Finding, role_oid: u32) -> Done {
        let ended = place.handle.end_roleless(role_oid).await;
        let sessions = ended.map_err(|e| place.trouble(e))?;
        if let Some(lease_id) = finding.lease_id
            && sessions > 0
        {
            let now = self.clock.now();
            let target = place.target.spec.name.to_string();
            let role = finding.role.clone();
            let event = Event::SessionsEnded { target, lease_id, role, role_oid, sessions };
            let mut tx = self.store.begin().await?;
            tx.audit(&own_entry(now, event)).await?;
            tx.commit().await?;
        }
        Ok(format!("{sessions} sessions ended"))
    }
}
