//! Is each part ready? For `/readyz`: what a load balancer and an operator ask.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};

use futures_util::future::join_all;

use crate::{
    app::App,
    domain::target::Target,
    ids::TargetId,
    target::{Server, TOLERATED_SKEW},
    telemetry::labels::Outcome,
};

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// Is it ready?
    pub ready: bool,
    /// In words.
    pub detail: String,
}

/// How long a part may take to answer.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// A loop that finished no pass for this long is stuck: each looks at least every ten seconds.
const STUCK_AFTER: TimeDelta = TimeDelta::seconds(60);

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(2);

/// What each loop last did, and what was last answered.
#[derive(Debug, Default)]
pub struct Loops {
    passes: Mutex<BTreeMap<&'static str, Pass>>,
    last: tokio::sync::Mutex<Option<(Instant, Vec<Part>)>>,
}

/// What a target answered.
pub(in crate::app) struct Probe {
    pub(in crate::app) id: TargetId,
    pub(in crate::app) name: String,
    /// Itself, or why it did not answer.
    pub(in crate::app) server: Result<Server, &'static str>,
    /// How far its clock is from ours.
    pub(in crate::app) skew: Duration,
}

/// The last pass of a loop.
#[derive(Debug, Clone)]
struct Pass {
    at: DateTime<Utc>,
    fault: Option<String>,
}

impl App {
    /// Notes that a loop finished a pass.
    pub fn note_pass(&self, name: &'static str, fault: Option<String>) {
        let outcome = if fault.is_none() { Outcome::Ok } else { Outcome::Failed };
        self.metrics.passed(name, outcome);
        let pass = Pass { at: self.clock.now(), fault };
        self.loops.passes.lock().unwrap_or_else(PoisonError::into_inner).insert(name, pass);
    }

    /// Each part with its state, not older than two seconds. Anyone may ask, so that asking often must
    /// not cost the connections that issuing and revoking need.
    pub async fn readiness(&self) -> Vec<Part> {
        let mut last = self.loops.last.lock().await;
        if let Some((at, parts)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return parts.clone();
        }
        let parts = self.look_at_parts().await;
        *last = Some((Instant::now(), parts.clone()));
        parts
    }

    async fn look_at_parts(&self) -> Vec<Part> {
        let mut parts = vec![self.state_part().await];
        if parts.iter().all(|part| part.ready) {
            parts.push(self.record_part().await);
            parts.extend(self.target_parts().await);
        }
        parts.extend(self.loop_parts());
        parts
    }

    async fn state_part(&self) -> Part {
        let name = "state database".to_owned();
        match tokio::time::timeout(PROBE_DEADLINE, self.store.ping()).await {
            Ok(Ok(())) => {
                let ahead = self.clock.ahead();
                let detail = if ahead.abs() > TOLERATED_SKEW {
                    let seconds = ahead.num_seconds();
                    format!("answers; its clock is {seconds} s ahead of this machine's and is used")
                } else {
                    "answers".to_owned()
                };
                Part { name, ready: true, detail }
            }
            Ok(Err(_)) | Err(_) => {
                Part { name, ready: false, detail: "does not answer".to_owned() }
            }
        }
    }

    /// A cautious daemon issues and renews, so that it is ready.
    async fn record_part(&self) -> Part {
        let name = "record".to_owned();
        match self.caution().await {
            Ok(None) => Part { name, ready: true, detail: "is believed".to_owned() },
            Ok(Some(caution)) => {
                let since = caution.since.format("%Y-%m-%d %H:%M:%S UTC");
                let detail = format!(
                    "cautious since {since}: nothing is removed until an administrator says yes (pgvalet sweep --plan); {}",
                    caution.because
                );
                Part { name, ready: true, detail }
            }
            Err(_) => Part { name, ready: false, detail: "cannot be read".to_owned() },
        }
    }

    async fn target_parts(&self) -> Vec<Part> {
        let part = |Probe { name, server, .. }| {
            let (ready, detail) = match server {
                Ok(server) if server.in_recovery => (false, "is a standby".to_owned()),
                Ok(server) => (true, format!("PostgreSQL {}", server.version_num / 10_000)),
                Err(why) => (false, why.to_owned()),
            };
            Part { name: format!("target {name}"), ready, detail }
        };
        self.probe_targets().await.into_iter().map(part).collect()
    }

    /// Asks every target at once: one that does not answer must not hold up the others.
    pub(in crate::app) async fn probe_targets(&self) -> Vec<Probe> {
        let Ok(targets) = self.store.targets().await else { return Vec::new() };
        let probe = async |target: Target| {
            let asked = async {
                // The code, not the words: they name the target's address, and anyone may ask here.
                let (_, handle) = self.handle(target.id).await.map_err(|e| e.code())?;
                handle.probe().await.map_err(|e| e.code())
            };
            let server = match tokio::time::timeout(PROBE_DEADLINE, asked).await {
                Ok(asked) => asked,
                Err(_) => Err("does not answer"),
            };
            let skew = server.as_ref().map(|server| (server.now - self.clock.now()).abs());
            let skew = skew.ok().and_then(|skew| skew.to_std().ok()).unwrap_or_default();
            Probe { id: target.id, name: target.spec.name.to_string(), server, skew }
        };
        join_all(targets.into_iter().map(probe)).await
    }

    fn loop_parts(&self) -> Vec<Part> {
        let now = self.clock.now();
        let loops = self.loops.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |(name, pass): (&&'static str, &Pass)| {
            let stuck = now - pass.at > STUCK_AFTER;
            let detail = match &pass.fault {
                Some(fault) => fault.clone(),
                None if stuck => format!("last finished at {}", pass.at.format("%H:%M:%S UTC")),
                None => "runs".to_owned(),
            };
            Part { name: format!("loop {name}"), ready: pass.fault.is_none() && !stuck, detail }
        };
        loops.iter().map(part).collect()
    }
}
