//! A private PostgreSQL: finding the server programs, making a cluster, starting and stopping it.
//!
//! Used by `pgvalet dev`, by `pgvalet serve` when no state database is configured, and by the tests.
//! It runs the real server programs instead of an embedded library, so that what is learned on the
//! playground holds in production. Everything here blocks: async callers go through a blocking
//! thread. Nothing here speaks SQL.

mod account;
pub mod error;
mod initialise;
pub mod obtain;
mod postmaster;
pub mod programs;
mod supervisor;

use std::{
    fs::{self, File, TryLockError},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{
    cluster::{
        account::Account,
        error::Error,
        postmaster::{FAST_LIMIT, Postmaster, wait_until},
        programs::Programs,
        supervisor::Plan,
    },
    secret::Secret,
};

/// The longest path of a Unix socket that every system takes: 104 bytes with the final zero on
/// macOS, 108 on Linux.
const LONGEST_SOCKET_PATH: usize = 103;
/// The port of a cluster that listens on its socket alone: part of the socket's name, nothing else.
const SOCKET_PORT: u16 = 5432;
/// Crash recovery of a kept cluster may take a while; a fresh one is there in a fraction of a second.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// After the immediate shutdown of a server that ignored the fast one.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// A kept cluster's log starts anew above this size, because nobody rotates it.
const LONGEST_LOG: u64 = 10 * 1024 * 1024;
/// How many lines of the log an error shows.
const LOG_LINES_SHOWN: usize = 12;
/// A free port may be taken by someone else between finding and using it.
const PORT_TRIES: usize = 3;

/// Whether the cluster outlives this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The folder stays. Durable settings; a lock file beside the folder keeps a second daemon out.
    Kept,
    /// The folder goes with the server, even if this process is killed. Nothing is flushed to disk.
    /// If the caller is root, the folder itself can only go after a kill when it stands in one that
    /// anyone may write to, such as `/tmp`; otherwise it is left empty.
    ThrowAway,
}

/// Where the server listens. It always has its Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On 127.0.0.1 too; port 0 means a free one.
    Loopback(u16),
    /// On the Unix socket alone.
    SocketOnly,
}

/// What kind of cluster is wanted.
#[derive(Debug)]
pub struct Options {
    /// The server programs.
    pub programs: Programs,
    /// PostgreSQL's data folder. Made if it is not there.
    pub data_dir: PathBuf,
    /// The folder of the Unix socket; without one, the data folder, or one under `/tmp` if that
    /// path is too long for a socket.
    pub socket_dir: Option<PathBuf>,
    /// Whether the folder stays.
    pub lifetime: Lifetime,
    /// Where to listen.
    pub listen: Listen,
    /// Settings of the server, which win over the ones chosen here. Not for secrets: they are
    /// arguments of the server process.
    pub settings: Vec<(String, String)>,
    /// The name of the superuser.
    pub superuser: String,
    /// The superuser's password. It is set when the cluster is made; a kept cluster keeps its first.
    pub password: Secret<String>,
}

/// A running PostgreSQL. Dropping it stops the server without waiting for the result.
#[derive(Debug)]
pub struct Cluster {
    data_dir: PathBuf,
    socket_dir: PathBuf,
    made_socket_dir: bool,
    lifetime: Lifetime,
    listen: Listen,
    port: u16,
    superuser: String,
    major: u32,
    pid: Pid,
    child: Child,
    _lock: Option<File>,
}

