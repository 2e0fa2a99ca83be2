//! What a login owns and was granted, wherever in the cluster, is handed over and taken back; what
//! stands in the way is named, and the rest goes on.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::{
    eventually,
    people::lease_id,
    seconds,
    sessions::{is_shut_out, psql, sign_in, text, try_text},
    versions::{on_every_version, version},
    world::{Plan, World},
};

const GRAVEYARD: &str = "pgvalet_graveyard";

/// The oldest, the newest and one before the change of 16: each life costs its time.
const SOME_VERSIONS: [u32; 3] = [13, 15, 18];

/// What a login leaves in each database, as itself: it was given a schema to make things in.
const LEAVES: &str = "
    SET ROLE NONE;
    CREATE TABLE extra.kept (id serial PRIMARY KEY, note text);
    INSERT INTO extra.kept (note) SELECT 'note' FROM generate_series(1, 100);
    CREATE TABLE extra.\"Odd \"\"name\" (id int REFERENCES extra.kept);
    GRANT SELECT ON extra.kept TO shop_support WITH GRANT OPTION;
    CREATE VIEW extra.seen AS SELECT * FROM extra.kept;
    GRANT SELECT ON extra.seen TO PUBLIC;
    CREATE TYPE extra.mood AS ENUM ('good', 'bad');
    CREATE FUNCTION extra.mightier() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text';
    GRANT EXECUTE ON FUNCTION extra.mightier() TO shop_support;
    CREATE PROCEDURE extra.done(n int) LANGUAGE sql AS 'SELECT 1';
    CREATE STATISTICS extra.both ON id, note FROM extra.kept;
    ALTER DEFAULT PRIVILEGES IN SCHEMA extra GRANT SELECT ON TABLES TO PUBLIC;
    SELECT lo_create(0);
";

#[tokio::test]
async fn a_login_that_owns_things_in_three_databases_goes_and_they_stay() {
    on_every_version(async |target| {
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        world
            .put_profile("read", json!({ "owned_objects": "group", "connection_limit": 20 }))
            .await;
        let databases = [world.shop(), format!("{}_b", world.name), format!("{}_c", world.name)];
        for database in &databases[1..] {
            let create = format!("CREATE DATABASE {database} OWNER shop_owner TEMPLATE template0");
            world.target.run("postgres", &[&create]).await;
        }
        let issued = world.issue("read", json!({})).await;
        let role = user(&issued);
        let mut sessions = Vec::new();
        for database in &databases {
            give_place(&world, database, &role).await;
            let mut session = session_in(&world, &issued, database).await;
            run(&mut session, LEAVES).await;
            sessions.push(session);
        }
        name_it_elsewhere(&world, &role).await;
        let mut target = world.on_target().await;
        let oid = text(&mut target, &format!("SELECT '{role}'::regrole::oid")).await;

        let revoked = world.admin.revoke(&lease_id(&issued)).await.expect(200);
        let lease = &revoked["leases"][0];
        assert_eq!(lease["state"], "revoked", "{lease}");
        is_told(lease, &databases);
        // They were told to end before it turned out that the login owns something, and goes by itself.
        assert_eq!(lease["proof"]["sessions_ended"], 3, "{lease}");
        for mut session in sessions {
            try_text(&mut session, "SELECT 1").await.unwrap_err();
        }
        for database in &databases {
            stays_without_power(&world, database, &oid).await;
        }
        rules_of_others_lost_it(&world).await;
        the_group_works_on_with_the_data(&world).await;
        drop(target);
        for database in &databases[1..] {
            world.target.drop_database(database).await;
        }
        world.finish().await;
    })
    .await;
}

/// A schema that is the shop's, where the login may make things.
async fn give_place(world: &World, database: &str, role: &str) {
    let place = format!(
        "CREATE SCHEMA extra AUTHORIZATION shop_owner; SET ROLE shop_owner;
         GRANT USAGE, CREATE ON SCHEMA extra TO \"{role}\"; GRANT USAGE ON SCHEMA extra TO PUBLIC"
    );
    world.target.run(database, &[&place]).await;
}

