//! `pgvalet doctor`: what can and cannot be done on the targets, and the SQL that mends it.

use crate::{
    api::admin::Target,
    cli::{
        Globals, Io,
        failure::Failure,
        output::{self, plain, watched},
        session,
        target_setup::Doctor,
    },
    domain::diagnosis::{Diagnosis, Finding, Severity},
};

/// Targets are listed all at once; this bounds a daemon that never stops.
const MOST: usize = 10_000;

/// Something is as bad as was asked about.
const NOT_SO: u8 = 1;

/// `pgvalet doctor`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn doctor(given: Doctor, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let names = match given.target {
        Some(name) => vec![name],
        None => {
            let listed =
                watched(io, "asking the daemon", client.list("targets", &[], MOST)).await?;
            let targets = output::read_items::<Target>(listed)?;
            targets.into_iter().map(|target| target.spec.name).collect()
        }
    };
    let mut all = Vec::new();
    for name in &names {
        let what = format!("examining {name}");
        let part = ["targets", name.as_str(), "doctor"];
        all.push(watched(io, &what, client.part::<Diagnosis>(part)).await?.value);
    }
    if globals.json {
        output::json(io, &serde_json::json!({ "items": all }))?;
    } else {
        for diagnosis in &all {
            show(diagnosis, io)?;
        }
    }
    let bad = Severity::from_text(&given.fail_on).unwrap_or(Severity::Broken);
    let mut findings = all.iter().flat_map(|diagnosis| &diagnosis.findings);
    Ok(if findings.any(|finding| finding.severity >= bad) { NOT_SO } else { 0 })
}

fn show(diagnosis: &Diagnosis, io: &mut Io<'_>) -> Result<(), Failure> {
    let Diagnosis { target, way, findings, .. } = diagnosis;
    let way = way.map_or_else(String::new, |way| format!(", the way \"{}\"", way.as_str()));
    writeln!(io.out, "target {target}{way}")?;
    for Finding { severity, database, found, reason, mend, .. } in findings {
        let word = if *severity == Severity::Good { "ok" } else { severity.as_str() };
        let place = database.as_ref().map_or_else(String::new, |name| format!("{}: ", plain(name)));
        writeln!(io.out, "  {word:8}  {place}{}", plain(found))?;
        if let Some(reason) = reason {
            writeln!(io.out, "            because {}", plain(reason))?;
        }
        for line in mend.iter().flat_map(|mend| mend.lines()) {
            writeln!(io.out, "            {}", plain(line))?;
        }
    }
    let counted = |severity| findings.iter().filter(|found| found.severity == severity).count();
    writeln!(
        io.out,
        "  {} broken, {} critical, {} risks, {} notes",
        counted(Severity::Broken),
        counted(Severity::Critical),
        counted(Severity::Risk),
        counted(Severity::Note)
    )?;
    Ok(())
}
