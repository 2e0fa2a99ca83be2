//! A target: one PostgreSQL cluster that pgvalet manages logins on.

use std::num::NonZeroU32;

use crate::{
    domain::{
        admin_source::{self, AdminSource},
        name::Name,
        network::is_this_machine,
        schedule::Schedule,
    },
    ids::TargetId,
};

/// How the connection to a target is protected: libpq's words, with libpq's meaning
/// (<https://www.postgresql.org/docs/current/libpq-ssl.html>). `allow` and `prefer` are left out:
/// they look like protection and are none.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS: for a Unix socket or loopback.
    Disable,
    /// TLS, whoever answers.
    Require,
    /// TLS, with a certificate from a known authority.
    VerifyCa,
    /// TLS, with a certificate from a known authority for this very host.
    VerifyFull,
}

impl SslMode {
    /// All of them, as they stand in a file.
    pub const ALL: [&'static str; 4] = ["disable", "require", "verify-ca", "verify-full"];

    /// As libpq writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Reads libpq's word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "disable" => Some(Self::Disable),
            "require" => Some(Self::Require),
            "verify-ca" => Some(Self::VerifyCa),
            "verify-full" => Some(Self::VerifyFull),
            _ => None,
        }
    }
}

/// How our admin acts on a target: what `pgvalet bootstrap-target` installed there.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The admin has CREATEROLE and sends the statements itself.
    Direct,
    /// The admin may only call a few functions that belong to a superuser.
    Functions,
    /// The same functions, which belong to roles with CREATEROLE that share the logins among them:
    /// for services that give nobody a superuser.
    Shards,
}

impl Way {
    /// All of them, as they are written.
    pub const ALL: [&'static str; 3] = ["direct", "functions", "shards"];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Functions => "functions",
            Self::Shards => "shards",
        }
    }

    /// Reads its word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Direct, Self::Functions, Self::Shards].into_iter().find(|way| way.as_str() == text)
    }
}

/// What is known of a target, less the admin's password, which only `store` and `target` handle.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Its name.
    pub name: Name,
    /// What it is for: `prod`, `staging`, `dev`…: a label.
    pub environment: String,
    /// Host name, address, or the folder of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub sslmode: SslMode,
    /// The certificates to trust, as PEM; none means the well-known authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslrootcert_pem: Option<String>,
    /// The certificate that pgvalet shows there, as PEM. Its key is kept sealed, as passwords are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslcert_pem: Option<String>,
    /// The role that pgvalet signs in as.
    pub admin_user: String,
    /// Where the daemon gets that role's password whenever it connects; none means that it is kept, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_source: Option<AdminSource>,
    /// The databases that profiles may name.
    pub databases: Vec<String>,
    /// How many leases may live on it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_live: Option<i32>,
    /// How often a login's password is hashed, by pgvalet for the verifier, and by the client and
    /// the server at each sign-in: 1 to [`MAX_SCRAM_ITERATIONS`].
    #[serde(default = "default_scram_iterations")]
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000, default = 4096)]
    pub scram_iterations: NonZeroU32,
    /// When the administrator's password is renewed: every 90 days if left out, and at once when
    /// somebody has typed it.
    #[serde(default = "Schedule::ninety_days")]
    pub rotate_admin: Schedule,
}

/// What PostgreSQL itself takes for a password. RFC 7677 asks for it where people choose passwords
/// (<https://www.rfc-editor.org/rfc/rfc7677#section-4>). Ours have 240 random bits: no number of
/// guesses finds one, so a target may be given fewer, down to 1, and issuing and signing in get
/// cheaper by so much.
pub const DEFAULT_SCRAM_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// More would only keep the daemon and every client busy: a million take about half a second.
pub const MAX_SCRAM_ITERATIONS: u32 = 1_000_000;

fn default_scram_iterations() -> NonZeroU32 {
    DEFAULT_SCRAM_ITERATIONS
}

/// A target as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// Grows with each change, so that a pool of connections made for an older one is not used.
    pub version: i32,
    /// Grows with each change of the passwords that its administrator may have, so that connections
    /// made with an older one are told.
    pub admin_version: i32,
    /// What is known of it.
    pub spec: TargetSpec,
}

/// What is wrong with a target; empty if nothing is. PostgreSQL's own limits: a name has at most 63
/// bytes, and no zero byte.
#[must_use]
pub fn faults(spec: &TargetSpec) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if spec.host.trim().is_empty() || spec.host.contains(['\0', '\n', ' ']) {
        faults.push((
            "host",
            "must be a host name, an address, or the folder of a Unix socket".to_owned(),
        ));
    }
    if spec.port == 0 {
        faults.push(("port", "must be 1 to 65535".to_owned()));
    }
    if !is_identifier(&spec.admin_user) {
        faults.push(("admin.user", "must be a role name of 1 to 63 bytes".to_owned()));
    }
    if spec.max_live.is_some_and(|most| most < 1) {
        faults.push(("max_live", "must be at least 1".to_owned()));
    }
    if spec.databases.is_empty() {
        faults.push(("databases", "must name at least one database".to_owned()));
    }
    for database in &spec.databases {
        if !is_identifier(database) {
            faults.push(("databases", format!("`{database}` cannot be the name of a database")));
        }
    }
    if spec.environment.chars().count() > 32 {
        faults.push(("environment", "must have at most 32 letters".to_owned()));
    }
    if spec.scram_iterations.get() > MAX_SCRAM_ITERATIONS {
        faults.push(("scram_iterations", format!("must be 1 to {MAX_SCRAM_ITERATIONS}")));
    }
    if spec.sslmode == SslMode::Disable && !is_local(&spec.host) {
        faults.push((
            "sslmode",
            "`disable` is only for this machine (loopback or a Unix socket): write `verify-full`"
                .to_owned(),
        ));
    }
    if spec.sslcert_pem.is_some() && spec.sslmode == SslMode::Disable {
        faults.push(("sslcert", "is shown over TLS only: write another `sslmode`".to_owned()));
    }
    for (key, pem) in [("sslrootcert", &spec.sslrootcert_pem), ("sslcert", &spec.sslcert_pem)] {
        faults.extend(pem.as_ref().and_then(|pem| Some((key, certificate_fault(pem)?))));
    }
    faults.extend(admin_source::faults(spec));
    faults
}

/// Why a text cannot be a certificate. A key in its place would be shown to whoever may see targets.
fn certificate_fault(pem: &str) -> Option<String> {
    if pem.contains("PRIVATE KEY") {
        return Some(
            "holds a private key: write the certificate alone, and the key as `sslkey`".to_owned(),
        );
    }
    (!pem.contains("-----BEGIN CERTIFICATE-----"))
        .then(|| "is no certificate: write its PEM (`-----BEGIN CERTIFICATE-----` …), or { file = \"…\" }".to_owned())
}

/// Could this be the name of a role, schema or database? (63 bytes: NAMEDATALEN - 1.)
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.len() <= 63 && !name.contains('\0')
}

fn is_local(host: &str) -> bool {
    host.starts_with('/') || is_this_machine(host)
}
