//! Where Slack sends commands, clicks and forms, and where a person says which account there is theirs.
//!
//! What Slack sends is taken as raw bytes, because those were signed; it is answered before anything is done with it.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;

use crate::{
    app::{
        App,
        slack::{NotTaken, Taken},
    },
    http::{caller::From, problem::Failure},
    identity::slack::{Kind, SIGNATURE, TIMESTAMP},
};

/// The routes of this file. They are Slack's, and no part of the API.
pub(in crate::http) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/slack/commands", post(command))
        .route("/slack/interactions", post(interaction))
}

async fn command(
    State(app): State<Arc<App>>,
    From(origin): From,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let taken = app.take_in(Kind::Command, signature(&headers), &body, origin);
    Ok(match taken.map_err(not_taken)? {
        Taken::In => StatusCode::OK.into_response(),
        Taken::Full => {
            let text = "pgvalet has too much to do just now: write it again in a minute.";
            axum::Json(json!({ "response_type": "ephemeral", "text": text })).into_response()
        }
    })
}

async fn interaction(
    State(app): State<Arc<App>>,
    From(origin): From,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let taken = app.take_in(Kind::Interaction, signature(&headers), &body, origin);
    match taken.map_err(not_taken)? {
        Taken::In => Ok(StatusCode::OK.into_response()),
        // Slack then says itself that it went wrong, and they click again.
        Taken::Full => {
            let detail = "too much of what Slack sent waits to be done";
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail))
        }
    }
}

fn signature(headers: &HeaderMap) -> (Option<&str>, Option<&str>) {
    // Two of one name are none: which of them was looked at must not be a question.
    let text = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    };
    (text(TIMESTAMP), text(SIGNATURE))
}

fn not_taken(why: NotTaken) -> Failure {
    match why {
        NotTaken::NoSlack => Failure::new(StatusCode::NOT_FOUND, "no_slack", why.to_string()),
        NotTaken::NotSigned(_) => {
            let detail = format!("this is not from Slack: {why}");
            Failure::new(StatusCode::UNAUTHORIZED, "not_from_slack", detail)
        }
        NotTaken::Stranger(_) => {
            Failure::new(StatusCode::FORBIDDEN, "other_workspace", why.to_string())
        }
    }
}
