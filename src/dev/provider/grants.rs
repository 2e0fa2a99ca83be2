//! The token endpoint, and where devices begin: what is handed out, once, to whom it was made for.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    dev::provider::{CLIENT, Inside, Shared, pages, tokens},
    identity::oidc::challenge,
    rng,
    secret::Secret,
};

/// A code that a browser carries.
#[derive(Debug)]
pub(in crate::dev::provider) struct Code {
    pub(in crate::dev::provider) subject: &'static str,
    pub(in crate::dev::provider) redirect: String,
    pub(in crate::dev::provider) challenge: String,
    pub(in crate::dev::provider) nonce: Option<String>,
}

/// A device that waits for its person.
#[derive(Debug)]
pub(in crate::dev::provider) struct Device {
    pub(in crate::dev::provider) user_code: String,
    pub(in crate::dev::provider) outcome: Outcome,
    pub(in crate::dev::provider) asked_at: Option<DateTime<Utc>>,
    pub(in crate::dev::provider) ends_at: DateTime<Utc>,
}

/// What a person said to a device.
#[derive(Debug, Clone, Copy)]
pub(in crate::dev::provider) enum Outcome {
    Waiting,
    Allowed(&'static str),
    Denied,
}

/// A text that nobody guesses.
pub(in crate::dev::provider) fn random() -> anyhow::Result<String> {
    Ok(rng::token_secret()?.expose().clone())
}

/// The fields of a form.
pub(in crate::dev::provider) fn form(body: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://form.invalid/?{body}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// One of them; empty if it is not there.
pub(in crate::dev::provider) fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(seen, _)| seen == name).map_or("", |(_, value)| value.as_str())
}

/// A refusal as the standard has it.
fn refused(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}

fn failed(error: &anyhow::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

/// Is it the client that it says it is?
fn is_client(inside: &Inside, headers: &HeaderMap, form: &[(String, String)]) -> bool {
    match &inside.secret {
        None => field(form, "client_id") == CLIENT,
        Some(secret) => {
            let wanted = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{secret}")));
            headers
                .get(header::AUTHORIZATION)
                .is_some_and(|seen| seen.as_bytes() == wanted.as_bytes())
        }
    }
}

pub(in crate::dev::provider) async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let form = form(&body);
    let mut inside = shared.inside();
    if !is_client(&inside, &headers, &form) {
        return refused("invalid_client");
    }
    let granted = match field(&form, "grant_type") {
        "authorization_code" => by_code(&mut inside, &form),
        "urn:ietf:params:oauth:grant-type:device_code" => by_device(&mut inside, &form),
        "refresh_token" => by_refresh(&mut inside, &form),
        _ => Err("unsupported_grant_type"),
    };
    match granted {
        Ok((subject, _)) if inside.person(subject).is_none_or(|person| person.disabled) => {
            refused("invalid_grant")
        }
        Ok((subject, nonce)) => {
            let made = answer(&mut inside, &shared.issuer(), subject, nonce.as_deref());
            made.map_or_else(|e| failed(&e), |answer| Json(answer).into_response())
        }
        Err(error) => refused(error),
    }
}

type Granted = Result<(&'static str, Option<String>), &'static str>;

fn by_code(inside: &mut Inside, form: &[(String, String)]) -> Granted {
    let code = inside.codes.remove(field(form, "code")).ok_or("invalid_grant")?;
    let verifier = Secret::new(field(form, "code_verifier").to_owned());
    if code.redirect != field(form, "redirect_uri") || code.challenge != challenge(&verifier) {
        return Err("invalid_grant");
    }
    Ok((code.subject, code.nonce))
}

fn by_device(inside: &mut Inside, form: &[(String, String)]) -> Granted {
    let (now, interval) = (Clock.now(), inside.interval);
    let code = field(form, "device_code");
    let device = inside.devices.get_mut(code).ok_or("invalid_grant")?;
    if device.ends_at <= now {
        return Err("expired_token");
    }
    // A little less than it said: clocks and ways differ.
    let too_soon = |at: DateTime<Utc>| (now - at).num_milliseconds() < interval * 1000 - 200;
    if device.asked_at.replace(now).is_some_and(too_soon) {
        return Err("slow_down");
    }
    match device.outcome {
        Outcome::Waiting => Err("authorization_pending"),
        Outcome::Denied => Err("access_denied"),
        Outcome::Allowed(subject) => {
            inside.devices.remove(code);
            Ok((subject, None))
        }
    }
}

fn by_refresh(inside: &mut Inside, form: &[(String, String)]) -> Granted {
    let subject = inside.refresh_tokens.remove(field(form, "refresh_token"));
    Ok((subject.ok_or("invalid_grant")?, None))
}

fn answer(
    inside: &mut Inside,
    issuer: &str,
    subject: &'static str,
    nonce: Option<&str>,
) -> anyhow::Result<Value> {
    let person = inside.person(subject).cloned().context("nobody has this key")?;
    let id_token = tokens::id_token(inside, issuer, &person, nonce)?;
    let refresh_token = random()?;
    inside.refresh_tokens.insert(refresh_token.clone(), subject);
    let mut answer = json!({
        "access_token": random()?, "token_type": "Bearer", "expires_in": 300,
        "refresh_token": refresh_token,
    });
    if let (Some(answer), Some(id_token)) = (answer.as_object_mut(), id_token) {
        answer.insert("id_token".to_owned(), json!(id_token));
    }
    Ok(answer)
}

pub(in crate::dev::provider) async fn begin_device(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let form = form(&body);
    let mut inside = shared.inside();
    if !is_client(&inside, &headers, &form) {
        return refused("invalid_client");
    }
    let begun = || anyhow::Ok((random()?, pages::user_code(&random()?)));
    let (code, user_code) = match begun() {
        Ok(begun) => begun,
        Err(e) => return failed(&e),
    };
    let issuer = shared.issuer();
    let answer = json!({
        "device_code": code, "user_code": user_code,
        "verification_uri": format!("{issuer}/device"),
        "verification_uri_complete": format!("{issuer}/device?user_code={user_code}"),
        "expires_in": inside.devices_last.num_seconds(), "interval": inside.interval,
    });
    let ends_at = Clock.now() + inside.devices_last;
    let device = Device { user_code, outcome: Outcome::Waiting, asked_at: None, ends_at };
    inside.devices.insert(code, device);
    Json(answer).into_response()
}
