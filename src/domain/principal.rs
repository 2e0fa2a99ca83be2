//! Who asks: always an issuer and a subject. A tool's self-given name is a label, never authority.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{domain::name::Name, ids::PrincipalId};

/// The issuer of principals that pgvalet itself vouches for, by its API tokens.
pub const LOCAL_ISSUER: &str = "local";

/// What kind of caller a principal is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A human being.
    Person,
    /// A program that acts for itself.
    Service,
}

impl Kind {
    /// As it stands in a rule and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its id here.
    pub id: PrincipalId,
    /// Who vouches for it.
    pub issuer: String,
    /// Its name with that issuer.
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
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.subject)
    }
}

/// `person:alice` or `service:ci-runner`: how a principal is named in a command or a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalName {
    /// What kind of caller it is.
    pub kind: Kind,
    /// Its name.
    pub subject: Name,
}

/// A text that does not name a principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` does not name a principal: write `person:NAME` or `service:NAME`, NAME in lower case"
)]
pub struct NotAPrincipal(String);

impl FromStr for PrincipalName {
    type Err = NotAPrincipal;

    fn from_str(text: &str) -> Result<Self, NotAPrincipal> {
        let fault = || NotAPrincipal(text.chars().take(64).collect());
        let (kind, subject) = text.split_once(':').ok_or_else(fault)?;
        let kind = match kind {
            "person" => Kind::Person,
            "service" => Kind::Service,
            _ => return Err(fault()),
        };
        Ok(Self { kind, subject: subject.parse().map_err(|_| fault())? })
    }
}

impl Principal {
    /// May it see what is for those who meet one of these rules? An administrator sees everything, which
    /// is not to say that it may ask for it.
    #[must_use]
    pub fn may_see(&self, allow: &[AllowRule]) -> bool {
        self.admin || allow.iter().any(|rule| rule.matches(self))
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
    /// All who are in a group.
    Group(Name),
}

/// A text that is no rule of `access.allow`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARule {
    /// None of the known forms.
    #[error("`{0}` is not a rule: write `person:NAME`, `service:NAME`, `group:NAME` or `anyone`")]
    Unknown(String),
    /// A form of a later release.
    #[error(
        "`{0}`: rules for CI tokens are not supported yet; give the job a service token and write `service:NAME`"
    )]
    NotYet(String),
}

impl AllowRule {
    /// Does the rule hold for this principal?
    #[must_use]
    pub fn matches(&self, principal: &Principal) -> bool {
        match self {
            Self::Anyone => true,
            Self::Person(name) => principal.kind == Kind::Person && principal.subject == *name,
            Self::Service(name) => principal.kind == Kind::Service && principal.subject == *name,
            Self::Group(name) => principal.groups.contains(name),
        }
    }
}

impl FromStr for AllowRule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let shown = || text.chars().take(64).collect::<String>();
        let unknown = || NotARule::Unknown(shown());
        match text.split_once(':') {
            None if text == "anyone" => Ok(Self::Anyone),
            Some(("person", name)) => name.parse().map(Self::Person).map_err(|_| unknown()),
            Some(("service", name)) => name.parse().map(Self::Service).map_err(|_| unknown()),
            Some(("group", name)) => name.parse().map(Self::Group).map_err(|_| unknown()),
            Some(("ci", _)) => Err(NotARule::NotYet(shown())),
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
        ] {
            assert_eq!(rule.parse::<AllowRule>().unwrap().matches(&alice()), holds, "{rule}");
            assert_eq!(rule.parse::<AllowRule>().unwrap().to_string(), rule);
        }
    }

    #[test]
    fn an_unreadable_rule_is_refused_and_never_taken_for_a_wide_one() {
        for rule in ["", "*", "everyone", "group:", "person:Alice", "ci:main", "anyone:x"] {
            assert!(rule.parse::<AllowRule>().is_err(), "{rule}");
        }
    }
}
