//! What of the audit is worth telling people, in words: from an entry to a notice. Most entries are not; they stand in
//! the audit, and in the audit log.
//!
//! A notice is made of what the audit says alone, which holds no secret, and of that only of the fields in [`FACTS`].
//! Whatever people wrote is on one line, and cut: the text goes to places that have rules of their own about what a line
//! means.

mod events;
mod requests;
mod reviews;

use std::{collections::BTreeMap, fmt, str::FromStr};

use chrono::{DateTime, Utc};

use crate::domain::{
    audit::{Actor, Entry},
    letters::turns_text_around,
    name::Name,
    words::words,
};

words! {
    /// What notices are about: channels choose by this.
    Topic {
        /// Requests that others must agree to, from the wish to its end.
        Requests = "requests",
        /// Access in emergencies. Every channel is told of these, whatever else it wants.
        Emergencies = "emergencies",
        /// Logins that could not be removed yet.
        StuckRevocations = "stuck-revocations",
        /// Rotations that are overdue.
        Rotations = "rotations",
        /// What sweeps found: logins that no lease is known of, or that were changed by hand; cautions.
        Sweeps = "sweeps",
        /// Targets that differ from what profiles say.
        Drift = "drift",
        /// Targets that refuse their administrator.
        Targets = "targets",
        /// People who are gone or were shut out, and guesses.
        People = "people",
        /// Who may administer pgvalet.
        Administration = "administration",
        /// Access reviews, from the first day to the last.
        Reviews = "reviews",
        /// Once a day: what still waits for somebody.
        Digest = "digest",
    }
}

words! {
    /// How much it matters.
    Severity {
        /// Good to know.
        Info = "info",
        /// To be looked at.
        Warning = "warning",
        /// To be looked at now.
        Critical = "critical",
    }
}

words! {
    /// How a notice stands.
    NoticeState {
        /// It was not told yet.
        Waiting = "waiting",
        /// It was told.
        Told = "told",
        /// It was given up.
        Dead = "dead",
    }
}

/// Where notices go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelName {
    /// A webhook, by its name in the settings.
    Webhook(Name),
    /// An address for mail.
    Mail(String),
    /// Slack.
    Slack,
}

/// A text that names no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no channel: write `webhook:NAME`, `mail:ADDRESS` or `slack`")]
pub struct NotAChannel(String);

impl ChannelName {
    /// What kind of channel it is, in one word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Mail(_) => "mail",
            Self::Slack => "slack",
        }
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(name) => write!(f, "webhook:{name}"),
            Self::Mail(address) => write!(f, "mail:{address}"),
            Self::Slack => f.write_str("slack"),
        }
    }
}

impl FromStr for ChannelName {
    type Err = NotAChannel;

    fn from_str(text: &str) -> Result<Self, NotAChannel> {
        let fault = || NotAChannel(line(text, 80));
        match text.split_once(':') {
            None if text == "slack" => Ok(Self::Slack),
            Some(("webhook", name)) => name.parse().map(Self::Webhook).map_err(|_| fault()),
            Some(("mail", address)) if address.contains('@') => Ok(Self::Mail(address.to_owned())),
            _ => Err(fault()),
        }
    }
}

/// What is told, as it is recorded and as webhooks get it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The name of the event in the audit.
    pub kind: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Who did it: `person:alice`, `pgvalet`, `operator`, `unknown`.
    pub by: String,
    /// What it is about.
    pub topic: Topic,
    /// How much it matters.
    pub severity: Severity,
    /// Notices of one subject are told in their order: `request:…`, `lease:…`, `target:…`.
    pub subject: String,
    /// One line.
    pub title: String,
    /// The rest of it, in plain text.
    pub text: String,
    /// The page about it, below the daemon's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Fields of the event, for programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// The fields of events that are told as they are.
const FACTS: [&str; 20] = [
    "request_id",
    "lease_id",
    "login_id",
    "profile",
    "target",
    "database",
    "role",
    "principal",
    "tool",
    "reason",
    "ticket",
    "comment",
    "code",
    "why",
    "standing_role",
    "expires_at",
    "due_at",
    "remove_at",
    "allowed_by",
    "because",
];

/// The most letters of a title, of a text, and of a field.
const LONGEST_TITLE: usize = 160;
const LONGEST_TEXT: usize = 3000;
const LONGEST_FACT: usize = 500;

