//! What a file asks for, on the tables that are there: each policy written out for each of its tables.

use std::collections::{BTreeMap, HashMap};

use sqlx::postgres::types::Oid;

use crate::{
    document::did_you_mean,
    domain::rights::{
        grant::{Selection, is_pattern},
        rls::{self, Form, Written},
    },
    target::{
        policies::{
            expressions,
            seen::{Column, Function, Seen, Table},
            statements,
        },
        sql,
    },
};

/// What speaks against the file, by the path of the key. The same key may be wrong on many tables: the first
/// is told, and the others are counted.
#[derive(Default)]
pub(super) struct Faults(BTreeMap<String, (String, usize)>);

impl Faults {
    pub(super) fn tell(&mut self, path: String, message: impl Into<String>) {
        self.0.entry(path).or_insert_with(|| (message.into(), 0)).1 += 1;
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn into_list(self) -> Vec<(String, String)> {
        let told = |(path, (message, count)): (String, (String, usize))| match count {
            1 => (path, message),
            more => (path, format!("{message} (and so on {} more tables)", more - 1)),
        };
        self.0.into_iter().map(told).collect()
    }
}

/// A table that the file asks something for.
pub(super) struct WantedTable<'a> {
    pub(super) table: &'a Table,
    /// The first `[[rls]]` that names it.
    pub(super) path: String,
    pub(super) is_forced: bool,
    pub(super) policies: Vec<WantedPolicy<'a>>,
}

/// A policy for one table.
pub(super) struct WantedPolicy<'a> {
    /// `rls[0].policy[1]`
    pub(super) path: String,
    pub(super) policy: &'a rls::Policy,
    pub(super) written: Written,
    /// In order; `public` alone for everybody.
    pub(super) roles: Vec<String>,
    /// Does it hold for the profile's group role?
    pub(super) holds: bool,
    /// Does an index begin with its form's column? Not asked if there is none.
    pub(super) is_indexed: Option<bool>,
    /// What makes it.
    pub(super) statement: String,
}

/// The tables of each `[[rls]]`, as indexes into what was seen.
pub(super) fn selected(rls: &[rls::TableRls], seen: &Seen, faults: &mut Faults) -> Vec<Vec<usize>> {
    let each = rls.iter().enumerate();
    each.map(|(n, entry)| selection(entry, &format!("rls[{n}]"), seen, faults)).collect()
}

fn selection(entry: &rls::TableRls, path: &str, seen: &Seen, faults: &mut Faults) -> Vec<usize> {
    if !seen.schemas.contains(&entry.schema) {
        let hint = did_you_mean(&entry.schema, seen.schemas.iter().map(String::as_str));
        let message = format!("the database has no schema `{}`{hint}", entry.schema);
        faults.tell(format!("{path}.schema"), message);
        return Vec::new();
    }
    let all = || seen.tables.iter().enumerate().filter(|(_, table)| table.schema == entry.schema);
    if let Selection::Named(names) = &entry.tables {
        for name in names.iter().filter(|name| !is_pattern(name)) {
            let fault = match all().find(|(_, table)| table.name == *name) {
                Some((_, table)) if table.is_table() => continue,
                Some((_, table)) => {
                    format!("`{name}` is {}: row-level security is for tables", table.what())
                }
                None => {
                    let tables = all().filter(|(_, table)| table.is_table());
                    let hint = did_you_mean(name, tables.map(|(_, table)| table.name.as_str()));
                    format!("schema `{}` has no table `{name}`{hint}", entry.schema)
                }
            };
            faults.tell(format!("{path}.tables"), fault);
        }
    }
    // What reads a partitioned table asks the policies of that, not those of its partitions: they are meant
    // only where they are named.
    let is_meant = |table: &Table| match &entry.tables {
        Selection::Named(names) if names.contains(&table.name) => true,
        selection => !table.is_partition && selection.covers(&table.name),
    };
    all().filter(|(_, table)| table.is_table() && is_meant(table)).map(|(n, _)| n).collect()
}

/// What the forms of a file stand on, as the target has it.
pub(super) struct Ground<'a> {
    pub(super) group: &'a str,
    pub(super) seen: &'a Seen,
    pub(super) functions: Vec<Function>,
    columns: HashMap<u32, Vec<Column>>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        group: &'a str,
        seen: &'a Seen,
        columns: Vec<Column>,
        functions: Vec<Function>,
    ) -> Self {
        let mut by_table: HashMap<u32, Vec<Column>> = HashMap::new();
        for column in columns {
            by_table.entry(column.table_oid.0).or_default().push(column);
        }
        Self { group, seen, functions, columns: by_table }
    }

    /// The column of a form, if the table has it.
    pub(super) fn column(&self, table: Oid, name: &str) -> Option<&Column> {
        self.columns.get(&table.0)?.iter().find(|column| column.name == name)
    }
}

