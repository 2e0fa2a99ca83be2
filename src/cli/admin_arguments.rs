//! The arguments of the commands for administrators: tokens, targets, profiles, the audit, the live view.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use crate::{
    cli::top::Interval,
    domain::{administration::Scope, name::Name},
    ids::TokenId,
};

/// `pgvalet token`.
#[derive(Debug, clap::Args)]
pub struct Token {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What is done with tokens.
#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token; its secret alone goes to standard output, once
    #[command(after_help = "\
Examples:
  pgvalet token create laptop
  pgvalet token create ci --for service:ci --group deployers --ttl 30d > ci-token")]
    Create(CreateToken),
    /// List tokens
    #[command(after_help = "Examples:\n  pgvalet token list")]
    List,
    /// End a token
    #[command(
        after_help = "Examples:\n  pgvalet token revoke tok_0190c5d3e1a27c41b1f5d0c2a1b3c4d5"
    )]
    Revoke {
        /// The token.
        id: TokenId,
    },
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// If there is no `=`.
pub fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as tenant_id=7")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `pgvalet token create`.
#[derive(Debug, clap::Args)]
pub struct CreateToken {
    /// What it is for.
    pub name: String,
    /// Whose it is, such as `person:alice` or `service:ci`. Yours if left out.
    #[arg(long = "for", value_name = "PRINCIPAL")]
    pub principal: Option<String>,
    /// A group that they are in from now on; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// What is claimed of them from now on, such as `tenant_id=7`, for profiles whose context names it; may
    /// be given several times.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    pub claims: Vec<(String, String)>,
    /// The person that the service acts for from now on, such as `person:alice`: it is an AI tool of theirs, say,
    /// and they agree to none of its requests.
    #[arg(long, value_name = "PERSON")]
    pub acts_for: Option<String>,
    /// They may administer from now on.
    #[arg(long)]
    pub admin: bool,
    /// For how long, such as `90d` (which it is if left out).
    #[arg(long)]
    pub ttl: Option<String>,
    /// What it is to carry of their rights: `ask` for leases, `approve` other people's requests (which no token
    /// carries that does not say so), or a right to administer; may be given several times. As much as your own
    /// token, if left out.
    #[arg(long = "scope", value_name = "SCOPE", value_parser = PossibleValuesParser::new(Scope::ALL))]
    pub scopes: Vec<String>,
}

/// `pgvalet target`.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// What to do.
    #[command(subcommand)]
    pub command: TargetCommand,
}

/// What is done with targets.
#[derive(Debug, clap::Subcommand)]
pub enum TargetCommand {
    /// What is done with profiles too.
    #[command(flatten)]
    Record(RecordCommand),
    /// Renew the password of the role that pgvalet signs in as; nobody is told it
    #[command(after_help = "Examples:\n  pgvalet target rotate-admin shop")]
    RotateAdmin {
        /// The target.
        name: Name,
    },
}

/// `pgvalet rotate`.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// The lease.
    #[arg(required_unless_present = "due", conflicts_with = "due")]
    pub id: Option<crate::ids::LeaseId>,
    /// Every standing role and every target's admin password whose rotation is due, now.
    #[arg(long, conflicts_with_all = ["format", "out"])]
    pub due: bool,
    /// How the fresh credential is printed.
    #[command(flatten)]
    pub form: crate::cli::access_arguments::Form,
}

/// `pgvalet standing`.
#[derive(Debug, clap::Args)]
pub struct Standing {
    /// What to do.
    #[command(subcommand)]
    pub command: StandingCommand,
}

/// What is done with standing roles.
#[derive(Debug, clap::Subcommand)]
pub enum StandingCommand {
    /// List them, with their last and next rotation
    #[command(after_help = "Examples:\n  pgvalet standing list")]
    List,
    /// Show one
    #[command(after_help = "Examples:\n  pgvalet standing show orders-api")]
    Show {
        /// Its name.
        name: Name,
    },
    /// Print the credential that one hands out now, alone, on standard output
    #[command(after_help = "\
Examples:
  pgvalet standing get orders-api --format dotenv --out /run/orders-api/db.env
  psql \"$(pgvalet standing get orders-api)\"

Take user and password together: both are fresh after a rotation. Each reading is audited.")]
    Get {
        /// The standing role.
        name: Name,
        /// How it is printed.
        #[command(flatten)]
        form: crate::cli::access_arguments::Form,
    },
    /// Give one a fresh login; the one before stops after its grace
    #[command(after_help = "\
Examples:
  pgvalet standing rotate orders-api
  pgvalet standing rotate orders-api --now      its password is known to somebody: no grace
  pgvalet standing rotate --due                 those that are due
  pgvalet standing rotate --all

The exit status is 1 if one of them could not be rotated; the daemon tries it again.")]
    Rotate(RotateStanding),
    /// Remove one; its logins are ended
    #[command(after_help = "Examples:\n  pgvalet standing remove orders-api")]
    Remove {
        /// Its name.
        name: Name,
    },
}

