//! Who is told of what happens: `[notices]`, `[[webhook]]` and `[mail]`.

use std::{collections::BTreeSet, convert::Infallible, fmt::Write, path::Path, time::Duration};

use lettre::{Address, message::Mailbox};
use reqwest::Url;

use crate::{
    config::{
        load::{HOUR, MINUTE},
        secrets,
        webhook::{self, WebhookConfig},
    },
    document::{Table, did_you_mean},
    domain::{notice::Topic, schedule::Schedule},
    secret::Secret,
};

/// When the digest is made, if nobody says otherwise.
const DIGEST: &str = "0 0 8 * * *";

const WRITE_DIGEST: &str =
    "a cron expression of six fields, seconds first, such as \"0 0 8 * * *\", or \"never\"";
const WRITE_SERVER: &str = "the address of a mail server, such as \"smtps://pgvalet@mail.example.org\" (TLS) or \"smtp://mail.example.org:587\" (STARTTLS)";
const WRITE_ADDRESS: &str = "an address, such as \"dba@example.org\"";

/// Who is told of what happens.
#[derive(Debug)]
pub struct NoticesConfig {
    /// When the digest is made.
    pub digest: Schedule,
    /// How long a notice that does not arrive is sent again.
    pub give_up_after: Duration,
    /// Where notices are posted.
    pub webhooks: Vec<WebhookConfig>,
    /// How mail is sent, and to whom.
    pub mail: Option<MailConfig>,
}

/// How mail is sent, and to whom.
#[derive(Debug)]
pub struct MailConfig {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub protection: MailProtection,
    /// Who we are there.
    pub user: Option<String>,
    /// What proves it.
    pub password: Option<Secret<String>>,
    /// The certificates (PEM) to trust for it, where it has an authority of its own.
    pub ca: Option<String>,
    /// From whom mail is.
    pub from: Mailbox,
    /// To whom it goes.
    pub to: Vec<Recipient>,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailProtection {
    /// TLS from the first byte: `smtps://`.
    Tls,
    /// STARTTLS before anything is sent, or nothing is: `smtp://`.
    StartTls,
    /// None: `smtp://` with `allow_plaintext`.
    None,
}

/// To whom mail goes.
#[derive(Debug)]
pub struct Recipient {
    /// The address.
    pub address: Address,
    /// What it is told of; everything, if none.
    pub topics: Option<Vec<Topic>>,
}

impl Default for NoticesConfig {
    fn default() -> Self {
        Self {
            digest: DIGEST.parse().unwrap_or(Schedule::Never),
            give_up_after: 24 * HOUR,
            webhooks: Vec::new(),
            mail: None,
        }
    }
}

/// Reads the tables.
pub(in crate::config) fn read(root: &mut Table, folder: &Path) -> NoticesConfig {
    let mut config = NoticesConfig::default();
    if let Some(mut table) = root.table("notices") {
        if let Some(digest) = table.parsed("digest", WRITE_DIGEST, str::parse::<Schedule>) {
            config.digest = digest;
        }
        if let Some(length) = table.duration_in("give_up_after", MINUTE..=30 * 24 * HOUR) {
            config.give_up_after = length;
        }
    }
    let mut names = BTreeSet::new();
    for mut table in root.tables("webhook") {
        let Some(webhook) = webhook::read(&mut table, folder) else { continue };
        if !names.insert(webhook.name.clone()) {
            let message =
                format!("there is a webhook `{}` already; write another name", webhook.name);
            table.fault("name", &message);
        }
        config.webhooks.push(webhook);
    }
    config.mail = root.table("mail").and_then(|mut table| read_mail(&mut table, folder));
    config
}

/// An address, which is not shown: there may be a secret in it. What is wrong with it is said all the same.
pub(in crate::config) fn read_url(
    table: &mut Table,
    write: &str,
    parse: impl FnOnce(&str) -> Result<Url, &'static str>,
) -> Option<Url> {
    match table.parsed("url", write, |text| Ok::<_, Infallible>(parse(text)))? {
        Ok(url) => Some(url),
        Err(why) => {
            table.fault("url", &format!("the value cannot be used: {why}; write {write}"));
            None
        }
    }
}

/// What somebody is told of.
pub(in crate::config) fn read_topics(table: &mut Table) -> Option<Vec<Topic>> {
    let words = table.strings("topics")?;
    let mut topics = Vec::new();
    for word in words {
        match Topic::from_text(&word) {
            Some(topic) => topics.push(topic),
            None => {
                let list = Topic::ALL.join(", ");
                let hint = did_you_mean(&word, Topic::ALL.iter().copied());
                table.fault("topics", &format!("`{word}` is no topic; write some of {list}{hint}"));
            }
        }
    }
    Some(topics)
}

pub(in crate::config) fn read_authorities(table: &mut Table, folder: &Path) -> Option<String> {
    let file = folder.join(table.optional_string("ca")?);
    let text = secrets::read_file(table, "ca", &file)?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        table.fault("ca", &format!("{} has no certificate in PEM", file.display()));
    }
    Some(text.as_str().to_owned())
}

