//! Every refusal and error as a problem document (RFC 9457), in one match without a wildcard.
//!
//! A handler returns a [`Failure`]. It does not write its own body: it travels in the answer's
//! extensions to `gate`, which knows the request's id, writes the document and logs what is only for
//! the operator. So no answer can miss its id, and no error can be shown and not logged.

use std::{borrow::Cow, fmt::Write as _};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use crate::{
    api::problem::{PROBLEM_JSON, Problem, ProblemFault},
    app::error::{Error, Kind},
    causes::causes,
    ids::RequestId,
};

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub(in crate::http) struct Failure(Box<Content>);

/// What is in it; boxed, because nearly every function here may return one.
#[derive(Debug, Clone)]
struct Content {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    faults: Vec<ProblemFault>,
    retry_after_seconds: Option<u64>,
    /// Members beyond those of the standard, as `parts` of a daemon that is not ready.
    more: serde_json::Map<String, serde_json::Value>,
    /// What happened, for the log and never for the caller.
    cause: Option<String>,
}

impl Failure {
    /// A failure with nothing but its status, code and words.
    pub(in crate::http) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Content {
            status,
            code,
            detail: detail.into(),
            faults: Vec::new(),
            retry_after_seconds: None,
            more: serde_json::Map::new(),
            cause: None,
        }))
    }

    /// A request whose JSON, parameters or headers do not hold.
    pub(in crate::http) fn invalid(faults: Vec<ProblemFault>) -> Self {
        let detail = match faults.as_slice() {
            [ProblemFault { at, message }] => Cow::Owned(format!("`{at}`: {message}")),
            several => Cow::Owned(format!("{} things are wrong with the request", several.len())),
        };
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail);
        failure.0.faults = faults;
        failure
    }

    /// One thing wrong with a request.
    pub(in crate::http) fn fault(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![ProblemFault { at: at.into(), message: message.into() }])
    }

    /// Our own fault. The cause is logged, and only the request's id is told.
    pub(in crate::http) fn internal(cause: String) -> Self {
        let detail = "something went wrong in pgvalet; the request's id is in its log";
        let mut failure = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail);
        failure.0.cause = Some(cause);
        failure
    }

    /// Says when to try again.
    pub(in crate::http) fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds a member to the document.
    pub(in crate::http) fn with(mut self, member: &str, value: serde_json::Value) -> Self {
        self.0.more.insert(member.to_owned(), value);
        self
    }

    /// What an answer that carries no failure means: those come from the layers and from axum's own
    /// routing, which know no more than a status.
    pub(in crate::http) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::GATEWAY_TIMEOUT => Self::new(
                status,
                "request_timeout",
                "the request took longer than this daemon allows; what it began is finished or undone: look before trying again",
            )
            .retry_after(2),
            StatusCode::NOT_FOUND => route_unknown("this path"),
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "body_too_large", "the body is larger than this daemon takes")
            }
            status if status.is_client_error() => {
                Self::new(status, "bad_request", "the request cannot be answered")
            }
            status => Self::internal(format!("an answer with status {status} and no reason")),
        }
    }

    /// What is told to the caller, as a document with the request's id.
    pub(in crate::http) fn render(&self, request_id: RequestId) -> Response {
        let content = &self.0;
        let problem = Problem {
            kind: format!("urn:pgvalet:problem:{}", content.code),
            title: title(content.status).to_owned(),
            status: content.status.as_u16(),
            detail: content.detail.clone().into_owned(),
            code: content.code.to_owned(),
            request_id: request_id.to_string(),
            faults: content.faults.clone(),
        };
        let document = Document { problem, more: &content.more };
        // A problem is texts and numbers: it always has a JSON form.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (content.status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        self.finish(headers);
        response
    }

    /// Its status.
    pub(in crate::http) const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What is told to the caller.
    pub(in crate::http) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Its code.
    pub(in crate::http) const fn code(&self) -> &'static str {
        self.0.code
    }

    /// Each thing that is wrong with the request.
    pub(in crate::http) fn faults(&self) -> &[ProblemFault] {
        &self.0.faults
    }

    /// When to try again.
    pub(in crate::http) const fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after_seconds
    }

    /// What is told to a provider that provisions people (RFC 7644, 3.12), which knows statuses and words of its
    /// own.
    pub(in crate::http) fn render_scim(&self) -> Response {
        let content = &self.0;
        let (status, word) = match (content.status, content.code) {
            (StatusCode::BAD_REQUEST, "malformed_json") => (content.status, Some("invalidSyntax")),
            (StatusCode::BAD_REQUEST, code) => (content.status, Some(code)),
            (StatusCode::UNPROCESSABLE_ENTITY, _) => {
                (StatusCode::BAD_REQUEST, Some("invalidValue"))
            }
            (StatusCode::CONFLICT, "uniqueness") => (content.status, Some("uniqueness")),
            (status, _) => (status, None),
        };
        let mut body = serde_json::json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": status.as_u16().to_string(),
            "detail": content.detail,
        });
        if let (Some(word), Some(body)) = (word, body.as_object_mut()) {
            body.insert("scimType".to_owned(), word.into());
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/scim+json"));
        self.finish(headers);
        response
    }

    /// The headers that go with it, whatever form it has.
    pub(in crate::http) fn finish(&self, headers: &mut HeaderMap) {
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// Writes to the log what the caller is not told. An internal error asks somebody to act; a
    /// target or database that does not answer is to be watched.
    pub(in crate::http) fn log(&self, request_id: RequestId) {
        let content = &self.0;
        let cause = content.cause.as_deref().unwrap_or(&content.detail);
        let code = content.code;
        if content.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(request.id = %request_id, code, cause, "a request failed in pgvalet");
        } else if content.status.is_server_error() {
            tracing::warn!(request.id = %request_id, code, cause, "a request could not be answered");
        }
    }
}

