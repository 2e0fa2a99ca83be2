//! Emergencies: leases under profiles of the preset `break-glass`. They wait for nobody, so each is looked at
//! afterwards, by somebody else: its review is open until then.
//!
//! A sealed code asks for one without a sign-in, while the identity provider is down. Whoever made it has seen
//! it, so that two people may have opened the emergency: neither of them closes its review.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        access::text_fault,
        approval::{Decider, Owner, Tie},
        lease::{self, Cause},
        name::Name,
        principal::Kind,
        profile::{Preset, ProfileSpec},
        words::words,
    },
    ids::{EmergencyCodeId, LeaseId, PrincipalId},
};

words! {
    /// How the review of an emergency stands.
    State {
        /// Nobody looked at it yet.
        Open = "open",
        /// Somebody did.
        Closed = "closed",
        /// Its login could not be made: nobody was given anything.
        Failed = "failed",
    }
}

words! {
    /// What somebody found who looked at it.
    Verdict {
        /// It was one, and what was done was right.
        Justified = "justified",
        /// It was none, or something else was done.
        Unjustified = "unjustified",
    }
}

/// An emergency as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emergency {
    /// Its lease.
    pub lease_id: LeaseId,
    /// Where that is in its life.
    pub lease_state: lease::State,
    /// Why that ended.
    pub lease_cause: Option<Cause>,
    /// Who asked for it.
    pub principal_id: PrincipalId,
    /// The person that they act for, if they act for one.
    pub acts_for: Option<PrincipalId>,
    /// Who made the token that it was asked for with, if others did; who made what that was made with; and for whom
    /// these act.
    pub asker_makers: Vec<PrincipalId>,
    /// Who asked for it, in words.
    pub principal: String,
    /// The profile.
    pub profile: String,
    /// The target.
    pub target: String,
    /// The database.
    pub database: String,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// When it was asked for.
    pub opened_at: DateTime<Utc>,
    /// When its lease ends.
    pub expires_at: DateTime<Utc>,
    /// When its login was seen to be gone.
    pub ended_at: Option<DateTime<Utc>>,
    /// The number of the sealed code that it was asked for with.
    pub code: Option<i32>,
    /// Who made that code.
    pub code_made_by: Option<PrincipalId>,
    /// The review, once it is closed.
    pub review: Option<Review>,
}

/// What somebody found who looked at an emergency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// In a word.
    pub verdict: Verdict,
    /// In their own.
    pub comment: String,
    /// Who.
    pub closed_by: String,
    /// When.
    pub closed_at: DateTime<Utc>,
}

impl Emergency {
    /// How its review stands.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.review, self.lease_cause) {
            (Some(_), _) => State::Closed,
            (None, Some(Cause::Failed)) => State::Failed,
            (None, _) => State::Open,
        }
    }
}

/// Why somebody may not close a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotToClose {
    /// It is their own.
    #[error("you opened this emergency: somebody else closes its review")]
    Own,
    /// They made the code that it was opened with.
    #[error(
        "you made the sealed code that this emergency was opened with, and have seen it: somebody else closes its review"
    )]
    OwnCode,
    /// They made the token that it was opened with.
    #[error(
        "you made the token that this emergency was opened with, for somebody else: a third one closes its review"
    )]
    LentToken,
    /// Their token was made by somebody who may not.
    #[error(
        "your token was made by somebody who may have opened this emergency: sign in, or use a token that you made yourself"
    )]
    Lent,
    /// A program.
    #[error("a review is closed by a person: sign in as one")]
    NoPerson,
    /// What they came with is not for this.
    #[error(
        "this token closes no review, because a program may have it: sign in (`pgvalet login`), or use a token with the scope `approve`"
    )]
    NotByThis,
}

/// Nobody closes the review of what they opened, or may have: not as somebody else, nor through a program.
///
/// # Errors
/// Why not.
pub fn may_close(emergency: &Emergency, by: Decider<'_>) -> Result<(), NotToClose> {
    let Emergency { principal_id: id, acts_for, asker_makers: token_makers, .. } = emergency;
    match by.tie_to(Owner { id: *id, acts_for: *acts_for, token_makers }) {
        Some(Tie::Same | Tie::ActsForThem) => return Err(NotToClose::Own),
        Some(Tie::OwnToken) => return Err(NotToClose::Lent),
        Some(Tie::LentToken) => return Err(NotToClose::LentToken),
        None => {}
    }
    // Whoever made the code has seen it, and may have opened it as if they were the other one.
    if emergency.code_made_by == Some(by.principal.id) {
        return Err(NotToClose::OwnCode);
    }
    if by.token_makers.iter().any(|id| emergency.code_made_by == Some(*id)) {
        return Err(NotToClose::Lent);
    }
    if by.principal.kind != Kind::Person {
        return Err(NotToClose::NoPerson);
    }
    // What carries everything does not do: an agent may have it.
    if by.via.is_some() { Ok(()) } else { Err(NotToClose::NotByThis) }
}

/// A few sentences.
const LONGEST_COMMENT: usize = 1000;

