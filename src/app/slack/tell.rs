//! What the channel and whoever asked are told. A notice only says that there is news of something: what is told is
//! rendered from the truth at this moment, so that what comes late is not wrong.
//!
//! A message is posted once. Slack cannot be asked to do a thing once, so we note that we are about to post; and
//! after an answer that did not come, Slack is asked whether the message is there before it is posted again.

use aws_lc_rs::digest::{SHA256, digest};
use chrono::TimeDelta;

use crate::{
    app::{App, error::Error, slack::Slack},
    domain::{
        approval::InChat,
        notice::Notice,
        profile::Preset,
        request::{Request, State, Verdict},
        slack::{
            Message, answer,
            message::{Buttons, Said, Shown, Stands},
        },
    },
    ids::{AccessRequestId, NoticeId},
    notify::Sent,
    slack::{self, Place},
    store::chat::{ClaimedMessage, Outcome},
};

/// How long a message is ours: longer than the calls that it takes.
const CLAIM: TimeDelta = TimeDelta::seconds(30);

/// So long after it was begun to be posted, a message is there or never will be.
const SETTLES: TimeDelta = TimeDelta::seconds(5);

/// Slack's clock and ours, and a little.
const SLACK_IN_CLOCKS: i64 = 300;

/// Slack's words for a message that is not there to be changed: somebody removed it, and that is their business.
const NOT_TO_BE_CHANGED: [&str; 4] =
    ["message_not_found", "cant_update_message", "edit_window_closed", "is_inactive"];

/// The part of what is said about a request that shows it in the channel, and is changed.
const IN_CHANNEL: &str = "request";

