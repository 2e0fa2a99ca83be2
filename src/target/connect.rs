//! Connections to one target: a small pool for each database, made when first used.
//!
//! Every session is bounded, because other people work there: it waits neither long for a lock nor
//! for its own statements, and finds names only in the system's catalogue.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    domain::target::{SslMode, TargetSpec},
    secret::Secret,
    target::{
        error::{self, Error, Meaning},
        gate::Gate,
        observe::{self, Facts},
        passwords::Passwords,
        pool::{Lent, Pool},
        sql,
    },
};

/// Long enough for a far network and a full TLS handshake.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(5);

/// A pool that has given no connection by then may be waiting at a closed port.
const KNOCK_AFTER: Duration = Duration::from_millis(200);

/// Callers that may wait for a connection. What a target's trouble costs is bounded by it: beyond, they
/// are refused at once.
const MOST_WAITING: usize = 128;

/// What each session begins with.
const SESSION: [(&str, &str); 8] = [
    ("search_path", "pg_catalog, pg_temp"),
    ("statement_timeout", "8s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("TimeZone", "UTC"),
    // Our questions to the catalogue are planned once for each connection, not each time.
    ("plan_cache_mode", "force_generic_plan"),
    // They are small; to compile one takes longer than to run it.
    ("jit", "off"),
    // A notice is sent at once, in the midst of what makes a login, to say what we know.
    ("client_min_messages", "warning"),
];

/// Somebody who wants to be let in.
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    /// The role that the session starts as, if not its own.
    pub(crate) role: Option<&'a str>,
}

/// The pools of one target.
pub(crate) struct Connections {
    spec: TargetSpec,
    passwords: Arc<Passwords>,
    /// That of the certificate that is shown, if one is.
    ssl_key: Option<Arc<Secret<String>>>,
    application_name: String,
    most: u32,
    gate: Arc<Gate>,
    waiting: Semaphore,
    /// By database; with the generation of the password that each was last told.
    pools: std::sync::Mutex<HashMap<String, (u64, Pool)>>,
}

impl Connections {
    /// At most `most` to each database. A target's connections are scarce, and ours must never be the
    /// ones that fill it.
    pub(crate) fn new(
        spec: TargetSpec,
        (passwords, ssl_key): (Arc<Passwords>, Option<Arc<Secret<String>>>),
        application_name: &str,
        most: u32,
        gate: Arc<Gate>,
    ) -> Self {
        Self {
            spec,
            passwords,
            ssl_key,
            application_name: application_name.to_owned(),
            most,
            gate,
            waiting: Semaphore::new(MOST_WAITING),
            pools: std::sync::Mutex::default(),
        }
    }

    /// A connection to one database.
    pub(crate) async fn to(&self, database: &str) -> Result<Lent, Error> {
        let _waits = self.waiting.try_acquire().map_err(|_| Error::QueueFull)?;
        self.gate.admit()?;
        let asked = self.ask(database).await;
        let asked = match self.gate.check_cluster() {
            // The next one looks anew where the address leads.
            Err(error) if asked.is_ok() => {
                self.abandon();
                Err(error)
            }
            _ => asked,
        };
        self.gate.note(&asked);
        asked
    }

    async fn ask(&self, database: &str) -> Result<Lent, Error> {
        if self.pool(database).idle() == 0 {
            self.passwords.refresh().await?;
        }
        let generation = self.passwords.generation();
        match self.acquire(database).await {
            Err(refused @ Error::RefusedAdmin { .. }) => {
                self.settle(database, generation).await?;
                if self.passwords.generation() == generation {
                    return Err(refused);
                }
                self.acquire(database).await
            }
            outcome => outcome,
        }
    }

    /// Looks for a password that holds, after the one of `generation` was refused.
    async fn settle(&self, database: &str, generation: u64) -> Result<(), Error> {
        let _turn = self.passwords.turn().await;
        if self.passwords.generation() != generation {
            return Ok(());
        }
        for (version, candidate) in self.passwords.untried().await? {
            let (user, password) = (self.spec.admin_user.as_str(), candidate.expose());
            if self.accepts(database, &Login { user, password, role: None }).await? {
                self.passwords.take(version, candidate);
                break;
            }
        }
        Ok(())
    }

    /// Would the target let somebody in with this password? Asked on a connection of its own.
    pub(crate) async fn accepts(&self, database: &str, login: &Login<'_>) -> Result<bool, Error> {
        let mut options = self.options(database).username(login.user).password(login.password);
        if let Some(role) = login.role {
            options = options.options([("role", role)]);
        }
        match self.connect_once(database, &options).await {
            Ok(connection) => {
                // It said yes; how it takes the goodbye is all the same.
                let _ = connection.close().await;
                Ok(true)
            }
            Err(Error::RefusedAdmin { .. }) => Ok(false),
            // Who is told about the database has been let in.
            Err(
                Error::DatabaseMissing { .. }
                | Error::DatabaseClosed { .. }
                | Error::LacksRight { .. },
            ) => Ok(true),
            Err(other) => Err(other),
        }
    }

