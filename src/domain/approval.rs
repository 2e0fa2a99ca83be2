//! Who must agree before a profile gives a lease, and who may. Nobody agrees to their own request: not as an
//! administrator, not through a second identity or token, not through an agent that acts for them.
//!
//! Only persons agree, and only with what a person signed in with: an agent that got hold of an API token can
//! agree to nothing unless the token was made for that.

use std::collections::BTreeSet;

use crate::{
    domain::{
        duration::Seconds,
        principal::{AllowRule, Kind, Principal},
        request::{Request, State, Via, Vote},
        words::words,
    },
    ids::PrincipalId,
};

/// Who must agree: `access.approval` of a profile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// One after the other.
    pub steps: Vec<Step>,
    /// How long a request waits for them.
    pub lapse_after: Seconds,
    /// How long what was agreed to may be used: until the lease is fetched, not until it ends.
    pub use_within: Seconds,
    /// What a chat may show of it.
    #[serde(default)]
    pub in_chat: InChat,
}

/// So many of these must agree.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Who may.
    #[schema(value_type = Vec<String>)]
    pub from: Vec<AllowRule>,
    /// How many of them.
    pub count: u32,
}

words! {
    /// How a request is shown in a chat.
    #[derive(Default)]
    InChat {
        /// With buttons: whoever holds the chat account decides there.
        #[default]
        Buttons = "buttons",
        /// With a link to the page, where one signs in: for what must not hang on a chat account.
        Link = "link",
    }
}

impl Needs {
    /// What is wrong with it; each fault names its key.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |message: String| faults.push(("access.approval", message));
        if self.steps.is_empty() {
            fault("needs `from`: the rules that say who may agree".to_owned());
        }
        for step in &self.steps {
            if step.from.is_empty() {
                fault("`from` names nobody who may agree".to_owned());
            }
            if !(1..=MOST_AGREEING).contains(&step.count) {
                fault(format!("`count` must be 1 to {MOST_AGREEING}"));
            }
            for rule in step.from.iter().filter(|rule| !may_name_persons(rule)) {
                fault(format!(
                    "`{rule}` agrees to nothing: only persons do; write `person:NAME` or `group:NAME`"
                ));
            }
            let named: BTreeSet<String> = step.from.iter().map(ToString::to_string).collect();
            let only_persons = step.from.iter().all(|rule| matches!(rule, AllowRule::Person(_)));
            if only_persons
                && !named.is_empty()
                && u32::try_from(named.len()).is_ok_and(|named| named < step.count)
            {
                fault(format!("`count` is {}, and `from` names {}", step.count, named.len()));
            }
        }
        for (key, length) in [("lapse_after", self.lapse_after), ("use_within", self.use_within)] {
            if length.get() > LONGEST_WAIT {
                fault(format!("`{key}` is at most \"30d\""));
            }
        }
        faults
    }

    /// All rules that say who may agree, each once.
    #[must_use]
    pub fn approvers(&self) -> Vec<String> {
        let rules = self.steps.iter().flat_map(|step| &step.from).map(ToString::to_string);
        rules.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// In words: `1 of group:dba, then 2 of person:olivia, group:security`.
    #[must_use]
    pub fn in_words(&self) -> String {
        self.steps.iter().map(Step::in_words).collect::<Vec<_>>().join(", then ")
    }
}

impl Step {
    /// In words: `2 of person:olivia, group:security`.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{} of {}", self.count, self.from_in_words())
    }

    /// Who may, in words: `person:olivia, group:security`.
    #[must_use]
    pub fn from_in_words(&self) -> String {
        self.from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Of one step, at most.
const MOST_AGREEING: u32 = 20;

/// A request that nobody answered in a month is answered.
const LONGEST_WAIT: i64 = 30 * 24 * 3600;

const fn may_name_persons(rule: &AllowRule) -> bool {
    matches!(rule, AllowRule::Person(_) | AllowRule::Group(_) | AllowRule::Anyone)
}

/// Somebody who wants to decide.
#[derive(Debug, Clone, Copy)]
pub struct Decider<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// By which way; none if what they came with decides nothing.
    pub via: Option<Via>,
    /// Who made the token that they came with, if others did, and who made what it was made with.
    pub token_makers: &'a [PrincipalId],
}

/// Whose it is that is to be decided about.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Who.
    pub id: PrincipalId,
    /// The person that they act for.
    pub acts_for: Option<PrincipalId>,
    /// Who made tokens that they came with, or may come with.
    pub token_makers: &'a [PrincipalId],
}

