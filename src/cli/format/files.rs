//! What stands in files of libpq's: a section of its service file, a line of its password file. Neither has a
//! way to quote everything.

use crate::cli::format::{Access, CannotWrite};

impl Access<'_> {
    /// The name of the section in the service file.
    #[must_use]
    pub fn service_name(&self) -> String {
        format!("pgvalet-{}", self.profile)
    }

    /// libpq takes everything after the first `=` as it stands, less white space at the end of the
    /// line: there is no quoting, so that some values cannot be written.
    pub(super) fn service(&self) -> Result<String, CannotWrite> {
        let mut lines = vec![format!("[{}]", self.service_name())];
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
    pub(super) fn password_line(&self) -> Result<String, CannotWrite> {
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

/// A field that is `*` alone would mean any.
pub(super) fn password_field(value: &str) -> String {
    match value {
        "*" => r"\*".to_owned(),
        _ => value.replace('\\', r"\\").replace(':', r"\:"),
    }
}
