//! Logs; traces and metrics have their place here.
//!
//! What is logged is read by the one who is woken at night and by the one who audits. So lines name
//! their subject by fields from one list, and nothing that a person typed or a password is among
//! them:
//!
//! | field | what it is |
//! |---|---|
//! | `request.id` | one HTTP request; the caller sees the same id |
//! | `lease.id`, `login.id`, `target.id`, `principal.id`, `token.id`, `audit.id` | our ids |
//! | `profile`, `target`, `tool` | names, as an administrator wrote them |
//! | `role` | a role's name on a target |
//! | `state`, `step`, `attempt`, `reason` | what a loop does, and why |
//! | `method`, `route`, `status` | of a request; `route` is the pattern, never the path as called |
//! | `task`, `signal` | of the daemon itself |
//! | `error` | the whole chain of an error, once, where it is handled |
//! | `duration_ms`, `count` | numbers |
//!
//! Traces are of spans with a target of their own (see [`trace`]); metrics are all in [`metrics`].
//! Both, and the log lines, go out by OTLP where a receiver is configured, and nothing waits for it.
//! Traces and log lines belong to the process and end with [`Telemetry`]; metrics and the audit log
//! belong to one daemon, of which tests run several in a process.

pub mod audit_log;
mod json;
pub mod labels;
pub mod levels;
mod logs;
pub mod metrics;
mod notices;
mod otlp;
mod outage;
#[cfg(test)]
mod tests;
mod tls;
pub mod trace;
mod waiting;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use opentelemetry_sdk::{logs::SdkLoggerProvider, trace::SdkTracerProvider};

use crate::config::{LogConfig, TelemetryConfig};

/// What keeps telemetry going. To be held until the daemon ends; what still waits is then sent, for
/// a bounded time.
#[derive(Debug)]
#[must_use = "telemetry ends when this is dropped"]
pub struct Telemetry {
    tracer: Option<SdkTracerProvider>,
    logger: Option<SdkLoggerProvider>,
}

/// Telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directives are no directives.
    #[error("read log filter")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("logging was started before")]
    StartedBefore(#[source] tracing_subscriber::util::TryInitError),
    /// The exporter could not be made.
    #[error("could not set up OTLP")]
    Otlp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Metrics could not be set up or written for Prometheus.
    #[error("could not make metrics for Prometheus")]
    Prometheus(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file for audit entries.
    #[error("could not open the audit file {}", .0.display())]
    AuditFile(PathBuf, #[source] io::Error),
}

/// Starts logging, to standard error (standard output belongs to what was asked for), and traces
/// where they are configured.
///
/// # Errors
/// If the filter cannot be read, an exporter not be made, or logging was started before.
pub fn start(config: &LogConfig, otlp: &TelemetryConfig) -> Result<Telemetry, Error> {
    use tracing_subscriber::util::SubscriberInitExt;
    let telemetry = Telemetry { tracer: otlp::tracer(otlp)?, logger: otlp::logger(otlp, "logs")? };
    let subscriber = logs::subscriber(config, io::stderr().is_terminal(), io::stderr, &telemetry)?;
    subscriber.try_init().map_err(Error::StartedBefore)?;
    logs::log_panics();
    Ok(telemetry)
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let (tracer, logger) = (self.tracer.take(), self.logger.take());
        if tracer.is_none() && logger.is_none() {
            return;
        }
        otlp::flush_within(otlp::FLUSH, move || {
            // Nothing can be done about what is lost now; the receiver's absence was logged before.
            // The SDK's own limit (5 s) is longer than ours, which says that the time was up.
            let _ = tracer.map(|tracer| tracer.shutdown());
            let _ = logger.map(|logger| logger.shutdown());
        });
    }
}
