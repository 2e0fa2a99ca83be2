//! The arguments of what sets a target up, and of what looks whether it is.

use std::path::PathBuf;

use crate::domain::name::Name;

/// `pgvalet bootstrap-target`.
#[derive(Debug, clap::Args)]
pub struct BootstrapTarget {
    /// Run it, instead of printing it.
    #[arg(long, requires = "sign_in_as")]
    pub apply: bool,
    /// Who runs it, and where: a superuser, or a managed service's administrator. Without a password:
    /// that is taken from `PGPASSWORD`, or asked for. Without --apply the server is only asked for its
    /// version.
    #[arg(long = "as", id = "sign_in_as", value_name = "URL")]
    pub sign_in_as: Option<String>,
    /// The server's major version, 13 to 18, when nobody signs in to it.
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "sign_in_as",
        required_unless_present = "sign_in_as",
        value_parser = clap::value_parser!(i32).range(13..=99)
    )]
    pub server_version: Option<i32>,
    /// The role to make for pgvalet.
    #[arg(long, value_name = "ROLE", default_value = "pgvalet_admin")]
    pub admin: String,
    /// A database that profiles name; may be given several times.
    #[arg(long = "database", value_name = "DATABASE", required = true)]
    pub databases: Vec<String>,
    /// A role that owns schemas or tables which profiles with a preset grant on; may be given several
    /// times.
    #[arg(long = "owner", value_name = "ROLE")]
    pub owners: Vec<String>,
    /// A role that is there already and that a profile names as its `group_role`; may be given several
    /// times.
    #[arg(long = "group", value_name = "ROLE")]
    pub groups: Vec<String>,
    /// Take this from everybody, and so from leased logins; may be given several times. What is not
    /// chosen is printed as a comment.
    #[arg(
        long = "harden",
        value_name = "WHAT",
        value_parser = ["schema", "temporary", "connect", "other-databases"]
    )]
    pub harden: Vec<String>,
    /// Make a password for the role and print it once: on standard output with --apply, else on
    /// standard error. Only its SCRAM verifier is sent.
    #[arg(long, conflicts_with = "password_file")]
    pub generate_password: bool,
    /// Give the role the password in this file. Only its SCRAM verifier is sent. Without this and
    /// --generate-password its password stays as it is.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `pgvalet doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// The target. All of them if left out.
    pub target: Option<Name>,
}
