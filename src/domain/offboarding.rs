//! Somebody leaves: what they have ends, and what is left of it is told until it is seen to be gone.
//!
//! What is recorded is that they leave, since when, and which passwords they were given that others use as well.
//! The report is made of the record each time it is asked for, so that it completes by itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        administration::Administration,
        lease::{Lease, State},
        principal::{AllowRule, PrincipalName},
        profile::ProfileSpec,
        request,
        standing::StandingRoleSpec,
    },
    ids::{AccessRequestId, LeaseId, OffboardingId, PrincipalId, TokenId},
};

/// That somebody leaves, as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offboarding {
    /// Its id.
    pub id: OffboardingId,
    /// Who leaves.
    pub principal_id: PrincipalId,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// Who said so.
    pub started_by: String,
    /// For whom sealed codes were withdrawn, since the leaver had made and seen them.
    pub codes_withdrawn: Vec<String>,
    /// When all of it was seen to be gone.
    pub finished_at: Option<DateTime<Utc>>,
    /// When they were let in again.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A password that they were given, and that others use as well: a standing role's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSecret {
    /// The standing role.
    pub standing_role: String,
    /// When they last read it.
    pub read_at: DateTime<Utc>,
    /// The lease of the login whose password it is.
    pub lease: Lease,
    /// Does the standing role hand out another one by now?
    pub replaced: bool,
    /// What stands in the way of that.
    pub blocked_by: Option<String>,
}

/// A token that they made for somebody else, and have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeToken {
    /// Its id.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// Whose it is.
    pub principal: String,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Something that they agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The request.
    pub request_id: AccessRequestId,
    /// Who had asked.
    pub principal: String,
    /// For which profile.
    pub profile: String,
    /// When they agreed.
    pub at: DateTime<Utc>,
    /// Where the request is in its life.
    pub state: request::State,
    /// The lease that came of it.
    pub lease_id: Option<LeaseId>,
}

/// What they can sign in with no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShutOut {
    /// When they were shut out.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Sessions that were ended since they leave.
    pub sessions_ended: i64,
    /// API tokens that would hold otherwise.
    pub tokens: i64,
    /// Names of certificates.
    pub certificates: Vec<String>,
    /// By whose word they were known, and as what.
    pub identities: Vec<(String, String)>,
    /// Services that acted for them, and were shut out with them.
    pub agents: Vec<String>,
}

/// What one target still has of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// Leases, those of standing roles included, that are not seen to be gone.
    pub leases: usize,
    /// What stands in the way, each once.
    pub why: Vec<String>,
}

/// Which targets have something left, by name.
#[must_use]
pub fn pending(leases: &[Lease], secrets: &[KnownSecret]) -> BTreeMap<String, Pending> {
    let mut pending: BTreeMap<String, Pending> = BTreeMap::new();
    let of_secrets = secrets.iter().map(|secret| {
        let why = secret.blocked_by.as_ref().filter(|_| !secret.replaced);
        (&secret.lease, why.or(secret.lease.blocked_by.as_ref()))
    });
    let all = leases.iter().map(|lease| (lease, lease.blocked_by.as_ref())).chain(of_secrets);
    for (lease, why) in all.filter(|(lease, _)| lease.state != State::Revoked) {
        let target = pending.entry(lease.target.clone()).or_default();
        target.leases += 1;
        target.why.extend(why.filter(|why| !target.why.contains(why)).cloned());
    }
    pending
}

/// Where something still names them that is written in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Where, as the file says it: `profile.shop-read.access.allow`.
    pub place: String,
    /// What names them.
    pub rule: String,
}

