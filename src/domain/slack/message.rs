//! A request for access as the channel shows it: one message, written anew from the truth whenever that changes,
//! whoever decided and wherever.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    domain::{
        duration::Seconds,
        slack::{
            Message,
            incoming::{APPROVE, DENY},
            text::{self, LINE, SECTION},
        },
    },
    ids::AccessRequestId,
};

/// The longest reason and comment that are shown: with them, a message is far from the ~13 000 characters that Slack
/// takes in all, whatever it says of single blocks.
const LONGEST_TEXT: usize = 1500;

/// What is shown of a request.
#[derive(Debug, Clone)]
pub struct Shown<'a> {
    /// Which it is.
    pub id: AccessRequestId,
    /// Who asks.
    pub principal: &'a str,
    /// With which tool, on their behalf.
    pub tool: &'a str,
    /// The profile.
    pub profile: &'a str,
    /// What the profile is for.
    pub description: &'a str,
    /// The target, and what kind of place it is.
    pub target: &'a str,
    /// What kind of place that is.
    pub environment: &'a str,
    /// The database.
    pub database: &'a str,
    /// For how long, from when it is claimed.
    pub ttl: Seconds,
    /// From when on.
    pub start_at: Option<DateTime<Utc>>,
    /// Until when it can be claimed at the latest, as far as that is to come.
    pub claim_by: Option<DateTime<Utc>>,
    /// Why.
    pub reason: Option<&'a str>,
    /// The ticket.
    pub ticket: Option<&'a str>,
    /// What to be careful about.
    pub flags: Vec<&'static str>,
    /// Who must agree, in words.
    pub needs: String,
    /// What was said so far.
    pub said: Vec<Said<'a>>,
    /// How it stands.
    pub stands: Stands,
    /// May it be decided by a button?
    pub buttons: Buttons,
    /// Its page.
    pub page: String,
}

/// Where a request is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buttons {
    /// In the message.
    Here,
    /// On its page alone, after signing in.
    OnThePage,
}

/// How a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// It waits, until then at most.
    Waits(DateTime<Utc>),
    /// It may be claimed, until then at most.
    Approved(Option<DateTime<Utc>>),
    /// It came to an end, in a word for how.
    Over(&'static str),
}

/// What somebody said to a request.
#[derive(Debug, Clone)]
pub struct Said<'a> {
    /// Who.
    pub principal: &'a str,
    /// Did they agree?
    pub agreed: bool,
    /// Does it count no more?
    pub is_void: bool,
    /// In which words.
    pub comment: Option<&'a str>,
    /// When.
    pub at: DateTime<Utc>,
}

