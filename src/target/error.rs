//! What can go wrong on a target, in words for whoever has to mend it.
//!
//! Told apart by SQLSTATE, never by the server's text, which changes with its language and version.
//! No variant can hold a password or a verifier: what the server says is kept (its message and
//! detail), what we sent is not.

use std::error::Error as StdError;

/// The reason below, of whatever type.
pub type Source = Box<dyn StdError + Send + Sync>;

/// What the server said.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {sqlstate})")]
pub struct ServerSaid {
    sqlstate: String,
    message: String,
}

/// What went wrong on a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not answer, or has no room for us.
    #[error(
        "the target at {address} cannot be reached: check that it runs, its address and port, and the way there"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// The connection broke, or the server ended it, in the midst of something.
    #[error("the connection to the target was lost while it was asked to {doing}")]
    ConnectionLost {
        /// What was to be done; whether it was is not known.
        doing: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
    /// It answers, but not with the TLS asked for.
    #[error(
        "no TLS as asked for with the target at {address}: check `sslmode`, `sslrootcert` and the server's certificate"
    )]
    Tls {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// It does not let our admin in.
    #[error(
        "the target does not let `{admin}` sign in: check the admin's password and the server's pg_hba.conf"
    )]
    RefusedAdmin {
        /// The admin's role.
        admin: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// What our admin signs in with could not be had from where it comes.
    #[error("{why}")]
    NoPassword {
        /// From where, and why not.
        why: String,
    },
    /// A standby: roles can only be made on the primary.
    #[error("the target is a standby in recovery: point it to the primary")]
    InRecovery,
    /// Too old.
    #[error("the target runs PostgreSQL {major}: 13 is the oldest that pgvalet manages")]
    TooOld {
        /// Its major version.
        major: i32,
    },
    /// The admin may not do what is needed.
    #[error("the target's admin may not {action}: let a superuser run `{remedy}`")]
    LacksRight {
        /// What it may not do.
        action: String,
        /// The SQL that helps.
        remedy: String,
        /// What the server said, when it was asked.
        #[source]
        source: Option<Source>,
    },
    /// The role that holds the rights is not there.
    #[error(
        "the group role `{group}` is not on the target: prepare the profile, or make the role that it names"
    )]
    GroupMissing {
        /// The role.
        group: String,
    },
    /// What row-level security is to see of leases cannot be kept there (any more).
    #[error(
        "the schema `pgvalet` of database `{database}`, which row-level security sees leases by, is gone or not ours: apply the profile again"
    )]
    ContextMissing {
        /// The database.
        database: String,
        /// What the server said.
        #[source]
        source: Source,
    },
    /// The role that holds the rights reaches too far to be handed out.
    #[error("the role `{group}` is not handed out: {fault}")]
    GroupUnsafe {
        /// The role.
        group: String,
        /// What is wrong with it, and what to do.
        fault: String,
    },
    /// No such database.
    #[error("the database `{database}` is not on the target: make it, or correct its name")]
    DatabaseMissing {
        /// The database.
        database: String,
        /// What the server said.
        #[source]
        source: Source,
    },
    /// A database that takes no connections.
    #[error(
        "the database `{database}` takes no connections: run `{remedy}` as a superuser, or drop it"
    )]
    DatabaseClosed {
        /// The database.
        database: String,
        /// The SQL that helps.
        remedy: String,
        /// What the server said.
        #[source]
        source: Source,
    },
    /// A profile asks for what the target does not have, or what our admin cannot give there.
    #[error("the profile does not fit the target: {}", listed(faults))]
    Unfit {
        /// The keys that are wrong, as in a file (`grant[0].tables`), and what is wrong with them.
        faults: Vec<(String, String)>,
    },
    /// A setting of the profile cannot be given to the login.
    #[error(
        "the target refuses the setting `{setting}`: correct it in the profile, take it out, or, if only a superuser may set it (as all with a dot), let one run `GRANT SET ON PARAMETER {setting} TO` our admin (15 and later) or use `bootstrap-target --way functions --allow-setting {setting}`"
    )]
    SettingRefused {
        /// The setting.
        setting: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A login did not come out as asked for, so it was not made.
    #[error("the login `{role}` was not made, because it would not be as asked for: {fault}")]
    LoginUnsafe {
        /// The login.
        role: String,
        /// What differs.
        fault: String,
    },
    /// A grant had no effect, although the server did not refuse it.
    #[error(
        "the target took the profile's grants, but {left} of them had no effect (the first: `{first}`): check who owns what they name"
    )]
    GrantsWithoutEffect {
        /// How many.
        left: usize,
        /// The first.
        first: String,
    },
    /// The login is not there any more.
    #[error("the login `{role}` is not on the target any more")]
    Gone {
        /// The login.
        role: String,
    },
    /// A role of a login's name or OID that is not that login: it is left alone.
    #[error("the role `{role}` was left alone, because it is not the login that was made: {fault}")]
    NotOurs {
        /// The role.
        role: String,
        /// What differs, and what to do.
        fault: String,
    },
    /// Something keeps a login from being removed, for now.
    #[error("the login `{role}` cannot be dropped yet: {obstacle}")]
    Blocked {
        /// The login.
        role: String,
        /// What stands in the way, and what state the login is in.
        obstacle: String,
    },
    /// All sessions of a login are ended, but who is signing in on the target is not known yet.
    #[error(
        "the login `{role}` is shut out already and has no session: a client that is signing in on the target, perhaps as another role, is waited for before the proof is given"
    )]
    SigningIn {
        /// The login.
        role: String,
    },
    /// Another transaction was in the way.
    #[error("the target was busy with another change while asked to {doing}")]
    Busy {
        /// What was to be done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: Source,
    },
    /// It could not be signed in to several times in a row, and is left alone for a moment.
    #[error("the target is left alone for a moment, since it failed several times in a row: {why}")]
    LeftAlone {
        /// When to try again.
        retry_after: std::time::Duration,
        /// The latest failure, in words.
        why: String,
    },
    /// The address leads to another cluster than the one that was recorded: nothing is done there.
    #[error(
        "the target's address leads to another PostgreSQL cluster (system identifier {seen}) than the one that was recorded ({expected}): correct the address, or record the other cluster under a name of its own"
    )]
    AnotherCluster {
        /// The recorded one.
        expected: i64,
        /// The one that answered.
        seen: i64,
    },
    /// More logins wait to be made than can be made in time.
    #[error("too many logins are asked for at once: try again in a few seconds")]
    QueueFull,
    /// Anything else.
    #[error("the target failed to {doing}")]
    Failure {
        /// What was to be done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
}

