//! Forms: to ask with, and to say why not.

use serde_json::{Value, json};

use crate::{domain::slack::command::Wanted, ids::AccessRequestId};

/// The form to ask with.
pub const ASKING: &str = "pgvalet-ask";

/// The form to say why not.
pub const DENIAL: &str = "pgvalet-deny";

/// The most that a list to choose from may have.
const MOST_CHOICES: usize = 100;

/// The longest text of a choice.
const LONGEST_CHOICE: usize = 75;

/// The longest reason that may be written: as long as the API takes.
const LONGEST_REASON: usize = 1000;

/// What a form carries that nobody sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// The request that it is about.
    pub request: Option<AccessRequestId>,
    /// Where the answer goes.
    pub reply_to: Option<String>,
}

impl Kept {
    /// As the form carries it.
    #[must_use]
    pub fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What a form carried; nothing if it was not ours.
    #[must_use]
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// The form to ask with. `profiles` are those that they may ask for; without them a name is typed.
#[must_use]
pub fn asking(wanted: &Wanted, profiles: &[String], reply_to: Option<&str>) -> Value {
    let kept = Kept { request: None, reply_to: reply_to.map(str::to_owned) };
    let blocks = vec![
        input("profile", "Profile", false, profile_field(&wanted.profile, profiles)),
        input("ttl", "For how long", true, line("ttl", "30m", wanted.ttl.as_deref())),
        input("reason", "Why", true, lines("reason", wanted.reason.as_deref())),
        input("ticket", "Ticket", true, line("ticket", "INC-123", wanted.ticket.as_deref())),
    ];
    view(ASKING, ("Ask for access", "Ask"), &kept, &blocks)
}

/// The form to say why not.
#[must_use]
pub fn denial(request: AccessRequestId, reply_to: Option<&str>) -> Value {
    let kept = Kept { request: Some(request), reply_to: reply_to.map(str::to_owned) };
    let blocks = vec![input("comment", "Why not?", false, lines("comment", None))];
    view(DENIAL, ("Deny a request", "Deny"), &kept, &blocks)
}

fn view(callback: &str, (title, submit): (&str, &str), kept: &Kept, blocks: &[Value]) -> Value {
    json!({
        "type": "modal", "callback_id": callback, "private_metadata": kept.written(),
        "title": plain(title), "submit": plain(submit), "close": plain("Cancel"), "blocks": blocks,
    })
}

/// A text in which Slack looks for nothing.
fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

fn input(name: &str, label: &str, optional: bool, element: Value) -> Value {
    json!({ "type": "input", "block_id": name, "optional": optional, "label": plain(label), "element": element })
}

fn line(name: &str, hint: &str, initial: Option<&str>) -> Value {
    let mut element = json!({
        "type": "plain_text_input", "action_id": name, "max_length": 200, "placeholder": plain(hint),
    });
    begin_with(&mut element, initial, 200);
    element
}

fn lines(name: &str, initial: Option<&str>) -> Value {
    let mut element = json!({
        "type": "plain_text_input", "action_id": name, "multiline": true, "max_length": LONGEST_REASON,
    });
    begin_with(&mut element, initial, LONGEST_REASON);
    element
}

fn begin_with(element: &mut Value, initial: Option<&str>, most: usize) {
    if let (Some(element), Some(initial)) = (element.as_object_mut(), initial) {
        let initial: String = initial.chars().take(most).collect();
        element.insert("initial_value".to_owned(), initial.into());
    }
}

fn profile_field(wanted: &str, profiles: &[String]) -> Value {
    let fits = |name: &&String| name.len() <= LONGEST_CHOICE;
    let option = |name: &String| json!({ "text": plain(name), "value": name });
    let options: Vec<Value> = profiles.iter().filter(fits).take(MOST_CHOICES).map(option).collect();
    let chosen =
        options.iter().find(|option| option.get("value").is_some_and(|name| name == wanted));
    // A list that is cut, or lacks what they wrote, would keep them from asking for it.
    if options.is_empty()
        || options.len() < profiles.len()
        || (chosen.is_none() && !wanted.is_empty())
    {
        return line("profile", "shop-read", Some(wanted).filter(|wanted| !wanted.is_empty()));
    }
    let mut element =
        json!({ "type": "static_select", "action_id": "profile", "options": options });
    if let (Some(element), Some(chosen)) = (element.as_object_mut(), chosen) {
        element.insert("initial_option".to_owned(), chosen.clone());
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_begins_with_what_was_written_and_offers_what_may_be_asked_for() {
        let wanted = Wanted {
            profile: "shop-read".to_owned(),
            reason: Some("r".repeat(20_000)),
            ..Wanted::default()
        };
        let profiles = ["shop-read".to_owned(), "shop-write".to_owned()];
        let form = asking(&wanted, &profiles, Some("https://hooks.slack.com/1"));
        let chosen = form.pointer("/blocks/0/element/initial_option/value");
        assert_eq!(chosen, Some(&Value::from("shop-read")));
        let reason = form.pointer("/blocks/2/element/initial_value").and_then(Value::as_str);
        assert_eq!(reason.map(str::len), Some(LONGEST_REASON));
        // What is not offered to them can still be typed: the answer says why not.
        let other = asking(&Wanted { profile: "other".to_owned(), ..wanted }, &profiles, None);
        let typed = other.pointer("/blocks/0/element/initial_value");
        assert_eq!(typed, Some(&Value::from("other")));
        let kept = Kept::read(form.pointer("/private_metadata").and_then(Value::as_str).unwrap());
        assert_eq!(kept.reply_to.as_deref(), Some("https://hooks.slack.com/1"));
        assert_eq!(Kept::read("nonsense"), Kept::default());
    }
}
