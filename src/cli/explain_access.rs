//! `pgvalet explain-access`: would they get a lease, and why.

use crate::{
    api::access::Access,
    cli::{
        Globals, Io,
        call::Call,
        failure::Failure,
        output::{self, instant, plain, watched},
        profile_arguments::ExplainAccess,
        session,
    },
    domain::policy::Finding,
};

/// `pgvalet explain-access`. The exit status is 1 if they would not.
///
/// # Errors
/// If the daemon is unavailable, or knows no such profile or principal.
pub async fn explain_access(
    given: ExplainAccess,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let path = ["v1", "profiles", given.profile.as_str(), "access"];
    let mut call = Call::get(&path);
    if given.principal != "me" {
        call.query.push(("principal", given.principal));
    }
    call.query.extend(given.at.map(|at| ("at", at.to_rfc3339())));
    call.query.extend(given.from.map(|from| ("from", from.to_string())));
    let access = watched(io, "asking the daemon", client.read::<Access>(call)).await?.value;
    let status = u8::from(!access.allowed);
    if globals.json {
        output::json(io, &access)?;
        return Ok(status);
    }
    let answer = if access.allowed { "would get a lease" } else { "would not get a lease" };
    let facts = [
        ("principal", access.principal),
        ("groups", access.groups.join(", ")),
        ("profile", access.profile.to_string()),
        ("at", instant(access.at)),
        ("from", access.from.unwrap_or_else(|| "nowhere known (--from says it)".to_owned())),
        ("answer", answer.to_owned()),
    ];
    output::facts(io, &facts)?;
    writeln!(io.out)?;
    let row = |Finding { condition, holds, why }: &Finding| {
        vec![
            condition.as_str().to_owned(),
            if *holds { "yes" } else { "NO" }.to_owned(),
            plain(why),
        ]
    };
    let rows = access.findings.iter().map(row).collect();
    output::table(io, &["LOOKED AT", "HOLDS", "WHAT WAS SEEN"], rows)?;
    Ok(status)
}