/// `pgvalet standing rotate`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct RotateStanding {
    /// This one.
    #[arg(group = "which")]
    pub name: Option<Name>,
    /// Those whose rotation is due.
    #[arg(long, group = "which")]
    pub due: bool,
    /// All of them.
    #[arg(long, group = "which")]
    pub all: bool,
    /// Stop the login of before at once. Consumers are cut off until they have read the fresh one.
    #[arg(long)]
    pub now: bool,
}

/// `pgvalet profile`.
#[derive(Debug, clap::Args)]
pub struct Profile {
    /// What to do.
    #[command(subcommand)]
    pub command: RecordCommand,
}

/// What is done with targets and profiles.
#[derive(Debug, clap::Subcommand)]
pub enum RecordCommand {
    /// List them
    #[command(after_help = "Examples:\n  pgvalet target list\n  pgvalet profile list --json")]
    List,
    /// Show one
    #[command(
        after_help = "Examples:\n  pgvalet target show shop\n  pgvalet profile show shop-read"
    )]
    Show {
        /// Its name.
        name: Name,
    },
    /// Remove one
    #[command(
        after_help = "Examples:\n  pgvalet target remove shop\n  pgvalet profile remove shop-read"
    )]
    Remove {
        /// Its name.
        name: Name,
    },
}

/// `pgvalet plan`.
#[derive(Debug, clap::Args)]
pub struct PlanFile {
    /// The file (TOML); `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

/// `pgvalet apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyFile {
    /// The file (TOML); `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask. Needed where there is no terminal to ask on.
    #[arg(long)]
    pub yes: bool,
}

/// Behind the help of `pgvalet sweep`.
pub const SWEEP_EXAMPLES: &str = "\
Examples:
  pgvalet sweep --plan                         shows what would be done, and does nothing
  pgvalet sweep --accept 3b6a27bc0de41f55      yes to what the plan showed, after a restore

After a restore of its database, or a jump of its clock, the daemon removes nothing until --accept.";

/// `pgvalet sweep`.
#[derive(Debug, clap::Args)]
pub struct Sweep {
    /// The targets; all of them if none is named.
    #[arg(value_name = "TARGET")]
    pub targets: Vec<Name>,
    /// Show what would be done, and change nothing.
    #[arg(long)]
    pub plan: bool,
    /// Say yes to what `--plan` showed, and end the caution.
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["plan", "targets"])]
    pub accept: Option<String>,
}

/// `pgvalet adopt`.
#[derive(Debug, clap::Args)]
pub struct AdoptFrom {
    /// The target.
    pub target: Name,
    /// One of its databases.
    pub database: String,
    /// A role whose grants to write down; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
}

/// What `pgvalet drift --help` ends with.
pub(crate) const DRIFT_EXAMPLES: &str = "\
Examples:
  pgvalet drift                                all profiles; prints the SQL that would mend what differs
  pgvalet drift shop-read --mend               and runs it

Also looked for by schedule (`drift.schedule`), and mended by itself where a profile says `drift = \"mend\"`.
Exit status: 0 all is as the profiles say, 1 something differs or could not be looked at";

/// `pgvalet drift`.
#[derive(Debug, clap::Args)]
pub struct Drift {
    /// The profiles; all of them if none is named.
    #[arg(value_name = "PROFILE")]
    pub profiles: Vec<Name>,
    /// Make the targets what the profiles say.
    #[arg(long)]
    pub mend: bool,
}

/// `pgvalet audit`.
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What is done with the audit.
#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Show the latest entries, the newest last
    #[command(after_help = "\
Examples:
  pgvalet audit tail -n 50
  pgvalet audit tail --follow --kind lease.activated")]
    Tail(Tail),
    /// Write the whole audit as JSON lines
    #[command(after_help = "\
Examples:
  pgvalet audit export -o audit.jsonl
  pgvalet audit export | zstd > audit.jsonl.zst")]
    Export {
        /// Write to this new file, readable by you alone, instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check that no entry was altered, removed or moved
    #[command(after_help = "\
Examples:
  pgvalet audit verify                         the daemon checks its own
  pgvalet audit verify audit.jsonl --public-key 3b6a27bc…   checked here, without the daemon

The key in an export proves only that the export agrees with itself: keep a copy of the key (`pgvalet
audit verify` prints it) where whoever could alter the audit cannot reach it.")]
    Verify(Verify),
}

/// `pgvalet audit tail`.
#[derive(Debug, clap::Args)]
pub struct Tail {
    /// How many entries.
    #[arg(short = 'n', long = "lines", default_value_t = 20, value_name = "N")]
    pub lines: usize,
    /// Go on with those to come, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Entries of this kind, such as `lease.activated`.
    #[arg(long)]
    pub kind: Option<String>,
}

/// `pgvalet audit verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// An export (`-` for standard input), checked here. Without it the daemon checks its own.
    pub file: Option<PathBuf>,
    /// The key that the checkpoints must be signed with (Ed25519, hexadecimal).
    #[arg(long, value_name = "HEX", requires = "file")]
    pub public_key: Option<String>,
}

/// `pgvalet top`.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// How long between two looks, such as `500ms`.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub interval: Interval,
    /// How many of the last events to show, as far as they fit; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub events: usize,
    /// Print one look and end.
    #[arg(long)]
    pub once: bool,
}