/// Why two are not two: one of them may be the other one, or speak through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// It is their own.
    Same,
    /// One acts for the other.
    ActsForThem,
    /// Whose it is made the token that they came with.
    OwnToken,
    /// They made a token of whose it is.
    LentToken,
}

impl Decider<'_> {
    /// What ties them to whose it is, about which nobody decides themselves: not as somebody else, through a program, or
    /// with a token that one made for the other.
    #[must_use]
    pub fn tie_to(&self, owner: Owner<'_>) -> Option<Tie> {
        let is_owner = |id: PrincipalId| id == owner.id || owner.acts_for == Some(id);
        let own = self.principal.id;
        if own == owner.id {
            Some(Tie::Same)
        } else if is_owner(own) || self.principal.acts_for == Some(owner.id) {
            Some(Tie::ActsForThem)
        } else if self.token_makers.iter().copied().any(is_owner) {
            Some(Tie::OwnToken)
        } else {
            owner.token_makers.contains(&own).then_some(Tie::LentToken)
        }
    }
}

words! {
    /// Why somebody may not decide.
    NotTheirs {
        /// They asked themselves.
        Own = "own_request",
        /// Who asked acts for them.
        ActsForThem = "own_agent",
        /// Who asked made the token that they came with.
        OwnToken = "own_token",
        /// They made the token that it was asked with.
        LentToken = "lent_token",
        /// They are no person.
        NoPerson = "persons_only",
        /// What they came with decides nothing.
        NotByThis = "not_by_this_token",
        /// No rule of the open step names them.
        NotNamed = "not_an_approver",
        /// They said something already.
        SaidAlready = "decided_already",
        /// There is nothing to decide any more.
        Over = "request_over",
    }
}

/// The step that waits for more, and how many more. What is void counts for nothing.
#[must_use]
pub fn open_step(request: &Request) -> Option<(usize, &Step)> {
    let agreed = |step: usize| {
        let of_step =
            |vote: &&Vote| usize::try_from(vote.step).is_ok_and(|n| n == step) && vote.agrees();
        u32::try_from(request.votes.iter().filter(of_step).count()).unwrap_or(u32::MAX)
    };
    request.needs.steps.iter().enumerate().find(|(n, step)| agreed(*n) < step.count)
}

/// In which step somebody may decide now.
///
/// # Errors
/// Why not.
pub fn may_decide(request: &Request, by: Decider<'_>) -> Result<usize, NotTheirs> {
    let Decider { principal, via, .. } = by;
    let Request { principal_id: id, acts_for, asker_makers: token_makers, .. } = request;
    match by.tie_to(Owner { id: *id, acts_for: *acts_for, token_makers }) {
        Some(Tie::Same) => return Err(NotTheirs::Own),
        Some(Tie::ActsForThem) => return Err(NotTheirs::ActsForThem),
        Some(Tie::OwnToken) => return Err(NotTheirs::OwnToken),
        Some(Tie::LentToken) => return Err(NotTheirs::LentToken),
        None => {}
    }
    if principal.kind != Kind::Person {
        return Err(NotTheirs::NoPerson);
    }
    if via.is_none() || (via == Some(Via::Slack) && request.needs.in_chat == InChat::Link) {
        return Err(NotTheirs::NotByThis);
    }
    if request.state != State::Pending {
        return Err(NotTheirs::Over);
    }
    let said = |vote: &Vote| vote.principal_id == principal.id && vote.void_at.is_none();
    if request.votes.iter().any(said) {
        return Err(NotTheirs::SaidAlready);
    }
    let (step, open) = open_step(request).ok_or(NotTheirs::Over)?;
    if !open.from.iter().any(|rule| rule.matches(principal)) {
        return Err(NotTheirs::NotNamed);
    }
    Ok(step)
}

/// Who agreed to the request and made the token that somebody comes with to fetch what came of it: one who did both
/// would have agreed to what they get themselves.
#[must_use]
pub fn lent_by<'a>(request: &'a Request, token_makers: &[PrincipalId]) -> Option<&'a Vote> {
    let lent = |vote: &&Vote| vote.agrees() && token_makers.contains(&vote.principal_id);
    request.votes.iter().find(lent)
}

