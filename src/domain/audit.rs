//! Every audited event as one enum, its canonical bytes, and the hash chain over them.
//!
//! The canonical bytes of an entry are its JSON as it was first written: they are kept as text and
//! hashed as they are, so no later change in how JSON is written can break an old chain. An entry is
//! written in the transaction of its change; the chain is sealed behind it by one writer at a time,
//! so that issuing does not queue for the audit. A checkpoint signs the head of the chain (Ed25519,
//! RFC 8032), so that a cut-off tail shows too.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};

use crate::{
    domain::lease::{Cause, Granted, Proof},
    ids::{
        AuditId, LeaseId, LoginId, PrincipalId, ProfileId, RequestId, StandingRoleId, TargetId,
        TokenId,
    },
};

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Actor {
    /// A principal.
    Principal {
        /// Its id.
        id: PrincipalId,
        /// Its name, as `person:alice`.
        name: String,
    },
    /// pgvalet itself: expiry, sweep, start-up.
    Pgvalet,
    /// Somebody who could not prove who they are.
    Unknown,
    /// Whoever ran a command on the daemon's machine (`bootstrap`).
    Operator,
}

/// What happened. The name of each in the audit is fixed for ever.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are what their names say, and are listed in the API")]
pub enum Event {
    /// The first administrator's token was made.
    #[serde(rename = "bootstrapped")]
    Bootstrapped { principal_id: PrincipalId, token_id: TokenId },
    /// A token was made.
    #[serde(rename = "token.created")]
    TokenCreated {
        token_id: TokenId,
        principal_id: PrincipalId,
        principal: String,
        name: String,
        admin: bool,
        groups: Vec<String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        claims: BTreeMap<String, String>,
        expires_at: Option<DateTime<Utc>>,
    },
    /// A token was revoked.
    #[serde(rename = "token.revoked")]
    TokenRevoked { token_id: TokenId, principal_id: PrincipalId, name: String },
    /// A token was refused. Which part was wrong is not told to the caller.
    #[serde(rename = "token.refused")]
    TokenRefused { token_id: Option<TokenId>, why: String },
    /// A source guessed too often, and is slowed down.
    #[serde(rename = "source.throttled")]
    SourceThrottled { failures_per_minute: u32 },
    /// Somebody asked for what only administrators may do.
    #[serde(rename = "access.refused")]
    AccessRefused { what: String, code: String },
    /// A target was recorded.
    #[serde(rename = "target.created")]
    TargetCreated { target_id: TargetId, target: String },
    /// A target was changed: the names of what changed.
    #[serde(rename = "target.changed")]
    TargetChanged { target_id: TargetId, target: String, changed: Vec<String> },
    /// A target was removed.
    #[serde(rename = "target.removed")]
    TargetRemoved { target_id: TargetId, target: String },
    /// A profile was recorded.
    #[serde(rename = "profile.created")]
    ProfileCreated { profile_id: ProfileId, profile: String },
    /// A profile was changed: the names of what changed.
    #[serde(rename = "profile.changed")]
    ProfileChanged { profile_id: ProfileId, profile: String, changed: Vec<String> },
    /// A profile was removed.
    #[serde(rename = "profile.removed")]
    ProfileRemoved { profile_id: ProfileId, profile: String },
    /// A profile's group role and grants were made on its target: the statements that were run.
    #[serde(rename = "profile.prepared")]
    ProfilePrepared {
        profile_id: ProfileId,
        profile: String,
        group_role: String,
        statements: Vec<String>,
    },
    /// A wish for a lease was refused.
    #[serde(rename = "lease.refused")]
    LeaseRefused { profile: String, code: String, why: String },
    /// The intent to make a login, before anything is done on the target.
    #[serde(rename = "lease.intended")]
    LeaseIntended {
        lease_id: LeaseId,
        login_id: LoginId,
        profile: String,
        target: String,
        database: String,
        role: String,
        group_role: String,
        tool: String,
        reason: Option<String>,
        ticket: Option<String>,
        ttl: Granted,
        allowed_by: String,
        expires_at: DateTime<Utc>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        context: BTreeMap<String, String>,
    },
    /// The login was made and its credential handed out.
    #[serde(rename = "lease.activated")]
    LeaseActivated { lease_id: LeaseId, login_id: LoginId, role: String, role_oid: u32 },
    /// The login could not be made.
    #[serde(rename = "lease.failed")]
    LeaseFailed { lease_id: LeaseId, login_id: LoginId, code: String, why: String },
    /// A lease lasts longer.
    #[serde(rename = "lease.renewed")]
    LeaseRenewed { lease_id: LeaseId, from: DateTime<Utc>, to: DateTime<Utc> },
    /// The intent to make a fresh login for a lease.
    #[serde(rename = "lease.rotating")]
    LeaseRotating { lease_id: LeaseId, login_id: LoginId, role: String },
    /// A fresh login took the place of another, which stops after the grace.
    #[serde(rename = "lease.rotated")]
    LeaseRotated {
        lease_id: LeaseId,
        login_id: LoginId,
        role: String,
        superseded: LoginId,
        superseded_ends_at: DateTime<Utc>,
    },
    /// Access is being taken away.
    #[serde(rename = "lease.revoking")]
    LeaseRevoking { lease_id: LeaseId, cause: Cause },
    /// A login is being shut out.
    #[serde(rename = "login.revoking")]
    LoginRevoking { lease_id: LeaseId, login_id: LoginId, role: String, cause: Cause },
    /// A login was seen to be gone.
    #[serde(rename = "login.removed")]
    LoginRemoved { lease_id: LeaseId, login_id: LoginId, role: String, cause: Cause, proof: Proof },
    /// A lease is over: each of its logins was seen to be gone.
    #[serde(rename = "lease.revoked")]
    LeaseRevoked { lease_id: LeaseId, cause: Cause },
    /// A standing role was recorded.
    #[serde(rename = "standing-role.created")]
    StandingRoleCreated { standing_role_id: StandingRoleId, standing_role: String },
    /// A standing role was changed: the names of what changed.
    #[serde(rename = "standing-role.changed")]
    StandingRoleChanged {
        standing_role_id: StandingRoleId,
        standing_role: String,
        changed: Vec<String>,
    },
    /// A standing role was removed; its logins end.
    #[serde(rename = "standing-role.removed")]
    StandingRoleRemoved { standing_role_id: StandingRoleId, standing_role: String },
    /// The intent to make a fresh login for a standing role.
    #[serde(rename = "standing-role.rotating")]
    StandingRoleRotating {
        standing_role_id: StandingRoleId,
        standing_role: String,
        lease_id: LeaseId,
        login_id: LoginId,
        role: String,
    },
    /// A standing role hands out a fresh login; the one before stops after the grace.
    #[serde(rename = "standing-role.rotated")]
    StandingRoleRotated {
        standing_role_id: StandingRoleId,
        standing_role: String,
        generation: i32,
        lease_id: LeaseId,
        role: String,
        valid_until: DateTime<Utc>,
        due_at: DateTime<Utc>,
        superseded: Option<LeaseId>,
        superseded_ends_at: Option<DateTime<Utc>>,
    },
    /// A standing role could not be rotated; it is tried again.
    #[serde(rename = "standing-role.failed")]
    StandingRoleFailed {
        standing_role_id: StandingRoleId,
        standing_role: String,
        code: String,
        why: String,
    },
    /// A standing role should have been rotated by now.
    #[serde(rename = "standing-role.overdue")]
    StandingRoleOverdue {
        standing_role_id: StandingRoleId,
        standing_role: String,
        due_at: DateTime<Utc>,
    },
    /// Somebody was given the credential of a standing role.
    #[serde(rename = "standing-role.read")]
    StandingRoleRead {
        standing_role_id: StandingRoleId,
        standing_role: String,
        generation: i32,
        lease_id: LeaseId,
        allowed_by: String,
    },
    /// The next password of a target's administrator is sealed, and about to be set.
    #[serde(rename = "target.admin-rotating")]
    TargetAdminRotating { target_id: TargetId, target: String },
    /// A target's administrator has a fresh password.
    #[serde(rename = "target.admin-rotated")]
    TargetAdminRotated { target_id: TargetId, target: String, due_at: Option<DateTime<Utc>> },
    /// The password of a target's administrator could not be renewed; it is tried again.
    #[serde(rename = "target.admin-failed")]
    TargetAdminFailed { target_id: TargetId, target: String, code: String, why: String },
    /// The password of a target's administrator should have been renewed by now.
    #[serde(rename = "target.admin-overdue")]
    TargetAdminOverdue { target_id: TargetId, target: String, due_at: DateTime<Utc> },
    /// A target refuses its administrator: somebody else changed the password, or shut the role out.
    #[serde(rename = "target.admin-refused")]
    TargetAdminRefused { target_id: TargetId, target: String },
    /// A target lets its administrator in again.
    #[serde(rename = "target.admin-accepted")]
    TargetAdminAccepted { target_id: TargetId, target: String },
    /// A login could not be removed yet.
    #[serde(rename = "login.blocked")]
    LoginBlocked { lease_id: LeaseId, login_id: LoginId, role: String, why: String },
    /// An administrator had targets compared with the record.
    #[serde(rename = "sweep.asked")]
    SweepAsked { targets: Vec<String>, plan: bool },
    /// A login of this installation was found that no lease is known of.
    #[serde(rename = "orphan.found")]
    OrphanFound { target: String, role: String, role_oid: u32 },
    /// It was shut out. It is removed at this instant or later.
    #[serde(rename = "orphan.quarantined")]
    OrphanQuarantined { target: String, role: String, role_oid: u32, remove_at: DateTime<Utc> },
    /// It was seen to be gone.
    #[serde(rename = "orphan.removed")]
    OrphanRemoved { target: String, role: String, role_oid: u32, proof: Proof },
    /// A login was changed by hand, and was put back to what its lease says.
    #[serde(rename = "login.put_back")]
    LoginPutBack { lease_id: LeaseId, login_id: LoginId, role: String, changes: Vec<String> },
    /// A login has more than its lease says, and that could not be put back (why is the last of them): its lease ends.
    #[serde(rename = "login.beyond_lease")]
    LoginBeyondLease { lease_id: LeaseId, login_id: LoginId, role: String, changes: Vec<String> },
    /// Sessions of a role that was gone already were ended.
    #[serde(rename = "sessions.ended")]
    SessionsEnded { target: String, lease_id: LeaseId, role: String, role_oid: u32, sessions: i64 },
    /// From now on nothing that was recorded before is removed.
    #[serde(rename = "caution.began")]
    CautionBegan { because: String },
    /// An administrator saw what would be removed, and said yes.
    #[serde(rename = "caution.ended")]
    CautionEnded { plan: String },
}

