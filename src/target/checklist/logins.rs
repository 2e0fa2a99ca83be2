//! Who else can sign in to the server, and with which powers.

use sqlx::PgConnection;

use crate::{
    domain::diagnosis::{Finding, Severity},
    target::{
        checklist::{Question, ask},
        error::{self, Error},
    },
};

/// Roles that run programs or touch files of the server.
const SERVER_ROLES: &[&str] =
    &["pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"];

pub(super) const QUESTIONS: [Question<'static>; 6] = [
    Question {
        check: "superuser_logins",
        severity: Severity::Risk,
        found: "superusers that can sign in",
        reason: "no grant, policy or audit binds them: people and programs have leases for their work",
        rows: "\
SELECT quote_ident(rolname) AS name, format('ALTER ROLE %I NOSUPERUSER', rolname) AS mend
FROM pg_roles WHERE rolsuper AND rolcanlogin AND oid <> 10 AND rolname <> current_user",
        words: None,
    },
    Question {
        check: "bootstrap_superuser",
        severity: Severity::Note,
        found: "the server's own superuser can sign in",
        reason: "it is needed for repairs: keep its password for them, and let pg_hba.conf take it from this machine alone",
        // OID 10 is what initdb made. It cannot be without SUPERUSER.
        rows: "\
SELECT quote_ident(rolname) AS name, format('-- in pg_hba.conf: local all %I peer', rolname) AS mend
FROM pg_roles WHERE oid = 10 AND rolcanlogin AND rolname <> current_user",
        words: None,
    },
    Question {
        check: "bypassrls_logins",
        severity: Severity::Risk,
        found: "logins that no row policy holds for (BYPASSRLS)",
        reason: "they see the rows of all tenants",
        rows: "\
SELECT quote_ident(rolname) AS name, format('ALTER ROLE %I NOBYPASSRLS', rolname) AS mend
FROM pg_roles WHERE rolbypassrls AND rolcanlogin AND NOT rolsuper AND rolname <> current_user",
        words: None,
    },
    Question {
        check: "replication_logins",
        severity: Severity::Note,
        found: "logins that may copy the whole server (REPLICATION)",
        reason: "a standby or a backup needs one of its own; nobody else does",
        rows: "\
SELECT quote_ident(rolname) AS name, format('ALTER ROLE %I NOREPLICATION', rolname) AS mend
FROM pg_roles WHERE rolreplication AND rolcanlogin AND NOT rolsuper AND rolname <> current_user",
        words: None,
    },
    Question {
        check: "server_files",
        severity: Severity::Risk,
        found: "roles that may run programs on the server, or read and write its files",
        reason: "that is as much as a superuser has",
        rows: "\
SELECT format('%I (%s)', m.rolname, g.rolname) AS name, format('REVOKE %I FROM %I', g.rolname, m.rolname) AS mend
FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE g.rolname = ANY ($1) AND NOT m.rolsuper",
        words: Some(SERVER_ROLES),
    },
    Question {
        check: "no_expiry",
        severity: Severity::Note,
        found: "logins that never expire",
        reason: "a password that somebody copied works until it is changed; a lease ends by itself",
        // Our own logins are told by name; that of the server itself is told of above.
        rows: "\
SELECT quote_ident(rolname) AS name,
       format('ALTER ROLE %I VALID UNTIL %L', rolname, (now() + interval '90 days')::date) AS mend
FROM pg_roles
WHERE rolcanlogin AND oid <> 10 AND coalesce(rolvaliduntil, 'infinity') = 'infinity'
  AND rolname <> current_user AND rolname NOT LIKE 'pgv\\_%'",
        words: None,
    },
];

const MD5: Question<'static> = Question {
    check: "md5_passwords",
    severity: Severity::Risk,
    found: "logins with a password that is kept as md5",
    reason: "who reads such a hash, in a backup for example, signs in with it; set the passwords again as scram-sha-256",
    rows: "\
SELECT quote_ident(rolname) AS name,
       format('SET password_encryption = ''scram-sha-256''; -- then in psql: \\password %I', rolname) AS mend
FROM pg_authid WHERE rolpassword LIKE 'md5%'",
    words: None,
};

/// How passwords are kept: for a superuser to see, or for whoever was let.
pub(super) async fn about_passwords(
    connection: &mut PgConnection,
    admin: &str,
) -> Result<Finding, Error> {
    let may_see: bool = sqlx::query_scalar("SELECT has_table_privilege('pg_authid', 'SELECT')")
        .fetch_one(&mut *connection)
        .await
        .map_err(error::failed("say whether passwords may be looked at"))?;
    if may_see {
        let found = ask(connection, &MD5).await?;
        return Ok(found.unwrap_or_else(|| Finding::good(MD5.check, "no password is kept as md5")));
    }
    let found = format!(
        "how passwords are kept could not be seen by `{admin}`, which is as it should be: let a superuser run the query"
    );
    let mend = "SELECT rolname FROM pg_authid WHERE rolpassword LIKE 'md5%'".to_owned();
    Ok(Finding::bad(MD5.check, Severity::Note, found, mend))
}
