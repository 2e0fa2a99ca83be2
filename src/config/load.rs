//! Reads the file and lays the environment over it.
//!
//! The file is read to its end even where the environment overrides it: a fault in it is a fault.

use std::{
    fs, io,
    net::{AddrParseError, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::{
    config::{
        AuditLogConfig, Config, DEFAULT_FILE, DriftConfig, HttpConfig, LeaseConfig, LogConfig,
        LogFormat, MasterKeys, NoticesConfig, OidcConfig, ReviewConfig, StateConfig, SweepConfig,
        TelemetryConfig, ThrottleConfig, TokensConfig, environment::Environment, notices, oidc,
        reviews, slack, targets, telemetry, tls,
    },
    document::{Document, Fault, Faults, Table, TextSource},
    secret::Secret,
};

const WRITE_ADDRESS: &str = "an address and a port, such as \"127.0.0.1:8432\"";
const WRITE_URL: &str =
    "the beginning of an http or https address, such as \"https://pgvalet.example\"";
const WRITE_STATE: &str = "an address such as \"postgres://user:password@host/database\"";
const WRITE_FILTER: &str = "directives such as \"info\" or \"info,pgvalet=debug\"";
const WRITE_NUDGE: &str = "six fields, seconds first, such as \"*/10 * * * * *\"";

pub(in crate::config) const SECOND: Duration = Duration::from_secs(1);
pub(in crate::config) const MINUTE: Duration = Duration::from_secs(60);
pub(in crate::config) const HOUR: Duration = Duration::from_secs(3600);

/// What a request that makes a login needs besides: to decide, to record, to answer.
const BESIDE_ISSUING: Duration = Duration::from_secs(5);

/// What the file says; `None` is what it leaves open.
#[derive(Default)]
struct Written {
    listen: Option<SocketAddr>,
    tls: Option<tls::Written>,
    allow_plaintext: Option<bool>,
    public_url: Option<String>,
    trusted_proxies: Vec<IpNet>,
    data_dir: Option<PathBuf>,
    postgres_dir: Option<PathBuf>,
    state_url: Option<TextSource>,
    max_connections: Option<u32>,
    key_file: Option<PathBuf>,
    log_format: Option<LogFormat>,
    log_filter: Option<String>,
    lease: Option<LeaseConfig>,
    sweep: Option<SweepConfig>,
    drift: Option<DriftConfig>,
    review: Option<ReviewConfig>,
    failures_per_minute: Option<NonZeroU32>,
    oidc: Option<OidcConfig>,
    notices: NoticesConfig,
    slack: Option<slack::SlackConfig>,
    tokens: Option<TokensConfig>,
    http: Option<HttpConfig>,
    targets: targets::Written,
    token_reviews: Vec<(String, String)>,
    metrics_listen: Option<SocketAddr>,
    audit_log: AuditLogConfig,
}

pub(crate) fn load(file: Option<&Path>, mut environment: Environment) -> Result<Config, Faults> {
    let mut faults = Faults::default();
    let named = file.or_else(|| environment.text("PGVALET_CONFIG").map(Path::new));
    let path = named.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    let written = match fs::read_to_string(&path) {
        Ok(text) => read_text(&path, &text, &mut faults),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Written::default()
        }
        Err(error) => {
            faults.push(whole_file(&path, format!("this file cannot be read: {error}")));
            Written::default()
        }
    };
    let config = overlay(&path, written, &mut environment, &mut faults);
    faults.append(environment.faults);
    faults.or_value(config)
}

fn read_text(path: &Path, text: &str, faults: &mut Faults) -> Written {
    let (written, found) = match Document::parse(&path.display().to_string(), text) {
        Ok(document) => document.read(|root| read_root(root, path)),
        Err(found) => (Written::default(), found),
    };
    faults.append(found);
    written
}

fn read_root(root: &mut Table, path: &Path) -> Written {
    // A path in the file is meant from the file, wherever the daemon was started.
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut written = Written {
        listen: root.parsed("listen", WRITE_ADDRESS, parse_address),
        allow_plaintext: root.boolean("allow_plaintext"),
        public_url: root.parsed("public_url", WRITE_URL, parse_public_url),
        trusted_proxies: read_networks(root, "trusted_proxies"),
        data_dir: root.optional_string("data_dir").map(|dir| folder.join(dir)),
        postgres_dir: root.optional_string("postgres_dir").map(|dir| folder.join(dir)),
        ..Written::default()
    };
    written.tls = root.table("tls").map(|table| tls::read(table, folder));
    if let Some(mut state) = root.table("state") {
        written.state_url = state.text_or_file("url").map(|source| match source {
            TextSource::File(file) => TextSource::File(folder.join(file).display().to_string()),
            inline @ TextSource::Inline(_) => inline,
        });
        if matches!(&written.state_url, Some(TextSource::Inline(url)) if parse_state_url(url).is_err())
        {
            state.fault("url", &format!("the value cannot be used; write {WRITE_STATE}"));
        }
        written.max_connections = state.integer_in("max_connections", 2..=200);
    }
    if let Some(mut key) = root.table("master_key") {
        written.key_file = key.required_string("file").map(|file| folder.join(file));
    }
    if let Some(mut log) = root.table("log") {
        let word = log.one_of("format", LogFormat::WORDS);
        written.log_format = word.and_then(LogFormat::from_word);
        written.log_filter = log.parsed("filter", WRITE_FILTER, parse_filter);
    }
    written.lease = root.table("lease").map(read_lease);
    written.sweep = root.table("sweep").map(read_sweep);
    written.drift = root.table("drift").map(read_drift);
    written.review = root.table("review").map(reviews::read);
    if let Some(mut throttle) = root.table("throttle") {
        let most = throttle.integer_in("failures_per_minute", 1..=100_000);
        written.failures_per_minute = most.and_then(NonZeroU32::new);
    }
    let slack_alone = root.has("slack") && !root.has("oidc");
    written.oidc = root.table("oidc").and_then(|mut table| oidc::read(&mut table, folder));
    written.notices = notices::read(root, folder);
    written.slack = root.table("slack").and_then(|mut table| slack::read(&mut table, folder));
    if slack_alone {
        let why = "[oidc] is not set, and people say which account at Slack is theirs by signing in at the identity provider; \
                   write it as well";
        root.fault("slack", why);
    }
    written.tokens = root.table("tokens").map(read_tokens);
    written.http = root.table("http").map(read_http);
    written.token_reviews =
        root.tables("token_review").into_iter().filter_map(read_token_review).collect();
    written.targets = root.table("targets").map(targets::read).unwrap_or_default();
    if let Some(mut metrics) = root.table("metrics") {
        written.metrics_listen = metrics.parsed("listen", WRITE_ADDRESS, parse_address);
    }
    if let Some(mut audit_log) = root.table("audit_log") {
        written.audit_log = telemetry::read_audit_log(&mut audit_log, folder);
    }
    written
}

fn read_networks(root: &mut Table, key: &'static str) -> Vec<IpNet> {
    let texts = root.strings(key).unwrap_or_default();
    let read = |text: &String| match text.parse::<IpNet>() {
        Ok(network) => Some(network),
        Err(_) => {
            let message = format!(
                "`{text}` is no network: write an address and a mask, such as \"10.0.0.0/8\""
            );
            root.fault(key, &message);
            None
        }
    };
    texts.iter().filter_map(read).collect()
}

fn read_token_review(mut table: Table) -> Option<(String, String)> {
    let (url, file) = (table.required_string("url"), table.required_string("token_file"));
    Some((url?, file?))
}

fn read_lease(mut table: Table) -> LeaseConfig {
    let default = LeaseConfig::default();
    let grace = table.duration_in("rotation_grace", Duration::ZERO..=24 * HOUR);
    let deadline = table.duration_in("issue_deadline", SECOND..=MINUTE);
    let nudge = table.parsed("nudge", WRITE_NUDGE, parse_nudge);
    let max_live_per_caller = table.integer_in("max_live_per_caller", 1..=1_000_000);
    LeaseConfig {
        max_live_per_caller,
        rotation_grace: grace.unwrap_or(default.rotation_grace),
        issue_deadline: deadline.unwrap_or(default.issue_deadline),
        nudge: nudge.unwrap_or(default.nudge),
    }
}

fn read_sweep(mut table: Table) -> SweepConfig {
    let default = SweepConfig::default();
    let schedule = table.parsed("schedule", WRITE_NUDGE, parse_nudge);
    let grace = table.duration_in("orphan_grace", Duration::ZERO..=30 * 24 * HOUR);
    SweepConfig {
        schedule: schedule.unwrap_or(default.schedule),
        orphan_grace: grace.unwrap_or(default.orphan_grace),
    }
}

fn read_drift(mut table: Table) -> DriftConfig {
    let schedule = table.parsed("schedule", WRITE_NUDGE, parse_nudge);
    DriftConfig { schedule: schedule.unwrap_or_else(|| DriftConfig::default().schedule) }
}

fn read_tokens(mut table: Table) -> TokensConfig {
    let max_ttl = table.duration_in("max_ttl", MINUTE..=10 * 365 * 24 * HOUR);
    TokensConfig { max_ttl: max_ttl.unwrap_or_else(|| TokensConfig::default().max_ttl) }
}

fn read_http(mut table: Table) -> HttpConfig {
    let default = HttpConfig::default();
    let timeout = table.duration_in("request_timeout", SECOND..=10 * MINUTE);
    let bytes = table.integer_in("max_body_bytes", 1024_u32..=64 * 1024 * 1024);
    let deadline = table.duration_in("shutdown_deadline", SECOND..=10 * MINUTE);
    HttpConfig {
        request_timeout: timeout.unwrap_or(default.request_timeout),
        max_body_bytes: bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(default.max_body_bytes),
        shutdown_deadline: deadline.unwrap_or(default.shutdown_deadline),
    }
}

fn overlay(
    path: &Path,
    written: Written,
    environment: &mut Environment,
    faults: &mut Faults,
) -> Config {
    let listen = environment.parsed("PGVALET_LISTEN", WRITE_ADDRESS, parse_address);
    let plain = environment.parsed("PGVALET_ALLOW_PLAINTEXT", "true or false", str::parse::<bool>);
    let public_url = environment.parsed("PGVALET_PUBLIC_URL", WRITE_URL, parse_public_url);
    let format = environment.parsed("PGVALET_LOG_FORMAT", "auto, text or json", |word| {
        LogFormat::from_word(word).ok_or("not known")
    });
    let filter = environment.parsed("PGVALET_LOG", WRITE_FILTER, parse_filter);
    let listen_here = listen.is_some();
    // What is wrong with it is told by itself.
    let tls_is_meant = written.tls.is_some() || environment.text("PGVALET_TLS_CERT").is_some();
    let default = LogConfig::default();
    let folder = |name| environment.text(name).map(PathBuf::from);
    let (data_dir, postgres_dir) = (folder("PGVALET_DATA_DIR"), folder("PGVALET_POSTGRES_DIR"));
    let place = path.display().to_string();
    let config = Config {
        listen: listen.or(written.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8432))),
        tls: tls::overlay(path, written.tls, environment, faults),
        allow_plaintext: plain.or(written.allow_plaintext).unwrap_or(false),
        public_url: public_url.or(written.public_url),
        trusted_proxies: written.trusted_proxies,
        data_dir: data_dir.or(written.data_dir).unwrap_or_else(|| default_data_dir(environment)),
        postgres_dir: postgres_dir.or(written.postgres_dir),
        state: StateConfig {
            url: state_url(path, written.state_url, environment, faults),
            max_connections: written.max_connections.unwrap_or(16),
        },
        master_keys: master_keys(path, written.key_file, environment, faults),
        log: LogConfig {
            format: format.or(written.log_format).unwrap_or(default.format),
            filter: filter.or(written.log_filter).unwrap_or(default.filter),
        },
        lease: written.lease.unwrap_or_default(),
        sweep: written.sweep.unwrap_or_default(),
        drift: written.drift.unwrap_or_default(),
        review: written.review.unwrap_or_default(),
        throttle: written.failures_per_minute.map_or_else(ThrottleConfig::default, |most| {
            ThrottleConfig { failures_per_minute: most }
        }),
        oidc: written.oidc,
        notices: written.notices,
        slack: written.slack,
        tokens: written.tokens.unwrap_or_default(),
        http: written.http.unwrap_or_default(),
        token_reviews: written.token_reviews,
        targets: targets::overlay(&place, written.targets, environment, faults),
        telemetry: TelemetryConfig {
            metrics_listen: written.metrics_listen,
            ..telemetry::from_environment(environment)
        },
        audit_log: written.audit_log,
    };
    if !config.listen.ip().is_loopback() && !tls_is_meant && !config.allow_plaintext {
        let message = format!(
            "{} is beyond loopback, where tokens and passwords would travel in plain text; write \
             `cert` and `key` in [tls], put a TLS proxy in front and listen on 127.0.0.1, or write \
             `allow_plaintext = true` if the network in between is trusted",
            config.listen
        );
        if listen_here {
            environment.fault("PGVALET_LISTEN", &message);
        } else {
            let message = format!("`listen`: {message}");
            faults.push(Fault::without_position(&path.display().to_string(), "listen", message));
        }
    }
    let least = config.lease.issue_deadline + BESIDE_ISSUING;
    if config.http.request_timeout < least {
        let words = humantime::format_duration;
        let message = format!(
            "`request_timeout = \"{}\"` in [http] is too short for `issue_deadline = \"{}\"` in \
             [lease]: a request could be given up while its login is made; write at least \"{}\"",
            words(config.http.request_timeout),
            words(config.lease.issue_deadline),
            words(least)
        );
        let place = path.display().to_string();
        faults.push(Fault::without_position(&place, "http.request_timeout", message));
    }
    config
}

