//! Reading what a profile gives inside its database.

use std::collections::BTreeMap;

use crate::{
    document::{Choice, Places, Table},
    domain::rights::{
        FailedChecks, Hardening, OnDrift, Rights,
        check::{Check, Expect},
        context::Template,
        grant::{All, Grant, Privilege, Selection},
        rls::{Command, Effect, Form, Policy, TableRls},
    },
};

/// Where keys stand, by their path within the profile (`grant[0].tables`).
#[derive(Default)]
pub(super) struct Found(pub(super) Places);

impl Found {
    /// Keeps the place of a key of a table that stands at `path` within the profile.
    pub(super) fn keep(&mut self, table: &Table, path: &str, key: &str) {
        let whole = match (path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => path.to_owned(),
            (false, false) => format!("{path}.{key}"),
        };
        self.0.keep(whole, table.place(key));
    }
}

pub(super) fn read(profile: &mut Table, found: &mut Found) -> Rights {
    let mut rights = Rights::default();
    for (n, table) in profile.tables("grant").into_iter().enumerate() {
        rights.grants.push(read_grant(table, &format!("grant[{n}]"), found));
    }
    for (n, table) in profile.tables("rls").into_iter().enumerate() {
        rights.rls.extend(read_rls(table, &format!("rls[{n}]"), found));
    }
    rights.harden = words(profile, "harden", Hardening::ALL, Hardening::from_text);
    rights.log = profile.strings_by_name("log").unwrap_or_default().into_iter().collect();
    rights.context = templates(profile, "context");
    for (name, _) in rights.context.iter().filter(|(_, template)| template.names_context()) {
        let message = format!("`{name}`: a claim cannot hold the whole context");
        profile.fault("context", &message);
    }
    for (n, table) in profile.tables("check").into_iter().enumerate() {
        rights.checks.extend(read_check(table, &format!("check[{n}]"), found));
    }
    rights.failed_checks =
        profile.one_of("failed_checks", FailedChecks::ALL).and_then(FailedChecks::from_text);
    rights.drift = profile.one_of("drift", OnDrift::ALL).and_then(OnDrift::from_text);
    for key in ["harden", "log", "context"] {
        found.keep(profile, "", key);
    }
    rights
}

fn read_grant(mut table: Table, path: &str, found: &mut Found) -> Grant {
    let grant = Grant {
        database: table.boolean("database").unwrap_or_default(),
        schema: table.optional_string("schema"),
        tables: selection(&mut table, "tables"),
        columns: table.strings("columns"),
        columns_except: table.strings("columns_except"),
        sequences: selection(&mut table, "sequences"),
        functions: selection(&mut table, "functions"),
        types: selection(&mut table, "types"),
        languages: table.strings("languages"),
        foreign_servers: table.strings("foreign_servers"),
        foreign_data_wrappers: table.strings("foreign_data_wrappers"),
        parameters: table.strings("parameters"),
        privileges: words(&mut table, "privileges", Privilege::ALL, Privilege::from_text),
        revoke_public: table.boolean("revoke_public").unwrap_or_default(),
    };
    for key in [
        "",
        "schema",
        "tables",
        "columns",
        "columns_except",
        "sequences",
        "functions",
        "types",
        "languages",
        "foreign_servers",
        "foreign_data_wrappers",
        "parameters",
        "privileges",
        "revoke_public",
        "database",
    ] {
        found.keep(&table, path, key);
    }
    grant
}

fn read_rls(mut table: Table, path: &str, found: &mut Found) -> Option<TableRls> {
    table.require(&["schema", "tables"]);
    let schema = table.optional_string("schema");
    let tables = selection(&mut table, "tables");
    let force = table.boolean("force").unwrap_or(true);
    let mut policies = Vec::new();
    for (n, policy) in table.tables("policy").into_iter().enumerate() {
        policies.extend(read_policy(policy, &format!("{path}.policy[{n}]"), found));
    }
    for key in ["", "schema", "tables", "force"] {
        found.keep(&table, path, key);
    }
    Some(TableRls { schema: schema?, tables: tables?, force, policies })
}

