//! Sends traces, metrics and logs by OTLP over HTTP, where a receiver is configured.
//!
//! The SDK's batch processors run on threads of their own and are fed through bounded queues: what
//! does not fit is dropped and counted there. So a receiver that hangs or is down costs memory up to
//! the bound, and nothing else; no request ever waits for it. The blocking HTTP client is meant: the
//! asynchronous one panics on those threads, which have no runtime.

use std::{sync::mpsc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    logs::{self, BatchLogProcessor, SdkLoggerProvider},
    metrics::PeriodicReader,
    trace::{self, BatchSpanProcessor, SdkTracerProvider},
};

use crate::{
    config::{OtlpTarget, TelemetryConfig},
    telemetry::{Error, outage::Watched},
};

/// Spans or log records that wait to be sent; a few megabytes at most.
const QUEUE: usize = 4096;

/// Records in one message.
const BATCH: usize = 512;

/// How long a record waits for others. Short enough that what led up to a crash is mostly sent.
const DELAY: Duration = Duration::from_secs(1);

/// How long the end of the daemon may be put off for one kind of signal. What belongs to the daemon
/// and what belongs to the process are flushed one after the other, so the end waits three times this at most.
pub(crate) const FLUSH: Duration = Duration::from_millis(1500);

pub(crate) fn tracer(config: &TelemetryConfig) -> Result<Option<SdkTracerProvider>, Error> {
    let Some(target) = &config.traces else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&target.url)
        .with_timeout(target.timeout)
        .with_headers(headers(target))
        .build()
        .map_err(failed)?;
    let batches = trace::BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let exporter = Watched::new(exporter, "traces");
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(resource(config))
        .build();
    Ok(Some(provider))
}

/// Sends log records: `what` they are, as it is said when the receiver takes none.
pub(crate) fn logger(
    config: &TelemetryConfig,
    what: &'static str,
) -> Result<Option<SdkLoggerProvider>, Error> {
    let Some(target) = &config.logs else { return Ok(None) };
    let exporter = LogExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&target.url)
        .with_timeout(target.timeout)
        .with_headers(headers(target))
        .build()
        .map_err(failed)?;
    let batches = logs::BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let exporter = Watched::new(exporter, what);
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(batches).build();
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(processor)
        .with_resource(resource(config))
        .build();
    Ok(Some(provider))
}

pub(crate) fn metric_reader(
    config: &TelemetryConfig,
) -> Result<Option<PeriodicReader<Watched<MetricExporter>>>, Error> {
    let Some(target) = &config.metrics else { return Ok(None) };
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&target.url)
        .with_timeout(target.timeout)
        .with_headers(headers(target))
        .build()
        .map_err(failed)?;
    let exporter = Watched::new(exporter, "metrics");
    Ok(Some(PeriodicReader::builder(exporter).with_interval(config.metric_interval).build()))
}

/// What all signals say of where they come from.
pub(crate) fn resource(config: &TelemetryConfig) -> Resource {
    let given = config.resource.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
    Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(given)
        .build()
}

/// Runs `work`, which may hang, on a thread of its own, and waits for it as long as the end may be
/// put off.
pub(crate) fn flush_within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::Builder::new().name("flush telemetry".to_owned());
    let started = thread.spawn(move || {
        work();
        // Nobody waits any more if the time was up.
        let _ = done.send(());
    });
    let in_time = started.is_ok() && ended.recv_timeout(limit).is_ok();
    if !in_time {
        tracing::warn!("the OTLP receiver did not take the last traces, metrics or logs in time");
    }
}

fn headers(target: &OtlpTarget) -> std::collections::HashMap<String, String> {
    let pairs = target.headers.iter();
    pairs.map(|(name, value)| (name.clone(), value.expose().clone())).collect()
}

fn failed(error: ExporterBuildError) -> Error {
    Error::Otlp(Box::new(error))
}
