//! From grants that were made by hand to a first file: what a role holds, said in as few grants as fit.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    conditions::Conditions,
    duration::Seconds,
    name::Name,
    profile::{DEFAULT_CONNECTION_LIMIT, OwnedObjects, Preset, ProfileSpec, Reason},
    rights::{
        Rights,
        grant::{All, Grant, Privilege, Selection},
        rls::{Command, Effect, Policy, TableRls},
    },
};

/// What the roles of a database hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// Their privileges.
    pub held: Vec<Held>,
    /// The policies that name them.
    pub policies: Vec<PolicySeen>,
}

/// One privilege of one role on one thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The role.
    pub role: String,
    /// `table`, `column`, `sequence`, `function`, `type`, `schema`, `database`, `language`, `server`, `wrapper`.
    pub kind: String,
    /// Its schema; empty where there is none.
    pub schema: String,
    /// Its name; a function's with its arguments.
    pub name: String,
    /// The column of it.
    pub column: Option<String>,
    /// The privilege, as PostgreSQL calls it, in lower case.
    pub privilege: String,
    /// How many things of the kind the schema has.
    pub of_kind: usize,
    /// Does the role get the same on what is made later?
    pub is_later: bool,
}

/// A policy that names one of the roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySeen {
    /// The role.
    pub role: String,
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Is it permissive?
    pub is_permissive: bool,
    /// `all`, `select`, `insert`, `update` or `delete`.
    pub command: String,
    /// `USING`.
    pub using: Option<String>,
    /// `WITH CHECK`.
    pub with_check: Option<String>,
}

/// A profile for each role, in their order. Nobody is allowed to ask for it until somebody writes who, and
/// nothing of the role itself is changed by applying it: pgvalet makes a group role of its own.
#[must_use]
pub fn profiles(
    target: &Name,
    database: &str,
    holding: &Holding,
    taken: &[Name],
) -> Vec<ProfileSpec> {
    let mut roles: Vec<&str> = holding.held.iter().map(|held| held.role.as_str()).collect();
    roles.dedup();
    let hour = Seconds::HOUR;
    let profile = |role: &str| {
        Some(ProfileSpec {
            name: name_of(role, taken)?,
            description: format!("Adopted from the role {role}"),
            target: target.clone(),
            database: database.to_owned(),
            preset: Preset::Custom,
            schemas: Vec::new(),
            group_role: None,
            ttl: hour,
            max_ttl: hour,
            connection_limit: DEFAULT_CONNECTION_LIMIT,
            settings: BTreeMap::new(),
            owned_objects: OwnedObjects::default(),
            allow: Vec::new(),
            reason: Reason::Optional,
            conditions: Conditions::default(),
            rights: Rights {
                grants: grants(&holding.held, role),
                rls: rls(&holding.policies, role),
                ..Rights::default()
            },
        })
    };
    roles.into_iter().filter_map(profile).collect()
}

/// The role's name, as far as it can be a profile's, and no other profile's.
fn name_of(role: &str, taken: &[Name]) -> Option<Name> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = role.chars().map(plain).take(40).collect();
    let name: Name = name.trim_matches('-').parse().ok()?;
    if taken.contains(&name) { format!("{name}-adopted").parse().ok() } else { Some(name) }
}

/// A thing, or the columns of it that one privilege is on.
#[derive(Default)]
struct Thing<'a> {
    columns: BTreeSet<&'a str>,
    privileges: BTreeSet<Privilege>,
    is_later: bool,
    of_kind: usize,
}

/// Things of one kind and schema, with the same privileges on the same columns.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike<'a> {
    kind: &'a str,
    schema: &'a str,
    columns: Vec<&'a str>,
    privileges: Vec<Privilege>,
}

fn grants(held: &[Held], role: &str) -> Vec<Grant> {
    // Columns go by the privilege, because each may have others.
    let mut things: BTreeMap<[&str; 4], Thing<'_>> = BTreeMap::new();
    for held in held.iter().filter(|held| held.role == role) {
        let Some(privilege) = Privilege::from_text(&held.privilege) else { continue };
        let by = if held.column.is_some() { held.privilege.as_str() } else { "" };
        let fresh = || Thing { is_later: true, of_kind: held.of_kind, ..Thing::default() };
        let thing = things.entry([&held.kind, &held.schema, &held.name, by]).or_insert_with(fresh);
        thing.columns.extend(held.column.as_deref());
        thing.privileges.insert(privilege);
        thing.is_later &= held.is_later;
    }
    let mut alike: BTreeMap<Alike<'_>, (Vec<&str>, Thing<'_>)> = BTreeMap::new();
    for ([kind, schema, name, _], thing) in things {
        let key = Alike {
            kind,
            schema,
            columns: thing.columns.iter().copied().collect(),
            privileges: thing.privileges.iter().copied().collect(),
        };
        let (names, all) = alike.entry(key).or_insert_with(|| {
            (Vec::new(), Thing { is_later: true, of_kind: thing.of_kind, ..Thing::default() })
        });
        names.push(name);
        all.is_later &= thing.is_later;
    }
    alike.into_iter().filter_map(|(key, (names, all))| grant(&key, &names, &all)).collect()
}

