//! What people get wrong with row-level security, each with the SQL that mends it: policies that show nothing,
//! that let rows be written for anybody, that trust what any session may set, and ways around all of them.

use std::collections::BTreeSet;

use sqlx::{FromRow, PgConnection, postgres::types::Oid};

use crate::{
    domain::{
        profile::ProfileSpec,
        rights::{
            grant::{Grant, Privilege},
            rls::Effect,
        },
    },
    target::{
        error::{self, Error},
        observe::Facts,
        policies::{
            difference, expressions,
            notes::Notes,
            seen::{Seen, Table},
            settings, statements,
            wanted::WantedTable,
        },
        sql,
    },
};

/// The first version whose views can run with the rights of whoever asks.
const VIEWS_HAVE_INVOKERS: i32 = 150_000;

const LOOK: &str = "look for ways around policies";

/// Finds it all.
pub(super) async fn warn(
    tx: &mut PgConnection,
    facts: &Facts,
    spec: &ProfileSpec,
    (seen, wanted): (&Seen, &[WantedTable<'_>]),
    notes: &mut Notes,
) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let (group, grants) = (spec.group_role(), spec.grants());
    for table in wanted {
        let after = after(spec.name.as_str(), table, seen);
        shows_nothing(table.table, &after, &group, notes);
        writes_anything(table.table, &after, (&group, &grants), notes);
        trusts_settings(table.table, &after, notes);
        about_owner(table, notes);
        unindexed(table, notes);
        truncates(table.table, (&group, &grants), notes);
    }
    let oids = difference::oids(wanted);
    functions(tx, &oids, notes).await?;
    views(tx, (&oids, seen.group), facts, (&group, &grants), notes).await?;
    bypasses(tx, &oids, notes).await?;
    partitions(tx, (&oids, seen.group), &group, notes).await
}

/// A policy as it is once the file is applied.
struct After<'a> {
    name: &'a str,
    effect: Effect,
    command: &'a str,
    holds: bool,
    using: Option<&'a str>,
    with_check: Option<&'a str>,
    /// The key of the file that it comes from.
    path: Option<&'a str>,
}

impl After<'_> {
    fn is_for(&self, commands: &[&str]) -> bool {
        commands.contains(&self.command)
    }

    /// What new rows must be like.
    fn check(&self) -> &str {
        self.with_check.or(self.using).unwrap_or("true")
    }
}

fn after<'a>(profile: &str, table: &'a WantedTable<'_>, seen: &'a Seen) -> Vec<After<'a>> {
    let stays = |comment: Option<&str>| {
        comment.and_then(statements::read_mark).is_none_or(|mark| mark.profile != profile)
    };
    let others =
        seen.policies_of(table.table.oid).filter(|policy| stays(policy.comment.as_deref()));
    let others = others.map(|policy| After {
        name: &policy.name,
        effect: if policy.is_permissive { Effect::Permissive } else { Effect::Restrictive },
        command: &policy.command,
        holds: policy.holds,
        using: policy.using.as_deref(),
        with_check: policy.with_check.as_deref(),
        path: None,
    });
    let ours = table.policies.iter().map(|policy| After {
        name: &policy.policy.name,
        effect: policy.written.effect,
        command: statements::command(policy.written.command).0,
        holds: policy.holds,
        using: policy.written.using.as_deref(),
        with_check: policy.written.with_check.as_deref(),
        path: Some(&policy.path),
    });
    others.chain(ours).collect()
}

