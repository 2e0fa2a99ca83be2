//! Functions within everybody's reach that leave the database: to other servers, to the server's files
//! and programs, or to a time after the session.

use crate::{domain::diagnosis::Severity, target::checklist::Question};

/// Extensions that talk to other servers, each with functions that do.
const CONNECTING: &[&str] = &[
    "dblink",
    "postgres_fdw",
    "plproxy",
    "http",
    "pg_net",
    "pgsql_http",
    "aws_lambda",
    "aws_s3",
    "pg_curl",
];

/// Extensions that run a text as SQL: later, by themselves, or with the caller's rights.
const RUNNING: &[&str] = &["pg_cron", "pg_background", "pgagent", "tablefunc", "xml2", "plsh"];

/// Functions that read and write the server's files. PostgreSQL keeps them for superusers.
const FILES: &[&str] = &[
    "lo_import",
    "lo_export",
    "pg_read_file",
    "pg_read_file_v2",
    "pg_read_binary_file",
    "pg_ls_dir",
    "pg_stat_file",
    "pg_file_write",
    "pg_file_unlink",
    "pg_file_rename",
    "pg_file_read",
    "pg_file_sync",
    "pg_logdir_ls",
    "xp_cmdshell",
];

/// Functions of the extensions `$1` that everybody may call. They go by extension: some have dozens.
const OF_EXTENSIONS: &str = "\
SELECT format('%s (%s of its functions)', quote_ident(e.extname), count(*)) AS name,
       format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid)) AS mend
FROM pg_extension e
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
JOIN pg_proc p ON p.oid = d.objid
WHERE e.extname = ANY ($1)
  -- What a foreign data wrapper or a language consists of cannot be called.
  AND p.prorettype NOT IN ('fdw_handler'::regtype, 'language_handler'::regtype) AND p.proname NOT LIKE '%\\_validator'
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
GROUP BY e.extname";

pub(super) const QUESTIONS: [Question<'static>; 5] = [
    Question {
        check: "connecting_functions",
        severity: Severity::Risk,
        found: "everybody may call functions that connect to other servers",
        reason: "a login can carry data out with them, or come back in as somebody else",
        rows: OF_EXTENSIONS,
        words: Some(CONNECTING),
    },
    Question {
        check: "running_functions",
        severity: Severity::Note,
        found: "everybody may call functions that run a text as SQL",
        reason: "what looks at statements does not see it, and what is scheduled outlives the lease",
        rows: OF_EXTENSIONS,
        words: Some(RUNNING),
    },
    Question {
        check: "file_functions",
        severity: Severity::Critical,
        found: "everybody may call functions that read or write the server's files",
        reason: "who can write a file there runs programs there",
        rows: "\
SELECT p.oid::regprocedure::text AS name, format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure) AS mend
FROM pg_proc p
WHERE p.proname = ANY ($1)
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)",
        words: Some(FILES),
    },
    Question {
        check: "untrusted_functions",
        severity: Severity::Critical,
        found: "everybody may call functions in a language that nothing binds",
        reason: "they work as the server's own account: with its files and programs, and every database",
        rows: "\
SELECT format('%s (%s)', p.oid::regprocedure, l.lanname) AS name,
       format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', p.oid::regprocedure) AS mend
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c')
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)",
        words: None,
    },
    Question {
        check: "foreign_servers",
        severity: Severity::Risk,
        found: "everybody may use foreign servers, wrappers, or the passwords kept for them",
        reason: "a login can make foreign tables with them, and read and write elsewhere (file_fdw: files of this server)",
        rows: "\
SELECT format('server %I', s.srvname) AS name, format('REVOKE USAGE ON FOREIGN SERVER %I FROM PUBLIC', s.srvname) AS mend
FROM pg_foreign_server s WHERE EXISTS (SELECT FROM aclexplode(s.srvacl) a WHERE a.grantee = 0)
UNION ALL
SELECT format('wrapper %I', w.fdwname), format('REVOKE USAGE ON FOREIGN DATA WRAPPER %I FROM PUBLIC', w.fdwname)
FROM pg_foreign_data_wrapper w WHERE EXISTS (SELECT FROM aclexplode(w.fdwacl) a WHERE a.grantee = 0)
UNION ALL
SELECT format('user mapping of PUBLIC on %I', m.srvname), format('DROP USER MAPPING FOR PUBLIC SERVER %I', m.srvname)
FROM pg_user_mappings m WHERE m.umuser = 0",
        words: None,
    },
];