/// The document with its further members.
#[derive(serde::Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    more: &'a serde_json::Map<String, serde_json::Value>,
}

/// What a kind of problem is in a few words.
const fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "The request cannot be read",
        401 => "Who is calling is not known",
        403 => "Not allowed",
        404 => "Not there",
        405 => "This method is not for this path",
        409 => "Something is in the way",
        413 => "The body is too large",
        415 => "Not JSON",
        422 => "The request is not sound",
        429 => "Too often",
        502 => "The target refused",
        503 => "Not now",
        504 => "Too slow",
        _ => "Something went wrong in pgvalet",
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, patience) = match error.kind() {
            Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, None),
            Kind::Throttled => (StatusCode::TOO_MANY_REQUESTS, Some(60)),
            Kind::Forbidden => (StatusCode::FORBIDDEN, None),
            Kind::NotFound => (StatusCode::NOT_FOUND, None),
            Kind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, None),
            Kind::Conflict => (StatusCode::CONFLICT, None),
            Kind::BadGateway => (StatusCode::BAD_GATEWAY, None),
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Some(2)),
            Kind::Timeout => (StatusCode::GATEWAY_TIMEOUT, None),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let mut detail = error.detail();
        if let Some(lease) = error.lease() {
            let _ = write!(detail, " (lease {lease})");
        }
        let mut failure = Self::new(status, error.code(), detail);
        failure.0.retry_after_seconds = error.retry_after_seconds().or(patience);
        failure.0.cause = status.is_server_error().then(|| causes(&error));
        failure.0.faults = error_faults(&error);
        failure
    }
}

/// Each thing that is wrong with a request or a file.
fn error_faults(error: &Error) -> Vec<ProblemFault> {
    match error {
        Error::Invalid(faults) => faults.iter().cloned().map(ProblemFault::from).collect(),
        Error::File(faults) => faults
            .iter()
            .map(|fault| ProblemFault {
                at: place(&fault.file, fault.line, fault.column, &fault.key),
                message: fault.message.clone(),
            })
            .collect(),
        Error::TokenMissing
        | Error::TokenRefused
        | Error::CertificateRefused { .. }
        | Error::TokenSpent
        | Error::TokenTooOld
        | Error::CodeRefused
        | Error::NotToClose(_)
        | Error::NotForJobs { .. }
        | Error::IssuerUnavailable(_)
        | Error::Throttled { .. }
        | Error::Busy
        | Error::SignInRefused { .. }
        | Error::Provider(_)
        | Error::Forbidden { .. }
        | Error::NotYours
        | Error::NotYourRequest
        | Error::NotTheirsToDecide { .. }
        | Error::NotTheirsToReview(_)
        | Error::TooManyRequests
        | Error::NotFound { .. }
        | Error::Refused { .. }
        | Error::NotReadable { .. }
        | Error::KeyReused
        | Error::StillInProgress
        | Error::LeaseOver { .. }
        | Error::RenewalExhausted { .. }
        | Error::Conflict { .. }
        | Error::Target { .. }
        | Error::TimedOut { .. }
        | Error::StateUnavailable(_)
        | Error::Sealed(_)
        | Error::Internal(_) => Vec::new(),
    }
}

/// Where in a file a fault is, as compilers write it: `profiles.toml:12:5 profile.shop-read.ttl`.
fn place(file: &str, line: Option<usize>, column: Option<usize>, key: &str) -> String {
    let mut text = file.to_owned();
    for number in [line, column].into_iter().flatten() {
        let _ = write!(text, ":{number}");
    }
    if !key.is_empty() {
        let _ = write!(text, " {key}");
    }
    text
}

/// The answer for a path that leads nowhere.
pub(in crate::http) async fn unknown_route(uri: Uri) -> Failure {
    route_unknown(&format!("`{}`", uri.path().chars().take(200).collect::<String>()))
}

fn route_unknown(path: &str) -> Failure {
    let detail = format!("there is nothing at {path}: /openapi.json lists what there is");
    Failure::new(StatusCode::NOT_FOUND, "route_unknown", detail)
}

/// The answer for a method that a path does not know. axum adds `Allow` with those that it does.
pub(in crate::http) async fn wrong_method(method: Method) -> Failure {
    let detail = format!("{method} is not for this path: the header Allow names what is");
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// The answer to plain HTTP where TLS is spoken.
pub(in crate::http) async fn needs_tls() -> Failure {
    Failure::new(
        StatusCode::BAD_REQUEST,
        "needs_tls",
        "this port speaks TLS: write https:// in place of http://; a token that was sent here without it may have been read on the way: revoke it",
    )
}
