//! Prepared transactions (`PREPARE TRANSACTION`): they outlive their session, hold its locks, and may
//! be finished only by the role that prepared them or a superuser. Whether one is to be committed is
//! known to whoever coordinates it, so we name them and never finish one.

use std::fmt;

use sqlx::{FromRow, PgConnection};

use crate::target::{
    error::{self, Error},
    sql,
};

/// A prepared transaction.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct Prepared {
    gid: String,
    owner: String,
    pub(crate) database: String,
}

impl fmt::Display for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gid, owner, database } = self;
        let finish = sql::rollback_prepared(gid);
        write!(
            f,
            "a prepared transaction of `{owner}` in database `{database}` (let a superuser run `{finish}` there, or commit it)"
        )
    }
}

/// Those of the named roles. A session that had become its group prepared in the group's name.
pub(crate) async fn of(
    connection: &mut PgConnection,
    owners: &[&str],
) -> Result<Vec<Prepared>, Error> {
    const PREPARED: &str = "\
SELECT gid, owner::text, database::text FROM pg_prepared_xacts
WHERE owner = ANY ($1) ORDER BY prepared, gid LIMIT 20";
    sqlx::query_as(PREPARED)
        .bind(owners)
        .fetch_all(connection)
        .await
        .map_err(error::failed("look for prepared transactions"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_run_is_quoted() {
        let prepared = Prepared {
            gid: "it's".to_owned(),
            owner: "pgv_a".to_owned(),
            database: "shop".to_owned(),
        };
        assert!(prepared.to_string().contains("run `ROLLBACK PREPARED 'it''s'` there"));
    }
}
