//! One grant: privileges on objects of one kind.

use crate::domain::{target::is_identifier, words::words};

words! {
    /// A privilege, as PostgreSQL calls it (<https://www.postgresql.org/docs/current/ddl-priv.html>).
    Privilege {
        /// Read.
        Select = "select",
        /// Add rows.
        Insert = "insert",
        /// Change rows.
        Update = "update",
        /// Take rows away.
        Delete = "delete",
        /// Empty a table.
        Truncate = "truncate",
        /// Point a foreign key at it.
        References = "references",
        /// Put a trigger on it.
        Trigger = "trigger",
        /// VACUUM, ANALYZE, REINDEX and the like; since version 17.
        Maintain = "maintain",
        /// Use a schema, a sequence, a type, a language or a foreign server.
        Usage = "usage",
        /// Make objects in it.
        Create = "create",
        /// Sign in to it.
        Connect = "connect",
        /// Make temporary tables.
        Temporary = "temporary",
        /// Call it.
        Execute = "execute",
        /// Set a parameter; since version 15.
        Set = "set",
        /// Set it for the whole server; since version 15.
        AlterSystem = "alter system",
    }
}

/// All objects of a kind in a schema, those to come included, or named ones.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Selection {
    /// All, and what is made later.
    All(All),
    /// Those with these names; `*` and `?` stand for any letters and any letter.
    Named(Vec<String>),
}

words! {
    /// The word `all`.
    All {
        /// The word.
        All = "all",
    }
}

impl Selection {
    /// Does it cover what is made later?
    #[must_use]
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::All(_))
    }

    /// Does it cover an object of this name?
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::All(_) => true,
            Self::Named(patterns) => patterns.iter().any(|pattern| is_like(pattern, name)),
        }
    }
}

/// Is `name` what the pattern says? `*` is any run of characters, `?` is one.
#[must_use]
pub fn is_like(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || c == letter => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// Does a name have `*` or `?` in it?
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// A grant as it stands in a file: one key says what it is on.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The profile's own database.
    #[serde(default, skip_serializing_if = "is_false")]
    pub database: bool,
    /// The schema itself, if nothing else is named; otherwise where the objects are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Tables, views, materialised views, foreign tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<Selection>,
    /// Only these columns of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// All columns but these. A column that is added later is not covered before the next apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns_except: Option<Vec<String>>,
    /// Sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences: Option<Selection>,
    /// Functions, procedures and aggregates: `name`, or `name(integer, text)` for one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<Selection>,
    /// Types and domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Selection>,
    /// Procedural languages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub languages: Option<Vec<String>>,
    /// Foreign servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_servers: Option<Vec<String>>,
    /// Foreign-data wrappers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_data_wrappers: Option<Vec<String>>,
    /// Configuration parameters; since version 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Vec<String>>,
    /// What is granted; for functions `execute` if nothing is said.
    #[serde(default)]
    pub privileges: Vec<Privilege>,
    /// Take EXECUTE on these functions from PUBLIC, which has it on every new function.
    #[serde(default, skip_serializing_if = "is_false")]
    pub revoke_public: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What a grant is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The database.
    Database,
    /// A schema.
    Schema,
    /// Tables, views and their like.
    Table,
    /// Columns of them.
    Column,
    /// Sequences.
    Sequence,
    /// Functions, procedures and aggregates.
    Function,
    /// Types and domains.
    Type,
    /// Procedural languages.
    Language,
    /// Foreign servers.
    ForeignServer,
    /// Foreign-data wrappers.
    ForeignDataWrapper,
    /// Configuration parameters.
    Parameter,
}

impl Kind {
    /// The key of the file that names objects of the kind.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Schema => "schema",
            Self::Table => "tables",
            Self::Column => "columns",
            Self::Sequence => "sequences",
            Self::Function => "functions",
            Self::Type => "types",
            Self::Language => "languages",
            Self::ForeignServer => "foreign_servers",
            Self::ForeignDataWrapper => "foreign_data_wrappers",
            Self::Parameter => "parameters",
        }
    }

    /// The privileges that there are on it.
    #[must_use]
    pub const fn privileges(self) -> &'static [Privilege] {
        use Privilege as P;
        match self {
            Self::Database => &[P::Connect, P::Create, P::Temporary],
            Self::Schema => &[P::Usage, P::Create],
            Self::Table => &[
                P::Select,
                P::Insert,
                P::Update,
                P::Delete,
                P::Truncate,
                P::References,
                P::Trigger,
                P::Maintain,
            ],
            Self::Column => &[P::Select, P::Insert, P::Update, P::References],
            Self::Sequence => &[P::Usage, P::Select, P::Update],
            Self::Function => &[P::Execute],
            Self::Type | Self::Language | Self::ForeignServer | Self::ForeignDataWrapper => {
                &[P::Usage]
            }
            Self::Parameter => &[P::Set, P::AlterSystem],
        }
    }
}

