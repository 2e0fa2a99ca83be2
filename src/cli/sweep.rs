//! `pgvalet sweep`.

use crate::{
    api::sweep::{AcceptPlan, AskForSweep, Sweep as Swept},
    cli::{
        Globals, Io,
        admin_arguments::Sweep,
        call::Call,
        failure::Failure,
        output::{self, watched},
        session,
    },
};

/// `pgvalet sweep`: the exit status is 1 if a target could not be looked at, something could not be
/// done, or nothing was done because the daemon is cautious.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn sweep(given: Sweep, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let swept: Swept = match given.accept {
        Some(plan) => {
            let accept = Call::post(&["v1", "sweep", "accept"], &AcceptPlan { plan })?;
            watched(io, "sweeping", client.read(accept)).await?.value
        }
        None => {
            let ask = AskForSweep { targets: given.targets, plan: given.plan };
            let ask = Call::post(&["v1", "sweep"], &ask)?.repeatable();
            watched(io, "sweeping", client.read(ask)).await?.value
        }
    };
    let unseen = swept.targets.iter().any(|target| target.fault.is_some());
    let failed = swept.targets.iter().flat_map(|target| &target.findings).any(|told| told.failed);
    let withheld = swept.caution.is_some() && !given.plan;
    if globals.json {
        output::json(io, &swept)?;
    } else {
        show(&swept, io)?;
    }
    Ok(u8::from(unseen || failed || withheld))
}

fn show(swept: &Swept, io: &mut Io<'_>) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for target in &swept.targets {
        for told in &target.findings {
            let cells = [&target.target, told.kind.as_str(), &told.role, &told.what, &told.done];
            rows.push(cells.map(str::to_owned).to_vec());
        }
        if let Some(fault) = &target.fault {
            let (name, fault) = (output::plain(&target.target), output::plain(fault));
            writeln!(io.err, "target {name} could not be looked at: {fault}")?;
        }
    }
    if rows.is_empty() {
        let logins: usize = swept.targets.iter().map(|target| target.logins).sum();
        writeln!(io.err, "nothing to find: {logins} logins looked at")?;
    } else {
        output::table(io, &["target", "finding", "role", "what", "done"], rows)?;
    }
    if let Some(caution) = &swept.caution {
        let since = output::instant(caution.since);
        let because = output::plain(&caution.because);
        writeln!(io.err, "cautious since {since}, nothing is removed: {because}")?;
        if let Some(plan) = &swept.plan {
            let plan = output::plain(plan);
            writeln!(io.err, "if all of this is right: pgvalet sweep --accept {plan}")?;
        }
    }
    Ok(())
}