/// One entry of the audit, before it is written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: Actor,
    /// In which request, if it was one.
    pub request_id: Option<RequestId>,
    /// From which address, if from one.
    pub source: Option<String>,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// The bytes that are kept and hashed.
    ///
    /// # Errors
    /// Never in practice: each part of an entry has a JSON form.
    pub fn canonical(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// A hash of the chain: SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first entry is chained to.
    pub const START: Self = Self([0; 32]);

    /// Takes 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digit =
            |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let bytes: Option<Vec<u8>> = (0..32).map(|n| digit(2 * n)).collect();
        bytes.filter(|_| text.len() == 64).and_then(|b| Self::from_bytes(&b)).ok_or(NotAHash)
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: 64 hexadecimal digits are needed")]
pub struct NotAHash;

/// The hash of an entry at a position, chained to the one before. The position is part of it, so
/// that two entries cannot change places.
#[must_use]
pub fn chain(position: i64, previous: Hash, body: &str) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"pgvalet audit 1\n");
    context.update(&position.to_be_bytes());
    context.update(&previous.0);
    context.update(body.as_bytes());
    Hash::from_bytes(context.finish().as_ref()).unwrap_or(Hash::START)
}

/// What a checkpoint signs.
#[must_use]
pub fn checkpoint_bytes(position: i64, head: Hash) -> Vec<u8> {
    format!("pgvalet audit checkpoint 1\n{position}\n{head}\n").into_bytes()
}

