//! Finding PostgreSQL's programs on this machine.
//!
//! Distributions keep the server programs off `PATH`, each in a place of its own. The search is a
//! plain function over a list of places, so that a test can bring its own.

use std::{
    cmp::Reverse,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The oldest major version that pgvalet works with.
pub const OLDEST: u32 = 13;
/// The newest major version that pgvalet was tried with. A newer one is taken with a warning.
pub const NEWEST: u32 = 18;

/// Where the server programs are kept, with one `*` where the version stands. Later places are for
/// systems on which the earlier ones do not exist.
const USUAL_PLACES: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/bin",
];

/// What went wrong while looking for the programs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are none.
    #[error("no PostgreSQL server programs (postgres, initdb, pg_ctl) in {}", places(.0))]
    NotFound(Vec<PathBuf>),
    /// The program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Which one.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program ran, but did not say its version.
    #[error("{program} does not work: {said}")]
    Broken {
        /// Which one.
        program: PathBuf,
        /// What it printed.
        said: String,
    },
    /// The version is older than what pgvalet supports.
    #[error("{program} is version {major}; pgvalet needs PostgreSQL {OLDEST} or newer")]
    TooOld {
        /// Which one.
        program: PathBuf,
        /// Its version.
        major: u32,
    },
}

/// The server programs of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The server.
    pub postgres: PathBuf,
    /// Makes a data folder.
    pub initdb: PathBuf,
    /// Controls a server.
    pub pg_ctl: PathBuf,
    /// The client, if this installation has one.
    pub psql: Option<PathBuf>,
    /// The major version.
    pub major: u32,
}

impl Programs {
    /// The programs in this folder.
    pub fn in_folder(folder: &Path) -> Result<Self, Error> {
        let not_found = || Error::NotFound(vec![folder.to_owned()]);
        // Links are followed first: PostgreSQL looks for its other files beside the real program.
        let postgres =
            runnable(&folder.join("postgres")).and_then(|found| found.canonicalize().ok());
        let postgres = postgres.ok_or_else(not_found)?;
        let home = postgres.parent().unwrap_or(folder);
        let beside = |name: &str| runnable(&home.join(name));
        let major = major_version(&postgres)?;
        Ok(Self {
            initdb: beside("initdb").ok_or_else(not_found)?,
            pg_ctl: beside("pg_ctl").ok_or_else(not_found)?,
            psql: beside("psql"),
            major,
            postgres,
        })
    }

    /// Whether the version is newer than any that pgvalet was tried with, which deserves a warning.
    pub const fn is_untried(&self) -> bool {
        self.major > NEWEST
    }
}

/// Finds the server programs: in `wanted` and nowhere else if it is given, else on `PATH`, else in
/// the usual places of the system.
pub fn find(wanted: Option<&Path>) -> Result<Programs, Error> {
    match wanted {
        Some(folder) => Programs::in_folder(folder),
        None => find_in(&folders(Path::new("/"))),
    }
}

/// Finds the first folder of the list whose programs work. If none does, the first that should have
/// worked says why.
pub fn find_in(folders: &[PathBuf]) -> Result<Programs, Error> {
    let mut fault = None;
    for folder in folders {
        match Programs::in_folder(folder) {
            Ok(programs) => return Ok(programs),
            Err(Error::NotFound(_)) => {}
            Err(broken) => fault = fault.or(Some(broken)),
        }
    }
    Err(fault.unwrap_or_else(|| Error::NotFound(folders.to_vec())))
}

/// The program as it would be started by its name alone.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    path_folders().iter().find_map(|folder| runnable(&folder.join(name)))
}

/// The folders to look in: `PATH`, then the usual places below `root`, highest version first.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = path_folders();
    folders.extend(USUAL_PLACES.iter().flat_map(|place| expand(root, place)));
    folders
}

#[expect(
    clippy::disallowed_methods,
    reason = "PATH is how the system says where programs are; it configures nothing of pgvalet's"
)]
fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect()
}

