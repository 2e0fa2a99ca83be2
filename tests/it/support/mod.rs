//! What the tests stand on.

pub(crate) mod axe;
pub(crate) mod books;
pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod chaos;
pub(crate) mod chromium;
pub(crate) mod clients;
pub(crate) mod daemon;
pub(crate) mod hooks;
pub(crate) mod issuer;
pub(crate) mod kills;
pub(crate) mod mails;
pub(crate) mod otlp;
pub(crate) mod people;
pub(crate) mod postgres;
pub(crate) mod sessions;
pub(crate) mod shell;
pub(crate) mod versions;
pub(crate) mod webdriver;
pub(crate) mod wire;
pub(crate) mod world;

use std::time::{Duration, Instant};

/// Waits until the condition holds; stops the test if it does not within `limit`.
pub(crate) async fn eventually<F>(what: &str, limit: Duration, mut condition: F)
where
    F: AsyncFnMut() -> bool,
{
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is promised within `limit` is so in one of three tries: a machine that others share stands still for
/// a second now and then, and what is too slow by itself is so each time. `tried` says how long it took.
pub(crate) async fn in_time<F>(limit: Duration, mut tried: F)
where
    F: AsyncFnMut() -> Duration,
{
    let mut took = Vec::new();
    for _ in 0..3 {
        took.push(tried().await);
        if took.last().is_some_and(|took| *took < limit) {
            return;
        }
    }
    panic!("not within {limit:?}, three times: {took:?}");
}

/// Whole seconds, for limits.
pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An instant of an answer.
pub(crate) fn instant(value: &serde_json::Value) -> chrono::DateTime<chrono::Utc> {
    value.as_str().and_then(|text| text.parse().ok()).expect("an instant")
}

/// How long after its own end a lease was over.
pub(crate) fn late(lease: &serde_json::Value) -> Duration {
    let late = instant(&lease["ended_at"]) - instant(&lease["expires_at"]);
    late.to_std().unwrap_or_else(|_| panic!("over before its time: {lease}"))
}

/// Milliseconds from one instant of an answer to another.
pub(crate) fn milliseconds(from: &serde_json::Value, to: &serde_json::Value) -> i64 {
    (instant(to) - instant(from)).num_milliseconds()
}
