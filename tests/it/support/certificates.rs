//! Authorities of the tests' own, and the certificates, keys and revocation lists that they sign.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
    serial: SerialNumber,
}

/// What a certificate is to be like.
pub(crate) struct Wanted<'a> {
    /// `dns:…`, `uri:…`, `email:…`, `ip:…`.
    pub(crate) names: &'a [&'a str],
    pub(crate) common_name: &'a str,
    /// From which year to which.
    pub(crate) years: (i32, i32),
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { names: &[], common_name: "somebody", years: (2020, 2090) }
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// One for 127.0.0.1 and localhost.
    pub(crate) fn for_loopback(&self) -> Pair {
        self.sign(&Wanted { names: &["ip:127.0.0.1", "dns:localhost"], ..Wanted::default() })
    }

    pub(crate) fn sign(&self, wanted: &Wanted<'_>) -> Pair {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(wanted.years.0, 1, 1);
        params.not_after = date_time_ymd(wanted.years.1, 1, 1);
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        params.subject_alt_names = wanted.names.iter().map(|name| san(name)).collect();
        let serial: [u8; 12] = pgvalet::rng::bytes().unwrap();
        let serial = SerialNumber::from_slice(&[&[1], serial.as_slice()].concat());
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Pair { cert, key: key.serialize_pem(), serial }
    }

    /// A list of what it revoked, good until the year.
    pub(crate) fn revoked(&self, pairs: &[&Pair], until: i32) -> String {
        let revoked = |pair: &&Pair| RevokedCertParams {
            serial_number: pair.serial.clone(),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: pairs.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn san(name: &str) -> SanType {
    let (kind, name) = name.split_once(':').unwrap();
    match kind {
        "dns" => SanType::DnsName(name.try_into().unwrap()),
        "uri" => SanType::URI(name.try_into().unwrap()),
        "email" => SanType::Rfc822Name(name.try_into().unwrap()),
        "ip" => SanType::IpAddress(name.parse().unwrap()),
        other => panic!("{other}"),
    }
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key`, which only we can read; gives their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        write(&cert, &self.cert, 0o644);
        write(&key, &self.key, 0o600);
        (cert, key)
    }

    /// The certificate as it is seen in a handshake.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    /// For a client that shows it.
    pub(crate) fn identity(&self) -> reqwest::Identity {
        reqwest::Identity::from_pem(format!("{}\n{}", self.cert, self.key).as_bytes()).unwrap()
    }
}

/// Puts a file in the place of another one, whole.
pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(beside, path).unwrap();
}

/// A client that trusts this authority alone, and shows a certificate if it has one.
pub(crate) fn http_client(authority: &Authority, shown: Option<&Pair>) -> reqwest::ClientBuilder {
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    let builder = builder.timeout(super::seconds(30));
    match shown {
        Some(pair) => builder.identity(pair.identity()),
        None => builder,
    }
}

/// The same for a connection by hand.
pub(crate) fn tls_client(authority: &Authority, shown: Option<&Pair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shown {
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![pair.der()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}
