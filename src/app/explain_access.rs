//! Explain access: what the policy would say, and why, without asking for anything.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::{
    app::{App, Origin, error::Error, offers::Offer},
    domain::{
        administration::Right,
        name::Name,
        policy::{self, Circumstances, Condition, Finding, Said},
        principal::{Principal, PrincipalName},
    },
    identity::Caller,
    store::limits::Count,
};

/// Of whom, when and from where it is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Of whom; of the caller, if none.
    pub principal: Option<PrincipalName>,
    /// When; now, if none.
    pub at: Option<DateTime<Utc>>,
    /// From where; from where the caller is, if it asks of itself.
    pub from: Option<IpAddr>,
}

/// What the policy says.
#[derive(Debug)]
pub struct Explained {
    /// Of whom.
    pub principal: Principal,
    /// When.
    pub at: DateTime<Utc>,
    /// From where.
    pub from: Option<IpAddr>,
    /// Everything that is looked at.
    pub findings: Vec<Finding>,
}

impl App {
    /// What the policy would say to a request with a reason, and everything that it looks at.
    ///
    /// # Errors
    /// If there is no such profile or principal, or the caller may ask of itself alone.
    pub async fn explain_access(
        &self,
        caller: &Caller,
        origin: &Origin,
        profile: &Name,
        question: Question,
    ) -> Result<Explained, Error> {
        let (principal, disabled) = match &question.principal {
            Some(name) => {
                self.admin(caller, origin, (&[Right::Read], "explaining somebody else's access"))
                    .await?;
                let found = self.store.principal_named(name).await?;
                found.ok_or_else(|| Error::not_found("principal", name.to_string()))?
            }
            None => (caller.principal().clone(), false),
        };
        let profile = self.profile(caller, profile).await?;
        let own_source = if question.principal.is_none() { origin.source } else { None };
        let (at, from) =
            (question.at.unwrap_or_else(|| self.clock.now()), question.from.or(own_source));
        let of = Circumstances { principal: &principal, source: from, now: at };
        let mut findings = Vec::new();
        if disabled {
            let why = format!("{principal} is disabled");
            findings.push(Finding { condition: Condition::Principal, holds: false, why });
        }
        findings.extend(policy::explain(Said { reason: true, ticket: true }, of, &profile));
        let (target, _) = self.handle(profile.target_id).await?;
        let counts = self.counts(principal.id, &Offer { profile, target }).await?;
        findings.extend(counts.iter().map(|count| told(count, at)));
        Ok(Explained { principal, at, from, findings })
    }
}

fn told(count: &Count, now: DateTime<Utc>) -> Finding {
    let why = format!("{} of {} ({})", count.there, count.most, count.limit.as_str());
    Finding { condition: Condition::Limits, holds: count.reached(now).is_none(), why }
}
