//! Row-level security as code: which tables have it, and their policies, written out or as one of the
//! forms that fit most tables.

use crate::domain::{
    profile::ProfileSpec,
    rights::{
        context::is_claim_name,
        grant::{Selection, is_like, is_pattern},
    },
    target::is_identifier,
    words::words,
};

words! {
    /// How a policy joins the others (<https://www.postgresql.org/docs/current/sql-createpolicy.html>).
    Effect {
        /// Rows are seen that any of these lets through.
        Permissive = "permissive",
        /// Of those, only what all of these let through. Alone they let nothing through.
        Restrictive = "restrictive",
    }
}

words! {
    /// What a policy is for.
    Command {
        /// Everything.
        All = "all",
        /// Reading.
        Select = "select",
        /// Adding rows.
        Insert = "insert",
        /// Changing rows.
        Update = "update",
        /// Taking rows away.
        Delete = "delete",
    }
}

words! {
    /// A ready form of a policy. Each looks a claim up once per statement, and each needs an index on its
    /// column where the table is large.
    Form {
        /// Every row. A restrictive wall alone shows nothing; this is what it restricts.
        AllRows = "all-rows",
        /// Rows whose `column` is the claim `user_id`.
        Owner = "owner",
        /// The wall between tenants: restrictive; `column` is the claim `tenant_id`.
        Tenant = "tenant",
        /// Rows that are open to all who may read the table: `column` is true.
        PublicRows = "public-rows",
        /// Rows whose `column` is among what `function` gives, which is called once.
        Team = "team",
        /// Rows of the claim `tenant_id` in `column`, for those whose claim `role` is one of `values`.
        RoleInTenant = "role-in-tenant",
        /// Only from `from` to `to`, on `days`, in `timezone`: restrictive.
        OfficeHours = "office-hours",
    }
}

/// The days of a week, in PostgreSQL's order (`EXTRACT(ISODOW …)`).
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Row-level security of some tables.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TableRls {
    /// Their schema.
    pub schema: String,
    /// The tables.
    pub tables: Selection,
    /// Does it hold for the tables' owner, too? It does unless this says `false`.
    #[serde(default = "yes")]
    pub force: bool,
    /// Its policies. They hold for the profile's group role unless they say otherwise.
    #[serde(default, rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
}

const fn yes() -> bool {
    true
}

/// One policy: a form with what it needs, or expressions.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name on each of the tables.
    pub name: String,
    /// A ready form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// How it joins the others; the form's own, or `permissive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What it is for; the form's own, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// Whom it holds for (`public` is everybody); the profile's group role if nobody is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Which rows are there to be read, changed, deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub using: Option<String>,
    /// Which rows may be written; `using` if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_check: Option<String>,
    /// The form's column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The form's claim, in place of its usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The form's function, `schema.name`: takes nothing, gives the rows' keys, is STABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The form's values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The form's days: `mon` to `sun`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<String>,
    /// The form's first minute: `08:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The minute that it ends before: `18:30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Where it is that time: a name such as `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// What a policy says, with its form written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// How it joins the others.
    pub effect: Effect,
    /// What it is for.
    pub command: Command,
    /// `USING`.
    pub using: Option<String>,
    /// `WITH CHECK`.
    pub with_check: Option<String>,
}

