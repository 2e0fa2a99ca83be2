//! What a target has against what the record says, both ways: findings, each with what is to be done.
//!
//! Nothing here gives a right. What was changed by hand is put back to what the lease says, but a
//! login that was shut out, or taken out of its group role, stays so: somebody may have had to. The
//! password of a login cannot be seen, so a changed one is no finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        lease::State,
        role::{self, Mark},
    },
    ids::{LeaseId, LoginId},
};

/// VALID UNTIL may differ from the record by this and by how far the clocks differ.
const NEAR: TimeDelta = TimeDelta::seconds(10);

/// A role of our shape as a target shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its OID.
    pub oid: u32,
    /// Its name.
    pub role: String,
    /// The comment on it.
    pub comment: Option<String>,
    /// Has it LOGIN?
    pub may_sign_in: bool,
    /// Has it INHERIT?
    pub inherits: bool,
    /// Attributes that no login of ours has, in PostgreSQL's words.
    pub powers: Vec<&'static str>,
    /// CONNECTION LIMIT; -1 is none.
    pub connection_limit: i32,
    /// VALID UNTIL; none is no end.
    pub valid_until: Option<DateTime<Utc>>,
    /// What its sessions begin with, each as `name=value`.
    pub settings: Vec<String>,
    /// The databases for which it has settings of its own.
    pub database_settings: Vec<String>,
    /// What it is a member of.
    pub memberships: Vec<Membership>,
    /// Who is a member of it.
    pub members: Vec<String>,
}

/// One membership of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// May it pass the group on?
    pub is_admin: bool,
    /// Has it the group's rights without becoming it? False where memberships have no options.
    pub inherits: bool,
    /// Does the group only let it into its database?
    pub is_connect: bool,
}

/// A login as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its id.
    pub login_id: LoginId,
    /// Its lease.
    pub lease_id: LeaseId,
    /// Its role.
    pub role: String,
    /// The role's OID, once known.
    pub oid: Option<u32>,
    /// Where it is in its life.
    pub state: State,
    /// The end that PostgreSQL itself keeps: the lease's, also in the grace after a rotation.
    pub valid_until: DateTime<Utc>,
    /// The role that holds the rights.
    pub group_role: String,
    /// How many sessions it may have.
    pub connection_limit: i32,
    /// What its sessions begin with.
    pub settings: BTreeMap<String, String>,
}

/// What kind of finding.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A login of this installation that no lease is known of.
    Orphan,
    /// A login that is recorded as gone, and is there.
    LeftOver,
    /// A live lease whose role is gone.
    Lost,
    /// A login that is not as its lease says.
    Changed,
    /// A login that somebody shut out by hand; it stays so.
    ShutOut,
    /// Sessions of a role that is gone.
    Sessions,
    /// A login that is over by the record, and is left alone while the daemon is cautious.
    Held,
    /// Logins of another installation. Never touched.
    Foreign,
    /// A role of our shape that does not say whose it is. Never touched.
    Unmarked,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Orphan,
        Self::LeftOver,
        Self::Lost,
        Self::Changed,
        Self::ShutOut,
        Self::Sessions,
        Self::Held,
        Self::Foreign,
        Self::Unmarked,
    ];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::LeftOver => "left-over",
            Self::Lost => "lost",
            Self::Changed => "changed",
            Self::ShutOut => "shut-out",
            Self::Sessions => "sessions",
            Self::Held => "held",
            Self::Foreign => "foreign",
            Self::Unmarked => "unmarked",
        }
    }
}

/// What is to be done about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Only told.
    Nothing,
    /// Shut out, and removed once its grace is over.
    Quarantine,
    /// Ended as any login is.
    End(LoginId, LeaseId),
    /// Recorded as lost.
    Lose(LoginId, LeaseId),
    /// Set back to what its lease says.
    PutBack(LoginId, LeaseId, PutBack),
    /// Sessions of a role that is gone are ended.
    EndSessions,
}

/// What is set back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutBack {
    /// What differs, in words.
    pub changes: Vec<String>,
    /// Has the login more than it should? Then it ends if it cannot be set back.
    pub has_more: bool,
    /// The end to set.
    pub valid_until: Option<DateTime<Utc>>,
    /// The connection limit to set.
    pub connection_limit: Option<i32>,
    /// INHERIT is to be taken.
    pub takes_inherit: bool,
    /// Attributes to take.
    pub powers: Vec<&'static str>,
    /// Groups to leave.
    pub leave: Vec<String>,
    /// The group role, if it is to be granted anew, because it was left for how it was held.
    pub join_again: Option<String>,
    /// Members to put out.
    pub members: Vec<String>,
    /// What its sessions are to begin with, if that was changed.
    pub settings: Option<BTreeMap<String, String>>,
    /// Databases whose settings for it are to go.
    pub database_settings: Vec<String>,
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// The role; of foreign ones, the installation.
    pub role: String,
    /// Its OID, if there is one.
    pub oid: Option<u32>,
    /// The lease, if one is known.
    pub lease_id: Option<LeaseId>,
    /// In words.
    pub what: String,
    /// What is to be done.
    pub act: Act,
}

