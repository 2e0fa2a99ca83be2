//! Grants of every kind, as code: made, told as a difference, mended; and mistakes in them, which are refused
//! before anything is changed.

use std::collections::BTreeSet;

use pgvalet::dev::shop;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::{
    people::Answer,
    sessions::text,
    versions::on_every_version,
    world::{Plan, World},
};

/// A schema with something of each kind, and what the admin needs beside the owner's rights.
pub(crate) fn sales(world: &World) -> String {
    let (owner, admin) = (shop::OWNER, world.shop());
    let parameters = if world.target.major() < 15 {
        String::new()
    } else {
        format!("GRANT SET, ALTER SYSTEM ON PARAMETER log_statement TO {admin} WITH GRANT OPTION;")
    };
    format!(
        "CREATE SCHEMA sales AUTHORIZATION {owner};
         CREATE SCHEMA stock AUTHORIZATION {owner};
         SET ROLE {owner};
         CREATE TABLE sales.customers (id serial PRIMARY KEY, name text, email text, secret text);
         INSERT INTO sales.customers (name, email, secret) VALUES ('Ada', 'ada@mail.example', 'x');
         CREATE TABLE sales.orders (id int, customer int);
         CREATE TABLE sales.inv_2023 (id int); CREATE TABLE sales.inv_2024 (id int);
         CREATE VIEW sales.names AS SELECT id, name FROM sales.customers;
         CREATE TABLE stock.parts (id int); CREATE TABLE stock.shelves (id int);
         CREATE MATERIALIZED VIEW stock.full_shelves AS SELECT 1 AS id;
         CREATE SEQUENCE sales.numbers; CREATE SEQUENCE stock.part_numbers;
         CREATE FUNCTION sales.total(integer) RETURNS int LANGUAGE sql AS 'SELECT $1';
         CREATE FUNCTION sales.total(integer, text) RETURNS int LANGUAGE sql AS 'SELECT $1';
         CREATE PROCEDURE sales.tidy() LANGUAGE sql AS 'SELECT 1';
         CREATE AGGREGATE sales.most(integer) (SFUNC = int4larger, STYPE = integer);
         CREATE FUNCTION stock.count_parts() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE TYPE sales.mood AS ENUM ('good', 'bad'); CREATE DOMAIN sales.mail AS text;
         RESET ROLE;
         CREATE FUNCTION sales.by_somebody_else() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far_away FOREIGN DATA WRAPPER far;
         GRANT USAGE ON FOREIGN DATA WRAPPER far TO {admin} WITH GRANT OPTION;
         ALTER SERVER far_away OWNER TO {admin};
         GRANT USAGE ON LANGUAGE plpgsql TO {admin} WITH GRANT OPTION;
         GRANT EXECUTE ON FUNCTION pg_catalog.lo_import(text) TO {admin} WITH GRANT OPTION;
         {parameters}"
    )
}

const EVERY_KEY: &str = r#"
[[profile.NAME.grant]]
database = true
privileges = ["connect", "create", "temporary"]

[[profile.NAME.grant]]
schema = "stock"
privileges = ["usage", "create"]

[[profile.NAME.grant]]
schema = "sales"
tables = ["inv_*", "names"]
privileges = ["select"]

[[profile.NAME.grant]]
schema = "sales"
tables = ["orders"]
privileges = ["select", "insert", "update", "delete", "truncate", "references", "trigger"MAINTAIN]

[[profile.NAME.grant]]
schema = "sales"
tables = ["customers"]
columns_except = ["email", "secret"]
privileges = ["select"]

[[profile.NAME.grant]]
schema = "sales"
tables = ["customers"]
columns = ["name"]
privileges = ["insert", "update", "references"]

[[profile.NAME.grant]]
schema = "sales"
sequences = ["numbers"]
privileges = ["usage", "select", "update"]

[[profile.NAME.grant]]
schema = "sales"
functions = ["total(int)", "ti?y", "most"]

[[profile.NAME.grant]]
schema = "sales"
types = ["mood", "mail"]
privileges = ["usage"]

[[profile.NAME.grant]]
schema = "stock"
tables = "all"
privileges = ["select"]

[[profile.NAME.grant]]
schema = "stock"
sequences = "all"
privileges = ["usage"]

[[profile.NAME.grant]]
schema = "stock"
functions = "all"
revoke_public = true

[[profile.NAME.grant]]
schema = "stock"
types = "all"
privileges = ["usage"]

[[profile.NAME.grant]]
languages = ["plpgsql"]
privileges = ["usage"]

[[profile.NAME.grant]]
foreign_servers = ["far_away"]
privileges = ["usage"]

[[profile.NAME.grant]]
foreign_data_wrappers = ["far"]
privileges = ["usage"]

[[profile.NAME.grant]]
schema = "pg_catalog"
functions = ["lo_import(text)"]
"#;

