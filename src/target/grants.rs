//! A profile's group role and what it is granted: the difference between what the profile says and
//! what is there, as SQL.
//!
//! Nothing is granted that is there already, so that a second run is empty, and what runs is exactly
//! what was shown. Grants are made object by object: `ON ALL TABLES` fails as a whole when one table
//! belongs to somebody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sqlx::{Connection, PgConnection};

use crate::{
    domain::profile::{Preset, ProfileSpec},
    target::{
        Prepared,
        connect::{Connections, Patience, run},
        context,
        error::{self, Error},
        observe::{self, Facts},
        policies,
        privileges::{self, ObjectSeen, SchemaSeen, Seen},
        sql::{self, Kind, Way},
    },
};

/// Tables in one statement: few enough to be read, and to stay far from any limit.
const OBJECTS_IN_ONE: usize = 100;

/// Names in one note.
const NAMES_IN_ONE: usize = 5;

/// Another transaction in the way is gone within this time, or the caller tries again later.
const CONFLICT_TIME: Duration = Duration::from_secs(6);

const PREPARE: &str = "prepare a profile";

/// What would be run.
pub(crate) async fn plan(connections: &Connections, spec: &ProfileSpec) -> Result<Prepared, Error> {
    let (mut connection, facts) = connections.to_change(&spec.database).await?;
    let mut tx = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await
        .map_err(error::failed(PREPARE))?;
    let planned = difference(&mut tx, &facts, spec).await?;
    tx.rollback().await.map_err(error::failed(PREPARE))?;
    Ok(planned)
}

/// Runs it.
pub(crate) async fn prepare(
    connections: &Connections,
    spec: &ProfileSpec,
) -> Result<Prepared, Error> {
    let mut patience = Patience::lasting(CONFLICT_TIME);
    loop {
        match prepare_once(connections, spec).await {
            Err(error) if error.is_conflict() && patience.wait().await => {}
            outcome => return outcome,
        }
    }
}

async fn prepare_once(connections: &Connections, spec: &ProfileSpec) -> Result<Prepared, Error> {
    let (mut connection, facts) = connections.to_change(&spec.database).await?;
    let mut tx = connection.begin().await.map_err(error::failed(PREPARE))?;
    let planned = difference(&mut tx, &facts, spec).await?;
    for statement in &planned.statements {
        run(&mut tx, statement).await.map_err(error::failed(PREPARE))?;
    }
    if !planned.statements.is_empty() {
        // A GRANT that may not, only warns.
        let left = difference(&mut tx, &facts, spec).await?.statements;
        if let Some(first) = left.first() {
            return Err(Error::GrantsWithoutEffect { left: left.len(), first: first.clone() });
        }
    }
    tx.commit().await.map_err(error::failed(PREPARE))?;
    Ok(planned)
}

/// All that the profile says, less what is there.
async fn difference(
    tx: &mut PgConnection,
    facts: &Facts,
    spec: &ProfileSpec,
) -> Result<Prepared, Error> {
    let mut prepared = granted(tx, facts, spec).await?;
    let policies = policies::difference(tx, facts, spec).await?;
    if !policies.faults.is_empty() {
        return Err(Error::Unfit { faults: policies.faults });
    }
    prepared.statements.extend(policies.statements);
    prepared.notes.extend(policies.notes);
    Ok(prepared)
}

