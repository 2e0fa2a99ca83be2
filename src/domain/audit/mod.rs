//! Every audited event as one enum, its canonical bytes, and the hash chain over them.
//!
//! The canonical bytes of an entry are its JSON as it was first written: they are kept as text and
//! hashed as they are, so no later change in how JSON is written can break an old chain. An entry is
//! written in the transaction of its change; the chain is sealed behind it by one writer at a time,
//! so that issuing does not queue for the audit. A checkpoint signs the head of the chain (Ed25519,
//! RFC 8032), so that a cut-off tail shows too.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        administration::Role,
        ci::JobSeen,
        emergency::Verdict,
        lease::{Cause, Granted, Proof},
        policy::Finding,
        session::Client,
    },
    ids::{
        AccessRequestId, LeaseId, LoginId, NoticeId, OffboardingId, PrincipalId, ProfileId,
        StandingRoleId, TargetId, TokenId,
    },
};

mod chain;
mod entry;
mod request;
mod review;

pub use self::chain::{Broken, Hash, NotAHash, Sealed, Walk, chain, checkpoint_bytes};
pub use self::entry::{Actor, Entry};
pub use self::request::RequestEvent;
pub use self::review::ReviewEvent;

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
        /// The person that the principal acts for from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acts_for: Option<PrincipalId>,
        expires_at: Option<DateTime<Utc>>,
    },
    /// A token was revoked.
    #[serde(rename = "token.revoked")]
    TokenRevoked { token_id: TokenId, principal_id: PrincipalId, name: String },
    /// A token was refused. Which part was wrong is not told to the caller.
    #[serde(rename = "token.refused")]
    TokenRefused { token_id: Option<TokenId>, why: String },
    /// A principal may sign in by a certificate of this name.
    #[serde(rename = "certificate.added")]
    CertificateAdded {
        principal_id: PrincipalId,
        principal: String,
        certificate: String,
        groups: Vec<String>,
    },
    /// Nobody may sign in by a certificate of this name any more.
    #[serde(rename = "certificate.removed")]
    CertificateRemoved { principal_id: PrincipalId, principal: String, certificate: String },
    /// A client's certificate was refused; with the names that were seen, if it was looked at.
    #[serde(rename = "certificate.refused")]
    CertificateRefused { names: Vec<String>, why: String },
    /// Somebody signed in: a session was opened.
    #[serde(rename = "person.signed-in")]
    SignedIn {
        token_id: TokenId,
        principal_id: PrincipalId,
        principal: String,
        client: Client,
        groups: Vec<String>,
        expires_at: DateTime<Utc>,
    },
    /// A sign-in gave nobody a session.
    #[serde(rename = "sign-in.refused")]
    SignInRefused { client: Client, code: String, why: String },
    /// A person was recorded, by what a provider says.
    #[serde(rename = "person.recorded")]
    PersonRecorded { principal_id: PrincipalId, principal: String, issuer: String, subject: String },
    /// The provider says something else of a person than before: the groups and claims that hold now.
    #[serde(rename = "person.changed")]
    PersonChanged {
        principal_id: PrincipalId,
        principal: String,
        groups: Vec<String>,
        claims: BTreeMap<String, String>,
    },
    /// The provider does not vouch for a person any more.
    #[serde(rename = "person.gone")]
    PersonGone { principal_id: PrincipalId, principal: String, answer: String },
    /// A principal was shut out.
    #[serde(rename = "principal.disabled")]
    PrincipalDisabled { principal_id: PrincipalId, principal: String },
    /// It is let in again.
    #[serde(rename = "principal.enabled")]
    PrincipalEnabled { principal_id: PrincipalId, principal: String },
    /// All that a person has ends: what is left of it is on record until it is seen to be gone.
    #[serde(rename = "offboarding.started")]
    OffboardingStarted {
        offboarding_id: OffboardingId,
        principal_id: PrincipalId,
        principal: String,
        leases: usize,
        standing_roles: Vec<String>,
    },
    /// It was all seen to be gone.
    #[serde(rename = "offboarding.finished")]
    OffboardingFinished {
        offboarding_id: OffboardingId,
        principal_id: PrincipalId,
        principal: String,
    },
    /// They were let in again.
    #[serde(rename = "offboarding.ended")]
    OffboardingEnded { offboarding_id: OffboardingId, principal_id: PrincipalId, principal: String },
    /// A principal was given these groups, beside those of its provider.
    #[serde(rename = "principal.groups")]
    PrincipalGroups { principal_id: PrincipalId, principal: String, groups: Vec<String> },
    /// A principal is known by what an issuer says.
    #[serde(rename = "identity.added")]
    IdentityAdded { principal_id: PrincipalId, principal: String, issuer: String, subject: String },
    /// It is not known by that any more.
    #[serde(rename = "identity.removed")]
    IdentityRemoved {
        principal_id: PrincipalId,
        principal: String,
        issuer: String,
        subject: String,
    },
    /// The provider calls its person something else.
    #[serde(rename = "identity.renamed")]
    IdentityRenamed {
        principal_id: PrincipalId,
        issuer: String,
        subject: String,
        user_name: String,
    },
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
    /// Who holds which role in pgvalet was changed: all of it, by role.
    #[serde(rename = "administration.changed")]
    AdministrationChanged { held: BTreeMap<Role, Vec<String>> },
    /// An issuer of CI jobs' tokens was recorded.
    #[serde(rename = "issuer.created")]
    IssuerCreated { issuer: String, url: String },
    /// An issuer was changed: the names of what changed.
    #[serde(rename = "issuer.changed")]
    IssuerChanged { issuer: String, changed: Vec<String> },
    /// An issuer was removed.
    #[serde(rename = "issuer.removed")]
    IssuerRemoved { issuer: String },
    /// A rule for CI jobs was recorded.
    #[serde(rename = "ci-rule.created")]
    CiRuleCreated { rule: String },
    /// A rule for CI jobs was changed: the names of what changed.
    #[serde(rename = "ci-rule.changed")]
    CiRuleChanged { rule: String, changed: Vec<String> },
    /// A rule for CI jobs was removed.
    #[serde(rename = "ci-rule.removed")]
    CiRuleRemoved { rule: String },
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
    /// A target differs from what a profile says: what would be run to mend it, and what cannot be.
    #[serde(rename = "drift.found")]
    DriftFound {
        profile_id: ProfileId,
        profile: String,
        target: String,
        statements: Vec<String>,
        notes: Vec<String>,
    },
    /// A target is as a profile says again.
    #[serde(rename = "drift.gone")]
    DriftGone { profile_id: ProfileId, profile: String, target: String },
    /// A profile's checks were run: how many passed, the names of those that failed, and the statements, since
    /// whoever writes them can read with them.
    #[serde(rename = "profile.checked")]
    ProfileChecked {
        profile_id: ProfileId,
        profile: String,
        version: i32,
        passed: usize,
        failed: Vec<String>,
        statements: Vec<String>,
    },
    /// A wish for a lease was refused.
    #[serde(rename = "lease.refused")]
    LeaseRefused {
        profile: String,
        code: String,
        why: String,
        /// Everything that was looked at.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        trace: Vec<Finding>,
    },
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
        /// Everything that was looked at.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        trace: Vec<Finding>,
        expires_at: DateTime<Utc>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        context: BTreeMap<String, String>,
        /// Is it under a profile for emergencies, to be looked at afterwards?
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        break_glass: bool,
        /// The CI job that asked, as its token tells of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Box<JobSeen>>,
        /// The request that others agreed to, if it came of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<AccessRequestId>,
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
    /// A lease under a profile for emergencies is about to be issued; somebody else is to look at it.
    #[serde(rename = "emergency.opened")]
    EmergencyOpened {
        lease_id: LeaseId,
        profile: String,
        target: String,
        database: String,
        reason: Option<String>,
        ticket: Option<String>,
        expires_at: DateTime<Utc>,
        /// The number of the sealed code that it was asked for with.
        code: Option<i32>,
    },
    /// Somebody looked at an emergency.
    #[serde(rename = "emergency.closed")]
    EmergencyClosed { lease_id: LeaseId, verdict: Verdict, comment: String },
    /// A person was given sealed codes, in place of those of before.
    #[serde(rename = "emergency-codes.made")]
    EmergencyCodesMade {
        principal_id: PrincipalId,
        principal: String,
        count: usize,
        profiles: Vec<String>,
        ends_at: DateTime<Utc>,
    },
    /// A person's sealed codes hold no more.
    #[serde(rename = "emergency-codes.withdrawn")]
    EmergencyCodesWithdrawn { principal_id: PrincipalId, principal: String, count: u64 },
    /// A sealed code was refused. Which part was wrong is not told to the caller.
    #[serde(rename = "emergency-code.refused")]
    EmergencyCodeRefused { principal: String, why: String },
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
    /// Somebody had notices sent again that were given up: one, or those of a channel, or all.
    #[serde(rename = "notice.replayed")]
    NoticeReplayed { notice_id: Option<NoticeId>, channel: Option<String>, notices: u64 },
    /// Somebody is about to try a channel.
    #[serde(rename = "notice.test_begun")]
    NoticeTestBegun { channel: String },
    /// Somebody tried a channel; and why it was not told, if so.
    #[serde(rename = "notice.tested")]
    NoticeTested { channel: String, why: Option<String> },
    /// What still waits for somebody: rotations that are overdue, roles that could not be removed, notices that
    /// were given up, reviews that are open.
    #[serde(rename = "digest.made")]
    DigestMade {
        rotations_overdue: Vec<String>,
        logins_stuck: Vec<String>,
        notices_dead: u64,
        /// Emergencies that nobody else has looked at.
        #[serde(default)]
        emergencies_open: u64,
        /// Access reviews that are open.
        #[serde(default)]
        reviews_waiting: Vec<String>,
    },
    /// From now on nothing that was recorded before is removed.
    #[serde(rename = "caution.began")]
    CautionBegan { because: String },
    /// An administrator saw what would be removed, and said yes.
    #[serde(rename = "caution.ended")]
    CautionEnded { plan: String },
    /// Something happened to a request.
    #[serde(untagged)]
    Request(RequestEvent),
    /// Something happened to an access review.
    #[serde(untagged)]
    Review(ReviewEvent),
}
