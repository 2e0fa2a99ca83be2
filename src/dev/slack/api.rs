//! The part of the Web API that we use, with what Slack refuses of it.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    dev::slack::{Form, Inside, Mood, Posted, Shared},
};

/// How long a trigger may be used.
const TRIGGER_HOLDS: TimeDelta = TimeDelta::seconds(3);

/// The longest text of a section, and of a field.
const LONGEST: (usize, usize) = (3000, 2000);

/// The longest that all blocks of a message may be, whatever is said of each.
const LONGEST_MESSAGE: usize = 13_000;

/// Larger than any call.
const LONGEST_BODY: usize = 1 << 20;

type Query2 = Query<Vec<(String, String)>>;

/// The channel in which the bot and somebody write to each other.
pub(in crate::dev::slack) fn direct(user: &str) -> String {
    format!("D{}", user.trim_start_matches('U'))
}

/// Answers as it was told to.
pub(in crate::dev::slack) async fn in_its_mood(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LONGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mood = {
        let mut inside = shared.inside();
        inside.bodies.push(format!("{} {}", parts.uri, String::from_utf8_lossy(&body)));
        inside.next_mood()
    };
    let doing = next.run(Request::from_parts(parts, Body::from(body)));
    match mood {
        Mood::Well => doing.await,
        Mood::TooMany(seconds) => {
            let wait = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, wait, "ratelimited").into_response()
        }
        Mood::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "oh no").into_response(),
        Mood::BrokenAfterDoing => {
            doing.await;
            (StatusCode::INTERNAL_SERVER_ERROR, "oh no").into_response()
        }
        Mood::Garbage => "<html>We will be back soon</html>".into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::CutAfterDoing => {
            doing.await;
            let cut = std::io::Error::other("cut");
            let pieces = [Ok(Bytes::from_static(b"{\"ok\":tr")), Err(cut)];
            Body::from_stream(futures_util::stream::iter(pieces)).into_response()
        }
    }
}

fn refused(code: &str) -> Json<Value> {
    Json(json!({ "ok": false, "error": code }))
}

fn is_the_bot(shared: &Shared, headers: &HeaderMap) -> bool {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    sent.and_then(|text| text.strip_prefix("Bearer ")) == Some(shared.bot_token.expose().as_str())
}

/// A call that does something.
pub(in crate::dev::slack) async fn call(
    State(shared): State<Arc<Shared>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Json<Value> {
    if !is_the_bot(&shared, &headers) {
        return refused("invalid_auth");
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return refused("invalid_json") };
    let mut inside = shared.inside();
    let done = match method.as_str() {
        "chat.postMessage" => post(&mut inside, &body),
        "chat.update" => update(&mut inside, &body),
        "conversations.open" => Ok(open_direct(&body)),
        "views.open" => open_form(&mut inside, &body),
        _ => Err("unknown_method"),
    };
    drop(inside);
    shared.changed.notify_waiters();
    done.map_or_else(refused, Json)
}

fn text<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str)
}

fn post(inside: &mut Inside, body: &Value) -> Result<Value, &'static str> {
    let wanted = text(body, "channel").ok_or("channel_not_found")?;
    let channel = if wanted.starts_with('U') { direct(wanted) } else { wanted.to_owned() };
    if channel != crate::dev::slack::CHANNEL && !channel.starts_with('D') {
        return Err("channel_not_found");
    }
    let blocks = sound_blocks(body)?;
    let ts = inside.next_ts();
    inside.messages.push(Posted {
        channel: channel.clone(),
        ts: ts.clone(),
        thread: text(body, "thread_ts").map(str::to_owned),
        text: text(body, "text").unwrap_or_default().to_owned(),
        blocks,
        metadata: body.get("metadata").cloned().unwrap_or(Value::Null),
        changes: 0,
    });
    Ok(json!({ "ok": true, "channel": channel, "ts": ts }))
}

