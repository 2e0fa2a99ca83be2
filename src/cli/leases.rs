//! Leases without their credential: listed, shown, renewed.

use crate::{
    api::leases::{Lease, Renew as RenewBody, Renewed},
    cli::{
        Globals, Io,
        arguments::{Leases, Renew},
        failure::Failure,
        libpq_files,
        output::{self, ends_in, facts, instant, plain, watched},
        session,
    },
    domain::lease::State,
};

/// How many are listed where nothing else is said: more than a person reads.
const LISTED: usize = 100;

/// `pgvalet leases`.
///
/// # Errors
/// If the daemon is unavailable, or there is no such lease.
pub async fn leases(given: Leases, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    if let Some(id) = given.id {
        let lease = watched(io, "asking the daemon", client.lease(id)).await?.value;
        if globals.json {
            output::json(io, &lease)?;
        } else {
            show(&lease, io)?;
        }
        return Ok(0);
    }
    let state = match (given.all, &given.state) {
        (true, _) => None,
        (false, Some(state)) => Some(state.as_str()),
        (false, None) => Some("live"),
    };
    let filter = [
        ("state", state),
        ("profile", given.profile.as_deref()),
        ("person", given.person.as_deref()),
        ("tool", given.tool.as_deref()),
        ("target", given.target.as_deref()),
    ];
    let limit = given.limit.unwrap_or(LISTED);
    let items = watched(io, "asking the daemon", client.list("leases", &filter, limit)).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    let leases = output::read_items::<Lease>(items)?;
    list(&leases, io)?;
    if leases.len() == limit && given.limit.is_none() {
        writeln!(io.err, "the {limit} newest: there may be more (--limit)")?;
    }
    Ok(0)
}

/// `pgvalet renew`.
///
/// # Errors
/// If the daemon is unavailable, or the lease cannot last longer.
pub async fn renew(given: Renew, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let body = RenewBody { ttl: given.ttl };
    let renewed = watched(io, "renewing", client.renew(given.id, &body)).await?.value;
    told_renewed(&renewed, globals, io)
}

/// A lease lasts longer: the entries of it in libpq's files do too, and it is said until when, and why until then.
pub(in crate::cli) fn told_renewed(
    renewed: &Renewed,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let (id, ends) = (renewed.lease.id, renewed.lease.expires_at);
    libpq_files::extend(id, ends, io);
    if globals.json {
        output::json(io, renewed)?;
        return Ok(0);
    }
    let left = ends_in(ends, io.clock.now());
    let because = plain(&renewed.because);
    writeln!(io.out, "{id} ends at {} (in {left}): {because}", instant(ends))?;
    Ok(0)
}

fn list(leases: &[Lease], io: &mut Io<'_>) -> Result<(), Failure> {
    if leases.is_empty() {
        writeln!(io.err, "no leases")?;
        return Ok(());
    }
    let now = io.clock.now();
    let rows = leases.iter().map(|lease| {
        let ends = match lease.state {
            State::Provisioning | State::Active => ends_in(lease.expires_at, now),
            State::Revoking => "now".to_owned(),
            State::Revoked => "over".to_owned(),
        };
        vec![
            lease.id.to_string(),
            state(lease),
            lease.profile.clone(),
            lease.principal.clone(),
            lease.tool.clone(),
            lease.role.clone().unwrap_or_default(),
            ends,
        ]
    });
    let header = ["id", "state", "profile", "who", "tool", "role", "ends in"];
    Ok(output::table(io, &header, rows.collect())?)
}

/// The state, with the cause once there is one.
#[must_use]
pub fn state(lease: &Lease) -> String {
    match lease.cause {
        Some(cause) => format!("{} ({cause})", lease.state.as_str()),
        None => lease.state.as_str().to_owned(),
    }
}

fn show(lease: &Lease, io: &mut Io<'_>) -> Result<(), Failure> {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let left = match lease.state {
        State::Provisioning | State::Active => {
            format!(" (in {})", ends_in(lease.expires_at, io.clock.now()))
        }
        State::Revoking | State::Revoked => String::new(),
    };
    let mut lines = vec![
        ("id", lease.id.to_string()),
        ("state", state(lease)),
        ("profile", lease.profile.clone()),
        ("target", lease.target.clone()),
        ("database", lease.database.clone()),
        ("role", optional(&lease.role)),
        ("works as", lease.group_role.clone()),
        ("who", lease.principal.clone()),
        ("tool", lease.tool.clone()),
        ("reason", optional(&lease.reason)),
        ("ticket", optional(&lease.ticket)),
        ("asked for", instant(lease.created_at)),
        ("ends", format!("{}{left}", instant(lease.expires_at))),
        ("at the latest", instant(lease.max_expires_at)),
        ("gone", lease.ended_at.map(instant).unwrap_or_default()),
        ("blocked by", optional(&lease.blocked_by)),
    ];
    if let Some(proof) = &lease.proof {
        lines.push(("proof", output::proof(proof)));
        lines.extend(output::proof_details(proof));
    }
    Ok(facts(io, &lines)?)
}
