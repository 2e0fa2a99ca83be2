//! What a profile's grants mean for the things that are there: which privileges on which of them. And
//! what is wrong with the grants, which only this database can tell. No I/O: both come from what was
//! seen.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use sqlx::postgres::types::Oid;

use crate::{
    document::did_you_mean,
    domain::rights::grant::{Kind, Privilege, Selection, is_like, is_pattern},
    target::rights::{
        object::{Column, Object, On, Privileges},
        placed::{Grants, Placed, key_of},
        seen::PARAMETERS_HAVE_PRIVILEGES,
        signature::Signature,
    },
};

/// The first version with the privilege MAINTAIN.
const TABLES_CAN_BE_MAINTAINED: i32 = 170_000;

/// A fault: the key that it is about, as in a file, and what is wrong.
pub(crate) type Fault = (String, String);

/// What is wanted. Things are known by their place among those that were seen.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// On each of them.
    pub(crate) on: Vec<Privileges>,
    /// On their columns.
    pub(crate) on_columns: BTreeMap<usize, BTreeMap<String, Privileges>>,
    /// Those that a grant names, and where.
    pub(crate) named: BTreeMap<usize, String>,
    /// Routines that everybody is to lose EXECUTE on.
    pub(crate) closed: BTreeSet<usize>,
    /// On what is made later in a schema.
    pub(crate) later: BTreeMap<(String, On), Privileges>,
    /// Schemas whose owners' later routines are to be nobody's by being anybody.
    pub(crate) closed_later: BTreeSet<String>,
    /// The tables that each grant of columns is on, by its place.
    columns_of: Vec<(usize, Vec<usize>)>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) notes: Vec<String>,
}

/// The things that were seen, which are sorted, by kind and schema.
struct Index<'a> {
    objects: &'a [Object],
    places: HashMap<(On, &'a str), Range<usize>>,
}

impl<'a> Index<'a> {
    fn of(objects: &'a [Object]) -> Self {
        let mut places: HashMap<(On, &str), Range<usize>> = HashMap::new();
        for (place, object) in objects.iter().enumerate() {
            let range = places.entry((object.on, &object.schema)).or_insert(place..place);
            range.end = place + 1;
        }
        Self { objects, places }
    }

    /// All of a kind in a schema, with their places.
    fn all(&self, on: On, schema: &str) -> impl Iterator<Item = (usize, &'a Object)> + use<'a> {
        let range = self.places.get(&(on, schema)).cloned().unwrap_or_default();
        let start = range.start;
        let some = self.objects.get(range).unwrap_or_default();
        some.iter().enumerate().map(move |(n, object)| (start + n, object))
    }

    /// Those of one name: several only of routines.
    fn named(&self, on: On, schema: &str, name: &str) -> Vec<(usize, &'a Object)> {
        let range = self.places.get(&(on, schema)).cloned().unwrap_or_default();
        let some = self.objects.get(range.clone()).unwrap_or_default();
        let first = some.partition_point(|object| object.name.as_str() < name);
        let same = some.iter().skip(first).take_while(|object| object.name == name);
        same.enumerate().map(|(n, object)| (range.start + first + n, object)).collect()
    }

    fn names(&self, on: On, schema: &str) -> impl Iterator<Item = &'a str> {
        self.all(on, schema).map(|(_, object)| object.name.as_str())
    }
}

impl Wanted {
    /// What the grants mean, but for columns.
    pub(crate) fn read(
        grants: &Grants,
        (database, version): (&str, i32),
        objects: &[Object],
    ) -> Self {
        let mut wanted = Self { on: vec![Privileges::new(); objects.len()], ..Self::default() };
        let index = Index::of(objects);
        for (place, placed) in grants.placed().enumerate() {
            if let Some(fault) = too_new(&placed, version) {
                wanted.faults.push(fault);
                continue;
            }
            match placed.kind {
                Kind::Database => wanted.give(&index, On::Database, database, &placed, "database"),
                Kind::Schema => {
                    if let Some((schema, _)) = wanted.schema(&index, database, &placed) {
                        wanted.named.insert(schema, placed.at("schema"));
                        wanted.add(schema, &placed.privileges());
                    }
                }
                Kind::Table | Kind::Column | Kind::Sequence | Kind::Function | Kind::Type => {
                    wanted.in_schema(&index, database, (place, &placed));
                }
                Kind::Language
                | Kind::ForeignServer
                | Kind::ForeignDataWrapper
                | Kind::Parameter => {
                    let key = placed.kind.key();
                    for name in placed.grant.names() {
                        wanted.give(&index, placed.kind.into(), name, &placed, key);
                    }
                }
            }
        }
        wanted
    }