impl Shown<'_> {
    /// The message of the channel.
    #[must_use]
    pub fn message(&self) -> Message {
        let mut blocks = vec![header("Access request"), section(&self.who()), self.fields()];
        blocks
            .extend(self.reason.map(|reason| {
                section(&format!("*Reason*\n{}", text::block(reason, LONGEST_TEXT)))
            }));
        blocks.push(section(&self.standing()));
        blocks.extend(self.votes().as_deref().map(section));
        blocks.push(self.actions());
        blocks.push(context(&format!(
            "{} · decided by pgvalet, wherever it is decided",
            text::code(&self.id.to_string(), LINE)
        )));
        let line = format!(
            "{} asks for {}: {}",
            self.one(self.principal),
            self.one(self.profile),
            self.word()
        );
        Message { text: line, blocks }
    }

    fn one(&self, text: &str) -> String {
        text::line(text, LINE)
    }

    fn who(&self) -> String {
        let (who, tool) = (text::code(self.principal, LINE), text::code(self.tool, LINE));
        let profile = text::code(self.profile, LINE);
        let mut line = format!("{who} asks for {profile}, to be used with {tool}");
        if !self.description.is_empty() {
            line.push_str(&format!("\n> {}", text::line(self.description, 600)));
        }
        line
    }

    fn fields(&self) -> Value {
        let place =
            format!("{} in {}", text::code(self.database, LINE), text::code(self.target, LINE));
        let mut fields = vec![
            ("Database", place),
            ("Environment", text::code(self.environment, LINE)),
            ("For", self.length()),
        ];
        if let Some(ticket) = self.ticket {
            fields.push(("Ticket", text::code(ticket, LINE)));
        }
        if !self.flags.is_empty() {
            fields.push(("Mind", format!(":warning: {}", self.flags.join(", "))));
        }
        let fields: Vec<Value> =
            fields.iter().map(|(name, value)| words(&format!("*{name}*\n{value}"))).collect();
        json!({ "type": "section", "fields": fields })
    }

    fn length(&self) -> String {
        let begins = match self.start_at {
            Some(at) => format!("{}, not before {}", self.ttl, text::instant(at)),
            None => format!("{}, from when it is claimed", self.ttl),
        };
        match self.claim_by {
            Some(by) => {
                let ends = text::instant(by + self.ttl.delta());
                format!("{begins}: it ends {ends} at the latest")
            }
            None => begins,
        }
    }

    fn word(&self) -> &'static str {
        match self.stands {
            Stands::Waits(_) => "waits for an answer",
            Stands::Approved(_) => "approved",
            Stands::Over(word) => word,
        }
    }

    fn standing(&self) -> String {
        match &self.stands {
            Stands::Waits(until) => {
                let needs = match self.needs.as_str() {
                    "" => String::new(),
                    needs => format!(" Needs {}.", text::line(needs, 600)),
                };
                format!(
                    ":hourglass_flowing_sand: *Waits for an answer* until {}.{needs}",
                    text::instant(*until)
                )
            }
            Stands::Approved(Some(by)) => {
                format!(":white_check_mark: *Approved*, to be claimed until {}", text::instant(*by))
            }
            Stands::Approved(None) => ":white_check_mark: *Approved*".to_owned(),
            Stands::Over(word) => format!(":black_square_button: *{word}*"),
        }
    }

    fn votes(&self) -> Option<String> {
        let comment = SECTION / (self.said.len() + 2).max(3);
        let mut lines = String::new();
        for said in &self.said {
            let verdict = if said.agreed { "agreed" } else { "said no" };
            let who = text::code(said.principal, LINE);
            let void = if said.is_void { " (shut out since: it counts no more)" } else { "" };
            let mut line = format!("{who} {verdict}, {}{void}\n", text::instant(said.at));
            if let Some(words) = said.comment {
                line.push_str(&text::block(words, comment));
                line.push('\n');
            }
            if text::length(&lines) + text::length(&line) > SECTION {
                break;
            }
            lines.push_str(&line);
        }
        (!lines.is_empty()).then_some(lines)
    }

    /// Buttons, while there is something to decide.
    fn actions(&self) -> Value {
        let view = button("view", "Open the page", json!({ "url": self.page }));
        let id = self.id.to_string();
        let value = |style: &str| json!({ "value": id, "style": style });
        let elements = match (&self.stands, self.buttons) {
            (Stands::Waits(_), Buttons::Here) => vec![
                button(APPROVE, "Approve", value("primary")),
                button(DENY, "Deny", value("danger")),
                view,
            ],
            _ => vec![view],
        };
        json!({ "type": "actions", "elements": elements })
    }

    /// What whoever asked is told, once it is decided; none while there is nothing to tell.
    #[must_use]
    pub fn told(&self) -> Option<Message> {
        let profile = text::code(self.profile, LINE);
        let claim = format!("pgvalet claim {}", self.id);
        let mut words = match &self.stands {
            Stands::Waits(_) => return None,
            Stands::Approved(by) => {
                let by = by.map_or_else(String::new, |by| format!(" until {}", text::instant(by)));
                format!(
                    ":white_check_mark: Your request for {profile} is approved. Claim it{by}: {} in your terminal, or on {}",
                    text::code(&claim, LINE),
                    text::link(&self.page, "its page")
                )
            }
            Stands::Over(word) => format!(
                "Your request for {profile} {word}. See {}",
                text::link(&self.page, "its page")
            ),
        };
        if let Some(Said { principal, comment: Some(comment), agreed: false, .. }) =
            self.said.iter().rev().find(|said| !said.agreed)
        {
            words.push_str(&format!(
                "\n{}:\n{}",
                text::code(principal, LINE),
                text::block(comment, LONGEST_TEXT)
            ));
        }
        let line = format!("Your request for {}: {}", self.one(self.profile), self.word());
        Some(Message { text: line, blocks: vec![section(&words)] })
    }
}

