//! The arguments of login and logout.

use std::path::PathBuf;

/// `pgvalet login`.
#[derive(Debug, clap::Args)]
pub struct Login {
    /// What to call this daemon here. Its host and port if left out.
    #[arg(long = "as", value_name = "NAME", conflicts_with = "daemon")]
    pub name: Option<String>,
    /// `-`: read the token from standard input. A token itself is not taken here, because every
    /// user of the machine can read command lines.
    #[arg(long, value_name = "-", conflicts_with = "token_file")]
    pub token: Option<DashOnly>,
    /// Read the token from this file.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Open a browser here for signing in.
    #[arg(long, conflicts_with_all = ["token", "token_file"])]
    pub open: bool,
}

/// `pgvalet logout`.
#[derive(Debug, Default, clap::Args)]
pub struct Logout {
    /// End all your sessions.
    #[arg(long)]
    pub everywhere: bool,
}

/// The one value `-`.
#[derive(Debug, Clone, Copy)]
pub struct DashOnly;

impl std::str::FromStr for DashOnly {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        (text == "-").then_some(Self).ok_or(
            "a token is not taken on the command line, where every user of the machine can read it: \
             write `--token -` and send it on standard input, or use --token-file",
        )
    }
}
