//! The arguments of `pgvalet ci`.

use crate::{cli::login_arguments::DashOnly, domain::name::Name};

/// `pgvalet ci`.
#[derive(Debug, clap::Args)]
pub struct Ci {
    /// What to do.
    #[command(subcommand)]
    pub command: CiCommand,
}

/// What to do about CI jobs.
#[derive(Debug, clap::Subcommand)]
pub enum CiCommand {
    /// Say of a job's token what is wrong with it, and which rules it meets, matcher by matcher
    #[command(after_help = "\
Examples:
  pgvalet ci explain --token - < token

For administrators. The token is sent to the daemon, and not spent. The exit status is 1 if it is not taken.")]
    Explain(ExplainToken),
    /// Write a first rule from a token: the ids that names cannot stand for
    #[command(after_help = "\
Examples:
  pgvalet ci rule --from-token - --name storefront-main < token

Nothing is sent anywhere, and the signature is not checked: look at what it says before you apply it.")]
    Rule(FromToken),
    /// List issuers, and the rules for their jobs
    #[command(after_help = "Examples:\n  pgvalet ci rules\n  pgvalet ci rules --json")]
    Rules,
    /// Remove a rule, or an issuer that has none any more (`pgvalet apply` makes and changes them)
    #[command(after_help = "\
Examples:
  pgvalet ci remove storefront-main
  pgvalet ci remove --issuer github

Leases that its jobs have last until they end: `pgvalet revoke --person ci:NAME` ends them.")]
    Remove(RemoveRule),
}

/// `pgvalet ci explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainToken {
    /// `-`: read the token from standard input.
    #[arg(long, value_name = "-")]
    pub token: DashOnly,
}

/// `pgvalet ci rule`.
#[derive(Debug, clap::Args)]
pub struct FromToken {
    /// `-`: read the token from standard input.
    #[arg(long, value_name = "-")]
    pub from_token: DashOnly,
    /// What the rule is to be called: its jobs are `ci:NAME`.
    #[arg(long, default_value = "my-job")]
    pub name: Name,
}

/// `pgvalet ci remove`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct RemoveRule {
    /// The rule.
    #[arg(group = "what")]
    pub rule: Option<Name>,
    /// This issuer.
    #[arg(long, group = "what", value_name = "NAME")]
    pub issuer: Option<Name>,
}
