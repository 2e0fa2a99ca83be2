//! What went wrong, as a page: in plain words, with what to do next.

use axum::{http::StatusCode, response::Response};
use maud::{Markup, html};

use crate::{
    domain::letters::capital,
    http::{
        pages::{layout, visitor::Visitor},
        problem::Failure,
    },
    ids::RequestId,
};

/// Marks a page that says itself what went wrong.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct SaysItself;

/// A form that was refused: what is wrong, and the page with the form again. What was written into it is not lost.
pub(in crate::http::pages) fn refused(
    failure: Failure,
    (title, page): (&str, &Markup),
    visitor: &Visitor,
) -> Response {
    let (wrong, _) = told(&failure, "");
    let body = html! {
        div role="alert" { p { strong { (wrong) "." } } (reason(&failure)) }
        (page)
        (to_ask_about(visitor.origin.request_id))
    };
    let mut response = layout::page(title, Some(visitor), &body);
    *response.status_mut() = failure.status();
    failure.finish(response.headers_mut());
    response.extensions_mut().insert(SaysItself);
    response.extensions_mut().insert(failure);
    response
}

/// The page for a failure of a request for `path`.
pub(in crate::http) fn failed(failure: &Failure, id: RequestId, path: &str) -> Response {
    let (title, next) = told(failure, path);
    let body = html! {
        div role="alert" { (reason(failure)) }
        (next)
        (to_ask_about(id))
    };
    let mut response = layout::page(title, None, &body);
    *response.status_mut() = failure.status();
    failure.finish(response.headers_mut());
    response
}

/// What is wrong.
fn reason(failure: &Failure) -> Markup {
    let faults = failure.faults();
    // What is said to programs is about tokens.
    let detail = match failure.status() {
        StatusCode::UNAUTHORIZED => "nobody is signed in here, or the session is over",
        _ => failure.detail(),
    };
    html! {
        @if let [fault] = faults {
            p { code { (fault.at) } ": " (fault.message) "." }
        } @else {
            p { (sentence(detail)) }
            @if !faults.is_empty() {
                ul { @for fault in faults { li { code { (fault.at) } ": " (fault.message) } } }
            }
        }
    }
}

fn to_ask_about(id: RequestId) -> Markup {
    html! { p.aside { "If you ask somebody about this: it was request " code { (id) } "." } }
}

/// What it is in a few words, and what to do.
fn told(failure: &Failure, path: &str) -> (&'static str, Markup) {
    let back = |what: &str| html! { p { a.button href="/" { (what) } } };
    match (failure.status(), failure.code()) {
        (StatusCode::UNAUTHORIZED, _) => ("Sign in to go on", sign_in(path, "Sign in")),
        _ if path.starts_with("/sign-in") => {
            ("You are not signed in", sign_in("/", "Sign in again"))
        }
        (StatusCode::FORBIDDEN, "form_refused" | "another_page") => {
            ("Nothing was done", open_again(path))
        }
        (StatusCode::FORBIDDEN, _) => ("You may not", back("To what you have")),
        (StatusCode::NOT_FOUND, _) => ("There is nothing here", back("To what you have")),
        (StatusCode::UNPROCESSABLE_ENTITY, _) => {
            ("Something is missing or wrong", open_again(path))
        }
        (StatusCode::CONFLICT, _) => ("Something is in the way", open_again(path)),
        (StatusCode::TOO_MANY_REQUESTS, _) => ("Too often", wait(failure)),
        (StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT, _) => {
            ("Not just now", wait(failure))
        }
        (StatusCode::BAD_GATEWAY, _) => ("The database said no", back("To what you have")),
        (StatusCode::METHOD_NOT_ALLOWED, _) => ("Nothing was done", back("To what you have")),
        _ => ("Something went wrong", back("To what you have")),
    }
}

fn sign_in(path: &str, words: &str) -> Markup {
    // Only what needs no quoting in a query is carried along.
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'-' | b'_' | b'.');
    let address = if path.bytes().all(is_plain) && path.len() > 1 {
        format!("/sign-in?next={path}")
    } else {
        "/sign-in".to_owned()
    };
    html! { p { a.button href=(address) { (words) } } }
}

fn open_again(path: &str) -> Markup {
    html! { p { a.button href=(path) { "Open the page again" } } p { a href="/" { "To what you have" } } }
}

fn wait(failure: &Failure) -> Markup {
    html! {
        @if let Some(seconds) = failure.retry_after_seconds() {
            p { "Try again in " (seconds) " s: reloading this page does." }
        }
        p { a href="/" { "To what you have" } }
    }
}

/// Details begin small, as parts of a sentence do: a page says whole ones.
fn sentence(detail: &str) -> String {
    let end = if detail.ends_with(['.', '!', '?', ')']) { "" } else { "." };
    format!("{}{end}", capital(detail))
}
