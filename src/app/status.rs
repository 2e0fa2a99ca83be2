//! How the installation stands: what `pgvalet top` shows.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{
        App,
        error::Error,
        measure::{LATE, SEALED_WITHIN},
        readiness::Part,
    },
    identity::Admin,
    store::measure::{Counts, Recent},
};

/// How it stands.
#[derive(Debug)]
pub struct Status {
    /// When it was looked at.
    pub at: DateTime<Utc>,
    /// What is live.
    pub counts: Counts,
    /// What happened in the last minute.
    pub recent: Recent,
    /// What waits in this daemon, by queue.
    pub queues: Vec<(&'static str, u64)>,
    /// Each target, with the number of leases there that are not over.
    pub targets: Vec<(Part, i64)>,
    /// The daemon's own parts.
    pub parts: Vec<Part>,
}

impl App {
    /// Counts, rates, and how each part and target is. Names of targets are for administrators.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn status(&self, _: &Admin<'_>) -> Result<Status, Error> {
        let at = self.clock.now();
        let counts = self.store.counts(at - LATE, at - SEALED_WITHIN).await?;
        let recent = self.store.happened_since(at - TimeDelta::minutes(1)).await?;
        let live = self.store.live_leases_by_target().await?;
        let mut parts = self.readiness().await;
        let mut targets = Vec::new();
        for (name, leases) in live {
            let shown = format!("target {name}");
            let at = parts.iter().position(|part| part.name == shown);
            let part = at.map_or_else(
                || Part { name: shown, ready: false, detail: "not looked at yet".to_owned() },
                |at| parts.remove(at),
            );
            targets.push((Part { name, ..part }, leases));
        }
        // One that was removed since readiness was looked at.
        parts.retain(|part| !part.name.starts_with("target "));
        Ok(Status { at, counts, recent, queues: self.metrics.waiting(), targets, parts })
    }
}
