//! Pages for a browser: who is signed in, and their live leases. No script: what a page does is a link or a form,
//! and what it may load is its own style. Every text in it passes through [`escaped`].

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::{FromRequestParts, Query, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{AppendHeaders, Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::{
    app::{App, LeaseFilter, people::browser::BroughtBack},
    domain::lease::{Lease, State as LeaseState},
    http::{
        caller::{From, SignedIn},
        cookie::Cookie,
        problem::Failure,
    },
    secret::Secret,
};

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

const STYLE: &str = include_str!("page.css");

/// As long as a person has at the provider.
const KEEPSAKE_LASTS: TimeDelta = TimeDelta::minutes(10);

/// Leases shown at most: a page is read by a person.
const MOST_LEASES: i64 = 50;

/// Marks an answer as a page: it says itself what is wrong, and is no problem document.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Page;

/// The routes of this file. They are for browsers, and no part of the API.
pub(in crate::http) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(front))
        .route("/page.css", get(style))
        .route("/sign-in", get(begin))
        .route("/sign-in/callback", get(finish))
        .route("/sign-out", post(sign_out))
}

/// Whoever is signed in; none without a session, or with one that is over.
struct Visitor(Option<SignedIn>);

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        if Cookie::Session.read(&parts.headers, app).is_none() {
            return Ok(Self(None));
        }
        match SignedIn::from_request_parts(parts, app).await {
            Ok(signed_in) => Ok(Self(Some(signed_in))),
            Err(failure) if failure.status() == StatusCode::UNAUTHORIZED => Ok(Self(None)),
            Err(failure) => Err(failure),
        }
    }
}

async fn style() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/css"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, STYLE)
}

async fn front(
    State(app): State<Arc<App>>,
    visitor: Result<Visitor, Failure>,
) -> Result<Response, Response> {
    let Visitor(visitor) = visitor.map_err(failed)?;
    let Some(SignedIn { caller, .. }) = visitor else {
        if !app.has_provider() {
            return Ok(Redirect::temporary("/docs/").into_response());
        }
        let body = "<p>Valet keys for PostgreSQL: logins that are yours, for what you may see, and \
                    that end by themselves.</p><p><a class=\"button\" href=\"/sign-in\">Sign in</a></p>";
        return Ok(page("pgvalet", body));
    };
    let filter = LeaseFilter {
        principal_id: Some(caller.principal().id),
        states: Some(vec![LeaseState::Provisioning, LeaseState::Active, LeaseState::Revoking]),
        ..LeaseFilter::default()
    };
    let leases = app.leases(&caller, filter, None, MOST_LEASES).await;
    let leases = leases.map_err(|e| failed(e.into()))?;
    let principal = caller.principal();
    let groups: Vec<String> = principal.groups.iter().map(ToString::to_string).collect();
    let mut body = String::new();
    let _ = write!(
        body,
        "<p>You are <strong>{}</strong>{}.</p>",
        escaped(&principal.to_string()),
        if groups.is_empty() {
            String::new()
        } else {
            format!(", in {}", escaped(&groups.join(", ")))
        }
    );
    body.push_str(&shown_leases(&leases));
    if let Some(ends_at) = caller.proof_ends_at() {
        let _ = write!(body, "<p>Your session ends at {} at the latest.</p>", instant(ends_at));
    }
    body.push_str("<form method=\"post\" action=\"/sign-out\"><button>Sign out</button></form>");
    Ok(page("pgvalet", &body))
}

fn shown_leases(leases: &[Lease]) -> String {
    if leases.is_empty() {
        return "<p>You have no live leases. Ask for one with <code>pgvalet get PROFILE</code>.</p>"
            .to_owned();
    }
    let mut table = String::from(
        "<table><caption>Your live leases</caption><thead><tr><th>Lease</th><th>Profile</th>\
         <th>State</th><th>Ends</th></tr></thead><tbody>",
    );
    for lease in leases {
        let _ = write!(
            table,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            lease.id,
            escaped(lease.profile.as_ref()),
            lease.state.as_str(),
            instant(lease.expires_at)
        );
    }
    table.push_str("</tbody></table>");
    table
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
) -> Result<Response, Response> {
    let next = next.as_deref().unwrap_or("/");
    let sent = app.begin_browser(&origin, next).await.map_err(|e| failed(e.into()))?;
    let keepsake = Cookie::Keepsake.set(&sent.keepsake, KEEPSAKE_LASTS, &app);
    Ok((cookies([keepsake]), uncached(), Redirect::to(&sent.address)).into_response())
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
) -> Result<Response, Response> {
    let query = Query::<Callback>::try_from_uri(&parts.uri);
    let Query(callback) = query.map_err(|_| {
        failed(Failure::fault(
            "query",
            "is not what an identity provider sends a browser back with",
        ))
    })?;
    let keepsake = Cookie::Keepsake.read(&parts.headers, &app);
    let keepsake = keepsake.unwrap_or_else(|| Secret::new(String::new()));
    let Callback { state, code, error, iss } = callback;
    let brought = BroughtBack { state, code, error, issuer: iss };
    let back = app.finish_browser(&origin, keepsake.expose(), brought).await;
    let back = back.map_err(|e| failed(e.into()))?;
    let ends_at = back.made.token.expires_at.unwrap_or(back.made.token.created_at);
    let lasts = ends_at - back.made.token.created_at;
    let session = Cookie::Session.set(&back.made.secret, lasts, &app);
    let set = cookies([session, Cookie::Keepsake.clear(&app)]);
    Ok((set, uncached(), Redirect::to(&back.next)).into_response())
}

async fn sign_out(
    State(app): State<Arc<App>>,
    visitor: Result<Visitor, Failure>,
) -> Result<Response, Response> {
    let Visitor(visitor) = visitor.map_err(failed)?;
    if let Some(SignedIn { caller, origin }) = visitor
        && let Some(id) = caller.token_id()
    {
        app.revoke_token(&caller, &origin, id).await.map_err(|e| failed(e.into()))?;
    }
    let set = cookies([Cookie::Session.clear(&app)]);
    Ok((set, uncached(), Redirect::to("/")).into_response())
}

fn cookies<const N: usize>(
    set: [Option<HeaderValue>; N],
) -> AppendHeaders<Vec<(header::HeaderName, HeaderValue)>> {
    AppendHeaders(set.into_iter().flatten().map(|value| (header::SET_COOKIE, value)).collect())
}

const fn uncached() -> [(header::HeaderName, &'static str); 2] {
    [(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer")]
}

fn page(title: &str, body: &str) -> Response {
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"stylesheet\" href=\"/page.css\"></head>\
         <body><header><a href=\"/\">pgvalet</a> <nav><a href=\"/docs/\">API</a></nav></header>\
         <main><h1>{title}</h1>{body}</main></body></html>"
    );
    let policy = [(header::CONTENT_SECURITY_POLICY, POLICY)];
    (uncached(), policy, Html(text)).into_response()
}

/// What went wrong, for a person, with the way to begin again.
fn failed(failure: Failure) -> Response {
    let body = format!(
        "<p>{}</p><p><a class=\"button\" href=\"/sign-in\">Sign in again</a></p>",
        escaped(failure.detail())
    );
    let mut response = page("Not signed in", &body);
    *response.status_mut() = failure.status();
    response.extensions_mut().insert(Page);
    response.extensions_mut().insert(failure);
    response
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A text as it may stand in a page, in a value too.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        let hostile = "<script>alert(\"1\" & '2')</script>";
        let safe = "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;";
        assert_eq!(escaped(hostile), safe);
    }
}
