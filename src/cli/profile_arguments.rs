//! The arguments of the commands that look at what a profile gives.

use std::path::PathBuf;

use crate::domain::{explanation::ObjectName, name::Name};

/// `pgvalet explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The profile.
    pub profile: Name,
    /// A table, a view or a sequence of its database, or one column: `schema.table` or
    /// `schema.table.column`. Names that need them stand in double quotes.
    pub object: ObjectName,
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
