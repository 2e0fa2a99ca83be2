//! Setting a target up with `pgvalet bootstrap-target`, and looking at it with `pgvalet doctor`.

use std::{
    process::{Command, Output, Stdio},
    sync::Arc,
};

use pgvalet::dev::shop;
use serde_json::{Value, json};

use crate::{
    support::{
        chaos::Mode,
        eventually,
        people::lease_id,
        postgres::{Postgres, own_cluster},
        seconds,
        sessions::{is_shut_out, psql, sign_in, text, try_text},
        versions::on_every_version,
        world::{Plan, World},
    },
    targets::admin_password,
};

/// Runs the program as the superuser of a cluster.
async fn bootstrap_target(cluster: &Postgres, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgvalet"));
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", cluster.port());
    command.args(["bootstrap-target", "--apply", "--as", &url]).args(more);
    command.env("PGPASSWORD", cluster.password()).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_script_for_a_target_makes_an_admin_that_can_do_it_all() {
    let (cluster, _folder) = own_cluster().await;
    let world = World::start().await;
    let password = pgvalet::rng::password().unwrap();
    world.secrets.remember(password.expose());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}\n", password.expose())).unwrap();
    for _ in 0..2 {
        let set_up = ["--database", "shop", "--owner", shop::OWNER, "--group", "shop_support"];
        let more = ["--admin", "keeper", "--password-file", file.path().to_str().unwrap()];
        let output = bootstrap_target(&cluster, &[&set_up[..], &more].concat()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty(), "a password that was given is not shown");
    }

    let name = format!("{}-made", world.name);
    let target = json!({
        "host": "127.0.0.1", "port": cluster.port(), "sslmode": "disable", "admin_user": "keeper",
        "admin_password": password.expose(), "databases": ["shop"],
    });
    world.admin.put(&format!("/v1/targets/{name}"), &target).await.expect(201);
    for more in [
        json!({ "preset": "readwrite" }),
        json!({ "preset": "custom", "schemas": [], "group_role": "shop_support" }),
    ] {
        let own = json!({ "target": name, "database": "shop" });
        let mut differs = own.as_object().unwrap().clone();
        differs.extend(more.as_object().unwrap().clone());
        world.put_profile(more["preset"].as_str().unwrap(), Value::Object(differs)).await;
        let issued = world.issue(more["preset"].as_str().unwrap(), json!({})).await;
        let id = lease_id(&issued);
        let said = psql(issued["credential"]["uri"].as_str().unwrap(), "select current_user").await;
        assert!(said.ok, "{said:?}");
        let session = sign_in(&issued).await.unwrap();
        world.admin.renew(&id, json!({ "ttl": "2h" })).await.expect(200);
        let rotated = world.admin.rotate(&id).await.expect(200);
        sign_in(&rotated).await.unwrap();
        let revoked = world.admin.revoke(&id).await.expect(200);
        assert_eq!(revoked["leases"][0]["state"], "revoked", "{revoked}");
        assert!(is_shut_out(&issued).await && is_shut_out(&rotated).await);
        drop(session);
    }
    let mut boss = cluster.superuser("shop").await;
    let diagnosis = world.admin.get(&format!("/v1/targets/{name}/doctor")).await.expect(200);
    assert_eq!(diagnosis["sound"], true, "{diagnosis}");
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgv\\_%'";
    assert_eq!(text(&mut boss, left).await, "0");
    drop(boss);
    world.finish().await;
    cluster.stop().await;
}

/// What doctor found for one check: how bad, and what mends it.
fn found(diagnosis: &Value, check: &str) -> Vec<(String, Option<String>)> {
    let findings = diagnosis["findings"].as_array().unwrap();
    let of_check = findings.iter().filter(|finding| finding["check"] == check);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    of_check.map(|finding| (text(&finding["severity"]).unwrap(), text(&finding["mend"]))).collect()
}

