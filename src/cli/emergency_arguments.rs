//! The arguments of `pgvalet emergency`.

use std::path::PathBuf;

use crate::{cli::access_arguments::Form, domain::name::Name, ids::LeaseId};

/// `pgvalet emergency`.
#[derive(Debug, clap::Args)]
pub struct Emergency {
    /// What to do.
    #[command(subcommand)]
    pub command: EmergencyCommand,
}

/// What can be done about emergencies.
#[derive(Debug, clap::Subcommand)]
pub enum EmergencyCommand {
    /// List emergencies, newest first: those that nobody has looked at
    #[command(
        after_help = "Examples:\n  pgvalet emergency list\n  pgvalet emergency list --state all"
    )]
    List(ListEmergencies),
    /// Show one: who, why, its logins, and what the audit says
    #[command(
        after_help = "Examples:\n  pgvalet emergency show lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5"
    )]
    Show {
        /// Its lease.
        lease: LeaseId,
    },
    /// Close the review of one: somebody does who did not open it
    #[command(after_help = "\
Examples:
  pgvalet emergency close lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --verdict justified \\
      --comment 'an index was rebuilt, as INC-42 says; the log has nothing else'

Neither who opened it, nor who made the code that it was opened with, nor anybody with a token that one of these
made, nor a program.")]
    Close(CloseReview),
    /// Open one with a sealed code, without a sign-in: while the identity provider is down
    #[command(after_help = "\
Examples:
  pgvalet emergency open shop-emergency --person ann --reason 'INC-42: orders cannot be placed'
  pgvalet emergency open shop-emergency --person ann --reason INC-42 --code-file - < code

The code is asked for on the terminal, or read from a file; never taken on the command line. It is used up once the
lease is there. Whoever can sign in needs none: `pgvalet connect shop-emergency --reason …`.")]
    Open(OpenWithCode),
    /// Sealed codes: make a set for somebody, withdraw it, or list who has how many left
    #[command(after_help = "\
Examples:
  pgvalet emergency codes                                   who has how many left
  pgvalet emergency codes --for person:ann > codes          ten, shown this once
  pgvalet emergency codes --for person:ann --count 5 --for-profile shop-emergency --ttl 30d
  pgvalet emergency codes --for person:ann --withdraw

A new set takes the place of the one before. Nobody makes codes for themselves. Print them, seal them, and keep
them where they are found when nothing else works.")]
    Codes(Codes),
}

/// `pgvalet emergency list`.
#[derive(Debug, clap::Args)]
pub struct ListEmergencies {
    /// Those whose review stands so.
    #[arg(long, value_parser = ["open", "closed", "failed", "all"], default_value = "open")]
    pub state: String,
    /// How many at most.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// `pgvalet emergency close`.
#[derive(Debug, clap::Args)]
pub struct CloseReview {
    /// Its lease.
    pub lease: LeaseId,
    /// What you found.
    #[arg(long, value_parser = ["justified", "unjustified"])]
    pub verdict: String,
    /// What was done, and why it was or was not right.
    #[arg(long)]
    pub comment: String,
}

/// `pgvalet emergency open`.
#[derive(Debug, clap::Args)]
pub struct OpenWithCode {
    /// The profile: one for emergencies.
    pub profile: String,
    /// For how long, such as `30m`. The profile's ttl if left out.
    #[arg(long)]
    pub ttl: Option<String>,
    /// The tool that will use it: a label, shown in the role's name.
    #[arg(long)]
    pub tool: Option<String>,
    /// Why. Somebody else reads it afterwards.
    #[arg(long)]
    pub reason: String,
    /// The ticket that it belongs to.
    #[arg(long)]
    pub ticket: Option<String>,
    /// Whose code it is.
    #[arg(long, value_name = "NAME")]
    pub person: String,
    /// Read the code from this file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub code_file: Option<PathBuf>,
    /// How the credential is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `pgvalet emergency codes`.
#[derive(Debug, clap::Args)]
pub struct Codes {
    /// Make a set for this person.
    #[arg(long = "for", value_name = "WHO")]
    pub person: Option<String>,
    /// How many (10 if left out).
    #[arg(long, requires = "person")]
    pub count: Option<i32>,
    /// Only for this profile; may be given several times. Any for emergencies if left out.
    #[arg(long = "for-profile", value_name = "PROFILE", requires = "person")]
    pub profiles: Vec<Name>,
    /// For how long, such as `30d` (90 days if left out).
    #[arg(long, requires = "person")]
    pub ttl: Option<String>,
    /// Withdraw the set that this person has, and make none.
    #[arg(long, requires = "person", conflicts_with_all = ["count", "profiles", "ttl"])]
    pub withdraw: bool,
}
