//! What Prometheus reads of the instruments.

use std::time::Duration;

use crate::{
    config::TelemetryConfig,
    telemetry::{
        labels::{Breaker, Queue},
        levels::Levels,
        metrics::Metrics,
    },
};

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

#[test]
fn what_waits_is_counted_until_its_turn() {
    let metrics = Metrics::start(&TelemetryConfig::default()).unwrap();
    let waits = [metrics.queued(Queue::Creations), metrics.queued(Queue::Creations)];
    let has = |line: &str| {
        let text = metrics.text().unwrap();
        assert!(text.contains(line), "{line} is not in\n{text}");
    };
    has("pgvalet_queue_depth{queue=\"creations\"} 2");
    has("pgvalet_queue_depth{queue=\"intents\"} 0");
    drop(waits);
    metrics.batched(Queue::Creations, 3);
    metrics.queue_was_full(Queue::Intents);
    metrics.breakers(&[(Breaker::Open, 1)]);
    metrics.nudged(2);
    has("pgvalet_queue_depth{queue=\"creations\"} 0");
    has("pgvalet_queue_wait_duration_seconds_count{queue=\"creations\"} 2");
    has("pgvalet_batch_size_sum{queue=\"creations\"} 3");
    has("pgvalet_queue_refused_total{queue=\"intents\"} 1");
    has("pgvalet_target_breakers{state=\"open\"} 1");
    has("pgvalet_scheduler_missed_total 2");
}