fn update(inside: &mut Inside, body: &Value) -> Result<Value, &'static str> {
    let blocks = sound_blocks(body)?;
    let (channel, ts) = (text(body, "channel"), text(body, "ts"));
    let found = inside.messages.iter_mut().find(|message| {
        Some(message.channel.as_str()) == channel && Some(message.ts.as_str()) == ts
    });
    let message = found.ok_or("message_not_found")?;
    message.blocks = blocks;
    message.text = text(body, "text").unwrap_or_default().to_owned();
    message.changes += 1;
    Ok(json!({ "ok": true, "channel": message.channel, "ts": message.ts }))
}

fn sound_blocks(body: &Value) -> Result<Vec<Value>, &'static str> {
    let blocks = body.get("blocks").and_then(Value::as_array).cloned().unwrap_or_default();
    let length = |text: Option<&Value>| {
        text.and_then(Value::as_str).map_or(0, |text| text.encode_utf16().count())
    };
    let mut all = 0;
    for block in &blocks {
        let section = length(block.pointer("/text/text"));
        let fields = block.get("fields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let longest = fields.iter().map(|field| length(field.get("text"))).max().unwrap_or(0);
        if section > LONGEST.0 || longest > LONGEST.1 || fields.len() > 10 {
            return Err("invalid_blocks");
        }
        all += section + fields.iter().map(|field| length(field.get("text"))).sum::<usize>();
    }
    if blocks.len() > 50 {
        return Err("invalid_blocks");
    }
    if all > LONGEST_MESSAGE {
        return Err("msg_blocks_too_long");
    }
    Ok(blocks)
}

fn open_direct(body: &Value) -> Value {
    json!({ "ok": true, "channel": { "id": direct(text(body, "users").unwrap_or_default()) } })
}

fn open_form(inside: &mut Inside, body: &Value) -> Result<Value, &'static str> {
    let trigger = text(body, "trigger_id").ok_or("invalid_trigger_id")?;
    let (user, at) = inside.triggers.remove(trigger).ok_or("exchanged_trigger_id")?;
    if Clock.now() - at > TRIGGER_HOLDS {
        return Err("expired_trigger_id");
    }
    let view = body.get("view").cloned().ok_or("invalid_arguments")?;
    if text(&view, "private_metadata").unwrap_or_default().len() > 3000 {
        return Err("invalid_arguments");
    }
    let id = format!("V{}", inside.next());
    inside.forms.push(Form { id: id.clone(), user, view });
    Ok(json!({ "ok": true, "view": { "id": id } }))
}

/// A call that asks.
pub(in crate::dev::slack) async fn ask(
    State(shared): State<Arc<Shared>>,
    Path(method): Path<String>,
    Query(query): Query2,
    headers: HeaderMap,
) -> Json<Value> {
    if !is_the_bot(&shared, &headers) {
        return refused("invalid_auth");
    }
    let value =
        |name: &str| query.iter().find(|(seen, _)| seen == name).map(|(_, value)| value.as_str());
    let (channel, thread) = (value("channel").unwrap_or_default(), value("ts"));
    let is_meant = |message: &&Posted| match method.as_str() {
        "conversations.replies" => message.thread.as_deref() == thread,
        _ => message.thread.is_none(),
    };
    let oldest: f64 = value("oldest").and_then(|text| text.parse().ok()).unwrap_or_default();
    let inside = shared.inside();
    let messages: Vec<Value> = inside
        .messages
        .iter()
        .rev()
        .filter(|message| message.channel == channel)
        .filter(|message| message.ts.parse::<f64>().is_ok_and(|ts| ts >= oldest))
        .filter(is_meant)
        .map(|message| json!({ "ts": message.ts, "text": message.text, "metadata": message.metadata }))
        .collect();
    Json(json!({ "ok": true, "messages": messages, "has_more": false }))
}

/// An answer that one person sees.
pub(in crate::dev::slack) async fn answer(
    State(shared): State<Arc<Shared>>,
    Path(address): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let mut inside = shared.inside();
    let Some((user, left)) = inside.answer_addresses.get_mut(&address) else {
        return (StatusCode::NOT_FOUND, "expired_url").into_response();
    };
    if *left == 0 {
        return (StatusCode::NOT_FOUND, "used_url").into_response();
    }
    *left -= 1;
    let user = user.clone();
    inside.answers.push((user, body));
    drop(inside);
    shared.changed.notify_waiters();
    "ok".into_response()
}
