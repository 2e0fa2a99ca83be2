//! Builds every part from the configuration and runs them until told to stop. The only place that
//! wires.

mod listener;
mod state;
mod tls;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::Notify};

use crate::{
    app::{
        App, Parts, Times, bootstrap, bootstrap::FirstToken, history::Signer, people::SignIns,
        slack::Slack,
    },
    clock::Clock,
    cluster,
    config::{
        AwsCredentials, Config, KeyFault, MasterKeys, OidcConfig, SlackConfig, TargetsConfig,
        TlsConfig, TlsFault,
    },
    domain::name::Name,
    http::{self, HttpSettings},
    identity::{
        self,
        issuers::Issuers,
        oidc::{self, Provider},
        slack::Signing,
        throttle::Throttle,
        token::Tokens,
    },
    lifecycle::{Hangups, Signals, Tasks, Unfinished},
    notify, rng,
    secret::Secret,
    serve::{
        listener::Service,
        state::{Access, State, master_keys},
        tls::Front,
    },
    slack::Client,
    store::{self, Store, seal::KeyRing},
    target::{SourceRules, Targets, aws::AwsKeys},
    telemetry::{self, audit_log::AuditLog, metrics::Metrics},
    worker,
};

/// Why the daemon did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each says in its message what it is")]
pub enum Error {
    #[error("could not use the data folder {}", .0.display())]
    DataFolder(PathBuf, #[source] io::Error),
    #[error("could not find PostgreSQL's server programs for the private state database")]
    Programs(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("could not start the private state database")]
    Cluster(#[from] cluster::error::Error),
    #[error(
        "no master key: with a state database of your own, set [master_key] file, PGVALET_MASTER_KEY_FILE or PGVALET_MASTER_KEY; \
         make a key with: openssl rand -base64 32"
    )]
    NoMasterKey,
    #[error("could not read or make the master key")]
    MasterKey(#[from] KeyFault),
    #[error("could not use the master key")]
    Seal(#[from] store::seal::Error),
    #[error("could not use the state database")]
    Store(#[from] store::error::Error),
    #[error("this daemon does not belong to this state database")]
    Mismatch(#[from] bootstrap::Mismatch),
    #[error("could not make what identity providers are asked with")]
    Issuers(#[source] reqwest::Error),
    #[error("could not make what Slack is called with")]
    Slack(#[source] reqwest::Error),
    #[error("could not make the signing key")]
    Signer(#[from] crate::app::history::NoSigner),
    #[error("could not begin to check tokens")]
    Tokens(#[from] identity::token::Error),
    #[error("could not ask the state database for the time: {}", .0.detail())]
    Time(crate::app::error::Error),
    #[error("no randomness")]
    Randomness(#[from] rng::NoRandomness),
    #[error("lease.nudge = {0:?} is not a cron expression of six fields, seconds first")]
    Cron(String),
    #[error("drift.schedule = {0:?} is not a cron expression of six fields, seconds first")]
    DriftCron(String),
    #[error("sweep.schedule = {0:?} is not a cron expression of six fields, seconds first")]
    SweepCron(String),
    #[error("could not make what others are told with")]
    Channels(#[from] notify::Unusable),
    #[error("could not begin to serve TLS")]
    Tls(#[from] TlsFault),
    #[error("could not listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("could not set up telemetry")]
    Telemetry(#[from] telemetry::Error),
    #[error("could not listen for signals")]
    Signals(#[source] io::Error),
    #[error("a part of the daemon failed")]
    Part(#[from] crate::lifecycle::TaskFailure),
    #[error("not everything ended in time")]
    Unfinished(#[from] Unfinished),
    #[error("could not make the first token: {}", .0.detail())]
    Bootstrap(crate::app::error::Error),
    #[error("a background thread was lost")]
    Thread(#[source] tokio::task::JoinError),
}

/// A running daemon.
pub struct Daemon {
    address: SocketAddr,
    app: Arc<App>,
    tasks: Tasks,
    shutdown_deadline: Duration,
    store: Store,
    targets: Targets,
    metrics: Arc<Metrics>,
    audit_log: Arc<AuditLog>,
    metrics_address: Option<SocketAddr>,
    state: State,
}

impl Daemon {
    /// Starts every part.
    ///
    /// # Errors
    /// If one of them cannot be started.
    pub async fn start(mut config: Config) -> Result<Self, Error> {
        worker::schedule::check(&config.lease.nudge)
            .map_err(|_| Error::Cron(config.lease.nudge.clone()))?;
        worker::schedule::check(&config.sweep.schedule)
            .map_err(|_| Error::SweepCron(config.sweep.schedule.clone()))?;
        worker::schedule::check(&config.drift.schedule)
            .map_err(|_| Error::DriftCron(config.drift.schedule.clone()))?;
        let keys = master_keys(&mut config).await?;
        let metrics = Metrics::start(&config.telemetry)?;
        let audit_log = Arc::new(AuditLog::open(&config.audit_log, &config.telemetry)?);
        let state = State::open(&config, Access::Own).await?;
        let (app, store, targets) =
            build_app(&mut config, &keys, &state.url, Arc::clone(&metrics)).await?;
        let (listener, address) = listen(config.listen).await?;
        let found_at = config.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        app.found_at(found_at);

        let tasks = Tasks::new();
        spawn_loops(&app, &tasks, &config);
        spawn_audit(&app, &tasks, &audit_log)?;
        let settings = HttpSettings {
            request_timeout: config.http.request_timeout,
            max_body_bytes: config.http.max_body_bytes,
            metrics: config.telemetry.metrics_listen.is_none(),
        };
        let front = config.tls.take().map(|tls| spawn_tls(&app, &tasks, tls)).transpose()?;
        let metrics_address = match config.telemetry.metrics_listen {
            Some(address) => Some(spawn_metrics(&app, &tasks, address, &settings, &front).await?),
            None => None,
        };
        let router = http::router(Arc::clone(&app), &settings);
        let service = behind(front.as_ref(), router, &app);
        let most = listener::make_room();
        tasks.spawn_loop("http", listener::run(listener, service, tasks.clone(), most));
        state.watch(&tasks);
        let shutdown_deadline = config.http.shutdown_deadline;
        Ok(Self {
            address,
            app,
            tasks,
            shutdown_deadline,
            store,
            targets,
            metrics,
            audit_log,
            metrics_address,
            state,
        })
    }

    /// Where the API listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/metrics` is served, if on an address of its own.
    #[must_use]
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Makes the first administrator's token.
    ///
    /// # Errors
    /// If it was made before.
    pub async fn bootstrap(&self, name: &Name) -> Result<FirstToken, Error> {
        self.app.bootstrap(name).await.map_err(Error::Bootstrap)
    }

    /// Waits until a part failed, or the daemon was told to stop.
    pub async fn ended(&self) {
        self.tasks.stop_token().cancelled().await;
    }

    /// Runs until a signal comes or a part fails; then ends every part: requests first, which may
    /// still use the others, the private state database last.
    ///
    /// # Errors
    /// If a part failed, or not everything ended in time.
    pub async fn run(self, signals: &mut Signals) -> Result<(), Error> {
        let ended = self.tasks.run(signals, self.shutdown_deadline).await;
        self.end(ended).await
    }

    /// Ends every part now.
    ///
    /// # Errors
    /// If a part failed, or not everything ended in time.
    pub async fn stop(self) -> Result<(), Error> {
        self.tasks.stop();
        let ended = self.tasks.wait(self.shutdown_deadline).await;
        self.end(ended).await
    }

    async fn end(self, ended: Result<(), Unfinished>) -> Result<(), Error> {
        self.targets.close().await;
        self.store.close().await;
        self.state.close().await?;
        let (metrics, audit_log) = (self.metrics, self.audit_log);
        let flushed = tokio::task::spawn_blocking(move || {
            audit_log.finish();
            metrics.finish();
        });
        flushed.await.map_err(Error::Thread)?;
        if let Some(failure) = self.tasks.take_failure() {
            return Err(failure.into());
        }
        tracing::info!("stopped");
        Ok(ended?)
    }
}

/// Brings the state database up to date.
///
/// # Errors
/// If it does not answer.
pub async fn migrate(config: &Config) -> Result<(), Error> {
    let state = State::open(config, Access::Borrow).await?;
    let store = Store::new(&state.url, 2, Metrics::unread())?;
    store.migrate().await?;
    store.close().await;
    state.close().await
}

/// Makes the first administrator's token, whether or not the daemon runs.
///
/// # Errors
/// If it was made before, or the state database does not answer.
pub async fn bootstrap_once(mut config: Config, name: &Name) -> Result<FirstToken, Error> {
    let keys = master_keys(&mut config).await?;
    let state = State::open(&config, Access::Borrow).await?;
    let (app, store, _) = build_app(&mut config, &keys, &state.url, Metrics::unread()).await?;
    let token = app.bootstrap(name).await.map_err(Error::Bootstrap);
    store.close().await;
    state.close().await?;
    token
}

async fn build_app(
    config: &mut Config,
    keys: &MasterKeys,
    url: &Secret<String>,
    metrics: Arc<Metrics>,
) -> Result<(Arc<App>, Store, Targets), Error> {
    let clock = Clock;
    let store = Store::new(url, config.state.max_connections, Arc::clone(&metrics))?;
    store.migrate().await?;
    let ring = KeyRing::new(keys)?;
    let installation = bootstrap::check_master_key(&store, &ring, clock.now()).await?;
    let rules = source_rules(std::mem::take(&mut config.targets));
    let targets = Targets::new("pgvalet", rules, Arc::clone(&metrics));
    let issuers = Arc::new(Issuers::new().map_err(Error::Issuers)?);
    let sign_ins = config.oidc.take().map(|oidc| sign_ins(Arc::clone(&issuers), oidc));
    let mut channels = notify::channels(&config.notices)?;
    let give_up_after = config.notices.give_up_after;
    channels.extend(config.slack.as_ref().map(|slack| notify::slack(slack, give_up_after)));
    let slack = config.slack.take().map(slack).transpose()?;
    let app = App::new(Parts {
        store: store.clone(),
        targets: targets.clone(),
        keys: ring,
        signer: Signer::new(keys)?,
        clock,
        tokens: Tokens::new()?,
        issuers,
        throttle: Throttle::new(config.throttle.failures_per_minute.get()),
        times: Times {
            issue_deadline: config.lease.issue_deadline,
            rotation_grace: config.lease.rotation_grace,
            orphan_grace: config.sweep.orphan_grace,
        },
        trusted_proxies: config.trusted_proxies.clone(),
        token_reviews: config.token_reviews.clone(),
        sign_ins,
        slack,
        longest_token: config.tokens.max_ttl,
        reviews: config.review.clone(),
        max_live_per_caller: config.lease.max_live_per_caller,
        channels,
        metrics,
        installation,
    });
    app.agree_on_time().await.map_err(Error::Time)?;
    Ok((Arc::new(app), store, targets))
}

/// What of this machine targets may be signed in with.
fn source_rules(config: TargetsConfig) -> SourceRules {
    let aws = |AwsCredentials { id, secret, session }| AwsKeys { id, secret, session };
    SourceRules {
        commands: config.password_commands,
        folders: config.password_folders,
        environment: config.password_command_environment,
        aws: config.aws.map(aws),
    }
}

/// The provider that people sign in at. Its secret goes where it is asked, and stays nowhere else.
fn sign_ins(issuers: Arc<Issuers>, mut oidc: OidcConfig) -> SignIns {
    let settings = oidc::Settings {
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        client_secret: oidc.client_secret.take(),
        scopes: oidc.scopes.clone(),
    };
    SignIns::new(Provider::new(issuers, settings), oidc)
}

/// Slack. What the bot speaks with goes where it is used, and stays nowhere else.
fn slack(mut config: SlackConfig) -> Result<Slack, Error> {
    let token = std::mem::replace(&mut config.bot_token, Secret::new(String::new()));
    let client = Client::new(config.hosts.clone(), token).map_err(Error::Slack)?;
    let signing = Signing::new(&config.signing_secret);
    Ok(Slack::new(client, signing, config))
}

fn spawn_loops(app: &Arc<App>, tasks: &Tasks, config: &Config) {
    tasks.spawn_loop("leases", worker::leases::run(Arc::clone(app), Clock, tasks.clone()));
    let digest = config.notices.digest.clone();
    tasks.spawn_loop(
        "housekeeping",
        worker::housekeeping::run(Arc::clone(app), digest, tasks.clone()),
    );
    tasks.spawn_loop("rotations", worker::rotations::run(Arc::clone(app), tasks.clone()));
    tasks.spawn_loop("sweep", worker::sweep::run(Arc::clone(app), tasks.clone()));
    tasks.spawn_loop("people", worker::people::run(Arc::clone(app), tasks.clone()));
    tasks.spawn_loop("requests", worker::requests::run(Arc::clone(app), tasks.clone()));
    tasks.spawn_loop("reviews", worker::reviews::run(Arc::clone(app), tasks.clone()));
    tasks.spawn_loop("drift", worker::drift::run(Arc::clone(app), tasks.clone()));
    tasks.spawn("slack", worker::slack::run(Arc::clone(app), tasks.clone()));
    let schedules = worker::schedule::Schedules {
        nudge: config.lease.nudge.clone(),
        sweep: config.sweep.schedule.clone(),
        drift: config.drift.schedule.clone(),
    };
    let (nudges, stop) = (app.nudges().clone(), tasks.stop_token());
    let metrics = Arc::clone(app.metrics());
    tasks.spawn_loop("schedule", worker::schedule::run(schedules, nudges, metrics, stop));
}

fn spawn_audit(app: &Arc<App>, tasks: &Tasks, log: &Arc<AuditLog>) -> Result<(), Error> {
    let (tell, sealed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (sealing, telling) = (Arc::clone(app), Arc::clone(app));
    let wakes = vec![Arc::clone(&tell), Arc::clone(&sealed)];
    tasks.spawn_loop("audit", worker::audit::run(sealing, wakes, tasks.clone()));
    tasks.spawn_loop("notices", worker::notices::dispatch(Arc::clone(app), sealed, tasks.clone()));
    tasks.spawn_loop("send notices", worker::notices::send(Arc::clone(app), tasks.clone()));
    let log = Arc::clone(log);
    tasks.spawn_loop(
        "audit log",
        worker::audit::tell(telling, Arc::clone(&log), tell, tasks.clone()),
    );
    // Without a file there is nothing to read or to open anew, and a closed terminal ends the daemon as ever.
    if app.has_secret_files() {
        let hangups = Hangups::listen().map_err(Error::Signals)?;
        let reading = worker::notices::read_secrets_again(Arc::clone(app), hangups, tasks.clone());
        tasks.spawn_loop("secrets of webhooks", reading);
    }
    if log.has_file() {
        let hangups = Hangups::listen().map_err(Error::Signals)?;
        tasks.spawn_loop("reopen", worker::audit::reopen(log, hangups, tasks.clone()));
    }
    Ok(())
}

/// TLS in front of the API and of the metrics, whose files are looked at from now on; SIGHUP, which means
/// that, no longer ends the daemon.
fn spawn_tls(app: &Arc<App>, tasks: &Tasks, tls: TlsConfig) -> Result<Arc<Front>, Error> {
    let front = Front::start(tls, Arc::clone(app))?;
    let hangups = Hangups::listen().map_err(Error::Signals)?;
    tasks.spawn_loop("tls", Arc::clone(&front).watch(hangups, tasks.clone()));
    Ok(front)
}

fn behind(front: Option<&Arc<Front>>, router: Router, app: &Arc<App>) -> Service {
    let plain = || http::plain_router(Arc::clone(app.metrics()));
    Service { router, tls: front.map(|front| (Arc::clone(front), plain())) }
}

/// Connections at once on the metrics' own address: a few Prometheus servers, and a person who looks.
const MOST_SCRAPERS: usize = 16;

async fn spawn_metrics(
    app: &Arc<App>,
    tasks: &Tasks,
    address: SocketAddr,
    settings: &HttpSettings,
    front: &Option<Arc<Front>>,
) -> Result<SocketAddr, Error> {
    let (listener, address) = listen(address).await?;
    let router = http::metrics_router(Arc::clone(app), settings);
    let service = behind(front.as_ref(), router, app);
    tracing::info!(%address, "metrics are served");
    let most = MOST_SCRAPERS;
    tasks.spawn_loop("metrics", listener::run(listener, service, tasks.clone(), most));
    Ok(address)
}

async fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let fault = |e| Error::Listen(wanted, e);
    let listener = TcpListener::bind(wanted).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok((listener, address))
}