const PARAMETERS: &str = r#"
[[profile.NAME.grant]]
parameters = ["log_statement"]
privileges = ["set", "alter system"]
"#;

/// A file with one profile of this world.
pub(crate) fn file(world: &World, name: &str, head: &str, grants: &str) -> String {
    let name = world.profile(name);
    let (target, shop) = (&world.name, world.shop());
    let head = format!(
        "[profile.{name}]\ntarget = \"{target}\"\ndatabase = \"{shop}\"\nttl = \"1h\"\n{head}\n\
         [profile.{name}.access]\nallow = [\"anyone\"]\n"
    );
    head + &grants.replace("NAME", &name)
}

pub(crate) async fn send(world: &World, verb: &str, text: &str) -> Answer {
    let code = json!({ "name": "p.toml", "text": text, "secrets": {} });
    world.admin.post(&format!("/v1/{verb}"), &code).await
}

pub(crate) async fn apply(world: &World, text: &str) -> Value {
    send(world, "apply", text).await.expect(200)
}

/// The statements of all lines.
pub(crate) fn statements(plan: &Value) -> Vec<String> {
    let lines = plan["lines"].as_array().unwrap().iter();
    let each = lines.flat_map(|line| line["statements"].as_array().unwrap().clone());
    each.map(|statement| statement.as_str().unwrap().to_owned()).collect()
}

/// What a role holds, as `\dp` and its like show it: `kind name: privileges`.
async fn held(connection: &mut PgConnection, role: &str) -> BTreeSet<String> {
    let parameters =
        if text(connection, "current_setting('server_version_num')::int >= 150000").await == "true"
        {
            "UNION ALL SELECT 'parameter ' || parname, paracl FROM pg_parameter_acl"
        } else {
            ""
        };
    let query = format!(
        "SELECT thing || ': ' || string_agg(lower(privilege_type), ' ' ORDER BY privilege_type) FROM (
             SELECT 'database' AS thing, datacl AS acl FROM pg_database WHERE datname = current_database()
             UNION ALL SELECT 'schema ' || nspname, nspacl FROM pg_namespace
             UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || oid::regclass, relacl FROM pg_class
             UNION ALL SELECT 'column ' || attrelid::regclass || '.' || attname, attacl FROM pg_attribute
             UNION ALL SELECT 'function ' || oid::regprocedure, proacl FROM pg_proc
             UNION ALL SELECT 'type ' || oid::regtype, typacl FROM pg_type
             UNION ALL SELECT 'language ' || lanname, lanacl FROM pg_language
             UNION ALL SELECT 'server ' || srvname, srvacl FROM pg_foreign_server
             UNION ALL SELECT 'wrapper ' || fdwname, fdwacl FROM pg_foreign_data_wrapper
             UNION ALL SELECT 'large object', lomacl FROM pg_largeobject_metadata
             UNION ALL SELECT 'later ' || coalesce(nspname, '') || ' ' || defaclobjtype::text, defaclacl
                       FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
             {parameters}
         ) things, aclexplode(acl) WHERE grantee = '{role}'::regrole GROUP BY thing ORDER BY 1"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .fetch_all(connection)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

fn expected(major: u32) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = [
        "database: connect create temporary",
        "schema sales: usage",
        "schema stock: create usage",
        "table sales.inv_2023: select",
        "table sales.inv_2024: select",
        "table sales.names: select",
        "column sales.customers.id: select",
        "column sales.customers.name: insert references select update",
        "sequence sales.numbers: select update usage",
        "function sales.total(integer): execute",
        "function sales.tidy(): execute",
        "function sales.most(integer): execute",
        "function lo_import(text): execute",
        "function stock.count_parts(): execute",
        "type sales.mood: usage",
        "type sales.mail: usage",
        "table stock.parts: select",
        "table stock.shelves: select",
        "table stock.full_shelves: select",
        "sequence stock.part_numbers: usage",
        "later stock r: select",
        "later stock S: usage",
        "later stock f: execute",
        "later stock T: usage",
        "language plpgsql: usage",
        "server far_away: usage",
        "wrapper far: usage",
    ]
    .map(str::to_owned)
    .into();
    let maintain = if major < 17 { "" } else { " maintain" };
    all.insert(format!(
        "table sales.orders: delete insert{maintain} references select trigger truncate update"
    ));
    if major >= 15 {
        all.insert("parameter log_statement: alter system set".to_owned());
    }
    all
}

#[tokio::test]
async fn every_kind_of_grant_is_made_once_and_mended() {
    on_every_version(async |target| {
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        made_and_mended(&world).await;
        world.target.run(&world.shop(), &["DROP SCHEMA sales, stock CASCADE", &gone(&world)]).await;
        world.finish().await;
    })
    .await;
}

