//! TLS for the API: what `[tls]` says, and what the files that it names hold.
//!
//! The files are read at the start, where a fault in them stops it as any other fault of the settings
//! does, and again while the daemon runs (`serve/tls.rs`), by the same code: what is taken at a reload
//! would also be taken at the next start.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use crate::{
    config::environment::Environment,
    document::{Fault, Faults, Table},
    secret::Secret,
};

/// TLS for the API, and for `/metrics` on an address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, and those of the authorities between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates of clients; none if they are not asked for.
    pub clients: Option<ClientCertificates>,
}

/// Certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that may have signed them.
    pub authorities: PathBuf,
    /// What these have revoked.
    pub revoked: Option<PathBuf>,
    /// Must every client have one?
    pub rule: ClientRule,
}

/// Must every client have a certificate?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientRule {
    /// One that is sent is verified; a token does without.
    #[default]
    Optional,
    /// A connection without one is refused.
    Required,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
pub struct TlsFiles {
    cert: Vec<u8>,
    key: Secret<Vec<u8>>,
    authorities: Option<Vec<u8>>,
    revoked: Option<Vec<u8>>,
}

/// What connections are begun with.
#[derive(Debug, Clone)]
pub struct Tls {
    /// For rustls.
    pub server: Arc<ServerConfig>,
    /// From when the certificate holds.
    pub begins_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
}

/// What is wrong with a file. What is in a key file is never shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// It cannot be read.
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is much too large, or no file.
    #[error("{} is not a file of a few certificates", .0.display())]
    NotAFile(PathBuf),
    /// Others can read or change a key.
    #[error(
        "{path} can be read or changed by others (mode {mode:04o}); run: chmod 600 {path} (a file that root owns may be read by its group: 0640; of a Kubernetes secret, write `defaultMode: 0440` with an `fsGroup`)",
        path = .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not PEM.
    #[error("{} is not PEM: {why}", .path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No certificate.
    #[error(
        "there is no certificate in {}; write it as PEM, first its own, then those of the authorities between it and the root",
        .0.display()
    )]
    NoCertificate(PathBuf),
    /// No key, or one under a passphrase.
    #[error(
        "there is no private key in {} that can be used; write it as PEM without a passphrase (PKCS#8, as `openssl genpkey` writes it, PKCS#1 or SEC1)",
        .0.display()
    )]
    NoKey(PathBuf),
    /// A certificate that cannot be understood.
    #[error("the certificate in {} cannot be used: {why}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The two do not belong together.
    #[error("the key in {} is not the one of the certificate in {}", .key.display(), .cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The authorities for clients cannot be used.
    #[error("the authorities in {} cannot be used: {why}", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The revocation lists cannot be used.
    #[error("there is no certificate revocation list in {} that can be used: {why}", .path.display())]
    Revoked {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// More than a long chain, or a list of some ten thousand revoked certificates.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// What the file says; `None` is what it leaves open.
#[derive(Default)]
pub(crate) struct Written {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    authorities: Option<PathBuf>,
    revoked: Option<PathBuf>,
    rule: Option<ClientRule>,
}

/// Reads `[tls]`.
pub(crate) fn read(mut table: Table, folder: &Path) -> Written {
    let mut path = |key| table.optional_string(key).map(|file| folder.join(file));
    let (cert, key) = (path("cert"), path("key"));
    let (authorities, revoked) = (path("client_ca"), path("client_crl"));
    let word = table.one_of("client_certificates", ClientRule::WORDS);
    let rule = word.and_then(ClientRule::from_word);
    if authorities.is_none() {
        for (key, is_there) in
            [("client_crl", revoked.is_some()), ("client_certificates", rule.is_some())]
        {
            if is_there {
                let message =
                    "needs `client_ca` too: the authorities that sign clients' certificates";
                table.fault(key, message);
            }
        }
    }
    Written { cert, key, authorities, revoked, rule }
}

/// What is in force, if it is sound.
pub(crate) fn overlay(
    file: &Path,
    written: Option<Written>,
    environment: &mut Environment,
    faults: &mut Faults,
) -> Option<TlsConfig> {
    let named = |name| environment.text(name).map(PathBuf::from);
    let (cert, key) = (named("PGVALET_TLS_CERT"), named("PGVALET_TLS_KEY"));
    let is_written = written.is_some();
    let written = written.unwrap_or_default();
    let mut fault = |key: &str, message: String| {
        let place = file.display().to_string();
        faults.push(Fault::without_position(&place, key, format!("`{key}`: {message}")));
    };
    let (cert, key) = match (cert.or(written.cert), key.or(written.key)) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) if !is_written => return None,
        (cert, _) => {
            let missing = if cert.is_some() { "tls.key" } else { "tls.cert" };
            let variable = missing.replace('.', "_").to_uppercase();
            fault(
                missing,
                format!(
                    "is missing: TLS needs both `cert` and `key` in [tls] (or PGVALET_{variable})"
                ),
            );
            return None;
        }
    };
    let clients = written.authorities.map(|authorities| ClientCertificates {
        authorities,
        revoked: written.revoked,
        rule: written.rule.unwrap_or_default(),
    });
    let config = TlsConfig { cert, key, clients };
    if let Err(error) = config.read().and_then(|files| config.make(&files)) {
        fault("tls", with_cause(&error));
        return None;
    }
    Some(config)
}

