//! What Slack sends: a command that somebody wrote, a button that they clicked, a form that they sent. It is read
//! here once its signature was checked (`identity/slack.rs`); that somebody knows the words of a button proves
//! nothing, so each is only a wish of the account that it names.

use serde_json::Value;

use crate::{
    domain::slack::{
        Account,
        command::{self, Command, Wanted},
        is_id, modal,
    },
    ids::AccessRequestId,
};

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who it is.
    pub account: Account,
    /// What Slack calls them: to be shown, and for nothing else.
    pub user_name: String,
    /// The same for each delivery of the same thing.
    pub key: String,
    /// What a form can be opened with, for three seconds.
    pub trigger: Option<String>,
    /// Where an answer can be sent that only they see.
    pub reply_to: Option<String>,
    /// What they want.
    pub wish: Wish,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// What they wrote behind `/pgvalet`.
    Command(Command),
    /// They clicked Approve.
    Approve(AccessRequestId),
    /// They clicked Deny: to be asked why.
    AskWhyNot(AccessRequestId),
    /// They said why not.
    Deny(AccessRequestId, Option<String>),
    /// They sent the form to ask with.
    Form(Wanted),
    /// A click on something that is a link, or on nothing of ours.
    Nothing,
}

/// It is signed, but is not what Slack sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Slack sent something else than {0}")]
pub struct Unreadable(pub &'static str);

/// The button that agrees.
pub const APPROVE: &str = "approve";

/// The button that says no.
pub const DENY: &str = "deny";

fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = form.iter().find(|(seen, _)| seen == name)?;
    (!value.is_empty()).then_some(value)
}

fn account(team: &str, user: &str) -> Option<Account> {
    let both = is_id(team) && is_id(user);
    both.then(|| Account { team: team.to_owned(), user: user.to_owned() })
}

/// Reads a slash command.
///
/// # Errors
/// If it is none.
pub fn command(form: &[(String, String)]) -> Result<Incoming, Unreadable> {
    let read = || {
        let (team, user) = (field(form, "team_id")?, field(form, "user_id")?);
        let trigger = field(form, "trigger_id")?;
        Some(Incoming {
            account: account(team, user)?,
            user_name: field(form, "user_name").unwrap_or(user).to_owned(),
            key: format!("command {trigger}"),
            trigger: Some(trigger.to_owned()),
            reply_to: field(form, "response_url").map(str::to_owned),
            wish: Wish::Command(command::read(field(form, "text").unwrap_or_default())),
        })
    };
    read().ok_or(Unreadable("a slash command"))
}

/// Reads a click or a form.
///
/// # Errors
/// If it is neither.
pub fn interaction(form: &[(String, String)]) -> Result<Incoming, Unreadable> {
    let payload = field(form, "payload").ok_or(Unreadable("a payload"))?;
    let payload: Value =
        serde_json::from_str(payload).map_err(|_| Unreadable("a payload in JSON"))?;
    read_payload(&payload).ok_or(Unreadable("a click or a form"))
}

fn read_payload(payload: &Value) -> Option<Incoming> {
    let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str);
    let user = text("/user/id")?;
    // In a channel that two companies share, whoever clicks may be of the other one.
    let team = text("/user/team_id").or_else(|| text("/team/id"))?;
    let account = account(team, user)?;
    let user_name = text("/user/username").or_else(|| text("/user/name")).unwrap_or(user);
    let trigger = text("/trigger_id").map(str::to_owned);
    let (key, reply_to, wish) = match text("/type")? {
        "block_actions" => {
            let wish = click(text("/actions/0/action_id")?, text("/actions/0/value"));
            let key = trigger.as_deref().or_else(|| text("/actions/0/action_ts"))?;
            (format!("click {key}"), text("/response_url").map(str::to_owned), wish)
        }
        "view_submission" => {
            let kept = modal::Kept::read(text("/view/private_metadata").unwrap_or_default());
            let wish =
                form(text("/view/callback_id")?, payload.pointer("/view/state/values")?, &kept);
            (format!("form {}", text("/view/id")?), kept.reply_to, wish)
        }
        _ => return None,
    };
    let user_name = user_name.to_owned();
    Some(Incoming { account, user_name, key, trigger, reply_to, wish })
}

