//! The checks of a profile: run in real leases, and what becomes of a profile whose checks fail.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{
    eventually, seconds,
    sessions::text,
    versions::on_every_version,
    world::{Plan, World},
};

/// Records the profile `checked` with these checks; `tenant` is a claim of its context.
async fn put(world: &World, checks: Value, more: Value) {
    let mut rights = json!({ "check": checks, "context": { "tenant": "none" } });
    rights.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.put_profile("checked", json!({ "rights": rights })).await;
}

async fn run(world: &World) -> Value {
    let path = format!("/v1/profiles/{}/check", world.profile("checked"));
    world.admin.post(&path, &json!({})).await.expect(200)
}

fn outcomes(run: &Value) -> Vec<(&str, bool)> {
    let checks = run["checks"].as_array().unwrap();
    checks
        .iter()
        .map(|check| (check["name"].as_str().unwrap(), check["passed"].as_bool().unwrap()))
        .collect()
}

#[tokio::test]
async fn checks_run_in_real_leases_and_leave_nothing() {
    on_every_version(async |postgres| {
        let world = World::with(Plan { shop_on: Some(postgres), ..Plan::default() }).await;
        passing_and_failing(&world).await;
        world.finish().await;
    })
    .await;
}

async fn passing_and_failing(world: &World) {
    let group = format!("pgvg_{}_checked", world.name);
    let role = json!({ "value": group });
    let all = json!([
        { "name": "reads", "sql": "select count(*) from orders", "expect": "allowed" },
        { "name": "works as its group", "sql": "select current_user", "expect": role },
        { "name": "is a lease", "sql": "select count(*) from pg_roles where rolname = session_user and rolname like 'pgv\\_%'", "expect": { "value": "1" } },
        { "name": "writes nothing", "sql": "delete from orders", "expect": "denied" },
        { "name": "counts", "sql": "select generate_series(1, 3)", "expect": { "rows": 3 } },
        { "name": "numbers are text", "sql": "select 1.50::numeric", "expect": { "value": "1.50" } },
        { "name": "copies out", "sql": "copy (select 1 union all select 2) to stdout", "expect": { "rows": 2 } },
        { "name": "copies nothing in", "sql": "copy orders from stdin", "expect": "denied" },
        { "name": "as one", "sql": "select pgvalet.claim('tenant')", "as": { "tenant": "one" }, "expect": { "value": "one" } },
        { "name": "as another", "sql": "select pgvalet.claim('tenant')", "as": { "tenant": "it's" }, "expect": { "value": "it's" } },
        { "name": "wrong count", "sql": "select 1", "expect": { "rows": 2 } },
        { "name": "not denied", "sql": "select 1", "expect": "denied" },
        { "name": "denied, but for another reason", "sql": "select * from no_such_table", "expect": "denied" },
        { "name": "two at once", "sql": "select 1; select 2", "expect": "allowed" },
        { "name": "too long", "sql": "select pg_sleep(60)", "expect": "allowed" },
    ]);
    put(world, all, json!({})).await;
    let run = run(world).await;
    let expected: Vec<(&str, bool)> =
        outcomes(&run).into_iter().enumerate().map(|(n, (name, _))| (name, n < 10)).collect();
    assert_eq!(outcomes(&run), expected, "{run:#}");
    assert_eq!((&run["passed"], &run["blocked"]), (&json!(false), &json!(true)));
    assert_eq!(run["checks"][12]["got"]["refused"]["sqlstate"], "42P01", "{run:#}");
    assert_eq!(run["checks"][13]["got"]["refused"]["sqlstate"], "42601", "{run:#}");
    assert_eq!(run["checks"][14]["got"]["refused"]["sqlstate"], "57014", "{run:#}");
    eventually("the leases of the checks are over", seconds(20), async || {
        world.roles().await.is_empty()
    })
    .await;
    eventually("a lease for each set of claims is over", seconds(20), async || {
        let over = "/v1/leases?state=revoked&tool=check&limit=100";
        let page = world.admin.get(over).await.expect(200);
        page["items"].as_array().unwrap().len() == 3
    })
    .await;
    let mut state = world.on_state().await;
    let audited = "SELECT body::jsonb #>> '{event,failed,0}' FROM audit_entry WHERE body LIKE '%profile.checked%'";
    assert_eq!(text(&mut state, audited).await, "wrong count");
}