/// The state database's URL: one in the environment takes the place of one in the file.
fn state_url(
    path: &Path,
    written: Option<TextSource>,
    environment: &mut Environment,
    faults: &mut Faults,
) -> Option<Secret<String>> {
    const NAMES: (&str, &str) = ("PGVALET_STATE_URL", "PGVALET_STATE_URL_FILE");
    refuse_both(environment, NAMES);
    if let Some(url) = environment.parsed(NAMES.0, WRITE_STATE, parse_state_url) {
        return Some(url);
    }
    if let Some(file) = environment.text(NAMES.1).map(PathBuf::from) {
        return match state_url_file(&file) {
            Ok(url) => Some(url),
            Err(message) => {
                environment.fault(NAMES.1, &message);
                None
            }
        };
    }
    match written? {
        TextSource::Inline(url) => parse_state_url(&url).ok(),
        TextSource::File(file) => match state_url_file(Path::new(&file)) {
            Ok(url) => Some(url),
            Err(message) => {
                let place = path.display().to_string();
                let message = format!("`url` in [state]: {message}");
                faults.push(Fault::without_position(&place, "state.url", message));
                None
            }
        },
    }
}

fn state_url_file(file: &Path) -> Result<Secret<String>, String> {
    let text = fs::read_to_string(file).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    parse_state_url(text.trim())
        .map_err(|_| format!("what is in {} cannot be used; write {WRITE_STATE}", file.display()))
}

