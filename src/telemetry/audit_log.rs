//! Audit entries as they go out of the daemon: as JSON lines to a file or to standard output, and as
//! OTLP log records.
//!
//! The lines are at least once and in order: an entry counts as told only when it was written, and
//! the chain is read in order. OTLP is at best once, because a receiver that is down must not stop
//! the rest; what is complete is the lines and the audit itself.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};

use crate::{
    config::{AuditLogConfig, TelemetryConfig},
    telemetry::{Error, otlp},
};

/// Where audit entries are told.
pub struct AuditLog {
    file: Option<(PathBuf, Mutex<File>)>,
    stdout: bool,
    otlp: Option<(SdkLoggerProvider, SdkLogger)>,
}

impl AuditLog {
    /// Opens what is configured.
    ///
    /// # Errors
    /// If the file cannot be opened, or the exporter not be made.
    pub fn open(config: &AuditLogConfig, telemetry: &TelemetryConfig) -> Result<Self, Error> {
        let file = match &config.file {
            None => None,
            Some(path) => {
                let file = open(path).map_err(|e| Error::AuditFile(path.clone(), e))?;
                Some((path.clone(), Mutex::new(file)))
            }
        };
        let otlp = otlp::logger(telemetry, "audit entries")?.map(|provider| {
            let logger = provider.logger("pgvalet.audit");
            (provider, logger)
        });
        Ok(Self { file, stdout: config.stdout, otlp })
    }

    /// Is there a file to be opened anew when the system has moved it away?
    #[must_use]
    pub const fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Tells entries (each as its canonical JSON, which is one line), in order. Blocks while it writes.
    /// After an error all of them are to be told again.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn tell<'a>(&self, entries: impl Iterator<Item = &'a str> + Clone) -> io::Result<()> {
        let mut lines = String::new();
        if self.stdout || self.file.is_some() {
            for body in entries.clone() {
                lines.push_str(body);
                lines.push('\n');
            }
        }
        if let Some((_, file)) = &self.file {
            let mut file = held(file);
            file.write_all(lines.as_bytes())?;
            // It counts as told from here on, so it must outlast the machine's end.
            file.sync_data().or_else(nothing_to_sync)?;
        }
        if self.stdout {
            let mut out = io::stdout().lock();
            out.write_all(lines.as_bytes())?;
            out.flush()?;
        }
        if let Some((_, logger)) = &self.otlp {
            for body in entries {
                emit(logger, body);
            }
        }
        Ok(())
    }

    /// Opens the file anew: the system has moved the old one away. If that fails, the old one is
    /// written on.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn reopen(&self) -> Result<(), Error> {
        let Some((path, file)) = &self.file else { return Ok(()) };
        let fresh = open(path).map_err(|e| Error::AuditFile(path.clone(), e))?;
        *held(file) = fresh;
        Ok(())
    }

    /// Sends what still waits, for a bounded time.
    pub fn finish(&self) {
        if let Some((provider, _)) = &self.otlp {
            let provider = provider.clone();
            otlp::flush_within(otlp::FLUSH, move || {
                // The SDK's own limit (5 s) is longer than ours, which says that the time was up.
                let _ = provider.shutdown();
            });
        }
    }
}

/// Whoever may read the audit is decided by the folder's owner, so nobody else may by default.
fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// A file is only ever changed by whole writes, so one left by a panic is as good as any.
fn held(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pipe or a terminal has nothing to be synced.
fn nothing_to_sync(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Ok(()),
        _ => Err(error),
    }
}

fn emit(logger: &SdkLogger, body: &str) {
    let entry: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = |pointer| entry.pointer(pointer).and_then(|v: &serde_json::Value| v.as_str());
    let mut record = logger.create_log_record();
    record.set_target("pgvalet::audit");
    record.set_severity_number(Severity::Info);
    record.set_severity_text("INFO");
    if let Some(at) = text("/at").and_then(|at| at.parse::<chrono::DateTime<chrono::Utc>>().ok()) {
        record.set_timestamp(at.into());
    }
    for (name, pointer) in [
        ("audit.id", "/id"),
        ("audit.kind", "/event/kind"),
        ("lease.id", "/event/lease_id"),
        ("login.id", "/event/login_id"),
        ("request.id", "/request_id"),
    ] {
        if let Some(value) = text(pointer) {
            record.add_attribute(name, value.to_owned());
        }
    }
    record.set_body(AnyValue::from(body.to_owned()));
    logger.emit(record);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_on_in_a_new_file_once_the_old_one_was_moved() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("audit.jsonl");
        let config = AuditLogConfig { file: Some(path.clone()), stdout: false };
        let log = AuditLog::open(&config, &TelemetryConfig::default()).unwrap();
        log.tell(["{\"n\":1}", "{\"n\":2}"].into_iter()).unwrap();
        let moved = dir.path().join("audit.jsonl.1");
        std::fs::rename(&path, &moved).unwrap();
        log.tell(["{\"n\":3}"].into_iter()).unwrap();
        log.reopen().unwrap();
        log.tell(["{\"n\":4}"].into_iter()).unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&moved), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
        assert_eq!(read(&path), "{\"n\":4}\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_said() {
        let config = AuditLogConfig { file: Some("/nowhere/at/all".into()), stdout: false };
        let error = AuditLog::open(&config, &TelemetryConfig::default()).err().unwrap();
        assert_eq!(error.to_string(), "could not open the audit file /nowhere/at/all");
    }
}
