//! The instruments of notices, for [`Metrics`].

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};

use crate::telemetry::{labels::Delivery, metrics::Metrics};

/// The instruments.
pub(in crate::telemetry) struct NoticeInstruments {
    sent: Counter<u64>,
    waiting: Gauge<u64>,
    dead: Gauge<u64>,
    oldest: Gauge<f64>,
}

/// The kinds of channels.
const CHANNELS: [&str; 3] = ["webhook", "mail", "slack"];

impl NoticeInstruments {
    /// Makes them, each with a value: series that only appear with their first event hide it from a rate.
    pub(in crate::telemetry) fn new(meter: &Meter) -> Self {
        let gauge =
            |name, what| meter.u64_gauge(name).with_unit("{notice}").with_description(what).build();
        let made = Self {
            sent: meter
                .u64_counter("pgvalet.notices.sent")
                .with_unit("{notice}")
                .with_description("Notices that were sent, by `channel` (webhook, mail, slack) and `outcome`: told; failed, and sent again; dead, and given up.")
                .build(),
            waiting: gauge("pgvalet.notices.waiting", "Notices that were not told yet."),
            dead: gauge("pgvalet.notices.dead", "Notices that were given up, and not sent again by hand."),
            oldest: meter
                .f64_gauge("pgvalet.notices.oldest.age")
                .with_unit("s")
                .with_description("How long the oldest notice waits that was not told yet.")
                .build(),
        };
        for channel in CHANNELS {
            for outcome in Delivery::ALL {
                made.sent.add(0, &labels(channel, outcome));
            }
        }
        made.waiting.record(0, &[]);
        made.dead.record(0, &[]);
        made.oldest.record(0.0, &[]);
        made
    }
}

fn labels(channel: &'static str, outcome: Delivery) -> [KeyValue; 2] {
    [KeyValue::new("channel", channel), KeyValue::new("outcome", outcome.word())]
}

impl Metrics {
    /// A notice was sent to a kind of channel.
    pub fn notice_sent(&self, channel: &'static str, outcome: Delivery) {
        self.notices.sent.add(1, &labels(channel, outcome));
    }

    /// So many wait, the oldest so long, and so many were given up.
    pub fn notices(&self, waiting: u64, oldest: Duration, dead: u64) {
        self.notices.waiting.record(waiting, &[]);
        self.notices.oldest.record(oldest.as_secs_f64(), &[]);
        self.notices.dead.record(dead, &[]);
    }
}
