//! Every instrument, named once: what it counts, in which unit, with which labels.
//!
//! Labels are bounded: each is one of a few words of this file, a route's pattern or a status. No
//! ids, no names of people, tools, profiles or targets: those belong into traces, logs and the
//! audit, and would here make a series for whatever a caller thinks of. The same instruments are
//! read by Prometheus at `/metrics` and, if configured, sent by OTLP; units are UCUM, and the
//! Prometheus names are made from these by its own rules (`.` to `_`, `_seconds`, `_total`).

use std::{future::Future, sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider, UpDownCounter},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tokio::time::Instant;

use crate::{
    config::TelemetryConfig,
    telemetry::{Error, otlp},
};

/// Seconds. PostgreSQL's own part of an issue is a few milliseconds; deadlines are at 10 s.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds after its end at which a login was gone: from "at once" to "somebody was woken".
const LAG: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// The steps of issuing a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueStep {
    /// Reading the profile and deciding.
    Decide,
    /// Recording the intent.
    Intent,
    /// Making the login on the target.
    Target,
    /// Recording that it was made.
    Activate,
    /// All of it.
    Total,
}

/// The steps of taking a login away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeStep {
    /// Recording that it ends.
    Record,
    /// Removing it from its target.
    Target,
    /// Recording the proof.
    Proof,
    /// All of it, from the claim on.
    Total,
}

/// Did it succeed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Ok,
    /// No.
    Failed,
}

/// A rule's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// A rule allowed it.
    Allowed,
    /// No rule holds for the caller.
    NoRule,
    /// A reason was missing.
    ReasonRequired,
}

/// What is counted from the record every few seconds, rather than at each scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Levels {
    /// Leases by state; those that are over are not counted, since they only ever grow.
    pub leases: Vec<(&'static str, u64)>,
    /// Logins whose end passed longer than a removal takes ago and that are not gone.
    pub overdue: u64,
    /// Logins whose removal was tried in vain.
    pub stuck: u64,
    /// Entries that should be sealed by now.
    pub unsealed: u64,
    /// Entries that others were not told of.
    pub untold: u64,
    /// Targets that are ready.
    pub targets_ready: u64,
    /// Targets that are not.
    pub targets_unready: u64,
    /// The furthest that a target's clock is from ours.
    pub clock_skew: Duration,
    /// Connections to the state database: used, and idle.
    pub state_pool: (u64, u64),
    /// Connections to targets: used, and idle.
    pub target_pool: (u64, u64),
}

/// The instruments.
pub struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
    leases: Gauge<u64>,
    issue: Histogram<f64>,
    revoke: Histogram<f64>,
    expiry_lag: Histogram<f64>,
    overdue: Gauge<u64>,
    stuck: Gauge<u64>,
    claims: Counter<u64>,
    decisions: Counter<u64>,
    token_refusals: Counter<u64>,
    throttled_sources: Counter<u64>,
    audit_written: Counter<u64>,
    audit_unsealed: Gauge<u64>,
    audit_untold: Gauge<u64>,
    audit_seal: Histogram<f64>,
    audit_broken: Gauge<u64>,
    targets: Gauge<u64>,
    clock_skew: Gauge<f64>,
    state_connections: Gauge<u64>,
    target_connections: Gauge<u64>,
    nudges: Counter<u64>,
    passes: Counter<u64>,
    http_requests: Histogram<f64>,
    http_active: UpDownCounter<i64>,
}

