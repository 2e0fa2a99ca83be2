//! Names that people give to targets, profiles, groups and tools: one grammar for all, narrow enough
//! to stand in a role name, a URL path, a file key and a metric label without quoting.

use std::{fmt, str::FromStr};

/// A name: a lower-case letter, then lower-case letters, digits, `-`, `_` or `.`; 1 to 48 letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The longest name, so that a role name of 63 bytes keeps a readable part of it.
pub const LONGEST_NAME: usize = 48;

/// A text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name: use 1 to 48 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter, in lower case"
)]
pub struct NotAName(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let mut letters = text.bytes();
        let holds = text.len() <= LONGEST_NAME
            && letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if holds {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAName(text.chars().take(LONGEST_NAME).collect()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Name {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[a-z][a-z0-9._-]{0,47}$"))
            .examples(["shop-read"])
            .into()
    }
}

impl utoipa::ToSchema for Name {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_refuses_the_rest() {
        for good in ["a", "shop-read", "orders.prod_2"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "Shop", "a b", "a\"b", "ä", &"a".repeat(49)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