async fn granted(
    tx: &mut PgConnection,
    facts: &Facts,
    spec: &ProfileSpec,
) -> Result<Prepared, Error> {
    let name = spec.group_role();
    let group = observe::safe_group(tx, &name).await?;
    if let Some(group) = &group {
        observe::check_may_grant(tx, facts, group).await?;
    }
    let wanted = match (spec.preset, &group) {
        (Preset::Custom, Some(_)) => return Ok(Prepared::default()),
        (Preset::Custom, None) => return Err(Error::GroupMissing { group: name }),
        (Preset::Admin | Preset::BreakGlass, _) => {
            return Err(Error::GroupMissing { group: name });
        }
        (Preset::Readonly, _) => Wanted::new(&["SELECT"], &[]),
        (Preset::Readwrite, _) => {
            Wanted::new(&["SELECT", "INSERT", "UPDATE", "DELETE"], &["USAGE", "SELECT"])
        }
    };
    let seen = privileges::seen(tx, &spec.schemas, group.as_ref().map(|group| group.oid)).await?;
    refuse_missing_schemas(spec, &seen)?;

    let mut plan = Plan { group: &name, spec, wanted, prepared: Prepared::default() };
    if spec.rights.needs_context() {
        plan.prepared.statements = context::difference(tx, facts, &spec.database).await?;
    }
    if group.is_none() {
        if !facts.server.may_create_roles && !facts.way.calls() {
            return Err(Error::LacksRight {
                action: "create roles".to_owned(),
                remedy: format!("ALTER ROLE {} CREATEROLE", sql::identifier(&facts.admin)),
                source: None,
            });
        }
        let comment = format!("pgvalet group role of profile {}", spec.name);
        plan.prepared.statements.extend(facts.way.make_group(&name, &comment));
    }
    plan.schemas(facts, &seen)?;
    plan.objects(facts, &seen);
    plan.defaults(facts, &seen);
    Ok(plan.prepared)
}

fn refuse_missing_schemas(spec: &ProfileSpec, seen: &Seen) -> Result<(), Error> {
    let missing: Vec<_> = spec
        .schemas
        .iter()
        .filter(|name| !seen.schemas.iter().any(|schema| schema.name == **name))
        .map(|name| format!("`{name}`"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::SchemaMissing { database: spec.database.clone(), schemas: missing.join(", ") })
}

/// What a preset wants on each table and on each sequence.
struct Wanted {
    on_tables: Vec<String>,
    on_sequences: Vec<String>,
}

impl Wanted {
    fn new(on_tables: &[&str], on_sequences: &[&str]) -> Self {
        let own = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Self { on_tables: own(on_tables), on_sequences: own(on_sequences) }
    }
}

/// What is in one list and not in the other, in the order of the first.
fn less(list: &[String], other: &[String]) -> Vec<String> {
    list.iter().filter(|word| !other.contains(word)).cloned().collect()
}

struct Plan<'a> {
    group: &'a str,
    spec: &'a ProfileSpec,
    wanted: Wanted,
    prepared: Prepared,
}

