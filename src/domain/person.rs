//! What a provider says of its person, made into what rules here can name. A provider's words are a stranger's:
//! what is no name of ours is left out, never bent until it is one, except that a person's own name is read
//! in lower case and without the domain of an address.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    domain::{
        name::Name,
        principal::{Kind, NotAPrincipal, PrincipalName},
    },
    ids::PrincipalId,
};

/// The longest text that is kept of what a provider calls its person.
pub const LONGEST_USER_NAME: usize = 200;

/// What a provider says of its person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The provider.
    pub issuer: String,
    /// Its key for the person: never given to another one.
    pub subject: String,
    /// What it calls the person.
    pub user_name: String,
    /// The groups that it says they are in.
    pub groups: Vec<Name>,
    /// What it claims of them, under the names that templates use.
    pub claims: BTreeMap<String, String>,
}

/// A principal, as people and programs name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its id.
    Id(PrincipalId),
    /// By its name.
    Named(PrincipalName),
}

impl FromStr for Which {
    type Err = NotAPrincipal;

    fn from_str(text: &str) -> Result<Self, NotAPrincipal> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Named),
        }
    }
}

/// A text that makes no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}`, as the provider calls you, makes no name here (a-z, 0-9, `-`, `_` and `.`, beginning with a letter, 48 at most): an administrator links you to a person of another name"
)]
pub struct NoName(pub String);

/// The name of a person who signs in for the first time: in lower case, and of an address what stands before
/// the `@`. Who comes second with the same one is refused, so that this gives nobody another's rights.
///
/// # Errors
/// If it makes no name.
pub fn name_from(user_name: &str) -> Result<Name, NoName> {
    let local = user_name.split('@').next().unwrap_or_default().trim().to_lowercase();
    let fault = || NoName(user_name.chars().filter(|c| !c.is_control()).take(64).collect());
    local.replace(' ', ".").parse().map_err(|_| fault())
}

/// The groups of a provider as they are named here: by the map, if there is one; else those whose names are
/// names here too. Gives those that were left out as well, to be told of.
#[must_use]
pub fn groups_from<'a>(
    theirs: &'a [String],
    map: Option<&BTreeMap<String, Name>>,
) -> (Vec<Name>, Vec<&'a str>) {
    let (mut ours, mut left_out) = (Vec::new(), Vec::new());
    for group in theirs {
        let name = match map {
            Some(map) => map.get(group).cloned(),
            None => group.parse().ok(),
        };
        match name {
            Some(name) => ours.push(name),
            None => left_out.push(group.as_str()),
        }
    }
    ours.sort();
    ours.dedup();
    (ours, left_out)
}

/// May principals of this kind be known by what a provider says? Others have tokens, rules or certificates.
#[must_use]
pub const fn may_be_linked(kind: Kind) -> bool {
    matches!(kind, Kind::Person)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_lower_case_and_without_a_domain() {
        for (text, name) in [
            ("alice", Some("alice")),
            ("Alice.Smith", Some("alice.smith")),
            ("alice@example.org", Some("alice")),
            ("Alice Smith", Some("alice.smith")),
            (" alice ", Some("alice")),
            ("", None),
            ("@example.org", None),
            ("1alice", None),
            ("älice", None),
            ("alice+x@example.org", None),
            ("alice:x", None),
        ] {
            assert_eq!(
                name_from(text).ok().map(|name| name.to_string()).as_deref(),
                name,
                "{text}"
            );
        }
    }

    #[test]
    fn only_groups_that_are_mapped_or_are_names_are_taken() {
        let theirs = ["dba", "DBA", "Everyone in the house", "dba", "ops"].map(str::to_owned);
        let names = |names: Vec<Name>| names.iter().map(Name::to_string).collect::<Vec<_>>();
        let (ours, left_out) = groups_from(&theirs, None);
        assert_eq!(
            (names(ours), left_out),
            (vec!["dba".into(), "ops".into()], vec!["DBA", "Everyone in the house"])
        );
        let map = BTreeMap::from([("DBA".to_owned(), "database-people".parse().unwrap())]);
        let (ours, left_out) = groups_from(&theirs, Some(&map));
        assert_eq!(names(ours), ["database-people"]);
        assert_eq!(left_out.len(), 4);
    }
}
