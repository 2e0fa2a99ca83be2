//! A Slack to try pgvalet with, and for its tests: a real server that answers the part of the Web API which we use, and
//! signs what it sends as Slack does. It takes what Slack takes and refuses what Slack refuses (texts that are too
//! long, triggers that are too old, answers that are too many), and can be told to be slow, broken, or gone.
//!
//! Its page looks and clicks like a channel, as whomever one likes: there is no signing in, so it listens on this
//! machine alone.

pub mod acts;
mod api;
mod looks;
mod page;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

use crate::{clock::Clock, identity::slack::Signing, rng, secret::Secret};

/// The workspace.
pub const TEAM: &str = "T0PLAYGROUND";

/// Its one channel.
pub const CHANNEL: &str = "C0ACCESS";

/// Who is there: their ids, and what they are called.
pub const PEOPLE: [(&str, &str); 3] = [("U0ADA", "ada"), ("U0GUS", "gus"), ("U0MIA", "mia")];

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// Too many calls: come again after so many seconds.
    TooMany(u64),
    /// 500, and nothing is done.
    Broken,
    /// 500, after it was done.
    BrokenAfterDoing,
    /// Something that is no JSON, and nothing is done.
    Garbage,
    /// Not at all, and nothing is done.
    Silent,
    /// It is done, and the answer breaks off.
    CutAfterDoing,
}

/// A message in a channel.
#[derive(Debug, Clone)]
pub struct Posted {
    /// The channel.
    pub channel: String,
    /// Its time, which is its name.
    pub ts: String,
    /// The message that it answers.
    pub thread: Option<String>,
    /// In one line.
    pub text: String,
    /// As it is shown.
    pub blocks: Vec<Value>,
    /// What its sender keeps with it.
    pub metadata: Value,
    /// How often it was changed.
    pub changes: u32,
}

/// A form that somebody has before them.
#[derive(Debug, Clone)]
pub struct Form {
    /// Its id.
    pub id: String,
    /// Who has it.
    pub user: String,
    /// What it is.
    pub view: Value,
}

/// A Slack that runs.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    signing: Signing,
    signing_secret: Secret<String>,
    bot_token: Secret<String>,
    /// Where commands and clicks are sent.
    pgvalet: OnceLock<String>,
    http: reqwest::Client,
    /// Something happened.
    changed: Notify,
    state: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    mood: Mood,
    /// How the next calls are answered, before `mood` counts again.
    moods: VecDeque<Mood>,
    count: u64,
    messages: Vec<Posted>,
    /// What only one person sees.
    answers: Vec<(String, Value)>,
    /// Whose, and from when.
    triggers: HashMap<String, (String, DateTime<Utc>)>,
    /// Whose, and how often it may still be used.
    answer_addresses: HashMap<String, (String, u32)>,
    forms: Vec<Form>,
    bodies: Vec<String>,
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Simulator {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// If there is no port, or no randomness.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is no part of the daemon: it ends with the value that is given back"
    )]
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let signing_secret = rng::token_secret()?;
        let bot_token = Secret::new(format!("xoxb-{}", rng::token_secret()?.expose()));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            signing: Signing::new(&signing_secret),
            signing_secret,
            bot_token,
            pgvalet: OnceLock::new(),
            http: http.build()?,
            changed: Notify::new(),
            state: Mutex::new(Inside {
                mood: Mood::Well,
                moods: VecDeque::new(),
                count: 0,
                messages: Vec::new(),
                answers: Vec::new(),
                triggers: HashMap::new(),
                answer_addresses: HashMap::new(),
                forms: Vec::new(),
                bodies: Vec::new(),
            }),
        });
        let router = router(&shared);
        let server = tokio::spawn(async move {
            // It ends when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { shared, server })
    }

    /// Its page.
    #[must_use]
    pub fn page(&self) -> String {
        format!("http://{}/", self.shared.address)
    }

    /// What a daemon's settings say of it.
    #[must_use]
    pub fn settings(&self) -> String {
        format!(
            "[slack]\nteams = [\"{TEAM}\"]\nchannel = \"{CHANNEL}\"\napi_url = \"{}api\"\nsigning_secret = \"{}\"\nbot_token = \"{}\"\n",
            self.page(),
            self.shared.signing_secret.expose(),
            self.shared.bot_token.expose()
        )
    }

    /// Says where pgvalet is: once.
    pub fn installed_at(&self, pgvalet: &str) {
        // A second word changes nothing.
        let _ = self.shared.pgvalet.set(pgvalet.trim_end_matches('/').to_owned());
    }

    /// How it answers from now on.
    pub fn is(&self, mood: Mood) {
        let mut inside = self.shared.inside();
        inside.moods.clear();
        inside.mood = mood;
    }

    /// How it answers the next calls; after them as it does now.
    pub fn is_next(&self, moods: &[Mood]) {
        self.shared.inside().moods.extend(moods);
    }

    /// The messages of a channel, in their order.
    #[must_use]
    pub fn messages(&self, channel: &str) -> Vec<Posted> {
        let inside = self.shared.inside();
        inside.messages.iter().filter(|message| message.channel == channel).cloned().collect()
    }

    /// The messages that the bot and somebody wrote to each other.
    #[must_use]
    pub fn direct_messages(&self, user: &str) -> Vec<Posted> {
        self.messages(&api::direct(user))
    }

    /// What only this person was answered, in its order.
    #[must_use]
    pub fn answers(&self, user: &str) -> Vec<Value> {
        let inside = self.shared.inside();
        let theirs = inside.answers.iter().filter(|(whose, _)| whose == user);
        theirs.map(|(_, answer)| answer.clone()).collect()
    }

    /// The forms that somebody has before them.
    #[must_use]
    pub fn forms(&self, user: &str) -> Vec<Form> {
        self.shared.inside().forms.iter().filter(|form| form.user == user).cloned().collect()
    }

    /// The bodies of all calls, one a line, those that it did not answer included.
    #[must_use]
    pub fn bodies(&self) -> String {
        self.shared.inside().bodies.join("\n")
    }
}

impl Shared {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// A name that nothing else has.
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn next_mood(&mut self) -> Mood {
        self.moods.pop_front().unwrap_or(self.mood)
    }

    fn next_ts(&mut self) -> String {
        let now = Clock.now().timestamp();
        format!("{now}.{:06}", self.next())
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    let calls = Router::new()
        .route("/api/{method}", post(api::call).get(api::ask))
        .route("/answers/{address}", post(api::answer))
        .layer(middleware::from_fn_with_state(Arc::clone(shared), api::in_its_mood));
    Router::new()
        .route("/", get(page::show))
        .route("/write", post(page::write))
        .route("/click", post(page::click))
        .route("/send", post(page::send))
        .merge(calls)
        .with_state(Arc::clone(shared))
}
