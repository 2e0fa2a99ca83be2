//! Who is calling, and how we know. Only this module can make a [`Caller`], and only a caller that
//! holds a right can be made an [`Admin`]: rights are values, so no check can be forgotten.

pub mod certificate;
pub mod code;
mod hash;
pub mod issuers;
pub mod job;
pub mod jwt;
pub mod oidc;
pub mod slack;
pub mod throttle;
pub mod token;
pub mod token_review;

use std::ops::Deref;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        administration::{Administration, Right, Rights, Scope, Scopes},
        approval::Decider,
        principal::{AllowRule, Principal},
        request::Via,
        session::Client,
        slack::Account,
    },
    identity::{
        certificate::ClientCertificate, code::VerifiedCode, job::VerifiedJob, slack::Signed,
        token::Verified,
    },
    ids::{PrincipalId, TokenId},
};

/// A principal that proved who it is.
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Principal,
    proof: Proof,
    rights: Rights,
    scopes: Scopes,
}

/// How a caller proved who it is.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By a token of ours.
    Token {
        /// Which.
        id: TokenId,
        /// What is known of it.
        held: Held,
    },
    /// By a client's certificate.
    Certificate {
        /// By which of its names.
        name: String,
        /// When it ends.
        ends_at: DateTime<Utc>,
    },
    /// By a CI job's token, of an issuer that vouches for it.
    Job(Box<VerifiedJob>),
    /// By Slack's word: it wrote or clicked there, by an account that it linked to itself.
    Slack(Account),
    /// By a sealed code, for an emergency.
    Code(Box<VerifiedCode>),
}

/// What is known of a token.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// What for, if a sign-in made it.
    pub session: Option<Client>,
    /// Who made it, if somebody else did than whose it is, and who made what it was made with.
    pub makers: Vec<PrincipalId>,
}

impl Caller {
    /// The principal whose token was verified.
    #[must_use]
    pub fn by_token(
        verified: Verified,
        principal: Principal,
        held: Held,
        (administration, scopes): (&Administration, &Scopes),
    ) -> Self {
        let proof = Proof::Token { id: verified.token_id(), held };
        let rights = administration.rights_of(&principal, scopes);
        Self { principal, proof, rights, scopes: scopes.clone() }
    }

    /// The principal that is known by one name of a certificate.
    #[must_use]
    pub fn by_certificate(
        verified: &ClientCertificate,
        name: String,
        principal: Principal,
        (administration, scopes): (&Administration, &Scopes),
    ) -> Self {
        let proof = Proof::Certificate { name, ends_at: verified.ends_at() };
        let rights = administration.rights_of(&principal, scopes);
        Self { principal, proof, rights, scopes: scopes.clone() }
    }

