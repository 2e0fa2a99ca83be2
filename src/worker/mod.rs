//! The loops. Each is woken by a tick, a nudge or the next due instant, reads from the record what
//! there is to do, and makes one pass at a time. A pass that fails is noted and made again: a loop
//! ends only when the daemon does.

pub mod audit;
pub mod drift;
pub mod housekeeping;
pub mod leases;
pub mod notices;
pub mod people;
pub mod requests;
pub mod reviews;
pub mod rotations;
pub mod schedule;
pub mod slack;
pub mod sweep;

use std::{convert::Infallible, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::{App, error::Error};

/// Waits until somebody nudges, the time is up, or the daemon is to stop: then false.
async fn woken(nudge: &Notify, at_most: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = nudge.notified() => true,
        () = tokio::time::sleep(at_most) => true,
    }
}

/// Notes how a pass went; what it `could_not` do, if it failed, is in the log.
fn note<T>(app: &App, name: &'static str, could_not: &str, done: Result<T, Error>) {
    if let Err(error) = &done {
        tracing::warn!(error = error as &dyn std::error::Error, "could not {could_not}");
    }
    app.note_pass(name, done.err().map(|error| error.detail()));
}

/// What a loop gives back: it cannot fail.
type Ended = Result<(), Infallible>;