impl Metrics {
    /// Instruments that Prometheus reads, and that are sent by OTLP if that is configured.
    ///
    /// # Errors
    /// If the exporter cannot be made.
    pub fn start(config: &TelemetryConfig) -> Result<Arc<Self>, Error> {
        let registry = Registry::new();
        // The scope would be the same label on every series.
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|e| Error::Prometheus(Box::new(e)))?;
        let mut provider = SdkMeterProvider::builder()
            .with_resource(otlp::resource(config))
            .with_reader(prometheus);
        if let Some(reader) = otlp::metric_reader(config)? {
            provider = provider.with_reader(reader);
        }
        Ok(Arc::new(Self::new(provider.build(), registry)))
    }

    /// Instruments that nobody reads, for commands and tests.
    #[must_use]
    pub fn unread() -> Arc<Self> {
        Arc::new(Self::new(SdkMeterProvider::builder().build(), Registry::new()))
    }

    fn new(provider: SdkMeterProvider, registry: Registry) -> Self {
        let meter = provider.meter("pgvalet");
        let named = Named(&meter);
        let build = named.gauge(
            "pgvalet.build.info",
            "{build}",
            "Always 1; its label is the version of the daemon.",
        );
        build.record(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]);
        let made = Self {
            leases: named.gauge("pgvalet.leases", "{lease}", "Leases that are not over, by `state`: provisioning, active, revoking."),
            issue: named.seconds("pgvalet.lease.issue.duration", "How long issuing a lease takes, by `step` (decide, intent, target, activate, total) and `outcome` (ok, failed).", &SECONDS),
            revoke: named.seconds("pgvalet.login.revoke.duration", "How long taking a login away takes, by `step` (record, target, proof, total) and `outcome` (ok, failed).", &SECONDS),
            expiry_lag: named.seconds("pgvalet.login.expiry.lag", "How long after its end an expired login was seen to be gone.", &LAG),
            overdue: named.gauge("pgvalet.logins.overdue", "{login}", "Logins that should be gone for over 30 s and are not."),
            stuck: named.gauge("pgvalet.logins.stuck", "{login}", "Logins whose removal was tried in vain; it is tried again."),
            claims: named.counter("pgvalet.login.claims", "{login}", "Logins that this daemon took in hand because they were due."),
            decisions: named.counter("pgvalet.decisions", "{decision}", "Decisions on asked-for leases, by `rule`: allowed, no_rule, reason_required."),
            token_refusals: named.counter("pgvalet.token.refusals", "{refusal}", "Tokens refused, by `why`: wrong_secret, no_such_token, revoked, disabled, expired, throttled."),
            throttled_sources: named.counter("pgvalet.throttled.sources", "{source}", "Times that an address used up its failed sign-ins of a minute."),
            audit_written: named.counter("pgvalet.audit.entries", "{entry}", "Audit entries written."),
            audit_unsealed: named.gauge("pgvalet.audit.unsealed", "{entry}", "Audit entries that should be sealed by now (5 s) and are not."),
            audit_untold: named.gauge("pgvalet.audit.untold", "{entry}", "Audit entries that wait to be told to the audit log and others."),
            audit_seal: named.seconds("pgvalet.audit.seal.duration", "How long a pass of sealing takes that sealed something.", &SECONDS),
            audit_broken: named.gauge("pgvalet.audit.chain.broken", "{chain}", "1 if the last check of the audit chain by this daemon found a fault, else 0."),
            targets: named.gauge("pgvalet.targets", "{target}", "Targets, by `ready`: true, false."),
            clock_skew: meter.f64_gauge("pgvalet.target.clock.skew").with_unit("s").with_description("The furthest that the clock of a target is from ours.").build(),
            state_connections: named.gauge("pgvalet.state.connections", "{connection}", "Connections to the state database, by `state`: used, idle."),
            target_connections: named.gauge("pgvalet.target.connections", "{connection}", "Connections to all targets, by `state`: used, idle."),
            nudges: named.counter("pgvalet.scheduler.nudges", "{nudge}", "Times that the scheduler woke the loops."),
            passes: named.counter("pgvalet.loop.passes", "{pass}", "Passes of the loops, by `loop` and `outcome` (ok, failed)."),
            http_requests: named.seconds("http.server.request.duration", "How long HTTP requests take until the answer begins, by route pattern, method and status.", &SECONDS),
            http_active: meter.i64_up_down_counter("http.server.active_requests").with_unit("{request}").with_description("HTTP requests under way.").build(),
            provider: provider.clone(),
            registry,
        };
        made.begin_at_zero();
        made
    }

    /// A series that only appears with its first event cannot be told from one that is missing, and
    /// hides that first event from a rate.
    fn begin_at_zero(&self) {
        for ruling in [Ruling::Allowed, Ruling::NoRule, Ruling::ReasonRequired] {
            self.decisions.add(0, &[rule(ruling)]);
        }
        for why in TOKEN_WORDS {
            self.token_refusals.add(0, &[KeyValue::new("why", why)]);
        }
        for counter in [&self.claims, &self.throttled_sources, &self.audit_written, &self.nudges] {
            counter.add(0, &[]);
        }
        self.audit_broken.record(0, &[]);
        self.http_active.add(0, &[]);
    }

    /// What Prometheus reads, in its text format.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn text(&self) -> Result<String, Error> {
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).map_err(|e| Error::Prometheus(Box::new(e)))
    }

    /// Sends the last values, for a bounded time.
    pub fn finish(&self) {
        let provider = self.provider.clone();
        otlp::flush_within(otlp::FLUSH, move || {
            let _ = provider.shutdown();
        });
    }

    /// Measures a step of issuing a lease.
    pub async fn issuing<T, E>(
        &self,
        step: IssueStep,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let done = work.await;
        let step = match step {
            IssueStep::Decide => "decide",
            IssueStep::Intent => "intent",
            IssueStep::Target => "target",
            IssueStep::Activate => "activate",
            IssueStep::Total => "total",
        };
        self.issue
            .record(began.elapsed().as_secs_f64(), &[KeyValue::new("step", step), outcome(&done)]);
        done
    }

    /// Measures a step of taking a login away.
    pub async fn revoking<T, E>(
        &self,
        step: RevokeStep,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let done = work.await;
        let step = match step {
            RevokeStep::Record => "record",
            RevokeStep::Target => "target",
            RevokeStep::Proof => "proof",
            RevokeStep::Total => "total",
        };
        self.revoke
            .record(began.elapsed().as_secs_f64(), &[KeyValue::new("step", step), outcome(&done)]);
        done
    }

    /// An expired login was seen to be gone, so long after its end.
    pub fn expired(&self, lag: Duration) {
        self.expiry_lag.record(lag.as_secs_f64(), &[]);
    }

    /// Logins were taken in hand.
    pub fn claimed(&self, count: usize) {
        self.claims.add(count_of(count), &[]);
    }

    /// Something was decided.
    pub fn decided(&self, ruling: Ruling) {
        self.decisions.add(1, &[rule(ruling)]);
    }

    /// A token was refused; `why` is what the audit says of it.
    pub fn token_refused(&self, why: &str) {
        let word = match why {
            "wrong secret" => "wrong_secret",
            "no such token" => "no_such_token",
            "revoked" => "revoked",
            "principal disabled" => "disabled",
            "expired" => "expired",
            "throttled" => "throttled",
            _ => "other",
        };
        self.token_refusals.add(1, &[KeyValue::new("why", word)]);
    }

    /// An address used up its failures.
    pub fn source_throttled(&self) {
        self.throttled_sources.add(1, &[]);
    }

    /// Audit entries were committed.
    pub fn audited(&self, entries: u64) {
        self.audit_written.add(entries, &[]);
    }

    /// A pass sealed so many entries.
    pub fn sealed(&self, entries: usize, took: Duration) {
        if entries > 0 {
            self.audit_seal.record(took.as_secs_f64(), &[]);
        }
    }

    /// The chain was checked.
    pub fn chain_checked(&self, intact: bool) {
        self.audit_broken.record(u64::from(!intact), &[]);
    }

    /// The scheduler woke the loops.
    pub fn nudged(&self) {
        self.nudges.add(1, &[]);
    }

    /// A loop made a pass.
    pub fn passed(&self, name: &'static str, ended: Outcome) {
        let ended = match ended {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
        };
        self.passes.add(1, &[KeyValue::new("loop", name), KeyValue::new("outcome", ended)]);
    }

    /// A request came in: it counts as under way until what is given is dropped.
    pub fn http_begun(self: &Arc<Self>) -> UnderWay {
        self.http_active.add(1, &[]);
        UnderWay(Arc::clone(self))
    }

    /// A request was answered. `route` is a pattern of ours and `method` one that HTTP defines.
    pub fn http_answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        self.http_requests.record(
            took.as_secs_f64(),
            &[
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("http.response.status_code", i64::from(status)),
            ],
        );
    }

    /// What was counted from the record.
    pub fn measured(&self, levels: &Levels) {
        let by = |gauge: &Gauge<u64>, label: &'static str, word: &'static str, value: u64| {
            gauge.record(value, &[KeyValue::new(label, word)]);
        };
        for (state, count) in &levels.leases {
            by(&self.leases, "state", state, *count);
        }
        self.overdue.record(levels.overdue, &[]);
        self.stuck.record(levels.stuck, &[]);
        self.audit_unsealed.record(levels.unsealed, &[]);
        self.audit_untold.record(levels.untold, &[]);
        by(&self.targets, "ready", "true", levels.targets_ready);
        by(&self.targets, "ready", "false", levels.targets_unready);
        self.clock_skew.record(levels.clock_skew.as_secs_f64(), &[]);
        for (gauge, (used, idle)) in [
            (&self.state_connections, levels.state_pool),
            (&self.target_connections, levels.target_pool),
        ] {
            by(gauge, "state", "used", used);
            by(gauge, "state", "idle", idle);
        }
    }
}

