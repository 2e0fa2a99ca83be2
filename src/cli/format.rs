//! A credential in the words of whoever reads it: each format quotes in its own way, and a value
//! that a format cannot hold is refused rather than bent.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{api::leases::ReceivedCredential, ids::LeaseId, secret::Secret};

/// How a credential is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A libpq URI: `postgresql://…`.
    #[default]
    Uri,
    /// libpq's keywords and values: `host='…' …`.
    Kv,
    /// A JDBC URL: `jdbc:postgresql://…`.
    Jdbc,
    /// One JSON object.
    Json,
    /// The PG* variables, quoted for a POSIX shell: `set -a; . FILE`.
    Dotenv,
    /// A section for libpq's service file (`~/.pg_service.conf`).
    Pgservice,
    /// A line for libpq's password file (`~/.pgpass`). It has no place for options.
    Pgpass,
}

/// A credential and what goes with it.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The credential.
    pub credential: &'a ReceivedCredential,
    /// The lease's id.
    pub lease_id: LeaseId,
    /// The profile's name.
    pub profile: &'a str,
    /// When the lease ends.
    pub expires_at: DateTime<Utc>,
    /// The file with the certificates to trust, where the target has its own authority.
    pub root_certificate: Option<&'a str>,
}

/// A value that a format has no way to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {key} of this credential cannot stand in the format `{format}`: {why}")]
pub struct CannotWrite {
    key: &'static str,
    format: &'static str,
    why: &'static str,
}

