//! What all pages have: the frame, the headers, and how instants and lists of facts are written.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, PreEscaped, Render, html};

use crate::http::pages::{form::FormToken, visitor::Visitor};

/// The style of all pages.
pub(in crate::http::pages) const STYLE: &str = include_str!("page.css");

/// The icon of all pages: a browser that finds none asks for one that is not there.
pub(in crate::http::pages) const ICON: &str = include_str!("icon.svg");

/// With the version, so that a browser does not keep the style of the one before.
const STYLE_ADDRESS: &str = concat!("/page.css?v=", env!("CARGO_PKG_VERSION"));

/// The headers of every page. `same-origin`: a page of ours says where its forms come from, and nobody else is
/// told which one led to them.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow")),
];

/// Marks an answer as a page: what is wrong with it is told as one, and not as a problem document.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Page;

/// Marks every answer of a route.
pub(in crate::http) async fn mark(mut response: Response) -> Response {
    response.extensions_mut().insert(Page);
    response
}

/// A page: its title, who looks at it, and what is in it.
pub(in crate::http) fn page(title: &str, visitor: Option<&Visitor>, body: &Markup) -> Response {
    let text = html! {
        (PreEscaped("<!doctype html>"))
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) @if title != "pgvalet" { " · pgvalet" } }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex, nofollow";
                link rel="stylesheet" href=(STYLE_ADDRESS);
                link rel="icon" type="image/svg+xml" href="/icon.svg";
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header { (banner(visitor)) }
                main #content { h1 { (title) } (body) }
            }
        }
    };
    (HEADERS, Html(text.into_string())).into_response()
}

fn banner(visitor: Option<&Visitor>) -> Markup {
    html! {
        nav aria-label="pgvalet" { a.home href="/" { "pgvalet" } a href="/docs/" { "API" } }
        @if let Some(visitor) = visitor {
            form.who method="post" action="/sign-out" {
                (visitor.form_token)
                span { (visitor.caller.principal()) }
                button.plain { "Sign out" }
            }
        }
    }
}

impl Render for FormToken {
    /// As each form carries it.
    fn render(&self) -> Markup {
        html! { input type="hidden" name=(FormToken::FIELD) value=(self.text()); }
    }
}

/// An instant: for people to the minute, for programs exactly.
pub(in crate::http) struct At(pub(in crate::http) DateTime<Utc>);

impl Render for At {
    fn render(&self) -> Markup {
        let exact = self.0.to_rfc3339_opts(SecondsFormat::Secs, true);
        html! { time datetime=(exact) { (self.0.format("%-d %b %Y, %H:%M UTC")) } }
    }
}

/// A list of facts: those of no value are left out.
pub(in crate::http) fn facts(facts: &[(&str, Option<Markup>)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

/// What a browser takes as a length of time in a field, so that it says itself what is no such thing.
pub(in crate::http) const LENGTH: (&str, &str) =
    (r"\s*([0-9]+\s*[smhd]\s*)+", "A length of time such as 15m, 2h or 1h 30m");

/// A fact that is a text.
pub(in crate::http) fn text(value: &str) -> Option<Markup> {
    (!value.is_empty()).then(|| html! { (value) })
}

/// A fact that is an instant.
pub(in crate::http) fn instant(at: DateTime<Utc>) -> Option<Markup> {
    Some(At(at).render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        let hostile = "<script>alert(\"1\" & '2')</script>";
        let safe = "&lt;script&gt;alert(&quot;1&quot; &amp; '2')&lt;/script&gt;";
        assert_eq!(text(hostile).unwrap().into_string(), safe);
        let value = html! { input value=(hostile); }.into_string();
        assert_eq!(value, format!("<input value=\"{safe}\">"));
    }

    #[test]
    fn an_instant_is_said_twice_for_people_and_for_programs() {
        let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let written = At(at).render().into_string();
        assert_eq!(
            written,
            "<time datetime=\"2026-11-18T11:06:40Z\">18 Nov 2026, 11:06 UTC</time>"
        );
    }
}