/// Others name it: grants, columns, policies, default privileges, a setting, a comment.
async fn name_it_elsewhere(world: &World, role: &str) {
    let shop = world.shop();
    let naming = format!(
        "SET ROLE shop_owner;
         CREATE TABLE extra.walled (id int, note text); ALTER TABLE extra.walled ENABLE ROW LEVEL SECURITY;
         CREATE POLICY alone ON extra.walled FOR SELECT TO \"{role}\" USING (id = 1);
         CREATE POLICY shared ON extra.walled FOR SELECT TO \"{role}\", shop_support USING (id = 2);
         GRANT SELECT ON extra.walled TO \"{role}\" WITH GRANT OPTION; GRANT UPDATE (note) ON extra.walled TO \"{role}\";
         ALTER DEFAULT PRIVILEGES IN SCHEMA extra GRANT SELECT ON TABLES TO \"{role}\";
         GRANT TEMPORARY ON DATABASE {shop} TO \"{role}\";
         RESET ROLE; ALTER ROLE \"{role}\" IN DATABASE {shop} SET work_mem = '8MB'"
    );
    world.target.run(&shop, &[&naming]).await;
}

fn is_told(lease: &Value, databases: &[String]) {
    let proof = &lease["proof"];
    // In each database: two tables, the serial's sequence follows its table; a view, a type, two
    // routines, statistics, a large object. The policy for it alone stands in one.
    let handed_over = proof["handed_over"].as_array().unwrap();
    assert!(handed_over.len() == 20 && proof["objects_handed_over"].as_i64() > Some(24), "{proof}");
    for given in handed_over {
        assert_eq!(given["to"], GRAVEYARD);
        assert!(databases.iter().any(|database| given["database"] == database.as_str()));
    }
    assert!(handed_over.iter().any(|given| given["object"] == "table extra.kept"), "{proof}");
    let dropped = proof["dropped"].as_array().unwrap();
    assert_eq!(dropped.len(), 3, "{proof}");
    assert!(dropped[0].as_str().unwrap().starts_with("default privileges on new relations"));
    assert!(proof["grants_taken_back"].as_i64() == Some(7), "{proof}");
    let steps: Vec<_> =
        proof["steps"].as_array().unwrap().iter().map(|took| took["step"].clone()).collect();
    assert_eq!(steps, ["memberships", "shut-out", "sessions", "owned", "drop", "look"]);
}

async fn stays_without_power(world: &World, database: &str, oid: &str) {
    let mut there = world.target.superuser(database).await;
    for (question, answer) in [
        ("SELECT count(*) FROM extra.kept", "100"),
        (
            "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class
             WHERE relnamespace = 'extra'::regnamespace AND relname <> 'walled'",
            GRAVEYARD,
        ),
        (
            "SELECT string_agg(proname || ' ' || proowner::regrole || ' ' || prosecdef, ', ' ORDER BY proname)
             FROM pg_proc WHERE pronamespace = 'extra'::regnamespace",
            "done pgvalet_graveyard false, mightier pgvalet_graveyard false",
        ),
        // Neither everybody nor its owner may call it; who was named by name still may, as themselves.
        (
            "SELECT string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ' ') FROM pg_proc p, aclexplode(p.proacl) e
             LEFT JOIN pg_roles r ON r.oid = e.grantee WHERE pronamespace = 'extra'::regnamespace",
            "shop_support",
        ),
        ("SELECT has_table_privilege('shop_support', 'extra.kept', 'SELECT')", "true"),
        ("SELECT has_table_privilege('shop_support', 'extra.seen', 'SELECT')", "false"),
        ("SELECT count(*) FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole WHERE r.rolname LIKE 'pgv%'", "0"),
        ("SELECT string_agg(DISTINCT lomowner::regrole::text, ' ') FROM pg_largeobject_metadata", GRAVEYARD),
        ("SELECT has_schema_privilege('pgvalet_graveyard', 'extra', 'CREATE')", "false"),
    ] {
        assert_eq!(text(&mut there, question).await, answer, "{database}: {question}");
    }
    let traces = format!(
        "SELECT (SELECT count(*) FROM pg_shdepend WHERE refobjid = {oid} AND refclassid = 'pg_authid'::regclass)
              + (SELECT count(*) FROM pg_auth_members WHERE {oid} IN (roleid, member, grantor))
              + (SELECT count(*) FROM pg_db_role_setting WHERE setrole = {oid})
              + (SELECT count(*) FROM pg_shdescription WHERE objoid = {oid})
              + (SELECT count(*) FROM pg_class, aclexplode(relacl) e WHERE {oid} IN (e.grantee, e.grantor))
              + (SELECT count(*) FROM pg_database, aclexplode(datacl) e WHERE {oid} IN (e.grantee, e.grantor))
              + (SELECT count(*) FROM pg_namespace, aclexplode(nspacl) e WHERE {oid} IN (e.grantee, e.grantor))"
    );
    assert_eq!(text(&mut there, &traces).await, "0", "{database}");
}

