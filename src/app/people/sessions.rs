//! Sessions: opened for a person whom the provider vouched for, and ended.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{App, Origin, error::Error, own_entry, people::SignIns, tokens::NewToken},
    domain::{
        audit::{Actor, Event},
        person::{Described, name_from},
        principal::Principal,
        session::Client,
    },
    identity::{Caller, token::Minted},
    ids::{PrincipalId, TokenId},
    secret::Secret,
    store::{Tx, identities::KNOWN_AS, people::NAME_TAKEN, seal::Place, sessions::NewSession},
};

/// What a person brings from the provider.
pub(in crate::app) struct Vouched {
    /// Who they are.
    pub(in crate::app) person: Described,
    /// What to ask with whether they are still there.
    pub(in crate::app) refresh_token: Option<Secret<String>>,
}

/// Where a session's token of the provider stands.
pub(in crate::app) const fn provider_token(session: TokenId) -> Place {
    Place { table: "token", row: session.uuid(), column: "provider_token" }
}

/// Why a person gets no session.
enum Refusal {
    Said(&'static str, String),
    /// Somebody else was recorded at the same moment: to be looked at again.
    LostRace,
}

impl App {
    /// Opens a session for a person whom the provider vouched for; whoever signs in for the first time is
    /// recorded. `key` is the sign-in that this ends: it gives one session and no more.
    pub(in crate::app) async fn open_session(
        &self,
        origin: &Origin,
        client: Client,
        vouched: &Vouched,
        key: Option<&[u8]>,
    ) -> Result<NewToken, Error> {
        let sign_ins = self.sign_ins()?;
        let minted = self.tokens.mint().await?;
        for _ in 0..2 {
            let mut tx = self.store.begin().await?;
            if let Some(key) = key
                && !tx.finish_sign_in(key).await?
            {
                return Err(self.refuse_sign_in(origin, client, over()).await);
            }
            let now = self.clock.now();
            match self.known_or_new(&mut tx, origin, &vouched.person, now).await? {
                Ok(principal) => {
                    let made = (sign_ins, client, vouched, minted);
                    return self.record_session(tx, origin, principal, made).await;
                }
                Err(Refusal::Said(code, detail)) => {
                    drop(tx);
                    if let Some(key) = key {
                        self.store.drop_sign_in(key).await?;
                    }
                    return Err(self.refuse_sign_in(origin, client, (code, detail)).await);
                }
                Err(Refusal::LostRace) => {}
            }
        }
        Err(self.refuse_sign_in(origin, client, taken(&vouched.person)).await)
    }