impl Cluster {
    /// Makes the cluster if it is not there yet, starts it, and waits until it accepts connections.
    pub fn start(options: Options) -> Result<Self, Error> {
        let options = Options { data_dir: absolute(&options.data_dir)?, ..options };
        let parent = options.data_dir.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(parent).map_err(at(parent))?;
        let lock = match options.lifetime {
            Lifetime::Kept => Some(lock(&options.data_dir)?),
            Lifetime::ThrowAway => None,
        };
        let account = Account::choose(&options.data_dir)?;
        account.check_can_reach(&options.data_dir)?;
        account.check_can_reach(&options.programs.postgres)?;
        postmaster::stop_leftover(&options.data_dir)?;

        let socket = socket_folder(&options, account)?;
        let mut tries = PORT_TRIES;
        loop {
            tries -= 1;
            // Each time, because the shell of a failed start removes a throw-away folder.
            let made = initialise::ensure(&options, account);
            match made.and_then(|()| run(&options, &socket, account)) {
                Err(Error::Died { log, .. })
                    if tries > 0
                        && options.listen == Listen::Loopback(0)
                        && log.contains("could not create any TCP/IP sockets") => {}
                Err(fault) => {
                    // What the shell may not remove: an empty folder in a folder of root's.
                    if options.lifetime == Lifetime::ThrowAway {
                        let _ = fs::remove_dir(&options.data_dir);
                    }
                    if socket.is_ours {
                        let _ = fs::remove_dir_all(&socket.path);
                    }
                    return Err(fault);
                }
                Ok(started) => {
                    return Ok(Self {
                        data_dir: options.data_dir,
                        socket_dir: socket.path,
                        made_socket_dir: socket.is_ours,
                        lifetime: options.lifetime,
                        listen: options.listen,
                        port: started.port,
                        superuser: options.superuser,
                        major: options.programs.major,
                        pid: started.pid,
                        child: started.child,
                        _lock: lock,
                    });
                }
            }
        }
    }

    /// What to put as `host` in a connection: the address, or the folder of the socket.
    pub fn host(&self) -> String {
        match self.listen {
            Listen::Loopback(_) => Ipv4Addr::LOCALHOST.to_string(),
            Listen::SocketOnly => self.socket_dir.to_string_lossy().into_owned(),
        }
    }

    /// The port, which is also part of the socket's name.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        &self.superuser
    }

    /// The major version of the server.
    pub const fn major(&self) -> u32 {
        self.major
    }

    /// The server's main process.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether the server has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops the server, ending its sessions; at once if it takes longer than ten seconds.
    pub fn stop(mut self) -> Result<(), Error> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), Error> {
        for (signal, limit) in [(Signal::INT, FAST_LIMIT), (Signal::QUIT, KILL_LIMIT)] {
            if !self.is_gone() {
                // It may end between the look and the signal; the next look tells.
                let _ = rustix::process::kill_process(self.pid, signal);
            }
            if wait_until(limit, || self.is_gone()) {
                self.tidy();
                return Ok(());
            }
        }
        Err(Error::StillRunning(self.data_dir.clone()))
    }

    /// The shell has ended, and has not left a server behind (which takes someone who kills the shell).
    fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
            && Postmaster::read(&self.data_dir)
                .is_none_or(|found| found.pid() != self.pid || !found.is_serving(&self.data_dir))
    }

    /// The shell removes the folders too, unless the folder around them is closed to its account.
    fn tidy(&self) {
        if self.lifetime == Lifetime::ThrowAway {
            let _ = fs::remove_dir_all(&self.data_dir);
        }
        if self.made_socket_dir {
            let _ = fs::remove_dir_all(&self.socket_dir);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.is_gone() {
            let _ = self.shut_down();
        }
    }
}

/// A server that is ready.
struct Started {
    child: Child,
    pid: Pid,
    port: u16,
}

/// The folder of the socket, and whether it was made for this run.
struct SocketFolder {
    path: PathBuf,
    is_ours: bool,
}

