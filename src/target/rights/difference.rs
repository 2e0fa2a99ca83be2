//! What is wanted against what was seen, as statements in the order in which they are run. No I/O.
//!
//! The grantee is the mark: all that pgvalet's own group role holds and the profile does not say is taken
//! from it, and nothing of any other role is touched, but for what the profile takes from everybody.
//! Nothing is granted that is there already, so that a second run is empty. Grants are made thing by
//! thing: `ON ALL TABLES` fails as a whole when one table belongs to somebody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::postgres::types::Oid;

use crate::{
    domain::rights::grant::Privilege,
    target::{
        observe::Facts,
        rights::{
            Planned,
            object::{Column, Later, Object, On, Privileges},
            statement::{self, Way, Whom},
            wanted::Wanted,
        },
        sql,
    },
};

/// Things in one statement: few enough to be read, and to stay far from any limit.
const OBJECTS_IN_ONE: usize = 100;

/// Names in one note.
const NAMES_IN_ONE: usize = 5;

/// What there is to compare.
pub(crate) struct Compared<'a> {
    pub(crate) facts: &'a Facts,
    /// The group role.
    pub(crate) group: &'a str,
    pub(crate) objects: &'a [Object],
    pub(crate) columns: &'a [Column],
    pub(crate) later: &'a [Later],
    pub(crate) wanted: &'a Wanted,
}

/// A statement's beginning (what is given or taken, how, on what kind, to whom), and the things that it is on.
type Changes<'a> = BTreeMap<(Way, On, String, Whom<'a>), Vec<String>>;

/// All of it.
pub(crate) fn difference(compared: &Compared<'_>) -> Planned {
    let mut plan = Plan {
        compared,
        group: Whom::Role(compared.group),
        changes: Changes::new(),
        last: Vec::new(),
        uncovered: BTreeMap::new(),
        beyond: BTreeMap::new(),
        planned: Planned::default(),
    };
    plan.planned.faults.extend(compared.wanted.faults.iter().cloned());
    plan.objects();
    plan.columns();
    plan.closed();
    plan.later();
    plan.finish()
}

