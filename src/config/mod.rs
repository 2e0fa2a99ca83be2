//! The typed configuration, once it holds.
//!
//! A file and, over it, the environment become one [`Config`] before anything else is started. All
//! faults are reported at once, unknown settings stop the start (a misspelt limit is no limit), and
//! what is printed of it is redacted. No other module reads the environment or the file.

mod defaults;
mod describe;
mod environment;
mod load;
mod master_key;
mod notices;
mod oidc;
mod reviews;
mod secrets;
mod slack;
mod targets;
mod telemetry;
mod tls;
mod webhook;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

pub use crate::config::{
    master_key::{KEY_BYTES, KeyFault, MasterKey, MasterKeys},
    notices::{MailConfig, MailProtection, NoticesConfig, Recipient},
    oidc::{OidcConfig, SessionLengths},
    reviews::ReviewConfig,
    slack::SlackConfig,
    targets::{AwsCredentials, TargetsConfig},
    telemetry::{AuditLogConfig, OtlpTarget, TelemetryConfig},
    tls::{ClientCertificates, ClientRule, Tls, TlsConfig, TlsFault, TlsFiles, with_cause},
    webhook::{WebhookConfig, WebhookSecretFault, WebhookUrl, read_webhook_secrets},
};
use crate::{document::Faults, secret::Secret};

/// Where the file is looked for if nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/pgvalet/pgvalet.toml";

/// Everything that can be set.
#[derive(Debug)]
pub struct Config {
    /// Where the API listens. Port 0 means any free one.
    pub listen: SocketAddr,
    /// TLS for the API and for `/metrics`; none means plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Plain HTTP beyond loopback is meant: something in front does TLS.
    pub allow_plaintext: bool,
    /// The address that people and tools use, where it differs from `listen`.
    pub public_url: Option<String>,
    /// The proxies whose word about where a request comes from is taken (`X-Forwarded-For`).
    pub trusted_proxies: Vec<IpNet>,
    /// Where the private PostgreSQL and the master key made by ourselves are kept.
    pub data_dir: PathBuf,
    /// Where `initdb` and `postgres` are, if they are not to be looked for.
    pub postgres_dir: Option<PathBuf>,
    /// The state database.
    pub state: StateConfig,
    /// What seals secrets in the state database; none leaves it to `serve`.
    pub master_keys: Option<MasterKeys>,
    /// What is logged, and how.
    pub log: LogConfig,
    /// How leases are run.
    pub lease: LeaseConfig,
    /// How targets are compared with the record.
    pub sweep: SweepConfig,
    /// When targets are compared with what profiles say.
    pub drift: DriftConfig,
    /// When access is looked at again.
    pub review: ReviewConfig,
    /// What slows down those who guess.
    pub throttle: ThrottleConfig,
    /// How people sign in; none if only with tokens of ours.
    pub oidc: Option<OidcConfig>,
    /// Who is told of what happens.
    pub notices: NoticesConfig,
    /// The Slack app that people ask and agree through; none if there is none.
    pub slack: Option<SlackConfig>,
    /// Bounds of tokens of ours.
    pub tokens: TokensConfig,
    /// Bounds of the HTTP server.
    pub http: HttpConfig,
    /// What of this machine targets may be signed in with.
    pub targets: TargetsConfig,
    /// The clusters that may be asked about pods, each with the file of this machine that holds the token for
    /// it: whoever writes rules for CI jobs must not have such a token sent anywhere else.
    pub token_reviews: Vec<(String, String)>,
    /// Where traces, metrics and logs go.
    pub telemetry: TelemetryConfig,
    /// Where audit entries are written as lines.
    pub audit_log: AuditLogConfig,
}

/// The state database.
#[derive(Debug)]
pub struct StateConfig {
    /// Its address with the password in it; none means a private cluster in `data_dir`.
    pub url: Option<Secret<String>>,
    /// The most connections this daemon holds.
    pub max_connections: u32,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Text, JSON, or what fits.
    pub format: LogFormat,
    /// Directives such as `info,pgvalet=debug`.
    pub filter: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// How leases are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long the former login of a rotated lease still works.
    pub rotation_grace: Duration,
    /// How long making a login may take in all.
    pub issue_deadline: Duration,
    /// How many leases one caller may have at once, under all profiles together; no bound if left out.
    pub max_live_per_caller: Option<i32>,
    /// When the loops are woken to look for what is due: a cron expression of six fields, in UTC.
    pub nudge: String,
}

/// How targets are compared with the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepConfig {
    /// When: a cron expression of six fields, in UTC.
    pub schedule: String,
    /// How long a login that no lease is known of is left there, shut out, before it is removed.
    pub orphan_grace: Duration,
}

/// When targets are compared with what profiles say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftConfig {
    /// When: a cron expression of six fields, in UTC.
    pub schedule: String,
}

/// What slows down those who guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrottleConfig {
    /// Refused sign-ins in a minute from one address before the next are turned away unseen.
    pub failures_per_minute: NonZeroU32,
}

/// Bounds of tokens of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokensConfig {
    /// The longest that one may last: none lasts for ever.
    pub max_ttl: Duration,
}

/// Bounds of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How large a body may be.
    pub max_body_bytes: usize,
    /// How long requests under way are waited for when the daemon stops.
    pub shutdown_deadline: Duration,
}

impl LogFormat {
    /// The words of the setting, in the order of the variants.
    const WORDS: &'static [&'static str] = &["auto", "text", "json"];

    fn from_word(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Self::Auto),
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Config {
    /// The settings of this process: `file` is what `--config` named.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_process(file: Option<&Path>) -> Result<Self, Faults> {
        Self::load(file, environment::of_process())
    }

    /// The settings from a file and an environment. Without a file named here or in
    /// `PGVALET_CONFIG`, [`DEFAULT_FILE`] is read if it exists.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        load::load(file, environment::Environment::new(environment))
    }
}

#[cfg(test)]
mod tests;