impl Grant {
    /// What it is on; none if that is not one thing.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let mut named = self.named();
        match (named.next(), named.next()) {
            (Some(kind), None) => Some(kind),
            (None, _) if self.schema.is_some() => Some(Kind::Schema),
            _ => None,
        }
    }

    /// The kinds that it names objects of.
    fn named(&self) -> impl Iterator<Item = Kind> {
        let column = self.columns.is_some() || self.columns_except.is_some();
        let table = if column { Kind::Column } else { Kind::Table };
        [
            (self.database, Kind::Database),
            (self.tables.is_some(), table),
            (self.sequences.is_some(), Kind::Sequence),
            (self.functions.is_some(), Kind::Function),
            (self.types.is_some(), Kind::Type),
            (self.languages.is_some(), Kind::Language),
            (self.foreign_servers.is_some(), Kind::ForeignServer),
            (self.foreign_data_wrappers.is_some(), Kind::ForeignDataWrapper),
            (self.parameters.is_some(), Kind::Parameter),
        ]
        .into_iter()
        .filter_map(|(is_named, kind)| is_named.then_some(kind))
    }

    /// The objects in its schema; none for kinds that are in no schema.
    #[must_use]
    pub fn selection(&self) -> Option<&Selection> {
        [&self.tables, &self.sequences, &self.functions, &self.types]
            .into_iter()
            .find_map(Option::as_ref)
    }

    /// The objects that are in no schema.
    #[must_use]
    pub fn names(&self) -> &[String] {
        [&self.languages, &self.foreign_servers, &self.foreign_data_wrappers, &self.parameters]
            .into_iter()
            .find_map(Option::as_deref)
            .unwrap_or_default()
    }

    /// Is this column among those that it is on?
    #[must_use]
    pub fn covers_column(&self, name: &str) -> bool {
        let holds = |list: &[String]| list.iter().any(|column| column == name);
        match (&self.columns, &self.columns_except) {
            (Some(only), _) => holds(only),
            (None, Some(except)) => !holds(except),
            (None, None) => true,
        }
    }

    /// What it gives.
    #[must_use]
    pub fn privileges(&self) -> Vec<Privilege> {
        if self.privileges.is_empty() && self.functions.is_some() {
            return vec![Privilege::Execute];
        }
        self.privileges.clone()
    }
}

/// Schemas whose objects are PostgreSQL's own, or ours.
fn is_reserved(schema: &str) -> bool {
    schema.starts_with("pg_")
        || matches!(
            schema,
            "information_schema" | crate::domain::role::SCHEMA | crate::domain::role::ADMIN_SCHEMA
        )
}

/// What is wrong with a grant by itself; each fault names its key.
#[must_use]
pub fn faults(grant: &Grant) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let Some(kind) = grant.kind() else {
        let named: Vec<_> = grant.named().map(Kind::key).collect();
        let message = if named.is_empty() {
            "say what is granted on: `schema`, with `tables`, `sequences`, `functions` or `types` in it, or `database = true`, `languages`, `foreign_servers`, `foreign_data_wrappers` or `parameters`".to_owned()
        } else {
            format!(
                "a grant is on one kind of object, and this one names {}: write one grant for each",
                named.join(", ")
            )
        };
        return vec![("", message)];
    };
    let in_schema = grant.selection().is_some() || kind == Kind::Schema;
    match &grant.schema {
        None if in_schema => {
            faults.push(("schema", format!("say in which schema the {} are", kind.key())))
        }
        Some(_) if !in_schema => {
            faults.push(("schema", format!("{} are in no schema: leave it out", kind.key())));
        }
        // EXECUTE on the functions that read and write large objects is granted one by one.
        Some(schema) if schema == "pg_catalog" && is_large_objects(grant) => {}
        Some(schema) if !is_identifier(schema) || is_reserved(schema) => {
            faults
                .push(("schema", format!("`{schema}` cannot be used: name a schema of your own")));
        }
        _ => {}
    }
    if grant.columns.is_some() && grant.columns_except.is_some() {
        faults.push(("columns_except", "write either `columns` or `columns_except`".to_owned()));
    }
    if kind != Kind::Column && (grant.columns.is_some() || grant.columns_except.is_some()) {
        faults.push(("columns", "columns belong to `tables`".to_owned()));
    }
    faults.extend(empty_lists(grant));
    if grant.revoke_public && kind != Kind::Function {
        faults.push(("revoke_public", "belongs to `functions`".to_owned()));
    }
    let possible = kind.privileges();
    let words =
        |list: &[Privilege]| list.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
    if grant.privileges().is_empty() {
        faults.push(("privileges", format!("say what is granted: some of {}", words(possible))));
    }
    for privilege in grant.privileges().iter().filter(|privilege| !possible.contains(privilege)) {
        let key = kind.key();
        faults.push((
            "privileges",
            format!(
                "there is no privilege `{}` on {key}; there are {}",
                privilege.as_str(),
                words(possible)
            ),
        ));
    }
    faults
}