/// A policy covers nobody whom it did not cover before.
async fn rules_of_others_lost_it(world: &World) {
    let mut there = world.on_target().await;
    let policies = "SELECT string_agg(polname || ' ' || (SELECT string_agg(r::regrole::text, ',') FROM unnest(polroles) r),
                    ', ' ORDER BY polname) FROM pg_policy WHERE polrelid = 'extra.walled'::regclass";
    assert_eq!(text(&mut there, policies).await, "alone pgvalet_graveyard, shared shop_support");
}

/// `owned_objects = "group"`: the next login reads and writes the rows, and owns nothing.
async fn the_group_works_on_with_the_data(world: &World) {
    let issued = world.issue("read", json!({})).await;
    let uri = issued["credential"]["uri"].as_str().unwrap();
    let sql = "INSERT INTO extra.kept (note) VALUES ('more'); SELECT count(*) FROM extra.kept";
    let said = psql(uri, sql).await;
    assert_eq!(said.out, "101", "{said:?}");
    for (sql, refused) in [
        ("DROP TABLE extra.kept", "must be owner of table kept"),
        ("SELECT extra.mightier()", "permission denied for function mightier"),
        ("SELECT * FROM extra.seen", "permission denied for view seen"),
    ] {
        let said = psql(uri, sql).await;
        assert!(said.err.contains(refused), "{sql}: {said:?}");
    }
}

#[tokio::test]
async fn what_is_out_of_reach_is_named_delays_nobody_and_goes_by_itself_once_it_can() {
    for major in SOME_VERSIONS {
        let Some(target) = version(major).await else { continue };
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let closed = format!("{}_closed", world.name);
        let create = format!("CREATE DATABASE {closed} OWNER shop_owner TEMPLATE template0");
        world.target.run("postgres", &[&create]).await;
        let issued = world.issue("read", json!({})).await;
        let (id, role) = (lease_id(&issued), user(&issued));
        give_place(&world, &closed, &role).await;
        let mut session = session_in(&world, &issued, &closed).await;
        run(&mut session, "SET ROLE NONE; CREATE TABLE extra.kept (id int)").await;
        let close = format!("ALTER DATABASE {closed} ALLOW_CONNECTIONS false");
        world.target.run("postgres", &[&close]).await;

        let revoking = revoke_aside(&world, &id);
        let why = blocked(&world, &id, "it owns relation ").await;
        assert!(
            why.contains("takes no connections")
                && why.contains(&format!("in database `{closed}`")),
            "{why}"
        );
        assert!(
            why.contains(&format!("`ALTER DATABASE \"{closed}\" ALLOW_CONNECTIONS true`")),
            "{why}"
        );
        assert!(is_shut_out(&issued).await);
        try_text(&mut session, "SELECT 1").await.unwrap_err();
        let mut there = world.on_target().await;
        let members = format!(
            "SELECT count(*) FROM pg_auth_members WHERE roleid = '{role}'::regrole AND NOT admin_option"
        );
        // While it is tried again, it is one for a moment.
        eventually("our admin is no member of it", seconds(10), async || {
            text(&mut there, &members).await == "0"
        })
        .await;
        let other = world.issue("read", json!({})).await;
        world.admin.revoke(&lease_id(&other)).await.expect(200);
        assert_eq!(world.admin.lease(&id).await["state"], "revoking");

        let open = format!("ALTER DATABASE {closed} ALLOW_CONNECTIONS true");
        world.target.run("postgres", &[&open]).await;
        let lease = world.gone(&id, 30).await;
        assert_eq!((&lease["cause"], &lease["blocked_by"]), (&json!("revoked"), &json!(null)));
        assert_eq!(lease["proof"]["objects_handed_over"], 1, "{lease}");
        let answer = revoking.await.unwrap();
        assert!([200, 202].contains(&answer.status), "{}", answer.text);
        assert!(world.admin.audit_of(&id).await.contains(&"login.blocked".to_owned()));
        world.target.drop_database(&closed).await;
        world.finish().await;
    }
}