/// All that a schema has of a kind, those to come included, is `all`.
fn grant(alike: &Alike<'_>, names: &[&str], all: &Thing<'_>) -> Option<Grant> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let named = || Some(Selection::Named(owned(names)));
    let selection = || {
        let is_all = all.is_later && names.len() == all.of_kind;
        if is_all { Some(Selection::All(All::All)) } else { named() }
    };
    let mut grant = Grant {
        schema: (!alike.schema.is_empty()).then(|| alike.schema.to_owned()),
        privileges: alike.privileges.clone(),
        ..Grant::default()
    };
    match alike.kind {
        "database" => grant.database = true,
        "schema" => {}
        "table" => grant.tables = selection(),
        "column" => {
            grant.tables = named();
            grant.columns = Some(owned(&alike.columns));
        }
        "sequence" => grant.sequences = selection(),
        "function" => grant.functions = selection(),
        "type" => grant.types = named(),
        "language" => grant.languages = Some(owned(names)),
        "server" => grant.foreign_servers = Some(owned(names)),
        "wrapper" => grant.foreign_data_wrappers = Some(owned(names)),
        _ => return None,
    }
    Some(grant)
}

/// The policies that name the role, under names of their own: those that are there stay for the role.
fn rls(policies: &[PolicySeen], role: &str) -> Vec<TableRls> {
    let mut tables: BTreeMap<(&str, &str), Vec<Policy>> = BTreeMap::new();
    for seen in policies.iter().filter(|seen| seen.role == role) {
        let policy = Policy {
            name: format!("{}_adopted", seen.name.chars().take(50).collect::<String>()),
            effect: (!seen.is_permissive).then_some(Effect::Restrictive),
            command: Command::from_text(&seen.command).filter(|command| *command != Command::All),
            using: seen.using.clone(),
            with_check: seen.with_check.clone(),
            ..Policy::default()
        };
        tables.entry((&seen.schema, &seen.table)).or_default().push(policy);
    }
    let table = |((schema, table), policies): ((&str, &str), Vec<Policy>)| TableRls {
        schema: schema.to_owned(),
        tables: Selection::Named(vec![table.to_owned()]),
        force: true,
        policies,
    };
    tables.into_iter().map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kind: &str, name: &str, privilege: &str, of_kind: usize, is_later: bool) -> Held {
        Held {
            role: "reporting".to_owned(),
            kind: kind.to_owned(),
            schema: "sales".to_owned(),
            name: name.to_owned(),
            privilege: privilege.to_owned(),
            of_kind,
            is_later,
            ..Held::default()
        }
    }

    #[test]
    fn things_with_the_same_privileges_are_one_grant_and_all_of_them_are_all() {
        let mut seen = vec![
            held("schema", "sales", "usage", 1, false),
            held("table", "orders", "select", 2, true),
            held("table", "items", "select", 2, true),
            held("sequence", "a", "usage", 3, true),
        ];
        for column in ["id", "country"] {
            let column = Some(column.to_owned());
            seen.push(Held { column, ..held("column", "customers", "select", 0, false) });
        }
        let found = grants(&seen, "reporting");
        let text = format!("{found:?}");
        assert_eq!(found.len(), 4, "{text}");
        assert!(found.iter().any(|one| one.tables == Some(Selection::All(All::All))), "{text}");
        let columns = Some(vec!["country".to_owned(), "id".to_owned()]);
        assert!(found.iter().any(|one| one.columns == columns), "{text}");
        assert!(
            found.iter().any(|one| one.sequences == Some(Selection::Named(vec!["a".to_owned()])))
        );
        for grant in &found {
            assert_eq!(crate::domain::rights::grant::faults(grant), [], "{text}");
        }
    }

    #[test]
    fn a_role_is_a_profile_that_nobody_may_ask_for_yet() {
        let holding = Holding {
            held: vec![held("table", "orders", "select", 2, false)],
            policies: vec![PolicySeen {
                role: "reporting".to_owned(),
                schema: "sales".to_owned(),
                table: "orders".to_owned(),
                name: "own".to_owned(),
                is_permissive: false,
                command: "all".to_owned(),
                using: Some("true".to_owned()),
                ..PolicySeen::default()
            }],
        };
        let target = "shop".parse().unwrap();
        let [profile] = profiles(&target, "shop", &holding, &[]).try_into().unwrap();
        assert_eq!(profile.name.as_str(), "reporting");
        let beside = profiles(&target, "shop", &holding, std::slice::from_ref(&profile.name));
        assert_eq!(beside[0].name.as_str(), "reporting-adopted");
        assert_eq!(crate::domain::profile::faults(&profile), []);
        assert_eq!(profile.allow, []);
        assert_eq!(profile.rights.rls[0].policies[0].name, "own_adopted");
        let text = {
            use crate::domain::profile_file::{Written, write};
            write(&Written { profiles: std::slice::from_ref(&profile), ..Written::default() })
        };
        let again = crate::domain::profile_file::read("adopted.toml", &text).unwrap();
        assert_eq!(again.profiles, [profile]);
    }
}