fn read_policy(mut table: Table, path: &str, found: &mut Found) -> Option<Policy> {
    table.require(&["name"]);
    let name = table.optional_string("name");
    let policy = Policy {
        name: name.clone().unwrap_or_default(),
        form: table.one_of("form", Form::ALL).and_then(Form::from_text),
        effect: table.one_of("effect", Effect::ALL).and_then(Effect::from_text),
        command: table.one_of("command", Command::ALL).and_then(Command::from_text),
        roles: table.strings("roles").unwrap_or_default(),
        using: table.optional_string("using"),
        with_check: table.optional_string("with_check"),
        column: table.optional_string("column"),
        claim: table.optional_string("claim"),
        function: table.optional_string("function"),
        values: table.strings("values").unwrap_or_default(),
        days: table.strings("days").unwrap_or_default(),
        from: table.optional_string("from"),
        to: table.optional_string("to"),
        timezone: table.optional_string("timezone"),
    };
    for key in [
        "",
        "name",
        "form",
        "effect",
        "command",
        "roles",
        "using",
        "with_check",
        "column",
        "claim",
        "function",
        "values",
        "days",
        "from",
        "to",
        "timezone",
    ] {
        found.keep(&table, path, key);
    }
    name.map(|_| policy)
}

fn read_check(mut table: Table, path: &str, found: &mut Found) -> Option<Check> {
    table.require(&["sql", "expect"]);
    let name = table.optional_string("name").unwrap_or_default();
    let sql = table.optional_string("sql");
    let claims = table.strings_by_name("as").unwrap_or_default().into_iter().collect();
    let expect = read_expect(&mut table);
    for key in ["", "name", "sql", "as", "expect"] {
        found.keep(&table, path, key);
    }
    Some(Check { name, sql: sql?, claims, expect: expect? })
}

/// `"allowed"`, `"denied"`, `{ rows = 3 }` or `{ value = "x" }`.
fn read_expect(check: &mut Table) -> Option<Expect> {
    if !check.is_table("expect") {
        return match check.one_of("expect", &["allowed", "denied"])? {
            "allowed" => Some(Expect::Allowed),
            _ => Some(Expect::Denied),
        };
    }
    let mut expect = check.table("expect")?;
    let rows = expect.integer_in("rows", 0..=u64::from(u32::MAX));
    let value = expect.text_as_written("value");
    match (rows, value) {
        (Some(rows), None) => Some(Expect::Rows(rows)),
        (None, Some(value)) => Some(Expect::Value(value)),
        _ => {
            expect.fault("", "write \"allowed\", \"denied\", { rows = 3 } or { value = \"x\" }");
            None
        }
    }
}

/// Texts with places to fill in, by name.
pub(super) fn templates(profile: &mut Table, key: &'static str) -> BTreeMap<String, Template> {
    let mut templates = BTreeMap::new();
    for (name, text) in profile.strings_by_name(key).unwrap_or_default() {
        match text.parse() {
            Ok(template) => drop(templates.insert(name, template)),
            Err(e) => profile.fault(key, &format!("`{name}`: {e}")),
        }
    }
    templates
}

fn selection(table: &mut Table, key: &'static str) -> Option<Selection> {
    Some(match table.strings_or(key, "all")? {
        Choice::Word => Selection::All(All::All),
        Choice::Listed(names) => Selection::Named(names),
    })
}

/// A list of words that are known beforehand.
fn words<T>(
    table: &mut Table,
    key: &'static str,
    known: &'static [&'static str],
    read: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let mut words = Vec::new();
    for text in table.strings(key).unwrap_or_default() {
        match read(&text.to_lowercase()) {
            Some(word) => words.push(word),
            None => {
                let hint = crate::document::did_you_mean(&text, known.iter().copied());
                let list = known.join("\", \"");
                table.fault(key, &format!("`{text}` is not known; write some of \"{list}\"{hint}"));
            }
        }
    }
    words
}
