//! Slack, as far as it can be decided without asking anybody: what it sends us, read; what we send it, written.
//!
//! Whatever a person wrote passes through [`text`] on its way out, so that no name, reason or comment can mention
//! anybody, show a link as something else, or look like a message of ours.

pub mod answer;
pub mod command;
pub mod incoming;
pub mod message;
pub mod modal;
pub mod text;

use serde_json::Value;

/// Somebody at Slack. Names there are given anew, so nobody is known by one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its workspace. Slack gives no two workspaces one id, whatever organization they are of.
    pub team: String,
    /// The person, within the workspace.
    pub user: String,
}

/// What identities begin with whose issuer is a workspace.
pub const ISSUER: &str = "slack:";

impl Account {
    /// Whose word it is that a person is there.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{ISSUER}{}", self.team)
    }
}

/// What Slack shows: blocks, and the same in a line for notifications.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The line. It is escaped.
    pub text: String,
    /// The blocks.
    pub blocks: Vec<Value>,
}

/// An id of Slack's, such as `T0123ABCD`: nothing else is taken for one.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (2..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}