impl Plan<'_> {
    fn is_named(&self, schema: &str) -> bool {
        self.spec.schemas.iter().any(|name| name == schema)
    }

    /// A schema that the profile does not name (any more) is to be left with nothing.
    fn wanted_in(&self, schema: &str, kind: Kind) -> Vec<String> {
        match kind {
            _ if !self.is_named(schema) => Vec::new(),
            Kind::Schema => vec!["USAGE".to_owned()],
            Kind::Table => self.wanted.on_tables.clone(),
            Kind::Sequence => self.wanted.on_sequences.clone(),
        }
    }

    fn say(&mut self, way: Way, list: &[String], objects: (Kind, &[String])) {
        if !list.is_empty() {
            self.prepared.statements.push(sql::privileges(way, list, objects, self.group));
        }
    }

    fn schemas(&mut self, facts: &Facts, seen: &Seen) -> Result<(), Error> {
        for schema in &seen.schemas {
            let wanted = self.wanted_in(&schema.name, Kind::Schema);
            let excess = less(&schema.held, &wanted);
            let missing = less(&less(&wanted, &schema.held), &schema.held_from_others);
            let objects = [sql::identifier(&schema.name)];
            if schema.is_ours {
                self.say(Way::Take, &excess, (Kind::Schema, &objects));
                self.say(Way::Give, &missing, (Kind::Schema, &objects));
            } else if !missing.is_empty() && !schema.is_open {
                return Err(self.cannot_grant_on(schema, facts));
            } else if !excess.is_empty() {
                self.note_excess(&schema.owner, &excess, &[format!("schema {}", schema.name)]);
            }
            let foreign = less(&schema.held_from_others, &wanted);
            self.note_foreign(&foreign, &[format!("schema {}", schema.name)]);
        }
        Ok(())
    }

    fn objects(&mut self, facts: &Facts, seen: &Seen) {
        let mut changes: BTreeMap<(Way, Kind, Vec<String>), Vec<String>> = BTreeMap::new();
        let mut uncovered: BTreeMap<(&str, Option<String>), Vec<String>> = BTreeMap::new();
        let mut excessive: BTreeMap<(&str, Vec<String>), Vec<String>> = BTreeMap::new();
        let mut foreign: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for object in &seen.objects {
            let name = format!("{}.{}", object.schema, object.name);
            let wanted = self.wanted_in(&object.schema, object.kind());
            let excess = excess_of(object, &wanted);
            let missing = less(&less(&wanted, &object.held), &object.held_from_others);
            let beyond = less(&object.held_from_others, &wanted);
            if !beyond.is_empty() {
                foreign.entry(beyond).or_default().push(name.clone());
            }
            if object.is_ours {
                let quoted = sql::identifier(&object.schema) + "." + &sql::identifier(&object.name);
                for (way, list) in [(Way::Take, excess), (Way::Give, missing)] {
                    if !list.is_empty() {
                        let key = (way, object.kind(), list);
                        changes.entry(key).or_default().push(quoted.clone());
                    }
                }
            } else {
                if !missing.is_empty() {
                    let remedy = (!object.owner_is_superuser).then(|| {
                        format!(
                            "let a superuser run `{}`, and prepare again",
                            act_for(&object.owner, facts)
                        )
                    });
                    uncovered.entry((&object.owner, remedy)).or_default().push(name.clone());
                }
                if !excess.is_empty() {
                    excessive.entry((&object.owner, excess)).or_default().push(name);
                }
            }
        }
        for ((way, kind, list), objects) in changes {
            for some in objects.chunks(OBJECTS_IN_ONE) {
                self.say(way, &list, (kind, some));
            }
        }
        for ((owner, remedy), names) in uncovered {
            let remedy = remedy.unwrap_or_else(|| {
                "give them an owner of their own, or let a superuser grant them by hand".to_owned()
            });
            self.prepared.notes.push(format!(
                "not covered, because our admin may not act for the owner `{owner}`: {}; {remedy}",
                some_of(&names),
            ));
        }
        for ((owner, excess), names) in excessive {
            self.note_excess(owner, &excess, &names);
        }
        for (excess, names) in foreign {
            self.note_foreign(&excess, &names);
        }
    }

    /// What is made later, by whoever owns the schema or something in it now.
    fn defaults(&mut self, facts: &Facts, seen: &Seen) {
        let mut makers: BTreeSet<(&str, &str)> = BTreeSet::new();
        for schema in seen.schemas.iter().filter(|schema| self.is_named(&schema.name)) {
            if schema.is_ours {
                makers.insert((&schema.name, &schema.owner));
            }
        }
        let foreign = seen.schemas.iter().filter(|s| !s.is_ours && self.is_named(&s.name));
        let notes: Vec<_> = foreign.map(|schema| not_covered_later(schema, facts)).collect();
        self.prepared.notes.extend(notes);
        let named = |object: &&ObjectSeen| object.is_ours && self.is_named(&object.schema);
        makers.extend(
            seen.objects.iter().filter(named).map(|o| (o.schema.as_str(), o.owner.as_str())),
        );
        let ours = seen.defaults.iter().filter(|held| held.is_ours);
        makers.extend(ours.map(|held| (held.schema.as_str(), held.owner.as_str())));

        for (schema, owner) in makers {
            for kind in [Kind::Table, Kind::Sequence] {
                let held = seen
                    .defaults
                    .iter()
                    .find(|d| d.schema == schema && d.owner == owner && d.kind() == kind)
                    .map_or(&[][..], |d| &d.held);
                let wanted = self.wanted_in(schema, kind);
                for (way, list) in
                    [(Way::Take, less(held, &wanted)), (Way::Give, less(&wanted, held))]
                {
                    if !list.is_empty() {
                        let place = (kind, owner, schema);
                        self.prepared
                            .statements
                            .extend(sql::default_privileges(way, &list, place, self.group));
                    }
                }
            }
        }
    }

    fn note_excess(&mut self, owner: &str, excess: &[String], names: &[String]) {
        self.prepared.notes.push(format!(
            "{} on {} is more than the profile says, and out of our admin's reach: let the owner `{owner}` or a superuser revoke it from `{}`",
            excess.join(", "),
            some_of(names),
            self.group,
        ));
    }

    fn note_foreign(&mut self, excess: &[String], names: &[String]) {
        if !excess.is_empty() {
            self.prepared.notes.push(format!(
                "{} on {} is more than the profile says, and was granted by somebody other than the owner: let them revoke it from `{}`",
                excess.join(", "),
                some_of(names),
                self.group,
            ));
        }
    }

    /// Without USAGE on a schema nothing in it can be used, so this is no note.
    fn cannot_grant_on(&self, schema: &SchemaSeen, facts: &Facts) -> Error {
        let remedy = if schema.owner_is_superuser {
            // Our admin must not become a superuser, so the group is made and granted by hand.
            let version = facts.server.version_num;
            let usage = ["USAGE".to_owned()];
            let objects = [sql::identifier(&schema.name)];
            [
                sql::create_group(self.group),
                sql::privileges(Way::Give, &usage, (Kind::Schema, &objects), self.group),
                sql::let_admin_grant(self.group, &facts.admin, version),
            ]
            .join("; ")
        } else {
            act_for(&schema.owner, facts)
        };
        let action = format!("grant USAGE on schema `{}`", schema.name);
        Error::LacksRight { action, remedy, source: None }
    }
}

