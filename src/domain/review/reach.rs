//! Who reaches what: by which rules of a profile, and of the standing roles that work under it, and what reviews left
//! of that.

use std::collections::BTreeSet;

use crate::domain::{
    principal::{AllowRule, Principal},
    profile::Profile,
    review::Bound,
    standing::{StandingRole, StandingRoleSpec},
};

/// The tightest bound that holds for somebody under a profile. One of `anyone` holds for those whom no other rule names.
#[must_use]
pub fn bound_of<'a>(profile: &'a Profile, principal: &Principal) -> Option<&'a Bound> {
    bound_under(profile, &profile.spec.allow, principal)
}

/// The same for those whom these rules allow: those of the profile, or of a standing role that works under it.
fn bound_under<'a>(
    profile: &'a Profile,
    allow: &[AllowRule],
    principal: &Principal,
) -> Option<&'a Bound> {
    let is_named = named_by(allow, principal).is_some();
    let holds = |bound: &&Bound| match bound.principal_id {
        Some(id) => id == principal.id,
        None => !is_named,
    };
    profile.bounds.iter().filter(holds).min_by_key(|bound| bound.max_ttl)
}

/// Did a review take away that somebody reads the credential of a standing role, which works under this profile?
#[must_use]
pub fn is_kept_from(role: &StandingRoleSpec, profile: &Profile, principal: &Principal) -> bool {
    bound_under(profile, &role.allow, principal).is_some_and(Bound::removes)
}

/// The rule that names somebody, other than `anyone`.
pub(in crate::domain::review) fn named_by<'a>(
    allow: &'a [AllowRule],
    principal: &Principal,
) -> Option<&'a AllowRule> {
    allow.iter().find(|rule| **rule != AllowRule::Anyone && rule.matches(principal))
}

/// One thing to look at: who can reach which profile, and by which rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// Who; `anyone`, if none.
    pub principal: Option<&'a Principal>,
    /// The rule of the profile, and those of standing roles that work under it.
    pub rule: String,
}

/// The rules of a profile that something finds in its list, and in those of the standing roles that work under it.
fn rules<'a>(
    profile: &'a Profile,
    standing: &'a [StandingRole],
    find: impl Fn(&'a [AllowRule]) -> Option<&'a AllowRule>,
) -> Option<String> {
    let own = find(&profile.spec.allow).map(AllowRule::to_string);
    let theirs = standing.iter().filter(|role| role.spec.profile == profile.spec.name);
    let theirs = theirs.filter_map(|role| {
        let rule = find(&role.spec.allow)?;
        Some(format!("{rule} (standing role {})", role.spec.name))
    });
    let found: Vec<_> = own.into_iter().chain(theirs).collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// What each of these principals can reach, by the profiles' names and theirs. Those whom `anyone` alone allows are not
/// told apart, and what a review took away before is not there.
#[must_use]
pub fn reaches<'a>(
    profiles: &'a [Profile],
    standing: &'a [StandingRole],
    principals: &'a [Principal],
) -> Vec<Reach<'a>> {
    let mut found = Vec::new();
    for profile in profiles {
        for principal in principals {
            let is_left = |allow: &[AllowRule]| {
                !bound_under(profile, allow, principal).is_some_and(Bound::removes)
            };
            let find = |allow| named_by(allow, principal).filter(|_| is_left(allow));
            if let Some(rule) = rules(profile, standing, find) {
                found.push(Reach { profile, principal: Some(principal), rule });
            }
        }
    }
    let key = |reach: &Reach<'_>| {
        let principal = reach.principal.map(ToString::to_string);
        (reach.profile.spec.name.clone(), principal)
    };
    found.sort_by_cached_key(key);
    found
}

/// The profiles that the rule `anyone` opens.
#[must_use]
pub fn open_to_anyone<'a>(profiles: &'a [Profile], standing: &'a [StandingRole]) -> Vec<Reach<'a>> {
    let anyone = |allow: &'a [AllowRule]| allow.iter().find(|rule| **rule == AllowRule::Anyone);
    let is_left = |profile: &&Profile| {
        !profile.bounds.iter().any(|bound| bound.principal_id.is_none() && bound.removes())
    };
    let left = profiles.iter().filter(is_left);
    left.filter_map(|profile| {
        let rule = rules(profile, standing, anyone)?;
        Some(Reach { profile, principal: None, rule })
    })
    .collect()
}

/// Those whose use of a profile is meant by one thing to look at: `anyone` is who is named by no rule.
#[must_use]
pub fn users<'a>(reach: &Reach<'_>, principals: &'a [Principal]) -> Vec<&'a Principal> {
    let is_meant = |principal: &&Principal| match reach.principal {
        Some(of) => of.id == principal.id,
        None => named_by(&reach.profile.spec.allow, principal).is_none(),
    };
    principals.iter().filter(is_meant).collect()
}

/// Is it to be looked at what somebody reaches, because their groups changed? Not of somebody who reached nothing before:
/// what they have was given to them just now.
#[must_use]
pub fn moved(
    (profiles, standing): (&[Profile], &[StandingRole]),
    before: &Principal,
    now: &Principal,
) -> bool {
    let groups = |of: &Principal| of.groups.iter().cloned().collect::<BTreeSet<_>>();
    let reaches = |of| !reaches(profiles, standing, std::slice::from_ref(of)).is_empty();
    groups(before) != groups(now) && reaches(before) && reaches(now)
}
