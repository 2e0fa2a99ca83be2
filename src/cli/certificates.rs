//! Whom the client takes for the daemon, and the certificate that it shows itself.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;

use crate::{
    cli::{environment::Environment, failure::Failure},
    secret::Secret,
};

/// Longer than any chain.
const LONGEST_FILE: u64 = 1 << 20;

/// Certificates for connections to a daemon.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    authorities: Vec<reqwest::Certificate>,
    own: Option<reqwest::Identity>,
}

impl Certificates {
    /// Reads the authorities in `ca_file`, which are then the only ones that are trusted, and the client's
    /// own certificate that the environment names (`PGVALET_CLIENT_CERT`, `PGVALET_CLIENT_KEY`).
    ///
    /// # Errors
    /// If a file cannot be read or used, or others can read the key.
    pub fn read(ca_file: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        let authorities = ca_file.map(read_authorities).transpose()?.unwrap_or_default();
        Ok(Self { authorities, own: read_own(environment)? })
    }

    /// Is there one of the client's own?
    #[must_use]
    pub const fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// What speaks to a daemon with them.
    #[expect(
        clippy::disallowed_methods,
        reason = "the client's own: the command line is another program than the daemon, with other limits"
    )]
    pub(in crate::cli) fn http_client(self, base: &Url) -> Result<reqwest::Client, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pgvalet/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60));
        if base.scheme() == "http" {
            // A proxy from the environment would read the token of a request that is not encrypted.
            builder = builder.no_proxy();
        }
        if !self.authorities.is_empty() {
            builder = builder.tls_certs_only(self.authorities);
        }
        if let Some(own) = self.own {
            builder = builder.identity(own);
        }
        builder.build()
    }
}

/// The file of a private authority that a flag or the environment names.
#[must_use]
pub fn named_ca_file(flag: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    flag.map(Path::to_owned).or_else(|| environment.text("PGVALET_CA_FILE").map(PathBuf::from))
}

fn read_authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let text = read(path)?;
    let unusable = || {
        Failure::Usage(format!(
            "{} holds no certificates in PEM: give the authority that signed the daemon's certificate",
            path.display()
        ))
    };
    let all = reqwest::Certificate::from_pem_bundle(text.expose()).map_err(|_| unusable())?;
    if all.is_empty() { Err(unusable()) } else { Ok(all) }
}

fn read_own(environment: &Environment) -> Result<Option<reqwest::Identity>, Failure> {
    const NAMES: (&str, &str) = ("PGVALET_CLIENT_CERT", "PGVALET_CLIENT_KEY");
    let (cert, key) = match (environment.text(NAMES.0), environment.text(NAMES.1)) {
        (Some(cert), Some(key)) => (PathBuf::from(cert), PathBuf::from(key)),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(lonely(NAMES.0, NAMES.1)),
        (None, Some(_)) => return Err(lonely(NAMES.1, NAMES.0)),
    };
    let mut both = read(&cert)?;
    both.expose_mut().push(b'\n');
    both.expose_mut().extend_from_slice(read_key(&key)?.expose());
    let own = reqwest::Identity::from_pem(both.expose()).map_err(|_| {
        Failure::Usage(format!(
            "{} and {} are no certificate and its key in PEM (without a passphrase)",
            cert.display(),
            key.display()
        ))
    })?;
    Ok(Some(own))
}

fn lonely(set: &str, missing: &str) -> Failure {
    Failure::Usage(format!("{set} is set and {missing} is not: a client's certificate needs both"))
}

fn read_key(path: &Path) -> Result<Secret<Vec<u8>>, Failure> {
    let fault = || Failure::file(format!("read {}", path.display()));
    let mode = fs::metadata(path).map_err(fault())?.permissions().mode();
    // What a group may read is how a system hands a key to a service; the world may not.
    if mode & 0o007 != 0 {
        let path = path.display();
        return Err(Failure::Usage(format!(
            "{path} can be read by everybody (mode {:04o}): run chmod 600 {path}",
            mode & 0o7777
        )));
    }
    read(path)
}

fn read(path: &Path) -> Result<Secret<Vec<u8>>, Failure> {
    let mut bytes = Secret::new(Vec::new());
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST_FILE).read_to_end(bytes.expose_mut()))
        .map_err(Failure::file(format!("read {}", path.display())))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cert: Option<&str>, key: Option<&str>) -> String {
        let table = [("PGVALET_CLIENT_CERT", cert), ("PGVALET_CLIENT_KEY", key)];
        let table = table
            .iter()
            .filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned())));
        let environment = Environment::of_table(table.collect());
        Certificates::read(None, &environment).map_or_else(|e| e.to_string(), |_| String::new())
    }

    #[test]
    fn a_certificate_without_its_key_is_told() {
        assert_eq!(told(None, None), "");
        assert!(told(Some("a"), None).contains("PGVALET_CLIENT_KEY is not"));
        assert!(told(None, Some("a")).contains("PGVALET_CLIENT_CERT is not"));
    }

    #[test]
    fn a_key_that_everybody_reads_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "not a key").unwrap();
        let name = path.to_str().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(told(Some(name), Some(name)).contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(told(Some(name), Some(name)).contains("no certificate and its key"));
        let none = Certificates::read(Some(&path), &Environment::of_table(Vec::new()));
        assert!(none.unwrap_err().to_string().contains("no certificates in PEM"));
    }
}
