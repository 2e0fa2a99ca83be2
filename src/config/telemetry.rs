//! Where telemetry goes: the settings of `[metrics]` and `[audit_log]`, and OpenTelemetry's own
//! environment variables.
//!
//! OTLP is off unless an endpoint is given, other than OpenTelemetry's standard has it: a daemon that
//! holds passwords does not begin to send to whoever listens on port 4318. What we do not do (gRPC,
//! compression, certificates of its own) stops the start where it is asked for, because telemetry
//! that is silently not sent is missed only on the day when it is needed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{config::environment::Environment, document::Table, secret::Secret};

/// Where traces, metrics and logs go.
#[derive(Debug)]
pub struct TelemetryConfig {
    /// Where spans are sent.
    pub traces: Option<OtlpTarget>,
    /// Where metrics are sent.
    pub metrics: Option<OtlpTarget>,
    /// Where log lines and audit entries are sent.
    pub logs: Option<OtlpTarget>,
    /// How often metrics are sent.
    pub metric_interval: Duration,
    /// What this daemon calls itself.
    pub service_name: String,
    /// What else is said of it.
    pub resource: Vec<(String, String)>,
    /// Where `/metrics` is served; none means on the API's own address.
    pub metrics_listen: Option<SocketAddr>,
}

/// Where one signal is sent by OTLP over HTTP.
#[derive(Debug)]
pub struct OtlpTarget {
    /// The whole address.
    pub url: String,
    /// Headers to send along; their values are often tokens.
    pub headers: Vec<(String, Secret<String>)>,
    /// How long one try may take.
    pub timeout: Duration,
}

/// Where audit entries are written as JSON lines, beside the state database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditLogConfig {
    /// To this file, which is opened anew on SIGHUP.
    pub file: Option<PathBuf>,
    /// To standard output.
    pub stdout: bool,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            traces: None,
            metrics: None,
            logs: None,
            metric_interval: Duration::from_secs(60),
            service_name: SERVICE.to_owned(),
            resource: Vec::new(),
            metrics_listen: None,
        }
    }
}

/// What we are called if nobody says otherwise.
const SERVICE: &str = "pgvalet";

/// OpenTelemetry's default for one try.
const TIMEOUT: Duration = Duration::from_secs(10);

const WRITE_ENDPOINT: &str = "an http or https address, such as \"http://127.0.0.1:4318\"";
const WRITE_MILLISECONDS: &str = "a number of milliseconds from 1 to 3600000";

/// The variables of a signal, and the path that OTLP has for it.
struct Signal {
    name: &'static str,
    path: &'static str,
    exporter: &'static str,
    endpoint: &'static str,
    headers: &'static str,
    timeout: &'static str,
    protocol: &'static str,
    unsupported: [&'static str; 4],
}

macro_rules! signal {
    ($name:literal, $upper:literal) => {
        Signal {
            name: $name,
            path: concat!("/v1/", $name),
            exporter: concat!("OTEL_", $upper, "_EXPORTER"),
            endpoint: concat!("OTEL_EXPORTER_OTLP_", $upper, "_ENDPOINT"),
            headers: concat!("OTEL_EXPORTER_OTLP_", $upper, "_HEADERS"),
            timeout: concat!("OTEL_EXPORTER_OTLP_", $upper, "_TIMEOUT"),
            protocol: concat!("OTEL_EXPORTER_OTLP_", $upper, "_PROTOCOL"),
            unsupported: [
                concat!("OTEL_EXPORTER_OTLP_", $upper, "_COMPRESSION"),
                concat!("OTEL_EXPORTER_OTLP_", $upper, "_CERTIFICATE"),
                concat!("OTEL_EXPORTER_OTLP_", $upper, "_CLIENT_CERTIFICATE"),
                concat!("OTEL_EXPORTER_OTLP_", $upper, "_CLIENT_KEY"),
            ],
        }
    };
}

const TRACES: Signal = signal!("traces", "TRACES");
const METRICS: Signal = signal!("metrics", "METRICS");
const LOGS: Signal = signal!("logs", "LOGS");

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TIME: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const UNSUPPORTED: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
];

/// Reads `[audit_log]`.
pub(crate) fn read_audit_log(table: &mut Table, folder: &std::path::Path) -> AuditLogConfig {
    AuditLogConfig {
        file: table.optional_string("file").map(|file| folder.join(file)),
        stdout: table.boolean("stdout").unwrap_or(false),
    }
}

