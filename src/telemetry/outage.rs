//! Says when the OTLP receiver takes no more, and when it does again: once each, for each signal.
//!
//! The SDK says an error at each interval for as long as a receiver is away, which buries everything
//! else, and wakes whoever is called for errors; but the daemon works as well without a receiver.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter as ExportLogs},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter as ExportSpans},
};

/// An exporter whose failures are told in our way.
#[derive(Debug)]
pub(crate) struct Watched<E> {
    exporter: E,
    /// What it sends: "traces", "metrics", "logs", "audit entries".
    what: &'static str,
    is_away: AtomicBool,
}

impl<E> Watched<E> {
    pub(crate) const fn new(exporter: E, what: &'static str) -> Self {
        Self { exporter, what, is_away: AtomicBool::new(false) }
    }

    /// A failure ends here: the SDK would do nothing about it but log it.
    fn told(&self, sent: OTelSdkResult) -> OTelSdkResult {
        let was_away = self.is_away.swap(sent.is_err(), Ordering::Relaxed);
        let what = self.what;
        match sent {
            Err(error) if !was_away => {
                tracing::warn!(error = %error, "the OTLP receiver takes no {what}: they are lost until it does");
            }
            Ok(()) if was_away => tracing::warn!("the OTLP receiver takes {what} again"),
            _ => {}
        }
        Ok(())
    }
}

impl ExportSpans for Watched<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.told(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl ExportLogs for Watched<LogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.told(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl PushMetricExporter for Watched<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.told(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
