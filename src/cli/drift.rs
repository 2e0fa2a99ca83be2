//! `pgvalet drift`.

use crate::{
    api::drift::{AskForDrift, DriftReport},
    cli::{
        Globals, Io,
        admin_arguments::Drift,
        call::Call,
        failure::Failure,
        output::{self, watched},
        session,
    },
};

/// `pgvalet drift`: the exit status is 1 if a target differs and was not mended, or could not be looked
/// at.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn drift(given: Drift, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let ask = AskForDrift { profiles: given.profiles, mend: given.mend };
    let ask = Call::post(&["v1", "drift"], &ask)?.repeatable();
    let report: DriftReport = watched(io, "looking at the targets", client.read(ask)).await?.value;
    let differs = report.profiles.iter().any(|profile| {
        profile.fault.is_some() || (!profile.statements.is_empty() && !profile.mended)
    });
    if globals.json {
        output::json(io, &report)?;
    } else {
        show(&report, io)?;
    }
    Ok(u8::from(differs))
}

fn show(report: &DriftReport, io: &mut Io<'_>) -> Result<(), Failure> {
    for drift in &report.profiles {
        let (profile, target) = (output::plain(&drift.profile), output::plain(&drift.target));
        if let Some(fault) = &drift.fault {
            writeln!(
                io.err,
                "{profile}: could not be looked at or mended: {}",
                output::plain(fault)
            )?;
        }
        if drift.statements.is_empty() {
            continue;
        }
        let what = if drift.mended { "differed, and was mended" } else { "differs; what mends it" };
        writeln!(io.err, "{profile}: target {target} {what}:")?;
        for statement in &drift.statements {
            writeln!(io.out, "{};", output::plain(statement))?;
        }
        for note in &drift.notes {
            writeln!(io.err, "  note: {}", output::plain(note))?;
        }
    }
    let same = report.profiles.iter();
    let same = same.filter(|drift| drift.statements.is_empty() && drift.fault.is_none()).count();
    writeln!(
        io.err,
        "{same} of {} profiles are on their targets as they say",
        report.profiles.len()
    )?;
    Ok(())
}
