//! Row-level security: where it lacks, and where it can be got round.

use crate::{domain::diagnosis::Severity, target::checklist::Question};

/// Columns by which rows belong to one of several customers. A table that has one and no row policies
/// is left to the care of every query.
const TENANT_COLUMNS: &[&str] = &[
    "tenant_id",
    "tenant",
    "org_id",
    "organization_id",
    "organisation_id",
    "account_id",
    "customer_id",
    "company_id",
    "workspace_id",
];

/// A setting with a dot in its name, which each session may set to what it likes.
const FORGEABLE: &[&str] = &[r"current_setting\s*\(\s*'[a-z_][a-z0-9_]*\."];

pub(super) const QUESTIONS: [Question<'static>; 4] = [
    Question {
        check: "tenants_unwalled",
        severity: Severity::Risk,
        found: "tables with a column that says whose a row is, and no row-level security",
        reason: "whoever may read such a table reads every tenant's rows",
        rows: "\
SELECT format('%I.%I (%s)', n.nspname, c.relname, string_agg(quote_ident(a.attname), ', ')) AS name,
       format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY /* nobody sees a row until there are policies: [[profile.NAME.rls]] */', n.nspname, c.relname) AS mend
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attname = ANY ($1) AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND NOT c.relrowsecurity AND c.relpersistence <> 't' AND n.nspname NOT IN {ours}
GROUP BY n.nspname, c.relname",
        words: Some(TENANT_COLUMNS),
    },
    Question {
        check: "rls_not_forced",
        severity: Severity::Risk,
        found: "tables whose row-level security does not hold for their owner",
        reason: "whoever works as the owner, a view or a SECURITY DEFINER function of theirs included, sees every row",
        rows: "\
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', n.nspname, c.relname) AS mend
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relrowsecurity AND NOT c.relforcerowsecurity AND n.nspname NOT IN {ours}",
        words: None,
    },
    Question {
        check: "rls_off_with_policies",
        severity: Severity::Critical,
        found: "tables with policies that do not hold, because row-level security is off",
        reason: "somebody wrote them, and thinks that they do",
        rows: "\
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', n.nspname, c.relname) AS mend
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT c.relrowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)",
        words: None,
    },
    Question {
        check: "forgeable_policies",
        severity: Severity::Critical,
        found: "policies that believe a setting which each session may set",
        reason: "one line (`SET app.tenant_id = …`, or set_config in a DO block) shows another tenant's rows: let them ask pgvalet.claim(…), which answers by session_user",
        // In the policy itself, or in the text of a function that it calls. `app.tenant_id` is a claim of that
        // name; `request.jwt.claims` is JSON, whose parts a person has to name.
        rows: "\
SELECT format('%I ON %I.%I', p.polname, n.nspname, c.relname) AS name,
       CASE WHEN concat(e.qual, ' ', e.checks) ~* t.call AND concat(i.qual, ' ', i.checks) !~* f.forgeable
            THEN format('ALTER POLICY %I ON %I.%I%s%s', p.polname, n.nspname, c.relname,
                        ' USING (' || i.qual || ')', ' WITH CHECK (' || i.checks || ')')
            ELSE format('-- let policy %I ON %I.%I, or the function that it calls, ask pgvalet.claim(…)',
                        p.polname, n.nspname, c.relname) END AS mend
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
     LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) e (qual, checks),
     LATERAL (SELECT $1[1]) f (forgeable),
     (VALUES ('current_setting\\(''[a-z_][a-z0-9_]*\\.([a-z0-9_]+)''::text(, (true|false))?\\)', 'pgvalet.claim(''\\1'')')) t (call, instead),
     LATERAL (SELECT regexp_replace(e.qual, t.call, t.instead, 'gi'), regexp_replace(e.checks, t.call, t.instead, 'gi')) i (qual, checks)
WHERE concat(e.qual, ' ', e.checks) ~* f.forgeable
   OR EXISTS (SELECT FROM pg_depend d JOIN pg_proc x ON x.oid = d.refobjid
              WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
                AND x.prosrc ~* f.forgeable)",
        words: Some(FORGEABLE),
    },
];