impl Error {
    /// A word for programs; it does not change.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::ConnectionLost { .. } => "target_unreachable",
            Self::Tls { .. } => "target_tls_failed",
            Self::RefusedAdmin { .. } => "target_refused_admin",
            Self::NoPassword { .. } => "admin_password_unavailable",
            Self::InRecovery => "target_in_recovery",
            Self::TooOld { .. } => "target_too_old",
            Self::LacksRight { .. } => "target_lacks_right",
            Self::GroupMissing { .. } => "group_role_missing",
            Self::GroupUnsafe { .. } => "group_role_unsafe",
            Self::ContextMissing { .. } => "context_missing",
            Self::DatabaseMissing { .. } => "database_missing",
            Self::DatabaseClosed { .. } => "database_closed",
            Self::Unfit { .. } => "profile_unfit",
            Self::SettingRefused { .. } => "setting_refused",
            Self::LoginUnsafe { .. } => "login_unsafe",
            Self::GrantsWithoutEffect { .. } => "grants_without_effect",
            Self::Gone { .. } => "login_gone",
            Self::NotOurs { .. } => "login_not_ours",
            Self::Blocked { .. } => "login_blocked",
            Self::SigningIn { .. } => "login_signing_in",
            Self::Busy { .. } => "target_busy",
            Self::LeftAlone { .. } => "target_left_alone",
            Self::AnotherCluster { .. } => "target_is_another_cluster",
            Self::QueueFull => "queue_full",
            Self::Failure { .. } => "target_failure",
        }
    }

    /// May the same succeed later, with nobody's help?
    #[must_use]
    pub const fn is_worth_retrying(&self) -> bool {
        match self {
            // A standby may be promoted, and what blocks a login may go; the rest of these pass.
            Self::Unreachable { .. }
            | Self::ConnectionLost { .. }
            | Self::NoPassword { .. }
            | Self::InRecovery
            | Self::DatabaseClosed { .. }
            | Self::Blocked { .. }
            | Self::SigningIn { .. }
            | Self::Busy { .. }
            | Self::LeftAlone { .. }
            | Self::QueueFull => true,
            Self::Tls { .. }
            | Self::RefusedAdmin { .. }
            | Self::TooOld { .. }
            | Self::AnotherCluster { .. }
            | Self::LacksRight { .. }
            | Self::GroupMissing { .. }
            | Self::GroupUnsafe { .. }
            | Self::ContextMissing { .. }
            | Self::DatabaseMissing { .. }
            | Self::Unfit { .. }
            | Self::SettingRefused { .. }
            | Self::LoginUnsafe { .. }
            | Self::GrantsWithoutEffect { .. }
            | Self::Gone { .. }
            | Self::NotOurs { .. }
            | Self::Failure { .. } => false,
        }
    }

    /// May what was asked for have been done all the same?
    #[must_use]
    pub const fn leaves_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::ConnectionLost { .. } | Self::Failure { .. }
        )
    }

    /// Is it the profile that is wrong, or what it names? Nothing failed then.
    pub(crate) const fn is_the_profiles(&self) -> bool {
        matches!(
            self,
            Self::Unfit { .. }
                | Self::GroupMissing { .. }
                | Self::GroupUnsafe { .. }
                | Self::LacksRight { source: None, .. }
        )
    }

    /// Did another transaction get in the way, so that the whole is to be done again at once?
    pub(crate) const fn is_conflict(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}