fn read_mail(table: &mut Table, folder: &Path) -> Option<MailConfig> {
    table.require(&["url", "from", "to"]);
    let url = read_url(table, WRITE_SERVER, parse_server);
    let allow_plaintext = table.boolean("allow_plaintext").unwrap_or(false);
    let password = secrets::read(table, "password", folder);
    let ca = read_authorities(table, folder);
    let write = "an address, such as \"pgvalet <pgvalet@example.org>\"";
    let from = table.parsed("from", write, str::parse::<Mailbox>);
    let mut to = Vec::new();
    for mut recipient in table.tables("to") {
        recipient.require(&["address"]);
        let address = recipient.parsed("address", WRITE_ADDRESS, str::parse::<Address>);
        let topics = read_topics(&mut recipient);
        to.extend(address.map(|address| Recipient { address, topics }));
    }
    let (url, from) = (url?, from?);
    let user = Some(url.username()).filter(|user| !user.is_empty()).map(str::to_owned);
    if user.is_some() != password.is_some() {
        table.fault(
            "password",
            "a user, in `url`, and a `password` go together; write both, or neither",
        );
    }
    let protection = match (url.scheme(), allow_plaintext) {
        ("smtps", false) => MailProtection::Tls,
        ("smtps", true) => {
            table
                .fault("allow_plaintext", "it is for smtp://, and `url` is smtps://; leave it out");
            MailProtection::Tls
        }
        (_, false) => MailProtection::StartTls,
        (_, true) => MailProtection::None,
    };
    if protection == MailProtection::None && password.is_some() {
        table.fault(
            "allow_plaintext",
            "the password would travel in plain text; leave it out, or the password",
        );
    }
    let usual = if protection == MailProtection::Tls { 465 } else { 587 };
    Some(MailConfig {
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port().unwrap_or(usual),
        protection,
        user,
        password,
        ca,
        from,
        to,
    })
}

fn parse_server(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no address")?;
    if !["smtp", "smtps"].contains(&url.scheme()) {
        return Err("it begins with neither smtps:// nor smtp://");
    }
    if url.password().is_some() {
        return Err("it has a password in it; write password = { file = \"…\" }");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host");
    }
    if !["", "/"].contains(&url.path()) || url.query().is_some() || url.fragment().is_some() {
        return Err("it has more than a user, a host and a port");
    }
    Ok(url)
}

impl NoticesConfig {
    /// What is in force, as the text of a file.
    pub(in crate::config) fn write_to(&self, out: &mut String) -> std::fmt::Result {
        let words = humantime::format_duration;
        writeln!(out, "\n[notices]\ndigest = \"{}\"", self.digest)?;
        writeln!(out, "give_up_after = \"{}\"", words(self.give_up_after))?;
        self.webhooks.iter().try_for_each(|webhook| webhook.write_to(out))?;
        let Some(mail) = &self.mail else {
            return writeln!(out, "\n# [mail] is not set: nobody is told by mail");
        };
        let scheme = if mail.protection == MailProtection::Tls { "smtps" } else { "smtp" };
        let user = mail.user.as_ref().map_or(String::new(), |user| format!("{user}@"));
        writeln!(out, "\n[mail]\nurl = \"{scheme}://{user}{}:{}\"", mail.host, mail.port)?;
        writeln!(out, "allow_plaintext = {}", mail.protection == MailProtection::None)?;
        let password = if mail.password.is_some() { "= (set)" } else { "is not set" };
        writeln!(out, "# password {password}\nfrom = {:?}", mail.from.to_string())?;
        write_authorities(out, mail.ca.as_deref())?;
        for recipient in &mail.to {
            writeln!(out, "\n[[mail.to]]\naddress = \"{}\"", recipient.address)?;
            write_topics(out, recipient.topics.as_deref())?;
        }
        Ok(())
    }
}

pub(in crate::config) fn write_topics(
    out: &mut String,
    topics: Option<&[Topic]>,
) -> std::fmt::Result {
    match topics {
        None => writeln!(out, "# topics is not set: everything"),
        Some(topics) => {
            let words: Vec<_> = topics.iter().map(|topic| topic.as_str()).collect();
            writeln!(out, "topics = {words:?}")
        }
    }
}

