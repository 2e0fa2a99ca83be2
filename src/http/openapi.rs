//! The API's own description (`/openapi.json`), collected from the handlers, and a page to try it
//! (`/docs/`). What holds for every route is added here once: who may call, and how it may fail.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, header},
    routing::get,
};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, HttpMethod, PathItem, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, ParameterIn},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{
    api::problem::{PROBLEM_JSON, Problem},
    http::json::Json,
    ids::AuditId,
};

/// What is not written at a handler.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "pgvalet",
        description = "Valet keys for PostgreSQL: short-lived, least-privilege, individually \
                       attributed logins.\n\nEvery answer carries `X-Request-Id`, which is also in \
                       the logs and the audit. Every answer that is not a success is a problem \
                       document (RFC 9457) with a stable `code`. Lists are newest first and paged: \
                       send `next_cursor` as `cursor`."
    ),
    // Only a parameter names the second, and parameters' types are not collected by themselves.
    components(schemas(Problem, AuditId)),
    tags(
        (name = "leases", description = "Ask for access, renew it, end it"),
        (name = "requests", description = "What others must agree to first"),
        (name = "reviews", description = "Who can reach what, looked at again"),
        (name = "profiles", description = "What one kind of caller may get"),
        (name = "targets", description = "The PostgreSQL clusters that logins are made on"),
        (name = "standing roles", description = "Long-lived application logins, rotated on a schedule"),
        (name = "code", description = "Targets and profiles as a file"),
        (name = "tokens", description = "Who is calling"),
        (name = "ci", description = "Whose CI jobs are let in"),
        (name = "sign-in", description = "People sign in at an identity provider; without a token"),
        (name = "people", description = "Whom pgvalet knows"),
        (name = "emergencies", description = "Leases that wait for nobody, and that somebody else looks at"),
        (name = "provisioning", description = "SCIM 2.0, for the identity provider"),
        (name = "notices", description = "What webhooks and people are told"),
        (name = "audit", description = "What happened, as a chain that cannot be altered unseen"),
        (name = "health", description = "Without a token"),
    )
)]
pub(in crate::http) struct Base;

/// The name of the security scheme in the document.
const BEARER: &str = "token";

/// The failures that an operation may answer with: status, name in the document, what it means.
const PROBLEMS: [(&str, &str, &str); 14] = [
    ("400", "Unreadable", "The body is not JSON, or ended early"),
    ("401", "Unauthenticated", "No token, or not a good one"),
    (
        "403",
        "Forbidden",
        "Not allowed: the code says whether by the profile, or for lack of rights",
    ),
    ("404", "NotFound", "There is no such thing, or not for this caller"),
    ("409", "Conflict", "Something is in the way: the code says what"),
    ("413", "TooLarge", "The body is larger than the daemon takes"),
    ("415", "NotJson", "The body's content type is not JSON"),
    ("422", "Invalid", "The request is not sound: `faults` lists what is wrong"),
    ("429", "TooOften", "Too many wrong tokens from this address: see Retry-After"),
    ("500", "Internal", "Something went wrong in pgvalet: its log has the request's id"),
    ("502", "TargetRefused", "The target refused"),
    ("503", "Unavailable", "The state database or the target does not answer: see Retry-After"),
    ("504", "TooSlow", "It took too long"),
    ("default", "Problem", "Any other answer that is not a success"),
];

/// Adds to the collected document what holds for every operation.
pub(in crate::http) fn complete(
    mut document: utoipa::openapi::OpenApi,
) -> utoipa::openapi::OpenApi {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("pgv_…")
        .description(Some("A token of pgvalet, or of a CI job"))
        .build();
    components.security_schemes.insert(BEARER.to_owned(), SecurityScheme::Http(bearer).into());
    for (status, name, meaning) in PROBLEMS {
        components.responses.insert(name.to_owned(), RefOr::T(problem(status, meaning)));
    }
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete_operation(path, &method, operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

fn complete_operation(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let is_open = path.starts_with("/v1/sign-in")
        || (path == "/v1/emergencies" && *method == HttpMethod::Post);
    let signed_in = !is_open && (path.starts_with("/v1") || path.starts_with("/scim"));
    if signed_in {
        operation.security =
            Some(vec![SecurityRequirement::new(BEARER, std::iter::empty::<String>())]);
    }
    // OpenAPI wants words for each answer; most say all with their type.
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = "Done".to_owned();
        }
    }
    let has_body = operation.request_body.is_some();
    let has_path =
        operation.parameters.iter().flatten().any(
            |parameter| matches!(parameter, RefOr::T(it) if it.parameter_in == ParameterIn::Path),
        );
    for (status, name, _) in PROBLEMS {
        let may_happen = match status {
            "400" | "413" | "415" => has_body,
            "404" => has_path || path == "/v1/leases" || path == "/v1/emergencies",
            "409" | "502" => (signed_in || is_open) && *method != HttpMethod::Get,
            "401" => signed_in || path == "/v1/emergencies",
            "403" | "422" | "429" => signed_in || is_open,
            "503" => path != "/healthz",
            _ => true,
        };
        if may_happen {
            let reference = Ref::from_response_name(name);
            operation.responses.responses.insert(status.to_owned(), RefOr::Ref(reference));
        }
    }
}

fn problem(status: &str, meaning: &str) -> Response {
    let example = serde_json::json!({
        "type": "urn:pgvalet:problem:invalid_request",
        "title": "The request is not sound",
        "status": 422,
        "detail": "`ttl`: `1 hour-ish` is not a length of time: write it like `30s`, `15m`, `1h` or `1h 30m`",
        "code": "invalid_request",
        "request_id": "req_0190c5d3e1a27c41b1f5d0c2a1b3c4d5",
        "faults": [{
            "at": "ttl",
            "message": "`1 hour-ish` is not a length of time: write it like `30s`, `15m`, `1h` or `1h 30m`"
        }]
    });
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
    let content = if status == "422" { content.example(Some(example)) } else { content };
    ResponseBuilder::new().description(meaning).content(PROBLEM_JSON, content.build()).build()
}

/// Scripts and styles of the page come from here and nowhere else; it loads and reports to nobody.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

/// The document and the page to try it. The page's validator is off: it would send the document to
/// somebody else's server.
pub(in crate::http) fn routes<S: Clone + Send + Sync + 'static>(
    document: utoipa::openapi::OpenApi,
) -> Router<S> {
    let config = Config::new(["/openapi.json"]).validator_url("none").try_it_out_enabled(true);
    let page: Router<S> = SwaggerUi::new("/docs").config(config).into();
    let policy = SetResponseHeaderLayer::overriding(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    let document = Arc::new(document);
    page.layer(policy).route("/openapi.json", get(async move || Json(document)))
}