fn listed(faults: &[(String, String)]) -> String {
    let each = faults.iter().map(|(path, message)| format!("{path}: {message}"));
    each.collect::<Vec<_>>().join("; ")
}

/// What the SQLSTATE of a failed statement means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// 28P01, 28000: wrong password, or pg_hba.conf says no.
    SignInRefused,
    /// 3D000.
    NoSuchDatabase,
    /// 55000, of a sign-in: `ALLOW_CONNECTIONS` is false.
    NotReady,
    /// 25006: a standby takes no writes.
    ReadOnly,
    /// 42501.
    NotAllowed,
    /// 2BP01.
    StillNeeded,
    /// 42P01, 3F000: no such table, no such schema.
    NoSuchObject,
    /// 23505: of a catalogue's index, hence two of us made the same thing.
    AlreadyThere,
    /// Another transaction was in the way (57014: for longer than our time limit). XX000 is here because `tuple concurrently updated` has no
    /// SQLSTATE of its own, and role and grant statements are the only ones that we send.
    Conflict,
    /// The server has no room, is starting, stopping, or ended our session.
    Away,
    /// Anything else.
    Other,
}

/// Reads an SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) fn meaning(sqlstate: &str) -> Meaning {
    match sqlstate {
        "28P01" | "28000" => Meaning::SignInRefused,
        "3D000" => Meaning::NoSuchDatabase,
        "55000" => Meaning::NotReady,
        "25006" => Meaning::ReadOnly,
        "42501" => Meaning::NotAllowed,
        "2BP01" => Meaning::StillNeeded,
        "42P01" | "3F000" => Meaning::NoSuchObject,
        "23505" => Meaning::AlreadyThere,
        "40P01" | "40001" | "55P03" | "57014" | "XX000" => Meaning::Conflict,
        "57P01" | "57P02" | "57P03" => Meaning::Away,
        other if other.starts_with("08") || other.starts_with("53") => Meaning::Away,
        _ => Meaning::Other,
    }
}