#[tokio::test]
async fn a_profile_whose_checks_fail_gives_no_leases_until_they_pass() {
    let mut world = World::start().await;
    let second = world.another_daemon().await;
    let elsewhere = world.admin.at(&second.url);
    let name = world.profile("checked");
    let gives = |status: u16| {
        let (here, elsewhere, name) = (&world.admin, &elsewhere, &name);
        async move {
            for person in [here, elsewhere] {
                let answer = person.ask(name, json!({})).await;
                assert_eq!(answer.status, status, "{}", answer.text);
            }
        }
    };
    let wall =
        json!([{ "name": "the wall", "sql": "select 1 from wall", "expect": { "rows": 0 } }]);
    let shop = world.shop();
    let readable = format!("GRANT SELECT ON wall TO pgvg_{}_checked", world.name);
    put(&world, wall.clone(), json!({})).await;
    world.target.run(&shop, &["CREATE TABLE wall (a int)", &readable]).await;
    // Both daemons know it from now on.
    gives(201).await;
    assert_eq!(outcomes(&run(&world).await), [("the wall", true)]);
    gives(201).await;

    world.target.run(&shop, &["INSERT INTO wall VALUES (1)"]).await;
    let failed = run(&world).await;
    assert_eq!(failed["checks"][0]["got"]["ran"]["rows"], 1, "{failed}");
    gives(409).await;
    let said = world.admin.ask(&name, json!({})).await.expect_problem(409, "checks_failed");
    assert!(said["detail"].as_str().unwrap().contains("`the wall`"), "{said}");

    put(&world, wall.clone(), json!({ "failed_checks": "warn" })).await;
    assert_eq!(run(&world).await["blocked"], false);
    gives(201).await;
    put(&world, wall, json!({})).await;
    run(&world).await;
    gives(409).await;
    world.target.run(&shop, &["DELETE FROM wall"]).await;
    assert_eq!(run(&world).await["passed"], true);
    gives(201).await;

    let anybody = world.person("somebody", &[]).await;
    anybody
        .post(&format!("/v1/profiles/{name}/check"), &json!({}))
        .await
        .expect_problem(403, "admin_only");
    let mut second = second;
    assert!(second.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn apply_runs_the_checks_of_the_files_profiles() {
    let world = World::start().await;
    let file = |expect: &str| {
        format!(
            "[profile.{}]\ntarget = \"{}\"\ndatabase = \"{}\"\npreset = \"readonly\"\nschemas = [\"public\"]\nttl = \"1h\"\n\
             [[profile.{0}.check]]\nname = \"writes nothing\"\nsql = \"delete from orders\"\nexpect = \"{expect}\"\n",
            world.profile("applied"),
            world.name,
            world.shop()
        )
    };
    for (expect, note) in [
        ("denied", "1 checks passed"),
        ("allowed", "check `writes nothing` failed: expected allowed, got 42501"),
    ] {
        let body = json!({ "name": "p.toml", "text": file(expect), "secrets": {} });
        let done = world.admin.post("/v1/apply", &body).await.expect(200);
        assert!(done.to_string().contains(note), "{done}");
    }
    world.finish().await;
}

#[tokio::test]
async fn the_command_line_says_it_to_people_programs_and_ci() {
    let world = World::start().await;
    let hostile = "<&\"]]>\u{1b}[2J\n'";
    let checks = json!([
        { "name": "fine", "sql": "select 1", "expect": "allowed" },
        { "name": hostile, "sql": "select '<&>' from orders limit 1", "expect": "denied" },
    ]);
    put(&world, checks, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checks.xml");
    let pgvalet = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgvalet"));
        command
            .args(words)
            .env("PGVALET_URL", &world.daemon.url)
            .env("PGVALET_TOKEN", &world.admin.token);
        command.env("XDG_CONFIG_HOME", folder.path()).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output())
    };
    let name = world.profile("checked");
    let said =
        pgvalet(&["check", &name, "--junit", file.to_str().unwrap()]).await.unwrap().unwrap();
    let out = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1), "{out}");
    assert!(out.contains("ok      fine") && out.contains("1 of 2 checks passed"), "{out}");
    assert!(!out.contains('\u{1b}'), "{out}");
    // PostgreSQL reads XML.
    let xml = std::fs::read_to_string(&file).unwrap();
    let mut target = world.on_target().await;
    let literal = xml.replace('\'', "''");
    let read =
        format!("SELECT (xpath('//testcase[failure]/@name', xmlparse(document '{literal}')))[1]");
    let read = text(&mut target, &read).await;
    assert!(read.contains("&lt;&amp;"), "{read}");

    let said = pgvalet(&["check", &name, "--json"]).await.unwrap().unwrap();
    let run: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(run["checks"][1]["name"], hostile);

    let said = pgvalet(&["explain", &name, "public.orders"]).await.unwrap().unwrap();
    let out = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && out.contains("SELECT") && out.contains("grant"), "{out}");
    let said = pgvalet(&["explain", &name, "public.ordres"]).await.unwrap().unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let doctor = pgvalet(&["doctor", &world.name]).await.unwrap().unwrap();
    assert_eq!(doctor.status.code(), Some(0), "nothing is broken: {doctor:?}");
    let doctor = pgvalet(&["doctor", &world.name, "--fail-on", "risk"]).await.unwrap().unwrap();
    assert_eq!(doctor.status.code(), Some(1), "TLS is off: {doctor:?}");
    world.finish().await;
}
