//! Slack: people ask, agree and look there; and the channel is told how requests stand.
//!
//! What Slack sends is taken in at once and done after: Slack waits three seconds for an answer, whatever our database
//! does. So nothing is awaited before that; what is done is told where Slack said, and what cannot be done as well.
//!
//! Slack sends some things twice, and people click twice. What counts is done once: a request is asked for under a key
//! that is the same for each delivery, and a decision is one by the state that it leaves. That the same answer is not
//! shown twice is a matter of looks, and of this daemon's memory alone.

mod act;
mod link;
mod tell;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use chrono::TimeDelta;
use tokio::sync::mpsc;

use crate::{
    app::{App, Origin},
    config::SlackConfig,
    identity::slack::{Fault, Kind, Signed, Signing},
    slack::Client,
};

/// What is taken in and waits to be done, at most.
const MOST_WAITING: usize = 256;

/// Deliveries that are remembered.
const MOST_REMEMBERED: usize = 1024;

/// Slack, as this daemon knows it.
pub struct Slack {
    client: Client,
    signing: Signing,
    /// The workspaces that are listened to.
    teams: Vec<String>,
    /// The channel in which requests are decided.
    channel: String,
    /// How long it counts that somebody signed in.
    sign_in_every: TimeDelta,
    inbox: mpsc::Sender<Delivery>,
    /// The other end, until a loop takes it.
    waiting: Mutex<Option<mpsc::Receiver<Delivery>>>,
    remembered: Mutex<VecDeque<String>>,
}

/// Something that Slack sent, to be done.
#[derive(Debug)]
pub struct Delivery {
    signed: Signed,
    origin: Origin,
}

/// What became of something that Slack sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It will be done, or was before.
    In,
    /// Too much waits already.
    Full,
}

/// Why something that came to Slack's address is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// There is no Slack in the settings.
    #[error("this daemon has no [slack] in its settings")]
    NoSlack,
    /// Slack did not sign it.
    #[error(transparent)]
    NotSigned(#[from] Fault),
    /// It is of another workspace.
    #[error("workspace {0} is not one of `teams` in [slack]")]
    Stranger(String),
}

impl Slack {
    /// Speaks through this client, listens to what is signed so, and does as the settings say.
    #[must_use]
    pub fn new(client: Client, signing: Signing, config: SlackConfig) -> Self {
        let (inbox, waiting) = mpsc::channel(MOST_WAITING);
        Self {
            client,
            signing,
            teams: config.teams,
            channel: config.channel,
            sign_in_every: TimeDelta::from_std(config.sign_in_every).unwrap_or(TimeDelta::MAX),
            inbox,
            waiting: Mutex::new(Some(waiting)),
            remembered: Mutex::default(),
        }
    }

    /// Is this the first delivery of it that is seen here?
    fn is_new(&self, key: &str) -> bool {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.iter().any(|seen| seen == key) {
            return false;
        }
        remembered.push_back(key.to_owned());
        if remembered.len() > MOST_REMEMBERED {
            remembered.pop_front();
        }
        true
    }

    fn forget(&self, key: &str) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|seen| seen != key);
    }
}

impl App {
    /// Takes in what Slack sent. Nothing is awaited: the answer must not wait for anybody.
    ///
    /// # Errors
    /// If Slack did not send it, or it is none of our workspaces'.
    pub fn take_in(
        &self,
        kind: Kind,
        headers: (Option<&str>, Option<&str>),
        body: &[u8],
        mut origin: Origin,
    ) -> Result<Taken, NotTaken> {
        let slack = self.slack.as_ref().ok_or(NotTaken::NoSlack)?;
        let Some(signed) = slack.signing.read(kind, headers, body, self.clock.now())? else {
            return Ok(Taken::In);
        };
        if !slack.teams.contains(&signed.account().team) {
            return Err(NotTaken::Stranger(signed.account().team.clone()));
        }
        let key = signed.said().key.clone();
        if !slack.is_new(&key) {
            return Ok(Taken::In);
        }
        // It comes from Slack's machines, which says nothing of where its person is.
        origin.source = None;
        if slack.inbox.try_send(Delivery { signed, origin }).is_err() {
            slack.forget(&key);
            return Ok(Taken::Full);
        }
        Ok(Taken::In)
    }

    /// What was taken in and waits, for the loop that does it. It is given out once; none without Slack.
    #[must_use]
    pub fn deliveries(&self) -> Option<mpsc::Receiver<Delivery>> {
        self.slack.as_ref()?.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
