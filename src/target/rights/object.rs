//! What privileges are on, as a target's catalogue shows it, with who holds what of it.

use std::collections::BTreeSet;

use sqlx::postgres::types::Oid;

use crate::{
    domain::{
        rights::grant::{Kind, Privilege},
        role::{ADMIN_SCHEMA, SCHEMA},
    },
    target::sql,
};

/// Some privileges.
pub(crate) type Privileges = BTreeSet<Privilege>;

/// The kinds of things that there are privileges on, in the order in which they are granted: what lies
/// around a thing before the thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum On {
    Database,
    Schema,
    /// Views and their like included.
    Table,
    Sequence,
    /// Functions, procedures and aggregates.
    Routine,
    Type,
    Language,
    ForeignDataWrapper,
    ForeignServer,
    Parameter,
    /// A file has no word for these two: what is held of them was granted by hand.
    Tablespace,
    LargeObject,
}

impl On {
    /// As the queries call it.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "database" => Self::Database,
            "schema" => Self::Schema,
            "table" => Self::Table,
            "sequence" => Self::Sequence,
            "routine" => Self::Routine,
            "type" => Self::Type,
            "language" => Self::Language,
            "wrapper" => Self::ForeignDataWrapper,
            "server" => Self::ForeignServer,
            "parameter" => Self::Parameter,
            "tablespace" => Self::Tablespace,
            "large object" => Self::LargeObject,
            _ => return None,
        })
    }

    /// As GRANT calls it. A table that is a view is a table there, too.
    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Database => "DATABASE",
            Self::Schema => "SCHEMA",
            Self::Table => "TABLE",
            Self::Sequence => "SEQUENCE",
            Self::Routine => "ROUTINE",
            Self::Type => "TYPE",
            Self::Language => "LANGUAGE",
            Self::ForeignDataWrapper => "FOREIGN DATA WRAPPER",
            Self::ForeignServer => "FOREIGN SERVER",
            Self::Parameter => "PARAMETER",
            Self::Tablespace => "TABLESPACE",
            Self::LargeObject => "LARGE OBJECT",
        }
    }

    /// As people call one.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Schema => "schema",
            Self::Table => "table or view",
            Self::Sequence => "sequence",
            Self::Routine => "function",
            Self::Type => "type",
            Self::Language => "language",
            Self::ForeignDataWrapper => "foreign-data wrapper",
            Self::ForeignServer => "foreign server",
            Self::Parameter => "parameter",
            Self::Tablespace => "tablespace",
            Self::LargeObject => "large object",
        }
    }

    /// As ALTER DEFAULT PRIVILEGES calls it; none where there is no such thing.
    pub(crate) const fn plural(self) -> Option<&'static str> {
        match self {
            Self::Schema => Some("SCHEMAS"),
            Self::Table => Some("TABLES"),
            Self::Sequence => Some("SEQUENCES"),
            Self::Routine => Some("FUNCTIONS"),
            Self::Type => Some("TYPES"),
            Self::LargeObject => Some("LARGE OBJECTS"),
            Self::Database
            | Self::Language
            | Self::ForeignDataWrapper
            | Self::ForeignServer
            | Self::Parameter
            | Self::Tablespace => None,
        }
    }
}

impl From<Kind> for On {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Database => Self::Database,
            Kind::Schema => Self::Schema,
            Kind::Table | Kind::Column => Self::Table,
            Kind::Sequence => Self::Sequence,
            Kind::Function => Self::Routine,
            Kind::Type => Self::Type,
            Kind::Language => Self::Language,
            Kind::ForeignServer => Self::ForeignServer,
            Kind::ForeignDataWrapper => Self::ForeignDataWrapper,
            Kind::Parameter => Self::Parameter,
        }
    }
}