/// A request under way.
pub struct UnderWay(Arc<Metrics>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.http_active.add(-1, &[]);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Why tokens are refused.
const TOKEN_WORDS: [&str; 6] =
    ["wrong_secret", "no_such_token", "revoked", "disabled", "expired", "throttled"];

fn rule(ruling: Ruling) -> KeyValue {
    let word = match ruling {
        Ruling::Allowed => "allowed",
        Ruling::NoRule => "no_rule",
        Ruling::ReasonRequired => "reason_required",
    };
    KeyValue::new("rule", word)
}

fn outcome<T, E>(done: &Result<T, E>) -> KeyValue {
    KeyValue::new("outcome", if done.is_ok() { "ok" } else { "failed" })
}

fn count_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Makes instruments.
struct Named<'a>(&'a Meter);

impl Named<'_> {
    fn gauge(&self, name: &'static str, unit: &'static str, what: &'static str) -> Gauge<u64> {
        self.0.u64_gauge(name).with_unit(unit).with_description(what).build()
    }

    fn counter(&self, name: &'static str, unit: &'static str, what: &'static str) -> Counter<u64> {
        self.0.u64_counter(name).with_unit(unit).with_description(what).build()
    }

    fn seconds(&self, name: &'static str, what: &'static str, bounds: &[f64]) -> Histogram<f64> {
        let histogram = self.0.f64_histogram(name).with_unit("s").with_description(what);
        histogram.with_boundaries(bounds.to_vec()).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_are_read_by_prometheus() {
        let metrics = Metrics::start(&TelemetryConfig::default()).unwrap();
        metrics.http_answered("GET", "/v1/leases/{id}", 200, Duration::from_millis(3));
        metrics.measured(&Levels { leases: vec![("active", 2)], ..Levels::default() });
        metrics.token_refused("some text from elsewhere");
        let text = metrics.text().unwrap();
        for line in [
            "pgvalet_leases{state=\"active\"} 2",
            "pgvalet_decisions_total{rule=\"no_rule\"} 0",
            "pgvalet_token_refusals_total{why=\"other\"} 1",
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",\
             http_response_status_code=\"200\",http_route=\"/v1/leases/{id}\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.contains("pgvalet_build_info{version="), "{text}");
        assert!(!text.contains("elsewhere") && !text.contains("otel_scope"), "{text}");
    }

    #[test]
    fn a_request_is_under_way_until_it_is_dropped() {
        let metrics = Metrics::start(&TelemetryConfig::default()).unwrap();
        let one = metrics.http_begun();
        assert!(metrics.text().unwrap().contains("http_server_active_requests 1"));
        drop(one);
        assert!(metrics.text().unwrap().contains("http_server_active_requests 0"));
    }
}
