//! The instruments of what somebody has yet to look at, for [`Metrics`].

use std::time::Duration;

use opentelemetry::metrics::{Gauge, Meter};

use crate::telemetry::metrics::Metrics;

/// The instruments.
pub(in crate::telemetry) struct ReviewInstruments {
    open: Gauge<u64>,
    oldest: Gauge<u64>,
}

impl ReviewInstruments {
    /// Makes them, each with a value: none open is not the same as not counted.
    pub(in crate::telemetry) fn new(meter: &Meter) -> Self {
        let made = Self {
            open: meter
                .u64_gauge("pgvalet.emergencies.open")
                .with_unit("{emergency}")
                .with_description("Emergencies whose review nobody has closed.")
                .build(),
            oldest: meter
                .u64_gauge("pgvalet.emergencies.oldest.age")
                .with_unit("s")
                .with_description("How long ago the first of them was opened; 0 if none is open.")
                .build(),
        };
        made.open.record(0, &[]);
        made.oldest.record(0, &[]);
        made
    }
}

impl Metrics {
    /// So many reviews are open, the first of them for so long.
    pub fn reviews(&self, open: u64, oldest: Duration) {
        self.reviews.open.record(open, &[]);
        self.reviews.oldest.record(oldest.as_secs(), &[]);
    }
}