/// The master keys. The file's and the environment's are not laid over each other: which of two
/// keys seals must not depend on where the daemon was started.
fn master_keys(
    path: &Path,
    written: Option<PathBuf>,
    environment: &mut Environment,
    faults: &mut Faults,
) -> Option<MasterKeys> {
    const NAMES: (&str, &str) = ("PGVALET_MASTER_KEY", "PGVALET_MASTER_KEY_FILE");
    refuse_both(environment, NAMES);
    let given = [NAMES.0, NAMES.1].into_iter().find(|name| environment.text(name).is_some());
    if let (Some(name), Some(_)) = (given, &written) {
        environment.fault(
            name,
            &format!("{} has a [master_key] as well; give only one of them", path.display()),
        );
    }
    let keys = match given {
        Some(name) if name == NAMES.0 => environment.text(name).map(MasterKeys::parse),
        Some(name) => environment.text(name).map(|file| MasterKeys::read(Path::new(file))),
        None => written.as_deref().map(MasterKeys::read),
    };
    match keys? {
        Ok(keys) => Some(keys),
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let message = cause.map_or_else(|| error.to_string(), |io| format!("{error}: {io}"));
            if let Some(name) = given {
                environment.fault(name, &message);
            } else {
                let place = path.display().to_string();
                let message = format!("`file` in [master_key]: {message}");
                faults.push(Fault::without_position(&place, "master_key.file", message));
            }
            None
        }
    }
}

