//! The binary: parses arguments, runs the daemon, the playground or a client command, and returns
//! the exit code.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use clap::Parser;
use pgvalet::{
    cli::{
        self, Arguments, Io, Terminals,
        arguments::Command,
        daemon_arguments::{Bootstrap, Dev, Migrate, Serve},
        environment::Environment,
    },
    clock::Clock,
    config::{Config, LogConfig, TelemetryConfig},
    dev,
    lifecycle::Signals,
    serve::{self, Daemon},
    setup, telemetry,
};

/// What a command of the daemon ends with when it cannot run: 5 is "unavailable".
const UNAVAILABLE: u8 = 5;

/// What wrong settings end with: 2 is "usage".
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return ExitCode::from(failed(&e.into(), UNAVAILABLE)),
    };
    let code = runtime.block_on(Box::pin(run(arguments)));
    // A blocking read of a terminal cannot be interrupted, and must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(Arguments { globals, command }: Arguments) -> u8 {
    match command {
        Command::Serve(given) => serve(given).await,
        Command::Migrate(given) => migrate(given).await,
        Command::Bootstrap(given) => bootstrap(given).await,
        Command::Dev(given) => playground(given).await,
        Command::BootstrapTarget(given) => {
            Box::pin(on_the_streams(async |io| setup::run(given, io).await)).await
        }
        Command::Remote(command) => {
            Box::pin(on_the_streams(async |io| cli::run(command, &globals, io).await)).await
        }
        Command::Local(command) => {
            on_the_streams(async |io| cli::run_locally(command, &globals, io)).await
        }
    }
}

/// Runs a command on the process's own three streams.
async fn on_the_streams(run: impl AsyncFnOnce(Io<'_>) -> u8) -> u8 {
    let (out, err) = (io::stdout(), io::stderr());
    let terminals = Terminals {
        input: io::stdin().is_terminal(),
        out: out.is_terminal(),
        err: err.is_terminal(),
    };
    run(Io {
        out: &mut out.lock(),
        err: &mut err.lock(),
        input: &mut io::stdin().lock(),
        terminals,
        clock: Clock,
        environment: Environment::of_process(),
    })
    .await
}

async fn serve(given: Serve) -> u8 {
    let config = match settings(given.config.as_deref()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if given.check {
        return match write!(io::stdout(), "{}", config.describe()) {
            Ok(()) => 0,
            Err(_) => 1,
        };
    }
    finish(run_daemon(config).await)
}

async fn run_daemon(config: Config) -> anyhow::Result<()> {
    let _telemetry = telemetry::start(&config.log, &config.telemetry)?;
    let mut signals = Signals::listen()?;
    let daemon = tokio::select! {
        started = Box::pin(Daemon::start(config)) => started?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it served");
            return Ok(());
        }
    };
    tracing::info!(address = %daemon.address(), version = env!("CARGO_PKG_VERSION"), "pgvalet serves");
    Ok(daemon.run(&mut signals).await?)
}

async fn migrate(given: Migrate) -> u8 {
    match settings(given.config.as_deref()) {
        Ok(config) => finish(serve::migrate(&config).await.map_err(Into::into)),
        Err(code) => code,
    }
}

async fn bootstrap(given: Bootstrap) -> u8 {
    let config = match settings(given.config.as_deref()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match serve::bootstrap_once(config, &given.name).await {
        Ok(token) => {
            let told = writeln!(
                io::stderr(),
                "the first administrator's token, shown this once; it ends at {}; keep it with: pgvalet login --token -",
                token.expires_at.format("%Y-%m-%d %H:%M UTC")
            );
            let shown = writeln!(io::stdout(), "{}", token.secret.expose());
            if told.and(shown).is_ok() { 0 } else { 1 }
        }
        Err(serve::Error::Bootstrap(e)) => failed(&anyhow::anyhow!(e.detail()), 1),
        Err(e) => failed(&e.into(), UNAVAILABLE),
    }
}

async fn playground(given: Dev) -> u8 {
    // The daemon's own words would bury what the playground says; RUST_LOG-like detail is had with
    // `serve`.
    let log = LogConfig { filter: "warn".to_owned(), ..LogConfig::default() };
    let started = telemetry::start(&log, &TelemetryConfig::default());
    match started {
        Ok(_telemetry) => match dev::run(given).await {
            Ok(code) => code,
            Err(e) => failed(&e, UNAVAILABLE),
        },
        Err(e) => failed(&e.into(), UNAVAILABLE),
    }
}

/// The settings, or all that is wrong with them on standard error.
fn settings(file: Option<&Path>) -> Result<Config, u8> {
    Config::from_process(file).map_err(|faults| {
        let told = writeln!(io::stderr(), "pgvalet: the settings cannot be used:\n{faults}");
        if told.is_ok() { USAGE } else { 1 }
    })
}

fn finish(ended: anyhow::Result<()>) -> u8 {
    ended.map_or_else(|e| failed(&e, UNAVAILABLE), |()| 0)
}

/// Says what went wrong, cause by cause.
fn failed(e: &anyhow::Error, code: u8) -> u8 {
    match writeln!(io::stderr(), "pgvalet: {e:#}") {
        Ok(()) => code,
        Err(_) => 1,
    }
}
