//! Somebody leaves: said once, waited for, told how it stands.

use std::time::Duration;

use crate::{
    api::offboarding::Offboarding,
    cli::{
        Globals, Io,
        call::Call,
        client::Client,
        failure::Failure,
        offboarding_report::{markdown, text},
        output, people, session,
    },
};

/// How long what is left is waited for: the daemon goes on by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the daemon is asked meanwhile.
const INTERVAL: Duration = Duration::from_millis(500);

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For a terminal.
    #[default]
    Text,
    /// The API's own.
    Json,
    /// For a ticket.
    Markdown,
}

/// `pgvalet offboard`.
#[derive(Debug, clap::Args)]
pub struct Offboard {
    /// Who leaves: `person:ann`, `ann`, or an id.
    #[arg(value_name = "PERSON")]
    pub person: String,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
    /// Report at once, instead of after 30 seconds at most.
    #[arg(long)]
    pub no_wait: bool,
}

/// `pgvalet offboard`: 0 once nothing is left, 1 until then. To run it again changes nothing, and tells how it
/// stands.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn offboard(given: Offboard, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let person = people::named(&given.person);
    let path = ["v1", "principals", &person, "offboarding"];
    // A second time it is a question.
    let call = Call::post(&path, &serde_json::json!({}))?.repeatable();
    let beginning = client.read::<Offboarding>(call);
    let mut report = output::watched(io, "ending all that they have", beginning).await?.value;
    if !given.no_wait && !report.complete {
        report = wait(&client, &path, report, io).await?;
    }
    match given.format {
        ReportFormat::Json => output::json(io, &report)?,
        _ if globals.json => output::json(io, &report)?,
        ReportFormat::Text => text(&report, io)?,
        ReportFormat::Markdown => write!(io.out, "{}", markdown(&report))?,
    }
    if report.complete {
        return Ok(0);
    }
    let again = "the daemon goes on by itself; run this again to see how it stands";
    writeln!(io.err, "{} of {} logins are left: {again}", report.pending, total(&report))?;
    Ok(1)
}

const fn total(report: &Offboarding) -> usize {
    report.pending + report.proofs
}

/// Waits until nothing is left, or the patience is over; a terminal is told how far it is.
async fn wait(
    client: &Client,
    path: &[&str],
    mut report: Offboarding,
    io: &mut Io<'_>,
) -> Result<Offboarding, Failure> {
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let mut told = None;
    while !report.complete {
        if told != Some(report.proofs) {
            told = Some(report.proofs);
            writeln!(io.err, "{} of {} logins are gone", report.proofs, total(&report))?;
        }
        tokio::select! {
            () = &mut patience => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        match client.read::<Offboarding>(Call::get(path)).await {
            Ok(answer) => report = answer.value,
            Err(failure) if failure.is_passing() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(report)
}