fn shows_nothing(table: &Table, after: &[After<'_>], group: &str, notes: &mut Notes) {
    let shows = |p: &&After<'_>| p.effect == Effect::Permissive && p.is_for(&["*", "r"]);
    let mut held = after.iter().filter(|policy| policy.holds);
    if held.clone().any(|policy| shows(&policy)) {
        return;
    }
    let why = if held.any(|policy| policy.effect == Effect::Restrictive) {
        "has restrictive policies only, which take rows away and give none"
    } else {
        "has no policy that lets rows be read"
    };
    let quoted = statements::table(&table.schema, &table.name);
    notes.tell_with(
        format!(
            "{why}: `{group}` sees no rows; write one with `form = \"all-rows\"`, or whose rows it may see, which would"
        ),
        table.shown(),
        format!(
            "CREATE POLICY all_rows ON {quoted} FOR SELECT TO {} USING (true)",
            sql::identifier(group)
        ),
    );
}

/// What may be written need not be what may be read: a row that is open to all should not be anybody's to
/// write, and a new row with no wall around it may be put into somebody else's house. Where USING asks who it
/// is, it is the right check, too, and PostgreSQL takes it when WITH CHECK is missing.
fn writes_anything(
    table: &Table,
    after: &[After<'_>],
    (group, grants): (&str, &[Grant]),
    notes: &mut Notes,
) {
    let writes = [Privilege::Insert, Privilege::Update];
    if !table.group_writes && !covers(grants, &table.schema, &table.name, &writes) {
        return;
    }
    let asks = |policy: &After<'_>| expressions::asks_who(policy.check());
    for (command, words) in [("a", "added"), ("w", "changed")] {
        let held = || after.iter().filter(|policy| policy.holds && policy.is_for(&["*", command]));
        if held().any(|policy| policy.effect == Effect::Restrictive && asks(policy)) {
            continue;
        }
        for policy in held().filter(|p| p.effect == Effect::Permissive && !asks(p)) {
            let which = match (policy.with_check, policy.using) {
                (Some(_), _) => "its WITH CHECK does not ask who it is",
                (None, Some(_)) => "it has no WITH CHECK, and its USING does not ask who it is",
                (None, None) => "it has no WITH CHECK",
            };
            let quoted = statements::table(&table.schema, &table.name);
            notes.tell_with(
                format!(
                    "lets rows be {words} by `{group}` for anybody, because {which}: write `with_check`, which would"
                ),
                format!("policy `{}` on {}", policy.name, table.shown()),
                format!(
                    "ALTER POLICY {} ON {quoted} WITH CHECK (… = (SELECT pgvalet.claim('…')))",
                    sql::identifier(policy.name)
                ),
            );
        }
    }
}

fn trusts_settings(table: &Table, after: &[After<'_>], notes: &mut Notes) {
    for policy in after {
        for (key, clause, expression) in
            [("using", "USING", policy.using), ("with_check", "WITH CHECK", policy.with_check)]
        {
            let Some(expression) = expression.filter(|it| settings::trusts_setting(it)) else {
                continue;
            };
            let what = "trusts a setting that any session can set to anything (`SET app.…`)";
            let about = format!("policy `{}` on {}", policy.name, table.shown());
            match (settings::moved(expression), policy.path) {
                (None, _) => notes.tell(
                    format!("{what}: let it ask pgvalet.claim('…') in a sub-select instead"),
                    about,
                ),
                (Some(moved), Some(path)) => {
                    notes.tell(format!("{what}: write `{key} = '''{moved}'''` in {path}"), about);
                }
                (Some(moved), None) => {
                    let quoted = statements::table(&table.schema, &table.name);
                    let name = sql::identifier(policy.name);
                    notes.tell_with(
                        format!("{what}: give the profile such claims (`context`)"),
                        about,
                        format!("ALTER POLICY {name} ON {quoted} {clause} ({moved})"),
                    );
                }
            }
        }
    }
}

fn about_owner(wanted: &WantedTable<'_>, notes: &mut Notes) {
    let table = wanted.table;
    let quoted = statements::table(&table.schema, &table.name);
    if table.owner_is_superuser || table.owner_bypasses {
        notes.tell_with(
            format!("belongs to `{}`, whom no policy binds: if that is not meant", table.owner),
            table.shown(),
            format!("ALTER TABLE {quoted} OWNER TO …"),
        );
    } else if !wanted.is_forced && !table.is_forced {
        notes.tell_with(
            format!(
                "does not bind its owner `{}`, nor what runs with the owner's rights: leave `force = false` out, which would",
                table.owner
            ),
            table.shown(),
            statements::force(&quoted),
        );
    } else if !wanted.is_forced {
        notes.tell_with(
            format!(
                "binds its owner `{}` although the file says `force = false`: if that is meant",
                table.owner
            ),
            table.shown(),
            format!("ALTER TABLE {quoted} NO FORCE ROW LEVEL SECURITY"),
        );
    }
}

fn unindexed(wanted: &WantedTable<'_>, notes: &mut Notes) {
    let table = wanted.table;
    let unindexed = wanted.policies.iter().filter(|policy| policy.is_indexed == Some(false));
    let columns: BTreeSet<_> =
        unindexed.filter_map(|policy| policy.policy.column.as_deref()).collect();
    for column in columns {
        // An index on a partitioned table cannot be made concurrently.
        let how = if table.kind == "p" { "" } else { " CONCURRENTLY" };
        notes.tell_with(
            format!(
                "is filtered by `{column}`, and no index begins with that: once the table is large"
            ),
            table.shown(),
            format!(
                "CREATE INDEX{how} ON {} ({})",
                statements::table(&table.schema, &table.name),
                sql::identifier(column)
            ),
        );
    }
}

fn truncates(table: &Table, (group, grants): (&str, &[Grant]), notes: &mut Notes) {
    let may = covers(grants, &table.schema, &table.name, &[Privilege::Truncate]);
    if may || table.group_truncates {
        let quoted = statements::table(&table.schema, &table.name);
        notes.tell_with(
            format!("may be truncated by `{group}`, which no policy hinders: take `truncate` out of the grant, which would"),
            table.shown(),
            format!("REVOKE TRUNCATE ON {quoted} FROM {}", sql::identifier(group)),
        );
    }
}

/// Does some grant of the profile give one of these on the table?
fn covers(grants: &[Grant], schema: &str, name: &str, privileges: &[Privilege]) -> bool {
    grants.iter().any(|grant| {
        grant.schema.as_deref() == Some(schema)
            && grant.tables.as_ref().is_some_and(|tables| tables.covers(name))
            && grant.privileges.iter().any(|privilege| privileges.contains(privilege))
    })
}

#[derive(FromRow)]
struct Function {
    policy: String,
    table_name: String,
    function: String,
    is_volatile: bool,
    is_loose: bool,
}

// What PostgreSQL brings along is in no pg_depend.
const FUNCTIONS: &str = "\
SELECT DISTINCT p.polname::text AS policy, n.nspname || '.' || c.relname AS table_name,
       f.oid::regprocedure::text AS function, f.provolatile = 'v' AS is_volatile, loose.is_loose
FROM pg_policy p
JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
JOIN pg_proc f ON f.oid = d.refobjid
CROSS JOIN LATERAL (SELECT f.prosecdef AND NOT EXISTS (
    SELECT FROM unnest(f.proconfig) setting WHERE setting LIKE 'search_path=%') AS is_loose) loose
WHERE p.polrelid = ANY ($1) AND (f.provolatile = 'v' OR loose.is_loose)
  AND f.pronamespace <> coalesce(to_regnamespace('pgvalet')::oid, 0)
ORDER BY 2, 1, 3";

async fn functions(tx: &mut PgConnection, tables: &[Oid], notes: &mut Notes) -> Result<(), Error> {
    let found: Vec<Function> =
        sqlx::query_as(FUNCTIONS).bind(tables).fetch_all(tx).await.map_err(error::failed(LOOK))?;
    for Function { policy, table_name, function, is_volatile, is_loose } in found {
        let about = || format!("policy `{policy}` on {table_name}");
        if is_volatile {
            notes.tell_with(
                format!("calls `{function}`, which is VOLATILE and so is called for each row: if it changes nothing"),
                about(),
                format!("ALTER FUNCTION {function} STABLE"),
            );
        }
        if is_loose {
            notes.tell_with(
                format!("calls `{function}`, which is SECURITY DEFINER and looks names up where its caller says"),
                about(),
                format!("ALTER FUNCTION {function} SET search_path = pg_catalog, pg_temp"),
            );
        }
    }
    Ok(())
}

#[derive(FromRow)]
struct View {
    schema: String,
    name: String,
    is_view: bool,
    owner: String,
    on_table: String,
    group_reads: bool,
}

const VIEWS: &str = "\
WITH RECURSIVE above (table_oid, view_oid) AS (
    SELECT d.refobjid, r.ev_class
    FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> d.refobjid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1)
    UNION
    SELECT above.table_oid, r.ev_class
    FROM above JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = above.view_oid
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> d.refobjid
    WHERE d.classid = 'pg_rewrite'::regclass
)
SELECT n.nspname::text AS schema, v.relname::text AS name, v.relkind = 'v' AS is_view,
       pg_get_userbyid(v.relowner)::text AS owner,
       min(tn.nspname || '.' || t.relname) AS on_table,
       coalesce(has_any_column_privilege($2, v.oid, 'SELECT'), false) AS group_reads
FROM above JOIN pg_class v ON v.oid = view_oid JOIN pg_namespace n ON n.oid = v.relnamespace
JOIN pg_class t ON t.oid = table_oid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE v.relkind IN ('v', 'm')
  AND NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions)
                  WHERE option_name = 'security_invoker' AND option_value::boolean)
