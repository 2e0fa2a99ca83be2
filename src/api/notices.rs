//! Notices: what is told to others, and what came of it.

use chrono::{DateTime, Utc};

use crate::{domain::notice::NoticeState, ids::NoticeId};

/// A notice for one channel.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Notice {
    /// Its id, which its receiver sees, too.
    pub id: NoticeId,
    /// For whom: `webhook:NAME`, `mail:ADDRESS`, `slack`.
    pub channel: String,
    /// What it is about.
    pub topic: String,
    /// Notices of one subject are told in their order.
    pub subject: String,
    /// What is told, in one line.
    pub title: String,
    /// Was it told?
    pub state: NoticeState,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it is sent next, if it waits.
    pub due_at: Option<DateTime<Utc>>,
    /// How often it was sent in vain.
    pub attempts: i32,
    /// When it was told.
    pub told_at: Option<DateTime<Utc>>,
    /// When it was given up.
    pub dead_at: Option<DateTime<Utc>>,
    /// What stood in the way last.
    pub last_error: Option<String>,
}

/// Which notices that were given up to send again.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayNotices {
    /// Those of this channel; all, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// What is sent again.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Replayed {
    /// How many.
    pub notices: u64,
}

/// A channel to be tried.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TryChannel {
    /// `webhook:NAME`, `mail:ADDRESS` or `slack`.
    pub channel: String,
}

/// What came of it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ChannelTried {
    /// Was it taken?
    pub told: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How long it took.
    pub milliseconds: u64,
}
