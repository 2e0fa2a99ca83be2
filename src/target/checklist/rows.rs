//! Row-level security: where it lacks, and where it can be got round.

use sqlx::{FromRow, PgConnection};

use crate::{
    domain::diagnosis::{Finding, Severity},
    target::{
        checklist::{MOST_NAMES, OURS, Question},
        error::Error,
        policies::settings::{moved, trusts_setting},
    },
};

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

pub(super) const QUESTIONS: [Question<'static>; 3] = [
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
];

const FORGEABLE: Question<'static> = Question {
    check: "forgeable_policies",
    severity: Severity::Critical,
    found: "policies that believe a setting which each session may set",
    reason: "one line (`SET app.tenant_id = …`, or set_config in a DO block) shows another tenant's rows: let them ask pgvalet.claim(…), which answers by session_user",
    // Policies that read a setting, themselves or in the text of a function that they call. Which setting, and
    // what stands in its place, is read from the expression.
    rows: "\
SELECT format('%I ON %I.%I', p.polname, n.nspname, c.relname) AS name, e.qual, e.checks,
       EXISTS (SELECT FROM pg_depend d JOIN pg_proc x ON x.oid = d.refobjid
               WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
                 AND x.prosrc ~* 'current_setting\\s*\\(\\s*''[a-z_][a-z0-9_]*\\.') AS by_function
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
     LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) e (qual, checks)
WHERE n.nspname NOT IN {ours}
ORDER BY 1",
    words: None,
};

#[derive(FromRow)]
struct Policy {
    name: String,
    qual: Option<String>,
    checks: Option<String>,
    by_function: bool,
}

impl Policy {
    fn is_forgeable(&self) -> bool {
        let expressions = [&self.qual, &self.checks].into_iter().flatten();
        self.by_function || expressions.into_iter().any(|text| trusts_setting(text))
    }

    /// The policy with claims in the place of settings; or what a person has to do.
    fn mend(&self) -> String {
        let by_hand = || {
            format!(
                "-- let policy {}, or the function that it calls, ask pgvalet.claim(…)",
                self.name
            )
        };
        let mut mended = String::new();
        for (clause, expression) in [("USING", &self.qual), ("WITH CHECK", &self.checks)] {
            let Some(text) = expression.as_deref().filter(|text| trusts_setting(text)) else {
                continue;
            };
            let Some(moved) = moved(text) else { return by_hand() };
            mended.push_str(&format!(" {clause} ({moved})"));
        }
        if mended.is_empty() { by_hand() } else { format!("ALTER POLICY {}{mended}", self.name) }
    }
}

/// Policies that believe what a session says of itself.
pub(super) async fn about_forgeable_policies(
    connection: &mut PgConnection,
) -> Result<Option<Finding>, Error> {
    let query = sqlx::AssertSqlSafe(FORGEABLE.rows.replace("{ours}", OURS));
    let policies: Vec<Policy> = match sqlx::query_as(query).fetch_all(connection).await {
        Ok(policies) => policies,
        Err(error) => return FORGEABLE.not_looked_at(error).map(Some),
    };
    let forgeable: Vec<&Policy> = policies.iter().filter(|policy| policy.is_forgeable()).collect();
    let told = forgeable.iter().take(MOST_NAMES);
    let (names, mends) = told.map(|policy| (policy.name.clone(), policy.mend())).unzip();
    Ok(FORGEABLE.told(forgeable.len(), names, mends))
}