GROUP BY n.nspname, v.oid, v.relname, v.relkind, v.relowner
ORDER BY 1, 2";

async fn views(
    tx: &mut PgConnection,
    (tables, group_oid): (&[Oid], Option<Oid>),
    facts: &Facts,
    (group, grants): (&str, &[Grant]),
    notes: &mut Notes,
) -> Result<(), Error> {
    let found: Vec<View> = sqlx::query_as(VIEWS)
        .bind(tables)
        .bind(group_oid)
        .fetch_all(tx)
        .await
        .map_err(error::failed(LOOK))?;
    for View { schema, name, is_view, owner, on_table, group_reads } in found {
        if !group_reads && !covers(grants, &schema, &name, &[Privilege::Select]) {
            continue;
        }
        let quoted = statements::table(&schema, &name);
        let revoke = format!("REVOKE SELECT ON {quoted} FROM {}", sql::identifier(group));
        let (what, remedy) = if !is_view {
            (format!("holds what `{owner}` saw when it was refreshed, whoever reads it"), revoke)
        } else if facts.server.version_num >= VIEWS_HAVE_INVOKERS {
            let remedy = format!("ALTER VIEW {quoted} SET (security_invoker = true)");
            (format!("reads with the rights of its owner `{owner}`, whoever asks"), remedy)
        } else {
            let what = format!(
                "reads with the rights of its owner `{owner}`, whoever asks, as all views do before version 15"
            );
            (what, revoke)
        };
        notes.tell_with(
            format!("{what}: what `{group}` reads there, the policies on {on_table} do not bind as they bind `{group}`"),
            format!("{schema}.{name}"),
            remedy,
        );
    }
    Ok(())
}

