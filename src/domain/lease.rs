//! A lease and its logins: their states, the moves between them, and how long a lease may last.
//!
//! A lease may have several logins in its life (rotation makes a fresh one), so what is done on a
//! target is done to a login; the lease says for whom, why, and until when.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};

use crate::{
    domain::{duration::Seconds, profile::OwnedObjects, role::LoginName},
    ids::{LeaseId, LoginId, PrincipalId, ProfileId, TargetId},
};

/// Where a lease, or one of its logins, is in its life. The order is the only way: nothing goes back.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The intent is recorded; the role may or may not exist yet.
    Provisioning,
    /// The credential was handed out.
    Active,
    /// Access is being taken away.
    Revoking,
    /// The role was seen to be gone.
    Revoked,
}

impl State {
    /// All of them, as they stand in the database.
    pub const ALL: [&'static str; 4] = ["provisioning", "active", "revoking", "revoked"];

    /// As it stands in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
        }
    }
}

/// A text that the database should never hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}")]
pub struct Unknown {
    text: String,
    kind: &'static str,
}

impl FromStr for State {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text {
            "provisioning" => Ok(Self::Provisioning),
            "active" => Ok(Self::Active),
            "revoking" => Ok(Self::Revoking),
            "revoked" => Ok(Self::Revoked),
            _ => Err(Unknown { text: text.to_owned(), kind: "state of a lease" }),
        }
    }
}

/// Why a lease or a login ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its time was over.
    Expired,
    /// Somebody ended it.
    Revoked,
    /// It was never finished.
    Failed,
    /// Its role vanished from the target.
    Lost,
    /// A fresh login took its place (of a login only).
    Rotated,
}

impl Cause {
    /// As it stands in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Rotated => "rotated",
        }
    }
}

impl FromStr for Cause {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text {
            "expired" => Ok(Self::Expired),
            "revoked" => Ok(Self::Revoked),
            "failed" => Ok(Self::Failed),
            "lost" => Ok(Self::Lost),
            "rotated" => Ok(Self::Rotated),
            _ => Err(Unknown { text: text.to_owned(), kind: "cause of an end" }),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A lease as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Where it is in its life.
    pub state: State,
    /// Why it ended, or is ending.
    pub cause: Option<Cause>,
    /// Its profile; none once the profile was removed.
    pub profile_id: Option<ProfileId>,
    /// The profile's name when it was issued.
    pub profile: String,
    /// Its target.
    pub target_id: TargetId,
    /// The target's name.
    pub target: String,
    /// Its database.
    pub database: String,
    /// The role that its sessions work as.
    pub group_role: String,
    /// Who asked.
    pub principal_id: PrincipalId,
    /// Who asked, in words.
    pub principal: String,
    /// The tool that uses it.
    pub tool: String,
    /// Why it was asked for.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// The CI job that asked, if one did: what tells it from others under the same rule.
    pub job: Option<String>,
    /// Its present login's role on the target.
    pub role_name: Option<String>,
    /// When the intent was recorded.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it ends at the latest, however often it is renewed.
    pub max_expires_at: DateTime<Utc>,
    /// When it was seen to be gone.
    pub ended_at: Option<DateTime<Utc>>,
    /// What stands in the way of its removal, in words.
    pub blocked_by: Option<String>,
    /// What was seen when its last login was gone.
    pub proof: Option<Proof>,
}

/// One login of a lease as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Its id.
    pub id: LoginId,
    /// Its lease.
    pub lease_id: LeaseId,
    /// Its target.
    pub target_id: TargetId,
    /// The database that the lease is for.
    pub database: String,
    /// The role that holds the rights.
    pub group_role: String,
    /// What becomes of the objects that it owns.
    pub owned_objects: OwnedObjects,
    /// Is there something that row-level security sees of it?
    pub has_context: bool,
    /// The role on the target.
    pub role_name: LoginName,
    /// The role's OID there, once known.
    pub role_oid: Option<u32>,
    /// Where it is in its life.
    pub state: State,
    /// Why it is ending.
    pub cause: Option<Cause>,
    /// When an unfinished creation is given up.
    pub give_up_at: DateTime<Utc>,
    /// When it must stop working: the lease's end, or the end of the grace after a rotation.
    pub ends_at: DateTime<Utc>,
    /// How often its removal was tried.
    pub attempts: i32,
}

/// What was seen on the target after a login's removal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Proof {
    /// The role.
    pub role: String,
    /// Is the role absent from `pg_roles`?
    pub role_absent: bool,
    /// Sessions of the role's OID left in `pg_stat_activity`.
    pub sessions_left: i64,
    /// Sessions that were ended, over all tries of the daemon that has seen this.
    pub sessions_ended: i64,
    /// When this was seen, by the target's clock.
    pub seen_at: DateTime<Utc>,
    /// How long the removal took, in milliseconds. Of several tries, the last one.
    pub took_ms: i64,
    /// How long each step of it took, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepTook>,
    /// What it owned, the row policies for it alone included, and who has it now: the first twenty.
    /// Of several tries, the last one; the server's log has all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handed_over: Vec<HandedOver>,
    /// How many of these there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub objects_handed_over: i64,
    /// Grants on other people's objects that were taken from it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub grants_taken_back: i64,
    /// What concerned nobody else, and is gone with it, such as its default privileges: the first
    /// twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    /// What is left of it, and what to do about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// Databases that do not let our admin in. The cluster's own list says that nothing of the login
    /// is in them; they were not looked into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases_not_seen: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// A step of a removal, in the order in which they are taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RemovalStep {
    /// Its memberships are taken away.
    Memberships,
    /// It cannot sign in any more.
    ShutOut,
    /// Its sessions are ended, and whoever was signing in is waited for.
    Sessions,
    /// What it owns is handed over, and what it was granted is taken back.
    Owned,
    /// The role is dropped.
    Drop,
    /// The target is looked at once more.
    Look,
}