/// What is wrong, with its cause.
#[must_use]
pub fn with_cause(fault: &TlsFault) -> String {
    match std::error::Error::source(fault) {
        Some(cause) => format!("{fault}: {cause}"),
        None => fault.to_string(),
    }
}

impl ClientRule {
    const WORDS: &'static [&'static str] = &["optional", "required"];

    fn from_word(word: &str) -> Option<Self> {
        match word {
            "optional" => Some(Self::Optional),
            "required" => Some(Self::Required),
            _ => None,
        }
    }

    /// The word of the setting.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

impl TlsFiles {
    /// Do both say the same of clients? If not, those that were let in by one may not be by the other.
    #[must_use]
    pub fn agree_on_clients(&self, other: &Self) -> bool {
        self.authorities == other.authorities && self.revoked == other.revoked
    }
}

impl TlsConfig {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them cannot be read, or the key can be read by others.
    pub fn read(&self) -> Result<TlsFiles, TlsFault> {
        let open = |path: &PathBuf| read_file(path, Readers::Anyone);
        Ok(TlsFiles {
            cert: open(&self.cert)?,
            key: Secret::new(read_file(&self.key, Readers::Owner)?),
            authorities: self.clients.as_ref().map(|all| open(&all.authorities)).transpose()?,
            revoked: self
                .clients
                .as_ref()
                .and_then(|all| all.revoked.as_ref())
                .map(open)
                .transpose()?,
        })
    }