struct Plan<'a> {
    compared: &'a Compared<'a>,
    group: Whom<'a>,
    changes: Changes<'a>,
    /// Those about what is made later, which come last.
    last: Vec<(Way, String)>,
    /// By owner and remedy, what cannot be granted on.
    uncovered: BTreeMap<(&'a str, Option<String>), Vec<String>>,
    /// By why it is out of reach, and what is too much, on what.
    beyond: BTreeMap<(Option<&'a str>, Privileges), Vec<String>>,
    planned: Planned,
}

impl<'a> Plan<'a> {
    fn say(&mut self, way: Way, privileges: &Privileges, object: &Object, whom: Whom<'a>) {
        if !privileges.is_empty() {
            let key = (way, object.on, statement::list(privileges), whom);
            self.changes.entry(key).or_default().push(object.quoted());
        }
    }

    /// Things that count: an owner holds everything of its own anyway, and what pgvalet keeps in the
    /// database for itself is granted where it is made.
    fn counted(&self) -> impl Iterator<Item = (usize, &'a Object)> + use<'a> {
        let compared = self.compared;
        let all = compared.objects.iter().enumerate();
        all.filter(move |(_, object)| object.owner != compared.group && !object.is_pgvalets())
    }

    fn objects(&mut self) {
        let nothing = Privileges::new();
        for (place, object) in self.counted() {
            let wanted = self.compared.wanted.on.get(place).unwrap_or(&nothing);
            let excess = less(&object.held, wanted);
            let missing = less(&less(wanted, &object.held), &object.held_from_others);
            self.say(Way::Take, &excess, object, self.group);
            self.say(Way::Give, &self.may_give(object, &missing), object, self.group);
            let out_of_reach = self.out_of_reach(object, &missing);
            self.cannot_give(place, object, &out_of_reach, object.shown());
            self.note_beyond(object, &less(&object.held_from_others, wanted), object.shown());
        }
    }

    /// A privilege on a column goes with the same on the whole table when that is taken, so that what is
    /// to stay of it is given anew.
    fn columns(&mut self) {
        let compared = self.compared;
        let mut by_table: HashMap<Oid, Vec<&Column>> = HashMap::new();
        for column in compared.columns {
            by_table.entry(column.table).or_default().push(column);
        }
        let nothing = Privileges::new();
        for (place, table) in self.counted().filter(|(_, object)| object.on == On::Table) {
            let Some(columns) = by_table.get(&table.oid) else { continue };
            let on_table = compared.wanted.on.get(place).unwrap_or(&nothing);
            let taken = less(&table.held, on_table);
            let on_columns = compared.wanted.on_columns.get(&place);
            let (mut excess, mut missing) = (Vec::new(), Vec::new());
            for column in columns {
                let wanted = on_columns.and_then(|on| on.get(&column.name)).unwrap_or(&nothing);
                let stays = less(&column.held, &taken);
                excess.push((column.name.as_str(), less(&stays, wanted)));
                let lacks = less(&less(wanted, &stays), &column.held_from_others);
                let out_of_reach = self.out_of_reach(table, &lacks);
                let shown = || format!("{}.{}", table.shown(), column.name);
                self.cannot_give(place, table, &out_of_reach, shown());
                missing.push((column.name.as_str(), self.may_give(table, &lacks)));
                self.note_beyond(table, &less(&column.held_from_others, wanted), shown());
            }
            for (way, columns) in [(Way::Take, excess), (Way::Give, missing)] {
                let list =
                    statement::list_of_columns(columns.iter().map(|(name, some)| (*name, some)));
                if !list.is_empty() {
                    let key = (way, On::Table, list, self.group);
                    self.changes.entry(key).or_default().push(table.quoted());
                }
            }
        }
    }

    /// EXECUTE, which everybody has on every new routine, is taken where the profile says so.
    fn closed(&mut self) {
        let execute = Privileges::from([Privilege::Execute]);
        let mut open: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for place in &self.compared.wanted.closed {
            let Some(routine) = self.compared.objects.get(*place) else { continue };
            if routine.of_everybody_in_reach.contains(&Privilege::Execute) {
                self.say(Way::Take, &execute, routine, Whom::Everybody);
            } else if routine.of_everybody.contains(&Privilege::Execute) {
                match self.compared.wanted.named.get(place) {
                    Some(path) => {
                        let message = format!(
                            "EXECUTE on {} cannot be taken from everybody: {}",
                            routine.shown(),
                            self.cannot_act_for(routine)
                        );
                        self.planned.faults.push((path.clone(), message));
                    }
                    None => open.entry(&routine.owner).or_default().push(routine.shown()),
                }
            }
        }
        for (owner, names) in open {
            self.planned.notes.push(format!(
                "everybody may still execute {}, because our admin may not act for the owner `{owner}`",
                some_of(&names)
            ));
        }
    }

    /// What is made later, by whoever owns the schema or something in it now.
    fn later(&mut self) {
        let compared = self.compared;
        let wanted = &compared.wanted.later;
        let in_question: BTreeSet<&str> =
            wanted.keys().map(|(schema, _)| schema.as_str()).collect();
        let mut makers: BTreeSet<(&str, &str)> = BTreeSet::new();
        for (_, object) in self.counted() {
            let schema = if object.on == On::Schema { &object.name } else { &object.schema };
            let is_wanted = in_question.contains(schema.as_str());
            if is_wanted && object.is_ours {
                makers.insert((schema, &object.owner));
            } else if is_wanted && object.on == On::Schema {
                self.planned.notes.push(not_covered_later(object, compared.facts));
            }
        }
        self.close_later(&makers);
        for (schema, owner) in &makers {
            for on in [On::Table, On::Sequence, On::Routine, On::Type] {
                let is_it = |held: &&Later| {
                    held.schema == **schema && held.owner == **owner && held.on == on
                };
                let held = compared.later.iter().find(is_it).map(|held| &held.held);
                let wanted = wanted.get(&((*schema).to_owned(), on));
                let missing = less_of(wanted, held);
                self.say_later(Way::Give, &missing, (on, owner, schema), self.group);
            }
        }
        for held in compared.later {
            let wanted = wanted.get(&(held.schema.clone(), held.on));
            let is_wanted = makers.contains(&(held.schema.as_str(), held.owner.as_str()));
            let excess = less_of(Some(&held.held), wanted.filter(|_| is_wanted));
            if held.is_ours {
                let place = (held.on, held.owner.as_str(), held.schema.as_str());
                self.say_later(Way::Take, &excess, place, self.group);
            } else if !excess.is_empty() {
                self.planned.notes.push(format!(
                    "{} on what `{}` makes later in {} is more than the profile says, and out of our admin's reach",
                    statement::list(&excess),
                    held.owner,
                    if held.schema.is_empty() { "any schema" } else { &held.schema },
                ));
            }
        }
    }

    /// Default privileges of a schema can only add to those of the whole database, so that everybody's
    /// EXECUTE has to be taken there.
    fn close_later(&mut self, makers: &BTreeSet<(&str, &'a str)>) {
        let compared = self.compared;
        let execute = Privileges::from([Privilege::Execute]);
        let closed = |schema: &str| compared.wanted.closed_later.contains(schema);
        let owners: BTreeSet<&str> =
            makers.iter().filter(|(schema, _)| closed(schema)).map(|(_, owner)| *owner).collect();
        for owner in owners {
            let mut of_owner =
                compared.later.iter().filter(|l| l.owner == owner && l.on == On::Routine);
            // Without a word about it, everybody has it.
            let whole = of_owner.clone().find(|later| later.schema.is_empty());
            if whole.is_none_or(|later| later.of_everybody.contains(&Privilege::Execute)) {
                self.say_later(Way::Take, &execute, (On::Routine, owner, ""), Whom::Everybody);
            }
            let opened = of_owner.find(|later| {
                closed(&later.schema) && later.of_everybody.contains(&Privilege::Execute)
            });
            if let Some(later) = opened {
                let place = (On::Routine, owner, later.schema.as_str());
                self.say_later(Way::Take, &execute, place, Whom::Everybody);
            }
        }
    }

    fn say_later(
        &mut self,
        way: Way,
        privileges: &Privileges,
        place: (On, &str, &str),
        whom: Whom<'_>,
    ) {
        if !privileges.is_empty() {
            let statement = statement::later(way, privileges, place, whom);
            self.last.extend(statement.map(|statement| (way, statement)));
        }
    }

    /// The part that our admin may grant.
    fn may_give(&self, object: &Object, missing: &Privileges) -> Privileges {
        if object.is_ours {
            return missing.clone();
        }
        missing.intersection(&object.may_pass_on).copied().collect()
    }

    /// The part that it may not, and that the group does not have by being anybody either.
    fn out_of_reach(&self, object: &Object, missing: &Privileges) -> Privileges {
        if object.is_ours {
            return Privileges::new();
        }
        less(&less(missing, &object.may_pass_on), &object.of_everybody)
    }

    /// What a grant names must be granted; what only falls under it is told.
    fn cannot_give(
        &mut self,
        place: usize,
        object: &'a Object,
        out_of_reach: &Privileges,
        shown: String,
    ) {
        if out_of_reach.is_empty() {
            return;
        }
        if let Some(path) = self.compared.wanted.named.get(&place) {
            let message = format!(
                "{} on {shown} cannot be granted: {}",
                statement::list(out_of_reach),
                self.cannot_act_for(object)
            );
            return self.planned.faults.push((path.clone(), message));
        }
        let remedy =
            (!object.owner_is_superuser).then(|| act_for(&object.owner, self.compared.facts));
        self.uncovered.entry((&object.owner, remedy)).or_default().push(shown);
    }

    /// Why, and what helps.
    fn cannot_act_for(&self, object: &Object) -> String {
        let owner = &object.owner;
        if object.on == On::Parameter {
            let admin = sql::identifier(&self.compared.facts.admin);
            return format!(
                "our admin may not; let a superuser run `GRANT SET ON PARAMETER {} TO {admin} WITH GRANT OPTION`",
                object.quoted()
            );
        }
        if object.owner_is_superuser {
            return format!(
                "its owner `{owner}` is a superuser, whom our admin must not act for; give it another owner, or let a superuser grant it by hand"
            );
        }
        format!(
            "our admin may not act for its owner `{owner}`; let a superuser run `{}`",
            act_for(owner, self.compared.facts)
        )
    }

    fn note_beyond(&mut self, object: &'a Object, excess: &Privileges, shown: String) {
        if !excess.is_empty() {
            let why = (!object.is_ours).then_some(object.owner.as_str());
            self.beyond.entry((why, excess.clone())).or_default().push(shown);
        }
    }

    fn finish(mut self) -> Planned {
        let mut planned = std::mem::take(&mut self.planned);
        let mut statements: Vec<(Way, String)> = Vec::new();
        for ((way, on, list, whom), objects) in &self.changes {
            for some in objects.chunks(OBJECTS_IN_ONE) {
                statements.push((*way, statement::privileges(*way, list, (*on, some), *whom)));
            }
        }
        statements.extend(self.last);
        // The order within each way stays.
        statements.sort_by_key(|(way, _)| *way);
        planned.statements.extend(statements.into_iter().map(|(_, statement)| statement));
        planned.notes.extend(self.compared.wanted.notes.iter().cloned());
        for ((owner, remedy), names) in &self.uncovered {
            let remedy = remedy.as_ref().map_or_else(
                || {
                    "give them an owner of their own, or let a superuser grant them by hand"
                        .to_owned()
                },
                |remedy| format!("let a superuser run `{remedy}`, and prepare again"),
            );
            planned.notes.push(format!(
                "not covered, because our admin may not act for the owner `{owner}`: {}; {remedy}",
                some_of(names),
            ));
        }
        for ((owner, excess), names) in &self.beyond {
            let (list, names, group) =
                (statement::list(excess), some_of(names), self.compared.group);
            planned.notes.push(match owner {
                Some(owner) => format!(
                    "{list} on {names} is more than the profile says, and out of our admin's reach: let the owner `{owner}` or a superuser revoke it from `{group}`"
                ),
                None => format!(
                    "{list} on {names} is more than the profile says, and was granted by somebody other than the owner: let them revoke it from `{group}`"
                ),
            });
        }
        planned
    }
}

/// What is in one and not in the other.
fn less(some: &Privileges, other: &Privileges) -> Privileges {
    // Of most things nobody wants or holds anything.
    if some.is_empty() { Privileges::new() } else { some.difference(other).copied().collect() }
}

fn less_of(some: Option<&Privileges>, other: Option<&Privileges>) -> Privileges {
    let nothing = Privileges::new();
    less(some.unwrap_or(&nothing), other.unwrap_or(&nothing))
}

fn act_for(owner: &str, facts: &Facts) -> String {
    sql::let_admin_act_for(owner, &facts.admin, facts.server.version_num)
}

fn not_covered_later(schema: &Object, facts: &Facts) -> String {
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

/// The first few, and how many more.
pub(crate) fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_IN_ONE).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_IN_ONE) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