/// Reads OpenTelemetry's variables.
pub(crate) fn from_environment(environment: &mut Environment) -> TelemetryConfig {
    let mut config = TelemetryConfig::default();
    if let Some(name) = environment.text("OTEL_SERVICE_NAME") {
        name.clone_into(&mut config.service_name);
    }
    let attributes = environment.parsed(
        "OTEL_RESOURCE_ATTRIBUTES",
        "pairs such as \"deployment.environment.name=prod,team=data\"",
        pairs,
    );
    for (name, value) in attributes.unwrap_or_default() {
        // A name of its own variable wins, as the standard has it.
        if name != "service.name" {
            config.resource.push((name, value));
        } else if environment.text("OTEL_SERVICE_NAME").is_none() {
            config.service_name = value;
        }
    }
    if let Some(interval) =
        environment.parsed("OTEL_METRIC_EXPORT_INTERVAL", WRITE_MILLISECONDS, milliseconds)
    {
        config.metric_interval = interval;
    }
    let disabled = environment.parsed("OTEL_SDK_DISABLED", "true or false", |text| {
        text.to_ascii_lowercase().parse::<bool>()
    });
    if disabled != Some(true) {
        let base = environment.parsed(ENDPOINT, WRITE_ENDPOINT, address);
        let time = environment.parsed(TIME, WRITE_MILLISECONDS, milliseconds).unwrap_or(TIMEOUT);
        let base = base.as_deref();
        config.traces = target(environment, &TRACES, base, time);
        config.metrics = target(environment, &METRICS, base, time);
        config.logs = target(environment, &LOGS, base, time);
    }
    config
}

fn target(
    environment: &mut Environment,
    signal: &Signal,
    base: Option<&str>,
    time: Duration,
) -> Option<OtlpTarget> {
    let exporter = environment.parsed(signal.exporter, "otlp or none", |word| match word {
        "otlp" => Ok(true),
        "none" => Ok(false),
        _ => Err("we have no such exporter; Prometheus is served at /metrics anyway"),
    });
    if exporter == Some(false) {
        return None;
    }
    let own = environment.parsed(signal.endpoint, WRITE_ENDPOINT, address);
    let url =
        own.or_else(|| base.map(|base| format!("{}{}", base.trim_end_matches('/'), signal.path)))?;
    refuse_unsupported(environment, signal);
    let headers = headers(environment, signal.headers).or_else(|| headers(environment, HEADERS));
    let own_time = environment.parsed(signal.timeout, WRITE_MILLISECONDS, milliseconds);
    Some(OtlpTarget {
        url,
        headers: headers.unwrap_or_default(),
        timeout: own_time.unwrap_or(time),
    })
}

/// Says what cannot be done, for the signal's own variable if that is set, else for the common one.
fn refuse_unsupported(environment: &mut Environment, signal: &Signal) {
    let set = |environment: &Environment, own: &'static str, common: &'static str| {
        [own, common].into_iter().find(|name| environment.text(name).is_some())
    };
    if let Some(name) = set(environment, signal.protocol, PROTOCOL) {
        environment.parsed(name, "http/protobuf", |word| match word {
            "http/protobuf" => Ok(()),
            _ => Err(format!("{} go out by OTLP over HTTP with protobuf only", signal.name)),
        });
    }
    for (own, common) in signal.unsupported.into_iter().zip(UNSUPPORTED) {
        let Some(name) = set(environment, own, common) else { continue };
        if environment.text(name) != Some("none") {
            environment.fault(
                name,
                "this is not supported; unset it (certificates are checked against the system's)",
            );
        }
    }
}

/// Headers, whose text is not shown in a fault.
fn headers(environment: &mut Environment, name: &str) -> Option<Vec<(String, Secret<String>)>> {
    let read = pairs(environment.text(name)?);
    match read {
        Ok(pairs) if pairs.iter().all(|(name, value)| is_header(name, value)) => {
            Some(pairs.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
        }
        _ => {
            environment
                .fault(name, "the value cannot be used; write pairs such as \"api-key=secret\"");
            None
        }
    }
}

fn is_header(name: &str, value: &str) -> bool {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty()
        && name.bytes().all(in_name)
        && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

fn address(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or("it does not begin with http:// or https://")?;
    if rest.is_empty() || rest.starts_with('/') {
        return Err("it has no host");
    }
    if rest.contains('@') {
        return Err("it has a user or a password in it; send a header instead");
    }
    if rest.contains(char::is_whitespace) {
        return Err("it has a space in it");
    }
    Ok(text.to_owned())
}

fn milliseconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(number @ 1..=3_600_000) => Ok(Duration::from_millis(number)),
        _ => Err("it is no such number"),
    }
}

