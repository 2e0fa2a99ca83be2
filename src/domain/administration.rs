//! Who may administer what. Rights belong to roles, and roles to those whom rules name, as profiles do: this
//! file is the one page on which it can be read. Nobody holds a role unless a rule says so; the first
//! administrator is made by `pgvalet bootstrap`.
//!
//! None of these rights gives a lease: that is a profile's `access.allow` alone.

use std::{collections::BTreeMap, str::FromStr};

use crate::domain::{
    principal::{AllowRule, Principal},
    words::words,
};

words! {
    /// One part of administering.
    Right {
        /// Targets: make, change, remove, examine, sweep them; end a caution.
        Targets = "targets",
        /// Profiles and standing roles: make, change, check, compare, remove them.
        Profiles = "profiles",
        /// Principals, their identities and tokens; issuers, and the rules for their CI jobs.
        People = "people",
        /// Anybody's leases: end them, make them last longer.
        Leases = "leases",
        /// The audit: read, check, export it.
        Audit = "audit",
        /// See everything that is no secret: targets, all profiles, all leases, how the installation stands.
        Read = "read",
        /// Say who holds which role.
        Roles = "roles",
    }
}

words! {
    /// A role in pgvalet itself. (A role in PostgreSQL is a login or a group role.)
    Role {
        /// Everything.
        Admin = "admin",
        /// Keeps databases reachable and clean.
        Operator = "operator",
        /// Writes profiles.
        Author = "author",
        /// Lets people, services and CI jobs in.
        Registrar = "registrar",
        /// Ends access, and looks after it.
        Responder = "responder",
        /// Reads everything, changes nothing.
        Auditor = "auditor",
    }
}

impl Role {
    /// What a role may do. The page.
    #[must_use]
    pub const fn rights(self) -> &'static [Right] {
        use Right::{Audit, Leases, People, Profiles, Read, Roles, Targets};
        match self {
            Self::Admin => &[Targets, Profiles, People, Leases, Audit, Read, Roles],
            Self::Operator => &[Targets, Leases, Read],
            Self::Author => &[Profiles, Read],
            Self::Registrar => &[People, Read],
            Self::Responder => &[Leases, Audit, Read],
            Self::Auditor => &[Audit, Read],
        }
    }
}

impl Right {
    /// What a file of targets, profiles and rules may need: of what it changes, each the right to that.
    pub const OF_A_FILE: [Self; 4] = [Self::Targets, Self::Profiles, Self::People, Self::Roles];
}

/// What somebody needs who lacks these rights, one of which would do.
#[must_use]
pub fn in_words(rights: &[Right]) -> String {
    let list = |words: Vec<&str>| {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    };
    let named = list(rights.iter().map(|right| right.as_str()).collect());
    let has = |role: &&Role| rights.iter().any(|right| role.rights().contains(right));
    let roles = list(Role::VALUES.iter().filter(has).map(|role| role.as_str()).collect());
    match rights {
        [_] => format!("the right {named}, which the roles {roles} have"),
        _ => format!("one of the rights {named}, which the roles {roles} have"),
    }
}

/// Who holds which role, by rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Administration(pub BTreeMap<Role, Vec<AllowRule>>);

/// The rights that a caller holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights(Vec<Right>);

/// What a token carries of its principal's rights; all, if it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(pub Option<Vec<Scope>>);

/// One thing that a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Asking for leases, and whatever its principal may do with its own.
    Ask,
    /// Agreeing to other people's requests. A token that carries everything does not carry this: an agent may
    /// have got hold of it.
    Approve,
    /// A part of administering.
    Right(Right),
}

impl Scope {
    /// All of them, as they are written.
    pub const ALL: [&'static str; 9] =
        ["ask", "approve", "targets", "profiles", "people", "leases", "audit", "read", "roles"];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Approve => "approve",
            Self::Right(right) => right.as_str(),
        }
    }
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: write one of {all}", all = Scope::ALL.join(", "))]
pub struct NotAScope(String);

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        match text {
            "ask" => return Ok(Self::Ask),
            "approve" => return Ok(Self::Approve),
            _ => {}
        }
        let right = Right::from_text(text).map(Self::Right);
        right.ok_or_else(|| NotAScope(text.chars().take(64).collect()))
    }
}

impl Scopes {
    /// As they are recorded.
    #[must_use]
    pub fn words(&self) -> Option<Vec<String>> {
        let word = |scope: &Scope| scope.as_str().to_owned();
        self.0.as_ref().map(|scopes| scopes.iter().map(word).collect())
    }

    /// Do these say no more than others?
    #[must_use]
    pub fn are_within(&self, others: &Self) -> bool {
        match (&self.0, &others.0) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(these), Some(_)) => these.iter().all(|scope| others.carry(*scope)),
        }
    }

    /// Do these say so by name?
    #[must_use]
    pub fn name(&self, scope: Scope) -> bool {
        self.0.as_ref().is_some_and(|scopes| scopes.contains(&scope))
    }

    /// Is this one of them?
    #[must_use]
    pub fn carry(&self, scope: Scope) -> bool {
        match &self.0 {
            Some(scopes) => scopes.contains(&scope),
            None => scope != Scope::Approve,
        }
    }
}

impl Administration {
    /// What this principal may do by its roles, with a token that carries so much of it.
    #[must_use]
    pub fn rights_of(&self, principal: &Principal, scopes: &Scopes) -> Rights {
        let holds = |role: &Role| {
            let rules = self.0.get(role).map(Vec::as_slice).unwrap_or_default();
            (*role == Role::Admin && principal.admin)
                || rules.iter().any(|rule| rule.matches(principal))
        };
        let roles: Vec<Role> = Role::VALUES.iter().copied().filter(|role| holds(role)).collect();
        let held = |right: &Right| {
            scopes.carry(Scope::Right(*right))
                && roles.iter().any(|role| role.rights().contains(right))
        };
        Rights(Right::VALUES.iter().copied().filter(held).collect())
    }
}

impl Rights {
    /// Is this one of them?
    #[must_use]
    pub fn include(&self, right: Right) -> bool {
        self.0.contains(&right)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Right> {
        self.0.iter().copied()
    }
}
