//! JSON in and out. What comes in is read so that a refusal says where and what: which field, or
//! which line and column. Unknown fields are refused by the types themselves.

use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, OptionalFromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;

use crate::{api::problem::ProblemFault, http::problem::Failure};

/// A JSON body.
pub(in crate::http) struct Json<T>(pub(in crate::http) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if !is_json(request.headers()) {
            return Err(not_json());
        }
        let body = Bytes::from_request(request, state).await.map_err(unreadable)?;
        read(&body).map(Self)
    }
}

/// A body that may be left out, together with its content type.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Failure> {
        let has_type = request.headers().contains_key(header::CONTENT_TYPE);
        if !has_type && request.body().is_end_stream() {
            return Ok(None);
        }
        let is_json = is_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(unreadable)?;
        match (body.is_empty(), has_type, is_json) {
            (true, false, _) | (true, _, true) => Ok(None),
            (_, _, true) => read(&body).map(|value| Some(Self(value))),
            (_, _, false) => Err(not_json()),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(e) => Failure::internal(format!("write an answer as JSON: {e}")).into_response(),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

fn not_json() -> Failure {
    Failure::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "send the body as JSON, with `Content-Type: application/json`",
    )
}

fn unreadable(rejection: BytesRejection) -> Failure {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::of_status(StatusCode::PAYLOAD_TOO_LARGE),
        _ => Failure::new(
            StatusCode::BAD_REQUEST,
            "body_unreadable",
            "the body ended before it was complete: send it again",
        ),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|e| {
        let path = e.path().to_string();
        refusal(&path, &e.into_inner())
    })?;
    deserializer.end().map_err(|e| refusal(".", &e))?;
    Ok(value)
}

fn refusal(path: &str, error: &serde_json::Error) -> Failure {
    let (line, column) = (error.line(), error.column());
    let whole = error.to_string();
    let message = whole.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&whole);
    match error.classify() {
        Category::Data => Failure::invalid(vec![ProblemFault {
            at: place(path, message),
            message: message.to_owned(),
        }]),
        Category::Syntax | Category::Eof | Category::Io => {
            let place = if path == "." { String::new() } else { format!(" (in `{path}`)") };
            Failure::new(
                StatusCode::BAD_REQUEST,
                "malformed_json",
                format!("the body is not JSON: {message}, line {line} column {column}{place}"),
            )
        }
    }
}

/// Where a fault is. serde names a missing field only in its message, and the whole body `.`.
fn place(path: &str, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match (path, missing) {
        (".", Some(field)) => field.to_owned(),
        (path, Some(field)) => format!("{path}.{field}"),
        (".", None) => "body".to_owned(),
        (path, None) => path.to_owned(),
    }
}
