//! What grants come to in a lease: columns on every way to them, what everybody loses, what sessions of an
//! admin make.

use futures_util::TryStreamExt as _;
use pgvalet::dev::shop;
use serde_json::json;
use sqlx::PgConnection;

use crate::{
    grants::{apply, file, statements},
    support::{
        sessions::{sign_in, text},
        versions::on_every_version,
        world::{Plan, World},
    },
};

/// The one lease of a profile that was applied.
pub(crate) async fn lease(world: &World, name: &str) -> PgConnection {
    sign_in(&world.issue(name, json!({})).await).await.unwrap()
}

pub(crate) async fn run(session: &mut PgConnection, sql: &str) -> Result<(), String> {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(session).await;
    done.map(drop).map_err(|error| match error {
        sqlx::Error::Database(error) => error.code().unwrap_or_default().into_owned(),
        other => other.to_string(),
    })
}

#[tokio::test]
async fn privileges_on_columns_hold_on_every_way_to_them() {
    on_every_version(async |target| {
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let owner = shop::OWNER;
        let tables = format!(
            "CREATE SCHEMA sales AUTHORIZATION {owner};
             SET ROLE {owner};
             CREATE TABLE sales.customers (id serial PRIMARY KEY, name text, secret text);
             INSERT INTO sales.customers (name, secret) VALUES ('Ada', 'x');
             CREATE VIEW sales.seen AS SELECT id, name, secret FROM sales.customers"
        );
        world.target.run(&world.shop(), &[&tables]).await;
        let grants = "
[[profile.NAME.grant]]
schema = \"sales\"
tables = [\"customers\", \"seen\"]
columns = [\"id\", \"name\"]
privileges = [\"select\"]

[[profile.NAME.grant]]
schema = \"sales\"
tables = [\"customers\"]
columns_except = [\"id\", \"secret\"]
privileges = [\"insert\", \"update\"]

[[profile.NAME.grant]]
schema = \"sales\"
sequences = [\"customers_id_seq\"]
privileges = [\"usage\"]
";
        apply(&world, &file(&world, "columns", "preset = \"readwrite\"", grants)).await;
        let mut session = lease(&world, "columns").await;
        let denied = "42501";
        for (sql, expected) in [
            ("SELECT id, name FROM sales.customers", Ok(())),
            ("SELECT * FROM sales.customers", Err(denied)),
            ("SELECT count(*) FROM sales.customers", Ok(())),
            ("SELECT 1 FROM sales.customers WHERE secret = 'x'", Err(denied)),
            ("SELECT customers FROM sales.customers", Err(denied)),
            ("SELECT name FROM sales.seen", Ok(())),
            ("SELECT secret FROM sales.seen", Err(denied)),
            ("SELECT * FROM sales.seen", Err(denied)),
            ("INSERT INTO sales.customers (name) VALUES ('Ben') RETURNING id", Ok(())),
            ("INSERT INTO sales.customers (name) VALUES ('Ben') RETURNING secret", Err(denied)),
            ("INSERT INTO sales.customers (name) VALUES ('Ben') RETURNING *", Err(denied)),
            ("INSERT INTO sales.customers (name, secret) VALUES ('Ben', 'y')", Err(denied)),
            ("UPDATE sales.customers SET name = 'B' WHERE id = 2 RETURNING name", Ok(())),
            ("UPDATE sales.customers SET name = secret", Err(denied)),
            ("UPDATE sales.customers SET secret = 'z'", Err(denied)),
            ("COPY sales.customers (id, name) TO STDOUT", Ok(())),
            ("COPY sales.customers TO STDOUT", Err(denied)),
            // The conflicting key has to be readable, and what is set has to be ours to set.
            (
                "INSERT INTO sales.customers (name) VALUES ('C') ON CONFLICT (id) DO UPDATE SET name = 'D'",
                Ok(()),
            ),
            (
                "INSERT INTO sales.customers (name) VALUES ('C') ON CONFLICT (id) DO UPDATE SET secret = 'D'",
                Err(denied),
            ),
            (
                "INSERT INTO sales.customers (name) VALUES ('C') ON CONFLICT (id) DO UPDATE SET name = customers.secret",
                Err(denied),
            ),
            ("DELETE FROM sales.customers", Err(denied)),
        ] {
            let expected = expected.map_err(str::to_owned);
            if sql.starts_with("COPY ") {
                assert_eq!(copies(lease(&world, "columns").await, sql).await, expected.is_ok(), "{sql}");
            } else {
                assert_eq!(run(&mut session, sql).await, expected, "{sql}");
            }
        }
        drop(session);
        let all = json!({ "target": world.name });
        world.admin.post("/v1/revocations", &all).await.expect(200);
        world.target.run(&world.shop(), &["DROP SCHEMA sales CASCADE"]).await;
        world.finish().await;
    })
    .await;
}

/// Does COPY give its rows? The session is of no use afterwards, to our driver.
async fn copies(mut session: PgConnection, sql: &str) -> bool {
    match session.copy_out_raw(sql).await {
        Ok(rows) => rows.try_for_each(|_| async { Ok(()) }).await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn what_everybody_has_is_taken_and_the_log_is_told_where_it_may_be() {
    on_every_version(async |target| {
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let (shop, owner) = (world.shop(), shop::OWNER);
        let open = format!(
            "ALTER SCHEMA public OWNER TO {owner}; GRANT CREATE ON SCHEMA public TO PUBLIC;
             SET ROLE {owner}; GRANT TEMPORARY ON DATABASE {shop} TO PUBLIC;
             CREATE FUNCTION public.risky(integer) RETURNS int VOLATILE SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION public.calm() RETURNS int STABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
             RESET ROLE;
             CREATE FUNCTION public.not_ours() RETURNS int VOLATILE SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'"
        );
        world.target.run(&shop, &[&open]).await;
        let may_log = world.target.major() >= 15;
        if may_log {
            let log = format!("GRANT SET ON PARAMETER log_statement TO {shop}");
            world.target.run(&shop, &[&log]).await;
        }
        let head = "preset = \"readonly\"\nschemas = [\"public\"]\nharden = [\"no-public-create\", \"no-public-temp\", \"no-public-execute\"]";
        let log = "[profile.NAME.log]\nlog_statement = \"all\"\nlog_min_duration_statement = \"0\"\n";
        let text_of_file = file(&world, "hard", head, log);
        let made = apply(&world, &text_of_file).await;
        let notes = made["lines"][0]["notes"].to_string();
        assert!(notes.contains("not_ours") && notes.contains("log_min_duration_statement"), "{notes}");
        let mut target = world.on_target().await;
        for (question, is) in [
            ("has_schema_privilege('public', 'public', 'CREATE')", "false"),
            ("has_database_privilege('public', current_database(), 'TEMPORARY')", "false"),
            ("has_function_privilege('public', 'risky(integer)', 'EXECUTE')", "false"),
            ("has_function_privilege('public', 'calm()', 'EXECUTE')", "true"),
            ("has_function_privilege('public', 'not_ours()', 'EXECUTE')", "true"),
        ] {
            assert_eq!(text(&mut target, &format!("SELECT {question}")).await, is, "{question}");
        }
        assert_eq!(statements(&apply(&world, &text_of_file).await), Vec::<String>::new());
        let mut session = lease(&world, "hard").await;
        let logs = text(&mut session, "SELECT current_setting('log_statement')").await;
        // The server of the tests logs all anyway, so that only the setting of the role tells.
        assert_eq!(logs, "all");
        let set = format!(
            "SELECT count(*) FROM pg_db_role_setting WHERE setrole::regrole::text LIKE '%{}-hard%' \
             AND 'log_statement=all' = ANY (setconfig)",
            world.name
        );
        assert_eq!(text(&mut target, &set).await, if may_log { "1" } else { "0" });
        drop(session);
        if may_log {
            let log = format!("REVOKE ALL ON PARAMETER log_statement FROM {shop}");
            world.target.run(&shop, &[&log]).await;
        }
        world.finish().await;
    })
    .await;
}

#[tokio::test]
async fn what_sessions_of_an_admin_make_belongs_to_the_owner_and_stops_no_lease() {
    on_every_version(async |target| {
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let (shop, owner) = (world.shop(), format!("{}_boss", world.name));
        let options = if world.target.major() < 16 { "" } else { " WITH ADMIN TRUE, INHERIT TRUE, SET FALSE" };
        let own = format!(
            "CREATE ROLE {owner}; CREATE SCHEMA made AUTHORIZATION {owner}; CREATE SCHEMA own AUTHORIZATION {};
             GRANT {owner} TO {shop}{options}",
            shop::OWNER
        );
        world.target.run(&shop, &[&own]).await;
        let as_owner = file(
            &world,
            "boss",
            &format!("preset = \"admin\"\nschemas = [\"made\"]\ngroup_role = \"{owner}\""),
            "",
        );
        let as_group = file(&world, "chief", "preset = \"admin\"\nschemas = [\"own\"]", "");
        assert!(!apply(&world, &format!("{as_owner}{as_group}")).await.to_string().contains("not made"));
        for (profile, schema, belongs_to) in
            [("boss", "made", owner.clone()), ("chief", "own", format!("pgvg_{}_chief", world.name))]
        {
            for n in 1..=2 {
                let mut session = lease(&world, profile).await;
                let make = format!("CREATE TABLE {schema}.t{n} (id int); INSERT INTO {schema}.t1 VALUES ({n})");
                run(&mut session, &make).await.unwrap();
            }
            let owners = format!("SELECT string_agg(DISTINCT tableowner, ',') FROM pg_tables WHERE schemaname = '{schema}'");
            assert_eq!(text(&mut world.on_target().await, &owners).await, belongs_to);
        }
        let again = apply(&world, &format!("{as_owner}{as_group}")).await;
        assert_eq!(statements(&again), Vec::<String>::new());
        let all = json!({ "target": world.name });
        world.admin.post("/v1/revocations", &all).await.expect(200);
        let gone = format!("DROP SCHEMA made, own CASCADE; DROP OWNED BY {owner}; DROP ROLE {owner}");
        world.target.run(&shop, &[&gone]).await;
        world.finish().await;
    })
    .await;
}