fn refuse_both(environment: &mut Environment, (text, file): (&str, &str)) {
    if environment.text(text).is_some() && environment.text(file).is_some() {
        environment.fault(text, &format!("{file} is set as well; give only one of them"));
    }
}

fn whole_file(path: &Path, message: String) -> Fault {
    Fault::without_position(&path.display().to_string(), "", message)
}

/// Where a system daemon, and where a person's own one keeps its data.
fn default_data_dir(environment: &Environment) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/pgvalet");
    }
    let state = environment.text("XDG_STATE_HOME").map(PathBuf::from);
    let home = || environment.text("HOME").map(|home| Path::new(home).join(".local/state"));
    state.or_else(home).map_or_else(|| PathBuf::from("/var/lib/pgvalet"), |dir| dir.join("pgvalet"))
}

fn parse_address(text: &str) -> Result<SocketAddr, AddrParseError> {
    text.parse()
}

fn parse_public_url(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or("it does not begin with https:// or http://")?;
    if rest.is_empty() || rest.starts_with('/') {
        return Err("it has no host");
    }
    if rest.contains(['?', '#', '@']) || rest.contains(char::is_whitespace) {
        return Err("it has more than a host, a port and a path");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn parse_state_url(text: &str) -> Result<Secret<String>, &'static str> {
    let schemes = ["postgres://", "postgresql://"];
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(rest) if !rest.is_empty() && !text.contains(char::is_whitespace) => {
            Ok(Secret::new(text.to_owned()))
        }
        _ => Err("no PostgreSQL address"),
    }
}

fn parse_filter(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned())
}

/// Only the shape: the scheduler, which is not this module's business, has the last word.
fn parse_nudge(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "*/,-?#".contains(c);
    let fields: Vec<_> = text.split_whitespace().collect();
    if fields.len() != 6 {
        return Err("it does not have six fields");
    }
    if !fields.iter().all(|field| field.chars().all(allowed)) {
        return Err("it has a character that cron does not know");
    }
    Ok(fields.join(" "))
}
