//! Row-level security as code: a profile's policies against those that are there, as SQL.
//!
//! It runs after the profile's grants, in their transaction. Only policies that bear the profile's mark are
//! changed or dropped; what others made is never touched. Row-level security is turned on and never off, so
//! that a table which a file forgets shows too little rather than too much.

mod difference;
mod expressions;
mod notes;
mod seen;
pub(in crate::target) mod settings;
mod statements;
mod tokens;
mod wanted;
mod warnings;

use std::collections::HashSet;

use sqlx::{PgConnection, postgres::PgErrorPosition};

use crate::{
    document::did_you_mean,
    domain::{
        profile::ProfileSpec,
        rights::rls::{self, Form},
    },
    target::{
        error::{self, Error},
        observe::Facts,
        policies::{
            notes::Notes,
            seen::Seen,
            wanted::{Faults, Ground, WantedPolicy, WantedTable},
        },
        rights::Planned,
    },
};

/// What the profile says of rows, less what is there. Changes nothing.
pub(crate) async fn difference(
    tx: &mut PgConnection,
    facts: &Facts,
    spec: &ProfileSpec,
) -> Result<Planned, Error> {
    let (rls, group) = (&spec.rights.rls, spec.group_role());
    let profile = spec.name.as_str();
    let schemas: Vec<String> = rls.iter().map(|entry| entry.schema.clone()).collect();
    let Some(seen) = seen::seen(tx, &schemas, &statements::mark_of(profile), &group).await? else {
        return Ok(Planned::default());
    };
    let (mut faults, mut notes) = (Faults::default(), Notes::default());
    let selected = wanted::selected(rls, &seen, &mut faults);
    let ground = ground(tx, rls, (&seen, &selected), &group).await?;
    wanted::check_names(rls, &ground, &mut faults);
    let wanted = wanted::wanted(rls, &selected, &ground, &mut faults);
    let found = difference::difference(profile, &wanted, (&seen, facts), &mut faults, &mut notes);
    let new = found.new.iter().filter_map(|(n, k)| {
        let table = wanted.get(*n)?;
        Some((table, table.policies.get(*k)?))
    });
    probe(tx, new.collect(), &seen, &mut faults).await?;
    warnings::warn(tx, facts, spec, (&seen, &wanted), &mut notes).await?;
    let mut statements = found.statements;
    if !found.made.is_empty() {
        statements.push(statements::mark(profile, &found.made));
    }
    let mut faults = faults.into_list();
    for (path, message) in &mut faults {
        meant_column(tx, rls, (path, message), &ground, &selected).await?;
    }
    Ok(Planned { statements, notes: notes.into_list(), faults, ..Planned::default() })
}

/// Looks up what the forms of the file name.
async fn ground<'a>(
    tx: &mut PgConnection,
    rls: &[rls::TableRls],
    (seen, selected): (&'a Seen, &[Vec<usize>]),
    group: &'a str,
) -> Result<Ground<'a>, Error> {
    let policies = || rls.iter().flat_map(|entry| &entry.policies);
    let names: Vec<_> = policies().filter_map(|policy| policy.column.clone()).collect();
    let tables = selected.iter().flatten().filter_map(|at| seen.tables.get(*at));
    let tables: Vec<_> = tables.map(|table| table.oid).collect();
    let functions = policies().filter_map(|policy| policy.function.as_deref()?.split_once('.'));
    let schemas: Vec<_> = functions.map(|(schema, _)| schema.to_owned()).collect();
    let columns = seen::columns(tx, &tables, &names).await?;
    let functions = seen::functions(tx, &schemas).await?;
    Ok(Ground::new(group, seen, columns, functions))
}

/// Adds the column that was meant to the fault of one that is not there.
async fn meant_column(
    tx: &mut PgConnection,
    rls: &[rls::TableRls],
    (path, message): (&str, &mut String),
    ground: &Ground<'_>,
    selected: &[Vec<usize>],
) -> Result<(), Error> {
    for (n, (entry, tables)) in rls.iter().zip(selected).enumerate() {
        for (k, policy) in entry.policies.iter().enumerate() {
            let Some(name) = &policy.column else { continue };
            if path != format!("rls[{n}].policy[{k}].column") || !message.contains("has no column")
            {
                continue;
            }
            let mut tables = tables.iter().filter_map(|at| ground.seen.tables.get(*at));
            if let Some(table) = tables.find(|table| ground.column(table.oid, name).is_none()) {
                let known = seen::column_names(tx, table.oid).await?;
                message.push_str(&did_you_mean(name, known.iter().map(String::as_str)));
            }
        }
    }
    Ok(())
}

/// A question to the server about an expression.
struct Probe {
    /// The key that the expression comes from.
    path: String,
    table: String,
    statement: String,
    /// How many characters stand before the expression, if it is asked about as it was written.
    before: Option<usize>,
}

/// Questions in one round trip.
const PROBES_IN_ONE: usize = 100;

