//! The words of each error for the caller: what is wrong, and what to do.

use crate::{
    app::error::Error,
    domain::{administration, approval::NotTheirs, lease::State, policy::Refusal, request, review},
};

impl Error {
    /// What is wrong and what to do, for the caller.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::TokenMissing => "send a token: `Authorization: Bearer pgv_…`".to_owned(),
            Self::TokenRefused => "the token is unknown, expired or revoked: ask an administrator for a new one".to_owned(),
            Self::CertificateRefused { why, names } if names.is_empty() => format!(
                "the client's certificate is refused ({why}): it has no name of a host, URI or address in its subject alternative name; the common name is never looked at"
            ),
            Self::CertificateRefused { why, names } => format!(
                "the client's certificate is refused ({why}); it names {}: exactly one of them must be recorded, `pgvalet identity add PRINCIPAL --certificate NAME`",
                names.join(", ")
            ),
            Self::TokenSpent => "this token handed out a credential before, and hands out one: ask the CI system for a fresh token".to_owned(),
            Self::CodeRefused => "the code is unknown, used, expired or withdrawn, or not this person's: try the next one of the set".to_owned(),
            Self::NotToClose(why) => why.to_string(),
            Self::TokenTooOld => "this token is too old to ask for a credential with: ask the CI system for a fresh one".to_owned(),
            Self::NotForJobs { what } => format!("{what} is not for CI jobs: theirs are the leases that they asked for"),
            Self::IssuerUnavailable(_) => "the token's issuer does not answer, so that it cannot be checked: try again".to_owned(),
            Self::Throttled { retry_after_seconds } => {
                format!("too many wrong tokens from this address: try again in {retry_after_seconds} s")
            }
            Self::Busy => "too many callers sign in for the first time at once: try again in a second".to_owned(),
            Self::SignInRefused { detail, .. } => detail.clone(),
            Self::Provider(_) => "the identity provider cannot be asked: try again; the request's id is in the daemon's log, with the reason".to_owned(),
            Self::Forbidden { what, rights } => format!("{what} needs {}", administration::in_words(rights)),
            Self::NotYours => "the lease is somebody else's, and its credential goes to them alone: revoke it, or ask for one of your own".to_owned(),
            Self::NotYourRequest => "the request is somebody else's: only they withdraw it, and only they get what comes of it".to_owned(),
            Self::NotFound { what, name, near } => match near {
                Some(near) => format!("there is no {what} `{name}`; did you mean `{near}`?"),
                None => format!("there is no {what} `{name}`"),
            },
            Self::Invalid(faults) => plural(faults.len(), "the request"),
            Self::File(faults) => plural(faults.len(), "the file"),
            Self::Refused { refusal, profile } => refused(refusal, profile),
            Self::NotTheirsToDecide { why, state } => not_theirs(*why, *state),
            Self::NotTheirsToReview(why) => not_theirs_to_review(*why).to_owned(),
            Self::TooManyRequests => "as many requests of yours are open as may be: withdraw one, or wait for an answer".to_owned(),
            Self::NotReadable { standing_role } => format!(
                "standing role `{standing_role}` does not allow you: its access.allow must name who may read it, administrators too"
            ),
            Self::KeyReused => "this Idempotency-Key was used for another request: use a new key for a new wish".to_owned(),
            Self::StillInProgress => "the first request with this Idempotency-Key is not answered yet: try again in a second".to_owned(),
            Self::LeaseOver { state: State::Revoked, cause: Some(cause) } => {
                format!("the lease is over ({cause}): ask for a new one")
            }
            Self::LeaseOver { state, cause: Some(cause) } => {
                format!("the lease is {} ({cause}): ask for a new one", state.as_str())
            }
            Self::LeaseOver { state, cause: None } => format!("the lease is {}: try again when it is active", state.as_str()),
            Self::RenewalExhausted { max_expires_at } => format!(
                "the lease lasts as long as its profile's max_ttl allows, until {}: ask for a new one",
                max_expires_at.format("%Y-%m-%d %H:%M:%S UTC")
            ),
            Self::Conflict { detail, .. } => detail.clone(),
            Self::Target { target, source, .. } => format!("target `{target}`: {source}"),
            Self::TimedOut { what, .. } => format!("{what} took too long; nothing is left behind: try again"),
            Self::StateUnavailable(_) => "the state database does not answer: nothing is left behind, try again".to_owned(),
            Self::Sealed(_) => "a sealed credential cannot be opened: the daemon's master key is not the one it was sealed under".to_owned(),
            Self::Internal(_) => "something went wrong in pgvalet; the request's id is in its log".to_owned(),
        }
    }
}

