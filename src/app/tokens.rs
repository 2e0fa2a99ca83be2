//! API tokens: made, listed, revoked.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::{
    app::{App, ListedToken, Origin, error::Error},
    domain::{
        access::Fault,
        administration::{Right, Scope, Scopes},
        audit::Event,
        duration::Seconds,
        name::Name,
        principal::{Kind, PrincipalName},
        rights::context::is_claim_name,
    },
    identity::Caller,
    ids::{PrincipalId, TokenId},
    secret::Secret,
    store::{self, people::PrincipalChange},
};

/// A wish for a token.
#[derive(Debug, Default)]
pub struct TokenWish {
    /// What it is for.
    pub name: String,
    /// Whose it is to be; the caller's own, if none.
    pub principal: Option<PrincipalName>,
    /// The groups that the principal is in from now on.
    pub groups: Option<Vec<Name>>,
    /// May the principal administer from now on?
    pub admin: Option<bool>,
    /// What is claimed of the principal from now on, by name.
    pub claims: Option<BTreeMap<String, String>>,
    /// The person that the service acts for from now on.
    pub acts_for: Option<PrincipalName>,
    /// For how long.
    pub ttl: Option<Seconds>,
    /// What it is to carry of its principal's rights.
    pub scopes: Scopes,
}

/// A new token.
#[derive(Debug)]
pub struct NewToken {
    /// The token.
    pub token: ListedToken,
    /// What to hand out, once.
    pub secret: Secret<String>,
}

/// How long a token lasts when the caller does not say.
const DEFAULT_TTL: TimeDelta = TimeDelta::days(90);

/// What a token is for, in a few words.
const LONGEST_NAME: usize = 100;

/// A claim is a key of somebody's row: an id, a code, a short list.
const LONGEST_CLAIM: usize = 500;