    async fn acquire(&self, database: &str) -> Result<Lent, Error> {
        let pool = self.pool(database);
        if pool.lent() + pool.idle() == 0 {
            self.knock().await?;
        }
        tokio::select! {
            biased;
            acquired = pool.acquire() => match acquired {
                // Closed between our taking it and our asking, as when the address led elsewhere: the
                // next one is a new one.
                Err(sqlx::Error::PoolClosed) => Box::pin(self.acquire(database)).await,
                acquired => acquired.map_err(|error| self.not_connected(database, &pool, error)),
            },
            error = self.shut_out(database, &pool) => Err(error),
        }
    }

    /// Waits until it is known that nobody is let in. The pool itself would try for as long as it may, in
    /// the hope that a server starts or has room again, and could then not say what was wrong. While others
    /// have connections, theirs are waited for. A pool that gives a connection at once never comes to the
    /// first look.
    async fn shut_out(&self, database: &str, pool: &Pool) -> Error {
        let mut pause = KNOCK_AFTER;
        loop {
            tokio::time::sleep(pause).await;
            if let Err(error) = self.knock().await {
                return error;
            }
            if pool.lent() == 0 {
                match Box::pin(self.once(database)).await {
                    // It said yes; how it takes the goodbye is all the same.
                    Ok(connection) => drop(connection.close().await),
                    Err(error) => return error,
                }
            }
            pause *= 2;
        }
    }

    /// A connection for what concerns the whole cluster: to `preferred`, or when that database is
    /// gone or closed, to any other that we know of.
    pub(crate) async fn to_cluster(&self, preferred: Option<&str>) -> Result<Lent, Error> {
        let known = self.spec.databases.iter().map(String::as_str);
        let mut databases: Vec<&str> = preferred.into_iter().chain(known).collect();
        databases.push("postgres");
        let mut first = None;
        for database in databases {
            match self.to(database).await {
                Err(
                    error @ (Error::DatabaseMissing { .. }
                    | Error::DatabaseClosed { .. }
                    | Error::LacksRight { .. }),
                ) => {
                    first.get_or_insert(error);
                }
                outcome => return outcome,
            }
        }
        Err(first.unwrap_or(Error::Unreachable {
            address: self.address(),
            source: "no database is known".into(),
        }))
    }

    /// The same as [`Connections::to`], with what the target says of itself: for a change there.
    pub(crate) async fn to_change(&self, database: &str) -> Result<(Lent, Facts), Error> {
        self.answering(|| self.to(database)).await
    }

    /// The same as [`Connections::to_cluster`], with what the target says of itself: for a change there.
    pub(crate) async fn to_change_cluster(
        &self,
        preferred: Option<&str>,
    ) -> Result<(Lent, Facts), Error> {
        self.answering(|| self.to_cluster(preferred)).await
    }

    /// What broke while it idled breaks at the first question, which changes nothing: then another
    /// connection is asked. All that idle may have broken at once.
    async fn answering<F>(&self, connect: impl Fn() -> F) -> Result<(Lent, Facts), Error>
    where
        F: Future<Output = Result<Lent, Error>>,
    {
        let mut others = self.most;
        loop {
            let mut connection = connect().await?;
            match observe::facts_to_change(&mut connection).await {
                Err(Error::ConnectionLost { .. }) if others > 0 => others -= 1,
                outcome => return outcome.map(|facts| (connection, facts)),
            }
        }
    }

    /// A connection of its own to a database that may be nobody's concern here: no pool is kept for it.
    pub(crate) async fn once(&self, database: &str) -> Result<PgConnection, Error> {
        self.passwords.refresh().await?;
        self.connect_once(database, &self.options(database)).await
    }

    /// The same without the settings that each of our sessions begins with: it has those of the server.
    pub(crate) async fn without_settings(&self, database: &str) -> Result<PgConnection, Error> {
        self.passwords.refresh().await?;
        self.connect_once(database, &self.address_of(database)).await
    }

    /// A session as somebody else, with nothing of ours: as they would have it themselves.
    pub(crate) async fn session_of(
        &self,
        database: &str,
        login: &Login<'_>,
    ) -> Result<PgConnection, Error> {
        let options = self.address_of(database).username(login.user).password(login.password);
        let role = login.role.map(|role| ("role", role));
        self.connect_once(database, &options.options(role)).await
    }

    async fn connect_once(
        &self,
        database: &str,
        options: &PgConnectOptions,
    ) -> Result<PgConnection, Error> {
        match timeout(CONNECT_TIME, PgConnection::connect_with(options)).await {
            Ok(connected) => connected.map_err(|error| self.refused(database, error)),
            Err(elapsed) => {
                Err(Error::Unreachable { address: self.address(), source: elapsed.into() })
            }
        }
    }

    /// Closes everything, and waits for it.
    pub(crate) async fn close(&self) {
        for pool in self.take_pools() {
            pool.close().await;
        }
    }

    /// Closes everything without waiting: what is in use goes when it is given back.
    pub(crate) fn abandon(&self) {
        for pool in self.take_pools() {
            drop(pool.close());
        }
    }

