//! Somebody leaves: in one transaction they are shut out, their leases begin to end, and the passwords that they
//! know and others use are due to be replaced. What that has come to is read from the record whenever it is asked.
//!
//! It takes the right to look after people and the right to end leases: applications whose password is replaced
//! at once are cut off until they have read the fresh one.

use std::collections::BTreeMap;

use crate::{
    app::{App, Author, Origin, error::Error},
    domain::{
        administration::Right,
        audit::Event,
        lease::{Lease, State},
        offboarding::{
            self, Agreed, KnownSecret, MadeToken, Mention, Offboarding, Pending, ShutOut,
        },
        principal::{Kind, Principal},
        standing::StandingRole,
    },
    identity::Admin,
    ids::{AccessRequestId, OffboardingId, PrincipalId},
    store::{Tx, offboarding::NewOffboarding},
};

/// What they agreed to is listed so far back: older leases are long over.
const MOST_AGREED: i64 = 500;

/// How it stands with somebody who leaves.
#[derive(Debug)]
pub struct Report {
    /// What is recorded of it.
    pub offboarding: Offboarding,
    /// Who leaves.
    pub principal: Principal,
    /// What they can sign in with no more.
    pub shut_out: ShutOut,
    /// Their leases.
    pub leases: Vec<Lease>,
    /// The passwords of standing roles that they were given.
    pub secrets: Vec<KnownSecret>,
    /// What is left of them, by target.
    pub pending: BTreeMap<String, Pending>,
    /// Where rules still name them.
    pub mentions: Vec<Mention>,
    /// Tokens that they made for others.
    pub tokens_made: Vec<MadeToken>,
    /// What they agreed to, latest first.
    pub agreed: Vec<Agreed>,
    /// Their requests that were withdrawn.
    pub withdrawn: Vec<AccessRequestId>,
}

impl Report {
    /// Is nothing left of them? They are shut out, and each login was seen to be gone.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.shut_out.disabled_at.is_some()
    }

    /// How many logins were seen to be gone.
    #[must_use]
    pub fn proofs(&self) -> usize {
        let leases = self.leases.iter().chain(self.secrets.iter().map(|secret| &secret.lease));
        leases.filter(|lease| lease.state == State::Revoked).count()
    }
}

impl App {
    /// Ends all that somebody has. Said again, it is no error, and tells how it stands.
    ///
    /// # Errors
    /// If there is no such person, it is the caller itself, or the caller may not end leases.
    pub async fn offboard(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
    ) -> Result<Report, Error> {
        self.admin(admin, origin, (&[Right::Leases], "ending all that somebody has")).await?;
        if admin.principal().id == id {
            return Err(Error::Conflict {
                code: "offboard_oneself",
                detail: "you would shut yourself out: another administrator may do that".to_owned(),
            });
        }
        let mut tx = self.store.begin().await?;
        let locked = tx.lock_principal(id).await?;
        let (principal, disabled) =
            locked.ok_or_else(|| Error::not_found("person", id.to_string()))?;
        if principal.kind != Kind::Person {
            let message = format!(
                "{principal} is no person: `pgvalet person disable` shuts a program out, and its leases end"
            );
            return Err(Error::invalid("person", message));
        }
        if !tx.is_leaving(id).await? {
            self.begin_offboarding(&mut tx, (admin, origin), (&principal, disabled)).await?;
            tx.commit().await?;
            self.nudges.leases.notify_one();
            self.nudges.rotations.notify_one();
            self.nudges.people.notify_one();
            self.nudges.audit.notify_one();
        }
        self.offboarding(admin, id).await
    }