/// Why a profile gives no lease, and what to do.
fn refused(refusal: &Refusal, profile: &str) -> String {
    match refusal {
        Refusal::NoRule { rules: 0 } => {
            format!(
                "profile `{profile}` allows nobody: an administrator must name who may ask in its access.allow"
            )
        }
        Refusal::NoRule { .. } => {
            format!(
                "profile `{profile}` does not allow you: ask an administrator to add you to its access.allow"
            )
        }
        Refusal::Network(source) => {
            let from = source
                .map_or_else(|| "an address that is not known".to_owned(), |ip| ip.to_string());
            format!(
                "profile `{profile}` is not given out to {from}: ask from one of the networks that it names"
            )
        }
        Refusal::Hours(hours) => {
            format!("profile `{profile}` is given out {hours} only: ask then")
        }
        Refusal::Limit(reached) => format!(
            "there are as many leases as may be ({} = {}), which stands in the way of one more under profile `{profile}`: revoke one, or try again in {} s",
            reached.limit.as_str(),
            reached.most,
            reached.retry_after_seconds
        ),
        Refusal::NotForAsking => {
            "the token's scopes do not include `ask`: it is not for asking for leases".to_owned()
        }
        Refusal::NotByCode => format!(
            "a sealed code opens profiles for emergencies (preset `break-glass`) that its set names, and `{profile}` is none of them: the code is not used up"
        ),
        Refusal::ReasonNeeded => {
            format!("profile `{profile}` wants a reason: send `reason`")
        }
        Refusal::ClaimMissing(claim) => format!(
            "profile `{profile}` is for those of whom `{claim}` is claimed, and nothing is of you: ask an administrator (`pgvalet token create … --claim {claim}=VALUE`)"
        ),
        Refusal::ChecksFailed(check) => format!(
            "profile `{profile}` gives no leases, because its check `{check}` failed: an administrator mends it and runs `pgvalet check {profile}`"
        ),
        Refusal::TicketNeeded => {
            format!("profile `{profile}` wants a ticket: name the one that it is for")
        }
        Refusal::NotAsAgreed(what) => {
            format!("{what}: ask again for what you need now")
        }
        Refusal::RequestOver(state) => over(*state, profile),
        Refusal::RemovedByReview => format!(
            "an access review took profile `{profile}` away from you: whoever looks after profiles may give it back (`pgvalet review restore`)"
        ),
        Refusal::TooEarly(start) => format!(
            "it was asked for from {} on: claim it then",
            start.format("%Y-%m-%d %H:%M:%S UTC")
        ),
    }
}

/// Why nothing comes of a request, and what to do.
fn over(state: request::State, profile: &str) -> String {
    let again = format!("ask for profile `{profile}` again");
    match state {
        request::State::Pending => "others have not agreed yet: wait for them".to_owned(),
        // Between two looks: whoever was first has it.
        request::State::Approved => "somebody else claims it at this moment".to_owned(),
        request::State::Denied => format!("the request was denied: {again}, with what was missing"),
        request::State::Withdrawn => format!("the request was withdrawn: {again}"),
        request::State::Lapsed => format!("the request lapsed: {again}"),
        request::State::Claimed => "its lease was fetched, and is fetched once: `pgvalet rotate` gives a fresh login of a lease that lives".to_owned(),
        request::State::Failed => format!("the lease could not be made in time: {again}"),
    }
}

fn not_theirs(why: NotTheirs, state: request::State) -> String {
    match why {
        NotTheirs::Own => "nobody agrees to their own request: somebody else must".to_owned(),
        NotTheirs::ActsForThem => "it was asked for by an agent that acts for you: somebody else must agree".to_owned(),
        NotTheirs::OwnToken => "whoever asked made the token that you came with: come with one that is your own, or sign in".to_owned(),
        NotTheirs::LentToken => "you made the token that it was asked with, for somebody else: a third one must agree".to_owned(),
        NotTheirs::NoPerson => "only persons agree: a service or a job does not".to_owned(),
        NotTheirs::NotByThis => "what you came with agrees to nothing: sign in (`pgvalet login`), open the request's page, or use a token with the scope `approve`".to_owned(),
        NotTheirs::NotNamed => "the profile's access.approval does not name you for the step that is open".to_owned(),
        NotTheirs::SaidAlready => "you said something to this request already".to_owned(),
        NotTheirs::Over => format!("there is nothing to decide: the request is {}", state.as_str()),
    }
}

fn not_theirs_to_review(why: review::NotTheirs) -> &'static str {
    use review::NotTheirs;
    match why {
        NotTheirs::Own => "nobody decides about what they reach themselves: another reviewer must",
        NotTheirs::ActsForThem => {
            "it is what an agent reaches that acts for you, or whom you act for: another reviewer must decide"
        }
        NotTheirs::OwnToken => {
            "one of you made a token of the other's: another reviewer must decide"
        }
        NotTheirs::NoPerson => "only persons decide: a service or a job does not",
        NotTheirs::NotByThis => {
            "what you came with decides nothing: sign in (`pgvalet login`), or use a token with the scope `approve`"
        }
        NotTheirs::NotNamed => "`reviewers` in [review] of the daemon's settings does not name you",
        NotTheirs::Decided => {
            "it is decided already: what was taken away is given back by `pgvalet review restore`"
        }
        NotTheirs::Over => "the review was signed off: nothing in it changes any more",
        NotTheirs::Undecided => {
            "items of the review wait to be decided (`pgvalet review items ID --undecided`)"
        }
        NotTheirs::ProfileReplaced => {
            "the profile was removed since, and another one has its name, which this review did not look at: keep the item, and open a review anew"
        }
    }
}

fn plural(faults: usize, what: &str) -> String {
    match faults {
        1 => format!("one thing is wrong with {what}"),
        n => format!("{n} things are wrong with {what}"),
    }
}
