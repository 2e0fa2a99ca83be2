//! The arguments of the commands that look at what a profile gives.

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
