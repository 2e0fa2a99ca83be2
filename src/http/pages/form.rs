//! What a form of ours sends, and how it is known to be one. A browser sends its cookie with every form, whoever
//! made it. So three things must hold before one is read: the browser says that a page of ours sent it
//! ([`cookie::may_speak`](crate::http::cookie::may_speak)); the cookie is a session that holds; and the form carries
//! a token that only pages of this very session have.
//!
//! The token is an HMAC under the session's own secret. Whoever makes a page elsewhere does not know that; every
//! daemon that is sent the cookie can compute it, and nothing is to be kept, shared or rotated for it.

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::{
    Form,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    app::App,
    http::{pages::visitor::Visitor, problem::Failure},
    secret::Secret,
};

/// What is authenticated: it keeps the token from meaning anything elsewhere.
const PURPOSE: &[u8] = b"pgvalet: a form of this session";

/// What a form carries to show that a page of its session made it.
pub(in crate::http) struct FormToken(Secret<String>);

impl FormToken {
    /// The field that it is in.
    pub(in crate::http) const FIELD: &str = "form_token";

    /// The token of the session that this cookie is.
    pub(in crate::http) fn of(session: &Secret<String>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, session.expose().as_bytes());
        Self(Secret::new(URL_SAFE_NO_PAD.encode(hmac::sign(&key, PURPOSE))))
    }

    /// As it stands in the form.
    pub(in crate::http) fn text(&self) -> &str {
        self.0.expose()
    }

    fn is(&self, sent: &str) -> bool {
        self.0 == Secret::new(sent.to_owned())
    }
}

/// What a form sent: each field once.
pub(in crate::http) struct Fields(Vec<(String, String)>);

/// Nothing was sent: the form is shown for the first time.
pub(in crate::http) static NOTHING: Fields = Fields(Vec::new());

impl Fields {
    /// What a field shows: what was written into it when the form was refused, or what it begins with.
    pub(in crate::http) fn again(&self, name: &str, usual: &str) -> String {
        self.lines(name).unwrap_or_else(|| usual.to_owned())
    }

    /// What was written into a field; none if it is empty.
    pub(in crate::http) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(seen, _)| seen == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// The same with the line breaks that programs expect: browsers send those of another age.
    pub(in crate::http) fn lines(&self, name: &str) -> Option<String> {
        self.text(name).map(|text| text.replace("\r\n", "\n"))
    }
}

/// A form of ours, and who sent it.
pub(in crate::http) struct Sent {
    /// Who.
    pub(in crate::http) visitor: Visitor,
    /// What.
    pub(in crate::http) fields: Fields,
}

impl FromRequest<Arc<App>> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::read(&mut parts, app).await?;
        let request = Request::from_parts(parts, body);
        let form = Form::<Vec<(String, String)>>::from_request(request, app).await;
        let Form(fields) = form.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Failure::of_status(StatusCode::PAYLOAD_TOO_LARGE),
            _ => Failure::fault("form", e.body_text()),
        })?;
        let fields = Fields(fields);
        if !fields.text(FormToken::FIELD).is_some_and(|sent| visitor.form_token.is(sent)) {
            let detail = "this form was not made by a page of your present session, so nothing was done: open the page again and send it from there";
            return Err(Failure::new(StatusCode::FORBIDDEN, "form_refused", detail));
        }
        Ok(Self { visitor, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_session_and_does_not_show_it() {
        let session = |text: &str| Secret::new(text.to_owned());
        let of_ada = FormToken::of(&session("pgv_0190_ada"));
        assert!(of_ada.is(FormToken::of(&session("pgv_0190_ada")).text()));
        assert!(!of_ada.is(FormToken::of(&session("pgv_0190_gus")).text()));
        assert!(!of_ada.is("") && !of_ada.text().contains("ada"));
        assert_eq!(of_ada.text().len(), 43);
    }

    #[test]
    fn an_empty_field_says_nothing() {
        let fields = [("reason", " \r\n "), ("comment", " a\r\nb ")];
        let fields = Fields(fields.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!((fields.text("reason"), fields.text("ticket")), (None, None));
        assert_eq!(fields.lines("comment").as_deref(), Some("a\nb"));
        assert_eq!(
            (fields.again("comment", "x"), NOTHING.again("ttl", "1h")),
            ("a\nb".into(), "1h".into())
        );
    }
}
