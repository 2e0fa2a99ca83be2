//! The state database: somebody's, or our own private one, with the files beside it.
//!
//! A private one belongs to the process that holds its lock, and ends with it. So `serve` always owns
//! its own and waits for whoever has it; only the short commands (`bootstrap`, `migrate`) may borrow
//! the one of a daemon that runs.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cluster::{self, Cluster, Lifetime, Listen, obtain, programs, programs::Programs},
    config::{Config, MasterKeys},
    lifecycle::Tasks,
    rng,
    secret::Secret,
    serve::Error,
};

/// The superuser of the private state database.
const PRIVATE_USER: &str = "pgvalet";
/// How often a cluster in use is tried again, and for how long.
const RETRY_EVERY: Duration = Duration::from_millis(200);
const RETRY_LIMIT: Duration = Duration::from_secs(30);
/// How often a look is taken whether the server is still there.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// What to do if another pgvalet has the private cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Access {
    /// Wait until it is free.
    Own,
    /// Use it as long as it is there.
    Borrow,
}

/// The state database.
pub(in crate::serve) struct State {
    /// Where it is.
    pub(in crate::serve) url: Secret<String>,
    /// Ours to watch and to stop, if it is our own; taken out when it is stopped.
    cluster: Option<Arc<Mutex<Option<Cluster>>>>,
}

/// The server of the private state database is gone, and nobody here stopped it.
#[derive(Debug, thiserror::Error)]
#[error("the private state database ended by itself; its log is {}", .log.display())]
struct Ended {
    log: PathBuf,
}

impl State {
    /// The configured state database, or our own private one: started, or borrowed.
    pub(in crate::serve) async fn open(config: &Config, access: Access) -> Result<Self, Error> {
        if let Some(url) = &config.state.url {
            return Ok(Self { url: url.duplicate(), cluster: None });
        }
        let private = Private::prepare(config).await?;
        let deadline = Instant::now() + RETRY_LIMIT;
        let mut told = false;
        loop {
            let (private, borrowing) = (private.duplicate(), access == Access::Borrow);
            let opened = blocking(move || match private.start() {
                Err(Error::Cluster(cluster::error::Error::InUse(_))) if borrowing => {
                    private.borrow().ok_or(private.in_use())
                }
                other => other,
            });
            match opened.await {
                Err(Error::Cluster(cluster::error::Error::InUse(_)))
                    if Instant::now() < deadline =>
                {
                    if !told {
                        tracing::info!("another pgvalet uses the data folder: waiting for it");
                        told = true;
                    }
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                other => return other,
            }
        }
    }

    /// Fails as soon as the server of our own ended by itself: a daemon without its record is of no
    /// use, and whoever starts it afresh starts the server too.
    pub(in crate::serve) fn watch(&self, tasks: &Tasks) {
        let Some(shared) = self.cluster.clone() else { return };
        let stop = tasks.stop_token();
        tasks.spawn_loop("state database", async move {
            while stop.run_until_cancelled(tokio::time::sleep(WATCH_EVERY)).await.is_some() {
                let mut cluster = lock(&shared);
                if let Some(cluster) = cluster.as_mut().filter(|_| !stop.is_cancelled())
                    && cluster.has_ended()
                {
                    let ended = Ended { log: cluster.data_dir().join("server.log") };
                    tracing::error!("{ended}");
                    return Err(ended);
                }
            }
            Ok(())
        });
    }

    /// Stops our own.
    pub(in crate::serve) async fn close(self) -> Result<(), Error> {
        let cluster = self.cluster.and_then(|shared| lock(&shared).take());
        match cluster {
            Some(cluster) => blocking(move || Ok(cluster.stop()?)).await,
            None => Ok(()),
        }
    }
}

/// It is only ever taken out or looked at, so one left by a panic is still whole.
fn lock(shared: &Mutex<Option<Cluster>>) -> MutexGuard<'_, Option<Cluster>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What it takes to run the private state database.
struct Private {
    folder: PathBuf,
    programs: Programs,
    password: Secret<String>,
}

impl Private {
    async fn prepare(config: &Config) -> Result<Self, Error> {
        let (folder, programs_dir) = (config.data_dir.clone(), config.postgres_dir.clone());
        blocking(move || {
            make_folder(&folder)?;
            let programs = find_programs(programs_dir.as_deref())?;
            let password = private_password(&folder)?;
            Ok(Self { folder, programs, password })
        })
        .await
    }

