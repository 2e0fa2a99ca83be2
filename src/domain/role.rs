//! Names of the roles we make: minted so that a person who reads `pg_stat_activity` sees who works
//! there, with which tool, under which profile; and parsed back.
//!
//! `pgv_` + profile + `_` + who + `_` + tool + `_` + 12 letters of the login's id. Inside a part
//! there is no `_`, so the parts can be told apart. PostgreSQL cuts identifiers at 63 bytes
//! (NAMEDATALEN), so each long part is shortened; the id keeps the name unique.

use std::fmt;

use uuid::Uuid;

use crate::{
    domain::name::Name,
    ids::{LeaseId, LoginId},
};

/// What every leased login's name begins with.
pub const LOGIN_PREFIX: &str = "pgv_";

/// What the name of every group role that pgvalet makes for a profile begins with.
pub const GROUP_PREFIX: &str = "pgvg_";

/// The role that owns what removed logins owned. It cannot sign in, is a member of nothing, and holds
/// nothing but these objects.
pub const GRAVEYARD: &str = "pgvalet_graveyard";

/// Schema on a target with what row-level security sees of leases, and the functions that tell it.
pub const SCHEMA: &str = "pgvalet";

/// Schema on a target with the functions that act for an administrator without CREATEROLE.
pub const ADMIN_SCHEMA: &str = "pgvalet_admin";

/// 4 + 20 + 1 + 14 + 1 + 10 + 1 + 12 = 63.
const PROFILE_LETTERS: usize = 20;
const WHO_LETTERS: usize = 14;
const TOOL_LETTERS: usize = 10;
const ID_LETTERS: usize = 12;

/// Crockford's base 32 in lower case: no letter looks like another.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The name of a leased login.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoginName(String);

/// What a login's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginParts<'a> {
    /// The profile, perhaps shortened.
    pub profile: &'a str,
    /// The person or job, perhaps shortened.
    pub who: &'a str,
    /// The tool, perhaps shortened.
    pub tool: &'a str,
    /// The end of the login's id.
    pub id: &'a str,
}

impl LoginName {
    /// The name for a new login.
    #[must_use]
    pub fn mint(profile: &Name, who: &Name, tool: &Name, id: LoginId) -> Self {
        Self(format!(
            "{LOGIN_PREFIX}{}_{}_{}_{}",
            part(profile.as_str(), PROFILE_LETTERS),
            part(who.as_str(), WHO_LETTERS),
            part(tool.as_str(), TOOL_LETTERS),
            id_letters(id),
        ))
    }

    /// Takes a name that a database gave back, if it is one of ours.
    #[must_use]
    pub fn recognise(name: &str) -> Option<Self> {
        parse(name).map(|_| Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the comment on a leased login says: whose it is, for whoever reads the catalogue, and for the
/// sweep. Two installations may work on one cluster, so it names ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The lease.
    pub lease: LeaseId,
    /// The login.
    pub login: LoginId,
    /// The installation; none on a login that was made before the comment named it.
    pub installation: Option<Uuid>,
}

impl Mark {
    /// Reads a comment; what stands behind the mark is left alone.
    #[must_use]
    pub fn read(comment: &str) -> Option<Self> {
        let text = comment.split(';').next()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["pgvalet", "lease", lease, "login", login, more @ ..] = words.as_slice() else {
            return None;
        };
        let installation = match more {
            ["installation", id, ..] => Some(Uuid::try_parse(id).ok()?),
            _ => None,
        };
        Some(Self { lease: lease.parse().ok()?, login: login.parse().ok()?, installation })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pgvalet lease {} login {}", self.lease, self.login)?;
        match self.installation {
            Some(id) => write!(f, " installation {}", id.simple()),
            None => Ok(()),
        }
    }
}

/// Reads a login's name, or says that it is none of ours.
#[must_use]
pub fn parse(name: &str) -> Option<LoginParts<'_>> {
    let mut parts = name.strip_prefix(LOGIN_PREFIX)?.split('_');
    let found = LoginParts {
        profile: parts.next()?,
        who: parts.next()?,
        tool: parts.next()?,
        id: parts.next()?,
    };
    let whole = parts.next().is_none()
        && found.id.len() == ID_LETTERS
        && found.id.bytes().all(|b| BASE32.contains(&b));
    whole.then_some(found)
}

/// The name of the group role that pgvalet makes and keeps for a profile.
#[must_use]
pub fn group_role(profile: &Name) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("{GROUP_PREFIX}{}", profile.as_str().chars().map(plain).collect::<String>())
}

/// One part: `_` and `.` become `-`, and what is too long is cut.
fn part(text: &str, longest: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let cut: String = text.chars().map(plain).take(longest).collect();
    cut.trim_end_matches('-').to_owned()
}

/// The last 60 bits of the id: of a UUID of version 7 these are random.
fn id_letters(id: LoginId) -> String {
    let bits = id.uuid().as_u128();
    let letter = |place: usize| {
        let five = (bits >> (5 * (ID_LETTERS - 1 - place))) & 31;
        usize::try_from(five).ok().and_then(|at| BASE32.get(at)).copied().map(char::from)
    };
    (0..ID_LETTERS).filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = Name> {
        "[a-z][a-z0-9._-]{0,47}".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn a_login_name_fits_and_reads_back(profile in name(), who in name(), tool in name()) {
            let id = LoginId::new();
            let minted = LoginName::mint(&profile, &who, &tool, id);
            prop_assert!(minted.as_str().len() <= 63, "{minted}");
            let parts = parse(minted.as_str()).unwrap();
            prop_assert!(profile.as_str().replace(['_', '.'], "-").starts_with(parts.profile));
            prop_assert!(who.as_str().replace(['_', '.'], "-").starts_with(parts.who));
            prop_assert!(tool.as_str().replace(['_', '.'], "-").starts_with(parts.tool));
            prop_assert_eq!(parts.id, id_letters(id));
        }

        #[test]
        fn a_group_name_fits_and_is_no_login_name(profile in name()) {
            let group = group_role(&profile);
            prop_assert!(group.len() <= 63);
            prop_assert!(parse(&group).is_none());
        }
    }

    #[test]
    fn other_peoples_roles_are_not_ours() {
        for role in [
            "postgres",
            "pgv_",
            "pgv_a_b_c",
            "pgv_a_b_c_tooshort",
            "pgvg_shop_read",
            "pgv_a_b_c_0123456789ab_x",
        ] {
            assert_eq!(parse(role), None, "{role}");
        }
    }

    #[test]
    fn a_mark_reads_back_with_and_without_an_installation() {
        let (lease, login) = (LeaseId::new(), LoginId::new());
        for installation in [None, Some(Uuid::from_u128(7))] {
            let mark = Mark { lease, login, installation };
            assert_eq!(Mark::read(&mark.to_string()), Some(mark));
            assert_eq!(Mark::read(&format!("{mark}; made by a at b")), Some(mark));
        }
        let damaged = format!("pgvalet lease {lease} login {login} installation x");
        for comment in ["", "pgvalet", "a role of mine", damaged.as_str()] {
            assert_eq!(Mark::read(comment), None, "{comment}");
        }
    }

    #[test]
    fn two_logins_of_the_same_caller_have_different_names() {
        let n = |text: &str| text.parse::<Name>().unwrap();
        let mint = || LoginName::mint(&n("shop-read"), &n("alice"), &n("psql"), LoginId::new());
        assert_ne!(mint(), mint());
    }
}
