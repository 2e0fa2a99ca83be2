//! GRANT and REVOKE, as text.

use std::fmt::Write as _;

use crate::target::{
    rights::object::{On, Privileges},
    sql::identifier,
};

/// Give or take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// `REVOKE … FROM`. Comes first, so that nobody has more than both lists in between.
    Take,
    /// `GRANT … TO`.
    Give,
}

/// Whom a privilege is given to or taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whom<'a> {
    /// PUBLIC.
    Everybody,
    /// A role.
    Role(&'a str),
}

impl Way {
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Take => ("REVOKE", "FROM"),
            Self::Give => ("GRANT", "TO"),
        }
    }
}

impl Whom<'_> {
    fn quoted(self) -> String {
        match self {
            Self::Everybody => "PUBLIC".to_owned(),
            Self::Role(name) => identifier(name),
        }
    }
}

/// Privileges, as GRANT lists them.
pub(crate) fn list(privileges: &Privileges) -> String {
    let words = privileges.iter().map(|privilege| privilege.as_str().to_uppercase());
    words.collect::<Vec<_>>().join(", ")
}

/// Privileges on columns, as GRANT lists them: `SELECT ("a", "b"), UPDATE ("c")`.
pub(crate) fn list_of_columns<'a>(
    columns: impl Iterator<Item = (&'a str, &'a Privileges)>,
) -> String {
    let mut by_privilege: std::collections::BTreeMap<_, Vec<String>> =
        std::collections::BTreeMap::new();
    for (name, privileges) in columns {
        for privilege in privileges {
            by_privilege.entry(*privilege).or_default().push(identifier(name));
        }
    }
    let mut list = String::new();
    for (privilege, names) in by_privilege {
        let separator = if list.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        let _ =
            write!(list, "{separator}{} ({})", privilege.as_str().to_uppercase(), names.join(", "));
    }
    list
}

/// Gives or takes what is listed on things that are quoted already.
pub(crate) fn privileges(
    way: Way,
    list: &str,
    (on, objects): (On, &[String]),
    whom: Whom<'_>,
) -> String {
    let (verb, preposition) = way.words();
    format!("{verb} {list} ON {} {} {preposition} {}", on.sql(), objects.join(", "), whom.quoted())
}

/// Gives or takes privileges on what `owner` makes later, in `schema` or (if that is empty) in any. None for
/// kinds of things that this is not for.
pub(crate) fn later(
    way: Way,
    privileges: &Privileges,
    (on, owner, schema): (On, &str, &str),
    whom: Whom<'_>,
) -> Option<String> {
    let (verb, preposition) = way.words();
    let within = if schema.is_empty() {
        String::new()
    } else {
        format!(" IN SCHEMA {}", identifier(schema))
    };
    Some(format!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {}{within} {verb} {} ON {} {preposition} {}",
        identifier(owner),
        list(privileges),
        on.plural()?,
        whom.quoted()
    ))
}