    /// Connections in use, and those that idle.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |of: fn(&Pool) -> usize| {
            pools.values().map(|(_, pool)| u64::try_from(of(pool)).unwrap_or(0)).sum()
        };
        (count(Pool::lent), count(Pool::idle))
    }

    /// The databases that profiles may name.
    pub(crate) fn databases(&self) -> &[String] {
        &self.spec.databases
    }

    pub(crate) fn host(&self) -> &str {
        &self.spec.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.spec.port
    }

    pub(crate) fn admin_user(&self) -> &str {
        &self.spec.admin_user
    }

    /// Where a password can be tried.
    pub(crate) fn first_database(&self) -> &str {
        self.spec.databases.first().map_or("postgres", String::as_str)
    }

    fn take_pools(&self) -> Vec<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.drain().map(|(_, (_, pool))| pool).collect()
    }

    fn pool(&self, database: &str) -> Pool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Pool::new(self.most, Arc::clone(&self.gate), self.options(database));
        let generation = self.passwords.generation();
        let (told, pool) = pools.entry(database.to_owned()).or_insert_with(|| (generation, make()));
        if *told != generation {
            pool.use_options(self.options(database));
            *told = generation;
        }
        pool.clone()
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        self.address_of(database).options(SESSION)
    }

    /// Statements are not logged by the driver: they hold verifiers.
    fn address_of(&self, database: &str) -> PgConnectOptions {
        let spec = &self.spec;
        let options = PgConnectOptions::new_without_pgpass()
            .host(&spec.host)
            .port(spec.port)
            .username(&spec.admin_user)
            .password(self.passwords.current().expose())
            .database(database)
            .application_name(&self.application_name)
            .ssl_mode(match spec.sslmode {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            })
            .disable_statement_logging();
        let options = match &spec.sslrootcert_pem {
            Some(pem) => options.ssl_root_cert_from_pem(pem.clone().into_bytes()),
            None => options,
        };
        match (&spec.sslcert_pem, &self.ssl_key) {
            (Some(cert), Some(key)) => options
                .ssl_client_cert_from_pem(cert.clone().into_bytes())
                .ssl_client_key_from_pem(key.expose().clone().into_bytes()),
            _ => options,
        }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.spec.host, self.spec.port)
    }

    /// Is anybody there? The pool would wait its whole time at a closed port, in the hope that a
    /// server starts, and could then not say what was wrong.
    async fn knock(&self) -> Result<(), Error> {
        let (host, port) = (self.spec.host.as_str(), self.spec.port);
        let answer = timeout(CONNECT_TIME, async {
            if host.starts_with('/') {
                let socket = Path::new(host).join(format!(".s.PGSQL.{port}"));
                UnixStream::connect(socket).await.map(drop)
            } else {
                TcpStream::connect((host, port)).await.map(drop)
            }
        });
        let unreachable = |source| Error::Unreachable { address: self.address(), source };
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unreachable(error.into())),
            Err(elapsed) => Err(unreachable(elapsed.into())),
        }
    }

    fn not_connected(&self, database: &str, pool: &Pool, error: sqlx::Error) -> Error {
        // All are in use for as long as their statements take: the target answers.
        if matches!(error, sqlx::Error::PoolTimedOut) && pool.lent() > 0 {
            return Error::Busy { doing: "lend a connection", source: error::source_of(error) };
        }
        self.refused(database, error)
    }

    fn refused(&self, database: &str, error: sqlx::Error) -> Error {
        let meaning = error::meaning_of(&error);
        let is_tls = matches!(error, sqlx::Error::Tls(_));
        let source = error::source_of(error);
        match meaning {
            Some(Meaning::SignInRefused) => {
                Error::RefusedAdmin { admin: self.spec.admin_user.clone(), source }
            }
            Some(Meaning::NoSuchDatabase) => {
                Error::DatabaseMissing { database: database.to_owned(), source }
            }
            Some(Meaning::NotReady) => Error::DatabaseClosed {
                database: database.to_owned(),
                remedy: sql::allow_connections(database),
                source,
            },
            Some(Meaning::NotAllowed) => Error::LacksRight {
                action: format!("connect to the database `{database}`"),
                remedy: sql::grant_connect(database, &self.spec.admin_user),
                source: Some(source),
            },
            _ if is_tls => Error::Tls { address: self.address(), source },
            _ => Error::Unreachable { address: self.address(), source },
        }
    }
}

/// Runs one statement that changes something. Its text comes from [`sql`], where all is quoted.
pub(crate) async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    if !sql::is_sendable(statement) {
        return Err(sqlx::Error::Protocol("a zero byte in a statement".to_owned()));
    }
    // The simple protocol: these statements take no parameters, and one round trip is enough.
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

/// How often and how long we come back when another transaction is in the way.
pub(crate) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// Starts now.
    pub(crate) fn lasting(length: Duration) -> Self {
        Self { until: Instant::now() + length, pause: Duration::from_millis(10) }
    }

    /// Waits a little longer each time, up to a fifth of a second; false when the time is over.
    pub(crate) async fn wait(&mut self) -> bool {
        if Instant::now() + self.pause > self.until {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_millis(200));
        true
    }
}