pub(in crate::domain::slack) fn words(text: &str) -> Value {
    // Taken as it stands: addresses and names in it are not made into links and mentions.
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

pub(in crate::domain::slack) fn section(text: &str) -> Value {
    json!({ "type": "section", "text": words(text) })
}

fn header(text: &str) -> Value {
    json!({ "type": "header", "text": { "type": "plain_text", "text": text } })
}

fn context(text: &str) -> Value {
    json!({ "type": "context", "elements": [words(text)] })
}

fn button(action: &str, label: &str, more: Value) -> Value {
    let mut button = json!({
        "type": "button", "action_id": action, "text": { "type": "plain_text", "text": label },
    });
    if let (Some(button), Value::Object(more)) = (button.as_object_mut(), more) {
        button.extend(more);
    }
    button
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn shown<'a>(reason: &'a str, stands: Stands) -> Shown<'a> {
        Shown {
            id: AccessRequestId::new(),
            principal: "person:ada",
            tool: "psql",
            profile: "shop-write",
            description: "Change orders & stock",
            target: "shop",
            environment: "prod",
            database: "shop",
            ttl: "30m".parse().unwrap(),
            start_at: None,
            claim_by: match stands {
                Stands::Waits(until) => Some(until),
                _ => None,
            },
            reason: Some(reason),
            ticket: Some("INC-123"),
            flags: vec!["production", "writes"],
            needs: "one of group:leads".to_owned(),
            said: Vec::new(),
            stands,
            buttons: Buttons::Here,
            page: "https://pgvalet.example/requests/req_1".to_owned(),
        }
    }

    fn buttons(message: &Message) -> Vec<String> {
        let all = message.blocks.iter().filter_map(|block| block["elements"].as_array());
        all.flatten()
            .filter_map(|element| element["action_id"].as_str())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_request_is_shown_with_all_that_one_must_know_to_decide() {
        let message =
            shown("the total is wrong", Stands::Waits(at("2026-11-21T20:00:00Z"))).message();
        let all = serde_json::to_string(&message.blocks).unwrap();
        for words in [
            "person:ada",
            "psql",
            "shop-write",
            "Change orders &amp; stock",
            "prod",
            "30m",
            "INC-123",
            "the total is wrong",
            "production, writes",
            "one of group:leads",
            "2026-11-21 20:30 UTC",
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        assert_eq!(buttons(&message), ["approve", "deny", "view"]);
        assert_eq!(message.text, "person:ada asks for shop-write: waits for an answer");
    }

    #[test]
    fn there_are_no_buttons_where_nothing_is_to_be_decided_here() {
        for stands in [Stands::Over("denied"), Stands::Approved(None)] {
            assert_eq!(buttons(&shown("x", stands).message()), ["view"]);
        }
        let mut sensitive = shown("x", Stands::Waits(at("2026-11-21T20:00:00Z")));
        sensitive.buttons = Buttons::OnThePage;
        assert_eq!(buttons(&sensitive.message()), ["view"]);
        assert_eq!(sensitive.told(), None);
    }

    #[test]
    fn twenty_thousand_hostile_characters_stay_within_bounds_and_say_nothing_to_slack() {
        let hostile = "<!channel> @here <https://evil.example|ok> ```".repeat(500);
        let comment = hostile.clone();
        let mut shown = shown(&hostile, Stands::Over("denied"));
        shown.ticket = Some(&hostile);
        shown.description = &hostile;
        let said = |_| Said {
            principal: "person:gus",
            agreed: false,
            is_void: false,
            comment: Some(&comment),
            at: at("2026-11-21T20:00:00Z"),
        };
        shown.said = (0..50).map(said).collect();
        for message in [shown.message(), shown.told().unwrap()] {
            let mut length = 0;
            for text in texts(&Value::Array(message.blocks)) {
                assert!(text.encode_utf16().count() <= SECTION, "{text}");
                assert!(!text.contains("<!channel") && !text.contains("<https://evil"), "{text}");
                assert_eq!(text.matches("```").count() % 2, 0, "{text}");
                length += text.encode_utf16().count();
            }
            assert!(length < 12_000, "{length}");
        }
    }

    fn texts(value: &Value) -> Vec<String> {
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(all) => all.iter().flat_map(texts).collect(),
            Value::Object(all) => all.values().flat_map(texts).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn whoever_asked_is_told_how_to_claim_and_gets_no_credential() {
        let told = shown("x", Stands::Approved(Some(at("2026-11-21T20:00:00Z")))).told().unwrap();
        let all = serde_json::to_string(&told.blocks).unwrap();
        assert!(all.contains("pgvalet claim ") && all.contains("|its page>"), "{all}");
        let mut denied = shown("x", Stands::Over("denied"));
        denied.said = vec![Said {
            principal: "person:gus",
            agreed: false,
            is_void: false,
            comment: Some("use <shop-read>"),
            at: at("2026-11-21T20:00:00Z"),
        }];
        let all = serde_json::to_string(&denied.told().unwrap().blocks).unwrap();
        assert!(all.contains("use &lt;shop-read&gt;") && all.contains("person:gus"), "{all}");
    }
}
