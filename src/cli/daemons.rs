//! The daemons that `pgvalet login` signed in to: their addresses and tokens in one file, and which of them is
//! asked when nobody says.
//!
//! A token is kept together with the address that it is for, and is sent nowhere else.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use reqwest::Url;

use crate::{
    cli::{
        Globals, Io,
        failure::Failure,
        output::{self, plain},
        session,
    },
    secret::Secret,
};

/// One daemon.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// Its address.
    pub url: String,
    /// The token that it gave.
    pub token: Secret<String>,
    /// The private authority that signed its certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub struct Daemons {
    default: Option<String>,
    known: BTreeMap<String, Daemon>,
}

/// The file. `url` and `token` at its top are how one daemon was kept before there could be several.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Option<String>,
    #[serde(default)]
    daemon: BTreeMap<String, Daemon>,
    url: Option<String>,
    token: Option<Secret<String>>,
    ca_file: Option<PathBuf>,
}

impl Daemons {
    /// Reads the file, unless others may read it too: then its tokens are no secrets any more.
    ///
    /// # Errors
    /// If it is there and cannot be read or understood.
    pub fn read(io: &Io<'_>) -> Result<Self, Failure> {
        Self::read_if(|mode| mode & 0o077 == 0, io)
    }

    /// The same, whoever else may read it: to take something out.
    ///
    /// # Errors
    /// If it is there and cannot be read or understood.
    pub fn read_to_forget(io: &Io<'_>) -> Result<Self, Failure> {
        Self::read_if(|_| true, io)
    }

    fn read_if(is_private: impl Fn(u32) -> bool, io: &Io<'_>) -> Result<Self, Failure> {
        let Ok(path) = path(io) else { return Ok(Self::default()) };
        let fault = || Failure::file(format!("read {}", path.display()));
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(fault()(e)),
        };
        let mode = file.metadata().map_err(fault())?.permissions().mode();
        if !is_private(mode) {
            let path = path.display();
            return Err(Failure::NotSignedIn(format!(
                "{path} can be read by others (mode {:04o}): revoke its tokens, remove it and sign in again, or `chmod 600 {path}` if nobody else uses this machine",
                mode & 0o7777
            )));
        }
        let mut text = Secret::new(String::new());
        file.read_to_string(text.expose_mut()).map_err(fault())?;
        // Of toml's fault only that there is one: its message quotes the line, and so the token.
        Self::parse(text.expose()).ok_or_else(|| {
            Failure::NotSignedIn(format!("{} is not what `pgvalet login` writes", path.display()))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let File { mut default, daemon: mut known, url, token, ca_file } =
            toml::from_str(text).ok()?;
        match (url, token) {
            (Some(url), Some(token)) => {
                let name = name_for(&url)?;
                default.get_or_insert_with(|| name.clone());
                known.entry(name).or_insert(Daemon { url, token, ca_file });
            }
            (None, None) => {}
            _ => return None,
        }
        Some(Self { default, known })
    }

    /// The one of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(&self, name: &str) -> Result<&Daemon, Failure> {
        self.known.get(name).ok_or_else(|| {
            let known = match self.names() {
                names if names.is_empty() => "none is kept".to_owned(),
                names => format!("known are {names}"),
            };
            Failure::NotSignedIn(format!("there is no daemon `{}`; {known}", plain(name)))
        })
    }

    /// The one that is asked when none is named; none if none is known.
    ///
    /// # Errors
    /// If it is not clear which.
    pub fn usual(&self) -> Result<Option<&Daemon>, Failure> {
        match (&self.default, self.known.len()) {
            (Some(name), _) if self.known.contains_key(name) => Ok(self.known.get(name)),
            (_, 0 | 1) => Ok(self.known.values().next()),
            _ => Err(Failure::Usage(format!(
                "which daemon: {}? Name it with --daemon, or choose one for good with `pgvalet use NAME`",
                self.names()
            ))),
        }
    }

    /// The one at this address.
    #[must_use]
    pub fn at(&self, url: &str) -> Option<&Daemon> {
        self.known.values().find(|daemon| same_address(&daemon.url, url))
    }

