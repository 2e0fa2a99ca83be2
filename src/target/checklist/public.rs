//! What everybody may do because it was given to PUBLIC. What concerns connecting, temporary tables and
//! schema `public` is asked in `hardening.rs`.

use crate::{domain::diagnosis::Severity, target::checklist::Question};

pub(super) const QUESTIONS: [Question<'static>; 5] = [
    Question {
        check: "public_create",
        severity: Severity::Risk,
        found: "everybody may make tables and functions in schemas",
        reason: "each login can leave objects there that others come to use",
        rows: "\
SELECT quote_ident(n.nspname) AS name, format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname) AS mend
FROM pg_namespace n
WHERE n.nspname <> 'public' AND n.nspname NOT IN {ours}
  AND EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')",
        words: None,
    },
    Question {
        check: "public_functions",
        severity: Severity::Risk,
        found: "everybody may call volatile SECURITY DEFINER functions",
        reason: "each login works with their owners' rights there; PostgreSQL gives EXECUTE to PUBLIC unless told otherwise",
        rows: "\
SELECT p.oid::regprocedure::text AS name, format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', p.oid::regprocedure) AS mend
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND p.provolatile = 'v' AND n.nspname NOT IN {ours}
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
              WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE')",
        words: None,
    },
    Question {
        check: "definer_search_path",
        severity: Severity::Risk,
        found: "SECURITY DEFINER functions find names by the caller's search_path",
        reason: "a caller can put a table or an operator of their own before the one that is meant, and have it used with the owner's rights",
        rows: "\
SELECT p.oid::regprocedure::text AS name,
       format('ALTER ROUTINE %s SET search_path = pg_catalog, %I, pg_temp', p.oid::regprocedure, n.nspname) AS mend
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND n.nspname NOT IN {ours}
  AND p.prolang NOT IN (SELECT oid FROM pg_language WHERE lanname IN ('internal', 'c'))
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search\\_path=%')
  -- A body that was parsed when it was made (BEGIN ATOMIC) finds nothing by name any more.
  AND p.prosrc <> ''",
        words: None,
    },
    Question {
        check: "public_tables",
        severity: Severity::Risk,
        found: "everybody has privileges on tables",
        reason: "each login has them, whatever its profile says",
        rows: "\
SELECT name, format('REVOKE ALL%s ON %s FROM PUBLIC', max(columns), name) AS mend FROM (
    SELECT format('%I.%I', n.nspname, c.relname) AS name, NULL AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relacl IS NOT NULL AND n.nspname NOT IN {ours}
      AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('%I.%I', n.nspname, c.relname), format(' (%s)', string_agg(quote_ident(t.attname), ', ' ORDER BY t.attnum))
    FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.attacl IS NOT NULL AND NOT t.attisdropped AND n.nspname NOT IN {ours}
      AND EXISTS (SELECT FROM aclexplode(t.attacl) a WHERE a.grantee = 0)
    GROUP BY c.oid, n.nspname, c.relname
) t GROUP BY name",
        words: None,
    },
    Question {
        check: "public_defaults",
        severity: Severity::Risk,
        found: "everybody gets privileges on what these roles make later",
        reason: "each login has them, whatever its profile says",
        rows: "\
SELECT format('%I%s (%s)', r.rolname, ' in ' || quote_ident(n.nspname), k.kind) AS name,
       format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM PUBLIC',
              r.rolname, ' IN SCHEMA ' || quote_ident(n.nspname), k.kind) AS mend
FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace,
     LATERAL (SELECT CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' ELSE 'SCHEMAS' END) k (kind)
WHERE d.defaclobjtype IN ('r', 'S', 'n') AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee = 0)",
        words: None,
    },
];
