//! What is asked of Slack: messages posted and changed, forms opened, answers sent. Only Slack's own hosts are ever
//! called ([`hosts`]); and of each call the one thing matters that most programs do not ask, whether it may have been
//! done although no good answer came: a message is posted once.

pub mod hosts;

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, header::RETRY_AFTER, redirect::Policy};
use serde_json::{Value, json};

use crate::{causes::causes, domain::slack::Message, secret::Secret, slack::hosts::Hosts};

/// Longer than any answer that is read.
const LONGEST_ANSWER: usize = 1 << 20;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long Slack is left alone that says "too many" without saying for how long.
const SOME_TIME: Duration = Duration::from_secs(30);

/// The longest that it can make us wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// By what we know messages of our own.
const EVENT: &str = "pgvalet";

/// The most messages that are looked through for one of our own.
const MOST_LOOKED_AT: &str = "200";

/// Speaks to Slack as our bot.
pub struct Client {
    http: reqwest::Client,
    hosts: Hosts,
    token: Secret<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// A call came to nothing, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was not looked at: too many calls.
    #[error("Slack wants to be left alone for {} s", .0.as_secs())]
    TooMany(Duration),
    /// It was refused.
    #[error("Slack refuses {method}: {code}")]
    Refused {
        /// What was called.
        method: &'static str,
        /// Slack's word for why.
        code: String,
    },
    /// It did not get there.
    #[error("Slack cannot be reached: {0}")]
    Unreached(String),
    /// It may have been done, or not.
    #[error("it is not known whether Slack did {method}: {why}")]
    Unknown {
        /// What was called.
        method: &'static str,
        /// What came instead of an answer.
        why: String,
    },
    /// The address is none of Slack's.
    #[error("answers are sent to Slack alone, and `{0}` is not there")]
    NotSlack(String),
}

