//! A standing role: a long-lived application login whose password is rotated on a schedule, for those
//! who cannot ask for a lease each time.
//!
//! Two users in turn: a fresh login is made and tried beside the one in use, then handed out in its
//! place, and the one before works on for a grace. It is a new role each time: a session of the old
//! one could change its own password back, and whoever knows that would go on getting in.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        duration::Seconds, lease::State, name::Name, principal::AllowRule, schedule::Schedule,
    },
    ids::{LeaseId, PrincipalId, StandingRoleId},
};

/// What a standing role says, as it stands in the file and on the API.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StandingRoleSpec {
    /// Its name.
    pub name: Name,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// The profile that it works under: target, database, rights, connection limit, settings.
    pub profile: Name,
    /// When it is rotated: every 90 days if left out.
    #[serde(default = "Schedule::ninety_days")]
    pub rotate: Schedule,
    /// How late a rotation may be before it counts as overdue: 1 h if left out.
    #[serde(default = "an_hour")]
    pub window: Seconds,
    /// A rotation is put off by a random part of this, so that not everything is rotated at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Seconds>,
    /// How long the login of before works on, with its sessions: 1 h if left out.
    #[serde(default = "an_hour")]
    pub grace: Seconds,
    /// Who may read the credential. Nobody, unless a rule says so.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub allow: Vec<AllowRule>,
}

const fn an_hour() -> Seconds {
    Seconds::HOUR
}

/// A standing role as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingRole {
    /// Its id.
    pub id: StandingRoleId,
    /// Grows with each change of what it says.
    pub version: i32,
    /// What it says.
    pub spec: StandingRoleSpec,
    /// The principal that its leases are of. It has no token and never will.
    pub principal_id: PrincipalId,
    /// The target of its profile.
    pub target: String,
    /// The database of its profile.
    pub database: String,
    /// What is handed out now; none before its first rotation.
    pub present: Option<Present>,
    /// Grows with each rotation; 0 before the first.
    pub generation: i32,
    /// When it was last rotated.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When it is to be rotated next.
    pub due_at: DateTime<Utc>,
    /// What stood in the way of the latest try, in words.
    pub blocked_by: Option<String>,
}

/// What a standing role hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The lease of its login.
    pub lease_id: LeaseId,
    /// Where that is in its life.
    pub state: State,
    /// The role on the target.
    pub role_name: String,
    /// When the login stops by itself.
    pub valid_until: DateTime<Utc>,
}

impl StandingRole {
    /// Should it have been rotated, its window included?
    #[must_use]
    pub fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.due_at + self.spec.window.delta() < now
    }

    /// Is it to be rotated now?
    #[must_use]
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.due_at <= now
    }
}

/// What is wrong with a standing role; empty if nothing is. Each fault names the key it is about.
#[must_use]
pub fn faults(spec: &StandingRoleSpec) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if spec.rotate == Schedule::Never {
        faults.push((
            "rotate",
            "a standing role that is never rotated is a password for ever: write `90d`".to_owned(),
        ));
    }
    if spec.description.contains(char::is_control) {
        faults.push(("description", "must be one line of text".to_owned()));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_means_ninety_days_an_hour_and_nobody() {
        let spec: StandingRoleSpec =
            serde_json::from_str(r#"{ "name": "orders-api", "profile": "orders-app" }"#).unwrap();
        assert_eq!((spec.rotate.to_string().as_str(), spec.jitter), ("90d", None));
        assert_eq!((spec.window, spec.grace), (Seconds::HOUR, Seconds::HOUR));
        assert!(spec.allow.is_empty());
        assert_eq!(faults(&spec), []);
        let never = StandingRoleSpec { rotate: Schedule::Never, ..spec };
        assert_eq!(faults(&never)[0].0, "rotate");
    }
}