    /// Their names, for a sentence.
    #[must_use]
    pub fn names(&self) -> String {
        self.known.keys().map(|name| plain(name)).collect::<Vec<_>>().join(", ")
    }

    /// Their addresses, for a sentence.
    #[must_use]
    pub fn addresses(&self) -> String {
        let addresses: Vec<_> = self.known.values().map(|daemon| plain(&daemon.url)).collect();
        addresses.join(", ")
    }

    /// Keeps a daemon, as the one that is asked from now on; gives its name. Without a name it is called as
    /// the one with its address is, or else after its host.
    ///
    /// # Errors
    /// If it cannot have the name.
    pub fn keep(&mut self, name: Option<&str>, daemon: Daemon) -> Result<String, Failure> {
        let known = self.known.iter().find(|(_, known)| same_address(&known.url, &daemon.url));
        let name = match (name, known) {
            (Some(name), _) => name.to_owned(),
            (None, Some((name, _))) => name.clone(),
            (None, None) => name_for(&daemon.url).unwrap_or_else(|| "default".to_owned()),
        };
        if name.is_empty() || !name.bytes().all(is_of_a_name) {
            return Err(Failure::Usage(format!(
                "`{}` is no name for a daemon: letters, digits and . - _ : can be in one",
                plain(&name)
            )));
        }
        self.default = Some(name.clone());
        self.known.insert(name.clone(), daemon);
        Ok(name)
    }

    /// Forgets one; the one that is asked by default if none is named. Gives its name and address.
    ///
    /// # Errors
    /// If it is not clear which.
    pub fn forget(&mut self, name: Option<&str>) -> Result<Option<(String, Daemon)>, Failure> {
        let name = match (name, self.usual()?) {
            (Some(name), _) => self.named(name).map(|_| name.to_owned())?,
            (None, None) => return Ok(None),
            (None, Some(daemon)) => {
                let url = daemon.url.clone();
                let found = self.known.iter().find(|(_, known)| known.url == url);
                found.map(|(name, _)| name.clone()).unwrap_or_default()
            }
        };
        if self.default.as_ref() == Some(&name) {
            self.default = None;
        }
        Ok(self.known.remove_entry(&name))
    }

    /// Writes the file, or removes it when nothing is left to keep; gives where it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, io: &Io<'_>) -> Result<PathBuf, Failure> {
        if self.known.is_empty() {
            let path = path(io)?;
            return match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    Err(Failure::file(format!("remove {}", path.display()))(e))
                }
                _ => Ok(path),
            };
        }
        let path = session::folder(io)?.join(FILE);
        session::write_private(&path, self.text()?.expose())?;
        Ok(path)
    }

    fn text(&self) -> Result<Secret<String>, Failure> {
        let mut text = Secret::new(String::new());
        if let Some(default) = &self.default {
            text.expose_mut().push_str(&format!("default = '{default}'\n"));
        }
        for (name, Daemon { url, token, ca_file }) in &self.known {
            // Both are of letters that a TOML literal may hold: an address is percent-encoded, and a
            // token was checked by the client; a quote is the one exception.
            if url.contains('\'') || token.expose().contains('\'') {
                return Err(Failure::Usage(
                    "an address or a token with a quote in it cannot be kept".to_owned(),
                ));
            }
            let part = Secret::new(format!(
                "\n[daemon.'{name}']\nurl = '{url}'\ntoken = '{}'\n",
                token.expose()
            ));
            text.expose_mut().push_str(part.expose());
            if let Some(file) = ca_file {
                let file = toml::Value::from(file.display().to_string());
                text.expose_mut().push_str(&format!("ca_file = {file}\n"));
            }
        }
        Ok(text)
    }
}

/// The client's file.
const FILE: &str = "client.toml";

fn path(io: &Io<'_>) -> Result<PathBuf, Failure> {
    session::folder_path(io).map(|folder| folder.join(FILE))
}

/// Brackets are in the name that an IPv6 address gets.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)
}

