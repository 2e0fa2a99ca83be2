//! Whose account at Slack it is. Nobody is found by a name or an address of mail, which workspaces give as they like:
//! a person signs in at the provider and says "this account is mine", through a link that the account was given.

use chrono::TimeDelta;

use crate::{
    app::{App, Author, Origin, error::Error, people::key_of},
    domain::{audit::Event, person::may_be_linked, session::Client},
    identity::{Caller, slack::Signed},
    rng,
    store::{chat::ChatLink, identities::KNOWN_AS},
};

/// How long a link holds.
const HOLDS: TimeDelta = TimeDelta::minutes(10);

/// Longer than any name at Slack.
const LONGEST_NAME: usize = 80;

impl App {
    /// The address at which the person of an account links it to themselves. It takes the place of the one before.
    pub(in crate::app) async fn offer_link(&self, signed: &Signed) -> Result<String, Error> {
        let code = rng::token_secret().map_err(Error::internal)?;
        let name = signed.said().user_name.chars().filter(|c| !c.is_control());
        let link = ChatLink {
            issuer: signed.account().issuer(),
            subject: signed.account().user.clone(),
            user_name: name.take(LONGEST_NAME).collect(),
        };
        let ends_at = self.clock.now() + HOLDS;
        self.store.add_chat_link(&key_of(code.expose()), &link, ends_at).await?;
        let here = self.own_address().unwrap_or_default();
        Ok(format!("{here}/slack/link?code={}", code.expose()))
    }

    /// The account that a link is for. To look at it uses nothing up: chats and scanners of mail look at links, too.
    ///
    /// # Errors
    /// If it does not hold any more.
    pub async fn slack_link(&self, code: &str) -> Result<ChatLink, Error> {
        let link = self.store.chat_link(&key_of(code), self.clock.now()).await?;
        link.ok_or_else(link_over)
    }

    /// Records that an account is the caller's, who signed in in a browser and says so. The link is used up.
    ///
    /// # Errors
    /// If the link does not hold, the account is somebody's, or the caller is no person in a browser.
    pub async fn link_slack(
        &self,
        caller: &Caller,
        origin: &Origin,
        code: &str,
    ) -> Result<ChatLink, Error> {
        let principal = caller.principal();
        if caller.session() != Some(Client::Browser) || !may_be_linked(principal.kind) {
            let detail =
                "an account at Slack is linked by its person, signed in in a browser".to_owned();
            return Err(Error::Conflict { code: "sign_in_to_link", detail });
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let link = tx.take_chat_link(&key_of(code), now).await?.ok_or_else(link_over)?;
        let known_as = (link.issuer.as_str(), link.subject.as_str());
        match tx.add_identity(known_as, principal.id, Some(&link.user_name), now).await {
            Ok(()) => {}
            Err(e) if e.is_constraint(KNOWN_AS) => {
                return Err(Error::Conflict {
                    code: "identity_taken",
                    detail: "this account at Slack is linked already, to you or to somebody else: an administrator sees to whom (`pgvalet person list`) and can unlink it".to_owned(),
                });
            }
            Err(e) => return Err(e.into()),
        }
        let event = Event::IdentityAdded {
            principal_id: principal.id,
            principal: principal.to_string(),
            issuer: link.issuer.clone(),
            subject: link.subject.clone(),
        };
        tx.audit(&Author::Caller(origin, caller).entry(now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(link)
    }
}

fn link_over() -> Error {
    Error::Conflict {
        code: "link_over",
        detail: "this link was used, or is older than ten minutes, or a newer one took its place: write `/pgvalet mine` in Slack for another one".to_owned(),
    }
}
