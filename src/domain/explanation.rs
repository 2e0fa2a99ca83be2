//! Who may do what with a table or a column, and through what: as `pgvalet explain` shows it.

use std::{fmt, str::FromStr};

use crate::domain::name::Name;

/// `schema.table` or `schema.table.column`; names that need them in double quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// The schema.
    pub schema: String,
    /// The table, view or sequence.
    pub relation: String,
    /// The column, if one was named.
    pub column: Option<String>,
}

/// A text that names no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write `schema.table` or `schema.table.column`, names that need them in double quotes")]
pub struct NotAnObject;

impl FromStr for ObjectName {
    type Err = NotAnObject;

    fn from_str(text: &str) -> Result<Self, NotAnObject> {
        let mut parts = split(text)?.into_iter();
        let (Some(schema), Some(relation), column, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAnObject);
        };
        Ok(Self { schema, relation, column })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quoted(&self.schema), quoted(&self.relation))?;
        match &self.column {
            Some(column) => write!(f, ".{}", quoted(column)),
            None => Ok(()),
        }
    }
}

/// The parts between the dots that stand outside quotes. A name without quotes is in lower case, as
/// PostgreSQL reads it.
fn split(text: &str) -> Result<Vec<String>, NotAnObject> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let part = if let Some(inner) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut letters = inner.char_indices().peekable();
            let end = loop {
                match letters.next() {
                    Some((at, '"')) if letters.next_if(|(_, next)| *next == '"').is_none() => {
                        break at + 1;
                    }
                    Some((_, letter)) => name.push(letter),
                    None => return Err(NotAnObject),
                }
            };
            rest = inner.get(end..).ok_or(NotAnObject)?;
            name
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let (name, behind) = rest.split_at_checked(end).ok_or(NotAnObject)?;
            rest = behind;
            if name.contains(['"', '\0']) {
                return Err(NotAnObject);
            }
            name.to_lowercase()
        };
        if part.is_empty() || part.contains('\0') {
            return Err(NotAnObject);
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(NotAnObject),
        }
    }
}

fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A way by which a role comes to a privilege.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It was granted to the role itself.
    Grant,
    /// It was granted to everybody.
    Public,
    /// It was granted to a role that this one is a member of.
    Membership,
    /// It, or a role that it is a member of, owns the object.
    Ownership,
    /// A role of PostgreSQL's own that may do this everywhere, such as `pg_read_all_data`.
    Predefined,
}

impl Way {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Public => "public",
            Self::Membership => "membership",
            Self::Ownership => "ownership",
            Self::Predefined => "predefined",
        }
    }
}

/// One privilege that the group role has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Held {
    /// `SELECT`, …
    pub privilege: String,
    /// Through what.
    pub way: Way,
    /// Who holds it: the group role, the role that it is a member of, or `PUBLIC`.
    pub holder: String,
    /// The columns that it is for; none if it is for the whole table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
}

/// What the group role may do with one column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "they are the four privileges that a column has")]
pub struct Column {
    /// Its name.
    pub name: String,
    /// May it be read?
    pub select: bool,
    /// May a new row give it a value?
    pub insert: bool,
    /// May it be changed?
    pub update: bool,
    /// May a foreign key point to it?
    pub references: bool,
}

/// A row policy that holds for the group role.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// `permissive` (one of them must say yes) or `restrictive` (all of them must).
    pub effect: String,
    /// `SELECT`, …, or `ALL`.
    pub command: String,
    /// For whom it is.
    pub roles: Vec<String>,
    /// Which rows are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub using: Option<String>,
    /// Which rows may be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_check: Option<String>,
}

/// Row-level security of a table, as it is for the group role.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct RowSecurity {
    /// Is it on?
    pub enabled: bool,
    /// Does it hold for the owner, too?
    pub forced: bool,
    /// Does it hold for the group role?
    pub holds: bool,
    /// The policies that do, by name.
    pub policies: Vec<Policy>,
}

/// What is granted to the group role on what somebody makes later in the schema.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct DefaultGrant {
    /// Who makes it.
    pub owner: String,
    /// What is granted then.
    pub privileges: Vec<String>,
}

/// Another role with privileges on it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Other {
    /// The role, or `PUBLIC`.
    pub role: String,
    /// The profiles whose group role it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Name>,
    /// Does it own the object?
    pub owns: bool,
    /// Its privileges on the whole.
    pub privileges: Vec<String>,
    /// Those on columns, as `SELECT (a, b)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_columns: Vec<String>,
}

/// A view that reads it: through a view, rights are the view's and its owner's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct View {
    /// Its name with the schema.
    pub name: String,
    /// Whose rights and policies hold for what it reads, unless `invoker`.
    pub owner: String,
    /// Is it one whose reader's rights hold (`security_invoker`)?
    pub invoker: bool,
    /// Is it materialized, so that no policies hold for what it has?
    pub materialized: bool,
    /// May the group role read it, or columns of it?
    pub readable: bool,
}

