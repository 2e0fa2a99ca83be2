//! Mistakes in a file that only its targets can know of, each refused with its line before anything is
//! changed; and a change that fails halfway.

use pgvalet::dev::shop;
use serde_json::json;

use crate::{
    grant_effects::run,
    grants::{apply, file, gone, sales, send, statements},
    support::{sessions::text, world::World},
};

/// What our admin may not touch.
const HIDDEN: &str =
    "CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int); CREATE TABLE sales.hidden (id int)";

/// A grant, the line that is wrong, counted from its heading, and what is said of it.
const MISTAKES: &[(&str, u64, &str)] = &[
    ("schema = \"sale\"\nprivileges = [\"usage\"]", 2, "did you mean `sales`?"),
    (
        "schema = \"sales\"\ntables = [\"order\"]\nprivileges = [\"select\"]",
        3,
        "did you mean `orders`?",
    ),
    (
        "schema = \"sales\"\ntables = [\"customers\"]\ncolumns = [\"nam\"]\nprivileges = [\"select\"]",
        4,
        "did you mean `name`?",
    ),
    (
        "schema = \"sales\"\ntables = [\"customers\"]\ncolumns_except = [\"emial\"]\nprivileges = [\"select\"]",
        4,
        "did you mean `email`?",
    ),
    ("schema = \"sales\"\nfunctions = [\"totl\"]", 3, "did you mean `total`?"),
    (
        "schema = \"sales\"\nfunctions = [\"total(text)\"]",
        3,
        "write one of `total(integer)`, `total(integer, text)`",
    ),
    ("schema = \"sales\"\ntypes = [\"mod\"]\nprivileges = [\"usage\"]", 3, "did you mean `mood`?"),
    (
        "schema = \"sales\"\nsequences = [\"number\"]\nprivileges = [\"usage\"]",
        3,
        "did you mean `numbers`?",
    ),
    ("languages = [\"plpgsq\"]\nprivileges = [\"usage\"]", 2, "did you mean `plpgsql`?"),
    ("languages = [\"c\"]\nprivileges = [\"usage\"]", 2, "untrusted"),
    ("foreign_servers = [\"far_awy\"]\nprivileges = [\"usage\"]", 2, "did you mean `far_away`?"),
    ("foreign_data_wrappers = [\"fr\"]\nprivileges = [\"usage\"]", 2, "did you mean `far`?"),
    ("schema = \"hidden\"\nprivileges = [\"usage\"]", 2, "must not act for"),
    ("schema = \"sales\"\ntables = [\"hidden\"]\nprivileges = [\"select\"]", 3, "must not act for"),
    (
        "schema = \"sales\"\nfunctions = [\"by_somebody_else\"]\nrevoke_public = true",
        3,
        "cannot be taken from everybody",
    ),
    (
        "schema = \"sales\"\ntables = [\"orders\"]\nprivileges = [\"select\"]\n[[profile.NAME.grant]]\nschema = \"sales\"\ntables = [\"orders\"]\ncolumns = [\"id\"]\nprivileges = [\"select\"]",
        8,
        "is granted by grant[0]",
    ),
    (
        "schema = \"sales\"\ntables = [\"customers\"]\ncolumns_except = [\"email\"]\nprivileges = [\"select\"]\n[[profile.NAME.grant]]\nschema = \"sales\"\ntables = [\"customers\"]\ncolumns = [\"email\"]\nprivileges = [\"select\"]",
        9,
        "grant[0] excepts it",
    ),
];

#[tokio::test]
async fn a_mistake_is_refused_with_its_line_before_anything_is_changed() {
    let world = World::start().await;
    let shop = world.shop();
    world.target.run(&shop, &[&sales(&world), HIDDEN]).await;
    for (grant, line, says) in MISTAKES {
        is_refused(&world, grant, *line, says).await;
    }
    let says = if world.target.major() < 15 {
        "from PostgreSQL 15 on"
    } else {
        "did you mean `log_statement`?"
    };
    is_refused(&world, "parameters = [\"log_statment\"]\nprivileges = [\"set\"]", 2, says).await;
    one_mistake_stops_all(&world).await;
    roles_are_checked(&world).await;
    world.target.run(&shop, &["DROP SCHEMA sales, stock, hidden CASCADE", &gone(&world)]).await;
    world.finish().await;
}

/// Nothing is recorded, and nothing is made.
async fn is_refused(world: &World, grant: &str, line: u64, says: &str) {
    let grants = format!("[[profile.NAME.grant]]\n{grant}\n");
    let text_of_file = file(world, "odd", "preset = \"custom\"", &grants);
    for verb in ["plan", "apply"] {
        let told = send(world, verb, &text_of_file).await.expect_problem(422, "invalid_file");
        let faults = told["faults"].as_array().unwrap();
        assert_eq!(faults.len(), 1, "{grant}: {told}");
        assert!(faults[0].to_string().contains(says), "{grant}: {told}");
        // The grant's heading is the eighth line.
        let at = format!("p.toml:{}", line + 7);
        assert!(faults[0]["at"].as_str().unwrap().starts_with(&at), "{grant}: {at}: {told}");
    }
    let path = format!("/v1/profiles/{}", world.profile("odd"));
    world.admin.get(&path).await.expect_problem(404, "not_found");
    let roles = format!("SELECT count(*) FROM pg_roles WHERE rolname = 'pgvg_{}_odd'", world.name);
    assert_eq!(text(&mut world.on_target().await, &roles).await, "0");
}