/// What the admin was granted on what all databases share would outlive the test.
pub(crate) fn gone(world: &World) -> String {
    if world.target.major() < 15 {
        return "SELECT 1".to_owned();
    }
    format!("REVOKE ALL ON PARAMETER log_statement FROM {} CASCADE", world.shop())
}

async fn made_and_mended(world: &World) {
    let (shop, major) = (world.shop(), world.target.major());
    world.target.run(&shop, &[&sales(world)]).await;
    let mut grants = EVERY_KEY.replace("MAINTAIN", if major < 17 { "" } else { ", \"maintain\"" });
    if major >= 15 {
        grants += PARAMETERS;
    }
    let text_of_file = file(world, "all", "preset = \"custom\"", &grants);
    let group = format!("pgvg_{}_all", world.name);
    let mut target = world.on_target().await;

    let planned = send(world, "plan", &text_of_file).await.expect(200);
    let made = apply(world, &text_of_file).await;
    assert_eq!(statements(&planned), statements(&made), "what is shown is what is run");
    assert_eq!(held(&mut target, &group).await, expected(major), "{made}");
    agrees_with_the_information_schema(&mut target, &group).await;
    everybody_has_lost(world, &mut target, &group).await;

    drift_is_mended(world, &mut target, (&group, &text_of_file)).await;
    less_is_taken(world, &mut target, &group).await;
}

/// PUBLIC has lost EXECUTE, also on what is to come, and the group has it there.
async fn everybody_has_lost(world: &World, target: &mut PgConnection, group: &str) {
    let open = "SELECT has_function_privilege('public', 'stock.count_parts()', 'EXECUTE')";
    assert_eq!(text(target, open).await, "false");
    let more = format!(
        "SET ROLE {}; CREATE FUNCTION stock.later() RETURNS int LANGUAGE sql AS 'SELECT 1'; RESET ROLE",
        shop::OWNER
    );
    world.target.run(&world.shop(), &[&more]).await;
    let open = "SELECT has_function_privilege('public', 'stock.later()', 'EXECUTE')";
    assert_eq!(text(target, open).await, "false");
    let ours = format!("SELECT has_function_privilege('{group}', 'stock.later()', 'EXECUTE')");
    assert_eq!(text(target, &ours).await, "true");
    world.target.run(&world.shop(), &["DROP FUNCTION stock.later()"]).await;
}

/// Nothing is left to do; and what somebody changes by hand is found, named and mended.
async fn drift_is_mended(
    world: &World,
    target: &mut PgConnection,
    (group, text_of_file): (&str, &str),
) {
    let (shop, major) = (world.shop(), world.target.major());
    let again = send(world, "plan", text_of_file).await.expect(200);
    assert_eq!((statements(&again), &again["changes"]), (Vec::new(), &json!(false)), "{again}");
    let again = apply(world, text_of_file).await;
    assert_eq!(statements(&again), Vec::<String>::new());
    for (by_hand, found) in drift(group, world) {
        world.target.run(&shop, &[&by_hand]).await;
        let plan = send(world, "plan", text_of_file).await.expect(200);
        assert_eq!(plan["changes"], true, "{by_hand}: {plan}");
        let planned = statements(&plan);
        assert!(planned.iter().any(|one| one.contains(&found)), "{by_hand}: {found}: {planned:?}");
        assert_eq!(statements(&apply(world, text_of_file).await), planned, "{by_hand}");
        assert_eq!(held(target, group).await, expected(major), "{by_hand}");
        assert_eq!(
            statements(&apply(world, text_of_file).await),
            Vec::<String>::new(),
            "{by_hand}"
        );
    }
}

/// Less in the file is less on the target; and from some columns to the whole table and back, where a REVOKE on
/// the table takes the columns' along.
async fn less_is_taken(world: &World, target: &mut PgConnection, group: &str) {
    let less = file(
        world,
        "all",
        "preset = \"custom\"",
        "[[profile.NAME.grant]]\nschema = \"sales\"\ntables = [\"customers\"]\ncolumns = [\"id\"]\nprivileges = [\"select\"]\n",
    );
    apply(world, &less).await;
    let left: Vec<_> = held(target, group).await.into_iter().collect();
    assert_eq!(left, ["column sales.customers.id: select", "schema sales: usage"]);
    let whole = less.replace("columns = [\"id\"]\n", "");
    apply(world, &whole).await;
    let left: Vec<_> = held(target, group).await.into_iter().collect();
    assert_eq!(left, ["schema sales: usage", "table sales.customers: select"]);
    apply(world, &less).await;
    let left: Vec<_> = held(target, group).await.into_iter().collect();
    assert_eq!(left, ["column sales.customers.id: select", "schema sales: usage"]);
}

