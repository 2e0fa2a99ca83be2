//! The channel as a person sees it: messages with their buttons, what only they see, forms, and a box to write in.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    response::{Html, Redirect},
};
use serde_json::Value;

use crate::dev::{
    escaped,
    slack::{
        CHANNEL, Form, Inside, PEOPLE, Posted, Shared,
        acts::Sending,
        api::direct,
        looks::{blocks, shown},
    },
};

/// How long a click waits for what comes of it, so that the page shows it.
const A_MOMENT: Duration = Duration::from_millis(1500);

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:46rem;margin:1rem auto;padding:0 1rem}\
article,form.own{border:1px solid #8884;border-radius:.5rem;padding:.5rem 1rem;margin:.75rem 0}\
.private{background:#fd02}mark{background:#d00;color:#fff}input,textarea{font:inherit;width:100%;box-sizing:border-box}\
ul{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fit,minmax(14rem,1fr));gap:.25rem 1rem}pre{white-space:pre-wrap}\
nav a{margin-right:.75rem}button{font:inherit;margin-right:.5rem}form.button{display:inline}";

pub(in crate::dev::slack) async fn show(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Html<String> {
    let wanted = query.iter().find(|(name, _)| name == "as").map(|(_, value)| value.as_str());
    let known = PEOPLE.iter().map(|(id, _)| *id).find(|id| Some(*id) == wanted);
    let me = known.unwrap_or("U0ADA");
    let inside = shared.inside();
    let mut page = String::new();
    let _ = write!(page, "<nav>You are ");
    for (id, name) in PEOPLE {
        let _ = match id == me {
            true => write!(page, "<b>{name}</b> "),
            false => write!(page, "<a href=\"/?as={id}\">{name}</a>"),
        };
    }
    let _ = write!(page, "<a href=\"/?as={me}\">Look again</a></nav><h1>#access</h1>");
    page.push_str(&messages(&inside, CHANNEL, me));
    let direct = direct(me);
    if inside.messages.iter().any(|message| message.channel == direct) {
        page.push_str("<h2>pgvalet, to you alone</h2>");
        page.push_str(&messages(&inside, &direct, me));
    }
    for (_, answer) in inside.answers.iter().filter(|(user, _)| user == me).rev().take(5) {
        let text = answer.get("text").and_then(Value::as_str).unwrap_or_default();
        let _ = write!(
            page,
            "<article class=\"private\"><small>Only you see this</small><div>{}</div></article>",
            shown(text)
        );
    }
    for form in inside.forms.iter().filter(|form| form.user == me) {
        page.push_str(&form_shown(form));
    }
    let _ = write!(
        page,
        "<form class=\"own\" method=\"post\" action=\"/write\"><input type=\"hidden\" name=\"as\" value=\"{me}\">\
         <label>/pgvalet <input name=\"text\" placeholder=\"help\" autofocus></label> <button>Send</button></form>"
    );
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>A Slack to try pgvalet with</title>\
         <style>{STYLE}</style><body>{page}</body></html>"
    ))
}

fn messages(inside: &Inside, channel: &str, me: &str) -> String {
    let mut page = String::new();
    for message in inside.messages.iter().filter(|message| message.channel == channel) {
        let thread = if message.thread.is_some() { "<small>in a thread</small>" } else { "" };
        let shown = blocks(&message.blocks, |button| button_shown(button, message, me));
        let _ = write!(page, "<article>{thread}{shown}</article>");
    }
    page
}

