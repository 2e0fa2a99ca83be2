//! What must hold of logins that were just made, asked in the round trip that makes them: a statement
//! that fails where it does not hold, so that nothing of the batch is kept.
//!
//! It is prepared once for each connection; planned anew each time it would cost as much as a login.

use sqlx::{PgConnection, Row};

use crate::{
    domain::role::GROUP_PREFIX,
    target::{
        connect::run,
        observe::POWERFUL,
        sql::{self, CONNECT_PREFIX},
    },
};

/// The logins are as they were asked for, and their groups hold grants and nothing more
/// ([`crate::target::observe::safe_group`] says why for each). Each row is looked up by itself: a planner
/// that joins reads all roles. Where that is not so, a division by
/// zero ends the transaction: SQL has no other way to fail without a procedural language.
const LOOK: &str = "
WITH RECURSIVE asked AS (
    SELECT role, group_role, place FROM unnest($1, $2) WITH ORDINALITY AS a (role, group_role, place)
), reached (origin, oid) AS (
    SELECT oid, oid FROM pg_roles WHERE rolname = ANY ($2)
    UNION
    SELECT reached.origin, m.roleid
    FROM reached, LATERAL (SELECT roleid FROM pg_auth_members WHERE member = reached.oid OFFSET 0) m
), too_mighty AS (
    SELECT FROM reached, LATERAL (SELECT * FROM pg_roles WHERE oid = reached.oid OFFSET 0) r,
                         LATERAL (SELECT * FROM pg_roles WHERE oid = reached.origin OFFSET 0) g
    WHERE r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
       OR r.rolname = ANY (ARRAY[{powerful}])
       OR (r.oid = g.oid AND r.rolcanlogin)
       OR (r.oid <> g.oid AND (starts_with(g.rolname, {group}) OR starts_with(g.rolname, {connect})))
       OR (SELECT true FROM pg_shdepend d
           WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o'
             AND d.classid <> 'pg_user_mapping'::regclass LIMIT 1)
), sound AS (
    SELECT asked.place, r.oid
    FROM asked, LATERAL (SELECT * FROM pg_roles WHERE rolname = asked.role OFFSET 0) r,
                LATERAL (SELECT * FROM pg_roles WHERE rolname = asked.group_role OFFSET 0) g
    WHERE r.rolcanlogin
      AND NOT (r.rolinherit OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
      AND (SELECT count(*) = 1 AND bool_and(m.roleid = g.oid AND NOT m.admin_option)
           FROM pg_auth_members m WHERE m.member = r.oid)
      AND has_database_privilege(r.oid, current_database(), 'CONNECT')
)
SELECT 1 / CASE WHEN (SELECT count(*) FROM sound) = cardinality($1) AND NOT EXISTS (SELECT FROM too_mighty)
                     AND pg_has_role('pg_signal_backend', 'USAGE') THEN 1 ELSE 0 END AS holds,
       (SELECT string_agg(oid::text, ',' ORDER BY place) FROM sound) AS oids";

/// Prepares a connection for [`look`], with a plan that goes by the indexes. One made while there were few
/// roles would read all of them each time, however many they have become.
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let powerful = POWERFUL.map(sql::literal).join(", ");
    let look = LOOK
        .replace("{powerful}", &powerful)
        .replace("{group}", &sql::literal(GROUP_PREFIX))
        .replace("{connect}", &sql::literal(CONNECT_PREFIX));
    let statements = format!(
        "SET enable_seqscan = off;PREPARE pgvalet_sound (text[], text[]) AS {look};\
         EXPLAIN EXECUTE pgvalet_sound ('{{}}', '{{}}');RESET enable_seqscan"
    );
    run(connection, &statements).await
}

/// The statement that fails unless all of these logins, each with its group, are sound.
pub(crate) fn look<'a>(logins: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let array = |names: Vec<String>| format!("ARRAY[{}]::text[]", names.join(","));
    let roles = logins.clone().map(|(role, _)| sql::literal(role)).collect();
    let groups = logins.map(|(_, group)| sql::literal(group)).collect();
    format!("EXECUTE pgvalet_sound ({}, {})", array(roles), array(groups))
}

/// Runs statements that make logins and end with a [`look`], as one transaction in one round trip:
/// what is sent together without BEGIN is committed together at its end
/// (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT>).
/// Gives the OIDs, in the order of the look.
pub(crate) async fn make(
    connection: &mut PgConnection,
    statements: &str,
) -> Result<Vec<u32>, sqlx::Error> {
    if !sql::is_sendable(statements) {
        return Err(sqlx::Error::Protocol("a zero byte in a statement".to_owned()));
    }
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).fetch_all(connection).await?;
    let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
    let oids: String = row.try_get("oids")?;
    let read = |oid: &str| oid.parse().map_err(|_| sqlx::Error::Protocol("no OID".to_owned()));
    oids.split(',').map(read).collect()
}