pub(in crate::app) fn check_claims(claims: Option<&BTreeMap<String, String>>) -> Result<(), Error> {
    let mut faults = Vec::new();
    for (name, value) in claims.into_iter().flatten() {
        let message = if !is_claim_name(name) {
            format!("`{name}` is no name of a claim: write lower-case letters, digits and `_`")
        } else if value.len() > LONGEST_CLAIM || value.contains(char::is_control) {
            format!("the value of `{name}` must be one line of at most {LONGEST_CLAIM} bytes")
        } else {
            continue;
        };
        faults.push(Fault { field: "claims".into(), message });
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// Neither are there tokens of ours for jobs, nor do jobs make any: theirs come from their CI system.
fn check_kinds(caller: &Caller, wish: &TokenWish) -> Result<(), Error> {
    if caller.job().is_some() {
        return Err(Error::NotForJobs { what: "making a token" });
    }
    if wish.principal.as_ref().is_none_or(|principal| principal.kind != Kind::Ci) {
        return Ok(());
    }
    let message =
        "a rule for CI jobs has no token of ours: its jobs come with those of their CI system";
    Err(Error::invalid("principal", message))
}

/// What a token is to carry: no more than what it is made with, and agreeing to requests only if that does.
fn scopes_for(caller: &Caller, wish: &TokenWish) -> Result<Scopes, Error> {
    let scopes = match &wish.scopes {
        Scopes(None) if wish.principal.is_none() => caller.scopes().clone(),
        wished => wished.clone(),
    };
    if !scopes.are_within(caller.scopes()) {
        let message = "a token cannot carry more than the one it is made with";
        return Err(Error::invalid("scopes", message));
    }
    let is_own = wish.principal.as_ref().is_none_or(|name| *name == caller.principal().name());
    if is_own && scopes.name(Scope::Approve) && caller.via().is_none() {
        let message = "what you came with agrees to nothing, and makes no token that does: sign in (`pgvalet login`), or have somebody else make it";
        return Err(Error::invalid("scopes", message));
    }
    Ok(scopes)
}

/// Who makes a token of this principal's: the caller, if it is another's, and whoever made what they came with.
fn makers(caller: &Caller, of: PrincipalId) -> Vec<PrincipalId> {
    let own = caller.principal().id;
    caller.token_makers().iter().copied().chain((of != own).then_some(own)).collect()
}

impl App {
    /// Makes a token: for the caller itself, never lasting longer than the one it came with; or, by an
    /// administrator, for anyone.
    ///
    /// # Errors
    /// If the wish is not sound, or needs an administrator.
    pub async fn create_token(
        &self,
        caller: &Caller,
        origin: &Origin,
        wish: TokenWish,
    ) -> Result<NewToken, Error> {
        check_kinds(caller, &wish)?;
        let of_principal = wish.groups.is_some()
            || wish.admin.is_some()
            || wish.claims.is_some()
            || wish.acts_for.is_some();
        if wish.principal.is_some() || of_principal {
            let what = "a token for another principal, or with groups, claims or rights";
            self.admin(caller, origin, (&[Right::People], what)).await?;
        }
        if wish.admin.is_some() {
            self.admin(caller, origin, (&[Right::Roles], "making somebody an administrator"))
                .await?;
        }
        let scopes = scopes_for(caller, &wish)?;
        if wish.principal.is_none() && of_principal {
            let message =
                "say whose groups, claims and rights these are: `person:NAME` or `service:NAME`";
            return Err(Error::invalid("principal", message));
        }
        check_claims(wish.claims.as_ref())?;
        let name = wish.name.trim();
        if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control)
        {
            let message = format!("say what the token is for, in 1 to {LONGEST_NAME} letters");
            return Err(Error::invalid("name", message));
        }
        let now = self.clock.now();
        let wished = now + self.length(wish.ttl)?;
        // A session ends each evening; a token made in it is for what goes on without its person. Who is disabled
        // loses both.
        let is_free = caller.may(Right::People) || caller.session().is_some();
        let own_end = if is_free { None } else { caller.proof_ends_at() };
        let expires_at = own_end.map_or(wished, |end| wished.min(end));

        let acts_for = match &wish.principal {
            Some(name) => self.person_acted_for(name.kind, wish.acts_for.as_ref()).await?,
            None => None,
        };
        let minted = self.tokens.mint().await?;
        let mut tx = self.store.begin().await?;
        let principal = match &wish.principal {
            None => caller.principal().clone(),
            Some(name) => {
                let change = PrincipalChange {
                    groups: wish.groups,
                    admin: wish.admin,
                    claims: wish.claims,
                    acts_for,
                };
                self.record_principal(&mut tx, (caller, origin), name, &change).await?
            }
        };
        let new = store::tokens::NewToken {
            id: minted.id,
            principal: principal.id,
            name,
            hash: &minted.hash,
            expires_at: Some(expires_at),
            made_with: caller.token_id().filter(|_| !is_free),
            makers: &makers(caller, principal.id),
            scopes,
        };
        tx.create_token(&new, now).await?;
        let event = Event::TokenCreated {
            token_id: minted.id,
            principal_id: principal.id,
            principal: principal.to_string(),
            name: name.to_owned(),
            admin: principal.admin,
            groups: principal.groups.iter().map(Name::to_string).collect(),
            claims: principal.claims.clone(),
            acts_for: principal.acts_for,
            expires_at: Some(expires_at),
        };
        tx.audit(&origin.entry(caller, now, event)).await?;
        let token = tx.lock_token(minted.id).await?;
        let token = token.ok_or_else(|| Error::not_found("token", minted.id.to_string()))?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(NewToken { token, secret: minted.text })
    }

    /// The person that a service is to act for.
    async fn person_acted_for(
        &self,
        kind: Kind,
        person: Option<&PrincipalName>,
    ) -> Result<Option<PrincipalId>, Error> {
        let Some(name) = person else { return Ok(None) };
        let invalid = |message: &str| Error::invalid("acts_for", message);
        if kind != Kind::Service || name.kind != Kind::Person {
            return Err(invalid("a service acts for a person: write `person:NAME`"));
        }
        match self.store.principal_named(name).await? {
            Some((person, false)) => Ok(Some(person.id)),
            Some((_, true)) => Err(invalid("this person is disabled")),
            None => Err(Error::not_found("person", name.subject.to_string())),
        }
    }

    /// How long a token is to last.
    fn length(&self, wished: Option<Seconds>) -> Result<TimeDelta, Error> {
        let Some(wished) = wished else { return Ok(DEFAULT_TTL.min(self.longest_token)) };
        if wished.delta() <= self.longest_token {
            return Ok(wished.delta());
        }
        let days = self.longest_token.num_days();
        let message = format!("no token lasts longer than {days} days here: write {days}d or less");
        Err(Error::invalid("ttl", message))
    }

    /// A page of tokens, newest first: the caller's own, or all if it looks after people.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn tokens(
        &self,
        caller: &Caller,
        before: Option<TokenId>,
        limit: i64,
    ) -> Result<Vec<ListedToken>, Error> {
        let of = if caller.may(Right::People) { None } else { Some(caller.principal().id) };
        Ok(self.store.tokens(of, before, limit).await?)
    }

    /// Revokes a token, and those that its bearer made with it, at once on every daemon. Revoking it
    /// again is no error.
    ///
    /// # Errors
    /// If there is none of that id for this caller.
    pub async fn revoke_token(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: TokenId,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let may_see = |token: &ListedToken| {
            caller.may(Right::People) || token.principal_id == caller.principal().id
        };
        let token = tx.lock_token(id).await?.filter(may_see);
        let token = token.ok_or_else(|| Error::not_found("token", id.to_string()))?;
        self.tokens.forget(id);
        if token.revoked_at.is_some() {
            return Ok(());
        }
        for (token_id, principal_id, name) in tx.revoke_token(id, now).await? {
            self.tokens.forget(token_id);
            let event = Event::TokenRevoked { token_id, principal_id, name };
            tx.audit(&origin.entry(caller, now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }
}