/// What somebody does by hand, and what the plan says of it.
fn drift(group: &str, world: &World) -> Vec<(String, String)> {
    let owner = shop::OWNER;
    let written = |(by_hand, found): (&str, &str)| {
        let by_hand = by_hand.replace("{g}", group).replace("{o}", owner);
        (by_hand.replace("{d}", &world.shop()), found.to_owned())
    };
    [
        ("GRANT DELETE ON stock.parts TO {g}", "REVOKE DELETE ON TABLE \"stock\".\"parts\" FROM"),
        ("GRANT SELECT ON public.orders TO {g}", "REVOKE SELECT ON TABLE \"public\".\"orders\" FROM"),
        ("REVOKE SELECT ON stock.parts FROM {g}", "GRANT SELECT ON TABLE \"stock\".\"parts\" TO"),
        ("GRANT SELECT (email) ON sales.customers TO {g}", "REVOKE SELECT (\"email\") ON TABLE \"sales\".\"customers\" FROM"),
        ("GRANT UPDATE (note) ON public.orders TO {g}", "REVOKE UPDATE (\"note\") ON TABLE \"public\".\"orders\" FROM"),
        ("REVOKE SELECT (name) ON sales.customers FROM {g}", "GRANT SELECT (\"name\") ON TABLE \"sales\".\"customers\" TO"),
        ("GRANT SELECT ON sales.customers TO {g}", "REVOKE SELECT ON TABLE \"sales\".\"customers\" FROM"),
        ("GRANT CREATE ON SCHEMA sales TO {g}", "REVOKE CREATE ON SCHEMA \"sales\" FROM"),
        ("REVOKE USAGE ON SCHEMA sales FROM {g}", "GRANT USAGE ON SCHEMA \"sales\" TO"),
        ("GRANT USAGE ON SEQUENCE public.orders_id_seq TO {g}", "REVOKE USAGE ON SEQUENCE"),
        ("GRANT EXECUTE ON FUNCTION sales.total(integer, text) TO {g}", "REVOKE EXECUTE ON ROUTINE \"sales\".\"total\"(integer, text) FROM"),
        ("REVOKE EXECUTE ON PROCEDURE sales.tidy() FROM {g}", "GRANT EXECUTE ON ROUTINE \"sales\".\"tidy\"() TO"),
        ("GRANT EXECUTE ON FUNCTION stock.count_parts() TO PUBLIC", "REVOKE EXECUTE ON ROUTINE \"stock\".\"count_parts\"() FROM PUBLIC"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT EXECUTE ON FUNCTIONS TO PUBLIC", "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {o} IN SCHEMA stock GRANT EXECUTE ON FUNCTIONS TO PUBLIC", "IN SCHEMA \"stock\" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {o} IN SCHEMA stock GRANT INSERT ON TABLES TO {g}", "IN SCHEMA \"stock\" REVOKE INSERT ON TABLES FROM"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {o} IN SCHEMA sales GRANT SELECT ON TABLES TO {g}", "IN SCHEMA \"sales\" REVOKE SELECT ON TABLES FROM"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT USAGE ON SCHEMAS TO {g}", "REVOKE USAGE ON SCHEMAS FROM"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {o} IN SCHEMA stock REVOKE SELECT ON TABLES FROM {g}", "IN SCHEMA \"stock\" GRANT SELECT ON TABLES TO"),
        ("REVOKE CREATE ON DATABASE {d} FROM {g}", "GRANT CREATE ON DATABASE"),
        ("REVOKE USAGE ON TYPE sales.mood FROM {g}", "GRANT USAGE ON TYPE \"sales\".\"mood\" TO"),
        ("REVOKE USAGE ON FOREIGN SERVER far_away FROM {g}", "GRANT USAGE ON FOREIGN SERVER \"far_away\" TO"),
    ]
    .map(written)
    .into()
}

/// The views of the standard say the same.
async fn agrees_with_the_information_schema(target: &mut PgConnection, group: &str) {
    // Materialised views are none of the standard's.
    let tables = format!(
        "SELECT string_agg(table_name || ' ' || privilege_type, ', ' ORDER BY table_name) \
         FROM information_schema.role_table_grants WHERE grantee = '{group}' AND table_schema = 'stock'"
    );
    assert_eq!(text(target, &tables).await, "parts SELECT, shelves SELECT");
    let columns = format!(
        "SELECT string_agg(column_name || ' ' || privilege_type, ', ' ORDER BY column_name, privilege_type) \
         FROM information_schema.role_column_grants WHERE grantee = '{group}' AND table_name = 'customers'"
    );
    assert_eq!(
        text(target, &columns).await,
        "id SELECT, name INSERT, name REFERENCES, name SELECT, name UPDATE"
    );
    let routines = format!(
        "SELECT string_agg(DISTINCT routine_name, ', ') FROM information_schema.role_routine_grants \
         WHERE grantee = '{group}' AND routine_schema = 'stock'"
    );
    assert_eq!(text(target, &routines).await, "count_parts");
}