    /// Makes of them what connections are begun with.
    ///
    /// # Errors
    /// If what is in them cannot be used.
    pub fn make(&self, files: &TlsFiles) -> Result<Tls, TlsFault> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = self.chain(&files.cert)?;
        let first = chain.first().ok_or_else(|| TlsFault::NoCertificate(self.cert.clone()))?;
        let (begins_at, ends_at) = self.validity(first)?;
        let key = PrivateKeyDer::from_pem_slice(files.key.expose());
        let key = key.map_err(|_| TlsFault::NoKey(self.key.clone()))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| self.unusable(&e))?;
        let builder = match self.verifier(files, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                TlsFault::Mismatch { cert: self.cert.clone(), key: self.key.clone() }
            }
            rustls::Error::General(_) => TlsFault::NoKey(self.key.clone()),
            other => self.unusable(&other),
        })?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls { server: Arc::new(server), begins_at, ends_at })
    }

    fn chain(&self, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
        chain.map_err(|e| not_pem(&self.cert, &e))
    }

    fn validity(
        &self,
        certificate: &CertificateDer<'_>,
    ) -> Result<(DateTime<Utc>, DateTime<Utc>), TlsFault> {
        let unusable = |why: String| TlsFault::Certificate { path: self.cert.clone(), why };
        let read = x509_cert::Certificate::from_der(certificate);
        let read = read.map_err(|e| unusable(e.to_string()))?;
        let validity = read.tbs_certificate().validity();
        let at = |time: x509_cert::time::Time| DateTime::<Utc>::from(time.to_system_time());
        Ok((at(validity.not_before), at(validity.not_after)))
    }

    fn unusable(&self, error: &rustls::Error) -> TlsFault {
        TlsFault::Certificate { path: self.cert.clone(), why: error.to_string() }
    }

    /// What looks at the certificates of clients, if there is to be one. A certificate whose status
    /// no list tells, or only one that is over, is refused: an authority that has stopped to say what
    /// it revoked is not taken for one that revoked nothing.
    fn verifier(
        &self,
        files: &TlsFiles,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsFault> {
        let (Some(clients), Some(text)) = (&self.clients, &files.authorities) else {
            return Ok(None);
        };
        let path = &clients.authorities;
        let unusable = |why: String| TlsFault::Authorities { path: path.clone(), why };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(text) {
            let certificate = certificate.map_err(|e| not_pem(path, &e))?;
            roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let (Some(path), Some(text)) = (&clients.revoked, &files.revoked) {
            let lists: Result<Vec<_>, pem::Error> =
                CertificateRevocationListDer::pem_slice_iter(text).collect();
            let lists = lists.map_err(|e| not_pem(path, &e))?;
            if lists.is_empty() {
                let why = "it has no `BEGIN X509 CRL`".to_owned();
                return Err(TlsFault::Revoked { path: path.clone(), why });
            }
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        if clients.rule == ClientRule::Optional {
            builder = builder.allow_unauthenticated();
        }
        let built = builder.build().map_err(|e| match (e, &clients.revoked) {
            (VerifierBuilderError::InvalidCrl(e), Some(path)) => {
                TlsFault::Revoked { path: path.clone(), why: format!("{e:?}") }
            }
            (VerifierBuilderError::NoRootAnchors, _) => {
                unusable("there is no certificate in it".to_owned())
            }
            (other, _) => unusable(other.to_string()),
        });
        built.map(Some)
    }
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Anyone,
    Owner,
}

/// Reads a file. Permissions are those of the opened file, so that it cannot be exchanged between the
/// look and the reading.
fn read_file(path: &Path, readers: Readers) -> Result<Vec<u8>, TlsFault> {
    let unreadable = |e| TlsFault::Unreadable(path.to_owned(), e);
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(TlsFault::NotAFile(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if readers == Readers::Owner && is_exposed(mode, metadata.uid()) {
        return Err(TlsFault::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(std::mem::take(&mut *bytes))
}

/// PostgreSQL's own rule for key files: a file of root's may be read by its group, which is how a
/// system gives a service a key that the service cannot change; any other is its owner's alone.
const fn is_exposed(mode: u32, owner: u32) -> bool {
    let others = if owner == 0 { 0o027 } else { 0o077 };
    mode & others != 0
}

fn not_pem(path: &Path, error: &pem::Error) -> TlsFault {
    TlsFault::NotPem { path: path.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_owners_alone_but_for_a_group_that_root_names() {
        for (mode, owner, exposed) in [
            (0o600, 1000, false),
            (0o400, 1000, false),
            (0o640, 1000, true),
            (0o604, 1000, true),
            (0o640, 0, false),
            (0o440, 0, false),
            (0o660, 0, true),
            (0o644, 0, true),
        ] {
            assert_eq!(is_exposed(mode, owner), exposed, "{mode:o} of {owner}");
        }
    }
}
