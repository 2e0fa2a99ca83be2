//! `[[webhook]]`: where notices are posted, and what they are signed with.
//!
//! At many receivers whoever knows the address may post there: of an address its origin alone is shown, anywhere.

use std::{
    fmt::{self, Write},
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Url;
use zeroize::Zeroizing;

use crate::{
    config::{
        load::SECOND,
        notices::{read_authorities, read_topics, read_url, write_authorities, write_topics},
        secrets,
    },
    document::Table,
    domain::{name::Name, network::is_public, notice::Topic},
    secret::Secret,
};

const WRITE_URL: &str = "an https address, such as \"https://hooks.example.org/pgvalet\"";
const WRITE_SECRET: &str = "write `whsec_` and 24 to 64 bytes in base64, such as `echo whsec_$(openssl rand -base64 32)` \
                            prints; while it is replaced, the new one and the former one, each on a line of its own";

/// Where notices are posted.
#[derive(Debug)]
pub struct WebhookConfig {
    /// What it is called here.
    pub name: Name,
    /// Its address.
    pub url: WebhookUrl,
    /// What notices are signed with: by each, while one takes another's place.
    pub secrets: Vec<Secret<Vec<u8>>>,
    /// The file that these stand in, if it is one of their own.
    pub secret_file: Option<PathBuf>,
    /// What it is told of; everything, if none.
    pub topics: Option<Vec<Topic>>,
    /// May it be at an address that is not public, and without TLS?
    pub allow_private: bool,
    /// The certificates (PEM) to trust for it, where it has an authority of its own.
    pub ca: Option<String>,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// The address of a webhook, of which the origin alone is shown.
#[derive(Clone)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// Takes an address that was judged.
    #[must_use]
    pub const fn new(url: Url) -> Self {
        Self(url)
    }

    /// All of it, for the one place that posts there.
    #[must_use]
    pub const fn expose(&self) -> &Url {
        &self.0
    }

    /// Its scheme, its host and its port.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}, …)", self.origin())
    }
}

/// The secrets of a webhook cannot be read anew.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSecretFault {
    /// The file cannot be read.
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// What is in it is no secret.
    #[error("what is in {} cannot be used; {WRITE_SECRET}", .0.display())]
    Unusable(PathBuf),
}

/// Reads the table. None if it is not sound: its faults are reported.
pub(in crate::config) fn read(table: &mut Table, folder: &Path) -> Option<WebhookConfig> {
    table.require(&["name", "url", "secret"]);
    let name = table.parsed("name", "a name, such as \"pager\"", str::parse::<Name>);
    let allow_private = table.boolean("allow_private").unwrap_or(false);
    let url = read_url(table, WRITE_URL, |text| parse_url(text, allow_private));
    let secrets = secrets::read_with_file(table, "secret", folder).and_then(|(text, file)| {
        let read = parse_secrets(text.expose());
        if read.is_none() {
            table.fault("secret", &format!("the value cannot be used; {WRITE_SECRET}"));
        }
        Some((read?, file))
    });
    let topics = read_topics(table);
    let ca = read_authorities(table, folder);
    let timeout = table.duration_in("timeout", SECOND..=30 * SECOND).unwrap_or(10 * SECOND);
    let (secrets, secret_file) = secrets?;
    Some(WebhookConfig {
        name: name?,
        url: WebhookUrl(url?),
        secrets,
        secret_file,
        topics,
        allow_private,
        ca,
        timeout,
    })
}

/// The secrets that stand in their file now.
///
/// # Errors
/// If it cannot be read, or has anything else in it.
pub fn read_webhook_secrets(file: &Path) -> Result<Vec<Secret<Vec<u8>>>, WebhookSecretFault> {
    let text = fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| WebhookSecretFault::Read(file.to_owned(), error))?;
    let read = Some(text.trim()).filter(|text| !text.is_empty()).and_then(parse_secrets);
    read.ok_or_else(|| WebhookSecretFault::Unusable(file.to_owned()))
}

/// The address of a webhook. A name is looked up, and judged, whenever it is connected to.
fn parse_url(text: &str, allow_private: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no address")?;
    let host = url.host_str().ok_or("it has no host")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or a password in it; notices are signed instead");
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err("it is not https, which `allow_private = true` would let be"),
        _ => return Err("it is not https"),
    }
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
    if !allow_private && literal.is_ok_and(|address| !is_public(address)) {
        return Err("it is no public address, which `allow_private = true` would let be");
    }
    Ok(url)
}

/// One on each line (<https://www.standardwebhooks.com>).
fn parse_secrets(text: &str) -> Option<Vec<Secret<Vec<u8>>>> {
    let read = |line: &str| {
        let bytes = Zeroizing::new(STANDARD.decode(line.trim().strip_prefix("whsec_")?).ok()?);
        (24..=64).contains(&bytes.len()).then(|| Secret::new(bytes.to_vec()))
    };
    text.lines().map(read).collect()
}

impl WebhookConfig {
    /// What is in force, as the text of a file.
    pub(in crate::config) fn write_to(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[[webhook]]\nname = \"{}\"", self.name)?;
        writeln!(out, "# url = (set), at {}", self.url.origin())?;
        writeln!(out, "# secret = (set), {} of them", self.secrets.len())?;
        writeln!(out, "allow_private = {}", self.allow_private)?;
        writeln!(out, "timeout = \"{}\"", humantime::format_duration(self.timeout))?;
        write_topics(out, self.topics.as_deref())?;
        write_authorities(out, self.ca.as_deref())
    }
}
