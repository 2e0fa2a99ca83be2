//! The arguments of what sets a target up, and of what looks whether it is.

use std::path::PathBuf;

use crate::domain::{diagnosis::Severity, name::Name, target::Way};

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
    /// How pgvalet is to act there: with CREATEROLE of its own; through functions that belong to a
    /// superuser; or, where there is none to be had, through functions that belong to roles which share
    /// the logins (16 and later). The latter two do not slow down with many live logins, and the
    /// role can do no more than what the functions do.
    #[arg(long, value_name = "WAY", default_value = "direct", value_parser = Way::ALL)]
    pub way: String,
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
    /// Let a login have this setting besides the usual ones (functions and shards); may be given several
    /// times. Nothing that only a superuser may set: the functions could set it.
    #[arg(long = "allow-setting", value_name = "NAME")]
    pub settings: Vec<String>,
    /// How long a login may live at most, all renewals included (functions and shards).
    #[arg(long, value_name = "LENGTH", default_value = "100d")]
    pub longest_life: humantime::Duration,
    /// How many connections a login may have at most (functions and shards).
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub most_connections: u32,
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
    /// End with status 1 if something as bad as this is found: `note` (worth knowing), `risk` (somebody may
    /// do more than they should), `critical` (what profiles do not give is had all the same) or `broken`
    /// (leases cannot be made, or not ended).
    #[arg(long, value_name = "SEVERITY", default_value = "broken", value_parser = Severity::FAULTS)]
    pub fail_on: String,
}
