//! By which names of certificates principals are known: recorded by whoever looks after people, and what a
//! caller signs in by who shows such a certificate and no token.

use std::{collections::BTreeMap, net::IpAddr};

use chrono::TimeDelta;

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        administration::Scopes,
        audit::{Actor, Event},
        name::Name,
        principal::{Kind, PrincipalName},
    },
    identity::{
        Admin, Caller,
        certificate::{ClientCertificate, checked_subject},
    },
    ids::RequestId,
    store::{self, certificates::ListedCertificate, people::PrincipalChange},
};

/// A wish for a principal to be known by a certificate's name.
#[derive(Debug)]
pub struct IdentityWish {
    /// Whose it is to be.
    pub principal: PrincipalName,
    /// The name, such as `uri:spiffe://example.org/ns/x/sa/y`.
    pub certificate: String,
    /// The groups that the principal is in from now on.
    pub groups: Option<Vec<Name>>,
    /// What is claimed of the principal from now on.
    pub claims: Option<BTreeMap<String, String>>,
}

/// The words of a refusal that is one of many: the metric has them as labels.
const UNKNOWN: &str = "unknown certificate";

impl App {
    /// All of them.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn identities(&self, _: &Admin<'_>) -> Result<Vec<ListedCertificate>, Error> {
        Ok(self.store.certificates().await?)
    }

    /// Records by which name a principal is known, who is recorded too if it is new. True if that is news.
    ///
    /// # Errors
    /// If no certificate can have that name, or somebody else is known by it.
    pub async fn add_identity(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        wish: IdentityWish,
    ) -> Result<(ListedCertificate, bool), Error> {
        let invalid = |field: &'static str, message| Error::invalid(field, message);
        let subject =
            checked_subject(&wish.certificate).map_err(|why| invalid("certificate", why))?;
        if wish.principal.kind == Kind::Ci {
            let why = "jobs show who they are by their own tokens: name a person or a service";
            return Err(invalid("principal", why.to_owned()));
        }
        crate::app::tokens::check_claims(wish.claims.as_ref())?;
        let now = self.clock.now();
        let change = PrincipalChange {
            groups: wish.groups,
            claims: wish.claims,
            ..PrincipalChange::default()
        };
        let mut tx = self.store.begin().await?;
        let principal =
            self.record_principal(&mut tx, (admin, origin), &wish.principal, &change).await?;
        let is_new = match tx.lock_certificate(&subject).await? {
            Some(known) if known.principal_id == principal.id => false,
            Some(known) => return Err(taken(&known)),
            None => {
                tx.add_certificate(&subject, principal.id, now).await.map_err(just_taken)?;
                let event = Event::CertificateAdded {
                    principal_id: principal.id,
                    principal: principal.to_string(),
                    certificate: subject.clone(),
                    groups: principal.groups.iter().map(Name::to_string).collect(),
                };
                tx.audit(&origin.entry(admin, now, event)).await?;
                true
            }
        };
        let listed = tx.lock_certificate(&subject).await?;
        let listed = listed.ok_or_else(|| Error::not_found("identity", subject))?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok((listed, is_new))
    }

    /// Forgets by which name a principal is known: whoever shows such a certificate is refused from then on,
    /// by every daemon.
    ///
    /// # Errors
    /// If nobody is known by it.
    pub async fn remove_identity(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        certificate: &str,
    ) -> Result<(), Error> {
        let subject = checked_subject(certificate).unwrap_or_else(|_| certificate.to_owned());
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let known = tx.lock_certificate(&subject).await?;
        let known = known.ok_or_else(|| Error::not_found("identity", subject.clone()))?;
        tx.remove_certificate(&subject).await?;
        let event = Event::CertificateRemoved {
            principal_id: known.principal_id,
            principal: known.principal,
            certificate: subject,
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Lets in whoever showed a certificate. Exactly one of its names must be known: one with two could be
    /// taken for either.
    ///
    /// # Errors
    /// If none or several are, the certificate is over, or our database does not answer.
    pub async fn sign_in_by_certificate(
        &self,
        certificate: &ClientCertificate,
        origin: &Origin,
    ) -> Result<Caller, Error> {
        let now = self.clock.now();
        let names = certificate.names();
        if certificate.ends_at() <= now {
            // The connection began while it held.
            return self.refuse_certificate(names, "expired", origin).await;
        }
        let known = self.store.known_certificates(names).await?;
        let mut known = known.into_iter();
        let known = match (known.next(), known.next()) {
            (Some(known), None) => known,
            (None, _) => return self.refuse_certificate(names, UNKNOWN, origin).await,
            (Some(_), Some(_)) => {
                let why = "several of its names are known";
                return self.refuse_certificate(names, why, origin).await;
            }
        };
        if known.disabled {
            return self.refuse_certificate(names, "principal disabled", origin).await;
        }
        // To the minute is enough to find unused ones, and spares a write on each request.
        if known.last_seen_at.is_none_or(|seen| now - seen >= TimeDelta::minutes(1)) {
            self.store.note_certificate_used(&known.subject, now).await?;
        }
        let rights = (&known.administration, &Scopes(None));
        Ok(Caller::by_certificate(certificate, known.subject, known.principal, rights))
    }

    /// Notes a certificate that was refused before there was a request: of another authority, revoked, over.
    pub async fn note_refused_handshake(&self, source: IpAddr, why: &'static str) {
        let origin = Origin { request_id: RequestId::new(), source: Some(source) };
        if let Err(error @ (Error::StateUnavailable(_) | Error::Internal(_))) =
            self.refuse_certificate(&[], why, &origin).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, why, "a refused certificate could not be audited");
        }
    }

    /// Refusals count as failures of their source. What was verified costs nothing to look at, so a source
    /// that has used up its failures still gets in with a certificate that is known; only its refusals are
    /// neither looked into nor audited any more.
    async fn refuse_certificate(
        &self,
        names: &[String],
        why: &str,
        origin: &Origin,
    ) -> Result<Caller, Error> {
        // Dropped, it counts.
        drop(self.may_try(origin).await?);
        self.metrics.token_refused(why);
        let names = names.to_vec();
        let event = Event::CertificateRefused { names: names.clone(), why: why.to_owned() };
        self.record(origin.entry_by(Actor::Unknown, self.clock.now(), event)).await?;
        Err(Error::CertificateRefused { why: why.to_owned(), names })
    }
}

fn taken(known: &ListedCertificate) -> Error {
    Error::Conflict {
        code: "identity_taken",
        detail: format!(
            "{} is known by {} already: `pgvalet identity remove {}` first",
            known.principal, known.subject, known.subject
        ),
    }
}

fn just_taken(e: store::error::Error) -> Error {
    if e.is_constraint("identity_known_as") {
        let detail = "somebody else recorded it just now: look at it and try again".to_owned();
        return Error::Conflict { code: "identity_taken", detail };
    }
    e.into()
}
