//! What a person sees of the provider: whom to be, and who has left.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
};

use crate::dev::{
    escaped,
    provider::{
        CLIENT, Inside, Person, Shared,
        grants::{Code, Outcome, field, form, random},
    },
};

/// Letters that nobody takes for others.
const LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";

/// A code that a person can type, of something random.
pub(in crate::dev::provider) fn user_code(random: &str) -> String {
    let letter =
        |b: u8| LETTERS.get(usize::from(b) % LETTERS.len()).copied().map_or('X', char::from);
    let letters: Vec<char> = random.bytes().take(8).map(letter).collect();
    let (first, second) = letters.split_at_checked(4).unwrap_or((&letters, &[]));
    format!("{}-{}", first.iter().collect::<String>(), second.iter().collect::<String>())
}

fn page(body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>A provider to try pgvalet with</title>\
         <body><h1>A provider to try pgvalet with</h1>{body}</body></html>"
    ))
}

/// A button for each person, in a form that carries on what it was asked with.
fn choice(inside: &Inside, action: &str, carried: &[(&str, &str)]) -> String {
    let mut text = format!("<form method=\"post\" action=\"{action}\">");
    for (name, value) in carried {
        let value = escaped(value);
        let _ = write!(text, "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">");
    }
    for Person { subject, name, groups, disabled, .. } in &inside.people {
        let left = if *disabled { ", who has left" } else { "" };
        let _ = write!(
            text,
            "<p><button name=\"person\" value=\"{subject}\">{}</button> in {}{left}</p>",
            escaped(name),
            escaped(&groups.join(", "))
        );
    }
    text.push_str("<p><button name=\"person\" value=\"\">Nobody: say no</button></p></form>");
    text
}

/// Who is here, and a way to leave.
pub(in crate::dev::provider) async fn people(State(shared): State<Arc<Shared>>) -> Html<String> {
    let inside = shared.inside();
    let mut text = String::from("<p>Somebody leaves, or comes back:</p><form method=\"post\">");
    for Person { subject, name, disabled, .. } in &inside.people {
        let verb = if *disabled { "comes back" } else { "leaves" };
        let _ = write!(
            text,
            "<p><button name=\"person\" value=\"{subject}\">{} {verb}</button></p>",
            escaped(name)
        );
    }
    page(&format!("{text}</form>"))
}

pub(in crate::dev::provider) async fn change_person(
    State(shared): State<Arc<Shared>>,
    body: String,
) -> Redirect {
    let form = form(&body);
    let mut inside = shared.inside();
    let subject = field(&form, "person");
    if let Some(person) = inside.people.iter_mut().find(|person| person.subject == subject) {
        person.disabled = !person.disabled;
    }
    Redirect::to("/")
}

/// Only pgvalet on this machine is answered.
fn is_ours(form: &[(String, String)]) -> bool {
    let redirect = field(form, "redirect_uri");
    let is_here = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"]
        .iter()
        .any(|begin| redirect.starts_with(begin));
    field(form, "client_id") == CLIENT
        && field(form, "response_type") == "code"
        && field(form, "code_challenge_method") == "S256"
        && is_here
        && redirect.ends_with("/sign-in/callback")
}

pub(in crate::dev::provider) async fn authorize(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Response {
    let form = form(&query.unwrap_or_default());
    if !is_ours(&form) {
        return (StatusCode::BAD_REQUEST, page("<p>This is not pgvalet's request.</p>"))
            .into_response();
    }
    let carried: Vec<(&str, &str)> =
        form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let choice = choice(&shared.inside(), "/authorize", &carried);
    page(&format!("<p>pgvalet asks who you are:</p>{choice}")).into_response()
}

pub(in crate::dev::provider) async fn authorized(
    State(shared): State<Arc<Shared>>,
    body: String,
) -> Response {
    let form = form(&body);
    if !is_ours(&form) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Ok(mut back) = reqwest::Url::parse(field(&form, "redirect_uri")) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut inside = shared.inside();
    let subject = inside.person(field(&form, "person")).filter(|person| !person.disabled);
    let subject = subject.map(|person| person.subject);
    let code = random();
    let mut said = back.query_pairs_mut();
    match (subject, code) {
        (Some(subject), Ok(code)) => {
            said.append_pair("code", &code);
            let nonce = Some(field(&form, "nonce").to_owned()).filter(|nonce| !nonce.is_empty());
            let redirect = field(&form, "redirect_uri").to_owned();
            let challenge = field(&form, "code_challenge").to_owned();
            inside.codes.insert(code, Code { subject, redirect, challenge, nonce });
        }
        _ => {
            said.append_pair("error", "access_denied");
        }
    }
    said.append_pair("state", field(&form, "state")).append_pair("iss", &shared.issuer());
    drop(said);
    Redirect::to(back.as_str()).into_response()
}

pub(in crate::dev::provider) async fn device(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Html<String> {
    let form = form(&query.unwrap_or_default());
    let code = field(&form, "user_code");
    if code.is_empty() {
        return page(
            "<form><p>The code that your terminal shows: <input name=\"user_code\" autofocus> <button>Go on</button></p></form>",
        );
    }
    let choice = choice(&shared.inside(), "/device", &[("user_code", code)]);
    page(&format!("<p>Code {}: who is at that terminal?</p>{choice}", escaped(code)))
}

pub(in crate::dev::provider) async fn device_done(
    State(shared): State<Arc<Shared>>,
    body: String,
) -> Response {
    let form = form(&body);
    let mut inside = shared.inside();
    let person = inside.person(field(&form, "person")).filter(|person| !person.disabled);
    let outcome = person.map_or(Outcome::Denied, |person| Outcome::Allowed(person.subject));
    let typed = field(&form, "user_code").trim().to_uppercase();
    match inside.devices.values_mut().find(|device| device.user_code == typed) {
        Some(device) => {
            device.outcome = outcome;
            page("<p>Done: go back to your terminal.</p>").into_response()
        }
        None => {
            (StatusCode::NOT_FOUND, page("<p>No terminal shows this code.</p>")).into_response()
        }
    }
}