impl Access<'_> {
    /// What sessions call themselves on the target.
    #[must_use]
    pub fn application_name(&self) -> String {
        format!("pgvalet/{}", self.profile)
    }

    /// libpq's `sslrootcert`: the file; or `system`, without which `verify-full` would look for a
    /// file in the user's home. `system` is not allowed with `verify-ca`.
    #[must_use]
    pub fn sslrootcert(&self) -> Option<&str> {
        match (self.root_certificate, self.credential.sslmode.as_str()) {
            (Some(file), _) => Some(file),
            (None, "verify-full") => Some("system"),
            (None, _) => None,
        }
    }

    /// The credential in a format, ending with a newline.
    ///
    /// # Errors
    /// If the format cannot hold one of the values.
    pub fn write(&self, format: Format) -> Result<Secret<String>, CannotWrite> {
        let written = match format {
            Format::Uri => Ok(self.uri()),
            Format::Kv => Ok(self.keywords()),
            Format::Jdbc => Ok(self.jdbc()),
            Format::Json => Ok(self.json()),
            Format::Dotenv => Ok(self.dotenv()),
            Format::Pgservice => self.service(),
            Format::Pgpass => self.password_line(),
        };
        written.map(|text| Secret::new(text + "\n"))
    }

    /// libpq's keywords with their values, in the order in which people expect them.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let c = self.credential;
        let mut pairs = vec![
            ("host", c.host.clone()),
            ("port", c.port.to_string()),
            ("dbname", c.database.clone()),
            ("user", c.user.clone()),
            ("password", c.password.expose().clone()),
            ("sslmode", c.sslmode.clone()),
        ];
        pairs.extend(self.sslrootcert().map(|file| ("sslrootcert", file.to_owned())));
        pairs.push(("options", c.options.clone()));
        pairs.push(("application_name", self.application_name()));
        pairs
    }

    /// The same as environment variables, for a child or a file.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, Secret<String>)> {
        let variable = |keyword| match keyword {
            "host" => "PGHOST",
            "port" => "PGPORT",
            "dbname" => "PGDATABASE",
            "user" => "PGUSER",
            "password" => "PGPASSWORD",
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "options" => "PGOPTIONS",
            _ => "PGAPPNAME",
        };
        self.pairs()
            .into_iter()
            .map(|(keyword, value)| (variable(keyword), Secret::new(value)))
            .collect()
    }

    /// A socket's folder cannot stand where a URI has its host (readers disagree on `%2F` there, and
    /// on a user without a host), so that then all goes into the query, which libpq and the others
    /// read alike.
    fn uri(&self) -> String {
        let c = self.credential;
        let in_front = ["user", "password", "host", "port", "dbname"];
        let database = percent(&c.database);
        let (front, left_out): (String, &[&str]) = if is_socket(&c.host) {
            (format!("postgresql:///{database}"), &["dbname"])
        } else {
            let (user, password) = (percent(&c.user), percent(c.password.expose()));
            let host = uri_host(&c.host);
            (format!("postgresql://{user}:{password}@{host}:{}/{database}", c.port), &in_front)
        };
        front + &query(self.pairs().iter().filter(|(key, _)| !left_out.contains(key)))
    }

    fn keywords(&self) -> String {
        let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
        let pairs: Vec<String> =
            self.pairs().iter().map(|(key, value)| format!("{key}='{}'", quoted(value))).collect();
        pairs.join(" ")
    }

    /// pgjdbc reads no `sslrootcert=system`: Java's own authorities are another class. It has no
    /// sockets of its own either: the host is then `localhost`, and a socket factory is up to the
    /// program.
    fn jdbc(&self) -> String {
        let c = self.credential;
        let host = if is_socket(&c.host) { "localhost".to_owned() } else { uri_host(&c.host) };
        let mut pairs = vec![
            ("user", c.user.clone()),
            ("password", c.password.expose().clone()),
            ("sslmode", c.sslmode.clone()),
        ];
        match (self.root_certificate, c.sslmode.as_str()) {
            (Some(file), _) => pairs.push(("sslrootcert", file.to_owned())),
            (None, "verify-full" | "verify-ca") => {
                pairs.push(("sslfactory", "org.postgresql.ssl.DefaultJavaSSLFactory".to_owned()))
            }
            (None, _) => {}
        }
        pairs.push(("ApplicationName", self.application_name()));
        pairs.push(("options", c.options.clone()));
        let front = format!("jdbc:postgresql://{host}:{}/{}", c.port, percent(&c.database));
        front + &query(pairs.iter())
    }

    fn json(&self) -> String {
        let c = self.credential;
        serde_json::json!({
            "lease_id": self.lease_id,
            "profile": self.profile,
            "host": c.host,
            "port": c.port,
            "database": c.database,
            "user": c.user,
            "password": c.password.expose(),
            "sslmode": c.sslmode,
            "sslrootcert": self.sslrootcert(),
            "options": c.options,
            "application_name": self.application_name(),
            "expires_at": self.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            "uri": self.uri(),
        })
        .to_string()
    }

    fn dotenv(&self) -> String {
        let lines: Vec<String> = self
            .variables()
            .iter()
            .map(|(name, value)| format!("{name}='{}'", value.expose().replace('\'', r"'\''")))
            .collect();
        lines.join("\n")
    }

    /// libpq takes everything after the first `=` as it stands, less white space at the end of the
    /// line: there is no quoting, so that some values cannot be written.
    fn service(&self) -> Result<String, CannotWrite> {
        let mut lines = vec![format!("[pgvalet-{}]", self.profile)];
        for (key, value) in self.pairs() {
            let refuse = |why| CannotWrite { key, format: "pgservice", why };
            if value.contains(['\n', '\r', '\0']) {
                return Err(refuse("a service file has no way to write a line break"));
            }
            if value.ends_with(|c: char| c.is_ascii_whitespace() || c == '\u{b}') {
                return Err(refuse("libpq drops white space at the end of a line"));
            }
            let line = format!("{key}={value}");
            if line.len() > LONGEST_SERVICE_LINE {
                return Err(refuse("libpq reads lines of at most 1022 bytes"));
            }
            lines.push(line);
        }
        Ok(lines.join("\n"))
    }

    /// libpq looks a socket up by its folder, but by `localhost` if the folder is the one that it was
    /// built with: where that is likely there are two lines, because it cannot be seen from here.
    fn password_line(&self) -> Result<String, CannotWrite> {
        let c = self.credential;
        let fields = [
            ("host", c.host.clone()),
            ("port", c.port.to_string()),
            ("dbname", c.database.clone()),
            ("user", c.user.clone()),
            ("password", c.password.expose().clone()),
        ];
        for (key, value) in &fields {
            let refuse = |why| CannotWrite { key, format: "pgpass", why };
            if value.contains(['\n', '\r', '\0']) {
                return Err(refuse("a password file has no way to write a line break"));
            }
            if *key == "host" && value.starts_with('#') {
                return Err(refuse("libpq takes the line for a comment"));
            }
        }
        let rest = fields.iter().skip(1).map(|(_, value)| password_field(value));
        let rest = rest.collect::<Vec<_>>().join(":");
        let line = format!("{}:{rest}", password_field(&c.host));
        if DEFAULT_SOCKET_FOLDERS.contains(&c.host.as_str()) {
            return Ok(format!("localhost:{rest}\n{line}"));
        }
        Ok(line)
    }
}

/// libpq reads a service file in pieces of 1024 bytes, the newline and the zero byte included.
const LONGEST_SERVICE_LINE: usize = 1022;

/// Where PostgreSQL's source and the distributions put the socket.
const DEFAULT_SOCKET_FOLDERS: [&str; 3] = ["/tmp", "/var/run/postgresql", "/run/postgresql"];

/// A path, or (`@`) Linux's abstract sockets: what libpq takes for a socket.
fn is_socket(host: &str) -> bool {
    host.starts_with(['/', '@'])
}

/// An IPv6 address stands in brackets.
fn uri_host(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{host}]"),
        Err(_) => percent(host),
    }
}

/// RFC 3986: everything but the unreserved letters, as UTF-8.
fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn query<'a>(pairs: impl Iterator<Item = &'a (&'static str, String)>) -> String {
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", percent(value))).collect();
    format!("?{}", pairs.join("&"))
}

