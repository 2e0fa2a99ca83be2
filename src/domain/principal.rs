//! Who asks: always an issuer and a subject. A tool's self-given name is a label, never authority.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    domain::{name::Name, words::words},
    ids::PrincipalId,
};

/// The issuer of principals that pgvalet itself vouches for, by its API tokens.
pub const LOCAL_ISSUER: &str = "local";

words! {
    /// What kind of caller a principal is.
    Kind {
        /// A human being.
        Person = "person",
        /// A program that acts for itself.
        Service = "service",
        /// The jobs of a CI system that meet one rule.
        Ci = "ci",
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its id here.
    pub id: PrincipalId,
    /// Who vouched for it first. The identities by which it is known are recorded beside it.
    pub issuer: String,
    /// Its name here. No other principal of its kind has it, whoever vouches for them.
    pub subject: Name,
    /// What kind of caller it is.
    pub kind: Kind,
    /// The groups that it is in.
    pub groups: Vec<Name>,
    /// May it administer targets, profiles, tokens and other people's leases? It still gets a lease
    /// only where a profile allows it.
    pub admin: bool,
    /// What is claimed of it (`tenant_id`): what templates of a profile's context are filled with.
    pub claims: BTreeMap<String, String>,
    /// The person that it acts for, if it is a service that does: an AI tool, say.
    pub acts_for: Option<PrincipalId>,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.subject)
    }
}

impl Principal {
    /// Every rule that holds for it.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        let groups = self.groups.iter().map(|group| AllowRule::Group(group.clone()).to_string());
        let anyone = (self.kind != Kind::Ci).then(|| AllowRule::Anyone.to_string());
        groups.chain([self.to_string()]).chain(anyone).collect()
    }

    /// How it is named.
    #[must_use]
    pub fn name(&self) -> PrincipalName {
        PrincipalName { kind: self.kind, subject: self.subject.clone() }
    }
}

/// `person:alice`, `service:reports` or `ci:storefront`: how a principal is named in a command or a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalName {
    /// What kind of caller it is.
    pub kind: Kind,
    /// Its name.
    pub subject: Name,
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.subject)
    }
}

/// A text that does not name a principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` does not name a principal: write `person:NAME`, `service:NAME` or `ci:NAME`, NAME in lower case"
)]
pub struct NotAPrincipal(String);

impl FromStr for PrincipalName {
    type Err = NotAPrincipal;

    fn from_str(text: &str) -> Result<Self, NotAPrincipal> {
        let fault = || NotAPrincipal(text.chars().take(64).collect());
        let (kind, subject) = text.split_once(':').ok_or_else(fault)?;
        let kind = Kind::from_text(kind).ok_or_else(fault)?;
        Ok(Self { kind, subject: subject.parse().map_err(|_| fault())? })
    }
}

/// Who may ask for a profile: one line of `access.allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowRule {
    /// Every principal that has signed in.
    Anyone,
    /// One person.
    Person(Name),
    /// One service.
    Service(Name),
    /// The jobs that meet one rule for CI.
    Ci(Name),
    /// All who are in a group.
    Group(Name),
}

/// A text that is no rule of `access.allow`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rule: write `person:NAME`, `service:NAME`, `ci:NAME`, `group:NAME` or `anyone`"
)]
pub struct NotARule(String);

impl AllowRule {
    /// Does the rule hold for this principal?
    #[must_use]
    pub fn matches(&self, principal: &Principal) -> bool {
        match self {
            // CI jobs are named, always: `anyone` is meant for those who have a name of their own.
            Self::Anyone => principal.kind != Kind::Ci,
            Self::Ci(name) => principal.kind == Kind::Ci && principal.subject == *name,
            Self::Person(name) => principal.kind == Kind::Person && principal.subject == *name,
            Self::Service(name) => principal.kind == Kind::Service && principal.subject == *name,
            Self::Group(name) => principal.groups.contains(name),
        }
    }
}

impl FromStr for AllowRule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let unknown = || NotARule(text.chars().take(64).collect());
        match text.split_once(':') {
            None if text == "anyone" => Ok(Self::Anyone),
            Some(("person", name)) => name.parse().map(Self::Person).map_err(|_| unknown()),
            Some(("service", name)) => name.parse().map(Self::Service).map_err(|_| unknown()),
            Some(("group", name)) => name.parse().map(Self::Group).map_err(|_| unknown()),
            Some(("ci", name)) => name.parse().map(Self::Ci).map_err(|_| unknown()),
            None | Some(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Person(name) => write!(f, "person:{name}"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Ci(name) => write!(f, "ci:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Principal {
        Principal {
            id: PrincipalId::new(),
            issuer: LOCAL_ISSUER.to_owned(),
            subject: "alice".parse().unwrap(),
            kind: Kind::Person,
            groups: vec!["engineering".parse().unwrap()],
            admin: false,
            claims: BTreeMap::new(),
            acts_for: None,
        }
    }

    #[test]
    fn a_rule_holds_for_whom_it_names() {
        for (rule, holds) in [
            ("anyone", true),
            ("person:alice", true),
            ("person:bob", false),
            ("service:alice", false),
            ("group:engineering", true),
            ("group:dba", false),
            ("ci:alice", false),
        ] {
            assert_eq!(rule.parse::<AllowRule>().unwrap().matches(&alice()), holds, "{rule}");
            assert_eq!(rule.parse::<AllowRule>().unwrap().to_string(), rule);
        }
    }

    #[test]
    fn an_unreadable_rule_is_refused_and_never_taken_for_a_wide_one() {
        for rule in ["", "*", "everyone", "group:", "person:Alice", "ci:", "anyone:x"] {
            assert!(rule.parse::<AllowRule>().is_err(), "{rule}");
        }
    }
}