/// Asks the server what it makes of each new expression, before anything is changed: of many at once, and of
/// each by itself only where something is wrong.
async fn probe(
    tx: &mut PgConnection,
    new: Vec<(&WantedTable<'_>, &WantedPolicy<'_>)>,
    seen: &Seen,
    faults: &mut Faults,
) -> Result<(), Error> {
    const DOING: &str = "read the expression of a policy";
    let (save, back) = (statements::SAVE, format!("ROLLBACK TO {}", statements::SAVE));
    let new = unlike(tx, new).await?;
    let probes: Vec<Probe> =
        new.into_iter().flat_map(|(table, policy)| probes_of(table, policy, seen)).collect();
    if probes.is_empty() {
        return Ok(());
    }
    say(tx, save).await.map_err(error::failed(DOING))?;
    for some in probes.chunks(PROBES_IN_ONE) {
        let open: Vec<_> = some.iter().filter(|probe| !faults.has(&probe.path)).collect();
        let all: Vec<_> = open.iter().map(|probe| probe.statement.as_str()).collect();
        if all.is_empty() || say(tx, &all.join("; ")).await.is_ok() {
            continue;
        }
        say(tx, &back).await.map_err(error::failed(DOING))?;
        for Probe { path, table, statement, before } in open {
            if faults.has(path) {
                continue;
            }
            if let Err(refused) = say(tx, statement).await {
                say(tx, &back).await.map_err(error::failed(DOING))?;
                let said = said(&refused, *before).ok_or(refused);
                let said = said.map_err(error::failed(DOING))?;
                faults.tell(path.clone(), format!("on {table}: {said}"));
            }
        }
    }
    say(tx, &format!("RELEASE {save}")).await.map_err(error::failed(DOING))
}

/// Of very many tables, one of each kind: what an expression means depends on the columns, and on the table's
/// name where it has that in it.
async fn unlike<'a, 'b>(
    tx: &mut PgConnection,
    mut new: Vec<(&'a WantedTable<'b>, &'a WantedPolicy<'b>)>,
) -> Result<Vec<(&'a WantedTable<'b>, &'a WantedPolicy<'b>)>, Error> {
    if new.len() <= PROBES_IN_ONE {
        return Ok(new);
    }
    let tables: Vec<_> = new.iter().map(|(table, _)| table.table.oid).collect();
    let shapes = seen::shapes(tx, &tables).await?;
    let mut met = HashSet::new();
    new.retain(|(table, policy)| {
        let both = [&policy.written.using, &policy.written.with_check];
        let names_it =
            both.into_iter().flatten().any(|expression| expression.contains(&table.table.name));
        let name = names_it.then_some(table.table.name.as_str());
        met.insert((&policy.path, shapes.get(&table.table.oid.0), name))
    });
    Ok(new)
}

fn probes_of(table: &WantedTable<'_>, policy: &WantedPolicy<'_>, seen: &Seen) -> Vec<Probe> {
    let quoted = statements::table(&table.table.schema, &table.table.name);
    let probe = |key: &str, (statement, before)| Probe {
        path: format!("{}.{key}", policy.path),
        table: table.table.shown(),
        statement,
        before,
    };
    let both = [("using", &policy.written.using), ("with_check", &policy.written.with_check)];
    let both = both.into_iter().filter_map(|(key, expression)| Some((key, expression.as_ref()?)));
    let mut probes: Vec<_> = both
        .map(|(key, expression)| probe(key_of(policy, key), probe_of(&quoted, expression, seen)))
        .collect();
    // A name of a place is read only when the expression is run.
    let timezone = policy.policy.timezone.as_deref();
    probes.extend(timezone.map(|name| probe("timezone", (statements::probe_timezone(name), None))));
    probes
}

/// What to ask, and where in it the expression begins if it is as it was written. Before the first apply the
/// functions that tell claims are not there.
fn probe_of(table: &str, expression: &str, seen: &Seen) -> (String, Option<usize>) {
    match expressions::without_claims(expression).filter(|_| !seen.has_claims) {
        Some(other) => (statements::probe(table, &other).0, None),
        None => {
            let (statement, before) = statements::probe(table, expression);
            (statement, Some(before))
        }
    }
}

/// The key that an expression comes from.
fn key_of(policy: &WantedPolicy<'_>, clause: &'static str) -> &'static str {
    let is_written = match clause {
        "using" => policy.policy.using.is_some(),
        _ => policy.policy.with_check.is_some(),
    };
    match policy.policy.form {
        _ if is_written => clause,
        Some(Form::Team) => "function",
        Some(Form::Owner | Form::Tenant | Form::RoleInTenant | Form::PublicRows) => "column",
        Some(Form::OfficeHours) => "timezone",
        Some(Form::AllRows) | None => clause,
    }
}

/// What the server has against an expression; none if it is about something else.
fn said(refused: &sqlx::Error, before: Option<usize>) -> Option<String> {
    let said = refused.as_database_error()?;
    let sqlstate = said.code()?;
    // Syntax, names and types; a schema; text that is no value of its type; what a policy may not do.
    if !["42", "3F", "22", "0A"].iter().any(|class| sqlstate.starts_with(class)) {
        return None;
    }
    let said = said.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?;
    let mut text = said.message().to_owned();
    if let Some(PgErrorPosition::Original(place)) = said.position()
        && let Some(place) =
            before.and_then(|before| place.checked_sub(before)).filter(|it| *it > 0)
    {
        text.push_str(&format!(", at character {place}"));
    }
    if let Some(hint) = said.hint() {
        text.push_str(&format!("; {hint}"));
    }
    Some(text)
}

async fn say(tx: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    crate::target::connect::run(tx, statement).await
}
