//! What `pgvalet doctor` finds of a server and its databases, and what `pgvalet explain` says of an object.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{
    eventually,
    postgres::{Postgres, own_cluster},
    seconds,
    sessions::text,
    versions::on_every_version,
    world::{Plan, World},
};

async fn examine(world: &World) -> Vec<Value> {
    let path = format!("/v1/targets/{}/doctor", world.name);
    let diagnosis = world.admin.get(&path).await.expect(200);
    diagnosis["findings"].as_array().unwrap().clone()
}

/// The finding of this check that speaks of `what`.
fn about<'a>(findings: &'a [Value], check: &str, what: &str) -> Option<&'a Value> {
    let speaks = |finding: &Value| finding["found"].as_str().unwrap().contains(what);
    findings.iter().find(|finding| finding["check"] == check && speaks(finding))
}

/// Waits until there is such a finding, or none: a setting is taken over a moment after it was changed.
async fn once(world: &World, check: &str, what: &str, is_there: bool) -> Option<Value> {
    let mut finding = None;
    eventually(&format!("{check} is found ({is_there})"), seconds(10), async || {
        finding = about(&examine(world).await, check, what).cloned();
        finding.is_some() == is_there
    })
    .await;
    finding
}

/// Each: what makes it so, the check, what it speaks of, how bad it is.
const FAULTS: [(&str, &str, &str, &str); 21] = [
    ("CREATE SCHEMA wide; GRANT CREATE ON SCHEMA wide TO PUBLIC", "public_create", "wide", "risk"),
    (
        "CREATE FUNCTION \"Do it\"() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT 1'",
        "public_functions",
        "public.\"Do it\"()",
        "risk",
    ),
    (
        "CREATE FUNCTION unpinned() RETURNS int LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT 1'",
        "definer_search_path",
        "public.unpinned()",
        "risk",
    ),
    (
        "CREATE TABLE open_to_all (a int); GRANT SELECT ON open_to_all TO PUBLIC",
        "public_tables",
        "open_to_all",
        "risk",
    ),
    (
        "CREATE TABLE one_column (a int, b int); GRANT UPDATE (b) ON one_column TO PUBLIC",
        "public_tables",
        "one_column",
        "risk",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC",
        "public_defaults",
        "postgres in public (TABLES)",
        "risk",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT USAGE ON SEQUENCES TO PUBLIC",
        "public_defaults",
        "postgres (SEQUENCES)",
        "risk",
    ),
    (
        "CREATE ROLE boss LOGIN SUPERUSER VALID UNTIL '2099-01-01'",
        "superuser_logins",
        "boss",
        "risk",
    ),
    (
        "CREATE ROLE sees_all LOGIN BYPASSRLS VALID UNTIL '2099-01-01'",
        "bypassrls_logins",
        "sees_all",
        "risk",
    ),
    (
        "CREATE ROLE copies LOGIN REPLICATION VALID UNTIL '2099-01-01'",
        "replication_logins",
        "copies",
        "note",
    ),
    ("CREATE ROLE runs; GRANT pg_execute_server_program TO runs", "server_files", "runs", "risk"),
    ("CREATE ROLE forever LOGIN", "no_expiry", "forever", "note"),
    (
        "CREATE TABLE unwalled (id int, tenant_id int)",
        "tenants_unwalled",
        "public.unwalled (tenant_id)",
        "risk",
    ),
    (
        "CREATE TABLE walled (tenant_id int); ALTER TABLE walled ENABLE ROW LEVEL SECURITY",
        "rls_not_forced",
        "public.walled",
        "risk",
    ),
    (
        "CREATE TABLE believed (a int); CREATE POLICY all_rows ON believed USING (true)",
        "rls_off_with_policies",
        "believed",
        "critical",
    ),
    (
        "CREATE TABLE forged (tenant_id int); ALTER TABLE forged ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE SCHEMA pgvalet; CREATE FUNCTION pgvalet.claim(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1'; \
         CREATE POLICY own ON forged USING (tenant_id::text = current_setting('app.tenant_id', true)) \
         WITH CHECK (tenant_id::text = current_setting('app.tenant_id'))",
        "forgeable_policies",
        "own ON public.forged",
        "critical",
    ),
    (
        "CREATE FUNCTION lo_import_by(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC",
        "file_functions",
        "pg_read_file(text)",
        "critical",
    ),
    ("CREATE EXTENSION dblink", "connecting_functions", "dblink", "risk"),
    ("CREATE EXTENSION tablefunc", "running_functions", "tablefunc", "note"),
    (
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; GRANT USAGE ON FOREIGN SERVER files TO PUBLIC",
        "foreign_servers",
        "server files",
        "risk",
    ),
    (
        "ALTER SYSTEM SET row_security = 'off'; SELECT pg_reload_conf()",
        "settings",
        "row_security",
        "risk",
    ),
];

