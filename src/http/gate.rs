//! What every request passes on its way in and every answer on its way out: the request's id, its
//! span, the problem document, and the headers that hold for all.
//!
//! The id is ours: one that a caller could choose would let it write another request's id into our
//! logs and audit. What it sent is kept beside ours, so that its own logs can be matched.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use tracing::{Instrument as _, Span, field};

use crate::{
    http::{pages, problem::Failure},
    ids::RequestId,
    telemetry::{metrics::Metrics, trace},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest foreign id that is written to the log.
const LONGEST_FOREIGN_ID: usize = 64;

/// Lets a request through.
pub(in crate::http) async fn pass(
    State(metrics): State<Arc<Metrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = RequestId::new();
    request.extensions_mut().insert(id);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let path = request.uri().path().to_owned();
    let wants_page = wants_page(&path, request.headers());
    let known_method = trace::known_method(method.as_str());
    let traced = trace::http_request(known_method, route, &id, |name| {
        Some(request.headers().get(name)?.to_str().ok()?.to_owned())
    });
    let _under_way = metrics.http_begun();
    let span = tracing::info_span!(
        "request",
        request.id = %id,
        http.method = %method,
        http.route = route,
        client_request_id = foreign_id(request.headers()),
        http.status = field::Empty,
        duration_ms = field::Empty,
    );
    let answered = traced.clone();
    async {
        let mut response = written(next.run(request).await, id, (&path, wants_page));
        finish_headers(&path, id, response.headers_mut());
        let status = response.status().as_u16();
        metrics.http_answered(known_method, route, status, began.elapsed());
        trace::http_answered(&answered, status);
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Span::current().record("http.status", status).record("duration_ms", duration_ms);
        // Whoever watches health asks every few seconds: that is not news.
        if matches!(route, "/healthz" | "/readyz" | "/metrics") {
            tracing::debug!(http.status = status, duration_ms, "answered");
        } else {
            tracing::info!(http.status = status, duration_ms, "answered");
        }
        response
    }
    .instrument(span)
    .instrument(traced)
    .await
}

/// The answer itself if it is a success; else what is wrong, with the headers that it had: as a page to somebody who
/// looks at one, as a problem document to all others but provisioning, which has a form of its own.
fn written(response: Response, id: RequestId, (path, wants_page): (&str, bool)) -> Response {
    let status = response.status();
    let failure = response.extensions().get::<Failure>().cloned();
    if failure.is_none() && !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let failure = failure.unwrap_or_else(|| Failure::of_status(status));
    failure.log(id);
    if response.extensions().get::<pages::SaysItself>().is_some() {
        return response;
    }
    let mut told = if wants_page || pages::is_page(&response) {
        pages::failed(&failure, id, path)
    } else if path.starts_with("/scim/") {
        failure.render_scim()
    } else {
        failure.render(id)
    };
    // Only this one is not ours to know: axum adds it to a 405.
    if let Some(allow) = response.headers().get(header::ALLOW) {
        told.headers_mut().insert(header::ALLOW, allow.clone());
    }
    told
}

/// What programs ask for: whoever opens it in a browser sees what they see.
const FOR_PROGRAMS: [&str; 6] =
    ["/v1", "/scim", "/openapi.json", "/healthz", "/readyz", "/metrics"];

/// Does a browser ask, for a person to look at? Programs say what they take, or nothing.
fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let is_for_programs = FOR_PROGRAMS.iter().any(|begin| path.starts_with(begin));
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    !is_for_programs && accept.is_some_and(|accept| accept.contains("text/html"))
}

fn finish_headers(path: &str, id: RequestId, headers: &mut HeaderMap) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if path.starts_with("/v1") || path.starts_with("/scim") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    // The page to try the API sets its own: it has scripts and styles.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
}

/// The id that the caller sent, if it is fit for a log line.
fn foreign_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    (text.len() <= LONGEST_FOREIGN_ID && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}
