//! `pgvalet explain`: who may do what with a table or a column, and through what.

use crate::{
    cli::{
        Globals, Io,
        call::Call,
        failure::Failure,
        output::{self, plain, watched},
        profile_arguments::Explain,
        session,
    },
    domain::explanation::{Column, Explanation, Held, Other, RowSecurity, View},
};

/// `pgvalet explain`.
///
/// # Errors
/// If the daemon is unavailable, or knows no such profile or object.
pub async fn explain(given: Explain, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let path = ["v1", "profiles", given.profile.as_str(), "explain"];
    let mut call = Call::get(&path);
    call.query.push(("object", given.object.to_string()));
    let asked = client.read::<Explanation>(call);
    let explained = watched(io, "asking the target", asked).await?.value;
    if globals.json {
        output::json(io, &explained)?;
    } else {
        show(&explained, io)?;
    }
    Ok(0)
}

fn show(explained: &Explanation, io: &mut Io<'_>) -> Result<(), Failure> {
    let Explanation { profile, target, database, group_role, object, seen, .. } = explained;
    output::facts(
        io,
        &[
            (&seen.kind, object.clone()),
            ("owner", seen.owner.clone()),
            ("database", format!("{database} on {target}")),
            ("profile", format!("{profile}, whose sessions work as {group_role}")),
            ("row security", row_security(&seen.rows)),
        ],
    )?;
    for note in &explained.notes {
        writeln!(io.out, "note: {}", plain(note))?;
    }
    let held = seen.held.iter().map(|held| {
        let Held { privilege, way, holder, columns } = held;
        let on = columns.as_ref().map_or_else(|| "all of it".to_owned(), |names| names.join(", "));
        vec![privilege.clone(), on, way.as_str().to_owned(), holder.clone()]
    });
    let held = held.collect();
    section(io, "What the profile may do", &["PRIVILEGE", "ON", "THROUGH", "OF"], held)?;
    let columns = seen.columns.iter().map(column).collect();
    let header = ["COLUMN", "SELECT", "INSERT", "UPDATE", "REFERENCES"];
    section(io, "Columns", &header, columns)?;
    let policies = seen.rows.policies.iter().map(|policy| {
        let expression = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            policy.name.clone(),
            policy.effect.clone(),
            policy.command.clone(),
            expression(&policy.using),
            expression(&policy.with_check),
        ]
    });
    let policies = policies.collect();
    let header = ["POLICY", "EFFECT", "COMMAND", "USING", "WITH CHECK"];
    section(io, "Policies for it", &header, policies)?;
    let defaults = seen.defaults.iter();
    let defaults = defaults
        .map(|default| vec![default.owner.clone(), default.privileges.join(", ")])
        .collect();
    section(io, "What is made there later", &["MADE BY", "PRIVILEGES"], defaults)?;
    let others = seen.others.iter().map(other).collect();
    section(io, "Others", &["ROLE", "PROFILES", "PRIVILEGES"], others)?;
    let views = seen.views.iter().map(view).collect();
    section(io, "Views that read it", &["VIEW", "OWNER", "RIGHTS OF", "READABLE"], views)
}

fn section(
    io: &mut Io<'_>,
    title: &str,
    header: &[&str],
    rows: Vec<Vec<String>>,
) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(io.out, "\n{title}")?;
    Ok(output::table(io, header, rows)?)
}

fn row_security(rows: &RowSecurity) -> String {
    match (rows.enabled, rows.holds) {
        (false, _) => "off".to_owned(),
        (true, true) if rows.forced => "on, forced".to_owned(),
        (true, true) => "on, not forced".to_owned(),
        (true, false) => "on, but not for this profile".to_owned(),
    }
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "-" }.to_owned()
}

fn column(column: &Column) -> Vec<String> {
    let Column { name, select, insert, update, references } = column;
    vec![name.clone(), yes(*select), yes(*insert), yes(*update), yes(*references)]
}

fn other(other: &Other) -> Vec<String> {
    let Other { role, profiles, owns, privileges, on_columns } = other;
    let profiles: Vec<&str> = profiles.iter().map(|name| name.as_str()).collect();
    let all: Vec<&str> = privileges.iter().chain(on_columns).map(String::as_str).collect();
    let owner = if *owns { "owner: " } else { "" };
    vec![role.clone(), profiles.join(", "), format!("{owner}{}", all.join(", "))]
}

fn view(view: &View) -> Vec<String> {
    let View { name, owner, invoker, materialized, readable } = view;
    let rights = match (invoker, materialized) {
        (_, true) => "its last refresh",
        (true, _) => "the reader",
        (false, _) => "its owner",
    };
    vec![name.clone(), owner.clone(), rights.to_owned(), yes(*readable)]
}
