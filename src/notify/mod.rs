//! How others are told: the channels, and what came of sending a notice to one.
//!
//! A channel is told at least once. What was sent and not recorded as told, because the daemon was killed in between, is
//! sent again under the same id, by which a receiver can tell.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use tokio::sync::Notify;

use crate::domain::notice::{ChannelName, Topic};

/// One place that is told.
#[derive(Debug)]
pub struct Channel {
    /// What it is called.
    pub name: ChannelName,
    /// What it is told of; everything, if none.
    pub topics: Option<Vec<Topic>>,
    /// How long a notice is sent again that does not arrive.
    pub give_up_after: TimeDelta,
    /// How it is told.
    pub way: Way,
    /// Wakes whoever sends to it.
    pub waker: Arc<Notify>,
}

/// How a channel is told.
#[derive(Debug)]
pub enum Way {
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

impl Channel {
    /// Is it told of this?
    #[must_use]
    pub fn wants(&self, topic: Topic) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.contains(&topic))
    }
}