/// What is compared by.
#[derive(Debug, Clone, Copy)]
pub struct By {
    /// Our installation.
    pub installation: Uuid,
    /// How far the target's clock is from ours, without its sign.
    pub skew: TimeDelta,
}

/// Compares what was seen with what is recorded, by the names of the roles.
#[must_use]
pub fn compare(by: By, seen: &[Seen], recorded: &HashMap<String, Recorded>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut foreign: BTreeMap<Uuid, usize> = BTreeMap::new();
    let mut there = BTreeSet::new();
    for login in seen.iter().filter(|login| role::parse(&login.role).is_some()) {
        there.insert(login.role.as_str());
        match recorded.get(&login.role) {
            Some(record) => findings.extend(known(by, login, record)),
            None => match login.comment.as_deref().and_then(Mark::read) {
                Some(Mark { installation: Some(id), .. }) if id == by.installation => {
                    findings.push(orphan(login));
                }
                Some(Mark { installation: Some(id), .. }) => *foreign.entry(id).or_default() += 1,
                Some(_) | None => findings.push(told(
                    Kind::Unmarked,
                    login,
                    "looks like a login of pgvalet, and does not say of which installation",
                )),
            },
        }
    }
    let gone = recorded
        .values()
        .filter(|record| record.state == State::Active && !there.contains(record.role.as_str()));
    findings.extend(gone.map(|record| lost(record, "its role is gone".to_owned(), None)));
    findings.extend(foreign.into_iter().map(|(id, count)| Finding {
        kind: Kind::Foreign,
        role: format!("installation {}", id.simple()),
        oid: None,
        lease_id: None,
        what: format!("{count} logins of another installation"),
        act: Act::Nothing,
    }));
    findings
}

fn told(kind: Kind, login: &Seen, what: &str) -> Finding {
    Finding {
        kind,
        role: login.role.clone(),
        oid: Some(login.oid),
        lease_id: None,
        what: what.to_owned(),
        act: Act::Nothing,
    }
}

fn orphan(login: &Seen) -> Finding {
    if let Some(power) = login.powers.first() {
        let what = format!("no lease is known of it, and it has {power}: drop it by hand");
        return told(Kind::Orphan, login, &what);
    }
    let act = Act::Quarantine;
    Finding { act, ..told(Kind::Orphan, login, "no lease is known of it") }
}

fn lost(record: &Recorded, what: String, oid: Option<u32>) -> Finding {
    Finding {
        kind: Kind::Lost,
        role: record.role.clone(),
        oid,
        lease_id: Some(record.lease_id),
        what,
        act: Act::Lose(record.login_id, record.lease_id),
    }
}

/// A role whose login is recorded. One that is being made or ended is left to whoever does that.
fn known(by: By, login: &Seen, record: &Recorded) -> Option<Finding> {
    let of_lease = |finding| Finding { lease_id: Some(record.lease_id), ..finding };
    match record.state {
        State::Provisioning | State::Revoking => None,
        State::Revoked => Some(of_lease(Finding {
            act: Act::End(record.login_id, record.lease_id),
            ..told(Kind::LeftOver, login, "it is recorded as gone")
        })),
        State::Active if record.oid.is_some_and(|oid| oid != login.oid) => {
            let what = format!("another role has its name now (OID {})", login.oid);
            Some(lost(record, what, Some(login.oid)))
        }
        State::Active => {
            let put_back = difference(by, login, record);
            if !put_back.changes.is_empty() {
                let what = put_back.changes.join("; ");
                let act = Act::PutBack(record.login_id, record.lease_id, put_back);
                return Some(of_lease(Finding { act, ..told(Kind::Changed, login, &what) }));
            }
            let is_member = login.memberships.iter().any(|m| m.group == record.group_role);
            let what = if !login.may_sign_in {
                "it has NOLOGIN: somebody shut it out"
            } else if !is_member {
                "it is no member of its group role: somebody took it out"
            } else {
                return None;
            };
            Some(of_lease(told(Kind::ShutOut, login, what)))
        }
    }
}

fn difference(by: By, login: &Seen, record: &Recorded) -> PutBack {
    let mut back = PutBack::default();
    if !login.powers.is_empty() {
        back.powers.clone_from(&login.powers);
        back.more(format!("it has {}", login.powers.join(", ")));
    }
    if login.inherits {
        back.takes_inherit = true;
        back.more("it has INHERIT".to_owned());
    }
    compare_limits(by, login, record, &mut back);
    compare_memberships(login, record, &mut back);
    let expected = settings_of(record);
    if !same_settings(&expected, &login.settings) {
        back.changes.push("its settings were changed".to_owned());
        back.settings = Some(expected);
    }
    for database in &login.database_settings {
        back.changes.push(format!("it has settings of its own in the database `{database}`"));
        back.database_settings.push(database.clone());
    }
    back
}

