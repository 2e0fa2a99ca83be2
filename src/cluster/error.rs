//! What can go wrong with a private cluster, in words that say what to do.

use std::{io, path::PathBuf, process::ExitStatus};

/// What went wrong with a private cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be made or read.
    #[error("cannot use {path}")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Run {
        /// Which one.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The caller is root and there is no account to run the server as.
    #[error(
        "PostgreSQL does not run as root, and there is neither an account `postgres` nor `nobody` to run it as; \
         run pgvalet as an ordinary account"
    )]
    NoAccount,
    /// The account that runs the server cannot get to a path.
    #[error(
        "{path} cannot be reached by the account that PostgreSQL runs as (user id {user_id}): {closed} is closed to it; \
         choose another folder, or `chmod o+x {closed}`"
    )]
    OutOfReach {
        /// What it has to reach.
        path: PathBuf,
        /// The folder on the way that is closed.
        closed: PathBuf,
        /// The account.
        user_id: u32,
    },
    /// The folder was made by another major version.
    #[error(
        "{data_dir} was made by PostgreSQL {found}, but the programs here are version {programs}; \
         install version {found}, or move the folder away to start anew"
    )]
    OtherVersion {
        /// The data folder.
        data_dir: PathBuf,
        /// The version that made it.
        found: String,
        /// The version of the programs.
        programs: u32,
    },
    /// The folder holds something that is not a cluster.
    #[error("{0} is not empty and is not a PostgreSQL data folder; choose another folder")]
    NotACluster(PathBuf),
    /// Another process uses the folder.
    #[error("{0} is in use by another pgvalet; stop that one, or choose another folder")]
    InUse(PathBuf),
    /// A server from an earlier run does not go away.
    #[error("a PostgreSQL left over in {data_dir} (process {pid}) does not stop; stop it by hand")]
    Leftover {
        /// The data folder.
        data_dir: PathBuf,
        /// Its process.
        pid: i32,
    },
    /// No free port was found.
    #[error("cannot find a free port on 127.0.0.1")]
    NoPort(#[source] io::Error),
    /// `initdb` failed.
    #[error("initdb could not make {data_dir}:\n{output}")]
    Initdb {
        /// The data folder.
        data_dir: PathBuf,
        /// What it printed.
        output: String,
    },
    /// The server ended before it was ready.
    #[error(
        "PostgreSQL in {data_dir} stopped while starting ({status}); the end of its log:\n{log}"
    )]
    Died {
        /// The data folder.
        data_dir: PathBuf,
        /// The status it ended with.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server was not ready in time.
    #[error("PostgreSQL in {data_dir} was not ready after {} s; the end of its log:\n{log}", crate::cluster::READY_LIMIT.as_secs())]
    Slow {
        /// The data folder.
        data_dir: PathBuf,
        /// The last lines of its log.
        log: String,
    },
    /// The server did not stop.
    #[error("PostgreSQL in {0} does not stop")]
    StillRunning(PathBuf),
}
