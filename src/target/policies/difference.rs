//! What differs between the policies that a file asks for and those that are there, as SQL. No question is
//! asked here.

use std::collections::BTreeSet;

use sqlx::postgres::types::Oid;

use crate::{
    domain::rights::rls::Effect,
    target::{
        observe::Facts,
        policies::{
            notes::Notes,
            seen::{Policy, Seen, Table},
            statements::{self, Made, Mark},
            wanted::{Faults, WantedPolicy, WantedTable},
        },
        sql,
    },
};

/// What differs.
#[derive(Default)]
pub(super) struct Difference {
    /// In the order in which they run; without the marks.
    pub(super) statements: Vec<String>,
    /// To be marked after that.
    pub(super) made: Vec<Made>,
    /// What is to be made, as places in the list of wanted tables and of each one's policies.
    pub(super) new: Vec<(usize, usize)>,
}

/// Finds it.
pub(super) fn difference(
    profile: &str,
    wanted: &[WantedTable<'_>],
    (seen, facts): (&Seen, &Facts),
    faults: &mut Faults,
    notes: &mut Notes,
) -> Difference {
    let mut difference = Difference::default();
    for (n, table) in wanted.iter().enumerate() {
        let before = difference.statements.len();
        let quoted = statements::table(&table.table.schema, &table.table.name);
        if !table.table.is_enabled {
            difference.statements.push(statements::enable(&quoted));
        }
        if table.is_forced && !table.table.is_forced {
            difference.statements.push(statements::force(&quoted));
        }
        leave(profile, table.table, &table.policies, seen, &mut difference, notes);
        for (k, policy) in table.policies.iter().enumerate() {
            let said = statements::hash(&policy.statement);
            let there = seen.policies_of(table.table.oid).find(|p| p.name == policy.policy.name);
            if let Some(there) = there {
                let shown = table.table.shown();
                match whose(profile, there) {
                    Err(fault) => {
                        let message =
                            format!("{shown} has a policy `{}` already, {fault}", there.name);
                        faults.tell(format!("{}.name", policy.path), message);
                        continue;
                    }
                    Ok(mark) if mark.said == said => match by_hand(policy, there, &mark) {
                        None => continue,
                        Some(what) => notes.tell(
                            format!("was changed by hand ({what}) and is made anew"),
                            format!("policy `{}` on {shown}", there.name),
                        ),
                    },
                    Ok(_) => {}
                }
                difference.statements.push(statements::drop_policy(&there.name, &quoted));
            }
            difference.statements.push(policy.statement.clone());
            let name = policy.policy.name.clone();
            difference.made.push(Made { table: quoted.clone(), name, said });
            difference.new.push((n, k));
        }
        if difference.statements.len() > before && !table.table.is_ours {
            faults.tell(format!("{}.tables", table.path), not_ours(table.table, facts));
        }
    }
    leave_the_rest(profile, wanted, seen, &mut difference, notes);
    difference
}

/// Whose a policy is that is there already; if not the profile's, what to do.
fn whose<'a>(profile: &str, there: &'a Policy) -> Result<Mark<'a>, String> {
    match there.comment.as_deref().and_then(statements::read_mark) {
        Some(mark) if mark.profile == profile => Ok(mark),
        Some(mark) => Err(format!(
            "which is profile `{}`'s: take another name, or leave it out of that profile first",
            mark.profile
        )),
        None => Err("which is not pgvalet's: take another name, or drop that one".to_owned()),
    }
}

/// In what a policy of ours differs from what we made; none if in nothing.
fn by_hand(wanted: &WantedPolicy<'_>, there: &Policy, mark: &Mark<'_>) -> Option<String> {
    let is_permissive = wanted.written.effect == Effect::Permissive;
    let differs = [
        ("effect", there.is_permissive != is_permissive),
        ("command", there.command != statements::command(wanted.written.command).0),
        ("roles", there.roles != wanted.roles),
        ("expressions", there.fingerprint != mark.fingerprint),
    ];
    let differs: Vec<_> =
        differs.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect();
    (!differs.is_empty()).then(|| format!("its {}", differs.join(", ")))
}

/// Drops what the profile made on a table and asks for no more.
fn leave(
    profile: &str,
    table: &Table,
    keep: &[WantedPolicy<'_>],
    seen: &Seen,
    difference: &mut Difference,
    notes: &mut Notes,
) {
    let quoted = statements::table(&table.schema, &table.name);
    for policy in seen.policies_of(table.oid) {
        let is_kept = keep.iter().any(|kept| kept.policy.name == policy.name);
        if is_kept || whose(profile, policy).is_err() {
            continue;
        }
        let drop = statements::drop_policy(&policy.name, &quoted);
        if table.is_ours {
            difference.statements.push(drop);
        } else {
            notes.tell_with(
                format!(
                    "is asked for no more, but our admin may not act for the owner `{}`",
                    table.owner
                ),
                format!("policy `{}` on {}", policy.name, table.shown()),
                drop,
            );
        }
    }
}

/// The same on tables that the profile does not name any more. Row-level security stays on: without our
/// policies fewer rows are seen than before, and with it off all of them would be.
fn leave_the_rest(
    profile: &str,
    wanted: &[WantedTable<'_>],
    seen: &Seen,
    difference: &mut Difference,
    notes: &mut Notes,
) {
    let named: BTreeSet<u32> = wanted.iter().map(|table| table.table.oid.0).collect();
    let is_left = |table: &&Table| !named.contains(&table.oid.0);
    for table in seen.tables.iter().filter(is_left) {
        let ours =
            seen.policies_of(table.oid).filter(|policy| whose(profile, policy).is_ok()).count();
        if ours == 0 {
            continue;
        }
        leave(profile, table, &[], seen, difference, notes);
        let others = seen.policies_of(table.oid).count() - ours;
        let quoted = statements::table(&table.schema, &table.name);
        let seen_by = if others == 0 {
            ", and shows no rows to anybody but whom it does not bind"
        } else {
            ""
        };
        notes.tell_with(
            format!(
                "is no longer named: its row-level security stays on{seen_by}; if that is not meant"
            ),
            table.shown(),
            format!("ALTER TABLE {quoted} DISABLE ROW LEVEL SECURITY"),
        );
    }
}

fn not_ours(table: &Table, facts: &Facts) -> String {
    if table.owner_is_superuser {
        return format!(
            "{} belongs to the superuser `{}`, for whom our admin must not act: give it another owner (`ALTER TABLE {} OWNER TO …`), or leave it out",
            table.shown(),
            table.owner,
            statements::table(&table.schema, &table.name)
        );
    }
    let remedy = sql::let_admin_act_for(&table.owner, &facts.admin, facts.server.version_num);
    format!(
        "our admin may not act for `{}`, the owner of {}: let a superuser run `{remedy}`",
        table.owner,
        table.shown()
    )
}

/// The tables that the file asks something for.
pub(super) fn oids(wanted: &[WantedTable<'_>]) -> Vec<Oid> {
    wanted.iter().map(|table| table.table.oid).collect()
}