fn run(options: &Options, socket: &SocketFolder, account: Account) -> Result<Started, Error> {
    let port = match options.listen {
        Listen::SocketOnly => SOCKET_PORT,
        Listen::Loopback(0) => free_port()?,
        Listen::Loopback(port) => port,
    };
    let log_path = options.data_dir.join("server.log");
    let log = open_log(&log_path, account)?;
    let before = Postmaster::read(&options.data_dir);
    let arguments = arguments(options, &socket.path, port);
    let throw_away = options.lifetime == Lifetime::ThrowAway;
    let plan = Plan {
        server: &options.programs.postgres,
        arguments: &arguments,
        remove: [
            throw_away.then_some(options.data_dir.as_path()),
            socket.is_ours.then_some(socket.path.as_path()),
        ],
        account,
    };
    let mut child = supervisor::start(&plan, &log)?;
    let mut ended = None;
    let mut pid = None;
    wait_until(READY_LIMIT, || {
        ended = child.try_wait().ok().flatten();
        // The file of a server long dead may say "ready" too.
        pid = Postmaster::read(&options.data_dir)
            .filter(|found| Some(found) != before.as_ref() && found.is_ready())
            .map(|found| found.pid());
        ended.is_some() || pid.is_some()
    });
    let data_dir = options.data_dir.clone();
    match (ended, pid) {
        (Some(status), _) => Err(Error::Died { data_dir, status, log: last_lines(&log) }),
        (None, Some(pid)) => Ok(Started { child, pid, port }),
        (None, None) => {
            // Closing the pipe makes the shell stop the server.
            drop(child.stdin.take());
            let _ = child.wait();
            Err(Error::Slow { data_dir, log: last_lines(&log) })
        }
    }
}

fn arguments(options: &Options, socket_dir: &Path, port: u16) -> Vec<String> {
    let listen = match options.listen {
        Listen::Loopback(_) => "127.0.0.1",
        Listen::SocketOnly => "",
    };
    let mut settings = vec![
        ("listen_addresses", listen.to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", quoted_folder(socket_dir)),
        ("unix_socket_permissions", "0700".to_owned()),
        ("password_encryption", "scram-sha-256".to_owned()),
        ("max_connections", "200".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("timezone", "UTC".to_owned()),
    ];
    if options.lifetime == Lifetime::ThrowAway {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            settings.push((name, "off".to_owned()));
        }
        settings.push(("shared_buffers", "32MB".to_owned()));
    }
    let chosen = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut arguments = vec!["-D".to_owned(), options.data_dir.to_string_lossy().into_owned()];
    for (name, value) in chosen.chain(options.settings.iter().cloned()) {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    arguments
}

/// The setting is a list of folders, in which a comma or a space would end a name.
fn quoted_folder(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('"', "\"\""))
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Error::NoPort)
}

fn socket_folder(options: &Options, account: Account) -> Result<SocketFolder, Error> {
    if let Some(path) = &options.socket_dir {
        let path = absolute(path)?;
        if !path.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(at(&path))?;
            account.give(&path)?;
        }
        return Ok(SocketFolder { path, is_ours: false });
    }
    let longest = options.data_dir.join(".s.PGSQL.65535.lock");
    if longest.as_os_str().len() <= LONGEST_SOCKET_PATH {
        return Ok(SocketFolder { path: options.data_dir.clone(), is_ours: false });
    }
    let tmp = Path::new("/tmp");
    let made = tempfile::Builder::new().prefix("pgvalet-").tempdir_in(tmp).map_err(at(tmp))?;
    let path = made.keep();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(at(&path))?;
    account.give(&path)?;
    Ok(SocketFolder { path, is_ours: true })
}

/// Beside the folder, not in it: the folder is PostgreSQL's, and may not exist yet. The file stays,
/// because removing a lock file lets two in.
fn lock(data_dir: &Path) -> Result<File, Error> {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let mut open = fs::OpenOptions::new();
    let file = open.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(Error::Folder { path, source }),
    }
}

fn open_log(path: &Path, account: Account) -> Result<File, Error> {
    if fs::metadata(path).is_ok_and(|seen| seen.len() > LONGEST_LOG) {
        fs::remove_file(path).map_err(at(path))?;
    }
    let mut open = fs::OpenOptions::new();
    let file =
        open.read(true).append(true).create(true).mode(0o600).open(path).map_err(at(path))?;
    account.give(path)?;
    Ok(file)
}

/// Read through the open file, because the folder of a throw-away cluster is gone by now.
fn last_lines(log: &File) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let mut file = log;
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default().join("\n")
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Folder { path, source }
}

#[cfg(test)]
mod tests;