    fn duplicate(&self) -> Self {
        Self {
            folder: self.folder.clone(),
            programs: self.programs.clone(),
            password: self.password.duplicate(),
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where the owner writes how to reach its server.
    fn address(&self) -> PathBuf {
        self.folder.join("state.socket")
    }

    fn in_use(&self) -> Error {
        cluster::error::Error::InUse(self.data_dir()).into()
    }

    fn start(&self) -> Result<State, Error> {
        let cluster = Cluster::start(cluster::Options {
            programs: self.programs.clone(),
            data_dir: self.data_dir(),
            socket_dir: None,
            lifetime: Lifetime::Kept,
            listen: Listen::SocketOnly,
            settings: Vec::new(),
            superuser: PRIVATE_USER.to_owned(),
            password: self.password.duplicate(),
        })?;
        let (folder, port) = (cluster.socket_dir().display().to_string(), cluster.port());
        let (address, text) = (self.address(), format!("{folder}\n{port}\n{}\n", cluster.pid()));
        fs::write(&address, text).map_err(|e| Error::DataFolder(address, e))?;
        Ok(State {
            url: self.url(&folder, port),
            cluster: Some(Arc::new(Mutex::new(Some(cluster)))),
        })
    }

    /// The running server of the owner. Nothing if its address is of an earlier run: the server that
    /// is there now is still starting, or already ending.
    fn borrow(&self) -> Option<State> {
        let text = fs::read_to_string(self.address()).ok()?;
        let mut lines = text.lines();
        let (folder, port, pid) = (lines.next()?, lines.next()?.parse().ok()?, lines.next()?);
        let running = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        if running.lines().next()?.trim() != pid {
            return None;
        }
        UnixStream::connect(Path::new(folder).join(format!(".s.PGSQL.{port}"))).ok()?;
        Some(State { url: self.url(folder, port), cluster: None })
    }

    fn url(&self, socket_dir: &str, port: u16) -> Secret<String> {
        let folder: String = socket_dir.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let password = self.password.expose();
        Secret::new(format!(
            "postgres://{PRIVATE_USER}:{password}@localhost:{port}/postgres?host={folder}"
        ))
    }
}

fn find_programs(given: Option<&Path>) -> Result<Programs, Error> {
    match programs::find(given) {
        Ok(programs) => Ok(programs),
        Err(e) if given.is_some() => Err(Error::Programs(Box::new(e))),
        Err(_) => {
            obtain::obtain(&obtain::default_cache(), &|progress| tracing::info!("{progress}"))
                .map_err(|e| Error::Programs(Box::new(e)))
        }
    }
}

fn private_password(folder: &Path) -> Result<Secret<String>, Error> {
    let _turn = turn(folder)?;
    let path = folder.join("state.secret");
    let fault = |e| Error::DataFolder(path.clone(), e);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Secret::new(text.trim().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let password = rng::password()?;
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(&path).map_err(fault)?;
            file.write_all(password.expose().as_bytes()).map_err(fault)?;
            file.sync_all().map_err(fault)?;
            Ok(password)
        }
        Err(e) => Err(fault(e)),
    }
}

/// The master keys: configured, or, where the state database is our own, made once in its folder.
pub(in crate::serve) async fn master_keys(config: &mut Config) -> Result<MasterKeys, Error> {
    if let Some(keys) = config.master_keys.take() {
        return Ok(keys);
    }
    if config.state.url.is_some() {
        return Err(Error::NoMasterKey);
    }
    let folder = config.data_dir.clone();
    blocking(move || {
        make_folder(&folder)?;
        let _turn = turn(&folder)?;
        let path = folder.join("master.key");
        if path.exists() {
            return Ok(MasterKeys::read(&path)?);
        }
        let keys = MasterKeys::generate_file(&path, rng::bytes()?)?;
        tracing::info!(path = %path.display(), "made a master key: keep a copy of it apart from the data");
        Ok(keys)
    })
    .await
}

/// One process at a time makes the files of a folder: two that are started at once must not each make
/// their own, nor read half of the other's. Ends when it is dropped.
fn turn(folder: &Path) -> Result<File, Error> {
    let path = folder.join("files.lock");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.and_then(|file| file.lock().map(|()| file)).map_err(|e| Error::DataFolder(path, e))
}

/// The data folder, closed to others. If the daemon runs as root, the private database runs as another
/// account, which must get through to its own folder.
fn make_folder(path: &Path) -> Result<(), Error> {
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(path).map_err(|e| Error::DataFolder(path.to_owned(), e))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::Thread)?
}
