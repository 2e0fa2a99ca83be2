//! How others are told: the channels, and what came of sending a notice to one.
//!
//! A channel is told at least once. What was sent and not recorded as told, because the daemon was killed in between, is
//! sent again under the same id, by which a receiver can tell.

pub mod mail;
pub mod webhook;

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use tokio::sync::Notify;

use crate::{
    config::{NoticesConfig, SlackConfig},
    domain::notice::{ChannelName, Topic},
    notify::{
        mail::{Mail, Server},
        webhook::Webhook,
    },
};

/// One place that is told.
#[derive(Debug)]
pub struct Channel {
    /// What it is called.
    pub name: ChannelName,
    /// What it is told of; everything, if none.
    pub topics: Option<Vec<Topic>>,
    /// How long a notice that does not arrive is sent again.
    pub give_up_after: TimeDelta,
    /// How it is told.
    pub way: Way,
    /// Wakes whoever sends to it.
    pub waker: Arc<Notify>,
}

/// How a channel is told.
#[derive(Debug)]
pub enum Way {
    /// By a signed POST.
    Webhook(Webhook),
    /// By mail.
    Mail(Mail),
    /// By Slack, which needs more than the notice (`app/slack.rs`).
    Slack,
}

/// What came of sending a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It was taken.
    Told,
    /// It was not; it is sent again.
    Later {
        /// What stood in the way. No text of the receiver's.
        why: String,
        /// Not before this long, says the receiver.
        after: Option<Duration>,
    },
    /// It never will be.
    Never {
        /// Why not.
        why: String,
    },
}

/// A channel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A webhook.
    #[error("could not make what webhook `{0}` is posted with")]
    Webhook(String, #[source] reqwest::Error),
    /// Mail.
    #[error("could not make what mail is sent with")]
    Mail(#[source] lettre::transport::smtp::Error),
}

/// The channels of the settings. Nothing is connected to yet.
///
/// # Errors
/// If one cannot be used.
pub fn channels(config: &NoticesConfig) -> Result<Vec<Arc<Channel>>, Unusable> {
    let give_up_after = TimeDelta::from_std(config.give_up_after).unwrap_or(TimeDelta::MAX);
    let channel = |name, topics: &Option<Vec<Topic>>, way| {
        let (topics, waker) = (topics.clone(), Arc::default());
        Arc::new(Channel { name, topics, give_up_after, way, waker })
    };
    let mut all = Vec::new();
    for webhook in &config.webhooks {
        let name = ChannelName::Webhook(webhook.name.clone());
        let made = Webhook::new(webhook)
            .map_err(|error| Unusable::Webhook(webhook.name.to_string(), error))?;
        all.push(channel(name, &webhook.topics, Way::Webhook(made)));
    }
    if let Some(mail) = &config.mail {
        let server = Arc::new(Server::new(mail).map_err(Unusable::Mail)?);
        for recipient in &mail.to {
            let (server, to) = (Arc::clone(&server), recipient.address.clone());
            let name = ChannelName::Mail(to.to_string());
            all.push(channel(name, &recipient.topics, Way::Mail(Mail { server, to })));
        }
    }
    Ok(all)
}

/// The channel of Slack, where it is set up.
#[must_use]
pub fn slack(config: &SlackConfig, give_up_after: Duration) -> Arc<Channel> {
    Arc::new(Channel {
        name: ChannelName::Slack,
        topics: Some(config.topics.clone()),
        give_up_after: TimeDelta::from_std(give_up_after).unwrap_or(TimeDelta::MAX),
        way: Way::Slack,
        waker: Arc::default(),
    })
}

impl Channel {
    /// Is it told of this? Of emergencies every channel is.
    #[must_use]
    pub fn wants(&self, topic: Topic) -> bool {
        topic == Topic::Emergencies
            || self.topics.as_ref().is_none_or(|topics| topics.contains(&topic))
    }
}
