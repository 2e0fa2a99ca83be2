//! What is wanted against what was seen, case by case.

use crate::{
    domain::{
        rights::grant::{All, Grant, Privilege, Selection},
        target::Way,
    },
    target::{
        Server,
        observe::Facts,
        rights::{
            Planned,
            difference::{Compared, difference, some_of},
            object::{Column, Later, Object, On, Privileges, tests::object},
            placed::Grants,
            wanted::Wanted,
        },
    },
};

fn facts() -> Facts {
    let server = Server {
        system_identifier: None,
        version_num: 180_000,
        now: chrono::DateTime::UNIX_EPOCH,
        in_recovery: false,
        admin_is_superuser: false,
        may_create_roles: true,
        may_end_sessions: true,
    };
    Facts { server, admin: "admin".to_owned(), way: Way::Direct }
}

fn privileges(list: &[Privilege]) -> Privileges {
    list.iter().copied().collect()
}

fn on_tables(tables: Selection, list: &[Privilege]) -> Grant {
    Grant {
        schema: Some("s".to_owned()),
        tables: Some(tables),
        privileges: list.to_vec(),
        ..Grant::default()
    }
}

fn named(names: &[&str]) -> Selection {
    Selection::Named(names.iter().map(|name| (*name).to_owned()).collect())
}

fn compare(grants: Vec<Grant>, objects: &[Object], columns: &[Column], later: &[Later]) -> Planned {
    let grants = Grants::own(grants);
    let mut wanted = Wanted::read(&grants, ("d", 180_000), objects);
    wanted.add_columns(&grants, objects, columns);
    let facts = facts();
    difference(&Compared { facts: &facts, group: "g", objects, columns, later, wanted: &wanted })
}

fn schema() -> Object {
    Object { held: privileges(&[Privilege::Usage]), ..object(On::Schema, "", "s") }
}

#[test]
fn what_is_there_is_not_granted_again_and_what_is_too_much_is_taken_first() {
    use Privilege as P;
    let held = |list: &[P], name| Object { held: privileges(list), ..object(On::Table, "s", name) };
    let objects =
        [schema(), held(&[P::Select], "a"), held(&[P::Select, P::Delete], "bb"), held(&[], "ccc")];
    let grant = on_tables(named(&["a", "c*"]), &[P::Select]);
    let planned = compare(vec![grant], &objects, &[], &[]);
    assert_eq!(
        planned.statements,
        [
            "REVOKE SELECT, DELETE ON TABLE \"s\".\"bb\" FROM \"g\"",
            "GRANT SELECT ON TABLE \"s\".\"ccc\" TO \"g\"",
        ]
    );
    assert_eq!((planned.notes, planned.faults), (Vec::new(), Vec::new()));
}

#[test]
fn columns_that_go_with_their_table_are_given_anew() {
    use Privilege as P;
    let table = Object { held: privileges(&[P::Select]), ..object(On::Table, "s", "t") };
    let column = |name: &str, held: &[P]| Column {
        table: table.oid,
        name: name.to_owned(),
        held: privileges(held),
        held_from_others: Privileges::new(),
    };
    let columns = [column("a", &[P::Select]), column("b", &[P::Update]), column("c", &[])];
    let grant = Grant {
        columns: Some(vec!["a".to_owned(), "c".to_owned()]),
        ..on_tables(named(&["t"]), &[P::Select])
    };
    let planned = compare(vec![grant], &[schema(), table], &columns, &[]);
    assert_eq!(
        planned.statements,
        [
            "REVOKE SELECT ON TABLE \"s\".\"t\" FROM \"g\"",
            "REVOKE UPDATE (\"b\") ON TABLE \"s\".\"t\" FROM \"g\"",
            "GRANT SELECT (\"a\", \"c\") ON TABLE \"s\".\"t\" TO \"g\"",
        ]
    );
}

#[test]
fn what_is_out_of_reach_is_a_fault_where_it_is_named_and_told_where_it_is_not() {
    let foreign =
        Object { is_ours: false, owner: "other".to_owned(), ..object(On::Table, "s", "t") };
    let objects = [schema(), foreign];
    let select = [Privilege::Select];
    let planned = compare(vec![on_tables(named(&["t"]), &select)], &objects, &[], &[]);
    assert_eq!(planned.faults.len(), 1);
    assert_eq!(planned.faults[0].0, "grant[0].tables");
    assert!(planned.faults[0].1.contains("GRANT \"other\" TO \"admin\""), "{planned:?}");
    let planned = compare(vec![on_tables(named(&["*"]), &select)], &objects, &[], &[]);
    assert_eq!(planned.faults, []);
    assert!(planned.notes[0].contains("s.t"), "{planned:?}");
}

#[test]
fn all_covers_what_each_owner_makes_later() {
    let objects = [schema(), Object { owner: "p".to_owned(), ..object(On::Table, "s", "t") }];
    let later = |schema: &str, held: &[Privilege]| Later {
        on: On::Table,
        schema: schema.to_owned(),
        owner: "p".to_owned(),
        is_ours: true,
        held: privileges(held),
        of_everybody: Privileges::new(),
    };
    let grant = || on_tables(Selection::All(All::All), &[Privilege::Select]);
    let held = [later("s", &[Privilege::Insert]), later("u", &[Privilege::Select])];
    let planned = compare(vec![grant()], &objects, &[], &held);
    assert_eq!(
        planned.statements,
        [
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"p\" IN SCHEMA \"s\" REVOKE INSERT ON TABLES FROM \"g\"",
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"p\" IN SCHEMA \"u\" REVOKE SELECT ON TABLES FROM \"g\"",
            "GRANT SELECT ON TABLE \"s\".\"t\" TO \"g\"",
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"o\" IN SCHEMA \"s\" GRANT SELECT ON TABLES TO \"g\"",
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"p\" IN SCHEMA \"s\" GRANT SELECT ON TABLES TO \"g\"",
        ]
    );
}

#[test]
fn everybody_loses_execute_now_and_later() {
    let open = || privileges(&[Privilege::Execute]);
    let routine = Object {
        held: open(),
        of_everybody: open(),
        of_everybody_in_reach: open(),
        ..object(On::Routine, "s", "f")
    };
    let grant = Grant {
        schema: Some("s".to_owned()),
        functions: Some(Selection::All(All::All)),
        revoke_public: true,
        ..Grant::default()
    };
    let planned = compare(vec![grant], &[schema(), routine], &[], &[]);
    assert_eq!(
        planned.statements,
        [
            "REVOKE EXECUTE ON ROUTINE \"s\".\"f\"() FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"o\" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"o\" IN SCHEMA \"s\" GRANT EXECUTE ON FUNCTIONS TO \"g\"",
        ]
    );
}

#[test]
fn a_note_names_five_and_counts_the_rest() {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(some_of(&words(&["a", "b"])), "a, b");
    let many = words(&["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(some_of(&many), "a, b, c, d, e and 2 more");
}
