//! Is the daemon alive, and is it ready? Without a token, so no answer here names more than parts
//! and their states.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::{App, readiness},
    http::{json::Json, problem::Failure},
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready))
}

/// `GET /healthz`.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
struct Alive {
    /// Always `alive`.
    status: &'static str,
    /// The daemon's version.
    version: &'static str,
}

/// `GET /readyz`.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
struct Readiness {
    /// Always `ready`; a daemon that is not answers 503 with the same `parts`.
    status: &'static str,
    /// The daemon's version.
    version: &'static str,
    /// Its parts.
    parts: Vec<Part>,
}

/// One part of the daemon, or a target.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
struct Part {
    /// Its name.
    name: String,
    /// Does it do what it is there for?
    ready: bool,
    /// How it is.
    detail: String,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Is the daemon alive?
///
/// Answers without looking at anything else: restart it if this fails.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health", operation_id = "alive",
    security(()),
    responses((status = 200, body = Alive))
)]
async fn alive() -> Json<Alive> {
    Json(Alive { status: "alive", version: VERSION })
}

/// Is the daemon ready?
///
/// Looks at its database, its loops and the targets: send it no work while this fails.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health", operation_id = "ready",
    security(()),
    responses((status = 200, body = Readiness))
)]
async fn ready(State(app): State<Arc<App>>) -> Result<Json<Readiness>, Failure> {
    let parts: Vec<Part> = app.readiness().await.into_iter().map(shown).collect();
    let missing: Vec<&str> =
        parts.iter().filter(|part| !part.ready).map(|part| part.name.as_str()).collect();
    if missing.is_empty() {
        return Ok(Json(Readiness { status: "ready", version: VERSION, parts }));
    }
    let detail = format!("not ready: {}", missing.join(", "));
    let parts = serde_json::to_value(&parts).unwrap_or_default();
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail)
        .retry_after(2)
        .with("parts", parts))
}

fn shown(part: readiness::Part) -> Part {
    Part { name: part.name, ready: part.ready, detail: part.detail }
}