/// May they see the request because they may agree to it, in one step or another?
#[must_use]
pub fn is_named(request: &Request, principal: &Principal) -> bool {
    let rules = request.needs.steps.iter().flat_map(|step| &step.from);
    principal.kind == Kind::Person && rules.into_iter().any(|rule| rule.matches(principal))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};

    use super::*;
    use crate::{
        domain::{lease::grant_ttl, principal::LOCAL_ISSUER, request::Verdict},
        ids::{AccessRequestId, ProfileId, TargetId},
    };

    fn person(name: &str, groups: &[&str]) -> Principal {
        Principal {
            id: PrincipalId::new(),
            issuer: LOCAL_ISSUER.to_owned(),
            subject: name.parse().unwrap(),
            kind: Kind::Person,
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
            admin: true,
            claims: BTreeMap::new(),
            acts_for: None,
        }
    }

    fn step(from: &[&str], count: u32) -> Step {
        Step { from: from.iter().map(|rule| rule.parse().unwrap()).collect(), count }
    }

    fn request(of: &Principal, steps: Vec<Step>) -> Request {
        let now: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
        let hour = Seconds::HOUR;
        Request {
            id: AccessRequestId::new(),
            state: State::Pending,
            principal_id: of.id,
            principal: of.to_string(),
            acts_for: of.acts_for,
            asker_makers: Vec::new(),
            profile_id: Some(ProfileId::new()),
            profile: "shop-write".to_owned(),
            profile_version: 1,
            target_id: TargetId::new(),
            target: "shop".to_owned(),
            environment: "prod".to_owned(),
            database: "shop".to_owned(),
            tool: "psql".to_owned(),
            ttl: grant_ttl(None, hour, hour),
            agreed: None,
            reason: None,
            ticket: None,
            extends: None,
            needs: Needs { steps, lapse_after: hour, use_within: hour, in_chat: InChat::Link },
            votes: Vec::new(),
            start_at: None,
            created_at: now,
            lapse_at: now + hour.delta(),
            decided_at: None,
            use_by: None,
            lease_id: None,
        }
    }

    fn agreed(request: &mut Request, who: &Principal, step: i32) {
        request.votes.push(Vote {
            principal_id: who.id,
            principal: who.to_string(),
            step,
            verdict: Verdict::Agreed,
            comment: None,
            via: Via::Page,
            at: request.created_at,
            void_at: None,
        });
    }

    fn by(principal: &Principal) -> Decider<'_> {
        Decider { principal, via: Some(Via::Page), token_makers: &[] }
    }

    #[test]
    fn who_may_decide_and_why_not() {
        let (ann, dora) = (person("ann", &["dba"]), person("dora", &["dba"]));
        let boss = person("boss", &[]);
        let asked = request(&ann, vec![step(&["group:dba"], 1)]);
        assert_eq!(may_decide(&asked, by(&dora)), Ok(0));
        assert_eq!(may_decide(&asked, by(&ann)), Err(NotTheirs::Own));
        assert_eq!(may_decide(&asked, by(&person("eve", &[]))), Err(NotTheirs::NotNamed));
        let without = Decider { via: None, ..by(&dora) };
        assert_eq!(may_decide(&asked, without), Err(NotTheirs::NotByThis));
        let in_chat = Decider { via: Some(Via::Slack), ..by(&dora) };
        assert_eq!(may_decide(&asked, in_chat), Err(NotTheirs::NotByThis), "a link only");
        let makers = [person("eve", &[]).id, ann.id];
        let token = Decider { token_makers: &makers, ..by(&dora) };
        assert_eq!(may_decide(&asked, token), Err(NotTheirs::OwnToken));
        let service = Principal { kind: Kind::Service, ..person("bot", &["dba"]) };
        assert_eq!(may_decide(&asked, by(&service)), Err(NotTheirs::NoPerson));

        let agent = Principal { acts_for: Some(dora.id), ..service };
        let of_agent = request(&agent, vec![step(&["group:dba"], 1)]);
        assert_eq!(may_decide(&of_agent, by(&dora)), Err(NotTheirs::ActsForThem));
        assert_eq!(may_decide(&of_agent, by(&ann)), Ok(0));
        let makers = [dora.id];
        let by_its_token = Decider { token_makers: &makers, ..by(&ann) };
        assert_eq!(may_decide(&of_agent, by_its_token), Err(NotTheirs::OwnToken));

        // Whoever made the token that it was asked with asked it, or may have.
        let lent = Request {
            asker_makers: vec![boss.id, dora.id],
            ..request(&ann, vec![step(&["group:dba"], 1)])
        };
        assert_eq!(may_decide(&lent, by(&dora)), Err(NotTheirs::LentToken));
        assert_eq!(may_decide(&lent, by(&boss)), Err(NotTheirs::LentToken), "not for being named");
        assert_eq!(may_decide(&lent, by(&person("dan", &["dba"]))), Ok(0));

        let over = Request { state: State::Lapsed, ..request(&ann, vec![step(&["anyone"], 1)]) };
        assert_eq!(may_decide(&over, by(&dora)), Err(NotTheirs::Over));
    }

    #[test]
    fn steps_are_taken_one_after_the_other_and_each_person_counts_once() {
        let ann = person("ann", &[]);
        let (lea, leo) = (person("lea", &["leads", "dba"]), person("leo", &["leads"]));
        let dora = person("dora", &["dba"]);
        let steps = vec![step(&["group:leads"], 2), step(&["group:dba"], 1)];
        let mut asked = request(&ann, steps);
        assert_eq!(may_decide(&asked, by(&dora)), Err(NotTheirs::NotNamed), "not yet");
        agreed(&mut asked, &lea, 0);
        assert_eq!(may_decide(&asked, by(&lea)), Err(NotTheirs::SaidAlready));
        agreed(&mut asked, &leo, 0);
        assert_eq!(open_step(&asked).map(|(n, _)| n), Some(1));
        assert_eq!(may_decide(&asked, by(&lea)), Err(NotTheirs::SaidAlready), "in neither step");
        assert_eq!(may_decide(&asked, by(&dora)), Ok(1));
        agreed(&mut asked, &dora, 1);
        assert_eq!(open_step(&asked), None);
        assert_eq!(may_decide(&asked, by(&person("dan", &["dba"]))), Err(NotTheirs::Over));
    }

    #[test]
    fn what_is_void_counts_no_more_and_may_be_said_again() {
        let ann = person("ann", &[]);
        let (lea, dora) = (person("lea", &["leads"]), person("dora", &["dba"]));
        let steps = vec![step(&["group:leads"], 1), step(&["group:dba"], 1)];
        let mut asked = request(&ann, steps);
        agreed(&mut asked, &lea, 0);
        agreed(&mut asked, &dora, 1);
        assert_eq!(
            (open_step(&asked), asked.agreed_by().as_str()),
            (None, "person:lea, person:dora")
        );
        assert_eq!(lent_by(&asked, &[ann.id]), None);
        assert_eq!(lent_by(&asked, &[ann.id, dora.id]), Some(&asked.votes[1]));
        asked.votes[0].void_at = Some(asked.created_at);
        assert_eq!(lent_by(&asked, &[lea.id]), None, "it counts for nothing");
        assert_eq!(open_step(&asked).map(|(n, _)| n), Some(0), "the first step is open again");
        assert_eq!(asked.agreed_by(), "person:dora");
        assert_eq!(may_decide(&asked, by(&lea)), Ok(0), "let in again, they may say it again");
        assert_eq!(may_decide(&asked, by(&dora)), Err(NotTheirs::SaidAlready));
        assert_eq!(may_decide(&asked, by(&person("leo", &["leads"]))), Ok(0));
    }

    #[test]
    fn what_can_never_be_agreed_to_is_a_fault() {
        let needs = |steps| Needs {
            steps,
            lapse_after: Seconds::HOUR,
            use_within: Seconds::HOUR,
            in_chat: InChat::Buttons,
        };
        for (steps, fault) in [
            (vec![], "`from`"),
            (vec![step(&[], 1)], "names nobody"),
            (vec![step(&["group:dba"], 0)], "`count` must be"),
            (vec![step(&["group:dba", "service:bot"], 1)], "only persons"),
            (vec![step(&["ci:main"], 1)], "only persons"),
            (vec![step(&["person:ann", "person:ann"], 2)], "`from` names 1"),
        ] {
            let faults = needs(steps).faults();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].1.contains(fault), "{faults:?}");
        }
        let sound = needs(vec![step(&["group:dba"], 3), step(&["person:ann", "person:bob"], 2)]);
        assert_eq!(sound.faults(), Vec::new());
        assert_eq!(sound.in_words(), "3 of group:dba, then 2 of person:ann, person:bob");
        let late = Needs { lapse_after: Seconds::NINETY_DAYS, ..sound };
        assert!(late.faults()[0].1.contains("30d"));
    }
}