#[tokio::test]
async fn each_fault_that_doctor_finds_is_mended_by_the_sql_that_it_gives() {
    let world = World::start().await;
    let shop = world.shop();
    let path = format!("/v1/targets/{}/doctor", world.name);
    let examine = async || world.admin.get(&path).await.expect(200);
    let before = examine().await;
    assert_eq!((&before["sound"], &before["way"]), (&json!(true), &json!("direct")), "{before}");
    assert!(found(&before, "group").iter().all(|(severity, _)| severity == "good"), "{before}");

    for (fault, check, severity) in [
        (format!("ALTER ROLE {shop} NOCREATEROLE"), "create_login", "broken"),
        (format!("REVOKE pg_signal_backend FROM {shop}"), "end_sessions", "broken"),
        (format!("REVOKE pg_read_all_stats FROM {shop}"), "see_sessions", "risk"),
        (format!("ALTER ROLE {shop} CREATEDB"), "admin_attributes", "risk"),
        (format!("ALTER ROLE {shop} BYPASSRLS"), "admin_attributes", "risk"),
        (format!("GRANT TEMPORARY ON DATABASE {shop} TO PUBLIC"), "temporary", "note"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC".to_owned(), "schema_public", "risk"),
        (
            format!(
                "REVOKE CONNECT ON DATABASE {shop} FROM PUBLIC; REVOKE {owner} FROM {shop}; GRANT CONNECT ON DATABASE {shop} TO {shop}",
                owner = shop::OWNER
            ),
            "connect",
            "broken",
        ),
    ] {
        world.target.run(&shop, &[&fault]).await;
        let diagnosis = examine().await;
        assert_eq!(diagnosis["sound"], severity != "broken", "{fault}: {diagnosis}");
        let bad: Vec<_> = found(&diagnosis, check)
            .into_iter()
            .filter(|(severity, _)| severity != "good")
            .collect();
        let [(is, Some(mend))] = bad.as_slice() else { panic!("{fault}: {diagnosis}") };
        assert_eq!(is, severity, "{fault}");
        world.target.run(&shop, &[mend]).await;
        let mended = examine().await;
        let good = found(&mended, check).iter().all(|(severity, _)| severity == "good");
        assert!(good, "{mend}: {mended}");
        assert_eq!(mended["sound"], true, "{mended}");
    }
    assert_eq!(world.roles().await, Vec::<String>::new(), "what was tried is undone");
    world.finish().await;
}

#[tokio::test]
async fn a_target_that_cannot_be_examined_is_a_finding() {
    let world = World::start().await;
    let path = format!("/v1/targets/{}/doctor", world.name);
    world.target.run("postgres", &[&format!("ALTER ROLE {} NOLOGIN", world.shop())]).await;
    world.target_path.set(Mode::Refuse);
    let diagnosis = world.admin.get(&path).await.expect(200);
    assert_eq!(diagnosis["sound"], false, "{diagnosis}");
    assert_eq!(found(&diagnosis, "sign_in"), [("broken".to_owned(), None)], "{diagnosis}");
    world.target.run("postgres", &[&format!("ALTER ROLE {} LOGIN", world.shop())]).await;
    world.target_path.set(Mode::Pass);
    let none = "/v1/targets/no-such-target/doctor";
    world.admin.get(none).await.expect_problem(404, "not_found");
    let anybody = world.person("somebody", &[]).await;
    anybody.get(&path).await.expect_problem(403, "admin_only");
    world.finish().await;
}

#[tokio::test]
async fn through_functions_a_lease_lives_and_ends_and_the_daemons_login_can_do_no_more() {
    on_every_version(async |postgres| live_and_attack(postgres, "functions").await).await;
}

#[tokio::test]
async fn through_shards_a_lease_lives_and_ends_and_the_daemons_login_can_do_no_more() {
    on_every_version(async |postgres| {
        if postgres.major() >= 16 {
            live_and_attack(postgres, "shards").await;
        }
    })
    .await;
}

async fn live_and_attack(postgres: Arc<Postgres>, way: &str) {
    // Before 16, and by roles that share the logins, those that are live are not taken over.
    let is_taken_over = way == "functions" && postgres.major() >= 16;
    let world = World::with(Plan { shop_on: Some(postgres), ..Plan::default() }).await;
    let earlier = lease_id(&world.issue("read", json!({})).await);
    if !is_taken_over {
        world.admin.revoke(&earlier).await.expect(200);
    }
    change_over(&world, way).await;

    let issued = live(&world).await;
    let id = lease_id(&issued);
    let rotated = world.admin.rotate(&id).await.expect(200);
    sign_in(&rotated).await.unwrap();
    attack(&world, &issued).await;
    is_swept(&world, &rotated).await;
    let revoked = world.admin.revoke(&id).await.expect(200);
    assert_eq!(revoked["leases"][0]["state"], "revoked", "{revoked}");
    assert!(is_shut_out(&issued).await && is_shut_out(&rotated).await);
    world.admin.revoke(&earlier).await.expect(200);
    world.finish().await;
}

/// A lease under a group role that the functions make, whose login comes to own something.
async fn live(world: &World) -> Value {
    let fresh = json!({
        "settings": { "statement_timeout": "30s", "search_path": "public" },
        "rights": { "context": { "tenant_id": "7" } },
    });
    world.put_profile("fresh", fresh).await;
    let issued = world.issue("fresh", json!({})).await;
    let mut session = sign_in(&issued).await.unwrap();
    let group = format!("pgvg_{}_fresh", world.name);
    assert_eq!(text(&mut session, "SELECT current_user").await, group);
    text(&mut session, "SELECT count(*) FROM orders").await;
    assert_eq!(text(&mut session, "SELECT pgvalet.tenant_id()").await, "7");
    // What it owns itself: not as its group.
    try_run(&mut session, "SET ROLE NONE; SELECT lo_create(0)").await.unwrap();
    world.admin.renew(&lease_id(&issued), json!({ "ttl": "2h" })).await.expect(200);
    issued
}

/// A sweep puts the end of a login back that was moved by hand, ends one that was given more than can be taken
/// from it in this way, and keeps the epoch.
async fn is_swept(world: &World, issued: &Value) {
    let mut state = world.on_state().await;
    let epoch = "SELECT 'pgvm_' || replace(id::text, '-', '') FROM installation";
    let epoch = text(&mut state, epoch).await;
    let wide = world.issue("fresh", json!({})).await;
    let role = |issued: &Value| issued["credential"]["user"].as_str().unwrap().to_owned();
    let (moved, wide) = (role(issued), (role(&wide), lease_id(&wide)));
    let by_hand = [
        format!("ALTER ROLE \"{moved}\" VALID UNTIL 'infinity'"),
        format!("ALTER ROLE \"{}\" CONNECTION LIMIT 100", wide.0),
        // That of the time when our admin made roles itself.
        format!("DROP ROLE IF EXISTS {epoch}"),
    ];
    let by_hand: Vec<&str> = by_hand.iter().map(String::as_str).collect();
    world.target.run("postgres", &by_hand).await;
    let ask = json!({ "targets": [world.name] });
    let swept = world.admin.post("/v1/sweep", &ask).await.expect(200);
    assert_eq!(swept["targets"][0]["fault"], Value::Null, "{swept}");
    let mut target = world.on_target().await;
    let end = format!("SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = '{moved}'");
    assert_ne!(text(&mut target, &end).await, "infinity", "{swept}");
    let lease = world.gone(&wide.1, 20).await;
    assert_eq!(lease["state"], "revoked", "{swept}");
    let kept = format!(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{epoch}'"
    );
    eventually("the epoch is kept there again", seconds(40), async || {
        let kept = try_text(&mut target, &kept).await;
        kept.is_ok_and(|kept| kept.starts_with("pgvalet installation "))
    })
    .await;
}

/// Takes CREATEROLE from the world's admin, and gives it functions.
async fn change_over(world: &World, way: &str) {
    let shop = world.shop();
    let groups = ["read", "write", "acme"].map(|name| format!("pgvg_{}_{name}", world.name));
    for _ in 0..2 {
        let mut more = vec!["--way", way, "--admin", &shop, "--database", &shop];
        more.extend(["--owner", shop::OWNER]);
        groups.iter().for_each(|group| more.extend(["--group", group]));
        let output = bootstrap_target(&world.target, &more).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let close = format!("REVOKE CONNECT ON DATABASE {shop} FROM PUBLIC");
    world.target.run("postgres", &[&close]).await;
    let path = format!("/v1/targets/{}/doctor", world.name);
    let diagnosis = world.admin.get(&path).await.expect(200);
    let is = (&diagnosis["way"], &diagnosis["sound"]);
    assert_eq!(is, (&json!(way), &json!(true)), "{diagnosis}");
}

/// As whoever has the daemon's password, with psql.
#[expect(clippy::too_many_lines, reason = "a list of attacks")]
async fn attack(world: &World, issued: &Value) {
    let (shop, name) = (world.shop(), &world.name);
    let live = issued["lease"]["role"].as_str().unwrap();
    let foreign = format!("pgv_{name}_ours_psql_0123456789ab");
    let made = format!(
        "CREATE ROLE {foreign} LOGIN; COMMENT ON ROLE {foreign} IS 'pgvalet lease of another'; CREATE ROLE {name}_mighty NOLOGIN CREATEROLE"
    );
    world.target.run("postgres", &[&made]).await;
    let mut daemon = world.target.connect(&shop, &shop, &admin_password(world)).await.unwrap();
    let verifier = "SCRAM-SHA-256$4096:BwcHBwcHBwcHBwcHBwcHBw==$l4MnZbiQAavoMMhFSTH6awUlG9Kll9QXW9bERYpWVnc=:UF0KTGqxE1VbxUzXuObFem+5wZ5W5HV6ctlqRlxrNio=";
    let new = format!("pgv_{name}_evil_psql_0123456789ab");
    let group = format!("pgvg_{name}_read");
    let issue = |login: &str,
                 group: &str,
                 verifier: &str,
                 until: &str,
                 limit: &str,
                 settings: &str| {
        format!(
            "SELECT pgvalet_admin.issue(ARRAY['{login}'], ARRAY['{group}'], ARRAY['{verifier}'], ARRAY[({until})::timestamptz], ARRAY[{limit}]::int[], ARRAY['pgvalet lease x'], ARRAY['{settings}'::jsonb])"
        )
    };
    let soon = "now() + interval '1 hour'";
    let of = |function: &str, login: &str| {
        format!("SELECT pgvalet_admin.{function}(ARRAY['{login}'], ARRAY[NULL]::oid[])")
    };
    let mighty = format!("{name}_mighty");
    let mut refused = vec![
        "CREATE ROLE evil".to_owned(),
        "ALTER ROLE postgres PASSWORD NULL".to_owned(),
        format!("ALTER ROLE \"{live}\" VALID UNTIL 'infinity'"),
        format!("GRANT pg_execute_server_program TO {shop}"),
        "CREATE FUNCTION pgvalet_admin.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
        "DROP FUNCTION pgvalet_admin.version()".to_owned(),
        // Groups off the list, or too mighty.
        issue(&new, shop::OWNER, verifier, soon, "1", "{}"),
        issue(&new, "pg_execute_server_program", verifier, soon, "1", "{}"),
        issue(&new, &shop, verifier, soon, "1", "{}"),
        issue(&new, &mighty, verifier, soon, "1", "{}"),
        // For ever; without bounds.
        issue(&new, &group, verifier, "'infinity'", "1", "{}"),
        issue(&new, &group, verifier, "now() + interval '101 days'", "1", "{}"),
        issue(&new, &group, verifier, "now() - interval '1 day'", "1", "{}"),
        issue(&new, &group, verifier, "NULL", "1", "{}"),
        issue(&new, &group, verifier, soon, "-1", "{}"),
        issue(&new, &group, verifier, soon, "NULL", "{}"),
        // A password in the clear; a name, a setting, a comment that break out.
        issue(&new, &group, "secret", soon, "1", "{}"),
        issue(&new, &group, &format!("{verifier}\n"), soon, "1", "{}"),
        issue("postgres", &group, verifier, soon, "1", "{}"),
        issue(&format!("{new}\" SUPERUSER --"), &group, verifier, soon, "1", "{}"),
        issue(&format!("{new}\n"), &group, verifier, soon, "1", "{}"),
        issue(&foreign, &group, verifier, soon, "1", "{}"),
        issue(&new, &group, verifier, soon, "1", r#"{"session_preload_libraries": "evil"}"#),
        issue(&new, &group, verifier, soon, "1", r#"{"role": "postgres"}"#),
        issue(
            &new,
            &group,
            verifier,
            soon,
            "1",
            r#"{"work_mem = 1; ALTER ROLE x SUPERUSER; --": "1"}"#,
        ),
        // Others' roles.
        of("fence", "postgres"),
        of("fence", &foreign),
        of("remove", &foreign),
        of("take_memberships", &foreign),
        of("fence", shop::OWNER),
        format!("SELECT pgvalet_admin.take_back('{foreign}', NULL)"),
        // Its own, but not so.
        of("remove", live),
        format!("SELECT pgvalet_admin.take_back('{live}', NULL)"),
        format!(
            "SELECT pgvalet_admin.extend(ARRAY['{live}'], ARRAY[NULL]::oid[], ARRAY['infinity'::timestamptz])"
        ),
        format!(
            "SELECT pgvalet_admin.extend(ARRAY['{live}'], ARRAY[NULL]::oid[], ARRAY[now() + interval '101 days'])"
        ),
        format!(
            "SELECT pgvalet_admin.extend(ARRAY['{foreign}'], ARRAY[NULL]::oid[], ARRAY[{soon}])"
        ),
        "SELECT pgvalet_admin.make_group('pgvg_x\" SUPERUSER --', 'x')".to_owned(),
        format!("SELECT pgvalet_admin.make_group('{group}', 'x')"),
    ];
    if shares_them(&mut daemon).await {
        refused.push(format!("SET ROLE {}", "pgvalet_shard_000"));
    }
    for statement in &refused {
        let said = try_run(&mut daemon, statement).await;
        let sqlstate = said.expect_err(statement);
        // Not for its form: what would be refused by everybody proves nothing.
        assert!(
            ["42501", "22023", "55006", "42710"].contains(&sqlstate.as_str()),
            "{sqlstate}: {statement}"
        );
    }
    // Names that mean something else in its own session mean nothing to the functions.
    let shadow = "SET search_path = pg_temp, public; SET transform_null_equals = on; SET standard_conforming_strings = off";
    sqlx::raw_sql(shadow).execute(&mut daemon).await.unwrap();
    let off_list = issue(&new, shop::OWNER, verifier, soon, "1", "{}");
    try_run(&mut daemon, &off_list).await.unwrap_err();
    let quoted =
        issue(&new, &group, verifier, soon, "1", r#"{"application_name": "a'' SUPERUSER"}"#);
    try_run(&mut daemon, &quoted).await.unwrap();
    let ended = "SELECT count(*)::text FROM pgvalet_admin.end_sessions(ARRAY(SELECT usesysid FROM pg_stat_activity WHERE usename IN ('postgres', session_user)))";
    assert_eq!(try_text(&mut daemon, ended).await.unwrap(), "0", "others' sessions go on");
    let take_back = format!("SELECT pgvalet_admin.take_back('{new}', NULL)");
    for statement in [of("fence", &new), take_back, of("remove", &new)] {
        try_run(&mut daemon, &statement).await.unwrap();
    }
    let mut boss = world.on_target().await;
    let mighty = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgv\\_{name}%' AND (rolsuper OR rolcreaterole OR rolinherit AND rolname <> '{foreign}')"
    );
    assert_eq!(text(&mut boss, &mighty).await, "0");
    let gone = format!("DROP ROLE {foreign}, {name}_mighty");
    world.target.run("postgres", &[&gone]).await;
}

/// Runs a statement; the SQLSTATE if it is refused.
async fn try_run(connection: &mut sqlx::PgConnection, statement: &str) -> Result<(), String> {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await;
    done.map(drop).map_err(|e| e.as_database_error().unwrap().code().unwrap().into_owned())
}

async fn shares_them(daemon: &mut sqlx::PgConnection) -> bool {
    try_text(daemon, "SELECT pgvalet_admin.way()").await.unwrap() == "shards"
}