/// A field that is `*` alone would mean any.
fn password_field(value: &str) -> String {
    match value {
        "*" => r"\*".to_owned(),
        _ => value.replace('\\', r"\\").replace(':', r"\:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(host: &str, database: &str, options: &str) -> ReceivedCredential {
        ReceivedCredential {
            host: host.to_owned(),
            port: 5433,
            database: database.to_owned(),
            user: "pgv_alice".to_owned(),
            password: Secret::new("p_W-1".to_owned()),
            sslmode: "require".to_owned(),
            sslrootcert_pem: None,
            options: options.to_owned(),
            valid_until: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            uri: Secret::new(String::new()),
        }
    }

    fn written(
        credential: &ReceivedCredential,
        root_certificate: Option<&str>,
        format: Format,
    ) -> Result<String, CannotWrite> {
        let lease_id = LeaseId::from(uuid::Uuid::nil());
        let expires_at = credential.valid_until;
        Access { credential, lease_id, profile: "shop-read", expires_at, root_certificate }
            .write(format)
            .map(|secret| secret.expose().clone())
    }

    /// Everything that one of the formats gives a meaning to.
    const HOSTILE: &str = "a b'c\\d:e/f?g#h@i&j=k%l$m\"n`o*ä\u{1f511}";

    #[test]
    fn every_format_of_a_plain_credential() {
        use clap::ValueEnum;
        let plain = credential("db.internal", "shop", "-c role=pgvg_shop_read");
        let all: Vec<String> = Format::value_variants()
            .iter()
            .map(|format| written(&plain, None, *format).unwrap())
            .collect();
        insta::assert_snapshot!(all.join("---\n"));
    }

    #[test]
    fn every_format_of_a_hostile_credential() {
        use clap::ValueEnum;
        let hostile = credential(HOSTILE, HOSTILE, HOSTILE);
        let all: Vec<String> = Format::value_variants()
            .iter()
            .map(|format| written(&hostile, None, *format).unwrap())
            .collect();
        insta::assert_snapshot!(all.join("---\n"));
    }

    #[test]
    fn the_authority_is_a_file_or_the_systems() {
        let mut c = credential("db", "shop", "");
        for (sslmode, file, uri, jdbc) in [
            ("require", None, false, false),
            ("verify-ca", None, false, true),
            ("verify-full", None, true, true),
            ("verify-full", Some("/a b.pem"), false, false),
        ] {
            c.sslmode = sslmode.to_owned();
            let text = written(&c, file, Format::Uri).unwrap();
            assert_eq!(text.contains("sslrootcert=system"), uri, "{text}");
            assert_eq!(text.contains("sslrootcert=%2Fa%20b.pem"), file.is_some(), "{text}");
            let text = written(&c, file, Format::Jdbc).unwrap();
            assert_eq!(text.contains("sslfactory="), jdbc, "{text}");
        }
    }

    #[test]
    fn addresses_and_sockets_stand_where_their_readers_look() {
        for (host, format, part) in [
            ("::1", Format::Uri, "@[::1]:5433/shop"),
            ("::1", Format::Jdbc, "//[::1]:5433/shop"),
            ("::1", Format::Pgpass, r"\:\:1:5433:shop:"),
            ("/srv/pg", Format::Uri, "postgresql:///shop?host=%2Fsrv%2Fpg&port=5433&user="),
            ("/srv/pg", Format::Kv, "host='/srv/pg' port='5433'"),
            ("/srv/pg", Format::Pgpass, "/srv/pg:5433:"),
            ("/tmp", Format::Pgpass, "localhost:5433:shop:pgv_alice:p_W-1\n/tmp:5433:"),
        ] {
            let text = written(&credential(host, "shop", ""), None, format).unwrap();
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_a_format_cannot_hold_is_refused_by_name() {
        let long = "x".repeat(1020);
        for (database, format, key) in [
            ("a\nb", Format::Pgservice, "dbname"),
            ("a\r", Format::Pgservice, "dbname"),
            ("a ", Format::Pgservice, "dbname"),
            (long.as_str(), Format::Pgservice, "dbname"),
            ("a\nb", Format::Pgpass, "dbname"),
        ] {
            let refused = written(&credential("db", database, ""), None, format).unwrap_err();
            assert_eq!(refused.key, key);
        }
        assert!(written(&credential("#db", "shop", ""), None, Format::Pgpass).is_err());
        assert!(
            written(&credential("db", "*", ""), None, Format::Pgpass).unwrap().contains(r":\*:")
        );
    }

    #[test]
    fn a_shell_reads_back_what_dotenv_says() {
        let database = format!("{HOSTILE}\nsecond line");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        let text = written(&credential("db", &database, ""), None, Format::Dotenv).unwrap();
        std::fs::write(&file, text).unwrap();
        let read = std::process::Command::new("sh")
            .args(["-c", r#"set -a; . "$1"; exec sh -c 'printf %s "$PGDATABASE"'"#, "sh"])
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(read.stdout).unwrap(), database);
    }
}