impl Policy {
    /// Writes it out. `column_type` is the type of the form's column, as SQL; `ident` and `text` quote.
    #[must_use]
    pub fn written(
        &self,
        column_type: &str,
        ident: impl Fn(&str) -> String,
        text: impl Fn(&str) -> String,
    ) -> Written {
        let column = self.column.as_deref().map(&ident).unwrap_or_default();
        // A sub-select is a plan of its own, run once a statement, where a bare call would run once a row;
        // and so would a cast of its outcome.
        let claim = |usual: &str| {
            let claim = text(self.claim.as_deref().unwrap_or(usual));
            format!("pgvalet.claim({claim})")
        };
        let is_claim = |usual: &str| format!("{column} = (SELECT {}::{column_type})", claim(usual));
        let (effect, command, using) = match self.form {
            None => (Effect::Permissive, Command::All, self.using.clone()),
            Some(Form::AllRows) => (Effect::Permissive, Command::All, Some("true".to_owned())),
            Some(Form::Owner) => (Effect::Permissive, Command::All, Some(is_claim("user_id"))),
            Some(Form::Tenant) => (Effect::Restrictive, Command::All, Some(is_claim("tenant_id"))),
            Some(Form::PublicRows) => (Effect::Permissive, Command::Select, Some(column.clone())),
            Some(Form::Team) => {
                let (schema, name) = self
                    .function
                    .as_deref()
                    .and_then(|name| name.split_once('.'))
                    .unwrap_or_default();
                let call = format!("{}.{}()", ident(schema), ident(name));
                let using = format!("{column} = ANY (ARRAY(SELECT {call}))");
                (Effect::Permissive, Command::All, Some(using))
            }
            Some(Form::RoleInTenant) => {
                let values: Vec<_> = self.values.iter().map(|value| text(value)).collect();
                let role =
                    format!("(SELECT pgvalet.claim('role')) = ANY (ARRAY[{}])", values.join(", "));
                (
                    Effect::Permissive,
                    Command::All,
                    Some(format!("{} AND {role}", is_claim("tenant_id"))),
                )
            }
            Some(Form::OfficeHours) => {
                (Effect::Restrictive, Command::All, Some(self.office_hours(text)))
            }
        };
        let command = self.command.unwrap_or(command);
        let (using, with_check) = match (command, using, &self.with_check) {
            // An INSERT has no rows to look at beforehand: what a form says is what may be written.
            (Command::Insert, using, with_check) => (None, with_check.clone().or(using)),
            (_, using, with_check) => (using, with_check.clone()),
        };
        Written { effect: self.effect.unwrap_or(effect), command, using, with_check }
    }

    /// By the clock at the start of the statement: a transaction that was begun in time goes on otherwise.
    fn office_hours(&self, text: impl Fn(&str) -> String) -> String {
        let there = format!(
            "(statement_timestamp() AT TIME ZONE {})",
            text(self.timezone.as_deref().unwrap_or("UTC"))
        );
        let mut parts = Vec::new();
        if let Some(from) = &self.from {
            parts.push(format!("{there}::time >= {}::time", text(from)));
        }
        if let Some(to) = &self.to {
            parts.push(format!("{there}::time < {}::time", text(to)));
        }
        if !self.days.is_empty() {
            let number = |day: &String| {
                DAYS.iter().position(|known| known == day).map(|n| (n + 1).to_string())
            };
            let numbers: Vec<_> = self.days.iter().filter_map(number).collect();
            parts.push(format!("EXTRACT(ISODOW FROM {there}) IN ({})", numbers.join(", ")));
        }
        parts.join(" AND ")
    }
}

/// What is wrong with it by itself; each fault names its key.
#[must_use]
pub fn faults(rls: &TableRls) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if !is_identifier(&rls.schema) {
        faults.push(("schema".to_owned(), "must be the name of a schema".to_owned()));
    }
    if matches!(&rls.tables, Selection::Named(names) if names.is_empty()) {
        faults.push(("tables".to_owned(), "the list is empty: name the tables".to_owned()));
    }
    let mut names = std::collections::BTreeSet::new();
    for (n, policy) in rls.policies.iter().enumerate() {
        if !names.insert(&policy.name) {
            let message = format!("a policy `{}` is there already", policy.name);
            faults.push((format!("policy[{n}].name"), message));
        }
        let within = |(key, message): (&str, String)| (format!("policy[{n}].{key}"), message);
        faults.extend(policy_faults(policy).into_iter().map(within));
    }
    faults
}

