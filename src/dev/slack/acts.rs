//! What people do at Slack, as Slack tells pgvalet of it.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    clock::Clock,
    dev::slack::{PEOPLE, Shared, Simulator, TEAM},
    identity::slack::{SIGNATURE, TIMESTAMP},
};

/// How long Slack waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often an address for answers may be used.
const ANSWERS: u32 = 5;

/// How pgvalet answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The status; none if it did not within three seconds.
    pub status: Option<u16>,
    /// What it said.
    pub body: String,
}

/// Something that Slack sends: the same bytes however often.
#[derive(Debug, Clone)]
pub struct Sending {
    /// Where.
    pub path: &'static str,
    /// What.
    pub body: String,
}

impl Simulator {
    /// Somebody writes behind `/pgvalet`.
    pub async fn write(&self, user: &str, text: &str) -> Acknowledged {
        let sending = self.shared.command(user, text);
        self.shared.send(&sending).await
    }

    /// Somebody clicks a button of a message.
    pub async fn click(&self, user: &str, message: &str, action: &str) -> Acknowledged {
        let sending = self.shared.clicked(user, message, action);
        self.shared.send(&sending).await
    }

    /// Somebody sends a form with this in its fields.
    pub async fn fill_in(&self, form: &str, fields: &[(&str, &str)]) -> Acknowledged {
        let sending = self.shared.filled_in(form, fields);
        self.shared.send(&sending).await
    }

    /// What Slack sends when somebody writes this.
    #[must_use]
    pub fn command(&self, user: &str, text: &str) -> Sending {
        self.shared.command(user, text)
    }

    /// What Slack sends when somebody clicks this button.
    #[must_use]
    pub fn clicked(&self, user: &str, message: &str, action: &str) -> Sending {
        self.shared.clicked(user, message, action)
    }

    /// What Slack sends when somebody clicks a button with this in it, wherever it stands.
    #[must_use]
    pub fn pressed(&self, user: &str, action: &str, value: &str) -> Sending {
        self.shared.pressed(user, (action, &json!(value)), &Value::Null)
    }

    /// What Slack sends when somebody sends a form of this kind that carries this.
    #[must_use]
    pub fn sent_form(
        &self,
        user: &str,
        callback: &str,
        kept: &Value,
        fields: &[(&str, &str)],
    ) -> Sending {
        let id = format!("V{}", self.shared.inside().next());
        let view = json!({ "callback_id": callback, "private_metadata": kept.to_string() });
        self.shared.sent_form(user, (&id, &view), fields)
    }

    /// Sends it, signed now; as often as it is called.
    pub async fn send(&self, sending: &Sending) -> Acknowledged {
        self.shared.send(sending).await
    }

