//! The arguments of the commands that look at what a profile gives.

use std::{net::IpAddr, path::PathBuf};

use chrono::{DateTime, Utc};

use crate::domain::{explanation::ObjectName, name::Name};

/// What `pgvalet explain-access --help` ends with.
pub(crate) const EXPLAIN_ACCESS_EXAMPLES: &str = "\
Examples:
  pgvalet explain-access me shop-read
  pgvalet explain-access person:alice shop-read --at 2026-12-24T20:00:00Z --from 10.1.2.3
  pgvalet explain-access ci:storefront shop-migrate --json

Nothing is issued. Of others, for those who may read everything. The exit status is 1 if they would not.";

/// `pgvalet explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The profile.
    pub profile: Name,
    /// A table, a view or a sequence of its database, or one column: `schema.table` or
    /// `schema.table.column`. Names that need them stand in double quotes.
    pub object: ObjectName,
}

/// `pgvalet explain-access`.
#[derive(Debug, clap::Args)]
pub struct ExplainAccess {
    /// Who: `person:alice`, `service:reports`, `ci:storefront`; or `me`.
    pub principal: String,
    /// The profile.
    pub profile: Name,
    /// When, such as `2026-12-24T20:00:00Z`. Now, if left out.
    #[arg(long, value_name = "TIME")]
    pub at: Option<DateTime<Utc>>,
    /// From which address. Of yourself, the one you are seen with.
    #[arg(long, value_name = "IP")]
    pub from: Option<IpAddr>,
}

/// `pgvalet check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The profile.
    pub profile: Name,
    /// Write what came of them to this file too, in the form of JUnit, which CI systems show.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}