/// What is wrong with the comment of a review.
#[must_use]
pub fn comment_fault(comment: &str) -> Option<String> {
    if comment.trim().is_empty() {
        return Some("say what was done, and why it was or was not right".to_owned());
    }
    text_fault(comment, LONGEST_COMMENT)
}

/// A sealed code, less its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyCode {
    /// Its id.
    pub id: EmergencyCodeId,
    /// Its number in the set.
    pub number: i32,
    /// The only profiles that it opens; any of the preset, if empty.
    pub profiles: Vec<Name>,
    /// Who made it.
    pub made_by: PrincipalId,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
}

impl EmergencyCode {
    /// May this profile be asked for with it?
    #[must_use]
    pub fn opens(&self, profile: &ProfileSpec) -> bool {
        profile.preset == Preset::BreakGlass
            && (self.profiles.is_empty() || self.profiles.contains(&profile.name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{
        principal::{LOCAL_ISSUER, Principal},
        request::Via,
    };

    fn emergency(by: PrincipalId, code_made_by: Option<PrincipalId>) -> Emergency {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Emergency {
            lease_id: LeaseId::new(),
            lease_state: lease::State::Active,
            lease_cause: None,
            principal_id: by,
            acts_for: None,
            asker_makers: Vec::new(),
            principal: "person:ann".to_owned(),
            profile: "shop-emergency".to_owned(),
            target: "shop".to_owned(),
            database: "shop".to_owned(),
            reason: Some("INC-1".to_owned()),
            ticket: None,
            opened_at: at,
            expires_at: at,
            ended_at: None,
            code: code_made_by.map(|_| 1),
            code_made_by,
            review: None,
        }
    }

    fn principal(kind: Kind) -> Principal {
        Principal {
            id: PrincipalId::new(),
            issuer: LOCAL_ISSUER.to_owned(),
            subject: "somebody".parse().unwrap(),
            kind,
            groups: Vec::new(),
            admin: true,
            claims: BTreeMap::new(),
            acts_for: None,
        }
    }

    #[test]
    fn whoever_may_have_opened_it_does_not_close_it() {
        let (ann, registrar) = (principal(Kind::Person), principal(Kind::Person));
        let (bob, service) = (principal(Kind::Person), principal(Kind::Service));
        let (signed_in, plain) = (None, emergency(ann.id, None));
        let by_code = emergency(ann.id, Some(registrar.id));
        let by_lent_token =
            Emergency { asker_makers: vec![registrar.id], ..emergency(service.id, None) };
        let by_agent = Emergency { acts_for: Some(ann.id), ..emergency(service.id, None) };
        let may =
            |emergency: &Emergency, principal: &Principal, token_made_by: Option<PrincipalId>| {
                let token_makers: &[PrincipalId] = token_made_by.as_slice();
                may_close(emergency, Decider { principal, via: Some(Via::Api), token_makers })
            };
        for (sentence, of, who, made_by, answer) in [
            ("their own", &plain, &ann, signed_in, Err(NotToClose::Own)),
            ("their own, by another token", &plain, &ann, Some(bob.id), Err(NotToClose::Own)),
            ("by a token that the opener made", &plain, &bob, Some(ann.id), Err(NotToClose::Lent)),
            ("who made the code", &by_code, &registrar, signed_in, Err(NotToClose::OwnCode)),
            ("a token by that one", &by_code, &bob, Some(registrar.id), Err(NotToClose::Lent)),
            ("a program", &plain, &service, Some(bob.id), Err(NotToClose::NoPerson)),
            ("a program of the opener", &plain, &service, Some(ann.id), Err(NotToClose::Lent)),
            (
                "who made the token",
                &by_lent_token,
                &registrar,
                signed_in,
                Err(NotToClose::LentToken),
            ),
            ("who did not", &by_lent_token, &bob, signed_in, Ok(())),
            ("whose agent opened it", &by_agent, &ann, signed_in, Err(NotToClose::Own)),
            ("somebody else, signed in", &by_code, &bob, signed_in, Ok(())),
            ("somebody else, by a token of theirs", &by_code, &bob, Some(bob.id), Ok(())),
            ("without a code the registrar may", &plain, &registrar, signed_in, Ok(())),
        ] {
            assert_eq!(may(of, who, made_by), answer, "{sentence}");
        }
        let by_any_token = Decider { principal: &bob, via: None, token_makers: &[] };
        assert_eq!(may_close(&plain, by_any_token), Err(NotToClose::NotByThis));
    }

    #[test]
    fn what_failed_needs_no_review_and_what_was_looked_at_is_closed() {
        let mut one = emergency(PrincipalId::new(), None);
        assert_eq!(one.state(), State::Open);
        one.lease_cause = Some(Cause::Failed);
        assert_eq!(one.state(), State::Failed);
        one.lease_cause = Some(Cause::Expired);
        assert_eq!(one.state(), State::Open);
        one.review = Some(Review {
            verdict: Verdict::Justified,
            comment: "as agreed".to_owned(),
            closed_by: "person:bob".to_owned(),
            closed_at: one.opened_at,
        });
        assert_eq!(one.state(), State::Closed);
        assert!(comment_fault(" ").is_some() && comment_fault("fine").is_none());
    }
}
