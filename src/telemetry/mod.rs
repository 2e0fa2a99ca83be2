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
//! Traces and metrics are not here yet. They belong into files beside `logs.rs`, started by
//! [`start`] and flushed when [`Telemetry`] is dropped; metric labels must be bounded, so no ids.

mod json;
mod logs;

use std::io::{self, IsTerminal};

use crate::config::LogConfig;

/// What keeps telemetry going. To be held until the daemon ends.
#[derive(Debug)]
#[must_use = "telemetry ends when this is dropped"]
pub struct Telemetry {
    // Logs need nothing kept; traces and metrics will, to be flushed.
    _private: (),
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
}

/// Starts logging, to standard error: standard output belongs to what was asked for.
///
/// # Errors
/// If the filter cannot be read, or logging was started before.
pub fn start(config: &LogConfig) -> Result<Telemetry, Error> {
    use tracing_subscriber::util::SubscriberInitExt;
    let subscriber = logs::subscriber(config, io::stderr().is_terminal(), io::stderr)?;
    subscriber.try_init().map_err(Error::StartedBefore)?;
    logs::log_panics();
    Ok(Telemetry { _private: () })
}