/// Where a message goes.
enum To<'a> {
    /// The channel.
    Channel,
    /// Somebody.
    Person(&'a str),
    /// The thread of the message in the channel.
    Thread(&'a str),
}

/// Why a message is not told yet.
#[derive(Debug)]
enum NotYet {
    Slack(slack::Error),
    Ours(Error),
    /// Another daemon is at it.
    Claimed,
}

impl From<slack::Error> for NotYet {
    fn from(error: slack::Error) -> Self {
        Self::Slack(error)
    }
}

impl<E: Into<Error>> From<E> for NotYet {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

impl App {
    /// Tells Slack of a notice: how the request stands that it is about, or the notice itself.
    pub(in crate::app) async fn tell_slack(&self, id: NoticeId, notice: &Notice) -> Sent {
        let Some(slack) = &self.slack else {
            return Sent::Never { why: "there is no [slack] in the settings".to_owned() };
        };
        let request = notice.facts.get("request_id").and_then(|id| id.parse().ok());
        let told = match request {
            Some(request) => self.tell_request(slack, request).await,
            None => self.tell_notice(slack, id, notice).await,
        };
        match told {
            Ok(()) => Sent::Told,
            Err(NotYet::Claimed) => {
                Sent::Later { why: "another daemon is at it".to_owned(), after: None }
            }
            Err(NotYet::Slack(slack::Error::TooMany(wait))) => {
                Sent::Later { why: "Slack wants to be left alone".to_owned(), after: Some(wait) }
            }
            Err(NotYet::Slack(error)) => Sent::Later { why: error.to_string(), after: None },
            Err(NotYet::Ours(error)) => Sent::Later { why: error.to_string(), after: None },
        }
    }
}

impl App {
    /// Makes the channel say how a request stands, and tells whoever asked once it is decided.
    async fn tell_request(&self, slack: &Slack, id: AccessRequestId) -> Result<(), NotYet> {
        let Some(request) = self.store.request(id).await? else { return Ok(()) };
        let request = request.at(self.clock.now());
        let profile = self.profile_of_request(&request).await?;
        let description = profile.as_ref().map_or("", |profile| profile.spec.description.as_str());
        let preset = profile.as_ref().map(|profile| profile.spec.preset);
        let shown = shown(&request, description, flags(&request, preset), self.request_page(id));
        let subject = id.to_string();
        self.say_it(slack, (&subject, IN_CHANNEL), &To::Channel, &shown.message()).await?;
        let (Some(told), true) = (shown.told(), is_news(&request)) else { return Ok(()) };
        let part = format!("told {}", request.state.as_str());
        if let Some(user) = self.account_of(slack, &request).await? {
            match self.say_it(slack, (&subject, &part), &To::Person(&user), &told).await {
                // They left Slack, or want no messages of ours: then it is said where they asked.
                Err(NotYet::Slack(slack::Error::Refused { code, .. })) => {
                    tracing::info!(code, "somebody could not be told directly in Slack");
                }
                told => return told,
            }
        }
        let place = self.store.chat_message_place(&subject, IN_CHANNEL).await?;
        let Some((_, ts)) = place else { return Ok(()) };
        self.say_it(slack, (&subject, &part), &To::Thread(&ts), &told).await
    }

    async fn tell_notice(
        &self,
        slack: &Slack,
        id: NoticeId,
        notice: &Notice,
    ) -> Result<(), NotYet> {
        let page = self.link(notice);
        let message = answer::notice(&notice.title, &notice.text, page.as_deref());
        self.say_it(slack, (&id.to_string(), "notice"), &To::Channel, &message).await
    }

    /// The account of whoever asked, in one of the workspaces that are listened to.
    async fn account_of(&self, slack: &Slack, request: &Request) -> Result<Option<String>, Error> {
        let known = self.store.identities_of(request.principal_id).await?;
        let is_here = |issuer: &str| {
            let team = issuer.strip_prefix(crate::domain::slack::ISSUER);
            team.is_some_and(|team| slack.teams.iter().any(|ours| ours == team))
        };
        let theirs =
            known.into_iter().find(|identity| is_here(&identity.issuer) && !identity.disabled);
        Ok(theirs.map(|identity| identity.subject))
    }

    /// Makes a message say this: posted if it is not there, changed if it says something else.
    async fn say_it(
        &self,
        slack: &Slack,
        what: (&str, &str),
        to: &To<'_>,
        message: &Message,
    ) -> Result<(), NotYet> {
        let now = self.clock.now();
        let claimed = self.store.claim_chat_message(what, (now, now + CLAIM)).await?;
        let claimed = claimed.ok_or(NotYet::Claimed)?;
        let said = hash_of(message);
        let done = self.make_so(slack, &claimed, to, (message, &said)).await;
        let outcome = match &done {
            Ok(place) => {
                Outcome::Stands { channel: &place.channel, ts: &place.ts, said: Some(&said) }
            }
            Err((Some(place), _)) => {
                Outcome::Stands { channel: &place.channel, ts: &place.ts, said: None }
            }
            Err((None, NotYet::Slack(error)))
                if error.did_nothing() && claimed.tried_at.is_none() =>
            {
                Outcome::NotPosted
            }
            Err((None, _)) => Outcome::AsBefore,
        };
        self.store.give_chat_message_back(&claimed, outcome).await?;
        done.map(drop).map_err(|(_, why)| why)
    }

    /// Gives where the message stands that says this now; or, with why not, where one stands that does not.
    async fn make_so(
        &self,
        slack: &Slack,
        claimed: &ClaimedMessage,
        to: &To<'_>,
        (message, said): (&Message, &[u8]),
    ) -> Result<Place, (Option<Place>, NotYet)> {
        let placed = claimed.place.clone().map(|(channel, ts)| Place { channel, ts });
        let place = match placed {
            Some(place) => place,
            None => match self
                .post_once(slack, claimed, to, message)
                .await
                .map_err(|why| (None, why))?
            {
                Posting::Now(place) => return Ok(place),
                Posting::Before(place) => place,
            },
        };
        // What was told to somebody was true then; the message of the channel is kept true.
        if claimed.said.as_deref() == Some(said) || claimed.part != IN_CHANNEL {
            return Ok(place);
        }
        match slack.client.update(&place, message).await {
            Ok(()) => Ok(place),
            Err(slack::Error::Refused { code, .. })
                if NOT_TO_BE_CHANGED.contains(&code.as_str()) =>
            {
                tracing::warn!(code, "a message in Slack is not there to be changed");
                Ok(place)
            }
            Err(error) => Err((Some(place), error.into())),
        }
    }

    async fn post_once(
        &self,
        slack: &Slack,
        claimed: &ClaimedMessage,
        to: &To<'_>,
        message: &Message,
    ) -> Result<Posting, NotYet> {
        let (channel, thread) = match to {
            To::Channel => (slack.channel.clone(), None),
            To::Person(user) => (slack.client.direct(user).await?, None),
            To::Thread(ts) => (slack.channel.clone(), Some(*ts)),
        };
        let mark = format!("{} {}", claimed.subject, claimed.part);
        if let Some(tried_at) = claimed.tried_at {
            // Not given back meanwhile: to wait is no failure, after which Slack would be left alone for longer.
            if let Ok(left) = (tried_at + SETTLES - self.clock.now()).to_std() {
                tokio::time::sleep(left).await;
            }
            let since = tried_at.timestamp() - SLACK_IN_CLOCKS;
            if let Some(place) = slack.client.find((&channel, thread), since, &mark).await? {
                return Ok(Posting::Before(place));
            }
        }
        // As late as this: what came before took its time, and both our claim and what settles are counted from now.
        if !self.store.begin_chat_message(claimed, self.clock.now()).await? {
            return Err(NotYet::Claimed);
        }
        Ok(Posting::Now(slack.client.post(&channel, thread, message, &mark).await?))
    }
}

/// Where a message stands.
enum Posting {
    /// It was posted now, and says what it should.
    Now(Place),
    /// It was there.
    Before(Place),
}

/// Is it something that whoever asked did not do themselves?
const fn is_news(request: &Request) -> bool {
    matches!(request.state, State::Approved | State::Denied | State::Lapsed | State::Failed)
}

fn hash_of(message: &Message) -> Vec<u8> {
    let text = serde_json::to_vec(&(&message.text, &message.blocks)).unwrap_or_default();
    digest(&SHA256, &text).as_ref().to_vec()
}

/// What to be careful about.
fn flags(request: &Request, preset: Option<Preset>) -> Vec<&'static str> {
    let mut flags = Vec::new();
    if request.environment.to_lowercase().starts_with("prod") {
        flags.push("production");
    }
    match preset {
        Some(Preset::Readwrite) => flags.push("writes"),
        Some(Preset::Admin) => flags.push("owns the schemas"),
        Some(Preset::BreakGlass) => flags.push("for emergencies"),
        Some(Preset::Readonly | Preset::Custom) | None => {}
    }
    if request.extends.is_some() {
        flags.push("makes a lease longer that is there");
    }
    flags
}

fn shown<'a>(
    request: &'a Request,
    description: &'a str,
    flags: Vec<&'static str>,
    page: String,
) -> Shown<'a> {
    let said = request.votes.iter().map(|vote| Said {
        principal: &vote.principal,
        agreed: vote.verdict == Verdict::Agreed,
        is_void: vote.void_at.is_some(),
        comment: vote.comment.as_deref(),
        at: vote.at,
    });
    Shown {
        id: request.id,
        principal: &request.principal,
        tool: &request.tool,
        profile: &request.profile,
        description,
        target: &request.target,
        environment: &request.environment,
        database: &request.database,
        ttl: request.length(),
        start_at: request.start_at,
        claim_by: match request.state {
            State::Pending => Some(request.use_by(request.lapse_at)),
            State::Approved => request.use_by,
            _ => None,
        },
        reason: request.reason.as_deref(),
        ticket: request.ticket.as_deref(),
        flags,
        needs: request.needs.in_words(),
        said: said.collect(),
        stands: match request.state {
            State::Pending => Stands::Waits(request.lapse_at),
            State::Approved => Stands::Approved(request.use_by),
            State::Denied => Stands::Over("denied"),
            State::Withdrawn => Stands::Over("withdrawn"),
            State::Lapsed => Stands::Over("lapsed"),
            State::Claimed => Stands::Over("claimed"),
            State::Failed => Stands::Over("failed"),
        },
        buttons: match request.needs.in_chat {
            InChat::Buttons => Buttons::Here,
            InChat::Link => Buttons::OnThePage,
        },
        page,
    }
}
