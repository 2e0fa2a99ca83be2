//! What somebody wrote, clicked or sent at Slack, done as the person whose account it is: by the same use cases as
//! everywhere, which decide what they may. A form must be opened within three seconds of the click, so it is opened
//! first, and whoever sends it is asked who they are.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    app::{
        App, LeaseFilter,
        error::Error,
        requests::{Agreement, Outcome, Wished},
        slack::{Delivery, Slack},
    },
    domain::{
        access::{self, Asked},
        lease,
        profile::Reason,
        request::{Request, State},
        slack::{
            Message,
            answer::{self, ListedLease, ListedRequest},
            command::{Command, Wanted},
            incoming::Wish,
            modal,
        },
    },
    identity::Caller,
    ids::{AccessRequestId, LeaseId},
    slack,
};

/// How long one may take: people do not wait longer. What hangs (our database, Slack) is given up, and that is said.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long is looked for the profiles that a form offers: it can be opened for three seconds in all.
const LOOKED_UP_WITHIN: Duration = Duration::from_secs(1);

/// The tool that asks, if they name none.
const TOOL: &str = "slack";

/// Leases and requests of one person that are looked through.
const MOST: i64 = 50;

/// How often an answer is sent that does not arrive, and the wait in between.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(1);

impl App {
    /// Does what Slack sent, and says what came of it where Slack said.
    pub async fn act_on(&self, delivery: &Delivery) {
        let Some(slack) = &self.slack else { return };
        let said = match tokio::time::timeout(PATIENCE, self.do_it(slack, delivery)).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => {
                let named = &error as &dyn std::error::Error;
                tracing::info!(error = named, "something that Slack sent was not done");
                Some(answer::sorry(&words(&error)))
            }
            Err(_) => {
                tracing::warn!("something that Slack sent took too long and was given up");
                let words = "pgvalet could not do that in time, and does not know what became of it: look with `/pgvalet mine`, and try again in a minute";
                Some(answer::sorry(words))
            }
        };
        if let (Some(said), Some(reply_to)) = (said, &delivery.signed.said().reply_to) {
            say(&slack.client, reply_to, &said).await;
        }
    }

    async fn do_it(&self, slack: &Slack, delivery: &Delivery) -> Result<Option<Message>, Error> {
        let said = delivery.signed.said();
        match &said.wish {
            Wish::Nothing => return Ok(None),
            Wish::Command(Command::Help) => return Ok(Some(answer::help())),
            Wish::Command(Command::Unclear(why)) => return Ok(Some(answer::unclear(why))),
            Wish::AskWhyNot(request) => {
                let form = modal::denial(*request, said.reply_to.as_deref());
                return Ok(self.open_form(slack, delivery, &form).await.err());
            }
            _ => {}
        }
        let account = &delivery.signed.account();
        let known = self.store.principal_vouched_for(&account.issuer(), &account.user).await?;
        let caller = match known {
            None => {
                let link = self.offer_link(&delivery.signed).await?;
                return Ok(Some(answer::stranger(&link)));
            }
            Some((_, true)) => {
                let words = "you are disabled here: ask an administrator";
                return Ok(Some(answer::sorry(words)));
            }
            Some((principal, false)) => Caller::by_slack(&delivery.signed, principal),
        };
        if !self.signed_in_lately(slack, &caller).await? {
            return Ok(Some(answer::sign_in_again(self.own_address().unwrap_or_default())));
        }
        self.do_for(slack, &caller, delivery).await
    }

    /// Did they sign in at the provider lately? It tells us who has left; of somebody who never comes, nobody does.
    async fn signed_in_lately(&self, slack: &Slack, caller: &Caller) -> Result<bool, Error> {
        let provider = self.sign_ins()?.issuer();
        let now = self.clock.now();
        let known = self.store.identities_of(caller.principal().id).await?;
        let mut seen = known.iter().filter(|identity| identity.issuer == provider);
        let is_lately = |at: DateTime<Utc>| now - at < slack.sign_in_every;
        Ok(seen.any(|identity| identity.last_seen_at.is_some_and(is_lately)))
    }

    async fn do_for(
        &self,
        slack: &Slack,
        caller: &Caller,
        delivery: &Delivery,
    ) -> Result<Option<Message>, Error> {
        let origin = &delivery.origin;
        match &delivery.signed.said().wish {
            Wish::Command(Command::Ask(wanted)) | Wish::Form(wanted) => {
                self.ask_for(slack, caller, delivery, wanted).await
            }
            Wish::Command(Command::Form(wanted)) => {
                self.show_form(slack, caller, delivery, wanted).await
            }
            Wish::Command(Command::Mine) => self.what_they_have(caller).await.map(Some),
            Wish::Command(Command::GiveBack(lease)) => {
                self.give_a_lease_back(caller, delivery, *lease).await.map(Some)
            }
            Wish::Command(Command::Withdraw(request)) => {
                self.take_back(caller, delivery, *request).await.map(Some)
            }
            Wish::Approve(id) => {
                let request = self.approve(caller, origin, *id, Agreement::default()).await?;
                Ok(Some(decided(&request)))
            }
            Wish::Deny(id, comment) => {
                let comment = comment.as_deref().unwrap_or_default();
                let request = self.deny(caller, origin, *id, comment).await?;
                Ok(Some(decided(&request)))
            }
            Wish::Command(Command::Help | Command::Unclear(_))
            | Wish::AskWhyNot(_)
            | Wish::Nothing => Ok(None),
        }
    }

    async fn ask_for(
        &self,
        slack: &Slack,
        caller: &Caller,
        delivery: &Delivery,
        wanted: &Wanted,
    ) -> Result<Option<Message>, Error> {
        let wish = access::Wish {
            profile: &wanted.profile,
            ttl: wanted.ttl.as_deref(),
            tool: Some(TOOL),
            reason: wanted.reason.clone(),
            ticket: wanted.ticket.clone(),
            ..access::Wish::default()
        };
        let asked = Asked::check(wish).map_err(Error::Invalid)?;
        let profile = self.profile(caller, &asked.profile).await?;
        if profile.spec.conditions.approval.is_none() {
            return Ok(Some(answer::at_once(asked.profile.as_str(), &flags(&asked))));
        }
        let lacks =
            |needed: Reason, given: &Option<String>| needed == Reason::Required && given.is_none();
        let is_short = lacks(profile.spec.reason, &asked.reason)
            || lacks(profile.spec.conditions.ticket, &asked.ticket);
        if is_short && matches!(delivery.signed.said().wish, Wish::Command(_)) {
            return self.show_form(slack, caller, delivery, wanted).await;
        }
        let name = asked.profile.to_string();
        let key = format!("slack {}", delivery.signed.said().key);
        match self.ask(caller, &delivery.origin, asked, Some(&key)).await? {
            Outcome::Waits(request) => Ok(Some(self.stands(&request))),
            Outcome::Issued(answer) => {
                // Nobody has to agree any more, as of this moment. A credential has no way from here.
                self.revoke(caller, &delivery.origin, answer.lease.id).await?;
                Ok(Some(answer::at_once(&name, "")))
            }
        }
    }

    /// What somebody is told who has a request open.
    fn stands(&self, request: &Request) -> Message {
        let page = self.request_page(request.id);
        match request.state {
            State::Approved => answer::claimable(request.id, &page),
            State::Pending => answer::waits(request.id, &page, request.lapse_at),
            _ => answer::noted(&format!(
                "Your request {} is {}.",
                request.id,
                request.state.as_str()
            )),
        }
    }

    async fn show_form(
        &self,
        slack: &Slack,
        caller: &Caller,
        delivery: &Delivery,
        wanted: &Wanted,
    ) -> Result<Option<Message>, Error> {
        let offered = tokio::time::timeout(LOOKED_UP_WITHIN, self.profiles(caller)).await;
        let profiles: Vec<String> = match offered {
            Ok(Ok(profiles)) => profiles
                .iter()
                .filter(|profile| profile.spec.conditions.approval.is_some())
                .map(|profile| profile.spec.name.to_string())
                .collect(),
            _ => Vec::new(),
        };
        let form = modal::asking(wanted, &profiles, delivery.signed.said().reply_to.as_deref());
        Ok(self.open_form(slack, delivery, &form).await.err())
    }

    /// Opens a form; or says that it could not.
    async fn open_form(
        &self,
        slack: &Slack,
        delivery: &Delivery,
        form: &Value,
    ) -> Result<(), Message> {
        let Some(trigger) = &delivery.signed.said().trigger else {
            return Err(answer::sorry("Slack gave no way to open a form: try again"));
        };
        slack.client.open_form(trigger, form).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not open a form in Slack");
            answer::sorry("Slack did not open the form: try again, or write all of it, such as `/pgvalet shop-read 30m because INC-123`")
        })
    }

    async fn what_they_have(&self, caller: &Caller) -> Result<Message, Error> {
        let requests = self.open_requests(caller).await?;
        let leases = self.live_leases(caller).await?;
        let requests: Vec<ListedRequest<'_>> = requests
            .iter()
            .map(|request| ListedRequest {
                id: request.id,
                profile: &request.profile,
                state: request.state.as_str(),
                until: request.use_by.unwrap_or(request.lapse_at),
            })
            .collect();
        let leases: Vec<ListedLease<'_>> = leases
            .iter()
            .map(|lease| ListedLease {
                id: lease.id,
                profile: lease.profile.as_str(),
                until: lease.expires_at,
            })
            .collect();
        Ok(answer::mine(&requests, &leases))
    }

    async fn open_requests(&self, caller: &Caller) -> Result<Vec<Request>, Error> {
        let wished = Wished {
            own: true,
            states: Some(vec![State::Pending, State::Approved]),
            ..Wished::default()
        };
        self.requests(caller, &wished, None, MOST).await
    }

    async fn live_leases(&self, caller: &Caller) -> Result<Vec<lease::Lease>, Error> {
        let filter = LeaseFilter {
            principal_id: Some(caller.principal().id),
            states: Some(vec![lease::State::Provisioning, lease::State::Active]),
            ..LeaseFilter::default()
        };
        self.leases(caller, filter, None, MOST).await
    }

    async fn give_a_lease_back(
        &self,
        caller: &Caller,
        delivery: &Delivery,
        named: Option<LeaseId>,
    ) -> Result<Message, Error> {
        let id = match named {
            Some(id) => id,
            None => match only(&self.live_leases(caller).await?, ("live", "leases")) {
                Ok(lease) => lease.id,
                Err(said) => return Ok(said),
            },
        };
        self.revoke(caller, &delivery.origin, id).await?;
        Ok(answer::given_back(id))
    }

    async fn take_back(
        &self,
        caller: &Caller,
        delivery: &Delivery,
        named: Option<AccessRequestId>,
    ) -> Result<Message, Error> {
        let id = match named {
            Some(id) => id,
            None => match only(&self.open_requests(caller).await?, ("open", "requests")) {
                Ok(request) => request.id,
                Err(said) => return Ok(said),
            },
        };
        self.withdraw(caller, &delivery.origin, id).await?;
        Ok(answer::noted(&format!("Your request {id} is withdrawn.")))
    }

    /// Where a request is looked at, decided and claimed.
    pub(in crate::app) fn request_page(&self, id: AccessRequestId) -> String {
        format!("{}/requests/{id}", self.own_address().unwrap_or_default())
    }
}

