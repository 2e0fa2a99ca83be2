//! Is somebody still there? The provider is asked by a refresh token, session by session. It says yes, and its
//! groups are taken over; it says no, and the person is shut out; it does not answer, and its last word is
//! believed for a while.

use std::error::Error as _;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{
        App, Author,
        error::Error,
        people::{SignIns, sessions::provider_token},
    },
    domain::audit::Event,
    identity::oidc::{self, Answered, Provider, Refreshed},
    secret::Secret,
    store::{self, sessions::DueSession},
};

/// How long a daemon has for one look: then another daemon may take it over.
const CLAIM: TimeDelta = TimeDelta::minutes(2);

/// How soon a provider that did not answer is asked again.
const AGAIN: TimeDelta = TimeDelta::minutes(1);

/// A session whose person is to be asked about, ours until the claim ends.
#[derive(Debug)]
pub struct Due(DueSession);

impl App {
    /// Claims the sessions whose people are to be asked about.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn claim_due_sessions(&self, limit: i64) -> Result<Vec<Due>, Error> {
        if self.sign_ins.is_none() || limit < 1 {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let due = self.store.claim_due_sessions(now, now + CLAIM, limit).await?;
        Ok(due.into_iter().map(Due).collect())
    }

    /// Asks the provider about the person of a session, and does what its answer asks for.
    ///
    /// # Errors
    /// If our database does not answer: then it is asked again when the claim has ended.
    pub async fn recheck_session(&self, Due(session): &Due) -> Result<(), Error> {
        let sign_ins = self.sign_ins()?;
        let place = provider_token(session.id);
        let token = self.keys.open(place, &session.provider_token).map_err(Error::Sealed)?;
        match sign_ins.provider.refresh(&token).await {
            Ok(Refreshed::There(answered)) => {
                self.still_there(sign_ins, session, (token, answered)).await
            }
            Ok(Refreshed::Gone(answer)) => self.gone(sign_ins, session, &answer).await,
            Err(fault) => self.not_heard(sign_ins, session, &fault).await,
        }
    }

    async fn still_there(
        &self,
        sign_ins: &SignIns,
        session: &DueSession,
        (token, answered): (Secret<String>, Answered),
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let said = if Provider::says_who(&answered) {
            match sign_ins.provider.read(&answered, None, now).await {
                Ok(claims) => sign_ins.describe(&claims).ok(),
                Err(fault) => return self.not_heard(sign_ins, session, &fault).await,
            }
        } else {
            None
        };
        let next = answered.refresh_token.unwrap_or(token);
        let sealed = self.seal(provider_token(session.id), &next)?;
        let mut tx = self.store.begin().await?;
        match tx.note_still_there(session.id, &sealed, (now, sign_ins.next_check(now))).await {
            // It was ended meanwhile.
            Err(store::error::Error::NotOneRow(_)) => return Ok(()),
            noted => noted?,
        }
        if let Some(person) = said {
            let known = tx.principal_known_as(&person.issuer, &person.subject).await?;
            let locked = tx.lock_principal(session.principal_id).await?;
            // Said of somebody else, it is nobody's business.
            if let (Some(known), Some((principal, _))) = (known, locked)
                && known == principal.id
            {
                self.believe(&mut tx, None, principal, &person).await?;
            }
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    async fn gone(
        &self,
        sign_ins: &SignIns,
        session: &DueSession,
        answer: &str,
    ) -> Result<(), Error> {
        let id = session.principal_id;
        let mut tx = self.store.begin().await?;
        let Some((principal, _)) = tx.lock_principal(id).await? else { return Ok(()) };
        let (author, now) = (Author::Pgvalet, self.clock.now());
        let event = Event::PersonGone {
            principal_id: id,
            principal: principal.to_string(),
            answer: answer.to_owned(),
        };
        tx.audit(&author.entry(now, event)).await?;
        self.end_sessions_of(&mut tx, author, &principal).await?;
        if sign_ins.config.revoke_leases {
            let leases = tx.live_leases_of(id).await?;
            self.end_leases(&mut tx, author, &leases).await?;
        }
        tx.commit().await?;
        tracing::info!(principal = %principal, "the provider does not vouch for somebody any more: their sessions end");
        self.nudges.leases.notify_one();
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Silence proves nothing, for as long as the settings say; then the session ends, and no lease does.
    async fn not_heard(
        &self,
        sign_ins: &SignIns,
        session: &DueSession,
        fault: &oidc::Error,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let cause =
            fault.source().map_or_else(|| fault.to_string(), |cause| format!("{fault}: {cause}"));
        tracing::warn!(token.id = %session.id, cause, "the provider could not be asked whether somebody is still there; trying again");
        if is_believed(sign_ins, session.checked_at, now) {
            self.store.put_off_recheck(session.id, now + AGAIN).await?;
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        for (token_id, principal_id, name) in tx.revoke_token(session.id, now).await? {
            self.tokens.forget(token_id);
            let event = Event::TokenRevoked { token_id, principal_id, name };
            tx.audit(&Author::Pgvalet.entry(now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }
}

fn is_believed(sign_ins: &SignIns, said_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let believed_for = TimeDelta::from_std(sign_ins.config.believed_for).unwrap_or(TimeDelta::MAX);
    said_at.is_some_and(|said_at| now - said_at < believed_for)
}
