//! The arguments of `requests`, `approve`, `deny`, `withdraw`, `claim`.

use std::ffi::OsString;

use crate::{cli::access_arguments::Form, ids::AccessRequestId};

/// What `pgvalet requests --help` ends with.
pub(crate) const REQUESTS_EXAMPLES: &str = "\
Examples:
  pgvalet requests                             yours that are open, and those that you may agree to
  pgvalet requests --to-decide                 those that wait for you
  pgvalet requests --all --profile shop-write
  pgvalet request acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5";

/// What `pgvalet approve --help` ends with.
pub(crate) const APPROVE_EXAMPLES: &str = "\
Examples:
  pgvalet approve acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5
  pgvalet approve acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --ttl 30m --comment 'for INC-123'

Nobody agrees to their own request, nor with a token that was made for anything else: sign in with
`pgvalet login`, or use a token made with --scope approve.";

/// What `pgvalet claim --help` ends with.
pub(crate) const CLAIM_EXAMPLES: &str = "\
Examples:
  pgvalet claim acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5
  pgvalet claim acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 -- psql       and revoked when psql ends
  pgvalet claim acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --format dotenv --out .env.pgvalet

The lease lasts from now on for as long as was agreed to. It is fetched once.";

/// `pgvalet requests`.
#[derive(Debug, Default, clap::Args)]
pub struct Requests {
    /// Show this one.
    #[arg(conflicts_with_all = ["all", "state", "profile", "own", "to_decide", "limit"])]
    pub id: Option<AccessRequestId>,
    /// Those that are over too.
    #[arg(long, conflicts_with = "state")]
    pub all: bool,
    /// Those in this state.
    #[arg(long, value_parser = ["pending", "approved", "denied", "withdrawn", "lapsed", "claimed", "failed", "open"])]
    pub state: Option<String>,
    /// Those for this profile.
    #[arg(long)]
    pub profile: Option<String>,
    /// Your own.
    #[arg(long)]
    pub own: bool,
    /// Those that you may agree to now.
    #[arg(long, conflicts_with_all = ["own", "all", "state"])]
    pub to_decide: bool,
    /// How many at most, newest first (100 if left out).
    #[arg(long)]
    pub limit: Option<usize>,
}

/// `pgvalet approve`.
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// The request.
    pub id: AccessRequestId,
    /// For no longer than this, such as `30m`.
    #[arg(long)]
    pub ttl: Option<String>,
    /// Why.
    #[arg(long)]
    pub comment: Option<String>,
}

/// `pgvalet deny`.
#[derive(Debug, clap::Args)]
pub struct Deny {
    /// The request.
    pub id: AccessRequestId,
    /// Why: whoever asked reads it.
    #[arg(long)]
    pub comment: String,
}

/// `pgvalet claim`.
#[derive(Debug, clap::Args)]
pub struct Claim {
    /// The request.
    pub id: AccessRequestId,
    /// For how long, such as `15m`: no longer than was agreed to, which it is if left out.
    #[arg(long)]
    pub ttl: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub form: Form,
    /// A program to run in the lease, with its arguments, instead of printing the credential.
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["format", "out", "install"])]
    pub command: Vec<OsString>,
}