fn compare_limits(by: By, login: &Seen, record: &Recorded, back: &mut PutBack) {
    let limit = login.connection_limit;
    if limit != record.connection_limit {
        back.connection_limit = Some(record.connection_limit);
        let words = format!("its connection limit is {limit}, not {}", record.connection_limit);
        if limit < 0 || limit > record.connection_limit {
            back.more(words);
        } else {
            back.changes.push(words);
        }
    }
    let near = by.skew + NEAR;
    let shown = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let (is_longer, found) = match login.valid_until {
        None => (true, "it has no VALID UNTIL".to_owned()),
        Some(end) if (end - record.valid_until).abs() <= near => return,
        Some(end) => (end > record.valid_until, format!("its VALID UNTIL is {}", shown(end))),
    };
    back.valid_until = Some(record.valid_until);
    let words = format!("{found}, not {}", shown(record.valid_until));
    if is_longer { back.more(words) } else { back.changes.push(words) }
}

fn compare_memberships(login: &Seen, record: &Recorded, back: &mut PutBack) {
    for membership in &login.memberships {
        let is_own = membership.group == record.group_role;
        let held_too_well = membership.is_admin || membership.inherits;
        if membership.is_connect || (is_own && !held_too_well) {
            continue;
        }
        if is_own {
            back.join_again = Some(membership.group.clone());
            back.more("it holds its group role with ADMIN or INHERIT".to_owned());
        } else {
            back.more(format!("it is a member of `{}`", membership.group));
        }
        back.leave.push(membership.group.clone());
    }
    for member in &login.members {
        back.members.push(member.clone());
        back.more(format!("`{member}` is a member of it"));
    }
}

fn settings_of(record: &Recorded) -> BTreeMap<String, String> {
    let mut settings = record.settings.clone();
    settings.insert("role".to_owned(), record.group_role.clone());
    settings
}

/// Are the settings those of the lease? PostgreSQL writes lists in its own way, so quotes and spaces
/// do not count. `role` may be missing: where logins are made by functions it cannot be set, and the
/// connection string says the same.
fn same_settings(expected: &BTreeMap<String, String>, found: &[String]) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect()
    };
    let found: BTreeMap<String, String> = found
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_lowercase(), plain(value)))
        .collect();
    let mut expected: BTreeMap<String, String> =
        expected.iter().map(|(name, value)| (name.to_lowercase(), plain(value))).collect();
    if !found.contains_key("role") {
        expected.remove("role");
    }
    found == expected
}

impl PutBack {
    fn more(&mut self, words: String) {
        self.has_more = true;
        self.changes.push(words);
    }
}

/// The findings that are still true after the record was read once more: between the first reading
/// and the look at the target a login may have been made, renewed or ended.
#[must_use]
pub fn confirmed(
    by: By,
    seen: &[Seen],
    before: &HashMap<String, Recorded>,
    after: &HashMap<String, Recorded>,
    first: Vec<Finding>,
) -> Vec<Finding> {
    let doubtful: BTreeSet<&str> = first
        .iter()
        .filter(|finding| finding.kind != Kind::Foreign)
        .map(|finding| finding.role.as_str())
        .collect();
    let moved = |role: &str| before.get(role).is_some_and(|was| after.get(role) != Some(was));
    let again: Vec<Seen> =
        seen.iter().filter(|login| doubtful.contains(login.role.as_str())).cloned().collect();
    let mut findings: Vec<Finding> = compare(by, &again, after)
        .into_iter()
        .filter(|finding| finding.kind != Kind::Foreign && !moved(&finding.role))
        .collect();
    findings.extend(first.into_iter().filter(|finding| finding.kind == Kind::Foreign));
    findings
}

/// What stands for all that would be taken away, so that a person can say yes to just that: 16
/// hexadecimal digits over each target's name, whether it was silent, and its findings. What changes
/// from one moment to the next, such as the number of sessions, is no part of it.
#[must_use]
pub fn plan_id<'a>(targets: impl Iterator<Item = (&'a str, bool, Vec<&'a Finding>)>) -> String {
    let mut lines = BTreeSet::new();
    for (target, is_silent, findings) in targets {
        if is_silent {
            lines.insert(format!("{target} silent"));
        }
        for Finding { kind, role, .. } in findings {
            match kind {
                Kind::Orphan | Kind::LeftOver | Kind::Lost | Kind::Changed | Kind::Held => {
                    lines.insert(format!("{target} {} {role}", kind.as_str()));
                }
                Kind::ShutOut | Kind::Sessions | Kind::Foreign | Kind::Unmarked => {}
            }
        }
    }
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