/// One thing, and who holds what of it.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) on: On,
    pub(crate) oid: Oid,
    /// Empty where it is in none.
    pub(crate) schema: String,
    pub(crate) name: String,
    /// The types that a routine takes, as PostgreSQL writes them; none for all else.
    pub(crate) arguments: Option<String>,
    /// Rights on the whole table suffice, so that it counts only where it is named.
    pub(crate) is_partition: bool,
    /// May anybody but a superuser use it at all? False for an untrusted language.
    pub(crate) is_trusted: bool,
    pub(crate) owner: String,
    /// Then our admin must never be made a member of it.
    pub(crate) owner_is_superuser: bool,
    /// May our admin act for the owner?
    pub(crate) is_ours: bool,
    /// What the group holds, granted by somebody whom our admin may act for.
    pub(crate) held: Privileges,
    /// What the group holds, granted by others, so out of our reach.
    pub(crate) held_from_others: Privileges,
    /// What everybody holds (PUBLIC).
    pub(crate) of_everybody: Privileges,
    /// The part of that which our admin may take.
    pub(crate) of_everybody_in_reach: Privileges,
    /// What our admin may grant although it may not act for the owner.
    pub(crate) may_pass_on: Privileges,
}

impl Object {
    /// Its name in a statement.
    pub(crate) fn quoted(&self) -> String {
        let name = match self.on {
            On::LargeObject => self.name.clone(),
            On::Parameter => {
                self.name.split('.').map(sql::identifier).collect::<Vec<_>>().join(".")
            }
            _ => sql::identifier(&self.name),
        };
        let name = match &self.arguments {
            Some(arguments) => format!("{name}({arguments})"),
            None => name,
        };
        if self.schema.is_empty() { name } else { sql::identifier(&self.schema) + "." + &name }
    }

    /// Its name for people.
    pub(crate) fn shown(&self) -> String {
        let name = match &self.arguments {
            Some(arguments) => format!("{}({arguments})", self.name),
            None => self.name.clone(),
        };
        match self.on {
            On::Table | On::Sequence => format!("{}.{name}", self.schema),
            On::Routine | On::Type => format!("{} {}.{name}", self.on.noun(), self.schema),
            _ => format!("{} {name}", self.on.noun()),
        }
    }

    /// Is it part of what pgvalet itself keeps in the database? That is granted where it is made.
    pub(crate) fn is_pgvalets(&self) -> bool {
        let ours = |schema: &str| schema == SCHEMA || schema == ADMIN_SCHEMA;
        ours(&self.schema) || (self.on == On::Schema && ours(&self.name))
    }
}

/// A column, and what the group holds of it by itself.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) table: Oid,
    pub(crate) name: String,
    pub(crate) held: Privileges,
    pub(crate) held_from_others: Privileges,
}

/// What is granted on things that somebody makes later.
#[derive(Debug, Clone)]
pub(crate) struct Later {
    pub(crate) on: On,
    /// Empty for whatever schema.
    pub(crate) schema: String,
    pub(crate) owner: String,
    pub(crate) is_ours: bool,
    pub(crate) held: Privileges,
    pub(crate) of_everybody: Privileges,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Something of `o`, whom our admin may act for, of which nobody holds anything.
    pub(crate) fn object(on: On, schema: &str, name: &str) -> Object {
        Object {
            on,
            oid: Oid(u32::try_from(name.len()).unwrap() + 1000 * u32::from(on == On::Table)),
            schema: schema.to_owned(),
            name: name.to_owned(),
            arguments: (on == On::Routine).then(String::new),
            is_partition: false,
            is_trusted: true,
            owner: "o".to_owned(),
            owner_is_superuser: false,
            is_ours: true,
            held: Privileges::new(),
            held_from_others: Privileges::new(),
            of_everybody: Privileges::new(),
            of_everybody_in_reach: Privileges::new(),
            may_pass_on: Privileges::new(),
        }
    }

    #[test]
    fn names_are_quoted_for_statements_and_plain_for_people() {
        let routine =
            Object { arguments: Some("integer".to_owned()), ..object(On::Routine, "s", "f") };
        assert_eq!(
            (routine.quoted(), routine.shown()),
            ("\"s\".\"f\"(integer)".to_owned(), "function s.f(integer)".to_owned())
        );
        assert_eq!(object(On::Parameter, "", "pgaudit.log").quoted(), "\"pgaudit\".\"log\"");
        assert_eq!(object(On::LargeObject, "", "16400").quoted(), "16400");
        assert_eq!(object(On::Table, "s", "t").shown(), "s.t");
        assert_eq!(object(On::Schema, "", "s").shown(), "schema s");
    }
}
