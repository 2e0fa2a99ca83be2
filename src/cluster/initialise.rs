//! Making the data folder with `initdb`.
//!
//! A kept folder is made under another name and renamed when it is whole, so that a crash half way
//! is not taken for a cluster at the next start.

use std::{
    fs,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    cluster::{Lifetime, Options, account::Account, at, error::Error},
    secret::Secret,
};

/// The password goes through a pipe that `initdb` reads as a file: never an argument, never on the
/// disk. The inner pipe is there because the outer one belongs to root if we are root, and may then
/// not be opened by name.
const SCRIPT: &str = r#"umask 077; cat | exec "$@" --pwfile=/dev/stdin"#;

/// Makes the cluster if the folder holds none; checks the version if it does.
pub(crate) fn ensure(options: &Options, account: Account) -> Result<(), Error> {
    let data_dir = &options.data_dir;
    match fs::read_to_string(data_dir.join("PG_VERSION")) {
        Ok(found) if found.trim() == options.programs.major.to_string() => return Ok(()),
        Ok(found) => {
            return Err(Error::OtherVersion {
                data_dir: data_dir.clone(),
                found: found.trim().to_owned(),
                programs: options.programs.major,
            });
        }
        Err(_) => {}
    }
    if fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::NotACluster(data_dir.clone()));
    }
    let folder = match options.lifetime {
        Lifetime::ThrowAway => data_dir.clone(),
        Lifetime::Kept => unfinished(data_dir),
    };
    if options.lifetime == Lifetime::Kept && folder.exists() {
        fs::remove_dir_all(&folder).map_err(at(&folder))?;
    }
    if !folder.exists() {
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(at(&folder))?;
    }
    account.give(&folder)?;
    let made = initdb(options, &folder, account);
    if made.is_err() {
        let _ = fs::remove_dir_all(&folder);
    } else if folder != *data_dir {
        fs::rename(&folder, data_dir).map_err(at(data_dir))?;
    }
    made
}

fn unfinished(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

fn initdb(options: &Options, folder: &Path, account: Account) -> Result<(), Error> {
    let program = &options.programs.initdb;
    let running = |source| Error::Run { program: program.clone(), source };
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SCRIPT, "pgvalet-initdb"])
        .arg(program)
        .args(["--auth-host=scram-sha-256", "--auth-local=scram-sha-256"])
        // Every system has this locale, and it sorts the same everywhere.
        .args(["--encoding=UTF8", "--locale=C"])
        .arg(format!("--username={}", options.superuser))
        .arg("-D")
        .arg(folder);
    if options.lifetime == Lifetime::ThrowAway {
        command.arg("--no-sync");
    }
    account.dress(&mut command);
    command
        .current_dir("/")
        .env_remove("PGDATA")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(running)?;
    if let Some(mut pipe) = child.stdin.take() {
        let line = Secret::new(format!("{}\n", options.password.expose()));
        // If it ended without reading, its own words say why.
        let _ = pipe.write_all(line.expose().as_bytes());
    }
    let output = child.wait_with_output().map_err(running)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Initdb {
        data_dir: options.data_dir.clone(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
