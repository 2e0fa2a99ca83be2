//! PostgreSQL clusters. One is shared by all tests of the process, with the demo shop made once as a
//! template, and one of each other version ([`crate::support::versions`]); a test that stops or
//! restarts a server has one of its own.
//!
//! Both are run by [`pgvalet::cluster`], whose supervisor ends the server and removes its folder when
//! this process is gone, however it went: the shared one stands in a static, which is never dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
};

use pgvalet::{
    cluster::{
        Cluster, Lifetime, Listen, Options,
        programs::{self, Programs},
    },
    dev::shop,
    rng,
    secret::Secret,
    target::{
        scram,
        script::{self, Place},
    },
};
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

/// The superuser of every cluster.
const SUPERUSER: &str = "postgres";

/// A cluster with the shop as a template.
pub(crate) struct Postgres {
    programs: Programs,
    password: Secret<String>,
    port: u16,
    data_dir: PathBuf,
    /// Empty while the server is stopped.
    running: Mutex<Option<Cluster>>,
    lifetime: Lifetime,
    /// One at a time: two that alter the same role or copy the same template would meet.
    making: tokio::sync::Mutex<()>,
}

static SHARED: LazyLock<Arc<Postgres>> =
    LazyLock::new(|| Arc::new(Postgres::start_shared(programs::find(None).unwrap()).unwrap()));

/// The cluster that all tests share, of the system's version.
pub(crate) async fn shared() -> Arc<Postgres> {
    tokio::task::spawn_blocking(|| Arc::clone(&SHARED)).await.unwrap()
}

/// A cluster of the test's own, in a folder that goes with the second value. It can be stopped, and
/// started again at the same port with what it held.
pub(crate) async fn own_cluster() -> (Arc<Postgres>, tempfile::TempDir) {
    own_cluster_of(programs::find(None).unwrap()).await
}

/// The same, run by these programs.
pub(crate) async fn own_cluster_of(programs: Programs) -> (Arc<Postgres>, tempfile::TempDir) {
    let folder = open_folder();
    (cluster_in(folder.path(), programs).await, folder)
}

/// A folder whose name others may follow: the server's account is not always ours.
pub(crate) fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("pgvalet-it-").tempdir_in("/tmp").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(folder.path(), mode).unwrap();
    folder
}

/// A cluster in a folder below this one.
pub(crate) async fn cluster_in(folder: &Path, programs: Programs) -> Arc<Postgres> {
    let data_dir = folder.join("data");
    let started =
        tokio::task::spawn_blocking(|| Postgres::start(programs, data_dir, Lifetime::Kept));
    Arc::new(started.await.unwrap().unwrap())
}

impl Postgres {
    /// One that lasts as long as this process.
    pub(crate) fn start_shared(programs: Programs) -> anyhow::Result<Self> {
        // Not in a folder of ours: when a root process is killed, the server's account must be able to
        // remove the folder by itself, which it is in /tmp alone.
        let data_dir = format!("/tmp/pgvalet-it-{}-{}", std::process::id(), programs.major);
        Self::start(programs, PathBuf::from(data_dir), Lifetime::ThrowAway)
    }

