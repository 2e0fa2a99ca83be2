//! The instruments of what waits for persons, for [`Metrics`]: requests, emergencies, access reviews.

use std::time::Duration;

use opentelemetry::metrics::{Gauge, Meter};

use crate::telemetry::metrics::Metrics;

/// The instruments.
pub(in crate::telemetry) struct WaitingInstruments {
    requests: Gauge<u64>,
    oldest_request: Gauge<u64>,
    emergencies: Gauge<u64>,
    oldest_emergency: Gauge<u64>,
    reviews: Gauge<u64>,
    overdue_reviews: Gauge<u64>,
}

impl WaitingInstruments {
    /// Makes them, each with a value: none that waits is not the same as not counted.
    pub(in crate::telemetry) fn new(meter: &Meter) -> Self {
        let gauge = |name: &'static str, unit: &'static str, what: &'static str| {
            let gauge = meter.u64_gauge(name).with_unit(unit).with_description(what).build();
            gauge.record(0, &[]);
            gauge
        };
        Self {
            requests: gauge(
                "pgvalet.requests.waiting",
                "{request}",
                "Requests that wait for others to agree.",
            ),
            oldest_request: gauge(
                "pgvalet.requests.oldest.age",
                "s",
                "How long the oldest of them waits; 0 if none does.",
            ),
            emergencies: gauge(
                "pgvalet.emergencies.open",
                "{emergency}",
                "Emergencies whose review nobody has closed.",
            ),
            oldest_emergency: gauge(
                "pgvalet.emergencies.oldest.age",
                "s",
                "How long ago the first of them was opened; 0 if none is open.",
            ),
            reviews: gauge(
                "pgvalet.reviews.open",
                "{review}",
                "Access reviews that were not signed off.",
            ),
            overdue_reviews: gauge(
                "pgvalet.reviews.overdue",
                "{review}",
                "Access reviews whose time is over, and which were not signed off.",
            ),
        }
    }
}

impl Metrics {
    /// So many requests wait, the oldest of them for so long.
    pub fn requests_waiting(&self, waiting: u64, oldest: Duration) {
        self.for_persons.requests.record(waiting, &[]);
        self.for_persons.oldest_request.record(oldest.as_secs(), &[]);
    }

    /// So many emergencies are to be looked at, the first of them for so long.
    pub fn emergencies_open(&self, open: u64, oldest: Duration) {
        self.for_persons.emergencies.record(open, &[]);
        self.for_persons.oldest_emergency.record(oldest.as_secs(), &[]);
    }

    /// So many access reviews are open, and of so many the time is over.
    pub fn reviews_open(&self, open: u64, overdue: u64) {
        self.for_persons.reviews.record(open, &[]);
        self.for_persons.overdue_reviews.record(overdue, &[]);
    }
}