/// `a=1,b=2`, percent-encoded, as in a W3C Baggage header.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut found = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a pair has no `=`")?;
        let name = name.trim();
        if name.is_empty() {
            return Err("a pair has no name");
        }
        found.push((decoded(name)?, decoded(value.trim())?));
    }
    Ok(found)
}

fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "a `%` is not followed by two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit().ok_or(WRONG)?, digit().ok_or(WRONG)?);
            bytes.push(u8::try_from(high * 16 + low).map_err(|_| WRONG)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 once decoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (TelemetryConfig, Vec<String>) {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut environment = Environment::new(owned);
        let config = from_environment(&mut environment);
        let faults = environment.faults.into_iter().map(|fault| fault.to_string()).collect();
        (config, faults)
    }

    fn url(target: Option<&OtlpTarget>) -> &str {
        target.map_or("none", |target| target.url.as_str())
    }

    #[test]
    fn nothing_is_sent_unless_an_endpoint_is_given() {
        let (config, faults) = read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert!(faults.is_empty(), "{faults:?}");
        assert!(config.traces.is_none() && config.metrics.is_none() && config.logs.is_none());
        assert_eq!(config.service_name, "pgvalet");
    }

    #[test]
    fn the_common_endpoint_is_a_base_and_a_signals_own_is_whole() {
        let (config, faults) = read(&[
            (ENDPOINT, "http://127.0.0.1:4318/"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://127.0.0.1:9/here"),
            ("OTEL_METRICS_EXPORTER", "none"),
            (HEADERS, "api-key=a%20b, x-team = data"),
            (TIME, "2500"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "100"),
        ]);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(url(config.traces.as_ref()), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url(config.metrics.as_ref()), "none");
        assert_eq!(url(config.logs.as_ref()), "http://127.0.0.1:9/here");
        let traces = config.traces.unwrap();
        let headers: Vec<_> = traces
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose().as_str()))
            .collect();
        assert_eq!(headers, [("api-key", "a b"), ("x-team", "data")]);
        assert_eq!(traces.timeout, Duration::from_millis(2500));
        assert_eq!(config.logs.unwrap().timeout, Duration::from_millis(100));
    }

    #[test]
    fn the_resource_is_read_and_the_name_wins() {
        let (config, _) = read(&[
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,host.name=a%2Cb"),
            ("OTEL_SERVICE_NAME", "valet"),
        ]);
        assert_eq!(config.service_name, "valet");
        assert_eq!(config.resource, [("host.name".to_owned(), "a,b".to_owned())]);
        let (config, _) = read(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=other")]);
        assert_eq!(config.service_name, "other");
    }

    #[test]
    fn it_can_be_switched_off() {
        let (config, faults) =
            read(&[(ENDPOINT, "http://127.0.0.1:4318"), ("OTEL_SDK_DISABLED", "TRUE")]);
        assert!(config.traces.is_none() && faults.is_empty());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (name, value, said) in [
            (PROTOCOL, "grpc", "by OTLP over HTTP with protobuf only"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "traces go out by OTLP"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "this is not supported"),
            ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", "/a.pem", "this is not supported"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "we have no such exporter"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://a:b@c", "a user or a password"),
            (TIME, "soon", "a number of milliseconds"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%4", "two hexadecimal digits"),
        ] {
            let (_, faults) = read(&[(ENDPOINT, "http://127.0.0.1:4318"), (name, value)]);
            assert!(faults.iter().any(|fault| fault.contains(said)), "{name}: {faults:?}");
        }
    }

    #[test]
    fn a_header_is_never_shown() {
        let (_, faults) = read(&[(ENDPOINT, "http://127.0.0.1:4318"), (HEADERS, "hunter2")]);
        assert!(!faults.is_empty() && !faults.concat().contains("hunter2"), "{faults:?}");
        let (config, _) =
            read(&[(ENDPOINT, "http://127.0.0.1:4318"), (HEADERS, "api-key=hunter2")]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