    fn start(programs: Programs, data_dir: PathBuf, lifetime: Lifetime) -> anyhow::Result<Self> {
        let password = rng::password()?;
        let cluster =
            launch(programs.clone(), data_dir.clone(), lifetime, 0, password.duplicate())?;
        let postgres = Self {
            programs,
            password,
            port: cluster.port(),
            data_dir,
            running: Mutex::new(Some(cluster)),
            lifetime,
            making: tokio::sync::Mutex::new(()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(postgres.make_template())?;
        Ok(postgres)
    }

    async fn make_template(&self) -> anyhow::Result<()> {
        script::run(&self.place("postgres"), &[shop::CLUSTER_SQL, shop::CREATE_DATABASE_SQL])
            .await?;
        script::run(&self.place(shop::DATABASE), &shop::DATABASE_SQL).await?;
        Ok(())
    }

    fn place<'a>(&'a self, database: &'a str) -> Place<'a> {
        Place { port: self.port, database, user: SUPERUSER, password: &self.password }
    }

    /// The major version.
    pub(crate) const fn major(&self) -> u32 {
        self.programs.major
    }

    /// Where its files are.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The port on 127.0.0.1.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password.
    pub(crate) fn password(&self) -> &str {
        self.password.expose()
    }

    /// All that the server has logged: with `log_statement = all`, every statement.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.data_dir.join("server.log")).unwrap()).into_owned()
    }

    /// Stops the server (a cluster of the test's own only).
    pub(crate) async fn stop(&self) {
        assert_eq!(self.lifetime, Lifetime::Kept, "the shared cluster is not one test's to stop");
        let cluster = self.running.lock().unwrap().take().expect("it runs");
        tokio::task::spawn_blocking(|| cluster.stop()).await.unwrap().unwrap();
    }

    /// Starts it again, at the same port.
    pub(crate) async fn start_again(&self) {
        let (data_dir, port, password) =
            (self.data_dir.clone(), self.port, self.password.duplicate());
        let (programs, lifetime) = (self.programs.clone(), self.lifetime);
        let launching = move || launch(programs, data_dir, lifetime, port, password);
        let cluster = tokio::task::spawn_blocking(launching).await.unwrap().unwrap();
        *self.running.lock().unwrap() = Some(cluster);
    }

    /// A session as the superuser.
    pub(crate) async fn superuser(&self, database: &str) -> PgConnection {
        self.connect(database, SUPERUSER, self.password.expose()).await.unwrap()
    }

    /// A session as anybody.
    pub(crate) async fn connect(
        &self,
        database: &str,
        user: &str,
        password: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .database(database)
            .username(user)
            .password(password)
            .ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options).await
    }

    /// Runs statements as the superuser.
    pub(crate) async fn run(&self, database: &str, scripts: &[&str]) {
        script::run(&self.place(database), scripts).await.unwrap();
    }

    /// An empty database with an owner of its own, for the state; gives the owner's password.
    pub(crate) async fn make_state(&self, name: &str) -> String {
        let password = rng::password().unwrap();
        let role = format!("CREATE ROLE {name} LOGIN PASSWORD '{}'", verifier(&password));
        let database = format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0");
        let _one_at_a_time = self.making.lock().await;
        self.run("postgres", &[&role, &database]).await;
        password.expose().clone()
    }

    /// A copy of the shop with an admin role of its own, both of this name; gives the admin's
    /// password. `members` are the group roles that see tenants.
    pub(crate) async fn make_shop(&self, name: &str, members: &[(String, i32)]) -> String {
        let password = rng::password().unwrap();
        let admin = shop::admin_sql(&verifier(&password)).replace(shop::ADMIN, name);
        let database = format!("CREATE DATABASE {name} OWNER {} TEMPLATE shop", shop::OWNER);
        // Rights on a database are not copied with it.
        let closed = format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC");
        let sees: Vec<String> = members
            .iter()
            .map(|(group, tenant)| {
                format!("INSERT INTO private.tenant_member VALUES ('{group}', {tenant})")
            })
            .collect();
        let sees: Vec<&str> = sees.iter().map(String::as_str).collect();
        let _one_at_a_time = self.making.lock().await;
        self.run("postgres", &[&admin, &database, &closed]).await;
        self.run(name, &sees).await;
        password.expose().clone()
    }

    /// Removes a database.
    pub(crate) async fn drop_database(&self, name: &str) {
        let _one_at_a_time = self.making.lock().await;
        self.run("postgres", &[&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")]).await;
    }
}

fn launch(
    programs: Programs,
    data_dir: PathBuf,
    lifetime: Lifetime,
    port: u16,
    password: Secret<String>,
) -> anyhow::Result<Cluster> {
    let settings = [
        ("log_statement", "all"),
        ("log_connections", "on"),
        ("log_min_messages", "notice"),
        // Each world keeps some twenty connections, and many tests run at once on a large machine.
        ("max_connections", "1000"),
        ("fsync", "off"),
        ("max_prepared_transactions", "10"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Cluster::start(Options {
        programs,
        data_dir,
        socket_dir: None,
        lifetime,
        listen: Listen::Loopback(port),
        settings: settings.to_vec(),
        superuser: SUPERUSER.to_owned(),
        password,
    })?)
}

/// In place of a password, so that none is in a statement, and none in the server's log.
fn verifier(password: &Secret<String>) -> String {
    let salt = rng::bytes().unwrap();
    scram::verifier(password, salt, scram::DEFAULT_ITERATIONS).text().to_owned()
}
