//! What someone asks for, made valid on the way in.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use crate::domain::{
    duration::Seconds,
    name::{Name, NotAName},
};

/// A wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Under which profile.
    pub profile: Name,
    /// For how long; the profile's `ttl` if the caller does not say.
    pub ttl: Option<Seconds>,
    /// With which tool.
    pub tool: Name,
    /// Why.
    pub reason: Option<String>,
    /// The ticket it belongs to.
    pub ticket: Option<String>,
    /// From when it is wanted: at once, if not said. Only where others must agree first.
    pub start_at: Option<DateTime<Utc>>,
}

/// What a wish is before it is checked.
#[derive(Debug, Clone, Default)]
pub struct Wish<'a> {
    /// Under which profile.
    pub profile: &'a str,
    /// For how long.
    pub ttl: Option<&'a str>,
    /// With which tool.
    pub tool: Option<&'a str>,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// From when.
    pub start_at: Option<DateTime<Utc>>,
}

/// One thing wrong with a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field.
    pub field: Cow<'static, str>,
    /// What is wrong with it and what to write instead.
    pub message: String,
}

/// The tool of a caller that does not name one.
const NO_TOOL: &str = "api";

/// A reason is for a person to read: a few sentences.
const LONGEST_REASON: usize = 1000;

/// A ticket is a key or a link.
const LONGEST_TICKET: usize = 200;

impl Asked {
    /// Checks a wish.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(wish: Wish<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut name = |field: &'static str, text: &str| -> Option<Name> {
            text.parse()
                .map_err(|e: NotAName| {
                    faults.push(Fault { field: field.into(), message: e.to_string() })
                })
                .ok()
        };
        let profile = name("profile", wish.profile);
        let tool = name("tool", wish.tool.unwrap_or(NO_TOOL));
        let mut ttl = None;
        if let Some(text) = wish.ttl {
            match text.parse() {
                Ok(length) => ttl = Some(length),
                Err(e) => faults.push(Fault { field: "ttl".into(), message: format!("{e}") }),
            }
        }
        for (field, text, longest) in
            [("reason", &wish.reason, LONGEST_REASON), ("ticket", &wish.ticket, LONGEST_TICKET)]
        {
            if let Some(message) = text.as_deref().and_then(|text| text_fault(text, longest)) {
                faults.push(Fault { field: field.into(), message });
            }
        }
        match (profile, tool) {
            (Some(profile), Some(tool)) if faults.is_empty() => Ok(Self {
                profile,
                ttl,
                tool,
                reason: filled(wish.reason),
                ticket: filled(wish.ticket),
                start_at: wish.start_at,
            }),
            _ => Err(faults),
        }
    }
}

/// An empty text says as little as none.
#[must_use]
pub fn filled(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What is wrong with a text for people to read.
#[must_use]
pub fn text_fault(text: &str, longest: usize) -> Option<String> {
    if text.chars().count() > longest {
        return Some(format!("must have at most {longest} letters"));
    }
    text.contains(|c: char| c.is_control() && c != '\n')
        .then(|| "must not contain control characters".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_wish_passes_and_an_empty_reason_is_none() {
        let asked = Asked::check(Wish {
            profile: "shop-read",
            ttl: Some("30m"),
            tool: Some("psql"),
            reason: Some("  ".to_owned()),
            ticket: None,
            start_at: None,
        })
        .unwrap();
        assert_eq!(asked.ttl.map(Seconds::get), Some(1800));
        assert_eq!(asked.reason, None);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = Asked::check(Wish {
            profile: "Shop Read",
            ttl: Some("-5"),
            tool: Some("a\"b"),
            reason: Some("x".repeat(1001)),
            ticket: Some("a\u{7}".to_owned()),
            start_at: None,
        })
        .unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_ref()).collect();
        assert_eq!(fields, ["profile", "tool", "ttl", "reason", "ticket"]);
    }
}