    /// The name of the certificate that it showed, if it signed in by one.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        match &self.proof {
            Proof::Certificate { name, .. } => Some(name),
            Proof::Token { .. } | Proof::Job(_) | Proof::Slack(_) | Proof::Code(_) => None,
        }
    }

    /// The principal of the rule that a job meets. It holds no right to administer, whatever the rules for
    /// roles say: who can change a workflow would hold it.
    #[must_use]
    pub fn by_job(verified: VerifiedJob, principal: Principal) -> Self {
        Self {
            principal,
            proof: Proof::Job(Box::new(verified)),
            rights: Rights::default(),
            scopes: Scopes(Some(vec![Scope::Ask])),
        }
    }

    /// The person whose account Slack speaks for. They administer nothing there, whatever they hold: a click in Slack
    /// is less than a sign-in.
    #[must_use]
    pub fn by_slack(signed: &Signed, principal: Principal) -> Self {
        Self {
            principal,
            proof: Proof::Slack(signed.account().clone()),
            rights: Rights::default(),
            scopes: Scopes(Some(vec![Scope::Ask])),
        }
    }

    /// The person whose sealed code it is. It holds no right to administer: a code asks for one lease, and no more.
    #[must_use]
    pub fn by_code(verified: VerifiedCode, principal: Principal) -> Self {
        Self {
            principal,
            proof: Proof::Code(Box::new(verified)),
            rights: Rights::default(),
            scopes: Scopes(Some(vec![Scope::Ask])),
        }
    }

    /// The sealed code that it came with, if it was one.
    #[must_use]
    pub const fn code(&self) -> Option<&VerifiedCode> {
        match &self.proof {
            Proof::Code(code) => Some(code),
            Proof::Token { .. } | Proof::Certificate { .. } | Proof::Job(_) | Proof::Slack(_) => {
                None
            }
        }
    }

    /// The job that it is, if it is one.
    #[must_use]
    pub const fn job(&self) -> Option<&VerifiedJob> {
        match &self.proof {
            Proof::Job(job) => Some(job),
            Proof::Token { .. } | Proof::Certificate { .. } | Proof::Slack(_) | Proof::Code(_) => {
                None
            }
        }
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// How it proved that.
    #[must_use]
    pub const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// What it may administer.
    #[must_use]
    pub const fn rights(&self) -> &Rights {
        &self.rights
    }

    /// May it use what it came with to ask for leases?
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.scopes.carry(Scope::Ask)
    }

    /// By which way it agrees to other people's requests, if what it came with is for that: what a person signed
    /// in with, or a token that says so by name. One that carries everything does not: an agent may have it.
    #[must_use]
    pub fn via(&self) -> Option<Via> {
        match &self.proof {
            Proof::Token { held, .. } => match held.session {
                Some(Client::CommandLine) => Some(Via::CommandLine),
                Some(Client::Browser) => Some(Via::Page),
                None => self.scopes.name(Scope::Approve).then_some(Via::Api),
            },
            Proof::Slack(_) => Some(Via::Slack),
            Proof::Certificate { .. } | Proof::Job(_) | Proof::Code(_) => None,
        }
    }

    /// It, as somebody who wants to decide about a request.
    #[must_use]
    pub fn as_decider(&self) -> Decider<'_> {
        let token_makers = self.token_makers();
        Decider { principal: &self.principal, via: self.via(), token_makers }
    }

    /// Who made the token that it came with, if others did.
    #[must_use]
    pub fn token_makers(&self) -> &[PrincipalId] {
        match &self.proof {
            Proof::Token { held, .. } => &held.makers,
            Proof::Certificate { .. } | Proof::Job(_) | Proof::Slack(_) | Proof::Code(_) => &[],
        }
    }

    /// What that carries of its rights.
    #[must_use]
    pub const fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The token it came with, if it was one of ours.
    #[must_use]
    pub const fn token_id(&self) -> Option<TokenId> {
        match &self.proof {
            Proof::Token { id, .. } => Some(*id),
            Proof::Certificate { .. } | Proof::Job(_) | Proof::Slack(_) | Proof::Code(_) => None,
        }
    }

    /// What the session is for that it came in, if it came in one.
    #[must_use]
    pub const fn session(&self) -> Option<Client> {
        match &self.proof {
            Proof::Token { held, .. } => held.session,
            Proof::Certificate { .. } | Proof::Job(_) | Proof::Slack(_) | Proof::Code(_) => None,
        }
    }

    /// When what it came with ends.
    #[must_use]
    pub const fn proof_ends_at(&self) -> Option<DateTime<Utc>> {
        match &self.proof {
            Proof::Token { held, .. } => held.expires_at,
            Proof::Certificate { ends_at, .. } => Some(*ends_at),
            Proof::Job(job) => Some(job.ends_at()),
            Proof::Slack(_) => None,
            Proof::Code(code) => Some(code.code().ends_at),
        }
    }

    /// Does it hold this right?
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        self.rights.include(right)
    }

    /// May it see what is for those who meet one of these rules? Who may read everything may, which is not to
    /// say that it may ask for it.
    #[must_use]
    pub fn may_see(&self, allow: &[AllowRule]) -> bool {
        self.may(Right::Read) || allow.iter().any(|rule| rule.matches(&self.principal))
    }

    /// The right to administer, if the caller has it.
    #[must_use]
    pub fn holding(&self, right: Right) -> Option<Admin<'_>> {
        self.may(right).then_some(Admin(self))
    }
}

/// A caller that holds a right to administer. Which one was asked where it was made; what goes further
/// (a file that changes things of several kinds) asks again.
#[derive(Debug, Clone, Copy)]
pub struct Admin<'a>(&'a Caller);

impl Deref for Admin<'_> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        self.0
    }
}