    /// The headers under which Slack sends a body at this time.
    #[must_use]
    pub fn signed(&self, timestamp: i64, body: &str) -> [(&'static str, String); 2] {
        self.shared.signed(timestamp, body)
    }
}

impl Shared {
    pub(in crate::dev::slack) fn signed(
        &self,
        timestamp: i64,
        body: &str,
    ) -> [(&'static str, String); 2] {
        let signature = self.signing.sign(timestamp, body.as_bytes());
        [(TIMESTAMP, timestamp.to_string()), (SIGNATURE, signature)]
    }

    pub(in crate::dev::slack) fn command(&self, user: &str, text: &str) -> Sending {
        let (trigger, answers) = self.reach(user);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([
            ("token", "legacy"),
            ("team_id", TEAM),
            ("team_domain", "playground"),
            ("channel_id", crate::dev::slack::CHANNEL),
            ("channel_name", "access"),
            ("user_id", user),
            ("user_name", name_of(user)),
            ("command", "/pgvalet"),
            ("text", text),
            ("response_url", &answers),
            ("trigger_id", &trigger),
        ]);
        Sending { path: "/slack/commands", body: form.finish() }
    }

    pub(in crate::dev::slack) fn clicked(
        &self,
        user: &str,
        message: &str,
        action: &str,
    ) -> Sending {
        let (channel, value) = {
            let inside = self.inside();
            let found = inside.messages.iter().find(|posted| posted.ts == message);
            let blocks = found.into_iter().flat_map(|posted| &posted.blocks);
            let mut buttons =
                blocks.filter_map(|block| block.get("elements")?.as_array()).flatten();
            let is_meant =
                |button: &&Value| button.get("action_id").and_then(Value::as_str) == Some(action);
            let value = buttons.find(is_meant).and_then(|button| button.get("value")).cloned();
            (found.map(|posted| posted.channel.clone()), value.unwrap_or(Value::Null))
        };
        let container = json!({ "type": "message", "message_ts": message, "channel_id": channel });
        self.pressed(user, (action, &value), &container)
    }

    fn pressed(&self, user: &str, (action, value): (&str, &Value), container: &Value) -> Sending {
        let (trigger, answers) = self.reach(user);
        interaction(&json!({
            "type": "block_actions", "team": { "id": TEAM, "domain": "playground" }, "enterprise": null,
            "user": { "id": user, "username": name_of(user), "team_id": TEAM },
            "trigger_id": trigger, "response_url": answers, "container": container,
            "actions": [{ "type": "button", "action_id": action, "value": value, "action_ts": trigger }],
        }))
    }

    pub(in crate::dev::slack) fn filled_in(&self, form: &str, fields: &[(&str, &str)]) -> Sending {
        let taken = {
            let mut inside = self.inside();
            let at = inside.forms.iter().position(|open| open.id == form);
            at.map(|at| inside.forms.remove(at))
        };
        let (user, view) = taken.map_or_else(Default::default, |form| (form.user, form.view));
        self.sent_form(&user, (form, &view), fields)
    }

    fn sent_form(
        &self,
        user: &str,
        (id, view): (&str, &Value),
        fields: &[(&str, &str)],
    ) -> Sending {
        let (trigger, _) = self.reach(user);
        let mut values = serde_json::Map::new();
        for (name, value) in fields {
            values.insert((*name).to_owned(), json!({ (*name): { "value": value } }));
        }
        interaction(&json!({
            "type": "view_submission", "team": { "id": TEAM }, "trigger_id": trigger,
            "user": { "id": user, "username": name_of(user), "team_id": TEAM },
            "view": {
                "id": id, "callback_id": view.get("callback_id"),
                "private_metadata": view.get("private_metadata"), "state": { "values": values },
            },
        }))
    }

    /// What a form can be opened with, and where an answer can be sent.
    fn reach(&self, user: &str) -> (String, String) {
        let mut inside = self.inside();
        let trigger = format!("{}.{}", Clock.now().timestamp(), inside.next());
        inside.triggers.insert(trigger.clone(), (user.to_owned(), Clock.now()));
        let address = format!("A{}", inside.next());
        inside.answer_addresses.insert(address.clone(), (user.to_owned(), ANSWERS));
        (trigger, format!("http://{}/answers/{address}", self.address))
    }

    pub(in crate::dev::slack) async fn send(&self, sending: &Sending) -> Acknowledged {
        let base = self.pgvalet.get().map(String::as_str).unwrap_or_default();
        let mut request = self.http.post(format!("{base}{}", sending.path));
        for (name, value) in self.signed(Clock.now().timestamp(), &sending.body) {
            request = request.header(name, value);
        }
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(sending.body.clone());
        let asking = async {
            let answer = request.send().await.ok()?;
            Some((answer.status().as_u16(), answer.text().await.ok()?))
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Some((status, body))) => Acknowledged { status: Some(status), body },
            _ => Acknowledged { status: None, body: "operation_timeout".to_owned() },
        }
    }

    /// The same for the page, which shows an answer that came at once, and that none came.
    pub(in crate::dev::slack) async fn send_for(self: &Arc<Self>, user: &str, sending: &Sending) {
        let Acknowledged { status, body } = self.send(sending).await;
        let said = match status {
            Some(200) if body.is_empty() => return,
            Some(200) => serde_json::from_str(&body).unwrap_or_else(|_| json!({ "text": body })),
            Some(status) => json!({ "text": format!("pgvalet answers {status}") }),
            None => json!({ "text": "`/pgvalet` failed with the error \"operation_timeout\"" }),
        };
        self.inside().answers.push((user.to_owned(), said));
    }
}

fn interaction(payload: &Value) -> Sending {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &payload.to_string());
    Sending { path: "/slack/interactions", body: form.finish() }
}

/// What somebody is called there.
pub(in crate::dev::slack) fn name_of(user: &str) -> &str {
    PEOPLE.iter().find(|(id, _)| *id == user).map_or(user, |(_, name)| name)
}
