//! Signing in at the provider, and out.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use chrono::TimeDelta;
use serde::Deserialize;

use crate::{
    app::{App, people::browser::BroughtBack},
    http::{caller::From, cookie::Cookie, pages::form::Sent, problem::Failure},
    secret::Secret,
};

/// As long as a person has at the provider.
const KEEPSAKE_LASTS: TimeDelta = TimeDelta::minutes(10);

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/sign-in", get(begin))
        .route("/sign-in/callback", get(finish))
        .route("/sign-out", post(sign_out))
}

/// Where to go once one is signed in.
#[derive(Debug, Deserialize)]
struct Next {
    next: Option<String>,
}

async fn begin(
    State(app): State<Arc<App>>,
    From(origin): From,
    Query(Next { next }): Query<Next>,
) -> Result<Response, Failure> {
    let sent = app.begin_browser(&origin, next.as_deref().unwrap_or("/")).await?;
    let keepsake = Cookie::Keepsake.set(&sent.keepsake, KEEPSAKE_LASTS, &app);
    Ok((cookies([keepsake]), UNCACHED, Redirect::to(&sent.address)).into_response())
}

/// What the provider sends a browser back with.
#[derive(Debug, Deserialize)]
struct Callback {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

async fn finish(
    State(app): State<Arc<App>>,
    From(origin): From,
    parts: Parts,
) -> Result<Response, Failure> {
    let query = Query::<Callback>::try_from_uri(&parts.uri);
    let Query(callback) = query.map_err(|_| {
        Failure::fault("query", "is not what an identity provider sends a browser back with")
    })?;
    let keepsake = Cookie::Keepsake.read(&parts.headers, &app);
    let keepsake = keepsake.unwrap_or_else(|| Secret::new(String::new()));
    let Callback { state, code, error, iss } = callback;
    let brought = BroughtBack { state, code, error, issuer: iss };
    let back = app.finish_browser(&origin, keepsake.expose(), brought).await?;
    let ends_at = back.made.token.expires_at.unwrap_or(back.made.token.created_at);
    let lasts = ends_at - back.made.token.created_at;
    let session = Cookie::Session.set(&back.made.secret, lasts, &app);
    let set = cookies([session, Cookie::Keepsake.clear(&app)]);
    Ok((set, UNCACHED, Redirect::to(&back.next)).into_response())
}

/// Whoever is not signed in any more is signed out: there is nothing to do but forget the cookie.
async fn sign_out(
    State(app): State<Arc<App>>,
    sent: Result<Sent, Failure>,
) -> Result<Response, Failure> {
    match sent {
        Ok(Sent { visitor, .. }) => {
            if let Some(id) = visitor.caller.token_id() {
                app.revoke_token(&visitor.caller, &visitor.origin, id).await?;
            }
        }
        Err(failure) if failure.status() == StatusCode::UNAUTHORIZED => {}
        Err(failure) => return Err(failure),
    }
    let set = cookies([Cookie::Session.clear(&app)]);
    Ok((set, UNCACHED, Redirect::to("/")).into_response())
}

fn cookies<const N: usize>(
    set: [Option<HeaderValue>; N],
) -> AppendHeaders<Vec<(header::HeaderName, HeaderValue)>> {
    AppendHeaders(set.into_iter().flatten().map(|value| (header::SET_COOKIE, value)).collect())
}

/// What is in an address that is gone to or left here is nobody else's.
const UNCACHED: [(header::HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer")];