    /// The principal that the provider's person is, as the provider says that they are now.
    async fn known_or_new(
        &self,
        tx: &mut Tx,
        origin: &Origin,
        person: &Described,
        now: DateTime<Utc>,
    ) -> Result<Result<Principal, Refusal>, Error> {
        let known_as = (person.issuer.as_str(), person.subject.as_str());
        let known = tx.principal_known_as(known_as.0, known_as.1).await?;
        let id = match known {
            Some(id) => id,
            None => match self.record_person(tx, origin, person, now).await? {
                Ok(id) => id,
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let locked = tx.lock_principal(id).await?;
        let (before, disabled) =
            locked.ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        if disabled {
            let detail = format!(
                "{before} is disabled here: ask an administrator (`pgvalet person enable {before}`)"
            );
            return Ok(Err(Refusal::Said("person_disabled", detail)));
        }
        tx.note_identity(known_as, &person.user_name, Some(now)).await?;
        Ok(Ok(self.believe(tx, Some(origin), before, person).await?))
    }

    async fn record_person(
        &self,
        tx: &mut Tx,
        origin: &Origin,
        person: &Described,
        now: DateTime<Utc>,
    ) -> Result<Result<PrincipalId, Refusal>, Error> {
        let name = match name_from(&person.user_name) {
            Ok(name) => name,
            Err(fault) => {
                return Ok(Err(Refusal::Said(
                    "no_name",
                    linked_instead(&fault.to_string(), person),
                )));
            }
        };
        let id = match tx.create_person(&person.issuer, &name, now).await {
            Ok(id) => id,
            Err(e) if e.is_constraint(NAME_TAKEN) => {
                return Ok(Err(self.whose_name(person).await?));
            }
            Err(e) => return Err(e.into()),
        };
        let known_as = (person.issuer.as_str(), person.subject.as_str());
        match tx.add_identity(known_as, id, Some(&person.user_name), now).await {
            Ok(()) => {}
            Err(e) if e.is_constraint(KNOWN_AS) => return Ok(Err(Refusal::LostRace)),
            Err(e) => return Err(e.into()),
        }
        let principal = format!("person:{name}");
        let actor = Actor::Principal { id, name: principal.clone() };
        let (issuer, subject) = (person.issuer.clone(), person.subject.clone());
        let event = Event::PersonRecorded { principal_id: id, principal, issuer, subject };
        tx.audit(&origin.entry_by(actor, now, event)).await?;
        Ok(Ok(id))
    }

    /// A name that is taken is refused, unless the very same person took it a moment ago.
    async fn whose_name(&self, person: &Described) -> Result<Refusal, Error> {
        let mut tx = self.store.begin().await?;
        let known = tx.principal_known_as(&person.issuer, &person.subject).await?;
        let (code, detail) = taken(person);
        Ok(if known.is_some() { Refusal::LostRace } else { Refusal::Said(code, detail) })
    }

    /// Takes over what the provider says, at a sign-in or when it was asked by itself, and says on record what
    /// that changes.
    pub(in crate::app) async fn believe(
        &self,
        tx: &mut Tx,
        origin: Option<&Origin>,
        before: Principal,
        person: &Described,
    ) -> Result<Principal, Error> {
        let names = self.sign_ins()?.claim_names();
        tx.take_over(before.id, &person.groups, (&names, &person.claims)).await?;
        let now = tx.lock_principal(before.id).await?;
        let (now, _) = now.ok_or_else(|| Error::not_found("principal", before.id.to_string()))?;
        if (&now.groups, &now.claims) != (&before.groups, &before.claims) {
            let event = Event::PersonChanged {
                principal_id: now.id,
                principal: now.to_string(),
                groups: now.groups.iter().map(ToString::to_string).collect(),
                claims: now.claims.clone(),
            };
            let at = self.clock.now();
            let entry = match origin {
                Some(origin) => origin.entry_by(actor(&now), at, event),
                None => own_entry(at, event),
            };
            tx.audit(&entry).await?;
            self.review_moved(tx, &before, &now).await?;
        }
        Ok(now)
    }

    async fn record_session(
        &self,
        mut tx: Tx,
        origin: &Origin,
        principal: Principal,
        (sign_ins, client, vouched, minted): (&SignIns, Client, &Vouched, Minted),
    ) -> Result<NewToken, Error> {
        let now = self.clock.now();
        let lengths = sign_ins.lengths(client);
        let length = |std| TimeDelta::from_std(std).unwrap_or(TimeDelta::MAX);
        let expires_at = now + length(lengths.absolute);
        let sealed = match &vouched.refresh_token {
            Some(token) => Some(self.seal(provider_token(minted.id), token)?),
            None => None,
        };
        let session = NewSession {
            id: minted.id,
            principal: principal.id,
            name: client.as_str(),
            client,
            hash: &minted.hash,
            expires_at,
            idle: length(lengths.idle),
            recheck: sealed.as_deref().map(|sealed| (sealed, sign_ins.next_check(now))),
        };
        tx.create_session(&session, now).await?;
        let event = Event::SignedIn {
            token_id: minted.id,
            principal_id: principal.id,
            principal: principal.to_string(),
            client,
            groups: principal.groups.iter().map(ToString::to_string).collect(),
            expires_at,
        };
        tx.audit(&origin.entry_by(actor(&principal), now, event)).await?;
        let token = tx.lock_token(minted.id).await?;
        let token = token.ok_or_else(|| Error::not_found("token", minted.id.to_string()))?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(NewToken { token, secret: minted.text })
    }

    /// Seals what only the daemons may know.
    pub(in crate::app) fn seal(
        &self,
        place: Place,
        clear: &Secret<String>,
    ) -> Result<Vec<u8>, Error> {
        let nonce = crate::rng::bytes().map_err(Error::internal)?;
        self.keys.seal(place, nonce, clear).map_err(Error::Sealed)
    }

    /// Signs the caller out everywhere: all of its sessions end, its API tokens stay.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn sign_out_everywhere(
        &self,
        caller: &Caller,
        origin: &Origin,
    ) -> Result<usize, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let ended = tx.end_sessions(caller.principal().id, now).await?;
        for (token_id, name) in &ended {
            self.tokens.forget(*token_id);
            let event = Event::TokenRevoked {
                token_id: *token_id,
                principal_id: caller.principal().id,
                name: name.clone(),
            };
            tx.audit(&origin.entry(caller, now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(ended.len())
    }
}

pub(in crate::app) fn over() -> (&'static str, String) {
    let detail = "this sign-in is over, or was finished already: begin again".to_owned();
    ("sign_in_over", detail)
}

fn actor(principal: &Principal) -> Actor {
    Actor::Principal { id: principal.id, name: principal.to_string() }
}

fn taken(person: &Described) -> (&'static str, String) {
    let name = name_from(&person.user_name).map(|name| name.to_string()).unwrap_or_default();
    let what = format!("the name `{name}` is somebody else's here, and is not given to you");
    ("name_taken", linked_instead(&what, person))
}

fn linked_instead(what: &str, person: &Described) -> String {
    let Described { issuer, subject, .. } = person;
    format!(
        "{what}: an administrator says who you are, `pgvalet person link person:NAME --issuer {issuer} --subject '{subject}'`"
    )
}