/// The host, and the port if it is not the scheme's own.
fn name_for(url: &str) -> Option<String> {
    let url: Url = url.parse().ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn same_address(one: &str, other: &str) -> bool {
    let read = |text: &str| Url::parse(text.trim_end_matches('/')).ok();
    read(one).is_some_and(|one| read(other) == Some(one))
}

/// `pgvalet daemons`.
///
/// # Errors
/// If the file cannot be read.
pub fn list(globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let daemons = Daemons::read(io)?;
    let default = daemons.usual().ok().flatten().map(|daemon| daemon.url.clone());
    let is_default = |daemon: &Daemon| default.as_ref() == Some(&daemon.url);
    if globals.json {
        let items = daemons.known.iter().map(|(name, daemon)| {
            serde_json::json!({ "name": name, "url": daemon.url, "default": is_default(daemon) })
        });
        let items: Vec<_> = items.collect();
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    if daemons.known.is_empty() {
        writeln!(io.err, "no daemon is kept: pgvalet login --url URL")?;
        return Ok(0);
    }
    let rows = daemons.known.iter().map(|(name, daemon)| {
        let mark = if is_default(daemon) { "yes" } else { "" };
        vec![name.clone(), daemon.url.clone(), mark.to_owned()]
    });
    let rows = rows.collect();
    Ok(output::table(io, &["name", "address", "default"], rows).map(|()| 0)?)
}

/// `pgvalet use NAME`.
///
/// # Errors
/// If there is none of that name.
pub fn choose(name: &str, io: &mut Io<'_>) -> Result<u8, Failure> {
    let mut daemons = Daemons::read(io)?;
    let url = daemons.named(name)?.url.clone();
    daemons.default = Some(name.to_owned());
    daemons.write(io)?;
    writeln!(io.err, "{} at {} is asked from now on", plain(name), plain(&url))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(url: &str) -> Daemon {
        Daemon { url: url.to_owned(), token: Secret::new("pgv_x".to_owned()), ca_file: None }
    }

    #[test]
    fn a_file_of_before_is_read_and_what_is_written_is_read_back() {
        let mut daemons =
            Daemons::parse("url = 'https://valet.example.org'\ntoken = 'pgv_x'\n").unwrap();
        assert_eq!(daemons.usual().unwrap().unwrap().url, "https://valet.example.org");
        assert_eq!(daemons.names(), "valet.example.org");
        daemons.keep(Some("here"), daemon("http://[::1]:8432")).unwrap();
        daemons.keep(None, daemon("http://127.0.0.1:8432")).unwrap();
        let read = Daemons::parse(daemons.text().unwrap().expose()).unwrap();
        assert_eq!(read.names(), "127.0.0.1:8432, here, valet.example.org");
        assert_eq!(read.usual().unwrap().unwrap().url, "http://127.0.0.1:8432");
        assert!(read.at("http://[::1]:8432/").is_some());
        for wrong in ["url = 'x'", "nonsense", "token = 1", "[daemon.x]\nurl = 'y'"] {
            assert!(Daemons::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_daemon_is_kept_under_one_name_and_the_last_one_needs_none() {
        let mut daemons = Daemons::default();
        assert!(daemons.usual().unwrap().is_none());
        assert_eq!(daemons.keep(None, daemon("https://a.example.org/")).unwrap(), "a.example.org");
        assert_eq!(daemons.keep(Some("b"), daemon("https://b.example.org")).unwrap(), "b");
        assert_eq!(daemons.keep(None, daemon("https://b.example.org/")).unwrap(), "b");
        for wrong in ["", "a b", "a'b", "a\nb"] {
            assert_eq!(
                daemons.keep(Some(wrong), daemon("https://c")).unwrap_err().exit_status(),
                2
            );
        }
        assert_eq!(daemons.named("c").unwrap_err().exit_status(), 3);
        assert_eq!(daemons.forget(None).unwrap().unwrap().0, "b");
        assert_eq!(daemons.usual().unwrap().unwrap().url, "https://a.example.org/");
        daemons.keep(None, daemon("https://d.example.org")).unwrap();
        daemons.keep(None, daemon("https://e.example.org")).unwrap();
        daemons.forget(None).unwrap();
        assert_eq!(daemons.usual().unwrap_err().exit_status(), 2, "which of two?");
    }
}
