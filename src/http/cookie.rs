//! Cookies: what a browser's session is in, and what a browser keeps while it is away to sign in. A browser sends
//! them by itself, so a request that changes something counts only if it comes from a page of ours.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use chrono::TimeDelta;

use crate::{app::App, secret::Secret};

/// What a cookie is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Cookie {
    /// The session.
    Session,
    /// What makes it the same browser when it comes back from the provider.
    Keepsake,
}

impl Cookie {
    /// `__Host-`: set by this very host over https, for all of it, and by nobody beside it. Over plain http, which is
    /// for this machine alone, browsers know no such thing.
    const fn name(self, is_protected: bool) -> &'static str {
        match (self, is_protected) {
            (Self::Session, true) => "__Host-pgvalet",
            (Self::Session, false) => "pgvalet",
            (Self::Keepsake, true) => "__Host-pgvalet-sign-in",
            (Self::Keepsake, false) => "pgvalet-sign-in",
        }
    }

    /// What a browser sends of it. Two of one name are none: somebody put one there.
    pub(in crate::http) fn read(self, headers: &HeaderMap, app: &App) -> Option<Secret<String>> {
        let name = self.name(is_protected(app));
        let mut found = None;
        for line in headers.get_all(header::COOKIE) {
            for pair in line.to_str().ok()?.split(';') {
                let Some((seen, value)) = pair.trim().split_once('=') else { continue };
                if seen == name {
                    if found.is_some() {
                        return None;
                    }
                    found = Some(Secret::new(value.to_owned()));
                }
            }
        }
        found
    }

    /// The header that sets it.
    pub(in crate::http) fn set(
        self,
        value: &Secret<String>,
        lasts: TimeDelta,
        app: &App,
    ) -> Option<HeaderValue> {
        self.header(value.expose(), lasts.num_seconds().max(0), app)
    }

    /// The header that takes it away.
    pub(in crate::http) fn clear(self, app: &App) -> Option<HeaderValue> {
        self.header("", 0, app)
    }

    fn header(self, value: &str, seconds: i64, app: &App) -> Option<HeaderValue> {
        let is_protected = is_protected(app);
        let secure = if is_protected { "; Secure" } else { "" };
        let name = self.name(is_protected);
        let text =
            format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

fn is_protected(app: &App) -> bool {
    app.own_address().is_some_and(|address| address.starts_with("https://"))
}

/// Is a page opened, as a whole and in a tab of its own? Then it does not matter whose link led there: what is
/// opened changes nothing, and nobody else can read it or put it into a frame.
pub(in crate::http) fn is_opened(method: &Method, headers: &HeaderMap) -> bool {
    let says = |name: &'static str, word: &str| headers.get(name).is_some_and(|said| said == word);
    matches!(*method, Method::GET | Method::HEAD)
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document")
}

/// May a cookie speak for this request? One that only reads, if no page of somebody else's made it; one that
/// changes something, if a page of ours did: the browser says so, and no page can make it say otherwise.
pub(in crate::http) fn may_speak(method: &Method, headers: &HeaderMap, app: &App) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let site = text(header::HeaderName::from_static("sec-fetch-site"));
    if method == Method::GET || method == Method::HEAD {
        return !matches!(site, Some("cross-site" | "same-site"));
    }
    match site {
        Some(site) => site == "same-origin",
        None => {
            let ours = app.own_address().map(origin_of);
            text(header::ORIGIN).is_some_and(|origin| Some(origin) == ours)
        }
    }
}

/// Of an address the part that a browser calls its origin: without a path.
fn origin_of(address: &str) -> &str {
    let begins = address.find("://").map_or(0, |at| at + 3);
    let host = address.get(begins..).unwrap_or_default();
    let length = host.find('/').unwrap_or(host.len());
    address.get(..begins + length).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_opened_by_whichever_link_and_sent_to_by_none() {
        let headers = |mode: &'static str, dest: &'static str| {
            let headers = [("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
            headers
                .map(|(name, value)| {
                    (header::HeaderName::from_static(name), HeaderValue::from_static(value))
                })
                .into_iter()
                .collect::<HeaderMap>()
        };
        assert!(is_opened(&Method::GET, &headers("navigate", "document")));
        assert!(!is_opened(&Method::POST, &headers("navigate", "document")));
        assert!(!is_opened(&Method::GET, &headers("navigate", "iframe")));
        assert!(!is_opened(&Method::GET, &headers("no-cors", "image")));
        assert!(!is_opened(&Method::GET, &HeaderMap::new()));
    }

    #[test]
    fn an_origin_has_no_path() {
        assert_eq!(origin_of("https://a.example/below"), "https://a.example");
        assert_eq!(origin_of("http://127.0.0.1:8432"), "http://127.0.0.1:8432");
    }
}