    async fn begin_offboarding(
        &self,
        tx: &mut Tx,
        (admin, origin): (&Admin<'_>, &Origin),
        (principal, disabled): (&Principal, bool),
    ) -> Result<(), Error> {
        let author = Author::Caller(origin, admin);
        // What ends from here on ends because of it.
        let now = self.clock.now();
        let mut leases = self.shut_out(tx, author, (principal, disabled)).await?;
        let agents = tx.agents_of(principal.id).await?;
        for (agent, disabled) in tx.lock_principals(&agents).await? {
            if !disabled {
                leases += self.shut_out(tx, author, (&agent, disabled)).await?;
            }
        }
        let readers: Vec<_> = agents.into_iter().chain([principal.id]).collect();
        tx.note_readings_in_audit(&readers).await?;
        tx.keep_from_passwords(&readers, None, self.clock.now()).await?;
        self.replace_kept(tx, author).await?;
        let codes_withdrawn = self.withdraw_all_codes(tx, author, principal).await?;
        let id = OffboardingId::new();
        let new = NewOffboarding {
            id,
            principal: principal.id,
            by: admin.principal().id,
            codes_withdrawn: &codes_withdrawn,
        };
        let standing_roles = tx.start_offboarding(&new, now).await?;
        let event = Event::OffboardingStarted {
            offboarding_id: id,
            principal_id: principal.id,
            principal: principal.to_string(),
            leases,
            standing_roles,
        };
        tx.audit(&author.entry(now, event)).await?;
        Ok(())
    }

    /// Their own sealed codes, and those that they made for others and have seen. Gives for whom.
    async fn withdraw_all_codes(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        principal: &Principal,
    ) -> Result<Vec<String>, Error> {
        let mut gone = tx.withdraw_codes_made_by(principal.id).await?;
        let others = gone.iter().map(|(_, name, _)| name.clone()).collect();
        let own = tx.withdraw_codes(principal.id).await?;
        if own > 0 {
            gone.push((principal.id, principal.to_string(), own));
        }
        let now = self.clock.now();
        for (principal_id, principal, count) in gone {
            let event = Event::EmergencyCodesWithdrawn { principal_id, principal, count };
            tx.audit(&author.entry(now, event)).await?;
        }
        Ok(others)
    }

    /// How it stands with somebody who leaves.
    ///
    /// # Errors
    /// If nobody said that they leave.
    pub async fn offboarding(&self, _: &Admin<'_>, id: PrincipalId) -> Result<Report, Error> {
        let principal = self.store.principal_of_id(id).await?;
        let principal = principal.ok_or_else(|| Error::not_found("person", id.to_string()))?;
        let offboarding = self.store.offboarding_of(id).await?;
        let offboarding =
            offboarding.ok_or_else(|| Error::not_found("offboarding of", principal.to_string()))?;
        let now = self.clock.now();
        let shut_out = self.store.shut_out(&offboarding, now).await?;
        let roles = self.store.standing_roles().await?;
        let secrets = self.secrets_of(&offboarding, &roles).await?;
        let ids = self.store.leases_of_leaver(&offboarding).await?;
        let leases = self.store.leases_of_ids(&ids).await?;
        let profiles = self.store.profiles().await?.into_iter().map(|profile| profile.spec);
        let mentions = offboarding::mentions(
            &principal.name(),
            &profiles.collect::<Vec<_>>(),
            &roles.into_iter().map(|role| role.spec).collect::<Vec<_>>(),
            &self.store.administration().await?,
        );
        let tokens_made = self.store.tokens_made_by(id, now).await?;
        let pending = offboarding::pending(&leases, &secrets);
        let agreed = self.store.agreed_to_by(id, MOST_AGREED).await?;
        let withdrawn = self.store.requests_withdrawn_of(&offboarding).await?;
        Ok(Report {
            offboarding,
            principal,
            shut_out,
            leases,
            secrets,
            pending,
            mentions,
            tokens_made,
            agreed,
            withdrawn,
        })
    }

    async fn secrets_of(
        &self,
        offboarding: &Offboarding,
        roles: &[StandingRole],
    ) -> Result<Vec<KnownSecret>, Error> {
        let read = self.store.secrets_of_leaver(offboarding.id).await?;
        let ids: Vec<_> = read.iter().map(|secret| secret.lease_id).collect();
        let leases = self.store.leases_of_ids(&ids).await?;
        let known = read.into_iter().filter_map(|secret| {
            let lease = leases.iter().find(|lease| lease.id == secret.lease_id)?.clone();
            let role = roles.iter().find(|role| role.spec.name.as_str() == secret.standing_role);
            let present = role.and_then(|role| role.present.as_ref());
            Some(KnownSecret {
                standing_role: secret.standing_role,
                read_at: secret.read_at,
                replaced: present.is_none_or(|present| present.lease_id != lease.id),
                blocked_by: role.and_then(|role| role.blocked_by.clone()),
                lease,
            })
        });
        Ok(known.collect())
    }

    /// Tells, once for each, of whom nothing is left.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn go_on_offboarding(&self) -> Result<(), Error> {
        for offboarding in self.store.unfinished_offboardings().await? {
            let (id, now) = (offboarding.principal_id, self.clock.now());
            let principal = self.store.principal_of_id(id).await?;
            let mut tx = self.store.begin().await?;
            if !tx.finish_offboarding(offboarding.id, now).await? {
                continue;
            }
            let event = Event::OffboardingFinished {
                offboarding_id: offboarding.id,
                principal_id: id,
                principal: principal.map_or_else(|| id.to_string(), |one| one.to_string()),
            };
            tx.audit(&Author::Pgvalet.entry(now, event)).await?;
            tx.commit().await?;
            self.nudges.audit.notify_one();
        }
        Ok(())
    }
}