impl Notice {
    /// What a channel is told that is tried.
    #[must_use]
    pub fn test(channel: &ChannelName, by: &str, at: DateTime<Utc>) -> Self {
        Self {
            kind: "notice.tested".to_owned(),
            at,
            by: by.to_owned(),
            topic: Topic::Digest,
            severity: Severity::Info,
            subject: "test".to_owned(),
            title: format!("A test of {channel}"),
            text: "Nothing happened: somebody wants to know whether this arrives.".to_owned(),
            path: None,
            facts: BTreeMap::new(),
        }
    }

    /// What is to be told of an entry, if anything.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        let by = match &entry.actor {
            Actor::Principal { name, .. } => name.clone(),
            Actor::Pgvalet => "pgvalet".to_owned(),
            Actor::Unknown => "unknown".to_owned(),
            Actor::Operator => "operator".to_owned(),
        };
        let said = events::words_of(&entry.event, &by, entry.source.as_deref())?;
        let event = serde_json::to_value(&entry.event).ok()?;
        let text = |key: &str| event.get(key).and_then(|value| value.as_str());
        let fact = |key: &str| Some((key.to_owned(), line(text(key)?, LONGEST_FACT)));
        Some(Self {
            kind: text("kind")?.to_owned(),
            at: entry.at,
            by: line(&by, LONGEST_FACT),
            topic: said.topic,
            severity: said.severity,
            subject: said.subject,
            title: line(&said.title, LONGEST_TITLE),
            text: lines(&said.text, LONGEST_TEXT),
            path: said.path,
            facts: FACTS.into_iter().filter_map(fact).collect(),
        })
    }
}

/// One line of so many letters at most: nothing in it begins another, or turns the direction of reading round.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    let plain = |letter: char| if is_plain(letter) { letter } else { ' ' };
    cut(text.trim().chars().map(plain), most)
}

/// The same, but the lines that we wrote stay.
fn lines(text: &str, most: usize) -> String {
    let plain = |letter: char| if letter == '\n' || is_plain(letter) { letter } else { ' ' };
    cut(text.trim().chars().map(plain), most)
}

fn cut(mut letters: impl Iterator<Item = char>, most: usize) -> String {
    let mut kept: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// Not a control character, a line or paragraph separator, or one that changes the direction.
fn is_plain(letter: char) -> bool {
    !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}') && !turns_text_around(letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Event;
    use crate::ids::{AuditId, LeaseId, LoginId};

    fn entry(event: Event) -> Entry {
        Entry {
            id: AuditId::new(),
            at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            actor: Actor::Pgvalet,
            request_id: None,
            source: None,
            event,
        }
    }

    #[test]
    fn what_a_person_wrote_stays_on_its_line_and_is_cut() {
        let why = format!("a\r\nBcc: x@example.org\n\u{202e}evil\u{61c} {}", "x".repeat(20_000));
        let (lease_id, login_id) = (LeaseId::new(), LoginId::new());
        let event = Event::LoginBlocked { lease_id, login_id, role: "pgv_a".to_owned(), why };
        let notice = Notice::of(&entry(event)).unwrap();
        assert_eq!(notice.text.lines().count(), 3, "{}", notice.text);
        assert!(!notice.text.contains(['\r', '\u{202e}', '\u{61c}']), "{}", notice.text);
        assert!(notice.text.chars().count() < 700 && notice.facts["why"].chars().count() == 500);
        assert!(notice.facts["why"].ends_with('…'));
        assert_eq!((notice.kind.as_str(), notice.by.as_str()), ("login.blocked", "pgvalet"));
        assert_eq!(notice.subject, format!("lease:{lease_id}"));
        let again: Notice = serde_json::from_value(serde_json::to_value(&notice).unwrap()).unwrap();
        assert_eq!(again, notice);
    }

    #[test]
    fn what_happens_all_the_time_is_told_to_nobody() {
        let lease_id = LeaseId::new();
        let cause = crate::domain::lease::Cause::Expired;
        assert_eq!(Notice::of(&entry(Event::LeaseRevoked { lease_id, cause })), None);
    }

    #[test]
    fn a_channel_reads_back_from_its_name() {
        for text in ["webhook:pager", "mail:dba@example.org", "slack"] {
            assert_eq!(text.parse::<ChannelName>().unwrap().to_string(), text);
        }
        for text in ["", "webhook", "webhook:", "webhook:A B", "mail:nobody", "sms:1", "slack:x"] {
            assert!(text.parse::<ChannelName>().is_err(), "{text}");
        }
    }
}
