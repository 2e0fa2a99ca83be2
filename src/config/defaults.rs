//! What holds where nothing is written.

use std::num::NonZeroU32;

use crate::config::{
    DriftConfig, HttpConfig, LeaseConfig, LogConfig, LogFormat, SweepConfig, ThrottleConfig,
    TokensConfig,
    load::{HOUR, SECOND},
};

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self {
            rotation_grace: 30 * SECOND,
            issue_deadline: 10 * SECOND,
            max_live_per_caller: None,
            nudge: "*/10 * * * * *".to_owned(),
        }
    }
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self { schedule: "0 30 * * * *".to_owned() }
    }
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self { schedule: "0 */10 * * * *".to_owned(), orphan_grace: 24 * HOUR }
    }
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self { failures_per_minute: NonZeroU32::MIN.saturating_add(19) }
    }
}

impl Default for TokensConfig {
    fn default() -> Self {
        Self { max_ttl: 365 * 24 * HOUR }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            request_timeout: 30 * SECOND,
            max_body_bytes: 256 * 1024,
            shutdown_deadline: 25 * SECOND,
        }
    }
}