#[tokio::test]
async fn each_entry_of_the_checklist_is_found_and_mended_by_its_sql() {
    let (cluster, _folder) = own_cluster().await;
    let world = World::with(Plan { shop_on: Some(Arc::clone(&cluster)), ..Plan::default() }).await;
    let shop = world.shop();
    for (fault, check, what, severity) in FAULTS {
        if let Some(extension) = fault.strip_prefix("CREATE EXTENSION ") {
            let name = extension.split(';').next().unwrap();
            let there =
                format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{name}'");
            if text(&mut world.on_target().await, &there).await == "0" {
                continue;
            }
        }
        let before = examine(&world).await;
        assert_eq!(about(&before, check, what), None, "{check} is not found before");
        // One by one: ALTER SYSTEM stands alone.
        let (first, rest) = fault
            .split_once("; SELECT pg_reload_conf()")
            .map_or((fault, ""), |(a, _)| (a, "SELECT pg_reload_conf()"));
        cluster.run(&shop, &[first]).await;
        if !rest.is_empty() {
            cluster.run(&shop, &[rest]).await;
        }
        let finding = once(&world, check, what, true).await.unwrap();
        assert_eq!(finding["severity"], severity, "{finding}");
        assert!(finding["reason"].is_string(), "{finding}");
        mend(&world, &cluster, &finding).await;
        once(&world, check, what, false).await;
    }
    world.finish().await;
    cluster.stop().await;
}

async fn mend(world: &World, cluster: &Postgres, finding: &Value) {
    let mend = finding["mend"].as_str().unwrap_or_else(|| panic!("{finding}"));
    for statement in mend.split(";\n").flat_map(|part| part.split("; ")) {
        cluster.run(&world.shop(), &[statement]).await;
    }
}

#[tokio::test]
async fn lines_of_pg_hba_and_md5_are_judged_if_they_may_be_read() {
    let (cluster, _folder) = own_cluster().await;
    let world = World::with(Plan { shop_on: Some(Arc::clone(&cluster)), ..Plan::default() }).await;
    let shop = world.shop();
    let found = examine(&world).await;
    let unread = about(&found, "pg_hba", "could not be read").expect("it is said");
    let lines = unread["mend"].as_str().unwrap();
    assert!(lines.contains(&format!("+pgvg_{}_read", world.name)), "{lines}");
    let grant = lines.lines().next().unwrap();
    cluster.run(&shop, &[grant]).await;
    assert!(about(&found, "md5_passwords", "could not be seen").is_some(), "{found:#?}");
    cluster
        .run(
            &shop,
            &[
                &format!("GRANT SELECT ON pg_authid TO {shop}"),
                "SET password_encryption = 'md5'; CREATE ROLE ancient LOGIN PASSWORD 'x'",
            ],
        )
        .await;
    let found = examine(&world).await;
    assert_eq!(about(&found, "pg_hba", ""), None, "{found:#?}");
    assert!(about(&found, "md5_passwords", "ancient").is_some(), "{found:#?}");

    let group = format!("+pgvg_{}_read", world.name);
    append_to_hba(
        &cluster,
        &format!("host all {group} 10.0.0.0/8 md5\nhostssl {shop} all 10.1.0.0/16 trust"),
    )
    .await;
    let found = examine(&world).await;
    let plain = about(&found, "pg_hba", "10.0.0.0 255.0.0.0").expect("the line");
    assert_eq!(plain["severity"], "risk", "{plain}");
    let trust = about(&found, "pg_hba", "10.1.0.0 255.255.0.0").expect("the line");
    assert_eq!(trust["severity"], "critical", "{trust}");
    let review = trust["mend"].as_str().unwrap();
    let expected = format!("hostssl   {shop}  {group}  10.0.0.0 255.0.0.0  scram-sha-256");
    assert!(review.contains(&expected), "{review}");

    append_to_hba(&cluster, "host all").await;
    let found = examine(&world).await;
    assert!(about(&found, "pg_hba_fault", "is wrong").is_some(), "{found:#?}");
    world.finish().await;
    cluster.stop().await;
}