const BYPASSES: &str = "\
SELECT r.rolname::text, min(n.nspname || '.' || c.relname), count(*)
FROM pg_roles r CROSS JOIN pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.rolbypassrls AND NOT r.rolsuper AND c.oid = ANY ($1)
  AND has_any_column_privilege(r.oid, c.oid, 'SELECT')
GROUP BY 1 ORDER BY 1";

async fn bypasses(tx: &mut PgConnection, tables: &[Oid], notes: &mut Notes) -> Result<(), Error> {
    let found: Vec<(String, String, i64)> =
        sqlx::query_as(BYPASSES).bind(tables).fetch_all(tx).await.map_err(error::failed(LOOK))?;
    for (role, table, count) in found {
        let tables = match count {
            1 => table,
            more => format!("{table} and {} more tables", more - 1),
        };
        notes.tell_with(
            format!("is bound by no policy (BYPASSRLS) and reads {tables}: if that is not meant"),
            format!("role `{role}`"),
            format!("ALTER ROLE {} NOBYPASSRLS", sql::identifier(&role)),
        );
    }
    Ok(())
}

const PARTITIONS: &str = "\
WITH RECURSIVE below (oid) AS (
    SELECT inhrelid FROM pg_inherits WHERE inhparent = ANY ($1)
    UNION
    SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.oid
)
SELECT n.nspname::text, c.relname::text
FROM below JOIN pg_class c ON c.oid = below.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT c.relrowsecurity AND NOT EXISTS (SELECT FROM unnest($1) named WHERE named = c.oid)
  AND (has_any_column_privilege($2, c.oid, 'SELECT, INSERT, UPDATE')
       OR has_table_privilege($2, c.oid, 'DELETE, TRUNCATE'))
ORDER BY 1, 2";

async fn partitions(
    tx: &mut PgConnection,
    (tables, group_oid): (&[Oid], Option<Oid>),
    group: &str,
    notes: &mut Notes,
) -> Result<(), Error> {
    let found: Vec<(String, String)> = sqlx::query_as(PARTITIONS)
        .bind(tables)
        .bind(group_oid)
        .fetch_all(tx)
        .await
        .map_err(error::failed(LOOK))?;
    for (schema, name) in found {
        let quoted = statements::table(&schema, &name);
        notes.tell_with(
            format!("is a partition that `{group}` may use by itself, past the policies of its parent: name it in `tables`, or take that away"),
            format!("{schema}.{name}"),
            format!("REVOKE ALL ON {quoted} FROM {}", sql::identifier(group)),
        );
    }
    Ok(())
}
