//! What labels of instruments may say: each a word of this file, so that no caller can make a series.

/// The steps of issuing a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueStep {
    /// Reading the profile and deciding.
    Decide,
    /// Recording the intent.
    Intent,
    /// Making the login on the target.
    Target,
    /// Recording that it was made.
    Activate,
    /// All of it.
    Total,
}

impl IssueStep {
    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Intent => "intent",
            Self::Target => "target",
            Self::Activate => "activate",
            Self::Total => "total",
        }
    }
}

/// The steps of moving a lease's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewStep {
    /// Recording the new end.
    Record,
    /// Moving it on the target.
    Target,
    /// All of it.
    Total,
}

impl RenewStep {
    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Target => "target",
            Self::Total => "total",
        }
    }
}

/// The steps of giving a lease a fresh login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotateStep {
    /// Recording the intent.
    Intent,
    /// Making the login on the target.
    Target,
    /// Recording that it takes over.
    Activate,
    /// All of it.
    Total,
}

impl RotateStep {
    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Target => "target",
            Self::Activate => "activate",
            Self::Total => "total",
        }
    }
}

/// The steps of taking a login away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeStep {
    /// Recording that it ends.
    Record,
    /// Removing it from its target.
    Target,
    /// Recording the proof.
    Proof,
    /// All of it, from the claim on.
    Total,
}

impl RevokeStep {
    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Target => "target",
            Self::Proof => "proof",
            Self::Total => "total",
        }
    }
}

/// Did it succeed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Ok,
    /// No.
    Failed,
}

impl Outcome {
    pub(in crate::telemetry) const fn of<T, E>(done: &Result<T, E>) -> Self {
        if done.is_ok() { Self::Ok } else { Self::Failed }
    }

    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// A rule's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// A rule allowed it.
    Allowed,
    /// Others must agree.
    NeedsAgreement,
    /// No rule holds for the caller.
    NoRule,
    /// The request came from elsewhere.
    Network,
    /// It was not the time.
    Hours,
    /// As many leases as may be were there.
    Limit,
    /// The token's scopes do not include asking.
    NotForAsking,
    /// A reason was missing.
    ReasonRequired,
    /// A claim was missing that the profile's context names.
    ClaimMissing,
    /// The profile's checks failed.
    ChecksFailed,
    /// An access review took it away.
    RemovedByReview,
}

impl Ruling {
    pub(in crate::telemetry) const ALL: [Self; 11] = [
        Self::Allowed,
        Self::NeedsAgreement,
        Self::NoRule,
        Self::Network,
        Self::Hours,
        Self::Limit,
        Self::NotForAsking,
        Self::ReasonRequired,
        Self::ClaimMissing,
        Self::ChecksFailed,
        Self::RemovedByReview,
    ];

    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::NeedsAgreement => "needs_agreement",
            Self::NoRule => "no_rule",
            Self::Network => "network",
            Self::Hours => "hours",
            Self::Limit => "limit",
            Self::NotForAsking => "token_not_for_asking",
            Self::ReasonRequired => "reason_required",
            Self::ClaimMissing => "claim_missing",
            Self::ChecksFailed => "checks_failed",
            Self::RemovedByReview => "removed_by_review",
        }
    }
}

/// Where work waits for a turn that it shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Logins to be made on a target; all targets together.
    Creations,
    /// Intents to be recorded.
    Intents,
    /// Activations to be recorded.
    Activations,
    /// Logins to be removed from a target; all targets together.
    Removals,
}

impl Queue {
    pub(in crate::telemetry) const ALL: [Self; 4] =
        [Self::Creations, Self::Intents, Self::Activations, Self::Removals];

    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Creations => "creations",
            Self::Intents => "intents",
            Self::Activations => "activations",
            Self::Removals => "removals",
        }
    }
}

/// What came of the beginning of a TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// It began.
    Ok,
    /// Plain HTTP was sent.
    Plain,
    /// It took too long.
    Slow,
    /// A client's certificate was missing that is required.
    NoCertificate,
    /// A client's certificate was revoked.
    Revoked,
    /// A client's certificate did not hold.
    BadCertificate,
    /// Anything else.
    Broken,
}

impl Handshake {
    pub(in crate::telemetry) const ALL: [Self; 7] = [
        Self::Ok,
        Self::Plain,
        Self::Slow,
        Self::NoCertificate,
        Self::Revoked,
        Self::BadCertificate,
        Self::Broken,
    ];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Plain => "plain",
            Self::Slow => "slow",
            Self::NoCertificate => "no_certificate",
            Self::Revoked => "revoked",
            Self::BadCertificate => "bad_certificate",
            Self::Broken => "broken",
        }
    }
}

/// What came of sending a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken.
    Told,
    /// It is sent again.
    Failed,
    /// It was given up.
    Dead,
}

impl Delivery {
    pub(in crate::telemetry) const ALL: [Self; 3] = [Self::Told, Self::Failed, Self::Dead];

    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }
}

/// The state of a target's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Requests pass.
    Closed,
    /// They fail at once.
    Open,
    /// One is let through, to see.
    HalfOpen,
}

impl Breaker {
    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What sweeps find.
pub(in crate::telemetry) const SWEEP_KINDS: [&str; 8] =
    ["orphan", "left-over", "lost", "changed", "shut-out", "sessions", "foreign", "unmarked"];

/// Why tokens are refused, in the words of the label.
pub(in crate::telemetry) const TOKEN_WORDS: [&str; 17] = [
    "wrong_secret",
    "no_such_token",
    "revoked",
    "disabled",
    "expired",
    "throttled",
    "unknown_certificate",
    "several_names",
    "bad_certificate",
    "issuer",
    "audience",
    "signature",
    "no_rule",
    "several_rules",
    "not_there",
    "spent",
    "emergency_code",
];

/// The label of what the audit says of a refused token.
pub(in crate::telemetry) fn token_word(why: &str) -> &'static str {
    match why {
        "wrong secret" => "wrong_secret",
        "no such token" => "no_such_token",
        "revoked" => "revoked",
        "principal disabled" => "disabled",
        "expired" => "expired",
        "throttled" => "throttled",
        "unknown certificate" => "unknown_certificate",
        "several of its names are known" => "several_names",
        "of no authority that is trusted, over, or not meant for clients" => "bad_certificate",
        "issuer" => "issuer",
        "audience" => "audience",
        "signature" | "algorithm" | "no key" | "unreadable" => "signature",
        "no rule" => "no_rule",
        "several rules" => "several_rules",
        "not there" => "not_there",
        "spent" => "spent",
        "emergency code" => "emergency_code",
        _ => "other",
    }
}