/// What a target shows of an object, seen from a group role.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Explained {
    /// What kind of thing it is.
    pub kind: String,
    /// Who owns it.
    pub owner: String,
    /// May the group role look things up in the schema? Without, nothing else helps.
    pub schema_usage: bool,
    /// What the group role may do, and through what.
    pub held: Vec<Held>,
    /// Each column, or the one that was asked about.
    pub columns: Vec<Column>,
    /// Its row-level security.
    pub rows: RowSecurity,
    /// What is granted on what is made later in the schema.
    pub defaults: Vec<DefaultGrant>,
    /// Who else has privileges on it. For who does not administer: under the profiles that they may see.
    pub others: Vec<Other>,
    /// The views that read it.
    pub views: Vec<View>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// The profile.
    pub profile: Name,
    /// Its target.
    pub target: Name,
    /// Its database.
    pub database: String,
    /// Its group role.
    pub group_role: String,
    /// The object, as `schema.table` or `schema.table.column`.
    pub object: String,
    /// What the target shows.
    #[serde(flatten)]
    pub seen: Explained,
    /// What follows, in words.
    pub notes: Vec<String>,
}

/// What follows of the rest: why `SELECT *` is refused, why no row is seen.
#[must_use]
pub fn notes(explained: &Explanation) -> Vec<String> {
    let mut notes = Vec::new();
    let Explanation { object, group_role, seen, .. } = explained;
    let Explained { columns, rows, .. } = seen;
    if !seen.schema_usage {
        notes.push(format!(
            "`{group_role}` has no USAGE on the schema, so that nothing in it can be named"
        ));
    }
    let whole = |privilege: &str| {
        seen.held.iter().any(|held| held.privilege == privilege && held.columns.is_none())
    };
    for (privilege, statement, may) in [
        (
            "SELECT",
            "SELECT * and COPY without columns are refused: name",
            (|column| column.select) as fn(&Column) -> bool,
        ),
        ("INSERT", "an INSERT without a list of columns is refused: name", |column| column.insert),
        ("UPDATE", "an UPDATE may only SET", |column| column.update),
    ] {
        let allowed: Vec<&str> = columns
            .iter()
            .filter(|column| may(column))
            .map(|column| column.name.as_str())
            .collect();
        if !whole(privilege) && !allowed.is_empty() && allowed.len() < columns.len() {
            notes.push(format!("{statement} {}", allowed.join(", ")));
        }
    }
    let has_update = columns.iter().any(|column| column.update) || whole("DELETE");
    if has_update && !columns.is_empty() && !columns.iter().any(|column| column.select) {
        notes.push("an UPDATE or DELETE with a WHERE, and RETURNING, need SELECT on the columns that they read".to_owned());
    }
    if rows.holds {
        let permissive = |command: &str| {
            rows.policies.iter().any(|policy| {
                policy.effect == "permissive"
                    && (policy.command == command || policy.command == "ALL")
            })
        };
        if !permissive("SELECT") {
            notes.push(format!("no permissive policy lets `{group_role}` see a row of {object}"));
        }
    } else if rows.enabled {
        notes.push(format!(
            "row-level security is on, and does not hold for `{group_role}`: it sees every row"
        ));
    }
    for view in seen.views.iter().filter(|view| view.readable && !view.invoker) {
        notes.push(format!(
            "{} shows it with the rights of `{}`{}",
            view.name,
            view.owner,
            if view.materialized { ", as of its last refresh, whatever policies say" } else { "" }
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String, Option<String>)> {
        let object: ObjectName = text.parse().ok()?;
        Some((object.schema, object.relation, object.column))
    }

    #[test]
    fn names_of_objects_are_read_as_postgresql_reads_them() {
        let own = |schema: &str, relation: &str, column: Option<&str>| {
            Some((schema.to_owned(), relation.to_owned(), column.map(str::to_owned)))
        };
        assert_eq!(read("sales.orders"), own("sales", "orders", None));
        assert_eq!(read("Sales.Orders.ID"), own("sales", "orders", Some("id")));
        assert_eq!(read(r#""My.Schema"."a""b"."c d""#), own("My.Schema", "a\"b", Some("c d")));
        for text in
            ["", "orders", ".", "a.", "a.b.c.d", r#""a.b"#, r#""a"b.c"#, r#"a"b.c"#, "a.\"\""]
        {
            assert_eq!(read(text), None, "{text}");
        }
        for text in ["sales.orders", r#""My.Schema"."a""b".c"#] {
            assert_eq!(text.parse::<ObjectName>().unwrap().to_string(), text);
        }
    }
}