/// Where rules name a person. They give nobody anything while the person is shut out; whoever is given the name
/// after them would inherit them.
#[must_use]
pub fn mentions(
    who: &PrincipalName,
    profiles: &[ProfileSpec],
    standing_roles: &[StandingRoleSpec],
    administration: &Administration,
) -> Vec<Mention> {
    let rule = who.to_string();
    let names = |rules: &[AllowRule]| rules.iter().any(|one| one.to_string() == rule);
    let allow =
        profiles.iter().filter(|profile| names(&profile.allow)).map(|profile| &profile.name);
    let mut places: Vec<String> =
        allow.map(|name| format!("profile.{name}.access.allow")).collect();
    let agree = profiles.iter().filter(|profile| {
        profile.conditions.approval.as_ref().is_some_and(|needs| needs.approvers().contains(&rule))
    });
    places.extend(agree.map(|profile| format!("profile.{}.access.approval", profile.name)));
    let read = standing_roles.iter().filter(|role| names(&role.allow)).map(|role| &role.name);
    places.extend(read.map(|name| format!("standing-role.{name}.access.allow")));
    let held = administration.0.iter().filter(|(_, rules)| names(rules));
    places.extend(held.map(|(role, _)| format!("administration.{}", role.as_str())));
    places.into_iter().map(|place| Mention { place, rule: rule.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{lease::Cause, profile_file},
        ids::{LeaseId, TargetId},
    };

    const FILE: &str = r#"
[target.shop]
host = "127.0.0.1"
admin = { user = "pgvalet_admin", password = { env = "X" } }
databases = ["shop"]

[profile.shop-read]
target = "shop"
database = "shop"
preset = "readonly"
schemas = ["public"]
ttl = "1h"
[profile.shop-read.access]
allow = ["person:ann", "group:ann"]

[profile.shop-write]
target = "shop"
database = "shop"
preset = "readwrite"
schemas = ["public"]
ttl = "1h"
[profile.shop-write.access]
allow = ["person:anna"]
approval = { from = ["person:ann", "person:bob"], count = 1 }

[standing-role.api]
profile = "shop-read"
[standing-role.api.access]
allow = ["service:ann", "person:ann"]

[administration]
auditor = ["person:ann"]
operator = ["group:dba"]
"#;

    #[test]
    fn each_place_that_names_them_is_told_and_no_other() {
        let file = profile_file::read("profiles.toml", FILE).map_err(|faults| faults.to_string());
        let file = file.unwrap();
        let administration = file.administration.unwrap();
        let who = "person:ann".parse().unwrap();
        let found = mentions(&who, &file.profiles, &file.standing_roles, &administration);
        let places: Vec<_> = found.iter().map(|mention| mention.place.as_str()).collect();
        let wanted = [
            "profile.shop-read.access.allow",
            "profile.shop-write.access.approval",
            "standing-role.api.access.allow",
            "administration.auditor",
        ];
        assert_eq!(places, wanted);
        assert!(found.iter().all(|mention| mention.rule == "person:ann"));
    }

    fn lease(target: &str, state: State, blocked_by: Option<&str>) -> Lease {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Lease {
            id: LeaseId::new(),
            state,
            cause: Some(Cause::Revoked),
            profile_id: None,
            profile: "shop-read".to_owned(),
            target_id: TargetId::new(),
            target: target.to_owned(),
            database: "shop".to_owned(),
            group_role: "pgvg_shop_read".to_owned(),
            principal_id: PrincipalId::new(),
            principal: "person:ann".to_owned(),
            tool: "psql".to_owned(),
            reason: None,
            ticket: None,
            job: None,
            role_name: None,
            created_at: at,
            expires_at: at,
            max_expires_at: at,
            ended_at: None,
            blocked_by: blocked_by.map(str::to_owned),
            proof: None,
        }
    }

    #[test]
    fn what_is_left_is_told_by_target_with_what_stands_in_the_way() {
        let leases = [
            lease("a", State::Revoked, None),
            lease("b", State::Revoking, Some("it is away")),
            lease("b", State::Revoking, Some("it is away")),
            lease("c", State::Revoking, None),
        ];
        let secret = |target, state, replaced| KnownSecret {
            standing_role: "api".to_owned(),
            read_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            lease: lease(target, state, None),
            replaced,
            blocked_by: Some("no login can be made".to_owned()),
        };
        let secrets = [
            secret("a", State::Revoked, true),
            secret("c", State::Active, false),
            secret("d", State::Revoking, true),
        ];
        let left: Vec<_> = pending(&leases, &secrets).into_iter().collect();
        let wanted = [
            ("b", 2, vec!["it is away"]),
            ("c", 2, vec!["no login can be made"]),
            ("d", 1, Vec::new()),
        ];
        let wanted = wanted.map(|(target, leases, why)| {
            let why = why.into_iter().map(str::to_owned).collect();
            (target.to_owned(), Pending { leases, why })
        });
        assert_eq!(left, wanted);
    }
}
