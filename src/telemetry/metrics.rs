//! Every instrument, named once: what it counts, in which unit, with which labels.
//!
//! Labels are bounded: each is a word of [`labels`](crate::telemetry::labels), a route's pattern or a status. No
//! ids, no names of people, tools, profiles or targets: those belong into traces, logs and the
//! audit, and would here make a series for whatever a caller thinks of. The same instruments are
//! read by Prometheus at `/metrics` and, if configured, sent by OTLP; units are UCUM, and the
//! Prometheus names are made from these by its own rules (`.` to `_`, `_seconds`, `_total`).

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider, UpDownCounter},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tokio::time::Instant;

use crate::{
    config::TelemetryConfig,
    telemetry::{
        Error,
        labels::{
            Breaker, IssueStep, Outcome, Queue, RenewStep, RevokeStep, RotateStep, Ruling,
            SWEEP_KINDS, TOKEN_WORDS, token_word,
        },
        levels::Levels,
        notices::NoticeInstruments,
        otlp,
        tls::TlsInstruments,
        waiting::WaitingInstruments,
    },
};

/// Seconds. PostgreSQL's own part of an issue is a few milliseconds; deadlines are at 10 s.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds after its end at which a login was gone: from "at once" to "somebody was woken".
const LAG: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// How many shared one transaction: from "alone" to the largest batch.
const SIZES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// The instruments.
pub struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
    leases: Gauge<u64>,
    issue: Histogram<f64>,
    renew: Histogram<f64>,
    rotate: Histogram<f64>,
    revoke: Histogram<f64>,
    expiry_lag: Histogram<f64>,
    overdue: Gauge<u64>,
    stuck: Gauge<u64>,
    rotations_overdue: Gauge<u64>,
    drifted: Gauge<u64>,
    claims: Counter<u64>,
    decisions: Counter<u64>,
    break_glass: Counter<u64>,
    token_refusals: Counter<u64>,
    throttled_sources: Counter<u64>,
    audit_written: Counter<u64>,
    audit_unsealed: Gauge<u64>,
    audit_untold: Gauge<u64>,
    audit_seal: Histogram<f64>,
    audit_broken: Gauge<u64>,
    queue_depth: UpDownCounter<i64>,
    /// The same, in the order of [`Queue::ALL`], to be read by the daemon itself.
    waiting: [AtomicU64; Queue::ALL.len()],
    queue_wait: Histogram<f64>,
    queue_refused: Counter<u64>,
    batch_size: Histogram<f64>,
    targets: Gauge<u64>,
    breakers: Gauge<u64>,
    clock_skew: Gauge<f64>,
    state_connections: Gauge<u64>,
    target_connections: Gauge<u64>,
    cautious: Gauge<u64>,
    orphans: Gauge<u64>,
    sweep_findings: Counter<u64>,
    nudges: Counter<u64>,
    missed_nudges: Counter<u64>,
    passes: Counter<u64>,
    http_requests: Histogram<f64>,
    http_active: UpDownCounter<i64>,
    pub(in crate::telemetry) tls: TlsInstruments,
    pub(in crate::telemetry) notices: NoticeInstruments,
    pub(in crate::telemetry) for_persons: WaitingInstruments,
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
            renew: named.seconds("pgvalet.lease.renew.duration", "How long moving a lease's end takes, by `step` (record, target, total) and `outcome` (ok, failed).", &SECONDS),
            rotate: named.seconds("pgvalet.lease.rotate.duration", "How long giving a lease a fresh login takes, by `step` (intent, target, activate, total) and `outcome` (ok, failed).", &SECONDS),
            revoke: named.seconds("pgvalet.login.revoke.duration", "How long taking a login away takes, by `step` (record, target, proof, total) and `outcome` (ok, failed).", &SECONDS),
            expiry_lag: named.seconds("pgvalet.login.expiry.lag", "How long after its end an expired login was seen to be gone.", &LAG),
            overdue: named.gauge("pgvalet.logins.overdue", "{login}", "Logins that should be gone for over 30 s and are not."),
            stuck: named.gauge("pgvalet.logins.stuck", "{login}", "Logins whose removal was tried in vain; it is tried again."),
            rotations_overdue: named.gauge("pgvalet.rotations.overdue", "{rotation}", "What should have been rotated by now and was not, by `what`: standing_role, admin."),
            drifted: named.gauge("pgvalet.drift.profiles", "{profile}", "Profiles whose target was last seen to differ from them."),
            claims: named.counter("pgvalet.login.claims", "{login}", "Logins that this daemon took in hand because they were due."),
            decisions: named.counter("pgvalet.decisions", "{decision}", "Decisions on asked-for leases, by `rule`: allowed, no_rule, reason_required, claim_missing."),
            break_glass: named.counter("pgvalet.break_glass.leases", "{lease}", "Leases issued under profiles for emergencies (preset break-glass)."),
            token_refusals: named.counter("pgvalet.token.refusals", "{refusal}", "Tokens and client certificates refused, by `why`: wrong_secret, no_such_token, revoked, disabled, expired, throttled, unknown_certificate, several_names, bad_certificate."),
            throttled_sources: named.counter("pgvalet.throttled.sources", "{source}", "Times that an address used up its failed sign-ins of a minute."),
            audit_written: named.counter("pgvalet.audit.entries", "{entry}", "Audit entries written."),
            audit_unsealed: named.gauge("pgvalet.audit.unsealed", "{entry}", "Audit entries that should be sealed by now (5 s) and are not."),
            audit_untold: named.gauge("pgvalet.audit.untold", "{entry}", "Audit entries that wait to be told to the audit log and others."),
            audit_seal: named.seconds("pgvalet.audit.seal.duration", "How long a pass of sealing takes that sealed something.", &SECONDS),
            audit_broken: named.gauge("pgvalet.audit.chain.broken", "{chain}", "1 if the last check of the audit chain by this daemon found a fault, else 0."),
            queue_depth: meter.i64_up_down_counter("pgvalet.queue.depth").with_unit("{item}").with_description("What waits for a turn, by `queue`: creations, intents, activations, removals.").build(),
            waiting: Default::default(),
            queue_wait: named.seconds("pgvalet.queue.wait.duration", "How long it waited, by `queue`.", &SECONDS),
            queue_refused: named.counter("pgvalet.queue.refused", "{item}", "What was turned away because the queue was full, by `queue`."),
            batch_size: meter.f64_histogram("pgvalet.batch.size").with_unit("{item}").with_description("How many shared one transaction, by `queue`.").with_boundaries(SIZES.to_vec()).build(),
            targets: named.gauge("pgvalet.targets", "{target}", "Targets, by `ready`: true, false."),
            breakers: named.gauge("pgvalet.target.breakers", "{target}", "Targets, by the `state` of their breaker: closed, open, half_open."),
            clock_skew: meter.f64_gauge("pgvalet.target.clock.skew").with_unit("s").with_description("The furthest that the clock of a target is from ours.").build(),
            state_connections: named.gauge("pgvalet.state.connections", "{connection}", "Connections to the state database, by `state`: used, idle."),
            target_connections: named.gauge("pgvalet.target.connections", "{connection}", "Connections to all targets, by `state`: used, idle."),
            cautious: named.gauge("pgvalet.cautious", "{caution}", "1 while nothing is removed because the record or the clock is not believed, else 0."),
            orphans: named.gauge("pgvalet.sweep.orphans", "{login}", "Logins of this installation that no lease is known of and that are not gone yet."),
            sweep_findings: named.counter("pgvalet.sweep.findings", "{finding}", "What sweeps found and dealt with, by `kind`: orphan, left-over, lost, changed, shut-out, sessions, foreign, unmarked."),
            nudges: named.counter("pgvalet.scheduler.nudges", "{nudge}", "Times that the scheduler woke the loops."),
            missed_nudges: named.counter("pgvalet.scheduler.missed", "{nudge}", "Times that the scheduler should have woken the loops and did not."),
            passes: named.counter("pgvalet.loop.passes", "{pass}", "Passes of the loops, by `loop` and `outcome` (ok, failed)."),
            http_requests: named.seconds("http.server.request.duration", "How long HTTP requests take until the answer begins, by route pattern, method and status.", &SECONDS),
            http_active: meter.i64_up_down_counter("http.server.active_requests").with_unit("{request}").with_description("HTTP requests under way.").build(),
            tls: TlsInstruments::new(&meter),
            notices: NoticeInstruments::new(&meter),
            for_persons: WaitingInstruments::new(&meter),
            provider: provider.clone(),
            registry,
        };
        made.begin_at_zero();
        made
    }

    /// A series that only appears with its first event cannot be told from one that is missing, and
    /// hides that first event from a rate.
    fn begin_at_zero(&self) {
        for ruling in Ruling::ALL {
            self.decisions.add(0, &[KeyValue::new("rule", ruling.word())]);
        }
        for queue in Queue::ALL {
            self.queue_depth.add(0, &[of_queue(queue)]);
            self.queue_refused.add(0, &[of_queue(queue)]);
        }
        for why in TOKEN_WORDS {
            self.token_refusals.add(0, &[KeyValue::new("why", why)]);
        }
        let plain = [&self.claims, &self.break_glass, &self.throttled_sources, &self.audit_written];
        for counter in plain.into_iter().chain([&self.nudges, &self.missed_nudges]) {
            counter.add(0, &[]);
        }
        self.audit_broken.record(0, &[]);
        self.cautious.record(0, &[]);
        self.orphans.record(0, &[]);
        for kind in SWEEP_KINDS {
            self.sweep_findings.add(0, &[KeyValue::new("kind", kind)]);
        }
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
    pub fn issuing<T, E>(
        &self,
        step: IssueStep,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        timed(&self.issue, step.word(), work)
    }

    /// Measures a step of moving a lease's end.
    pub fn renewing<T, E>(
        &self,
        step: RenewStep,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        timed(&self.renew, step.word(), work)
    }

    /// Measures a step of giving a lease a fresh login.
    pub fn rotating<T, E>(
        &self,
        step: RotateStep,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        timed(&self.rotate, step.word(), work)
    }

    /// Measures a step of taking a login away.
    pub fn revoking<T, E>(
        &self,
        step: RevokeStep,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        timed(&self.revoke, step.word(), work)
    }

    /// Something waits for its turn: until what is given is dropped, whatever comes of it.
    #[must_use = "it waits until this is dropped"]
    pub fn queued(self: &Arc<Self>, queue: Queue) -> Queued {
        self.queue_depth.add(1, &[of_queue(queue)]);
        if let Some(waiting) = self.waiting.get(queue as usize) {
            waiting.fetch_add(1, Ordering::Relaxed);
        }
        Queued { metrics: Arc::clone(self), queue, since: Instant::now() }
    }

    /// How many wait now, by queue.
    pub fn waiting(&self) -> Vec<(&'static str, u64)> {
        let counts = Queue::ALL.iter().zip(&self.waiting);
        counts.map(|(queue, count)| (queue.word(), count.load(Ordering::Relaxed))).collect()
    }

    /// A queue was full.
    pub fn queue_was_full(&self, queue: Queue) {
        self.queue_refused.add(1, &[of_queue(queue)]);
    }

    /// So many shared one transaction.
    pub fn batched(&self, queue: Queue, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.batch_size.record(f64::from(count), &[of_queue(queue)]);
    }

    /// How many targets have a breaker in each state.
    pub fn breakers(&self, by_state: &[(Breaker, u64)]) {
        for (state, count) in by_state {
            self.breakers.record(*count, &[KeyValue::new("state", state.word())]);
        }
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
        self.decisions.add(1, &[KeyValue::new("rule", ruling.word())]);
    }

    /// A token was refused; `why` is what the audit says of it.
    pub fn token_refused(&self, why: &str) {
        self.token_refusals.add(1, &[KeyValue::new("why", token_word(why))]);
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

    /// Is the daemon cautious?
    pub fn cautious(&self, is_cautious: bool) {
        self.cautious.record(u64::from(is_cautious), &[]);
    }

    /// So many orphans are not gone yet.
    pub fn orphans(&self, count: u64) {
        self.orphans.record(count, &[]);
    }

    /// A lease was issued under a profile for emergencies.
    pub fn glass_broken(&self) {
        self.break_glass.add(1, &[]);
    }

    /// A sweep dealt with a finding; `kind` is one of a few words.
    pub fn swept(&self, kind: &'static str) {
        self.sweep_findings.add(1, &[KeyValue::new("kind", kind)]);
    }

    /// The scheduler woke the loops, and so many times before it should have and did not.
    pub fn nudged(&self, missed: u64) {
        self.nudges.add(1, &[]);
        self.missed_nudges.add(missed, &[]);
    }

    /// A loop made a pass.
    pub fn passed(&self, name: &'static str, ended: Outcome) {
        let ended = KeyValue::new("outcome", ended.word());
        self.passes.add(1, &[KeyValue::new("loop", name), ended]);
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
        by(&self.rotations_overdue, "what", "standing_role", levels.standing_roles_overdue);
        by(&self.rotations_overdue, "what", "admin", levels.admins_overdue);
        self.drifted.record(levels.drifted, &[]);
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

/// Something that waits for its turn.
#[derive(Debug)]
pub struct Queued {
    metrics: Arc<Metrics>,
    queue: Queue,
    since: Instant,
}

impl Drop for Queued {
    fn drop(&mut self) {
        let queue = [of_queue(self.queue)];
        self.metrics.queue_depth.add(-1, &queue);
        if let Some(waiting) = self.metrics.waiting.get(self.queue as usize) {
            waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.queue_wait.record(self.since.elapsed().as_secs_f64(), &queue);
    }
}

async fn timed<T, E>(
    histogram: &Histogram<f64>,
    step: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let began = Instant::now();
    let done = work.await;
    let outcome = KeyValue::new("outcome", Outcome::of(&done).word());
    histogram.record(began.elapsed().as_secs_f64(), &[KeyValue::new("step", step), outcome]);
    done
}

fn of_queue(queue: Queue) -> KeyValue {
    KeyValue::new("queue", queue.word())
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
