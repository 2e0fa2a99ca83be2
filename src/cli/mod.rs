//! The command line: a client of the API, nothing more.
//!
//! What a command prints goes through the writers of [`Io`], so that a test reads what a person
//! would; what it found out is its exit status (see [`failure::Failure::exit_status`]). The commands
//! that run the daemon are declared here, so that there is one `--help`, and are run by `main`.

pub mod access;
pub mod access_arguments;
pub mod address;
pub mod admin_arguments;
pub mod arguments;
pub mod audit;
mod call;
pub mod certificates;
pub mod check;
pub mod child;
pub mod ci;
pub mod ci_arguments;
pub mod client;
pub mod code;
pub mod daemon_arguments;
pub mod daemons;
pub mod destination;
pub mod device;
pub mod doctor;
pub mod drift;
pub mod emergency;
pub mod emergency_arguments;
pub mod environment;
pub mod explain;
pub mod explain_access;
pub mod failure;
pub mod format;
pub mod hba;
pub mod identities;
mod job_token;
pub mod kept_lease;
pub mod leases;
pub mod lend;
pub mod libpq_files;
pub mod lists;
pub mod local_arguments;
pub mod login_arguments;
pub mod notices;
pub mod offboard;
pub mod offboarding_report;
pub mod output;
pub mod password;
pub mod people;
pub mod profile_arguments;
pub mod records;
pub mod reference;
pub mod request_arguments;
pub mod requests;
pub mod review_arguments;
pub mod review_walk;
pub mod reviews;
pub mod revoke;
pub mod session;
pub mod standing;
pub mod sweep;
pub mod target_setup;
pub mod tokens;
pub mod top;
pub mod verify;

use std::{
    io::{BufRead, Write},
    path::PathBuf,
};

use crate::{
    cli::{
        arguments::{Command, RemoteCommand},
        environment::Environment,
        failure::Failure,
        local_arguments::LocalCommand,
    },
    clock::Clock,
};

/// Valet keys for PostgreSQL: short-lived, least-privilege, individually attributed logins.
#[derive(Debug, clap::Parser)]
#[command(
    name = "pgvalet",
    version,
    max_term_width = 100,
    after_help = arguments::ROOT_EXAMPLES
)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command that asks the daemon.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Print the API's JSON on standard output instead of text.
    #[arg(long, global = true, help_heading = "For every command")]
    pub json: bool,
    /// The daemon's address, such as `https://pgvalet.example.org`. Wins over `PGVALET_URL`, which
    /// wins over what `pgvalet login` kept.
    #[arg(long, global = true, help_heading = "For every command", value_name = "URL")]
    pub url: Option<String>,
    /// The daemon of this name, as `pgvalet daemons` shows it. Wins over `PGVALET_URL` and `PGVALET_DAEMON`.
    #[arg(
        long,
        global = true,
        help_heading = "For every command",
        value_name = "NAME",
        conflicts_with = "url"
    )]
    pub daemon: Option<String>,
    /// Talk plain http to an address that is not this machine: the token and every password then
    /// travel in clear text.
    #[arg(long, global = true, help_heading = "For every command")]
    pub insecure_http: bool,
    /// The certificate, in PEM, of the private authority that signed the daemon's: the only one that is
    /// trusted then. Wins over `PGVALET_CA_FILE`, which wins over what `pgvalet login` kept.
    #[arg(long, global = true, help_heading = "For every command", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// Which of the three streams are a person's terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminals {
    /// Standard input.
    pub input: bool,
    /// Standard output.
    pub out: bool,
    /// Standard error.
    pub err: bool,
}

/// What a command reads from and writes to.
#[expect(missing_debug_implementations, reason = "writers have no debug form")]
pub struct Io<'a> {
    /// What was asked for, and nothing else.
    pub out: &'a mut dyn Write,
    /// What a person should know besides.
    pub err: &'a mut dyn Write,
    /// A token, a file, or the answer to a question.
    pub input: &'a mut dyn BufRead,
    /// Which of them are a terminal.
    pub terminals: Terminals,
    /// For "ends in", and for renewing.
    pub clock: Clock,
    /// The environment variables.
    pub environment: Environment,
}

/// Runs a command of the client and tells its exit status: 0 done, 1 the thing asked for is not so,
/// 2 usage, 3 denied, 4 waits for approval, 5 the daemon is unavailable. `connect` and `run` pass on
/// the status of what they ran.
pub async fn run(command: RemoteCommand, globals: &Globals, mut io: Io<'_>) -> u8 {
    tidy(&mut io);
    let outcome = dispatch(command, globals, &mut io).await;
    finish(outcome, &mut io)
}

/// Runs a command that asks no daemon, in the same way.
pub fn run_locally(command: LocalCommand, globals: &Globals, mut io: Io<'_>) -> u8 {
    tidy(&mut io);
    let outcome = match command {
        LocalCommand::Daemons => daemons::list(globals, &mut io),
        LocalCommand::Use { name } => daemons::choose(&name, &mut io),
        LocalCommand::Completions { shell } => reference::completions(shell, &mut io),
        LocalCommand::Man { out } => reference::manual(out.as_deref(), &mut io),
    };
    finish(outcome, &mut io)
}

