//! Spans for traces. They have a target of their own, `pgvalet::trace`, so that traces say how the
//! time was spent whatever the log filter is, and log lines are not burdened with what only a trace
//! needs. Names and attributes are OpenTelemetry's semantic conventions where there is one.
//!
//! The path of a request and the text of a statement are left out, although the conventions have
//! them: either may carry what somebody typed into the wrong place.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of spans that are for traces only. `#[instrument]` wants the same as a literal.
pub(crate) const TARGET: &str = "pgvalet::trace";

/// The span of an HTTP request. Its parent is what the caller sent in `traceparent`, if that can be
/// read: a trace then begins where the work began, in a pipeline or another service.
#[must_use]
pub fn http_request(
    method: &'static str,
    route: &str,
    request_id: &dyn std::fmt::Display,
    header: impl Fn(&'static str) -> Option<String>,
) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        url.scheme = "http",
        request.id = %request_id,
    );
    if span.is_disabled() {
        return span;
    }
    let carried = ["traceparent", "tracestate"].into_iter();
    let carried: HashMap<String, String> =
        carried.filter_map(|name| Some((name.to_owned(), header(name)?))).collect();
    if carried.contains_key("traceparent") {
        // A header that cannot be read leaves the span at the root of a new trace.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carried));
    }
    span
}

/// Notes how a request was answered.
pub fn http_answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// A method by its name; any that HTTP does not define is `_OTHER`, since callers may invent some.
#[must_use]
pub fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("_OTHER")
}
