//! Revoking, and waiting for the proofs.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::leases::{Lease, Revocation, RevokeSet},
    cli::{
        Globals, Io, arguments::Revoke, client::Client, failure::Failure, kept_lease, leases,
        libpq_files, output, output::watched, session,
    },
    domain::lease::State,
    ids::LeaseId,
};

/// How long the proofs are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the daemon is asked meanwhile.
const INTERVAL: Duration = Duration::from_millis(500);

/// `pgvalet revoke`: everything is set going first, and waited for after that, so that one that is
/// stuck delays no other.
///
/// # Errors
/// If the daemon is unavailable, or there is no such lease.
pub async fn revoke(given: Revoke, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let mut found: Vec<Lease> = Vec::new();
    // One id that is unknown must not keep the others alive: its failure is told at the end.
    let mut failed = None;
    if given.ids.is_empty() {
        let Revoke { person, tool, profile, target, .. } = given;
        let set = RevokeSet { person, tool, profile, target };
        found = watched(io, "revoking", client.revoke_set(&set)).await?.value.leases;
    } else {
        for id in given.ids {
            match watched(io, "revoking", client.revoke(id)).await {
                Ok(answer) => found.extend(answer.value.leases),
                Err(failure) => {
                    if let Some(earlier) = failed.replace(failure) {
                        earlier.print(io.err)?;
                    }
                }
            }
        }
    }
    if !given.no_wait && found.iter().any(is_unfinished) {
        let waiting = async {
            // Out of time is no failure of its own: the table shows what is not done.
            tokio::time::timeout(PATIENCE, wait_for_all(&client, &mut found))
                .await
                .unwrap_or(Ok(()))
        };
        watched(io, "waiting for the proofs", waiting).await?;
    }
    let ids: Vec<LeaseId> = found.iter().map(|lease| lease.id).collect();
    kept_lease::forget(&ids, io);
    libpq_files::remove(&ids, io);
    let unfinished = found.iter().filter(|lease| is_unfinished(lease)).count();
    report(found, globals, io)?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if given.no_wait || unfinished == 0 {
        return Ok(0);
    }
    writeln!(
        io.err,
        "{unfinished} still being revoked; the daemon goes on: `pgvalet leases --state revoking`"
    )?;
    Ok(1)
}

fn is_unfinished(lease: &Lease) -> bool {
    lease.state != State::Revoked
}

async fn wait_for_all(client: &Client, leases: &mut [Lease]) -> Result<(), Failure> {
    loop {
        for lease in leases.iter_mut().filter(|lease| is_unfinished(lease)) {
            match client.lease(lease.id).await {
                Ok(answer) => *lease = answer.value,
                Err(failure) if failure.is_passing() => {}
                Err(failure) => return Err(failure),
            }
        }
        if !leases.iter().any(is_unfinished) {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn report(leases: Vec<Lease>, globals: &Globals, io: &mut Io<'_>) -> Result<(), Failure> {
    if globals.json {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for lease in &leases {
            *counts.entry(lease.state.as_str().to_owned()).or_default() += 1;
        }
        return output::json(io, &Revocation { leases, counts });
    }
    if leases.is_empty() {
        writeln!(io.err, "no live lease to revoke")?;
        return Ok(());
    }
    let rows = leases.iter().map(|lease| {
        let what = match (&lease.proof, &lease.blocked_by) {
            (Some(proof), _) => output::proof(proof),
            (None, Some(blocked)) => format!("blocked: {blocked}"),
            (None, None) => String::new(),
        };
        vec![
            lease.id.to_string(),
            leases::state(lease),
            lease.profile.clone(),
            lease.principal.clone(),
            lease.role.clone().unwrap_or_default(),
            what,
        ]
    });
    let rows = rows.collect();
    Ok(output::table(io, &["id", "state", "profile", "who", "role", "proof"], rows)?)
}
