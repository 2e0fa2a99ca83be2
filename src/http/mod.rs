//! The HTTP API: from a request to a use case of `app` and back. Nothing is decided here but what
//! is said: which status, which words, which headers.

mod admin;
mod audit;
mod caller;
mod ci;
mod code;
mod cookie;
mod drift;
mod emergencies;
mod gate;
mod hba;
mod health;
mod identities;
mod json;
mod leases;
mod metrics;
mod notices;
mod offboarding;
mod openapi;
mod pages;
mod parameters;
mod people;
mod problem;
mod requests;
mod reviews;
mod rights;
mod scim;
mod sign_in;
mod slack;
mod standing;
mod status;
mod sweep;
mod tokens;

#[cfg(test)]
mod tests;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer, sensitive_headers::SetSensitiveRequestHeadersLayer,
    timeout::TimeoutLayer,
};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::problem::Failure, telemetry::metrics::Metrics};

/// What an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct HttpSettings {
    /// How long a request may take until its answer begins.
    pub request_timeout: Duration,
    /// How large a body may be.
    pub max_body_bytes: usize,
    /// Is `/metrics` served here, and not on an address of its own?
    pub metrics: bool,
}

/// All routes, with their layers. To be served with the address of each connection
/// (`into_make_service_with_connect_info::<SocketAddr>()`): the throttle and the audit go by it.
pub fn router(app: Arc<App>, settings: &HttpSettings) -> Router {
    let (api, document) = api().split_for_parts();
    let mut all = api
        .merge(openapi::routes(openapi::complete(document)))
        .merge(pages::routes())
        .merge(slack::routes());
    if settings.metrics {
        all = all.merge(metrics::routes());
    }
    let metrics = Arc::clone(app.metrics());
    layered(all, settings, metrics).with_state(app)
}

/// `/metrics` and nothing else, for an address of its own.
pub fn metrics_router(app: Arc<App>, settings: &HttpSettings) -> Router {
    let metrics = Arc::clone(app.metrics());
    layered(metrics::routes(), settings, metrics).with_state(app)
}

/// What plain HTTP is told on a port that speaks TLS.
pub fn plain_router(metrics: Arc<Metrics>) -> Router {
    let gate = middleware::from_fn_with_state(metrics, gate::pass);
    Router::new().fallback(problem::needs_tls).layer(gate)
}

/// The API's description, as `/openapi.json` serves it.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    openapi::complete(api().into_openapi())
}

fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::Base::openapi())
        .merge(caller::routes())
        .merge(leases::routes())
        .merge(requests::routes())
        .merge(reviews::routes())
        .merge(admin::routes())
        .merge(hba::routes())
        .merge(standing::routes())
        .merge(rights::routes())
        .merge(code::routes())
        .merge(sweep::routes())
        .merge(drift::routes())
        .merge(notices::routes())
        .merge(tokens::routes())
        .merge(identities::routes())
        .merge(ci::routes())
        .merge(sign_in::routes())
        .merge(people::routes())
        .merge(offboarding::routes())
        .merge(emergencies::routes())
        .merge(scim::routes())
        .merge(audit::routes())
        .merge(status::routes())
        .merge(health::routes())
}

/// The layers, outermost first: the header that nobody may print; the gate, which sees every answer,
/// also those of the layers under it; the deadline; panics, which end one request and no more; the
/// size of bodies.
fn layered<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    settings: &HttpSettings,
    metrics: Arc<Metrics>,
) -> Router<S> {
    let secret = Arc::from([header::AUTHORIZATION, header::COOKIE]);
    let deadline =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, settings.request_timeout);
    let layers = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::from_shared(secret))
        .layer(middleware::from_fn_with_state(metrics, gate::pass))
        .layer(deadline)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes));
    routes
        .fallback(problem::unknown_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(layers)
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned());
    Failure::internal(format!("a handler panicked: {text}")).into_response()
}