fn empty_lists(grant: &Grant) -> Vec<(&'static str, String)> {
    let lists = [
        ("columns", &grant.columns),
        ("columns_except", &grant.columns_except),
        ("languages", &grant.languages),
        ("foreign_servers", &grant.foreign_servers),
        ("foreign_data_wrappers", &grant.foreign_data_wrappers),
        ("parameters", &grant.parameters),
    ];
    let selections = [
        ("tables", &grant.tables),
        ("sequences", &grant.sequences),
        ("functions", &grant.functions),
        ("types", &grant.types),
    ];
    let lists = lists.into_iter().filter_map(|(key, list)| Some((key, list.as_deref()?)));
    let selections = selections.into_iter().filter_map(|(key, selection)| match selection {
        Some(Selection::Named(names)) => Some((key, names.as_slice())),
        Some(Selection::All(_)) | None => None,
    });
    let mut faults = Vec::new();
    for (key, names) in lists.chain(selections) {
        if names.is_empty() {
            faults.push((
                key,
                "the list is empty: name something, or leave the grant out".to_owned(),
            ));
        }
        // The longest signature of a function is far below this.
        for name in
            names.iter().filter(|name| name.is_empty() || name.len() > 4000 || name.contains('\0'))
        {
            faults
                .push((key, format!("`{}` is no name", name.chars().take(64).collect::<String>())));
        }
    }
    faults
}

fn is_large_objects(grant: &Grant) -> bool {
    let of_large_objects = |name: &String| {
        let name = name.split('(').next().unwrap_or_default();
        name.starts_with("lo_") || matches!(name, "loread" | "lowrite")
    };
    matches!(&grant.functions, Some(Selection::Named(names)) if names.iter().all(of_large_objects))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, is) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("inv_*", "inv_", true),
            ("inv_*", "inv_2024", true),
            ("*_log", "audit_log", true),
            ("*_log", "audit_logs", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*", "", true),
        ] {
            assert_eq!(is_like(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn each_fault_names_its_key() {
        let tables = Some(Selection::Named(vec!["t".to_owned()]));
        let good = Grant {
            schema: Some("s".to_owned()),
            tables: tables.clone(),
            privileges: vec![Privilege::Select],
            ..Grant::default()
        };
        assert_eq!(faults(&good), []);
        type Change = fn(&mut Grant);
        let cases: [(&str, Change); 9] = [
            ("", |g| g.sequences = g.tables.clone()),
            ("schema", |g| g.schema = None),
            ("schema", |g| g.schema = Some("pg_catalog".to_owned())),
            ("columns", |g| g.columns = Some(Vec::new())),
            ("columns_except", |g| {
                g.columns = Some(vec!["a".to_owned()]);
                g.columns_except = Some(vec!["b".to_owned()]);
            }),
            ("privileges", |g| g.privileges.clear()),
            ("privileges", |g| g.privileges.push(Privilege::Execute)),
            ("privileges", |g| {
                g.columns = Some(vec!["a".to_owned()]);
                g.privileges.push(Privilege::Delete);
            }),
            ("tables", |g| g.tables = Some(Selection::Named(Vec::new()))),
        ];
        for (key, change) in cases {
            let mut broken = good.clone();
            change(&mut broken);
            let found: Vec<_> = faults(&broken).into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, [key]);
        }
    }
}
