//! What needs no database: refusals, layers, headers, and the API's description. The routes
//! themselves are tested through the whole daemon.

use std::{
    collections::BTreeSet,
    io,
    sync::{Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request},
    routing::{get, post},
};
use futures_util::stream;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::{
    api::leases::{AskForLease, Renew},
    app::error::Error,
    http::{
        json::Json,
        parameters::{IdempotencyKey, Limit, Nothing, Paging, Path, Query},
    },
    ids::LeaseId,
};

const SETTINGS: HttpSettings = HttpSettings {
    request_timeout: Duration::from_millis(50),
    max_body_bytes: 1024,
    metrics: false,
};

fn small_router() -> Router {
    let routes = Router::new()
        .route("/v1/wish", post(async |Json(wish): Json<AskForLease>| wish.profile))
        .route(
            "/v1/renew",
            post(async |body: Option<Json<Renew>>| format!("{:?}", body.map(|Json(b)| b.ttl))),
        )
        .route("/v1/list", get(async |Query(p): Query<Paging>| format!("{:?}", p.limit)))
        .route("/v1/none", get(async |Query(Nothing {}): Query<Nothing>| "fine"))
        .route("/v1/lease/{id}", get(async |Path(id): Path<LeaseId>| id.to_string()))
        .route("/v1/key", post(async |IdempotencyKey(key): IdempotencyKey| key.unwrap_or_default()))
        .route("/v1/panic", get(async || -> &'static str { panic!("the secret reason") }))
        .route("/v1/slow", get(std::future::pending::<&'static str>))
        .route(
            "/v1/throttled",
            get(async || Failure::from(Error::Throttled { retry_after_seconds: 7 })),
        )
        .route("/v1/missing", get(async || Failure::from(Error::TokenMissing)))
        .route(
            "/v1/internal",
            get(async || Failure::from(Error::Internal("the secret reason".into()))),
        );
    layered(routes.merge(openapi::routes(document())), &SETTINGS, Metrics::unread())
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let problem: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        assert_eq!(
            problem["type"],
            format!("urn:pgvalet:problem:{}", problem["code"].as_str().unwrap())
        );
        problem
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(request: Request<Body>) -> Answer {
    let response = small_router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, text };
    assert!(answer.header("x-request-id").starts_with("req_"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    answer
}

async fn send_get(path: &str) -> Answer {
    send(Request::get(path).body(Body::empty()).unwrap()).await
}

async fn send_json(path: &str, body: &str) -> Answer {
    let request = Request::post(path).header("content-type", "application/json; charset=utf-8");
    send(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn whoever_opens_what_is_for_programs_sees_what_they_see() {
    for (path, is_page) in
        [("/healthz", false), ("/readyz", false), ("/metrics", false), ("/ask", true)]
    {
        let request = Request::get(path).header("accept", "text/html,*/*;q=0.8");
        let answer = send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("content-type").starts_with("text/html"), is_page, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_sound_is_refused_with_its_place() {
    for (body, status, code, at, words) in [
        (r#"{"profile": "a",}"#, 400, "malformed_json", None, "line 1 column 17"),
        (r#"{"profile": "a""#, 400, "malformed_json", None, "line 1 column 15"),
        (r#"{"profile": "a"} {"#, 400, "malformed_json", None, "trailing"),
        ("", 400, "malformed_json", None, "line 1 column 0"),
        (r#"{"profile": 7}"#, 422, "invalid_request", Some("profile"), "expected a string"),
        (r#"{"profil": "a"}"#, 422, "invalid_request", Some("profil"), "unknown field"),
        (r#"{"ttl": "1h"}"#, 422, "invalid_request", Some("profile"), "missing field"),
        ("[]", 422, "invalid_request", Some("profile"), ""),
        ("7", 422, "invalid_request", Some("body"), ""),
    ] {
        let answer = send_json("/v1/wish", body).await;
        let problem = answer.problem();
        assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{body}: {problem}");
        if body != "[]" {
            assert_eq!(problem["faults"][0]["at"].as_str(), at, "{body}: {problem}");
        }
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(send_json("/v1/wish", r#"{"profile": "shop-read"}"#).await.text, "shop-read");
}

#[tokio::test]
async fn only_json_is_taken_as_json() {
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut request = Request::post("/v1/wish");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = send(request.body(Body::from(r#"{"profile": "a"}"#)).unwrap()).await;
        assert_eq!(answer.status, 415, "{content_type:?}");
        assert_eq!(answer.problem()["code"], "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_large_body_is_refused_with_and_without_a_length() {
    let large = "x".repeat(2000);
    let whole = Body::from(format!(r#"{{"profile": "{large}"}}"#));
    let pieces = vec![Ok::<_, io::Error>(Bytes::from_static(b"\"")), Ok(Bytes::from(large))];
    let chunked = Body::from_stream(stream::iter(pieces));
    for body in [whole, chunked] {
        let request = Request::post("/v1/wish").header("content-type", "application/json");
        let answer = send(request.body(body).unwrap()).await;
        assert_eq!((answer.status, &answer.problem()["code"]), (413, &json!("body_too_large")));
    }
}

#[tokio::test]
async fn an_optional_body_may_be_left_out_but_not_be_wrong() {
    let empty = Request::post("/v1/renew").body(Body::empty()).unwrap();
    assert_eq!(send(empty).await.text, "None");
    assert_eq!(send_json("/v1/renew", "").await.text, "None");
    assert_eq!(send_json("/v1/renew", r#"{"ttl": "1h"}"#).await.text, r#"Some(Some("1h"))"#);
    assert_eq!(send_json("/v1/renew", r#"{"tll": "1h"}"#).await.problem()["status"], 422);
    let untyped = Request::post("/v1/renew").body(Body::from(r#"{"ttl": "1h"}"#)).unwrap();
    assert_eq!(send(untyped).await.problem()["code"], "unsupported_media_type");
}

#[tokio::test]
async fn query_parameters_are_known_and_sound() {
    for (query, code, words) in [
        ("limt=3", "unknown_parameter", "did you mean `limit`?"),
        ("colour=red", "unknown_parameter", "known are cursor, limit"),
        ("limit=0", "invalid_request", "`limit`: must be a whole number from 1 to 200"),
        ("limit=201", "invalid_request", "from 1 to 200"),
        ("limit=", "invalid_request", "from 1 to 200"),
        ("limit=1&limit=2", "invalid_request", "given twice"),
    ] {
        let answer = send_get(&format!("/v1/list?{query}")).await;
        let problem = answer.problem();
        assert_eq!((answer.status, problem["code"].as_str()), (422, Some(code)), "{query}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{query}: {problem}");
    }
    assert_eq!(send_get("/v1/list").await.text, "Limit(50)");
    assert_eq!(send_get("/v1/list?limit=200").await.text, "Limit(200)");
    assert_eq!(send_get("/v1/none").await.text, "fine");
    let detail = send_get("/v1/none?limit=1").await.problem()["detail"].clone();
    assert!(detail.as_str().unwrap().contains("takes none"), "{detail}");
}

#[tokio::test]
async fn an_id_of_the_wrong_shape_is_told_what_one_looks_like() {
    for id in ["7", "tok_0190c5d3e1a27c41b1f5d0c2a1b3c4d5", "%ff", "lse_"] {
        let problem = send_get(&format!("/v1/lease/{id}")).await.problem();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(422), &json!("invalid_id")));
    }
    let problem = send_get("/v1/lease/7").await.problem();
    assert!(problem["detail"].as_str().unwrap().contains("lse_0190"), "{problem}");
    let id = LeaseId::new().to_string();
    assert_eq!(send_get(&format!("/v1/lease/{id}")).await.text, id);
}

#[tokio::test]
async fn an_idempotency_key_is_visible_ascii() {
    for (keys, status) in [
        (vec![], 200),
        (vec!["k".repeat(255)], 200),
        (vec!["k".repeat(256)], 422),
        (vec![String::new()], 422),
        (vec!["a b".to_owned()], 422),
        (vec!["a".to_owned(), "b".to_owned()], 422),
    ] {
        let mut request = Request::post("/v1/key");
        for key in &keys {
            request = request.header("Idempotency-Key", key);
        }
        assert_eq!(send(request.body(Body::empty()).unwrap()).await.status, status, "{keys:?}");
    }
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems_too() {
    for path in ["/v1/nothing", "/nothing", "/docs/nothing.js"] {
        let answer = send_get(path).await;
        assert_eq!((answer.status, &answer.problem()["code"]), (404, &json!("route_unknown")));
    }
    let answer = send_get("/v1/wish").await;
    assert_eq!((answer.status, &answer.problem()["code"]), (405, &json!("method_not_allowed")));
    assert_eq!(answer.header("allow"), "POST");
    let request = Request::post("/docs/").header("accept", "text/html");
    let answer = send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.header("content-type")), (405, "text/html; charset=utf-8"));
    assert_eq!(answer.header("allow"), "GET,HEAD");
}

#[tokio::test]
async fn each_failure_says_what_its_status_asks_for_and_no_more() {
    let answer = send_get("/v1/missing").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
    let answer = send_get("/v1/throttled").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    let answer = send_get("/v1/slow").await;
    assert_eq!((answer.status, &answer.problem()["code"]), (504, &json!("request_timeout")));
    for path in ["/v1/panic", "/v1/internal"] {
        let answer = send_get(path).await;
        assert_eq!((answer.status, &answer.problem()["code"]), (500, &json!("internal")));
        assert!(!answer.text.contains("secret reason"), "{}", answer.text);
    }
}

/// Everything that is logged meanwhile.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_has_the_reason_with_the_id_once_and_never_a_token_or_a_query() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    // With one dispatcher alive, tracing asks that of whichever thread comes by first whether a line
    // is wanted, and keeps the answer: a test beside this one would say no for it. With two, it asks all.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let request = Request::get("/v1/internal?note=hidden-query")
        .header("authorization", "Bearer pgv_hidden-token")
        .header("x-request-id", "theirs-1")
        .body(Body::empty());
    let answer = send(request.unwrap()).await;
    drop(guard);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let reasons: Vec<&str> = text.lines().filter(|line| line.contains("secret reason")).collect();
    assert_eq!(reasons.len(), 1, "{text}");
    assert!(reasons[0].contains("ERROR") && reasons[0].contains(answer.header("x-request-id")));
    assert!(text.contains("theirs-1") && answer.header("x-request-id") != "theirs-1");
    assert!(text.contains("http.route=\"/v1/internal\"") && text.contains("http.status=500"));
    assert!(!text.contains("hidden"), "{text}");
}

#[test]
fn a_page_has_a_cursor_only_if_there_is_more() {
    let limit = Limit::default();
    let rows = |n: u32| (0..n).collect::<Vec<_>>();
    let page = limit.page(rows(50), ToString::to_string, |row| row);
    assert_eq!((page.items.len(), page.next_cursor), (50, None));
    let page = limit.page(rows(51), ToString::to_string, |row| row);
    assert_eq!((page.items.len(), page.next_cursor.as_deref()), (50, Some("49")));
}

#[tokio::test]
async fn the_page_to_try_the_api_loads_nothing_from_elsewhere() {
    let answer = send_get("/docs/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-security-policy").starts_with("default-src 'self';"));
    let script = send_get("/docs/swagger-initializer.js").await;
    assert_eq!(script.status, 200);
    assert!(
        script.text.contains("/openapi.json") && script.text.contains("\"validatorUrl\": \"none\"")
    );
    assert_eq!(
        send_get("/v1/none").await.header("content-security-policy"),
        "default-src 'none'; frame-ancestors 'none'"
    );
}

/// One operation has what every one has.
fn is_described(path: &str, operation: &Value) {
    assert!(operation["summary"].is_string(), "{path}");
    for response in operation["responses"].as_object().unwrap().values() {
        assert!(response["description"].is_string() || response["$ref"].is_string(), "{path}");
    }
    let responses = operation["responses"].as_object().unwrap();
    assert!(responses.contains_key("500") && responses.contains_key("default"), "{path}");
    // A sealed code stands in the body, in the place of a token.
    let by_code = operation["operationId"] == "openEmergency";
    let is_open = path.starts_with("/v1/sign-in") || by_code;
    let signed_in = !is_open && (path.starts_with("/v1") || path.starts_with("/scim"));
    assert_eq!(responses.contains_key("401"), signed_in || by_code, "{path}");
    assert_eq!(operation["security"] == json!([{"token": []}]), signed_in, "{path}");
    let names: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
    let mut unique: Vec<String> =
        names.iter().map(|p| format!("{} {}", p["in"], p["name"])).collect();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{path}: {names:?}");
}

#[tokio::test]
async fn the_description_lists_every_route_with_its_problems() {
    let answer = send_get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document: Value = serde_json::from_str(&answer.text).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let (mut routes, mut ids) = (Vec::new(), BTreeSet::new());
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            routes.push(format!("{} {path}", method.to_uppercase()));
            assert!(ids.insert(operation["operationId"].to_string()), "{path}: its id is taken");
            is_described(path, operation);
        }
    }
    routes.sort();
    insta::assert_snapshot!(routes.join("\n"));
    nothing_leads_nowhere(&document, &answer.text);
}

fn nothing_leads_nowhere(document: &Value, text: &str) {
    let dangling: BTreeSet<&str> = text
        .split("\"$ref\":\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|pointer| document.pointer(pointer).is_none())
        .collect();
    assert!(dangling.is_empty(), "{dangling:?} lead nowhere");
}
