//! A credential in the words of whoever reads it: each format quotes in its own way, and a value
//! that a format cannot hold is refused rather than bent.

pub mod github;

mod escape;
mod files;
#[cfg(test)]
mod tests;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::{
    api::leases::ReceivedCredential,
    cli::format::escape::{is_socket, libpq_quoted, percent, query, shell_quoted, uri_host},
    ids::LeaseId,
    secret::Secret,
};

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
    /// One JSON object with its `Expiration`, for programs that run a command for a credential. `get` keeps
    /// the lease and gives the same one until shortly before its end.
    CredentialProcess,
    /// For a step of GitHub Actions: masks on standard output, the PG* variables and `DATABASE_URL` to
    /// `$GITHUB_ENV`, `lease-id` and `expires-at` to `$GITHUB_OUTPUT`.
    Github,
}

/// One part of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Field {
    /// Host name, address, or the folder of a socket.
    Host,
    /// The port.
    Port,
    /// The database.
    Database,
    /// The login role.
    User,
    /// Its password.
    Password,
    /// libpq's `sslmode`.
    Sslmode,
    /// libpq's `options`.
    Options,
    /// All of it as a URI.
    Uri,
    /// All of it as a JDBC URL.
    Jdbc,
    /// The lease's id.
    LeaseId,
    /// When it ends.
    ExpiresAt,
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
            Format::CredentialProcess => Ok(self.credential_process()),
            Format::Github => self.github_environment(),
        };
        written.map(|text| Secret::new(text + "\n"))
    }

    /// One part of it, as it is.
    #[must_use]
    pub fn field(&self, field: Field) -> Secret<String> {
        let c = self.credential;
        Secret::new(match field {
            Field::Host => c.host.clone(),
            Field::Port => c.port.to_string(),
            Field::Database => c.database.clone(),
            Field::User => c.user.clone(),
            Field::Password => c.password.expose().clone(),
            Field::Sslmode => c.sslmode.clone(),
            Field::Options => c.options.clone(),
            Field::Uri => self.uri(),
            Field::Jdbc => self.jdbc(),
            Field::LeaseId => self.lease_id.to_string(),
            Field::ExpiresAt => self.ends(),
        })
    }

    /// When the lease ends, as ISO 8601 has it.
    fn ends(&self) -> String {
        self.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true)
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

    fn uri(&self) -> String {
        self.uri_with(&format!(":{}", percent(self.credential.password.expose())), &[])
    }

    /// The URI without the password, for where a password file has it.
    #[must_use]
    pub fn uri_without_password(&self) -> String {
        self.uri_with("", &["password"])
    }

    /// A socket's folder cannot stand where a URI has its host (readers disagree on `%2F` there, and
    /// on a user without a host), so that then all goes into the query, which libpq and the others
    /// read alike. `password` is what stands behind the user; `without` stays out of the query.
    fn uri_with(&self, password: &str, without: &[&str]) -> String {
        let c = self.credential;
        let in_front = ["user", "password", "host", "port", "dbname"];
        let database = percent(&c.database);
        let (front, left_out): (String, &[&str]) = if is_socket(&c.host) {
            (format!("postgresql:///{database}"), &["dbname"])
        } else {
            let (user, host) = (percent(&c.user), uri_host(&c.host));
            (format!("postgresql://{user}{password}@{host}:{}/{database}", c.port), &in_front)
        };
        let pairs = self.pairs();
        front
            + &query(
                pairs.iter().filter(|(key, _)| !left_out.contains(key) && !without.contains(key)),
            )
    }

    fn keywords(&self) -> String {
        let pairs: Vec<String> = self
            .pairs()
            .iter()
            .map(|(key, value)| format!("{key}={}", libpq_quoted(value)))
            .collect();
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

    /// What both JSON formats say.
    fn members(&self) -> Map<String, Value> {
        let c = self.credential;
        let members = [
            ("lease_id", json!(self.lease_id)),
            ("profile", json!(self.profile)),
            ("host", json!(c.host)),
            ("port", json!(c.port)),
            ("database", json!(c.database)),
            ("user", json!(c.user)),
            ("password", json!(c.password.expose())),
            ("sslmode", json!(c.sslmode)),
            ("sslrootcert", json!(self.sslrootcert())),
            ("options", json!(c.options)),
            ("application_name", json!(self.application_name())),
            ("expires_at", json!(self.ends())),
            ("uri", json!(self.uri())),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn json(&self) -> String {
        Value::Object(self.members()).to_string()
    }

    /// The frame is that of AWS's `credential_process`: a version, and when to ask again.
    fn credential_process(&self) -> String {
        let frame = [("Version", json!(1)), ("Expiration", json!(self.ends()))];
        let frame = frame.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Object(frame.chain(self.members()).collect()).to_string()
    }

    fn dotenv(&self) -> String {
        let lines: Vec<String> = self
            .variables()
            .iter()
            .map(|(name, value)| format!("{name}={}", shell_quoted(value.expose())))
            .collect();
        lines.join("\n")
    }
}
