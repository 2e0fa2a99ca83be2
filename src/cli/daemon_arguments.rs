//! The arguments of the commands that run on the daemon's machine.

use std::{ffi::OsString, path::PathBuf};

use crate::domain::name::Name;

/// `pgvalet dev`.
#[derive(Debug, clap::Args)]
pub struct Dev {
    /// Keep the data in this folder. Without it: a fresh one, removed at the end.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The folder with PostgreSQL's programs (initdb, postgres). Without it they are looked for.
    #[arg(long, value_name = "DIR")]
    pub postgres_dir: Option<PathBuf>,
    /// The address to listen on. Without it: a free port of 127.0.0.1.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// With an identity provider to sign in at, and people in it.
    #[arg(long)]
    pub with_idp: bool,
    /// With a Slack to ask and agree in, and the identity provider that it takes.
    #[arg(long)]
    pub with_slack: bool,
    /// A program to run in a demo lease; the playground stops with it, and with its exit status.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `pgvalet serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The settings (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the settings, say everything that is wrong with them, and stop.
    #[arg(long)]
    pub check: bool,
}

/// `pgvalet migrate`.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// The settings (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `pgvalet bootstrap`.
#[derive(Debug, clap::Args)]
pub struct Bootstrap {
    /// The settings (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The administrator's name.
    #[arg(long, default_value = "admin")]
    pub name: Name,
}