async fn one_mistake_stops_all(world: &World) {
    let good = file(world, "fine", "preset = \"readonly\"\nschemas = [\"sales\"]", "");
    let bad = file(world, "odd", "preset = \"readonly\"\nschemas = [\"sale\"]", "");
    let told = send(world, "apply", &format!("{good}{bad}")).await;
    let told = told.expect_problem(422, "invalid_file");
    assert!(told.to_string().contains("did you mean `sales`?"), "{told}");
    let fine = format!("/v1/profiles/{}", world.profile("fine"));
    world.admin.get(&fine).await.expect_problem(404, "not_found");
    // Through the API the fault names its key.
    let name = world.profile("odd");
    let spec = json!({
        "name": name, "target": world.name, "database": world.shop(), "preset": "custom",
        "ttl": "1h", "max_ttl": "1h", "connection_limit": 1,
        "rights": { "grant": [{ "schema": "sales", "tables": ["order"], "privileges": ["select"] }] },
    });
    let told = world.admin.put(&format!("/v1/profiles/{name}"), &spec).await;
    let told = told.expect_problem(422, "invalid_request");
    assert_eq!(told["faults"][0]["at"], "grant[0].tables", "{told}");
}

/// A role that is not there, and one that does not own a schema; and what is no mistake, but told.
async fn roles_are_checked(world: &World) {
    for (head, says) in [
        ("preset = \"custom\"\ngroup_role = \"shop_suport\"", "did you mean `shop_support`?"),
        (
            "preset = \"admin\"\ngroup_role = \"shop_support\"\nschemas = [\"sales\"]",
            "is owned by `shop_owner`",
        ),
    ] {
        let told = send(world, "apply", &file(world, "odd", head, "")).await;
        let told = told.expect_problem(422, "invalid_file");
        assert!(told.to_string().contains(says), "{told}");
    }
    // A pattern that nothing is like may be meant for later; what falls under one is not named.
    let grants = "[[profile.NAME.grant]]\nschema = \"sales\"\ntables = [\"none_*\", \"hid*\"]\nprivileges = [\"select\"]\n";
    let made = apply(world, &file(world, "odd", "preset = \"custom\"", grants)).await;
    let notes = made["lines"][0]["notes"].to_string();
    assert!(notes.contains("is like `none_*` now") && notes.contains("sales.hidden"), "{notes}");
}

#[tokio::test]
async fn a_failure_leaves_its_database_whole_and_the_others_done() {
    let world = World::start().await;
    let (shop, owner) = (world.shop(), shop::OWNER);
    let other = format!("{shop}_b");
    let make = format!("CREATE DATABASE {other} OWNER {owner} TEMPLATE {shop}");
    world.target.run("postgres", &[&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{shop}'"), &make]).await;
    let recorded = world.admin.get(&format!("/v1/targets/{}", world.name)).await.expect(200);
    let mut spec = json!({ "databases": [shop, other] });
    for key in ["environment", "host", "port", "sslmode", "admin_user", "rotate_admin"] {
        spec[key] = recorded[key].clone();
    }
    world.admin.put(&format!("/v1/targets/{}", world.name), &spec).await.expect(200);

    let one = file(&world, "one", "preset = \"readonly\"\nschemas = [\"public\"]", "");
    let two = one.replace("-one", "-two");
    let three =
        one.replace("-one", "-three").replace(&format!("\"{shop}\""), &format!("\"{other}\""));
    // Somebody is about to change a table of the first database, and takes its time.
    let mut busy = world.on_target().await;
    run(&mut busy, "BEGIN; GRANT SELECT ON orders TO shop_support").await.unwrap();
    let made = apply(&world, &format!("{one}{two}{three}")).await;
    run(&mut busy, "ROLLBACK").await.unwrap();
    let lines = made["lines"].as_array().unwrap();
    for line in &lines[..2] {
        assert_eq!(line["statements"], json!([]), "{line}");
        assert!(line["notes"].to_string().contains("not made on the target yet"), "{line}");
    }
    assert!(lines[1]["notes"].to_string().contains("is as it was"), "{made}");
    assert!(!lines[2]["statements"].as_array().unwrap().is_empty(), "{made}");
    assert!(!lines[2]["notes"].to_string().contains("not made"), "{made}");
    let mut target = world.on_target().await;
    let there = format!(
        "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolname ~ '^pgvg_{}_(one|two|three)$'",
        world.name
    );
    assert_eq!(text(&mut target, &there).await, format!("pgvg_{}_three", world.name));

    let again = apply(&world, &format!("{one}{two}{three}")).await;
    assert!(!statements(&again).is_empty() && !again.to_string().contains("not made"), "{again}");
    let again = apply(&world, &format!("{one}{two}{three}")).await;
    assert_eq!(statements(&again), Vec::<String>::new());
    for name in ["one", "two", "three"] {
        world.admin.delete(&format!("/v1/profiles/{}", world.profile(name))).await.expect(204);
    }
    world.target.drop_database(&other).await;
    world.finish().await;
}
