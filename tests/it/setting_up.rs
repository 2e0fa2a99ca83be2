//! Setting a target up with `pgvalet bootstrap-target`, and looking at it with `pgvalet doctor`.

use std::process::{Command, Output, Stdio};

use pgvalet::dev::shop;
use serde_json::{Value, json};

use crate::support::{
    chaos::Mode,
    people::lease_id,
    postgres::{Postgres, own_cluster},
    sessions::{is_shut_out, psql, sign_in, text},
    world::World,
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