    fn add(&mut self, place: usize, privileges: &Privileges) {
        if let Some(on) = self.on.get_mut(place) {
            on.extend(privileges.iter().copied());
        }
    }

    /// Wants a thing that is in no schema.
    fn give(&mut self, index: &Index<'_>, on: On, name: &str, placed: &Placed<'_>, key: &str) {
        // Parameters are known in lower case whatever way they are written.
        let lower = name.to_lowercase();
        let known = if on == On::Parameter { &lower } else { name };
        let found = index.named(on, "", known).into_iter().next();
        let Some((place, object)) = found else {
            let hint = did_you_mean(known, index.names(on, ""));
            let noun = on.noun();
            let message = format!("there is no {noun} `{name}` on the target{hint}");
            return self.faults.push((placed.at(key), message));
        };
        if !object.is_trusted {
            let message = format!(
                "`{name}` is an untrusted language, which only superusers may use: leave it out, and let one of them write functions in it"
            );
            return self.faults.push((placed.at(key), message));
        }
        self.named.insert(place, placed.at(key));
        self.add(place, &placed.privileges());
    }

    /// The schema of a grant. What is granted in it needs USAGE on it, too.
    fn schema<'a>(
        &mut self,
        index: &Index<'a>,
        database: &str,
        placed: &Placed<'_>,
    ) -> Option<(usize, &'a Object)> {
        let name = placed.grant.schema.as_deref()?;
        let found = index.named(On::Schema, "", name).into_iter().next();
        if found.is_none() {
            let hint = did_you_mean(name, index.names(On::Schema, ""));
            let message = format!(
                "the database `{database}` has no schema `{name}`{hint}: make it, or correct its name"
            );
            let fault = (placed.at("schema"), message);
            // A preset has several grants on each of its schemas.
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
        found
    }

    fn in_schema(
        &mut self,
        index: &Index<'_>,
        database: &str,
        (number, placed): (usize, &Placed<'_>),
    ) {
        let (Some(schema), Some(selection)) = (&placed.grant.schema, placed.grant.selection())
        else {
            return;
        };
        // PostgreSQL's own is everybody's.
        if schema != "pg_catalog" {
            let Some((place, _)) = self.schema(index, database, placed) else { return };
            self.add(place, &Privileges::from([Privilege::Usage]));
            self.named.entry(place).or_insert_with(|| placed.at("schema"));
        }
        let (on, privileges) = (On::from(placed.kind), placed.privileges());
        let places = self.places(index, schema, selection, placed);
        if placed.kind == Kind::Column {
            return self.columns_of.push((number, places));
        }
        for place in places {
            self.add(place, &privileges);
            if placed.grant.revoke_public {
                self.closed.insert(place);
            }
        }
        if selection.is_all() {
            let later = self.later.entry((schema.clone(), on)).or_default();
            later.extend(privileges);
            if placed.grant.revoke_public {
                self.closed_later.insert(schema.clone());
            }
        }
    }

    /// The things of a schema that a grant is on.
    fn places(
        &mut self,
        index: &Index<'_>,
        schema: &str,
        selection: &Selection,
        placed: &Placed<'_>,
    ) -> Vec<usize> {
        let on = On::from(placed.kind);
        let Selection::Named(names) = selection else {
            let whole = index.all(on, schema).filter(|(_, object)| !object.is_partition);
            return whole.map(|(place, _)| place).collect();
        };
        let mut places = BTreeSet::new();
        for name in names {
            let found: Vec<usize> = if is_pattern(name) && on != On::Routine
                || on == On::Routine && is_pattern(Signature::read(name).name)
            {
                self.like(index, (on, schema), name)
            } else {
                let found = self.plainly(index, (on, schema), name, placed);
                let path = placed.at(key_of(placed.kind));
                self.named.extend(found.iter().map(|place| (*place, path.clone())));
                found
            };
            places.extend(found);
        }
        places.into_iter().collect()
    }

    fn like(&mut self, index: &Index<'_>, (on, schema): (On, &str), pattern: &str) -> Vec<usize> {
        let like =
            |(_, object): &(usize, &Object)| !object.is_partition && is_like(pattern, &object.name);
        let found: Vec<usize> =
            index.all(on, schema).filter(like).map(|(place, _)| place).collect();
        if found.is_empty() {
            self.notes.push(format!("no {} in schema {schema} is like `{pattern}` now", on.noun()));
        }
        found
    }

    fn plainly(
        &mut self,
        index: &Index<'_>,
        (on, schema): (On, &str),
        name: &str,
        placed: &Placed<'_>,
    ) -> Vec<usize> {
        let signature = match on {
            On::Routine => Signature::read(name),
            _ => Signature::of_name(name),
        };
        let same = index.named(on, schema, signature.name);
        let takes = |object: &Object| signature.takes(object.arguments.as_deref().unwrap_or(""));
        let found: Vec<usize> =
            same.iter().filter(|(_, object)| takes(object)).map(|(place, _)| *place).collect();
        let noun = on.noun();
        let message = match found.len() {
            0 if same.is_empty() => {
                let hint = did_you_mean(signature.name, index.names(on, schema));
                format!("schema `{schema}` has no {noun} `{}`{hint}", signature.name)
            }
            0 => format!("schema `{schema}` has no `{name}`; write one of {}", listed(&same)),
            1 => return found,
            _ if !signature.is_exact() => return found,
            _ => {
                format!("`{name}` may be one of {}: write the schemas of its types", listed(&same))
            }
        };
        self.faults.push((placed.at(key_of(placed.kind)), message));
        Vec::new()
    }

    /// The tables whose columns have to be known.
    pub(crate) fn tables_of_columns(&self, objects: &[Object]) -> Vec<Oid> {
        let places: BTreeSet<usize> =
            self.columns_of.iter().flat_map(|(_, places)| places.iter().copied()).collect();
        places.into_iter().filter_map(|place| objects.get(place)).map(|table| table.oid).collect()
    }

    /// Adds what the grants mean for columns.
    pub(crate) fn add_columns(&mut self, grants: &Grants, objects: &[Object], columns: &[Column]) {
        let mut names: HashMap<Oid, Vec<&str>> = HashMap::new();
        for column in columns {
            names.entry(column.table).or_default().push(&column.name);
        }
        let all: Vec<_> = grants.placed().collect();
        let columns_of = std::mem::take(&mut self.columns_of);
        let mut excepted: BTreeMap<(usize, &str, Privilege), String> = BTreeMap::new();
        for (number, places) in &columns_of {
            let Some(placed) = all.get(*number) else { continue };
            self.check_columns(placed, places, objects, &names);
            for place in places {
                let Some(table) = objects.get(*place) else { continue };
                let there = names.get(&table.oid).map(Vec::as_slice).unwrap_or_default();
                for name in there.iter().filter(|name| placed.grant.covers_column(name)) {
                    let on = self.on_columns.entry(*place).or_default();
                    on.entry((*name).to_owned()).or_default().extend(placed.privileges());
                }
                for name in placed.grant.columns_except.iter().flatten() {
                    let each = placed.privileges().into_iter();
                    excepted.extend(each.map(|one| ((*place, name.as_str(), one), placed.title())));
                }
            }
            self.refuse_whole_tables(placed, places, &all, objects);
        }
        for ((place, name, privilege), title) in excepted {
            let on = self.on_columns.get(&place).and_then(|on| on.get(name));
            let Some(table) =
                objects.get(place).filter(|_| on.is_some_and(|on| on.contains(&privilege)))
            else {
                continue;
            };
            let grants_it = |(number, places): &&(usize, Vec<usize>)| {
                let placed = all.get(*number);
                places.contains(&place)
                    && placed.is_some_and(|placed| {
                        placed.grant.covers_column(name) && placed.privileges().contains(&privilege)
                    })
            };
            let by = columns_of.iter().find(grants_it).and_then(|(number, _)| all.get(*number));
            if let Some(by) = by {
                let message = format!(
                    "`{}` on column `{name}` of {} is granted here, and {title} excepts it: leave it out of one of them",
                    privilege.as_str(),
                    table.shown()
                );
                self.faults.push((by.at("columns"), message));
            }
        }
    }

    /// A column that no table has is a mistake; one that is to be excepted would be given away by it.
    fn check_columns(
        &mut self,
        placed: &Placed<'_>,
        places: &[usize],
        objects: &[Object],
        names: &HashMap<Oid, Vec<&str>>,
    ) {
        let lists =
            [("columns", &placed.grant.columns), ("columns_except", &placed.grant.columns_except)];
        let tables: Vec<(&Object, &[&str], bool)> = places
            .iter()
            .filter_map(|place| {
                let table = objects.get(*place)?;
                let there = names.get(&table.oid).map(Vec::as_slice).unwrap_or_default();
                Some((table, there, self.named.contains_key(place)))
            })
            .collect();
        for (key, list) in lists {
            for name in list.iter().flatten() {
                let lacks = |(_, there, is_named): &&(&Object, &[&str], bool)| {
                    *is_named && !there.contains(&name.as_str())
                };
                let nowhere = !tables.iter().any(|(_, there, _)| there.contains(&name.as_str()));
                let lacking =
                    tables.iter().find(lacks).or_else(|| tables.first().filter(|_| nowhere));
                if let Some((table, there, _)) = lacking {
                    let hint = did_you_mean(name, there.iter().copied());
                    let message = format!("{} has no column `{name}`{hint}", table.shown());
                    self.faults.push((placed.at(key), message));
                }
            }
        }
    }

    /// A privilege on the whole table makes the same on some columns meaningless.
    fn refuse_whole_tables(
        &mut self,
        placed: &Placed<'_>,
        places: &[usize],
        all: &[Placed<'_>],
        objects: &[Object],
    ) {
        for place in places {
            let (Some(table), Some(whole)) = (objects.get(*place), self.on.get(*place)) else {
                continue;
            };
            let privileges = placed.privileges();
            let Some(both) = privileges.intersection(whole).next() else { continue };
            let gives_it = |other: &&Placed<'_>| {
                other.kind == Kind::Table
                    && other.grant.schema.as_deref() == Some(&table.schema)
                    && other.privileges().contains(both)
                    && other.grant.selection().is_some_and(|tables| tables.covers(&table.name))
            };
            let title = all.iter().find(gives_it).map_or_else(String::new, Placed::title);
            let key = if placed.grant.columns.is_some() { "columns" } else { "columns_except" };
            let message = format!(
                "`{}` on all columns of {} is granted by {title}: leave the table out there, or these columns here",
                both.as_str(),
                table.shown()
            );
            return self.faults.push((placed.at(key), message));
        }
    }
}

fn listed(routines: &[(usize, &Object)]) -> String {
    let each = |(_, object): &(usize, &Object)| {
        format!("`{}({})`", object.name, object.arguments.as_deref().unwrap_or_default())
    };
    routines.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// What this server does not have yet.
fn too_new(placed: &Placed<'_>, version: i32) -> Option<Fault> {
    let major = version / 10_000;
    if placed.kind == Kind::Parameter && version < PARAMETERS_HAVE_PRIVILEGES {
        let message = format!(
            "privileges on parameters are there from PostgreSQL 15 on, and the target runs {major}: leave the grant out"
        );
        return Some((placed.at("parameters"), message));
    }
    if placed.privileges().contains(&Privilege::Maintain) && version < TABLES_CAN_BE_MAINTAINED {
        let message = format!(
            "`maintain` is there from PostgreSQL 17 on, and the target runs {major}: leave it out"
        );
        return Some((placed.at("privileges"), message));
    }
    None
}