fn act_for(owner: &str, facts: &Facts) -> String {
    sql::let_admin_act_for(owner, &facts.admin, facts.server.version_num)
}

fn not_covered_later(schema: &SchemaSeen, facts: &Facts) -> String {
    let remedy = if schema.owner_is_superuser {
        "prepare again after each change there".to_owned()
    } else {
        format!("let a superuser run `{}`, and prepare again", act_for(&schema.owner, facts))
    };
    format!(
        "what `{}`, the owner of schema {}, makes later is not covered: {remedy}",
        schema.owner, schema.name
    )
}

/// A privilege on a column is less than the same on the whole table, and fine where that is wanted;
/// any other is too much. Revoking from the table takes it from the columns too.
fn excess_of(object: &ObjectSeen, wanted: &[String]) -> Vec<String> {
    let mut excess = less(&object.held, wanted);
    for privilege in less(&object.held_on_columns, wanted) {
        if !excess.contains(&privilege) {
            excess.push(privilege);
        }
    }
    excess
}

/// The first few, and how many more.
pub(in crate::target) fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_IN_ONE).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_IN_ONE) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_note_names_five_and_counts_the_rest() {
        assert_eq!(some_of(&words(&["a", "b"])), "a, b");
        assert_eq!(
            some_of(&words(&["a", "b", "c", "d", "e", "f", "g"])),
            "a, b, c, d, e and 2 more"
        );
    }

    #[test]
    fn a_column_privilege_is_too_much_only_where_the_table_may_not_have_it() {
        let object = ObjectSeen {
            schema: "s".to_owned(),
            name: "t".to_owned(),
            is_sequence: false,
            owner: "o".to_owned(),
            owner_is_superuser: false,
            is_ours: true,
            held: words(&["SELECT", "TRUNCATE"]),
            held_on_columns: words(&["SELECT", "UPDATE"]),
            held_from_others: Vec::new(),
        };
        assert_eq!(excess_of(&object, &words(&["SELECT"])), ["TRUNCATE", "UPDATE"]);
        let all = words(&["SELECT", "INSERT", "UPDATE", "DELETE"]);
        assert_eq!(excess_of(&object, &all), ["TRUNCATE"]);
    }
}