pub(in crate::config) fn write_authorities(out: &mut String, ca: Option<&str>) -> std::fmt::Result {
    match ca {
        None => writeln!(out, "# ca is not set: the system's authorities"),
        Some(_) => writeln!(out, "# ca = (set)"),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use crate::{config::Config, document::Faults};

    fn load(text: &str) -> Result<Config, Faults> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pgvalet.toml");
        std::fs::write(&path, text).unwrap();
        let secret = |byte: u8| format!("whsec_{}", STANDARD.encode([byte; 32]));
        let two = format!("{}\n{}\n", secret(1), secret(2));
        std::fs::write(folder.path().join("hook.secret"), two).unwrap();
        std::fs::write(folder.path().join("bad.secret"), "whsec_hunter2\n").unwrap();
        std::fs::write(folder.path().join("mail.secret"), "hunter2\n").unwrap();
        Config::load(Some(&path), [])
    }

    #[test]
    fn channels_are_read_and_shown_without_their_secrets() {
        let text = "[notices]\ngive_up_after = '2h'\n\
             [[webhook]]\nname = 'pager'\nurl = 'https://hooks.example.org/T0/hunter2'\nsecret = { file = 'hook.secret' }\n\
             topics = ['emergencies', 'sweeps']\n\
             [[webhook]]\nname = 'inside'\nurl = 'http://10.0.0.1:8080/x'\nsecret = { file = 'hook.secret' }\n\
             allow_private = true\n\
             [mail]\nurl = 'smtps://me@mail.example.org'\npassword = { file = 'mail.secret' }\n\
             from = 'pgvalet <pgvalet@example.org>'\n[[mail.to]]\naddress = 'dba@example.org'\n";
        let config = load(text).unwrap();
        let shown = config.describe();
        assert!(!shown.contains("hunter2") && !shown.contains("AQEB"), "{shown}");
        for line in [
            "give_up_after = \"2h\"",
            "# url = (set), at https://hooks.example.org",
            "# url = (set), at http://10.0.0.1:8080",
            "# secret = (set), 2 of them",
            "topics = [\"emergencies\", \"sweeps\"]",
            "url = \"smtps://me@mail.example.org:465\"",
            "address = \"dba@example.org\"",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        let notices = config.notices;
        assert_eq!(notices.webhooks[0].secrets[1].expose(), &[2; 32]);
        assert_eq!(notices.mail.unwrap().password.unwrap().expose(), "hunter2");
        assert_eq!(notices.webhooks[0].url.expose().path(), "/T0/hunter2");
        let debug = format!("{:?}", notices.webhooks);
        assert!(!debug.contains("1, 1, 1") && !debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write_instead() {
        let hook = |line: &str| {
            format!("[[webhook]]\nname = 'a'\nsecret = {{ file = 'hook.secret' }}\n{line}\n")
        };
        let mail = |lines: &str| format!("[mail]\nfrom = 'a@example.org'\n{lines}\n");
        let to = "[[mail.to]]\naddress = 'b@example.org'";
        for (text, words) in [
            (hook(""), "`url` in [webhook[0]] is missing"),
            (hook("url = 'http://hooks.example.org'"), "it is not https"),
            (hook("url = 'https://127.0.0.1/x'"), "it is no public address"),
            (hook("url = 'https://[::ffff:10.0.0.1]/x'"), "it is no public address"),
            (hook("url = 'https://2130706433/x'"), "it is no public address"),
            (hook("url = 'https://u:hunter2@example.org'"), "it has a user or a password"),
            (hook("url = 'ftp://example.org'\nallow_private = true"), "it is not https"),
            (hook("url = 'https://example.org'\ntopics = ['sweep']"), "did you mean `sweeps`?"),
            (hook("url = 'https://example.org'").replace("hook.", "bad."), "`whsec_` and 24 to 64"),
            (hook("url = 'https://example.org'").repeat(2), "there is a webhook `a` already"),
            (mail(&format!("url = 'mail.example.org'\n{to}")), "it is no address"),
            (mail(&format!("url = 'https://example.org'\n{to}")), "neither smtps:// nor smtp://"),
            (mail(&format!("url = 'smtps://a:b@example.org'\n{to}")), "it has a password in it"),
            (mail(&format!("url = 'smtps://a@example.org'\n{to}")), "go together"),
            (
                mail(&format!("url = 'smtps://example.org'\nallow_plaintext = true\n{to}")),
                "leave it out",
            ),
            (
                mail(&format!(
                    "url = 'smtp://a@example.org'\nallow_plaintext = true\npassword = 'hunter2'\n{to}"
                )),
                "would travel in plain text",
            ),
            (mail("url = 'smtps://example.org'\n[[mail.to]]\naddress = 'b'"), "write an address"),
            (mail("url = 'smtps://example.org'"), "`to` in [mail] is missing"),
            (
                mail("url = 'smtps://example.org'\n[[mail.to]]\ntopics = ['sweeps']"),
                "`address` in [mail.to[0]] is missing",
            ),
        ] {
            let faults = load(&text).unwrap_err().to_string();
            assert!(faults.contains(words), "{text}: {faults}");
            assert!(!faults.contains("hunter2"), "{faults}");
        }
    }
}