fn policy_faults(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let mut fault = |key, message: &str| faults.push((key, message.to_owned()));
    if !is_identifier(&policy.name) {
        fault("name", "must be a name of 1 to 63 bytes");
    }
    if policy.roles.iter().any(|role| !is_identifier(role)) {
        fault("roles", "must be names of roles, or `public`");
    }
    if policy.command == Some(Command::Insert) && policy.form.is_none() && policy.using.is_some() {
        fault("using", "an INSERT has no rows to look at beforehand: write `with_check`");
    }
    if matches!(policy.command, Some(Command::Select | Command::Delete))
        && policy.with_check.is_some()
    {
        fault("with_check", "belongs to what writes rows: `all`, `insert` or `update`");
    }
    if policy.claim.as_deref().is_some_and(|name| !is_claim_name(name)) {
        fault("claim", "is no name of a claim: write lower-case letters, digits and `_`");
    }
    for (key, text) in [("using", &policy.using), ("with_check", &policy.with_check)] {
        if text.as_deref().is_some_and(|text| text.trim().is_empty() || text.contains('\0')) {
            fault(key, "write an expression, or leave it out");
        }
    }
    if policy.form.is_none() && policy.using.is_none() && policy.with_check.is_none() {
        fault("using", "say which rows: write `using`, `with_check` or a `form`");
    }
    if policy.form.is_some() && policy.using.is_some() {
        fault("using", "is written by the form: leave one of them out");
    }
    let two_names = |name: &str| {
        name.split_once('.').is_some_and(|(a, b)| is_identifier(a) && is_identifier(b))
    };
    if policy.function.as_deref().is_some_and(|name| !two_names(name)) {
        fault("function", "must be written with its schema: \"private.my_teams\"");
    }
    faults.extend(form_faults(policy));
    if policy.form == Some(Form::OfficeHours) {
        faults.extend(hours_faults(policy));
    }
    faults
}

/// Each form takes some keys, and needs some of them.
fn form_faults(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let given = [
        ("column", policy.column.is_some()),
        ("claim", policy.claim.is_some()),
        ("function", policy.function.is_some()),
        ("values", !policy.values.is_empty()),
        ("days", !policy.days.is_empty()),
        ("from", policy.from.is_some()),
        ("to", policy.to.is_some()),
        ("timezone", policy.timezone.is_some()),
    ];
    let (needs, takes): (&[&str], &[&str]) = match policy.form {
        None | Some(Form::AllRows) => (&[], &[]),
        Some(Form::Owner | Form::Tenant) => (&["column"], &["column", "claim"]),
        Some(Form::PublicRows) => (&["column"], &["column"]),
        Some(Form::Team) => (&["column", "function"], &["column", "function"]),
        Some(Form::RoleInTenant) => (&["column", "values"], &["column", "claim", "values"]),
        Some(Form::OfficeHours) => (&["timezone"], &["from", "to", "days", "timezone"]),
    };
    let form = policy.form.map_or("", Form::as_str);
    for (key, is_given) in given {
        if needs.contains(&key) && !is_given {
            faults.push((key, format!("is needed by the form `{form}`")));
        } else if is_given && !takes.contains(&key) {
            let message = match policy.form {
                None => "belongs to a form: write `form`".to_owned(),
                Some(_) => format!("is nothing to the form `{form}`"),
            };
            faults.push((key, message));
        }
    }
    faults
}

fn hours_faults(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let mut fault = |key, message: &str| faults.push((key, message.to_owned()));
    if policy.from.is_none() && policy.to.is_none() && policy.days.is_empty() {
        fault("from", "say when: `from`, `to` or `days`");
    }
    for (key, time) in [("from", &policy.from), ("to", &policy.to)] {
        if time
            .as_deref()
            .is_some_and(|time| chrono::NaiveTime::parse_from_str(time, "%H:%M").is_err())
        {
            fault(key, "must be a time such as \"08:00\"");
        }
    }
    if policy.days.iter().any(|day| !DAYS.contains(&day.as_str())) {
        fault(
            "days",
            "must be some of \"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"",
        );
    }
    faults
}

/// Policies that two profiles would both make on one table, where a name is there once: the place of the later
/// profile in the list, its key, and what is wrong.
#[must_use]
pub fn contradictions(profiles: &[ProfileSpec]) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (n, later) in profiles.iter().enumerate() {
        let earlier = profiles.iter().take(n);
        let beside = earlier.filter(|p| p.target == later.target && p.database == later.database);
        let theirs: Vec<_> =
            beside.flat_map(|p| p.rights.rls.iter().map(move |rls| (&p.name, rls))).collect();
        for (k, rls) in later.rights.rls.iter().enumerate() {
            for (m, policy) in rls.policies.iter().enumerate() {
                let other = theirs.iter().find(|(_, other)| {
                    other.schema == rls.schema
                        && other.policies.iter().any(|their| their.name == policy.name)
                        && may_meet(&other.tables, &rls.tables)
                });
                if let Some((name, _)) = other {
                    let message = format!(
                        "profile `{name}` makes a policy `{}` on the same tables: take another name, or let one of them name the roles of both",
                        policy.name
                    );
                    found.push((n, format!("rls[{k}].policy[{m}].name"), message));
                }
            }
        }
    }
    found
}

