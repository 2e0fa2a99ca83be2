//! `GET /metrics`, for Prometheus.
//!
//! Without a token, like `/healthz`: there are counts and durations in it, and no label that names a
//! person, a profile or a target. It is not part of the API's description, because its form is
//! Prometheus' and not ours. Where even counts are nobody's business, it gets an address of its own.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{app::App, http::problem::Failure};

/// The media type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The route of this file.
pub(in crate::http) fn routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let text = app.metrics().text().map_err(|e| Failure::internal(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}
