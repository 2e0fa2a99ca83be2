//! `pgvalet hba`: the lines that it prints, in a real server's `pg_hba.conf`.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::support::{
    eventually,
    postgres::{Postgres, own_cluster},
    seconds,
    shell::Shell,
    world::{Plan, World},
};

/// Writes a file into the server's data folder, as the server's own account.
async fn write(postgres: &Postgres, name: &str, text: &str) {
    let mut superuser = postgres.superuser("postgres").await;
    let folder: String = sqlx::query_scalar("SELECT current_setting('data_directory')")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    let quoted = text.replace('\'', "''");
    let rows = format!("SELECT regexp_split_to_table('{quoted}', E'\\n')");
    let program =
        format!("umask 077; cat > {folder}/{name}.new && mv {folder}/{name}.new {folder}/{name}");
    postgres.run("postgres", &[&format!("COPY ({rows}) TO PROGRAM '{program}'")]).await;
}

/// Gives the server a certificate.
async fn let_speak_tls(postgres: &Postgres) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(postgres, "server.crt", &made.cert.pem()).await;
    write(postgres, "server.key", &made.signing_key.serialize_pem()).await;
    let reload = ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"];
    postgres.run("postgres", &reload).await;
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(postgres.port())
        .username("postgres")
        .password(postgres.password())
        .ssl_mode(PgSslMode::Require);
    eventually("the server speaks TLS", seconds(10), async || {
        PgConnection::connect_with(&options).await.is_ok()
    })
    .await;
}

/// Signs in as somebody; what the server says if it refuses.
async fn sign_in(
    postgres: &Postgres,
    (user, password): (&str, &str),
    database: &str,
    ssl_mode: PgSslMode,
) -> Result<(), String> {
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(postgres.port())
        .username(user)
        .password(password)
        .database(database)
        .ssl_mode(ssl_mode);
    match PgConnection::connect_with(&options).await {
        Ok(connection) => connection.close().await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn a_leased_login_gets_in_over_tls_and_nobody_else_does() {
    let (postgres, _folder) = own_cluster().await;
    let world = World::with(Plan { shop_on: Some(Arc::clone(&postgres)), ..Plan::default() }).await;
    let_speak_tls(&postgres).await;
    let (shell, shop) = (Shell::of(&world), world.shop());
    let lines = shell.run(&["hba", &world.name, "--network", "127.0.0.0/8"]).await.expect(0);
    let group = format!("pgvg_{}_read", world.name);
    assert!(
        lines.contains(&format!("\nhostssl   {shop}  +{group}  127.0.0.0/8  scram-sha-256\n")),
        "{lines}"
    );
    assert!(lines.contains("CAUTION: the target says sslmode = \"disable\""), "{lines}");
    assert!(lines.contains("could not be read: only a superuser may"), "{lines}");

    // The lines first, as they say; then whom they say nothing of.
    let before = format!(
        "{lines}host all postgres,{shop} 127.0.0.1/32 scram-sha-256\nlocal all postgres scram-sha-256\n"
    );
    write(&postgres, "pg_hba.conf", &before).await;
    let other = "CREATE ROLE other LOGIN PASSWORD 'of_other'";
    postgres.run("postgres", &[other, "SELECT pg_reload_conf()"]).await;
    let issued = world.issue("read", json!({})).await;
    let text = |key: &str| issued["credential"][key].as_str().unwrap().to_owned();
    let (user, password) = (text("user"), text("password"));
    let login = (user.as_str(), password.as_str());
    eventually("the lines are in force", seconds(10), async || {
        sign_in(&postgres, ("other", "of_other"), &shop, PgSslMode::Require).await.is_err()
    })
    .await;
    sign_in(&postgres, login, &shop, PgSslMode::Require).await.unwrap();
    for (login, database, ssl_mode, why) in [
        (login, shop.as_str(), PgSslMode::Disable, "pg_hba.conf rejects"),
        (login, "postgres", PgSslMode::Require, "pg_hba.conf rejects"),
        (("other", "of_other"), shop.as_str(), PgSslMode::Require, "no pg_hba.conf entry"),
        ((login.0, "wrong"), shop.as_str(), PgSslMode::Require, "password authentication failed"),
    ] {
        let refused = sign_in(&postgres, login, database, ssl_mode).await.unwrap_err();
        assert!(refused.contains(why), "{login:?} {database} {ssl_mode:?}: {refused}");
    }

    // Doctor, when it may look, finds nothing in them that lets leased logins in as it should not.
    let let_look = [
        format!("GRANT SELECT ON pg_catalog.pg_hba_file_rules TO {shop}"),
        format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO {shop}"),
    ];
    postgres.run(&shop, &let_look.each_ref().map(String::as_str)).await;
    let path = format!("/v1/targets/{}", world.name);
    let diagnosis = world.admin.get(&format!("{path}/doctor")).await.expect(200);
    let findings = diagnosis["findings"].as_array().unwrap();
    let about = |finding: &&Value| finding["check"].as_str().unwrap().starts_with("pg_hba");
    assert_eq!(findings.iter().find(about), None, "{diagnosis}");
    let told = world.admin.get(&format!("{path}/hba")).await.expect(200);
    let told = told["text"].as_str().unwrap();
    assert!(told.contains("  127.0.0.0 255.0.0.0  scram-sha-256"), "as the lines say now: {told}");
    assert!(!told.contains("could not be read"), "{told}");
    world.finish().await;
}

#[tokio::test]
async fn networks_that_are_none_are_told_with_what_was_meant() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let path = format!("/v1/targets/{}/hba", world.name);
    for (networks, advice) in [
        ("10.0.0.7/8", "did you mean 10.0.0.0/8?"),
        ("10.0.0.0/8,everywhere", "write it like 10.0.0.0/8"),
        ("10.0.0.0%0Ahost%20all%20all%20all%20trust", "is no network"),
    ] {
        let answer = world.admin.get(&format!("{path}?networks={networks}")).await;
        assert!(answer.text.contains(advice), "{}", answer.text);
        answer.expect(422);
    }
    shell.run(&["hba", &world.name, "--network", "10.0.0.7/8"]).await.expect(1);
    shell.run(&["hba", &world.name, "--network", "everywhere"]).await.expect(2);
    shell.run(&["hba", "no-such-target"]).await.expect(1);
    let json = shell.run(&["hba", &world.name, "--network", "10.0.0.0/8", "--json"]).await.json();
    assert!(json["text"].as_str().unwrap().contains("  10.0.0.0/8  scram-sha-256\n"), "{json}");
    world.finish().await;
}
