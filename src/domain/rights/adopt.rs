//! From grants that were made by hand to a first file: what a role holds, said in as few grants as fit.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
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
pub fn profiles(target: &Name, database: &str, holding: &Holding) -> Vec<ProfileSpec> {
    let mut roles: Vec<&str> = holding.held.iter().map(|held| held.role.as_str()).collect();
    roles.dedup();
    let hour = Seconds::HOUR;
    let profile = |role: &str| {
        Some(ProfileSpec {
            name: name_of(role)?,
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
            rights: Rights {
                grants: grants(&holding.held, role),
                rls: rls(&holding.policies, role),
                ..Rights::default()
            },
        })
    };
    roles.into_iter().filter_map(profile).collect()
}

/// The role's name, as far as it can be a profile's.
fn name_of(role: &str) -> Option<Name> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = role.chars().map(plain).take(40).collect();
    name.trim_matches('-').parse().ok()
}

fn grants(held: &[Held], role: &str) -> Vec<Grant> {
    // By kind and schema, what is held on each thing; columns by the privilege, because each may have others.
    let mut things: BTreeMap<
        (&str, &str, &str, &str),
        (BTreeSet<&str>, BTreeSet<Privilege>, bool, usize),
    > = BTreeMap::new();
    for held in held.iter().filter(|held| held.role == role) {
        let Some(privilege) = privilege(&held.privilege) else { continue };
        let by = if held.column.is_some() { held.privilege.as_str() } else { "" };
        let thing = things
            .entry((&held.kind, &held.schema, &held.name, by))
            .or_insert_with(|| (BTreeSet::new(), BTreeSet::new(), true, held.of_kind));
        thing.0.extend(held.column.as_deref());
        thing.1.insert(privilege);
        thing.2 &= held.is_later;
    }
    // Things of a kind and schema with the same privileges are one grant; those of later things count apart.
    let mut alike: BTreeMap<(&str, &str, Vec<&str>, Vec<Privilege>), (Vec<&str>, bool, usize)> =
        BTreeMap::new();
    for ((kind, schema, name, _), (columns, privileges, is_later, of_kind)) in &things {
        let (columns, privileges) =
            (columns.iter().copied().collect(), privileges.iter().copied().collect());
        let one = alike.entry((kind, schema, columns, privileges)).or_insert((
            Vec::new(),
            true,
            *of_kind,
        ));
        one.0.push(name);
        one.1 &= *is_later;
    }
    let grant = |((kind, schema, columns, privileges), (names, is_later, of_kind)): (
        (&str, &str, Vec<&str>, Vec<Privilege>),
        (Vec<&str>, bool, usize),
    )| {
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let selection = || {
            if is_later && names.len() == of_kind {
                Selection::All(All::All)
            } else {
                Selection::Named(owned(&names))
            }
        };
        let mut grant = Grant { privileges, ..Grant::default() };
        if !schema.is_empty() {
            grant.schema = Some(schema.to_owned());
        }
        match kind {
            "database" => grant.database = true,
            "schema" => {}
            "table" => grant.tables = Some(selection()),
            "column" => {
                grant.tables = Some(Selection::Named(owned(&names)));
                grant.columns = Some(owned(&columns));
            }
            "sequence" => grant.sequences = Some(selection()),
            "function" => grant.functions = Some(selection()),
            "type" => grant.types = Some(Selection::Named(owned(&names))),
            "language" => grant.languages = Some(owned(&names)),
            "server" => grant.foreign_servers = Some(owned(&names)),
            "wrapper" => grant.foreign_data_wrappers = Some(owned(&names)),
            _ => return None,
        }
        Some(grant)
    };
    alike.into_iter().filter_map(grant).collect()
}

fn privilege(word: &str) -> Option<Privilege> {
    Privilege::from_text(word)
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
        let [profile] = profiles(&target, "shop", &holding).try_into().unwrap();
        assert_eq!(profile.name.as_str(), "reporting");
        assert_eq!(crate::domain::profile::faults(&profile), []);
        assert_eq!(profile.allow, []);
        assert_eq!(profile.rights.rls[0].policies[0].name, "own_adopted");
        let text = crate::domain::profile_file::write(&[], &[profile.clone()], &[]);
        let again = crate::domain::profile_file::read("adopted.toml", &text).unwrap();
        assert_eq!(again.profiles, [profile]);
    }
}