impl RemovalStep {
    /// As it stands in a proof.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memberships => "memberships",
            Self::ShutOut => "shut-out",
            Self::Sessions => "sessions",
            Self::Owned => "owned",
            Self::Drop => "drop",
            Self::Look => "look",
        }
    }
}

/// How long a step of a removal took.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct StepTook {
    /// The step.
    pub step: RemovalStep,
    /// How long, in milliseconds.
    pub ms: i64,
}

/// An object that a login owned.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct HandedOver {
    /// The object, in PostgreSQL's words.
    pub object: String,
    /// Its database.
    pub database: String,
    /// The role that has it now.
    pub to: String,
}

/// Which rule gave a lease its length.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TtlRule {
    /// The caller's own wish.
    Asked,
    /// The profile's `ttl`: the caller did not say.
    ProfileTtl,
    /// The profile's `max_ttl`: the caller asked for more, or renewed up to the end.
    ProfileMaxTtl,
    /// The schedule of its standing role.
    StandingRole,
    /// Those who had to agree.
    Agreed,
    /// An access review, which narrowed it.
    Review,
}

/// How long a lease was given, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Granted {
    /// What was asked for.
    pub asked: Option<Seconds>,
    /// What was given.
    pub granted: Seconds,
    /// The rule.
    pub rule: TtlRule,
    /// The rule in words.
    pub because: String,
}

/// How long a new lease lasts.
#[must_use]
pub fn grant_ttl(asked: Option<Seconds>, ttl: Seconds, max_ttl: Seconds) -> Granted {
    let (granted, rule, because) = match asked {
        None => (ttl, TtlRule::ProfileTtl, format!("the profile's ttl is {ttl}")),
        Some(asked) if asked > max_ttl => (
            max_ttl,
            TtlRule::ProfileMaxTtl,
            format!("{asked} was asked for; the profile's max_ttl is {max_ttl}"),
        ),
        Some(asked) => (asked, TtlRule::Asked, "as asked".to_owned()),
    };
    Granted { asked, granted, rule, because }
}

/// What a renewal comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts until then.
    Until {
        /// The new end.
        expires_at: DateTime<Utc>,
        /// By which rule.
        rule: TtlRule,
    },
    /// It lasts as long as its profile allows already.
    Exhausted {
        /// The end that cannot be moved.
        max_expires_at: DateTime<Utc>,
    },
}

/// When a lease ends after a renewal by `length` from `now`: never later than its profile's
/// `max_ttl` after it was issued, and never earlier than it would end anyway, because a renewal that
/// shortens would surprise whoever works under it.
#[must_use]
pub fn renew(
    expires_at: DateTime<Utc>,
    max_expires_at: DateTime<Utc>,
    length: Seconds,
    now: DateTime<Utc>,
) -> Renewal {
    if expires_at >= max_expires_at {
        return Renewal::Exhausted { max_expires_at };
    }
    let wished = now + length.delta();
    if wished > max_expires_at {
        return Renewal::Until { expires_at: max_expires_at, rule: TtlRule::ProfileMaxTtl };
    }
    Renewal::Until { expires_at: wished.max(expires_at), rule: TtlRule::Asked }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(n: i64) -> Seconds {
        Seconds::new(n).unwrap()
    }

    fn instant() -> impl Strategy<Value = DateTime<Utc>> {
        (0..6_i64).prop_map(|s| DateTime::from_timestamp(s, 0).unwrap())
    }

    #[test]
    fn a_lease_lasts_as_asked_up_to_the_cap_and_the_rule_is_named() {
        for (asked, granted, rule) in [
            (None, 10, TtlRule::ProfileTtl),
            (Some(5), 5, TtlRule::Asked),
            (Some(20), 20, TtlRule::Asked),
            (Some(21), 20, TtlRule::ProfileMaxTtl),
        ] {
            let got = grant_ttl(asked.map(seconds), seconds(10), seconds(20));
            assert_eq!((got.granted, got.rule), (seconds(granted), rule), "{asked:?}");
        }
    }

    proptest! {
        #[test]
        fn a_renewal_never_passes_the_cap_and_never_shortens(
            expires_at in instant(), max in instant(), length in 1..6_i64, now in instant()
        ) {
            match renew(expires_at, max, seconds(length), now) {
                Renewal::Until { expires_at: until, .. } => {
                    prop_assert!(until <= max);
                    prop_assert!(until >= expires_at);
                }
                Renewal::Exhausted { max_expires_at } => prop_assert!(expires_at >= max_expires_at),
            }
        }
    }

    #[test]
    fn states_and_causes_read_back() {
        for text in State::ALL {
            assert_eq!(text.parse::<State>().unwrap().as_str(), text);
        }
        for text in ["expired", "revoked", "failed", "lost", "rotated"] {
            assert_eq!(text.parse::<Cause>().unwrap().as_str(), text);
        }
        assert!("gone".parse::<State>().is_err());
    }
}