/// Takes away what earlier commands left for leases that are over since.
fn tidy(io: &mut Io<'_>) {
    kept_lease::tidy(io);
    libpq_files::tidy(io);
}

fn finish(outcome: Result<u8, Failure>, io: &mut Io<'_>) -> u8 {
    let status = outcome.unwrap_or_else(|failure| {
        // Standard error is the last place to tell of a fault: if it is closed, the status remains.
        let _ = failure.print(&mut *io.err);
        failure.exit_status()
    });
    match io.out.flush() {
        Ok(()) => status,
        Err(_) => status.max(1),
    }
}

/// One arm for each command. The futures are boxed: the largest of them would otherwise be the size
/// of each.
#[expect(clippy::cognitive_complexity, reason = "one arm for each command, and nothing else")]
async fn dispatch(
    command: RemoteCommand,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    match command {
        RemoteCommand::Login(given) => Box::pin(session::login(given, globals, io)).await,
        RemoteCommand::Logout(given) => Box::pin(session::logout(given, globals, io)).await,
        RemoteCommand::Whoami => Box::pin(session::whoami(globals, io)).await,
        RemoteCommand::Get(given) => Box::pin(access::get(given, globals, io)).await,
        RemoteCommand::Connect(given) => Box::pin(lend::connect(given, globals, io)).await,
        RemoteCommand::Run(given) => Box::pin(lend::run(given, globals, io)).await,
        RemoteCommand::Requests(given) => Box::pin(requests::requests(given, globals, io)).await,
        RemoteCommand::Approve(given) => Box::pin(requests::approve(given, globals, io)).await,
        RemoteCommand::Deny(given) => Box::pin(requests::deny(given, globals, io)).await,
        RemoteCommand::Withdraw { id } => Box::pin(requests::withdraw(id, globals, io)).await,
        RemoteCommand::Review(given) => Box::pin(reviews::review(given, globals, io)).await,
        RemoteCommand::Claim(given) => Box::pin(requests::claim(given, globals, io)).await,
        RemoteCommand::Leases(given) => Box::pin(leases::leases(given, globals, io)).await,
        RemoteCommand::Renew(given) => Box::pin(leases::renew(given, globals, io)).await,
        RemoteCommand::Rotate(given) => Box::pin(standing::rotate(given, globals, io)).await,
        RemoteCommand::Standing(given) => Box::pin(standing::standing(given, globals, io)).await,
        RemoteCommand::Revoke(given) => Box::pin(revoke::revoke(given, globals, io)).await,
        RemoteCommand::Ci(given) => Box::pin(ci::ci(given, globals, io)).await,
        RemoteCommand::Token(given) => Box::pin(tokens::token(given, globals, io)).await,
        RemoteCommand::Identity(given) => Box::pin(identities::identity(given, globals, io)).await,
        RemoteCommand::Person(given) => Box::pin(people::people(given, globals, io)).await,
        RemoteCommand::Offboard(given) => Box::pin(offboard::offboard(given, globals, io)).await,
        RemoteCommand::Emergency(given) => Box::pin(emergency::emergency(given, globals, io)).await,
        RemoteCommand::Target(given) => Box::pin(records::target(given, globals, io)).await,
        RemoteCommand::Profile(given) => Box::pin(records::profile(given, globals, io)).await,
        RemoteCommand::ExplainAccess(given) => {
            Box::pin(explain_access::explain_access(given, globals, io)).await
        }
        RemoteCommand::Explain(given) => Box::pin(explain::explain(given, globals, io)).await,
        RemoteCommand::Check(given) => Box::pin(check::check(given, globals, io)).await,
        RemoteCommand::Doctor(given) => Box::pin(doctor::doctor(given, globals, io)).await,
        RemoteCommand::Hba(given) => Box::pin(hba::hba(given, globals, io)).await,
        RemoteCommand::Plan(given) => Box::pin(code::plan(given, globals, io)).await,
        RemoteCommand::Apply(given) => Box::pin(code::apply(given, globals, io)).await,
        RemoteCommand::Drift(given) => Box::pin(drift::drift(given, globals, io)).await,
        RemoteCommand::Sweep(given) => Box::pin(sweep::sweep(given, globals, io)).await,
        RemoteCommand::Adopt(given) => Box::pin(code::adopt(given, globals, io)).await,
        RemoteCommand::Export => Box::pin(code::export(globals, io)).await,
        RemoteCommand::Top(given) => Box::pin(top::top(given, globals, io)).await,
        RemoteCommand::Notices(given) => Box::pin(notices::notices(given, globals, io)).await,
        RemoteCommand::Audit(given) => Box::pin(audit::audit(given, globals, io)).await,
    }
}

#[cfg(test)]
mod tests;