/// Writes everything out.
pub(super) fn wanted<'a>(
    rls: &'a [rls::TableRls],
    selected: &[Vec<usize>],
    ground: &'a Ground<'_>,
    faults: &mut Faults,
) -> Vec<WantedTable<'a>> {
    let mut wanted: BTreeMap<usize, WantedTable<'a>> = BTreeMap::new();
    for (n, (entry, tables)) in rls.iter().zip(selected).enumerate() {
        let path = format!("rls[{n}]");
        for at in tables {
            let Some(table) = ground.seen.tables.get(*at) else { continue };
            let on_table = wanted.entry(*at).or_insert_with(|| WantedTable {
                table,
                path: path.clone(),
                is_forced: entry.force,
                policies: Vec::new(),
            });
            if on_table.is_forced != entry.force {
                let message = format!(
                    "`{}` says something else of {}: leave one of them out",
                    on_table.path,
                    table.shown()
                );
                faults.tell(format!("{path}.force"), message);
            }
            for (k, policy) in entry.policies.iter().enumerate() {
                let path = format!("{path}.policy[{k}]");
                if let Some(other) = on_table.policies.iter().find(|p| p.policy.name == policy.name)
                {
                    let message = format!(
                        "{} gets a policy `{}` from `{}` already: take another name",
                        table.shown(),
                        policy.name,
                        other.path
                    );
                    faults.tell(format!("{path}.name"), message);
                    continue;
                }
                on_table.policies.extend(write_out(policy, path, table, ground, faults));
            }
        }
    }
    wanted.into_values().collect()
}

fn write_out<'a>(
    policy: &'a rls::Policy,
    path: String,
    table: &Table,
    ground: &Ground<'_>,
    faults: &mut Faults,
) -> Option<WantedPolicy<'a>> {
    let column = match &policy.column {
        None => None,
        Some(name) => {
            let Some(column) = ground.column(table.oid, name) else {
                // What was meant is looked up by whoever has a connection.
                faults.tell(
                    format!("{path}.column"),
                    format!("{} has no column `{name}`", table.shown()),
                );
                return None;
            };
            if policy.form == Some(Form::PublicRows) && column.type_name != "boolean" {
                let message = format!(
                    "column `{name}` of {} is {}: the form `public-rows` wants a boolean one, or write `using`",
                    table.shown(),
                    column.type_name
                );
                faults.tell(format!("{path}.column"), message);
                return None;
            }
            Some(column)
        }
    };
    let type_name = column.map_or("text", |column| column.type_name.as_str());
    let written = policy.written(type_name, sql::identifier, sql::literal);
    for (key, expression) in [("using", &policy.using), ("with_check", &policy.with_check)] {
        if let Some(fault) = expression.as_deref().and_then(expressions::fault) {
            faults.tell(format!("{path}.{key}"), fault);
            return None;
        }
    }
    let mut roles =
        if policy.roles.is_empty() { vec![ground.group.to_owned()] } else { policy.roles.clone() };
    roles.sort();
    roles.dedup();
    if roles.iter().any(|role| role == "public") {
        roles = vec!["public".to_owned()];
    }
    let holds = roles.iter().any(|role| role == "public" || role == ground.group);
    let needs_index = policy.form != Some(Form::PublicRows);
    let is_indexed = column.filter(|_| needs_index).map(|column| column.is_indexed);
    let quoted = statements::table(&table.schema, &table.name);
    let statement = statements::create_policy(&policy.name, &quoted, &written, &roles);
    Some(WantedPolicy { path, policy, written, roles, holds, is_indexed, statement })
}

/// What is wrong with the roles and functions that a file names, whatever its tables.
pub(super) fn check_names(rls: &[rls::TableRls], ground: &Ground<'_>, faults: &mut Faults) {
    for (n, entry) in rls.iter().enumerate() {
        for (k, policy) in entry.policies.iter().enumerate() {
            let path = format!("rls[{n}].policy[{k}]");
            for role in &policy.roles {
                if role != "public" && role != ground.group && !ground.seen.roles.contains(role) {
                    let known = ground.seen.roles.iter().map(String::as_str);
                    let hint = did_you_mean(role, known.chain(["public", ground.group]));
                    faults
                        .tell(format!("{path}.roles"), format!("there is no role `{role}`{hint}"));
                }
            }
            let Some(name) = &policy.function else { continue };
            match ground.functions.iter().find(|function| function.name == *name) {
                None => {
                    let known = ground.functions.iter().map(|function| function.name.as_str());
                    let hint = did_you_mean(name, known);
                    let message = format!(
                        "there is no function `{name}` that can be called with nothing{hint}"
                    );
                    faults.tell(format!("{path}.function"), message);
                }
                Some(function) if function.gives_array => {
                    let message =
                        format!("`{name}` gives an array: let it give a set, `RETURNS SETOF …`");
                    faults.tell(format!("{path}.function"), message);
                }
                Some(_) => {}
            }
        }
    }
}
