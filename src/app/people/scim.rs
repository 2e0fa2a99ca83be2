//! What the provider's own provisioning says of its people (SCIM 2.0, RFC 7643 and 7644): somebody is there,
//! somebody is not any more. A user of SCIM is a person with an identity at the provider that people sign in
//! at; its `externalId` is that provider's key for them, which signing in brings too.

use chrono::{DateTime, Utc};

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        audit::Event,
        person::{LONGEST_USER_NAME, name_from},
    },
    identity::Admin,
    ids::PrincipalId,
    store::{
        identities::{Identity, KNOWN_AS},
        people::NAME_TAKEN,
    },
};

/// A person, as provisioning knows them.
#[derive(Debug)]
pub struct Provisioned {
    /// Who it is here.
    pub id: PrincipalId,
    /// The provider's key for them.
    pub external_id: String,
    /// What the provider calls them.
    pub user_name: String,
    /// May they be let in?
    pub active: bool,
    /// Since when they are known.
    pub created_at: DateTime<Utc>,
}

/// Which ones.
#[derive(Debug, Default)]
pub struct Sought {
    /// Of this name.
    pub user_name: Option<String>,
    /// Of this key.
    pub external_id: Option<String>,
}

/// What is to be changed of one; none leaves it as it was.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// May they be let in?
    pub active: Option<bool>,
    /// What the provider calls them now.
    pub user_name: Option<String>,
    /// The provider's key for them: it is what it was, or the change is refused.
    pub external_id: Option<String>,
}

impl App {
    /// A page of them, oldest first, and how many there are.
    ///
    /// # Errors
    /// If there is no provider, or our database does not answer.
    pub async fn provisioned(
        &self,
        _admin: &Admin<'_>,
        sought: &Sought,
        page: (i64, i64),
    ) -> Result<(i64, Vec<Provisioned>), Error> {
        let issuer = self.sign_ins()?.provider.issuer();
        let sought = (sought.user_name.as_deref(), sought.external_id.as_deref());
        let (total, found) = self.store.identities_at(issuer, sought, page).await?;
        Ok((total, found.into_iter().map(provisioned).collect()))
    }

    /// One of them.
    ///
    /// # Errors
    /// If there is none.
    pub async fn provisioned_one(
        &self,
        _admin: &Admin<'_>,
        id: PrincipalId,
    ) -> Result<Provisioned, Error> {
        let issuer = self.sign_ins()?.provider.issuer();
        let all = self.store.identities_of(id).await?;
        let found = all.into_iter().find(|identity| identity.issuer == issuer);
        found.map(provisioned).ok_or_else(|| Error::not_found("user", id.to_string()))
    }

    /// Records somebody before they sign in for the first time, or lets somebody in again who was taken out.
    ///
    /// # Errors
    /// If the provider's key for them, or their name, is taken.
    pub async fn provision(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        user_name: &str,
        external_id: &str,
    ) -> Result<Provisioned, Error> {
        let issuer = self.sign_ins()?.provider.issuer();
        for (field, text) in [("userName", user_name), ("externalId", external_id)] {
            if text.is_empty() || text.len() > LONGEST_USER_NAME || text.contains(char::is_control)
            {
                let message = format!("is needed: one line of at most {LONGEST_USER_NAME} bytes");
                return Err(Error::invalid(field, message));
            }
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if let Some(id) = tx.principal_known_as(issuer, external_id).await? {
            drop(tx);
            let known = self.provisioned_one(admin, id).await?;
            if known.active {
                return Err(uniqueness(&format!(
                    "externalId `{external_id}` is known here already"
                )));
            }
            self.enable_principal(admin, origin, id).await?;
            return self.provisioned_one(admin, id).await;
        }
        let name =
            name_from(user_name).map_err(|fault| Error::invalid("userName", fault.to_string()))?;
        let id = match tx.create_person(issuer, &name, now).await {
            Err(e) if e.is_constraint(NAME_TAKEN) => {
                let what = format!(
                    "the name `{name}` is somebody else's here: link them with `pgvalet person link person:{name} --issuer {issuer} --subject '{external_id}'`"
                );
                return Err(uniqueness(&what));
            }
            made => made?,
        };
        match tx.add_identity((issuer, external_id), id, Some(user_name), now).await {
            Err(e) if e.is_constraint(KNOWN_AS) => {
                return Err(uniqueness(&format!(
                    "externalId `{external_id}` is known here already"
                )));
            }
            added => added?,
        }
        let event = Event::PersonRecorded {
            principal_id: id,
            principal: format!("person:{name}"),
            issuer: issuer.to_owned(),
            subject: external_id.to_owned(),
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.provisioned_one(admin, id).await
    }

    /// Changes what is said of somebody: in or out, and what they are called.
    ///
    /// # Errors
    /// If there is none, or they would become somebody else.
    pub async fn change_provisioned(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
        change: &Change,
    ) -> Result<Provisioned, Error> {
        let known = self.provisioned_one(admin, id).await?;
        if change.external_id.as_ref().is_some_and(|wanted| *wanted != known.external_id) {
            let message = "an externalId is one person's for ever: make another user";
            return Err(Error::invalid("externalId", message));
        }
        if let Some(user_name) = &change.user_name
            && *user_name != known.user_name
        {
            if user_name.is_empty() || user_name.len() > LONGEST_USER_NAME {
                let message = format!("one line of at most {LONGEST_USER_NAME} bytes");
                return Err(Error::invalid("userName", message));
            }
            let issuer = self.sign_ins()?.provider.issuer();
            let mut tx = self.store.begin().await?;
            tx.note_identity((issuer, &known.external_id), user_name, None).await?;
            let event = Event::IdentityRenamed {
                principal_id: id,
                issuer: issuer.to_owned(),
                subject: known.external_id.clone(),
                user_name: user_name.clone(),
            };
            tx.audit(&origin.entry(admin, self.clock.now(), event)).await?;
            tx.commit().await?;
        }
        match change.active {
            Some(false) => self.disable_principal(admin, origin, id).await?,
            Some(true) => self.enable_principal(admin, origin, id).await?,
            None => {}
        }
        self.provisioned_one(admin, id).await
    }
}

fn provisioned(identity: Identity) -> Provisioned {
    Provisioned {
        id: identity.principal_id,
        user_name: identity.user_name.unwrap_or_else(|| identity.subject.clone()),
        external_id: identity.subject,
        active: !identity.disabled,
        created_at: identity.created_at,
    }
}

fn uniqueness(what: &str) -> Error {
    Error::Conflict { code: "uniqueness", detail: what.to_owned() }
}
