//! What others agreed to, when it is asked for: is it that, and is whoever asked eligible still?

use crate::domain::{
    approval,
    duration::Seconds,
    lease::{Granted, TtlRule},
    name::Name,
    policy::{Approval, Circumstances, Decision, Refusal, Said, allowed, longest, look, narrowed},
    profile::Profile,
    request::{self, Request},
};

/// The same of what others agreed to. Whoever asked must be eligible still, and it must be that which was agreed
/// to: under a profile that was changed since, it is not.
pub fn decide_claim(
    request: &Request,
    wanted: &Wanted,
    of: Circumstances<'_>,
    profile: &Profile,
) -> Decision {
    if let Some(refusal) = not_as_agreed(request, wanted, of, profile) {
        return Decision::Refuse(refusal, Vec::new());
    }
    let said = Said { reason: request.reason.is_some(), ticket: request.ticket.is_some() };
    let (rule, trace) = match allowed(look(said, of, profile), of, profile) {
        Ok(allowed) => allowed,
        Err((refusal, trace)) => return Decision::Refuse(refusal, trace),
    };
    let agreed = Granted {
        asked: wanted.ttl.or(request.ttl.asked),
        granted: wanted.ttl.unwrap_or_else(|| request.length()),
        rule: TtlRule::Agreed,
        because: format!("{} agreed to {}", request.agreed_by(), request.length()),
    };
    Decision::Allow(Approval {
        profile: profile.id,
        profile_version: profile.version,
        principal: of.principal.id,
        granted: narrowed(agreed, of.principal, profile),
        max_ttl: longest(of.principal, profile),
        rule: Some(rule),
        request: Some(request.id),
        trace,
    })
}

/// What is wanted of what others agreed to; all of it, where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The profile.
    pub profile: Option<Name>,
    /// The database.
    pub database: Option<String>,
    /// The tool.
    pub tool: Option<Name>,
    /// For how long.
    pub ttl: Option<Seconds>,
}

fn not_as_agreed(
    request: &Request,
    wanted: &Wanted,
    of: Circumstances<'_>,
    profile: &Profile,
) -> Option<Refusal> {
    if request.state != request::State::Approved {
        return Some(Refusal::RequestOver(request.state));
    }
    // Somebody who agreed was shut out while it was being used.
    if approval::open_step(request).is_some() {
        return Some(Refusal::RequestOver(request::State::Pending));
    }
    let differs = |what: &str, wanted: Option<&str>, agreed: &str| {
        let wanted = wanted.filter(|wanted| *wanted != agreed)?;
        let text = format!("{what} `{wanted}` is wanted, and `{agreed}` was agreed to");
        Some(Refusal::NotAsAgreed(text))
    };
    let other = differs("profile", wanted.profile.as_ref().map(Name::as_str), &request.profile)
        .or_else(|| differs("database", wanted.database.as_deref(), &request.database))
        .or_else(|| differs("tool", wanted.tool.as_ref().map(Name::as_str), &request.tool));
    if other.is_some() {
        return other;
    }
    if let Some(ttl) = wanted.ttl.filter(|ttl| *ttl > request.length()) {
        let text = format!("{ttl} are wanted, and {} were agreed to", request.length());
        return Some(Refusal::NotAsAgreed(text));
    }
    if request.profile_id != Some(profile.id) || request.profile_version != profile.version {
        let text = "the profile was changed since it was asked for".to_owned();
        return Some(Refusal::NotAsAgreed(text));
    }
    request.start_at.filter(|start| *start > of.now).map(Refusal::TooEarly)
}
