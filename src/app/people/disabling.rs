//! Shutting somebody out: disabled, a principal's sessions end, its tokens are refused, and its leases end by the
//! way that every lease ends. Enabled again, it has its tokens back, and signs in anew.

use crate::{
    app::{App, Author, Origin, error::Error, revoke::start_ending},
    domain::{audit::Event, principal::Principal, review::ReviewCause},
    identity::Admin,
    ids::{LeaseId, PrincipalId},
    store::Tx,
};

impl App {
    /// Disables a principal. To disable it again is no error.
    ///
    /// # Errors
    /// If there is none, or it is the caller itself.
    pub async fn disable_principal(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
    ) -> Result<(), Error> {
        if admin.principal().id == id {
            return Err(Error::Conflict {
                code: "disable_oneself",
                detail: "you would shut yourself out: another administrator may do that".to_owned(),
            });
        }
        let mut tx = self.store.begin().await?;
        let locked = tx.lock_principal(id).await?;
        let (principal, disabled) =
            locked.ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        if disabled {
            return Ok(());
        }
        self.shut_out(&mut tx, Author::Caller(origin, admin), (&principal, disabled)).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Shuts a principal out within a transaction: no sign-in, no token, no session, no request, no lease. Gives how many leases
    /// it had.
    pub(in crate::app) async fn shut_out(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        (principal, disabled): (&Principal, bool),
    ) -> Result<usize, Error> {
        let (id, now) = (principal.id, self.clock.now());
        if !disabled {
            let principal = principal.to_string();
            tx.set_disabled(id, Some(now)).await?;
            let event = Event::PrincipalDisabled { principal_id: id, principal };
            tx.audit(&author.entry(now, event)).await?;
        }
        self.end_sessions_of(tx, author, principal).await?;
        self.shut_out_of_requests(tx, author, principal).await?;
        let leases = tx.live_leases_of(id).await?;
        self.end_leases(tx, author, &leases).await?;
        Ok(leases.len())
    }

    /// Enables a principal again. If it was leaving, it is not any more. To enable one that is, is no error.
    ///
    /// # Errors
    /// If there is none.
    pub async fn enable_principal(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let locked = tx.lock_principal(id).await?;
        let (principal, disabled) =
            locked.ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        if !disabled {
            return Ok(());
        }
        let now = self.clock.now();
        tx.set_disabled(id, None).await?;
        // Nobody looked at what they reach while they reached nothing.
        tx.want_review(id, (ReviewCause::LetInAgain, &principal.groups), now).await?;
        let event = Event::PrincipalEnabled { principal_id: id, principal: principal.to_string() };
        tx.audit(&origin.entry(admin, now, event)).await?;
        if let Some(offboarding_id) = tx.end_offboarding(id, now).await? {
            let principal = principal.to_string();
            let event = Event::OffboardingEnded { offboarding_id, principal_id: id, principal };
            tx.audit(&origin.entry(admin, now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Ends the leases of principals that are disabled and have some: asked for in the moment before.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn end_leases_of_the_disabled(&self) -> Result<(), Error> {
        let leases = self.store.leases_of_the_disabled().await?;
        if leases.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        self.end_leases(&mut tx, Author::Pgvalet, &leases).await?;
        tx.commit().await?;
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }

    pub(in crate::app) async fn end_sessions_of(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        principal: &Principal,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        for (token_id, name) in tx.end_sessions(principal.id, now).await? {
            self.tokens.forget(token_id);
            let event = Event::TokenRevoked { token_id, principal_id: principal.id, name };
            tx.audit(&author.entry(now, event)).await?;
        }
        Ok(())
    }

    pub(in crate::app) async fn end_leases(
        &self,
        tx: &mut Tx,
        author: Author<'_>,
        leases: &[LeaseId],
    ) -> Result<(), Error> {
        let now = self.clock.now();
        for lease in leases {
            for event in start_ending(tx, *lease, now).await?.unwrap_or_default() {
                tx.audit(&author.entry(now, event)).await?;
            }
        }
        Ok(())
    }
}