/// One sealed entry, as read back or as exported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sealed {
    /// Its place in the chain, from 1.
    pub position: i64,
    /// Its hash as recorded.
    #[serde(with = "hex")]
    pub hash: Hash,
    /// Its canonical bytes.
    pub body: String,
}

/// A hash in JSON: hexadecimal text.
mod hex {
    use serde::Deserialize;

    use crate::domain::audit::Hash;

    pub(super) fn serialize<S: serde::Serializer>(hash: &Hash, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Hash, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is wrong with a chain, at its first bad entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The entry's bytes or place are not those that were sealed.
    #[error("entry {position} was altered: its hash should be {expected}, and is {found}")]
    Altered {
        /// Where.
        position: i64,
        /// What the entry's bytes hash to.
        expected: Hash,
        /// What is recorded.
        found: Hash,
    },
    /// An entry is missing.
    #[error("entry {position} is missing")]
    Missing {
        /// Where.
        position: i64,
    },
}

/// Walks a chain, a page at a time.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// The last position that was good.
    pub position: i64,
    /// Its hash.
    pub head: Hash,
}

impl Walk {
    /// Before the first entry.
    pub const START: Self = Self { position: 0, head: Hash::START };

    /// Checks the next entry.
    ///
    /// # Errors
    /// If it is not the next one, or was altered.
    pub fn step(&mut self, entry: &Sealed) -> Result<(), Broken> {
        let position = self.position + 1;
        if entry.position != position {
            return Err(Broken::Missing { position });
        }
        let expected = chain(position, self.head, &entry.body);
        if expected != entry.hash {
            return Err(Broken::Altered { position, expected, found: entry.hash });
        }
        *self = Self { position, head: expected };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(bodies: &[&str]) -> Vec<Sealed> {
        let mut walk = Walk::START;
        let mut seal = |body: &&str| {
            let position = walk.position + 1;
            let hash = chain(position, walk.head, body);
            walk = Walk { position, head: hash };
            Sealed { position, hash, body: (*body).to_owned() }
        };
        bodies.iter().map(&mut seal).collect()
    }

    fn verify(entries: &[Sealed]) -> Result<(), Broken> {
        let mut walk = Walk::START;
        entries.iter().try_for_each(|entry| walk.step(entry))
    }

    #[test]
    fn a_whole_chain_passes() {
        assert_eq!(verify(&sealed(&["a", "b", "c"])), Ok(()));
    }

    #[test]
    fn the_first_bad_entry_is_named() {
        let mut altered = sealed(&["a", "b", "c"]);
        altered[1].body = "B".to_owned();
        assert!(matches!(verify(&altered), Err(Broken::Altered { position: 2, .. })));

        let mut cut = sealed(&["a", "b", "c"]);
        cut.remove(1);
        assert!(matches!(verify(&cut), Err(Broken::Missing { position: 2 })));

        let mut swapped = sealed(&["a", "b", "c"]);
        let (first, second) = (swapped[0].body.clone(), swapped[1].body.clone());
        swapped[0].body = second;
        swapped[1].body = first;
        assert!(matches!(verify(&swapped), Err(Broken::Altered { position: 1, .. })));
    }

    #[test]
    fn an_entry_reads_back_from_its_bytes() {
        let entry = Entry {
            id: AuditId::new(),
            at: DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap(),
            actor: Actor::Pgvalet,
            request_id: None,
            source: None,
            event: Event::LeaseRevoked { lease_id: LeaseId::new(), cause: Cause::Expired },
        };
        let bytes = entry.canonical().unwrap();
        assert!(bytes.contains(r#""kind":"lease.revoked""#), "{bytes}");
        assert_eq!(serde_json::from_str::<Entry>(&bytes).unwrap(), entry);
    }

    #[test]
    fn a_hash_reads_back_from_its_text() {
        let hash = chain(1, Hash::START, "a");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("xyz".parse::<Hash>().is_err());
    }
}