/// What a failed statement means, when the server answered at all.
pub(crate) fn meaning_of(error: &sqlx::Error) -> Option<Meaning> {
    let sqlstate = error.as_database_error()?.code()?;
    Some(meaning(&sqlstate))
}

/// The server's own words, or the driver's.
pub(crate) fn source_of(error: sqlx::Error) -> Source {
    match error {
        sqlx::Error::Database(said) => Box::new(ServerSaid {
            sqlstate: said.code().unwrap_or_default().into_owned(),
            message: with_detail(&*said),
        }),
        sqlx::Error::Io(error) => Box::new(error),
        sqlx::Error::Tls(error) => error,
        other => Box::new(other),
    }
}

/// A statement on an open connection failed.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| match meaning_of(&error) {
        Some(Meaning::Conflict | Meaning::AlreadyThere) => {
            Error::Busy { doing, source: source_of(error) }
        }
        Some(Meaning::ReadOnly) => Error::InRecovery,
        Some(Meaning::NotAllowed) => Error::LacksRight {
            action: doing.to_owned(),
            remedy: "ALTER ROLE … CREATEROLE, or the grants that the bootstrap script lists"
                .to_owned(),
            source: Some(source_of(error)),
        },
        Some(Meaning::Away) | None if is_about_the_connection(&error) => {
            Error::ConnectionLost { doing, source: source_of(error) }
        }
        _ => Error::Failure { doing, source: source_of(error) },
    }
}

/// Did the connection fail, rather than the statement?
fn is_about_the_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(_) => meaning_of(error) == Some(Meaning::Away),
        _ => false,
    }
}

fn with_detail(said: &dyn sqlx::error::DatabaseError) -> String {
    let detail = said
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .and_then(sqlx::postgres::PgDatabaseError::detail);
    match detail {
        Some(detail) => format!("{}: {detail}", said.message()),
        None => said.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_are_told_apart() {
        for (sqlstate, expected) in [
            ("28P01", Meaning::SignInRefused),
            ("28000", Meaning::SignInRefused),
            ("3D000", Meaning::NoSuchDatabase),
            ("55000", Meaning::NotReady),
            ("25006", Meaning::ReadOnly),
            ("42501", Meaning::NotAllowed),
            ("2BP01", Meaning::StillNeeded),
            ("42P01", Meaning::NoSuchObject),
            ("23505", Meaning::AlreadyThere),
            ("40P01", Meaning::Conflict),
            ("40001", Meaning::Conflict),
            ("55P03", Meaning::Conflict),
            ("XX000", Meaning::Conflict),
            ("53300", Meaning::Away),
            ("57P03", Meaning::Away),
            ("08006", Meaning::Away),
            ("42601", Meaning::Other),
            ("", Meaning::Other),
        ] {
            assert_eq!(meaning(sqlstate), expected, "{sqlstate}");
        }
    }

    #[test]
    fn a_login_that_waits_for_a_client_is_tried_again() {
        let error = Error::SigningIn { role: "pgv_a".to_owned() };
        assert_eq!((error.code(), error.is_worth_retrying()), ("login_signing_in", true));
        assert!(!error.is_conflict(), "its caller comes back; the target is not asked at once");
    }

    #[test]
    fn a_lost_connection_is_tried_again_and_a_broken_answer_is_not() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(failed("look")(lost).is_worth_retrying());
        let broken = sqlx::Error::Protocol("nonsense".to_owned());
        let error = failed("look")(broken);
        assert_eq!((error.code(), error.is_worth_retrying()), ("target_failure", false));
    }
}
