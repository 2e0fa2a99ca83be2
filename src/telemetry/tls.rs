//! The instruments of TLS in front of the API, for [`Metrics`].

use chrono::{DateTime, Utc};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};

use crate::telemetry::{
    labels::{Handshake, Outcome},
    metrics::Metrics,
};

/// The instruments.
pub(in crate::telemetry) struct TlsInstruments {
    certificate_end: Gauge<u64>,
    loads: Counter<u64>,
    handshakes: Counter<u64>,
}

impl TlsInstruments {
    /// Makes them, each with a value: series that only appear with their first event hide it from a rate.
    pub(in crate::telemetry) fn new(meter: &Meter) -> Self {
        let made = Self {
            certificate_end: meter
                .u64_gauge("pgvalet.tls.certificate.expiration.timestamp")
                .with_unit("s")
                .with_description("When the certificate that is served ends, in seconds since 1970; 0 without TLS.")
                .build(),
            loads: meter
                .u64_counter("pgvalet.tls.certificate.loads")
                .with_unit("{load}")
                .with_description("Changed TLS files that were read while the daemon ran, by `outcome`: ok; failed, where what was served before is served on.")
                .build(),
            handshakes: meter
                .u64_counter("pgvalet.tls.handshakes")
                .with_unit("{handshake}")
                .with_description("Beginnings of TLS connections, by `outcome`: ok, plain (HTTP without TLS), slow, no_certificate, revoked, bad_certificate (of clients), broken.")
                .build(),
        };
        made.certificate_end.record(0, &[]);
        for outcome in [Outcome::Ok, Outcome::Failed] {
            made.loads.add(0, &[KeyValue::new("outcome", outcome.word())]);
        }
        for outcome in Handshake::ALL {
            made.handshakes.add(0, &[KeyValue::new("outcome", outcome.word())]);
        }
        made
    }
}

impl Metrics {
    /// The certificate that is served ends then.
    pub fn certificate_ends(&self, at: DateTime<Utc>) {
        self.tls.certificate_end.record(u64::try_from(at.timestamp()).unwrap_or(0), &[]);
    }

    /// Changed TLS files were read.
    pub fn certificate_loaded(&self, outcome: Outcome) {
        self.tls.loads.add(1, &[KeyValue::new("outcome", outcome.word())]);
    }

    /// A TLS connection was to begin.
    pub fn handshake(&self, outcome: Handshake) {
        self.tls.handshakes.add(1, &[KeyValue::new("outcome", outcome.word())]);
    }
}