/// Replaces the one `*` in a place by every name that fits, highest version first.
fn expand(root: &Path, place: &str) -> Vec<PathBuf> {
    let relative = Path::new(place).strip_prefix("/").unwrap_or(Path::new(place));
    let mut before = root.to_owned();
    let mut parts = relative.iter();
    for part in parts.by_ref() {
        let part = part.to_string_lossy();
        let Some((prefix, suffix)) = part.split_once('*') else {
            before.push(part.as_ref());
            continue;
        };
        let after: PathBuf = parts.collect();
        let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(&before)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                let version = name.to_str()?.strip_prefix(prefix)?.strip_suffix(suffix)?;
                let numbers: Result<_, _> = version.split('.').map(str::parse).collect();
                // Postgres.app has a link `latest` beside the versions, which is one of them again.
                Some((numbers.ok()?, before.join(&name).join(&after)))
            })
            .collect();
        found.sort_by_key(|(version, _)| Reverse(version.clone()));
        return found.into_iter().map(|(_, folder)| folder).collect();
    }
    vec![before]
}

fn runnable(path: &Path) -> Option<PathBuf> {
    let seen = fs::metadata(path).ok()?;
    (seen.is_file() && seen.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}

fn major_version(postgres: &Path) -> Result<u32, Error> {
    let program = || postgres.to_owned();
    let output = Command::new(postgres)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Run { program: program(), source })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let major = said.strip_prefix("postgres (PostgreSQL) ").and_then(|version| {
        let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u32>().ok()
    });
    match major {
        Some(major) if major < OLDEST => Err(Error::TooOld { program: program(), major }),
        Some(major) => Ok(major),
        None => {
            let said = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
            Err(Error::Broken { program: program(), said: said.trim().to_owned() })
        }
    }
}

fn places(folders: &[PathBuf]) -> String {
    let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by a child, because this process must never hold such a file open for writing: a
    /// process that another test starts in that moment inherits it, and until that one has become
    /// its program, running the file fails with "Text file busy". It did, once in seventy runs.
    fn install(folder: &Path, says: &str) {
        const WRITE: &str = r#"mkdir -p "$1" && cd "$1" && for name in postgres initdb pg_ctl; do
            printf '#!/bin/sh\necho "%s"\n' "$2" > "$name" && chmod 755 "$name" || exit 1
        done"#;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", WRITE, "install"]).arg(folder).arg(says);
        assert!(shell.status().unwrap().success());
    }

    #[test]
    fn takes_the_highest_version_and_compares_numbers() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("usr/lib/postgresql");
        for version in ["9.6", "13", "17", "common"] {
            install(&place.join(version).join("bin"), "");
        }
        let found = expand(root.path(), "/usr/lib/postgresql/*/bin");
        let expected: Vec<_> =
            ["17", "13", "9.6"].iter().map(|version| place.join(version).join("bin")).collect();
        assert_eq!(found, expected);
        assert_eq!(expand(root.path(), "/usr/bin"), [root.path().join("usr/bin")]);
    }

    #[test]
    fn reads_the_version_and_follows_links() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap().join("real");
        install(&real, "postgres (PostgreSQL) 16.14 (Debian 16.14-1)");
        let linked = root.path().join("linked");
        fs::create_dir(&linked).unwrap();
        std::os::unix::fs::symlink(real.join("postgres"), linked.join("postgres")).unwrap();
        let found = find_in(&[root.path().join("nothing"), linked]).unwrap();
        assert_eq!((found.major, &found.initdb), (16, &real.join("initdb")));
        assert_eq!(found.psql, None);
        assert!(!found.is_untried());
    }

    #[test]
    fn what_is_too_old_or_broken_says_so() {
        let root = tempfile::tempdir().unwrap();
        let (old, beta, broken) =
            (root.path().join("old"), root.path().join("beta"), root.path().join("broken"));
        install(&old, "postgres (PostgreSQL) 12.22");
        install(&beta, "postgres (PostgreSQL) 19beta1");
        install(&broken, "no library");
        assert!(matches!(Programs::in_folder(&old), Err(Error::TooOld { major: 12, .. })));
        assert!(matches!(Programs::in_folder(&broken), Err(Error::Broken { .. })));
        assert!(Programs::in_folder(&beta).unwrap().is_untried());
        assert!(matches!(find_in(std::slice::from_ref(&broken)), Err(Error::Broken { .. })));
        assert_eq!(find_in(&[old, beta]).unwrap().major, 19);
    }
}