/// Is there a name that both cover? Of two patterns that is not known before the tables are.
fn may_meet(one: &Selection, other: &Selection) -> bool {
    let (Selection::Named(one), Selection::Named(other)) = (one, other) else { return true };
    let meet = |a: &String, b: &String| match (is_pattern(a), is_pattern(b)) {
        (true, false) => is_like(a, b),
        (false, true) => is_like(b, a),
        _ => a == b,
    };
    one.iter().any(|a| other.iter().any(|b| meet(a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(policy: &Policy) -> Written {
        policy.written("integer", |name| format!("\"{name}\""), |text| format!("'{text}'"))
    }

    #[test]
    fn forms_are_written_out_and_look_a_claim_up_once() {
        let form = |form, column: &str| Policy {
            name: "p".to_owned(),
            form: Some(form),
            column: Some(column.to_owned()),
            ..Policy::default()
        };
        let tenant = written(&form(Form::Tenant, "tenant_id"));
        assert_eq!(tenant.effect, Effect::Restrictive);
        assert_eq!(
            tenant.using.as_deref(),
            Some("\"tenant_id\" = (SELECT pgvalet.claim('tenant_id')::integer)")
        );
        let insert = Policy { command: Some(Command::Insert), ..form(Form::Owner, "by") };
        let insert = written(&insert);
        assert_eq!(insert.using, None);
        assert_eq!(
            insert.with_check.as_deref(),
            Some("\"by\" = (SELECT pgvalet.claim('user_id')::integer)")
        );
        let hours = Policy {
            days: vec!["mon".to_owned(), "fri".to_owned()],
            from: Some("08:00".to_owned()),
            timezone: Some("Europe/Berlin".to_owned()),
            column: None,
            ..form(Form::OfficeHours, "")
        };
        assert_eq!(policy_faults(&hours), []);
        assert_eq!(
            written(&hours).using.as_deref(),
            Some(
                "(statement_timestamp() AT TIME ZONE 'Europe/Berlin')::time >= '08:00'::time AND EXTRACT(ISODOW FROM (statement_timestamp() AT TIME ZONE 'Europe/Berlin')) IN (1, 5)"
            )
        );
    }

    #[test]
    fn each_fault_names_its_key() {
        let good = Policy {
            name: "p".to_owned(),
            form: Some(Form::Team),
            column: Some("team_id".to_owned()),
            function: Some("private.my_teams".to_owned()),
            ..Policy::default()
        };
        assert_eq!(policy_faults(&good), []);
        type Change = fn(&mut Policy);
        let cases: [(&str, Change); 7] = [
            ("name", |p| p.name.clear()),
            ("column", |p| p.column = None),
            ("function", |p| p.function = Some("my_teams".to_owned())),
            ("using", |p| p.using = Some("true".to_owned())),
            ("values", |p| p.values = vec!["x".to_owned()]),
            ("claim", |p| p.claim = Some("x".to_owned())),
            ("with_check", |p| {
                p.command = Some(Command::Select);
                p.with_check = Some("true".to_owned());
            }),
        ];
        for (key, change) in cases {
            let mut broken = good.clone();
            change(&mut broken);
            let found: Vec<_> = policy_faults(&broken).into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, [key]);
        }
    }

    #[test]
    fn selections_meet_where_they_name_the_same() {
        let named = |names: &[&str]| {
            Selection::Named(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let all = Selection::All(crate::domain::rights::grant::All::All);
        for (one, other, meet) in [
            (named(&["a", "b"]), named(&["b"]), true),
            (named(&["a"]), named(&["b"]), false),
            (named(&["a*"]), named(&["b", "ab"]), true),
            (named(&["ab"]), named(&["?c"]), false),
            (named(&["a*"]), named(&["*b"]), false),
            (all.clone(), named(&["b"]), true),
            (all.clone(), all, true),
        ] {
            assert_eq!(may_meet(&one, &other), meet, "{one:?} {other:?}");
            assert_eq!(may_meet(&other, &one), meet, "{other:?} {one:?}");
        }
    }
}
