//! The certificate that a client showed when its connection began, and whose private key it holds.
//!
//! Only names of the subject alternative name count. The common name is never looked at: what stands in
//! it is free text, which authorities do not check alike.

use chrono::{DateTime, Utc};
use x509_cert::{
    Certificate,
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// A certificate that was verified: its chain, its dates, its revocation, and that the peer has its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    names: Vec<String>,
    ends_at: DateTime<Utc>,
}

/// A verified certificate that cannot be read all the same.
#[derive(Debug, thiserror::Error)]
#[error("the client's certificate cannot be read: {0}")]
pub struct Unreadable(String);

/// More names than any one client has. One with more is taken for one of nobody.
const MOST_NAMES: usize = 64;

impl ClientCertificate {
    /// Reads a certificate that the handshake has verified. Nobody else may call this: whoever has a
    /// value of this type takes it for proven.
    ///
    /// # Errors
    /// If it is not as RFC 5280 has it.
    pub fn of_verified(der: &[u8]) -> Result<Self, Unreadable> {
        let unreadable = |e: x509_cert::der::Error| Unreadable(e.to_string());
        let read = Certificate::from_der(der).map_err(unreadable)?;
        let certificate = read.tbs_certificate();
        let alternative = certificate.get_extension::<SubjectAltName>().map_err(unreadable)?;
        let names = alternative.map(|(_, names)| names.0).unwrap_or_default();
        let names: Vec<_> = names.iter().filter_map(subject).collect();
        if names.len() > MOST_NAMES {
            return Err(Unreadable(format!("it has {} names", names.len())));
        }
        let ends_at = certificate.validity().not_after.to_system_time().into();
        Ok(Self { names, ends_at })
    }

    /// Its names, as identities are recorded: `dns:ci-1.internal`, `uri:spiffe://example.org/ns/x/sa/y`,
    /// `email:ci@example.org`.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it ends: a connection may outlive it.
    #[must_use]
    pub const fn ends_at(&self) -> DateTime<Utc> {
        self.ends_at
    }
}

/// A name as it is recorded; none if it is of a kind that nobody is recorded by.
fn subject(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(format!("dns:{}", name.as_str().to_ascii_lowercase())),
        GeneralName::UniformResourceIdentifier(uri) => Some(format!("uri:{}", uri.as_str())),
        GeneralName::Rfc822Name(address) => {
            Some(format!("email:{}", normal_email(address.as_str())))
        }
        _ => None,
    }
}

/// The host of an address is written in any case (RFC 5280, section 7.5); what stands before it is as it is.
fn normal_email(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, host)) => format!("{local}@{}", host.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

/// What is wrong with a subject that somebody wants to record, in words; as it is recorded, if nothing is.
///
/// # Errors
/// If no certificate could ever have that name.
pub fn checked_subject(text: &str) -> Result<String, String> {
    const WRITE: &str = "write \"dns:ci-1.internal\", \"uri:spiffe://example.org/ns/x/sa/y\" or \"email:ci@example.org\", as it stands in the certificate's subject alternative name";
    let (kind, name) =
        text.split_once(':').ok_or_else(|| format!("{text:?} has no kind; {WRITE}"))?;
    if name.is_empty() || name.len() > 512 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{text:?} is no name of a certificate; {WRITE}"));
    }
    match kind {
        "dns" if name.contains('*') => Err(format!(
            "{text:?} is a pattern: a certificate for many hosts is nobody's own; {WRITE}"
        )),
        "dns" => Ok(format!("dns:{}", name.to_ascii_lowercase())),
        "uri" if !name.contains(':') => Err(format!("{text:?} has no scheme; {WRITE}")),
        "uri" => Ok(text.to_owned()),
        "email" if name.contains('@') => Ok(format!("email:{}", normal_email(name))),
        "email" => Err(format!("{text:?} has no `@`; {WRITE}")),
        "cn" | "CN" => Err(format!("the common name of a certificate is never looked at; {WRITE}")),
        _ => Err(format!("{text:?} is of no known kind; {WRITE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_recorded_as_certificates_have_it() {
        for (text, recorded) in [
            ("dns:CI-1.Internal", "dns:ci-1.internal"),
            ("uri:spiffe://Example.org/ns/x/sa/y", "uri:spiffe://Example.org/ns/x/sa/y"),
            ("email:Ci@Example.ORG", "email:Ci@example.org"),
        ] {
            assert_eq!(checked_subject(text).as_deref(), Ok(recorded));
        }
        for (text, said) in [
            ("ci-1", "has no kind"),
            ("dns:*.internal", "is a pattern"),
            ("cn:alice", "never looked at"),
            ("uri:nothing", "has no scheme"),
            ("email:nobody", "has no `@`"),
            ("dns:", "is no name"),
            ("dns:a b", "is no name"),
            ("ip:10.0.0.1", "no known kind"),
        ] {
            let refused = checked_subject(text).unwrap_err();
            assert!(refused.contains(said) && refused.contains("write"), "{refused}");
        }
    }
}
