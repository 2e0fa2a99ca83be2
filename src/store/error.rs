//! What our database can answer instead of a row.

use std::io;

use crate::{domain::lease::Unknown, gather::NotDone};

/// What our database can answer instead of a row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database does not answer, or no connection came free in time.
    #[error("the state database does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// Another transaction won; the same work may succeed when run again.
    #[error("lost a race with another transaction")]
    LostRace(#[source] sqlx::Error),
    /// A rule of the schema was not met.
    #[error("the state database refused the change: constraint `{constraint}`")]
    Constraint {
        /// Its name.
        constraint: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// A move found the row in another state than the one it leaves.
    #[error("expected to change one row, changed {0}")]
    NotOneRow(u64),
    /// A sealed value could not be opened.
    #[error("could not open a sealed value")]
    Seal(#[from] crate::store::seal::Error),
    /// The database holds what this release does not know.
    #[error("the state database holds a value that this release does not know")]
    Unknown(#[from] Unknown),
    /// A value that should have a textual form of ours has none.
    #[error("the state database holds an unreadable {0}")]
    Unreadable(&'static str),
    /// The schema is not the one that this release works on.
    #[error("the state database's schema is not this release's: run `pgvalet migrate`")]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// A text holds what PostgreSQL cannot: a zero byte.
    #[error("a text holds a zero byte")]
    ZeroByte(#[source] sqlx::Error),
    /// More is asked for at once than waits in any hope.
    #[error("too many requests wait for the state database")]
    Crowded,
    /// Anything else.
    #[error("the state database failed")]
    Database(#[source] sqlx::Error),
}

impl Error {
    /// Did this very rule of the schema refuse the change?
    #[must_use]
    pub fn is_constraint(&self, name: &str) -> bool {
        matches!(self, Self::Constraint { constraint, .. } if constraint == name)
    }

    /// The same failure for each of those who shared a statement.
    pub(in crate::store) fn for_each_of<T>(self, count: usize) -> Vec<Result<T, Self>> {
        let text = self.to_string();
        let shared = || match &self {
            Self::Unavailable(e) => {
                Self::Unavailable(sqlx::Error::Io(io::Error::other(e.to_string())))
            }
            _ => Self::Database(sqlx::Error::Io(io::Error::other(text.clone()))),
        };
        let mut all: Vec<_> = (1..count).map(|_| Err(shared())).collect();
        all.push(Err(self));
        all
    }
}

impl From<NotDone> for Error {
    fn from(why: NotDone) -> Self {
        match why {
            NotDone::Full => Self::Crowded,
            NotDone::BrokenOff => Self::Unavailable(sqlx::Error::WorkerCrashed),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(e: sqlx::Error) -> Self {
        if let Some(database) = e.as_database_error() {
            let code = database.code().unwrap_or_default();
            let constraint = database.constraint().map(str::to_owned);
            // SQLSTATE classes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
            return match (code.as_ref(), constraint) {
                ("40001" | "40P01" | "55P03", _) => Self::LostRace(e),
                ("22021" | "22P05", _) => Self::ZeroByte(e),
                // Too slow; a standby, as after a failover; a disk that fails.
                ("57014" | "25006" | "58030", _) => Self::Unavailable(e),
                // Stopping or starting; no connection; out of connections, memory, or room on the disk.
                (code, _) if ["57P", "08", "53"].iter().any(|class| code.starts_with(class)) => {
                    Self::Unavailable(e)
                }
                (code, Some(constraint)) if code.starts_with("23") => {
                    Self::Constraint { constraint, source: e }
                }
                _ => Self::Database(e),
            };
        }
        match e {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(e),
            other => Self::Database(other),
        }
    }
}