fn click(action: &str, value: Option<&str>) -> Wish {
    let request = value.and_then(|value| value.parse().ok());
    match (action, request) {
        (APPROVE, Some(request)) => Wish::Approve(request),
        (DENY, Some(request)) => Wish::AskWhyNot(request),
        _ => Wish::Nothing,
    }
}

fn form(callback: &str, values: &Value, kept: &modal::Kept) -> Wish {
    let written = |name: &str| {
        let field = values.get(name)?.get(name)?;
        let chosen = field.pointer("/selected_option/value").or_else(|| field.get("value"));
        chosen?.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    match (callback, kept.request) {
        (modal::DENIAL, Some(request)) => Wish::Deny(request, written("comment")),
        (modal::ASKING, _) => Wish::Form(Wanted {
            profile: written("profile").unwrap_or_default(),
            ttl: written("ttl"),
            reason: written("reason"),
            ticket: written("ticket"),
        }),
        _ => Wish::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_command_is_read_with_who_wrote_it() {
        let form = pairs(&[
            ("team_id", "T1"),
            ("enterprise_id", ""),
            ("user_id", "U1"),
            ("user_name", "ada"),
            ("command", "/pgvalet"),
            ("text", "mine"),
            ("response_url", "https://hooks.slack.com/commands/1"),
            ("trigger_id", "1.2.3"),
        ]);
        let read = command(&form).unwrap();
        assert_eq!(read.account.issuer(), "slack:T1");
        assert_eq!((read.key.as_str(), read.user_name.as_str()), ("command 1.2.3", "ada"));
        assert_eq!(read.wish, Wish::Command(Command::Mine));
        for missing in ["team_id", "user_id", "trigger_id"] {
            let less: Vec<_> = form.iter().filter(|(name, _)| name != missing).cloned().collect();
            assert!(command(&less).is_err(), "{missing}");
        }
        assert!(
            command(&pairs(&[("team_id", "T 1"), ("user_id", "U1"), ("trigger_id", "1")])).is_err()
        );
    }

    #[test]
    fn a_click_is_a_wish_of_whom_it_names() {
        let request = AccessRequestId::new();
        let payload = |action: &str, value: &str| {
            let payload = json!({
                "type": "block_actions", "team": { "id": "T1" }, "enterprise": null,
                "user": { "id": "U1", "username": "ada", "team_id": "T2" },
                "trigger_id": "1.2", "response_url": "https://hooks.slack.com/actions/1",
                "actions": [{ "action_id": action, "value": value, "action_ts": "3.4" }],
            });
            interaction(&pairs(&[("payload", &payload.to_string())])).unwrap()
        };
        let read = payload(APPROVE, &request.to_string());
        assert_eq!((read.wish, read.account.team.as_str()), (Wish::Approve(request), "T2"));
        assert_eq!(payload(DENY, &request.to_string()).wish, Wish::AskWhyNot(request));
        for (action, value) in [("view", "x"), (APPROVE, "req_1"), ("else", &request.to_string())] {
            assert_eq!(payload(action, value).wish, Wish::Nothing, "{action}");
        }
        assert!(interaction(&pairs(&[("payload", "{}")])).is_err());
        assert!(interaction(&pairs(&[("payload", "{")])).is_err());
        assert!(interaction(&[]).is_err());
    }

    #[test]
    fn a_form_is_read_with_what_it_was_opened_with() {
        let request = AccessRequestId::new();
        let kept = modal::Kept {
            request: Some(request),
            reply_to: Some("https://hooks.slack.com/x".to_owned()),
        };
        let payload = json!({
            "type": "view_submission", "team": { "id": "T1" }, "user": { "id": "U1" },
            "view": {
                "id": "V1", "callback_id": modal::DENIAL, "private_metadata": kept.written(),
                "state": { "values": { "comment": { "comment": { "value": " no " } } } },
            },
        });
        let read = interaction(&pairs(&[("payload", &payload.to_string())])).unwrap();
        assert_eq!(read.wish, Wish::Deny(request, Some("no".to_owned())));
        assert_eq!(read.reply_to.as_deref(), Some("https://hooks.slack.com/x"));
        assert_eq!(read.key, "form V1");
    }
}
