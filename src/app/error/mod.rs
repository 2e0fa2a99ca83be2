//! What a use case can answer instead; each with a stable code, and words for the caller that say
//! what to do. What is only for the operator stays in the source chain.

mod words;

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use crate::{
    document,
    domain::{
        access::Fault,
        administration::{self, Right},
        approval::NotTheirs,
        emergency,
        lease::{Cause, State},
        name::Name,
        policy::Refusal,
        request, review,
        rights::context::MissingClaim,
    },
    identity::{self, issuers},
    ids::LeaseId,
    store, target,
};

/// What a use case can answer instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No token was sent.
    #[error("no token")]
    TokenMissing,
    /// The token is not a good one. Which part is wrong is not told.
    #[error("token refused")]
    TokenRefused,
    /// The client's certificate is nobody's, or not one person's or service's alone.
    #[error("certificate refused: {why}")]
    CertificateRefused {
        /// Why.
        why: String,
        /// The names that were seen in it.
        names: Vec<String>,
    },
    /// A job's token was used for a credential before.
    #[error("the job's token was spent")]
    TokenSpent,
    /// The sealed code is not a good one. Which part is wrong is not told.
    #[error("sealed code refused")]
    CodeRefused,
    /// The review of an emergency is somebody else's to close.
    #[error("{0}")]
    NotToClose(emergency::NotToClose),
    /// A job's token is too old to ask for a credential with.
    #[error("the job's token is too old")]
    TokenTooOld,
    /// Not for CI jobs.
    #[error("{what} is not for CI jobs")]
    NotForJobs {
        /// What.
        what: &'static str,
    },
    /// The issuer of a token does not answer, so that it cannot be checked.
    #[error("the token's issuer does not answer")]
    IssuerUnavailable(#[source] issuers::Error),
    /// Too many wrong tokens from one source.
    #[error("too many wrong tokens from this address")]
    Throttled {
        /// When to try again.
        retry_after_seconds: u64,
    },
    /// Too many tokens wait to be checked.
    #[error("too many tokens wait to be checked")]
    Busy,
    /// A sign-in gives nobody a session.
    #[error("sign-in refused: {detail}")]
    SignInRefused {
        /// Its code.
        code: &'static str,
        /// Why, and what to do.
        detail: String,
    },
    /// The identity provider cannot be asked.
    #[error("the identity provider cannot be asked")]
    Provider(#[source] identity::oidc::Error),
    /// It needs a right to administer.
    #[error("{what} needs {}", administration::in_words(.rights))]
    Forbidden {
        /// What.
        what: &'static str,
        /// The rights of which it needs one.
        rights: Vec<Right>,
    },
    /// A credential is handed out to whom its lease is, and to nobody else.
    #[error("somebody else's lease")]
    NotYours,
    /// There is no such thing, or not for this caller.
    #[error("no {what} `{name}`")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// The request is not sound.
    #[error("the request is not sound")]
    Invalid(Vec<Fault>),
    /// The file is not sound.
    #[error("the file is not sound")]
    File(Vec<document::Fault>),
    /// The policy said no.
    #[error("refused: {refusal:?}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// For which profile.
        profile: String,
    },
    /// A request is claimed and withdrawn by whoever asked.
    #[error("somebody else's request")]
    NotYourRequest,
    /// They may not decide about this request.
    #[error("not theirs to decide: {}", why.as_str())]
    NotTheirsToDecide {
        /// Why.
        why: NotTheirs,
        /// Where the request is in its life.
        state: request::State,
    },
    /// They may not decide in this review.
    #[error("not theirs to review: {}", .0.as_str())]
    NotTheirsToReview(review::NotTheirs),
    /// As many requests of theirs are open as may be.
    #[error("too many requests are open")]
    TooManyRequests,
    /// No rule of the standing role allows the caller.
    #[error("the credential of `{standing_role}` is not the caller's to read")]
    NotReadable {
        /// Its name.
        standing_role: String,
    },
    /// The same idempotency key with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The first request with this idempotency key is not answered yet.
    #[error("the first request with this key is still in progress")]
    StillInProgress,
    /// The lease is not active.
    #[error("the lease is {}", state.as_str())]
    LeaseOver {
        /// Where it is in its life.
        state: State,
        /// Why.
        cause: Option<Cause>,
    },
    /// The lease lasts as long as its profile allows.
    #[error("the lease cannot be renewed further")]
    RenewalExhausted {
        /// Its end.
        max_expires_at: DateTime<Utc>,
    },
    /// Something is in the way.
    #[error("{detail}")]
    Conflict {
        /// Its code.
        code: &'static str,
        /// What, and what to do.
        detail: String,
    },
    /// The target refused, or does not answer.
    #[error("target `{target}`")]
    Target {
        /// Its name.
        target: String,
        /// The lease that came of it, if any.
        lease: Option<LeaseId>,
        /// What it said.
        #[source]
        source: target::error::Error,
    },
    /// It took too long.
    #[error("{what} took too long")]
    TimedOut {
        /// What.
        what: &'static str,
        /// The lease that came of it, if any.
        lease: Option<LeaseId>,
    },
    /// Our own database does not answer.
    #[error("the state database does not answer")]
    StateUnavailable(#[source] store::error::Error),
    /// A sealed credential cannot be opened.
    #[error("a sealed credential cannot be opened")]
    Sealed(#[source] store::seal::Error),
    /// Anything else. The caller is told nothing but the request's id.
    #[error("internal")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What kind of answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who is it?
    Unauthenticated,
    /// Too often.
    Throttled,
    /// Not allowed.
    Forbidden,
    /// Not there.
    NotFound,
    /// Not sound.
    Invalid,
    /// In the way.
    Conflict,
    /// Try later.
    Unavailable,
    /// The target said no.
    BadGateway,
    /// Too slow.
    Timeout,
    /// Our fault.
    Internal,
}

impl Error {
    /// One thing is wrong with what was sent.
    pub(in crate::app) fn invalid(
        field: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self::Invalid(vec![Fault { field: field.into(), message: message.into() }])
    }

    /// A profile needs a claim that the caller does not have.
    pub(in crate::app) fn claim_missing(profile: &Name, MissingClaim(claim): MissingClaim) -> Self {
        Self::Refused { refusal: Refusal::ClaimMissing(claim), profile: profile.to_string() }
    }

    pub(in crate::app) fn not_found(what: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.into(), near: None }
    }

    /// The one of that name, or that there is none, with the name that may have been meant.
    pub(in crate::app) fn unless_found<T>(
        what: &'static str,
        name: &Name,
        all: Vec<T>,
        name_of: impl Fn(&T) -> &Name,
    ) -> Result<T, Self> {
        let names: Vec<&str> = all.iter().map(|one| name_of(one).as_str()).collect();
        let near = document::nearest(name.as_str(), names).map(str::to_owned);
        all.into_iter().find(|one| name_of(one) == name).ok_or_else(|| Self::NotFound {
            what,
            name: name.to_string(),
            near,
        })
    }

    pub(in crate::app) fn internal(e: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(e))
    }

    pub(in crate::app) fn target(
        target: &str,
        lease: Option<LeaseId>,
        source: target::error::Error,
    ) -> Self {
        Self::Target { target: target.to_owned(), lease, source }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::TokenRefused => "token_refused",
            Self::CertificateRefused { .. } => "certificate_refused",
            Self::TokenSpent => "token_spent",
            Self::CodeRefused => "code_refused",
            Self::NotToClose(_) => "not_yours_to_close",
            Self::TokenTooOld => "token_too_old",
            Self::NotForJobs { .. } => "not_for_jobs",
            Self::IssuerUnavailable(_) => "issuer_unavailable",
            Self::Throttled { .. } => "throttled",
            Self::Busy => "busy",
            Self::SignInRefused { code, .. } => code,
            Self::Provider(_) => "provider_unavailable",
            Self::Forbidden { .. } => "admin_only",
            Self::NotYours => "not_yours",
            Self::NotYourRequest => "not_your_request",
            Self::NotFound { .. } => "not_found",
            Self::Invalid(_) => "invalid_request",
            Self::File(_) => "invalid_file",
            Self::Refused { refusal: Refusal::NoRule { .. }, .. } | Self::NotReadable { .. } => {
                "not_allowed"
            }
            Self::Refused { refusal: Refusal::Network(_), .. } => "network_not_allowed",
            Self::Refused { refusal: Refusal::Hours(_), .. } => "outside_hours",
            Self::Refused { refusal: Refusal::Limit(_), .. } => "limit_reached",
            Self::Refused { refusal: Refusal::NotForAsking, .. } => "token_not_for_asking",
            Self::Refused { refusal: Refusal::NotByCode, .. } => "code_not_for_profile",
            Self::Refused { refusal: Refusal::ReasonNeeded, .. } => "reason_required",
            Self::Refused { refusal: Refusal::TicketNeeded, .. } => "ticket_required",
            Self::Refused { refusal: Refusal::NotAsAgreed(_), .. } => "not_as_agreed",
            Self::Refused { refusal: Refusal::RequestOver(state), .. } => match state {
                request::State::Pending => "request_pending",
                request::State::Approved
                | request::State::Denied
                | request::State::Withdrawn
                | request::State::Lapsed
                | request::State::Claimed
                | request::State::Failed => "request_over",
            },
            Self::Refused { refusal: Refusal::TooEarly(_), .. } => "too_early",
            Self::NotTheirsToDecide { why, .. } => why.as_str(),
            Self::NotTheirsToReview(why) => why.as_str(),
            Self::TooManyRequests => "too_many_requests",
            Self::Refused { refusal: Refusal::RemovedByReview, .. } => "removed_by_review",
            Self::Refused { refusal: Refusal::ClaimMissing(_), .. } => "claim_missing",
            Self::Refused { refusal: Refusal::ChecksFailed(_), .. } => "checks_failed",
            Self::KeyReused => "idempotency_key_reused",
            Self::StillInProgress => "request_in_progress",
            Self::LeaseOver { .. } => "lease_over",
            Self::RenewalExhausted { .. } => "renewal_exhausted",
            Self::Conflict { code, .. } => code,
            Self::Target { source, .. } => source.code(),
            Self::TimedOut { .. } => "timed_out",
            Self::StateUnavailable(_) => "state_unavailable",
            Self::Sealed(_) => "seal_unopenable",
            Self::Internal(_) => "internal",
        }
    }

    /// What kind of answer it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::TokenMissing
            | Self::TokenRefused
            | Self::TokenSpent
            | Self::TokenTooOld
            | Self::CodeRefused
            | Self::CertificateRefused { .. } => Kind::Unauthenticated,
            Self::Throttled { .. }
            | Self::TooManyRequests
            | Self::Refused { refusal: Refusal::Limit(_), .. } => Kind::Throttled,
            Self::NotTheirsToDecide { why: NotTheirs::Over | NotTheirs::SaidAlready, .. }
            | Self::NotTheirsToReview(
                review::NotTheirs::Decided
                | review::NotTheirs::Over
                | review::NotTheirs::Undecided
                | review::NotTheirs::ProfileReplaced,
            )
            | Self::Refused { refusal: Refusal::RequestOver(_) | Refusal::TooEarly(_), .. } => {
                Kind::Conflict
            }
            Self::Forbidden { .. }
            | Self::NotYours
            | Self::NotYourRequest
            | Self::NotToClose(_)
            | Self::SignInRefused { .. }
            | Self::NotReadable { .. }
            | Self::NotForJobs { .. }
            | Self::NotTheirsToDecide { .. }
            | Self::NotTheirsToReview(_)
            | Self::Refused {
                refusal:
                    Refusal::NoRule { .. }
                    | Refusal::ClaimMissing(_)
                    | Refusal::Network(_)
                    | Refusal::Hours(_)
                    | Refusal::NotAsAgreed(_)
                    | Refusal::NotForAsking
                    | Refusal::NotByCode
                    | Refusal::RemovedByReview,
                ..
            } => Kind::Forbidden,
            Self::Refused { refusal: Refusal::ChecksFailed(_), .. } => Kind::Conflict,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Invalid(_)
            | Self::File(_)
            | Self::KeyReused
            | Self::Refused { refusal: Refusal::ReasonNeeded | Refusal::TicketNeeded, .. } => {
                Kind::Invalid
            }
            Self::StillInProgress
            | Self::LeaseOver { .. }
            | Self::RenewalExhausted { .. }
            | Self::Conflict { .. } => Kind::Conflict,
            Self::Target { source, .. } if source.is_worth_retrying() => Kind::Unavailable,
            Self::Target { .. } => Kind::BadGateway,
            Self::TimedOut { .. } => Kind::Timeout,
            Self::StateUnavailable(_)
            | Self::Busy
            | Self::IssuerUnavailable(_)
            | Self::Provider(_) => Kind::Unavailable,
            Self::Sealed(_) | Self::Internal(_) => Kind::Internal,
        }
    }

    /// When to try again.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Throttled { retry_after_seconds } => Some(*retry_after_seconds),
            Self::Refused { refusal: Refusal::Limit(reached), .. } => {
                Some(reached.retry_after_seconds)
            }
            Self::TooManyRequests => Some(60),
            Self::StillInProgress | Self::Busy => Some(1),
            Self::StateUnavailable(_) | Self::TimedOut { .. } | Self::IssuerUnavailable(_) => {
                Some(2)
            }
            Self::Target {
                source: target::error::Error::LeftAlone { retry_after, .. }, ..
            } => Some(retry_after.as_secs().saturating_add(1)),
            Self::Target { source, .. } if source.is_worth_retrying() => Some(2),
            _ => None,
        }
    }

    /// The lease that came of a failed wish.
    #[must_use]
    pub const fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Target { lease, .. } | Self::TimedOut { lease, .. } => *lease,
            _ => None,
        }
    }
}

impl From<store::error::Error> for Error {
    fn from(e: store::error::Error) -> Self {
        match e {
            store::error::Error::Unavailable(_) | store::error::Error::LostRace(_) => {
                Self::StateUnavailable(e)
            }
            store::error::Error::Seal(seal) => Self::Sealed(seal),
            store::error::Error::ZeroByte(_) => {
                Self::invalid("text", "must not contain a zero byte")
            }
            other => Self::internal(other),
        }
    }
}

impl From<crate::rng::NoRandomness> for Error {
    fn from(e: crate::rng::NoRandomness) -> Self {
        Self::internal(e)
    }
}

impl From<crate::identity::token::Error> for Error {
    fn from(e: crate::identity::token::Error) -> Self {
        Self::internal(e)
    }
}