/// The server writes its own file.
async fn append_to_hba(cluster: &Postgres, lines: &str) {
    let mut boss = cluster.superuser("postgres").await;
    let file = text(&mut boss, "current_setting('hba_file')").await;
    let now = text(&mut boss, "pg_read_file(current_setting('hba_file'))").await;
    let whole = format!("{}\n{lines}", now.trim_end()).replace('\'', "''");
    let write = format!(
        "COPY (SELECT unnest(string_to_array('{whole}', E'\\n'))) TO '{file}' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
    );
    cluster.run("postgres", &[&write]).await;
}

#[tokio::test]
async fn every_version_is_examined() {
    on_every_version(async |postgres| {
        let world =
            World::with(Plan { shop_on: Some(Arc::clone(&postgres)), ..Plan::default() }).await;
        let found = examine(&world).await;
        assert!(about(&found, "settings", "`ssl` is off").is_some(), "{found:#?}");
        let is_over = [13, 14].contains(&postgres.major());
        // The clock of this machine says which are over; these two were at the end of 2026.
        if is_over {
            let over = about(&found, "end_of_life", "had its last release");
            assert!(over.is_some(), "{found:#?}");
        }
        let all = Value::Array(found.clone()).to_string();
        assert!(!all.contains("could not be looked at"), "{found:#?}");
        let broken = found.iter().find(|finding| finding["severity"] == "broken");
        assert_eq!(broken, None);
        world.finish().await;
    })
    .await;
}

#[tokio::test]
async fn more_than_a_few_are_counted() {
    let (cluster, _folder) = own_cluster().await;
    let world = World::with(Plan { shop_on: Some(Arc::clone(&cluster)), ..Plan::default() }).await;
    let many: Vec<String> = (1..=7).map(|n| format!("CREATE TABLE t{n} (org_id int)")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    cluster.run(&world.shop(), &many).await;
    let found = examine(&world).await;
    let unwalled = about(&found, "tenants_unwalled", " more").expect("they are found");
    assert_eq!(unwalled["database"], json!(world.shop()));
    let names = unwalled["found"].as_str().unwrap().matches("(org_id)").count()
        + unwalled["found"].as_str().unwrap().matches("(tenant_id)").count();
    assert!(names <= 5 && unwalled["mend"].as_str().unwrap().contains("more"), "{unwalled}");
    world.finish().await;
    cluster.stop().await;
}

/// What explain says of an object, to an administrator.
async fn explain(world: &World, profile: &str, object: &str) -> Value {
    let path = format!("/v1/profiles/{}/explain?object={object}", world.profile(profile));
    world.admin.get(&path).await.expect(200)
}

/// Of the privileges that the profile has: through what, of whom, on which columns.
fn held<'a>(explained: &'a Value, privilege: &str) -> Vec<(&'a str, &'a str, &'a Value)> {
    let held = explained["held"].as_array().unwrap();
    held.iter()
        .filter(|held| held["privilege"] == privilege)
        .map(|held| {
            (held["way"].as_str().unwrap(), held["holder"].as_str().unwrap(), &held["columns"])
        })
        .collect()
}

#[tokio::test]
async fn an_object_is_explained_by_grant_column_membership_public_policy_and_view() {
    on_every_version(async |postgres| {
        let world =
            World::with(Plan { shop_on: Some(Arc::clone(&postgres)), ..Plan::default() }).await;
        explained(&world).await;
        world.finish().await;
    })
    .await;
}

async fn explained(world: &World) {
    make_people(world).await;
    the_whole(world).await;
    policies_and_views(world).await;
    one_column(world).await;
    what_is_not_there(world).await;
    let team = format!("DROP ROLE {}_team", world.name);
    world.target.run(&world.shop(), &["DROP SCHEMA hr CASCADE", &team]).await;
}