impl Error {
    /// Is it certain that nothing was done?
    #[must_use]
    pub const fn did_nothing(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

/// Slack's words for "something went wrong here, and perhaps after it was done".
const PERHAPS_DONE: [&str; 4] =
    ["internal_error", "fatal_error", "service_unavailable", "request_timeout"];

/// Where a message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The channel.
    pub channel: String,
    /// Its time there, which is its name.
    pub ts: String,
}

impl Client {
    /// Speaks with this token, to these hosts.
    ///
    /// # Errors
    /// If there is no TLS to be had.
    #[expect(
        clippy::disallowed_methods,
        reason = "bounded in time and led nowhere else, as they are to be"
    )]
    pub fn new(hosts: Hosts, token: Secret<String>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none());
        Ok(Self { http: http.build()?, hosts, token })
    }

    /// Posts a message, as an answer to another if that is named. `mark` is what [`Client::find`] finds it by.
    ///
    /// # Errors
    /// If it was not posted, or that is not known.
    pub async fn post(
        &self,
        channel: &str,
        thread: Option<&str>,
        message: &Message,
        mark: &str,
    ) -> Result<Place, Error> {
        let method = "chat.postMessage";
        let body = json!({
            "channel": channel, "thread_ts": thread, "text": message.text, "blocks": message.blocks,
            // Nobody's link is fetched, by whoever it was written; nothing is read into plain text.
            "unfurl_links": false, "unfurl_media": false, "link_names": false, "parse": "none",
            "metadata": { "event_type": EVENT, "event_payload": { "mark": mark } },
        });
        let said = self.call(method, &body).await?;
        // A direct message is addressed to a person, and stands in a channel.
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("channel"), text("ts")) {
            (Some(channel), Some(ts)) => Ok(Place { channel, ts }),
            _ => Err(unknown(method, "it does not say where the message is")),
        }
    }

    /// Changes a message.
    ///
    /// # Errors
    /// If it was not changed, or that is not known: it can be changed again.
    pub async fn update(&self, place: &Place, message: &Message) -> Result<(), Error> {
        let body = json!({
            "channel": place.channel, "ts": place.ts, "text": message.text, "blocks": message.blocks,
            "link_names": false, "parse": "none",
        });
        self.call("chat.update", &body).await.map(drop)
    }

    /// Looks for a message of our own with this mark, posted since then.
    ///
    /// # Errors
    /// If Slack does not say.
    pub async fn find(
        &self,
        (channel, thread): (&str, Option<&str>),
        since: i64,
        mark: &str,
    ) -> Result<Option<Place>, Error> {
        let since = since.to_string();
        let mut query = vec![
            ("channel", channel),
            ("oldest", since.as_str()),
            ("inclusive", "true"),
            ("limit", MOST_LOOKED_AT),
            ("include_all_metadata", "true"),
        ];
        let method = match thread {
            Some(thread) => {
                query.push(("ts", thread));
                "conversations.replies"
            }
            None => "conversations.history",
        };
        let request = self.http.get(self.hosts.api(method)).query(&query);
        let said = self.send(method, request).await?;
        let messages = said.get("messages").and_then(Value::as_array);
        let messages = messages.ok_or_else(|| unknown(method, "it shows no messages"))?;
        let is_ours = |message: &&Value| {
            message.pointer("/metadata/event_type").and_then(Value::as_str) == Some(EVENT)
                && message.pointer("/metadata/event_payload/mark").and_then(Value::as_str)
                    == Some(mark)
        };
        let ts = messages.iter().find(is_ours).and_then(|message| message.get("ts"));
        let place = |ts: &str| Place { channel: channel.to_owned(), ts: ts.to_owned() };
        Ok(ts.and_then(Value::as_str).map(place))
    }

    /// The channel in which the bot and a person write to each other.
    ///
    /// # Errors
    /// If there is none.
    pub async fn direct(&self, user: &str) -> Result<String, Error> {
        let method = "conversations.open";
        let said = self.call(method, &json!({ "users": user })).await?;
        let channel = said.pointer("/channel/id").and_then(Value::as_str);
        channel.map(str::to_owned).ok_or_else(|| unknown(method, "it names no channel"))
    }

    /// Opens a form for whoever clicked or wrote, within three seconds of it.
    ///
    /// # Errors
    /// If it is too late, or Slack does not answer.
    pub async fn open_form(&self, trigger: &str, view: &Value) -> Result<(), Error> {
        self.call("views.open", &json!({ "trigger_id": trigger, "view": view })).await.map(drop)
    }

    /// Answers where Slack said, so that only they see it who asked.
    ///
    /// # Errors
    /// If the address is none of Slack's, or Slack does not take it.
    pub async fn answer(&self, reply_to: &str, message: &Message) -> Result<(), Error> {
        let Some(url) = self.hosts.answer(reply_to) else {
            return Err(Error::NotSlack(reply_to.chars().take(100).collect()));
        };
        let body = json!({
            "response_type": "ephemeral", "replace_original": false,
            "text": message.text, "blocks": message.blocks,
        });
        // The address is the proof; the bot's token has no business there.
        let method = "response_url";
        let (status, _, body) = ask(method, self.http.post(url).json(&body)).await?;
        if status.is_success() {
            return Ok(());
        }
        let code: String = String::from_utf8_lossy(&body).chars().take(100).collect();
        Err(Error::Refused { method, code: format!("{status} {code}") })
    }

    async fn call(&self, method: &'static str, body: &Value) -> Result<Value, Error> {
        self.send(method, self.http.post(self.hosts.api(method)).json(body)).await
    }

    async fn send(&self, method: &'static str, request: RequestBuilder) -> Result<Value, Error> {
        let request = request.bearer_auth(self.token.expose());
        let (status, wait, body) = ask(method, request).await?;
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Error::TooMany(wait.unwrap_or(SOME_TIME).min(LONGEST_WAIT)));
        }
        if !status.is_success() {
            return Err(unknown(method, &format!("it answers {status}")));
        }
        let said: Value = serde_json::from_slice(&body)
            .map_err(|_| unknown(method, "what it answers is no JSON"))?;
        match (said.get("ok"), said.get("error").and_then(Value::as_str)) {
            (Some(Value::Bool(true)), _) => Ok(said),
            (Some(Value::Bool(false)), Some("ratelimited" | "rate_limited")) => {
                Err(Error::TooMany(wait.unwrap_or(SOME_TIME).min(LONGEST_WAIT)))
            }
            (Some(Value::Bool(false)), Some(code)) if !PERHAPS_DONE.contains(&code) => {
                Err(Error::Refused { method, code: code.chars().take(100).collect() })
            }
            (_, code) => Err(unknown(method, code.unwrap_or("it does not say"))),
        }
    }
}

fn unknown(method: &'static str, why: &str) -> Error {
    Error::Unknown { method, why: why.to_owned() }
}

async fn ask(
    method: &'static str,
    request: RequestBuilder,
) -> Result<(StatusCode, Option<Duration>, Vec<u8>), Error> {
    let mut answer = request.send().await.map_err(|error| {
        // The address of an answer lets its bearer write there: it is not told.
        let error = error.without_url();
        if error.is_connect() {
            Error::Unreached(causes(&error))
        } else {
            unknown(method, &causes(&error))
        }
    })?;
    let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = wait.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let mut body = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| unknown(method, &causes(&error.without_url())))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            return Err(unknown(method, "the answer is too long"));
        }
    }
    Ok((answer.status(), wait, body))
}
