//! Which lines are written, and in which form.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{MakeWriter, format::JsonFields},
    layer::SubscriberExt,
    registry,
};

use crate::{
    config::{LogConfig, LogFormat},
    telemetry::{Error, Telemetry, json::JsonLines, trace},
};

/// Libraries that say little of use below a warning. At `trace`, hyper and rustls alone would bury
/// everything of ours. Naming one in the filter lifts this.
const QUIET: &[&str] = &[
    "argon2",
    "croner",
    "governor",
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "opentelemetry",
    "opentelemetry-otlp",
    "opentelemetry_sdk",
    "reqwest",
    "rustls",
    "rustls_platform_verifier",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "tokio_cron_scheduler",
    "tokio_util",
    "tower",
    "tower_http",
];

/// Never written, whatever the filter says (targets, by their parts): statements with what they carry, and parameters of a
/// connection address that may be a misspelt `password`.
const NEVER: &[&[&str]] =
    &[&["sqlx", "query"], &["sqlx_postgres", "options"], &["sqlx_core", "config"]];

/// Written at warnings and above only: a notice or a trace of the protocol may repeat a statement.
const WARNINGS_ONLY: &[&[&str]] =
    &[&["sqlx", "postgres", "notice"], &["sqlx_core"], &["sqlx_postgres"]];

/// The target of the lines that tell audit entries.
const AUDIT_EVENT: &str = "pgvalet::event";

/// What receives every event and writes it to `writer`.
pub(crate) fn subscriber<W>(
    config: &LogConfig,
    is_terminal: bool,
    writer: W,
    telemetry: &Telemetry,
) -> Result<Box<dyn Subscriber + Send + Sync>, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = match (config.format, is_terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines)
            .with_writer(writer)
            .boxed(),
        (LogFormat::Text, ansi) | (LogFormat::Auto, ansi @ true) => {
            tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(writer).boxed()
        }
    };
    let lines = lines.with_filter(filter_fn(|of| of.target() != trace::TARGET));
    let lines = lines.with_filter(filter(&config.filter)?);
    let layers = registry().with(filter_fn(may_be_logged)).with(lines);
    let spans = telemetry.tracer.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("pgvalet"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(filter_fn(|of| of.is_span() && of.target() == trace::TARGET))
    });
    let records = match &telemetry.logger {
        None => None,
        Some(provider) => Some(
            OpenTelemetryTracingBridge::new(provider)
                .with_filter(filter_fn(may_be_sent))
                .with_filter(filter(&config.filter)?),
        ),
    };
    Ok(Box::new(layers.with(spans).with(records)))
}

/// The lines that go out by OTLP too: ours. What the exporter and the HTTP client under it say of a
/// failed export would be sent by the next one, for ever; and audit entries are sent as such.
fn may_be_sent(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target == "pgvalet" || target.starts_with("pgvalet::");
    ours && metadata.is_event() && target != AUDIT_EVENT
}

/// Writes a panic as an event, in the form of all other lines, with its place.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let said = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, "panicked: {said}");
    }));
}

fn filter(directives: &str) -> Result<EnvFilter, Error> {
    let named: Vec<_> = directives.split(',').map(target_of).collect();
    let quiet = QUIET.iter().filter(|library| !named.contains(library));
    let mut all = directives.to_owned();
    for library in quiet {
        all.push_str(&format!(",{library}=warn"));
    }
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::ERROR.into());
    builder.parse(all).map_err(Error::Filter)
}

/// The library of a directive such as `hyper::proto[span]=debug`.
fn target_of(directive: &str) -> &str {
    let end = directive.find([':', '=', '[']).unwrap_or(directive.len());
    directive.get(..end).unwrap_or(directive).trim()
}

fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let is_of = |paths: &[&[&str]]| {
        paths
            .iter()
            .any(|path| metadata.target().split("::").take(path.len()).eq(path.iter().copied()))
    };
    let warns = *metadata.level() <= tracing::Level::WARN;
    !is_of(NEVER) && (warns || !is_of(WARNINGS_ONLY))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `work` runs.
    fn written(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let (lines, config) = (Lines::default(), LogConfig { format, filter: filter.to_owned() });
        let writer = lines.clone();
        let silent = Telemetry { tracer: None, logger: None };
        let subscriber = subscriber(&config, false, move || writer.clone(), &silent).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    /// The target of what sqlx runs.
    const QUERY: &str = concat!("sqlx", "::query");
    const NOTICE: &str = concat!("sqlx", "::postgres::notice");

    #[expect(clippy::cognitive_complexity, reason = "each event counts as several branches")]
    fn statements() {
        tracing::error!(target: QUERY, "hunter2");
        tracing::debug!(target: QUERY, "hunter2");
        tracing::debug!(target: NOTICE, "hunter2");
        tracing::trace!(target: "sqlx_postgres::connection::resolve", "hunter2");
        tracing::warn!(target: "sqlx_postgres::options::parse", "hunter2");
        tracing::warn!(target: NOTICE, "seen");
    }

    #[test]
    fn statements_are_never_logged() {
        let named = format!("{QUERY}=trace,sqlx_postgres=trace,trace");
        for filter in ["trace", "sqlx=trace", &named] {
            let text = written(LogFormat::Json, filter, statements);
            assert!(!text.contains("hunter2"), "{filter}: {text}");
            assert!(text.contains("seen"), "{filter}: {text}");
        }
    }

    #[test]
    fn libraries_are_quiet_until_they_are_named() {
        let work = || {
            tracing::debug!(target: "hyper::proto", "library");
            tracing::debug!(target: "pgvalet::app", "ours");
        };
        let text = written(LogFormat::Text, "trace", work);
        assert!(text.contains("ours") && !text.contains("library"), "{text}");
        assert!(written(LogFormat::Text, "info,hyper=debug", work).contains("library"));
        assert_eq!(written(LogFormat::Text, "info", work), "");
    }

    #[test]
    fn fields_of_spans_stand_beside_those_of_the_event() {
        let text = written(LogFormat::Auto, "info", || {
            let outer = tracing::info_span!("request", request.id = "r1", status = 1);
            let _outer = outer.enter();
            let inner = tracing::info_span!("issue", lease.id = tracing::field::Empty);
            inner.record("lease.id", "l1");
            let _inner = inner.enter();
            tracing::info!(status = 2, duration_ms = 5_u64, done = true, "issued a lease");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rest: Vec<_> = line.as_object().unwrap().iter().skip(1).collect();
        let expected = serde_json::json!({
            "level": "INFO", "target": "pgvalet::telemetry::logs::tests",
            "message": "issued a lease", "status": 2, "duration_ms": 5, "done": true,
            "lease.id": "l1", "request.id": "r1", "span": "issue",
        });
        assert_eq!(rest, expected.as_object().unwrap().iter().collect::<Vec<_>>());
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        let error = Error::Filter(EnvFilter::builder().parse("a=b=c").unwrap_err());
        let text = written(LogFormat::Json, "info", || {
            tracing::error!(error = &error as &dyn std::error::Error, "stopped");
        });
        assert!(text.contains(r#""error":"read log filter: "#), "{text}");
    }

    #[test]
    fn text_has_no_colours_off_a_terminal() {
        let text = written(LogFormat::Text, "info", || tracing::info!(count = 1, "seen"));
        assert!(text.contains("seen count=1") && !text.contains('\u{1b}'), "{text}");
    }
}