/// The one that is meant by somebody who names none; or what they are told who have none, or several.
fn only<'a, T>(all: &'a [T], (how, what): (&str, &str)) -> Result<&'a T, Message> {
    match all {
        [] => Err(answer::noted(&format!("You have no {how} {what}."))),
        [only] => Ok(only),
        _ => {
            let words = format!("you have several {what}: name one, as `/pgvalet mine` shows them");
            Err(answer::unclear(&words))
        }
    }
}

/// What is wrong, in words for whoever wrote.
fn words(error: &Error) -> String {
    match error {
        Error::Invalid(faults) => {
            let one = |fault: &access::Fault| format!("`{}`: {}", fault.field, fault.message);
            faults.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        error => error.detail(),
    }
}

/// What whoever decided is told: how it stands now.
fn decided(request: &Request) -> Message {
    let id = request.id;
    answer::noted(&match request.state {
        State::Pending => format!("You agreed to {id}. More have to."),
        state => format!("{id} is {} now.", state.as_str()),
    })
}

/// The flags of the command line that say the same.
fn flags(asked: &Asked) -> String {
    let ttl = asked.ttl.map(|ttl| format!(" --ttl {}", ttl.to_string().replace(' ', "")));
    let quoted = |text: &String| format!("'{}'", text.replace('\'', r"'\''"));
    let reason = asked.reason.as_ref().map(|reason| format!(" --reason {}", quoted(reason)));
    let ticket = asked.ticket.as_ref().map(|ticket| format!(" --ticket {}", quoted(ticket)));
    [ttl, reason, ticket].into_iter().flatten().collect()
}

/// Sends an answer. One that does not arrive is sent again for a little while: there is nobody to tell that.
async fn say(client: &slack::Client, reply_to: &str, message: &Message) {
    for turn in 1..=TRIES {
        let error = match client.answer(reply_to, message).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let will_do_later = match &error {
            slack::Error::TooMany(wait) => Some((*wait).min(PATIENCE)),
            slack::Error::Unreached(_) => Some(BETWEEN * turn),
            // It may have arrived: twice is worse than never, for an answer.
            slack::Error::Unknown { .. }
            | slack::Error::Refused { .. }
            | slack::Error::NotSlack(_) => None,
        };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an answer did not arrive at Slack"
        );
        match will_do_later {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return,
        }
    }
}