/// A table with a right of each kind for the profile `read`, policies, and views.
async fn make_people(world: &World) {
    let (shop, name) = (world.shop(), &world.name);
    let group = format!("pgvg_{name}_read");
    let made = format!(
        "CREATE SCHEMA hr; GRANT USAGE ON SCHEMA hr TO {group};
         CREATE TABLE hr.people (id int PRIMARY KEY, name text, \"Salary\" int, tenant_id int);
         GRANT SELECT (id, name), UPDATE (name) ON hr.people TO {group};
         GRANT DELETE ON hr.people TO PUBLIC;
         CREATE ROLE {name}_team; ALTER ROLE {group} INHERIT; GRANT {name}_team TO {group}; GRANT INSERT ON hr.people TO {name}_team;
         GRANT SELECT ON hr.people TO pgvg_{name}_write;
         ALTER TABLE hr.people ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON hr.people FOR SELECT TO {group} USING (tenant_id = 1);
         CREATE POLICY wall ON hr.people AS RESTRICTIVE USING (tenant_id > 0) WITH CHECK (tenant_id > 0);
         CREATE POLICY theirs ON hr.people TO pgvg_{name}_write USING (true);
         CREATE VIEW hr.names AS SELECT name FROM hr.people; GRANT SELECT ON hr.names TO {group};
         CREATE VIEW hr.pay AS SELECT \"Salary\" FROM hr.people"
    );
    for statement in made.split(';') {
        world.target.run(&shop, &[statement]).await;
    }
}

async fn the_whole(world: &World) {
    let name = &world.name;
    let group = format!("pgvg_{name}_read");
    let whole = explain(world, "read", "hr.people").await;
    assert_eq!(
        held(&whole, "SELECT"),
        [("grant", group.as_str(), &json!(["id", "name"]))],
        "{whole}"
    );
    assert_eq!(held(&whole, "DELETE"), [("public", "PUBLIC", &Value::Null)], "{whole}");
    let team = format!("{name}_team");
    assert_eq!(held(&whole, "INSERT"), [("membership", team.as_str(), &Value::Null)], "{whole}");
    let notes = whole["notes"].to_string();
    assert!(
        notes.contains("SELECT * and COPY without columns are refused: name id, name"),
        "{notes}"
    );
    assert!(notes.contains("hr.names shows it with the rights of"), "{notes}");
    let write = world.profile("write");
    let other = |role: &Value| {
        whole["others"].as_array().unwrap().iter().find(|other| other["role"] == *role).cloned()
    };
    let theirs = other(&json!(format!("pgvg_{name}_write"))).expect("the other profile");
    assert_eq!(theirs["profiles"], json!([write]), "{theirs}");
    assert_eq!(other(&json!("postgres")).expect("the owner")["owns"], true);
}

async fn policies_and_views(world: &World) {
    let whole = explain(world, "read", "hr.people").await;
    let policies: Vec<_> =
        whole["rows"]["policies"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(policies, ["own", "wall"], "{whole}");
    assert_eq!((&whole["rows"]["holds"], &whole["rows"]["forced"]), (&json!(true), &json!(false)));
    assert_eq!(whole["rows"]["policies"][1]["effect"], "restrictive");
    let views: Vec<_> =
        whole["views"].as_array().unwrap().iter().map(|v| (&v["name"], &v["readable"])).collect();
    assert_eq!(
        views,
        [(&json!("hr.names"), &json!(true)), (&json!("hr.pay"), &json!(false))],
        "{whole}"
    );
}

async fn one_column(world: &World) {
    let column = explain(world, "read", "hr.people.%22Salary%22").await;
    assert_eq!(column["object"], "hr.people.\"Salary\"");
    assert_eq!(held(&column, "SELECT"), []);
    assert_eq!(
        column["columns"],
        json!([{ "name": "Salary", "select": false, "insert": true, "update": false, "references": false }])
    );
    assert_eq!(column["views"].as_array().unwrap().len(), 1, "{column}");
    let table = explain(world, "read", "public.orders").await;
    assert_eq!(held(&table, "SELECT").len(), 1, "{table}");
    assert!(!table["defaults"].as_array().unwrap().is_empty(), "{table}");
}

async fn what_is_not_there(world: &World) {
    for (object, what) in [("hr.poeple", "people"), ("rh.people", "hr"), ("hr.people.nmae", "name")]
    {
        let path = format!("/v1/profiles/{}/explain?object={object}", world.profile("read"));
        let said = world.admin.get(&path).await.expect_problem(404, "not_found");
        assert!(said.to_string().contains(what), "{said}");
    }
    let path = format!("/v1/profiles/{}/explain?object=people", world.profile("read"));
    world.admin.get(&path).await.expect_problem(422, "invalid_request");
    let anybody = world.person("somebody", &[]).await;
    let path = format!("/v1/profiles/{}/explain?object=hr.people", world.profile("read"));
    let told = anybody.get(&path).await.expect(200);
    assert!(!told["others"].to_string().contains("postgres"), "{told}");
    world.put_profile("closed", json!({ "allow": [] })).await;
    let path = format!("/v1/profiles/{}/explain?object=hr.people", world.profile("closed"));
    anybody.get(&path).await.expect_problem(404, "not_found");
}