#[tokio::test]
async fn prepared_transactions_are_named_and_never_finished() {
    for major in SOME_VERSIONS {
        let Some(target) = version(major).await else { continue };
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let shop = world.shop();
        // As the group: it outlives the login, and is told.
        let issued = world.issue("write", json!({})).await;
        let mut session = sign_in(&issued).await.unwrap();
        let gid = format!("{}_it's", world.name);
        let quoted = gid.replace('\'', "''");
        run(
            &mut session,
            &format!("BEGIN; DELETE FROM order_items; PREPARE TRANSACTION '{quoted}'"),
        )
        .await;
        let revoked = world.admin.revoke(&lease_id(&issued)).await.expect(200);
        let left = revoked["leases"][0]["proof"]["left"][0].as_str().unwrap();
        assert!(
            left.contains(&format!("`ROLLBACK PREPARED '{quoted}'`")) && left.contains(&shop),
            "{left}"
        );
        world.target.run(&shop, &[&format!("ROLLBACK PREPARED '{quoted}'")]).await;

        // As itself, holding its own row: it cannot even be shut out, and loses its rights all the same.
        let issued = world.issue("write", json!({})).await;
        let id = lease_id(&issued);
        let mut session = sign_in(&issued).await.unwrap();
        let holds = format!(
            "SET ROLE NONE; BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '1MB';
             ALTER ROLE CURRENT_USER PASSWORD NULL; PREPARE TRANSACTION '{quoted}'"
        );
        run(&mut session, &holds).await;
        let revoking = revoke_aside(&world, &id);
        let why = blocked(&world, &id, "ROLLBACK PREPARED").await;
        assert!(
            why.contains(&format!("`ROLLBACK PREPARED '{quoted}'`"))
                && why.contains("has no rights left"),
            "{why}"
        );
        let uri = issued["credential"]["uri"].as_str().unwrap();
        let said = psql(uri, "SELECT count(*) FROM orders").await;
        assert!(!said.ok, "{said:?}");
        world.target.run(&shop, &[&format!("ROLLBACK PREPARED '{quoted}'")]).await;
        world.gone(&id, 30).await;
        assert!([200, 202].contains(&revoking.await.unwrap().status));
        world.finish().await;
    }
}

fn user(issued: &Value) -> String {
    issued["credential"]["user"].as_str().unwrap().to_owned()
}

async fn session_in(world: &World, issued: &Value, database: &str) -> PgConnection {
    let credential = &issued["credential"];
    let password = credential["password"].as_str().unwrap();
    world.target.connect(database, &user(issued), password).await.unwrap()
}

async fn run(session: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(session).await.unwrap();
}

/// Revokes a lease that does not end at once.
fn revoke_aside(
    world: &World,
    id: &str,
) -> tokio::task::JoinHandle<crate::support::people::Answer> {
    let (admin, path) = (world.admin.clone(), format!("/v1/leases/{id}"));
    tokio::spawn(async move { admin.delete(&path).await })
}

/// Waits until a lease says that this is in the way of its removal.
async fn blocked(world: &World, id: &str, what: &str) -> String {
    let mut why = String::new();
    eventually("it says what is in the way", seconds(30), async || {
        let lease = world.admin.lease(id).await;
        why = lease["blocked_by"].as_str().unwrap_or_default().to_owned();
        why.contains(what)
    })
    .await;
    why
}