fn button_shown(button: &Value, message: &Posted, me: &str) -> String {
    let text = |pointer: &str| {
        escaped(button.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
    };
    let label = text("/text/text");
    if button.get("url").is_some() {
        return format!("<a href=\"{}\" rel=\"noreferrer\">{label}</a>", text("/url"));
    }
    format!(
        "<form class=\"button\" method=\"post\" action=\"/click\"><input type=\"hidden\" name=\"as\" value=\"{me}\">\
         <input type=\"hidden\" name=\"message\" value=\"{}\"><button name=\"action\" value=\"{}\">{label}</button></form>",
        message.ts,
        text("/action_id")
    )
}

fn form_shown(form: &Form) -> String {
    let mut page = format!(
        "<form class=\"own\" method=\"post\" action=\"/send\"><h2>{}</h2><input type=\"hidden\" name=\"as\" value=\"{}\">\
         <input type=\"hidden\" name=\"form\" value=\"{}\">",
        escaped(form.view.pointer("/title/text").and_then(Value::as_str).unwrap_or_default()),
        form.user,
        form.id
    );
    let inputs = form.view.get("blocks").and_then(Value::as_array).cloned().unwrap_or_default();
    for input in &inputs {
        let text = |pointer: &str| {
            escaped(input.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
        };
        let (name, label) = (text("/block_id"), text("/label/text"));
        let required =
            if input.get("optional") == Some(&Value::Bool(true)) { "" } else { " required" };
        let initial = text("/element/initial_value");
        let options = input.pointer("/element/options").and_then(Value::as_array);
        let _ = match options {
            Some(options) => {
                let chosen = input.pointer("/element/initial_option/value");
                let mut list = String::new();
                for option in options.iter().filter_map(|option| option.get("value")) {
                    let selected = if Some(option) == chosen { " selected" } else { "" };
                    let _ = write!(
                        list,
                        "<option{selected}>{}</option>",
                        escaped(option.as_str().unwrap_or_default())
                    );
                }
                write!(
                    page,
                    "<p><label>{label} <select name=\"{name}\">{list}</select></label></p>"
                )
            }
            None if input.pointer("/element/multiline") == Some(&Value::Bool(true)) => write!(
                page,
                "<p><label>{label} <textarea name=\"{name}\" rows=\"3\"{required}>{initial}</textarea></label></p>"
            ),
            None => write!(
                page,
                "<p><label>{label} <input name=\"{name}\" value=\"{initial}\"{required}></label></p>"
            ),
        };
    }
    let submit =
        escaped(form.view.pointer("/submit/text").and_then(Value::as_str).unwrap_or_default());
    let _ = write!(page, "<button>{submit}</button></form>");
    page
}

fn form(body: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(seen, _)| seen == name).map_or("", |(_, value)| value)
}

pub(in crate::dev::slack) async fn write(
    State(shared): State<Arc<Shared>>,
    body: String,
) -> Redirect {
    let form = form(&body);
    let me = field(&form, "as");
    let sending = shared.command(me, field(&form, "text"));
    done(&shared, me, &sending).await
}

pub(in crate::dev::slack) async fn click(
    State(shared): State<Arc<Shared>>,
    body: String,
) -> Redirect {
    let form = form(&body);
    let me = field(&form, "as");
    let sending = shared.clicked(me, field(&form, "message"), field(&form, "action"));
    done(&shared, me, &sending).await
}

pub(in crate::dev::slack) async fn send(
    State(shared): State<Arc<Shared>>,
    body: String,
) -> Redirect {
    let form = form(&body);
    let me = field(&form, "as");
    let fields: Vec<(&str, &str)> = form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !matches!(*name, "as" | "form"))
        .collect();
    let sending = shared.filled_in(field(&form, "form"), &fields);
    done(&shared, me, &sending).await
}

async fn done(shared: &Arc<Shared>, me: &str, sending: &Sending) -> Redirect {
    let changed = shared.changed.notified();
    shared.send_for(me, sending).await;
    // Nothing may come of it; then the page is shown as it is.
    let _ = tokio::time::timeout(A_MOMENT, changed).await;
    let known = PEOPLE.iter().map(|(id, _)| *id).find(|id| *id == me);
    Redirect::to(&known.map_or_else(|| "/".to_owned(), |me| format!("/?as={me}")))
}
