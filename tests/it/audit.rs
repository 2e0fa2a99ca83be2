//! The audit shows what was done to it.

use std::io::Write as _;

use pgvalet::api::audit::ExportLine;
use serde_json::{Value, json};

use crate::support::{daemon::binary, eventually, seconds, sessions::text, world::World};

/// A world with some history, all of it sealed.
async fn with_history() -> World {
    let world = World::start().await;
    let issued = world.issue("read", json!({})).await;
    world.admin.revoke(issued["lease"]["id"].as_str().unwrap()).await.expect(200);
    sealed(&world).await;
    world
}

async fn sealed(world: &World) {
    let mut state = world.on_state().await;
    eventually("everything is sealed", seconds(20), async || {
        text(&mut state, "SELECT count(*) FROM audit_entry WHERE position IS NULL").await == "0"
    })
    .await;
}

async fn verify(world: &World) -> Value {
    world.admin.get("/v1/audit/verify").await.expect(200)
}

async fn change(world: &World, statements: &'static str) {
    let mut state = world.on_state().await;
    sqlx::raw_sql(statements).execute(&mut state).await.unwrap();
}

#[tokio::test]
async fn an_altered_row_is_named() {
    let world = with_history().await;
    assert_eq!(verify(&world).await["intact"], true);
    change(
        &world,
        "UPDATE audit_entry SET body = replace(body, 'target', 'tarket') WHERE position = 2",
    )
    .await;
    let found = verify(&world).await;
    assert_eq!((&found["intact"], &found["first_bad"]), (&json!(false), &json!(2)), "{found}");
    assert!(found["fault"].as_str().unwrap().contains("entry 2 was altered"), "{found}");
    world.finish_with_broken_audit().await;
}

#[tokio::test]
async fn a_row_that_is_missing_in_the_middle_is_named() {
    let world = with_history().await;
    change(&world, "DELETE FROM audit_entry WHERE position = 3").await;
    let found = verify(&world).await;
    assert_eq!((&found["intact"], &found["first_bad"]), (&json!(false), &json!(3)), "{found}");
    world.finish_with_broken_audit().await;
}

#[tokio::test]
async fn a_cut_off_tail_is_found_even_with_its_head() {
    let world = with_history().await;
    let entries = verify(&world).await["entries"].as_i64().unwrap();
    // An export signs the head.
    let export = world.admin.get("/v1/audit/export").await;
    assert_eq!(export.status, 200);
    change(
        &world,
        "DELETE FROM audit_entry WHERE position = (SELECT max(position) FROM audit_entry);
         UPDATE audit_head SET (position, hash) =
             (SELECT position, hash FROM audit_entry WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1)",
    )
    .await;
    let found = verify(&world).await;
    assert_eq!(
        (&found["intact"], &found["first_bad"]),
        (&json!(false), &json!(entries)),
        "{found}"
    );
    world.finish_with_broken_audit().await;
}

#[tokio::test]
async fn an_export_is_checked_without_the_daemon() {
    let world = with_history().await;
    let export = world.admin.get("/v1/audit/export").await;
    assert_eq!(export.status, 200, "{}", export.text);
    let lines: Vec<&str> = export.text.lines().collect();
    let is_entry = |line: &&str| {
        matches!(serde_json::from_str::<ExportLine>(line).unwrap(), ExportLine::Entry(_))
    };
    assert!(lines.iter().filter(|line| is_entry(line)).count() > 8, "{}", export.text);
    let key = verify(&world).await["public_key"].as_str().unwrap().to_owned();

    let (good, said) = check(&export.text, &key).await;
    assert!(good, "{said}");
    let altered = export.text.replacen("lease.activated", "lease.actifated", 1);
    assert_ne!(altered, export.text);
    let (good, said) = check(&altered, &key).await;
    assert!(!good && said.contains("altered"), "{said}");
    let last_entry = lines.iter().rposition(is_entry).unwrap();
    let cut = [&lines[..last_entry], &lines[last_entry + 1..]].concat().join("\n");
    let (good, said) = check(&cut, &key).await;
    assert!(!good && said.contains("cut off"), "{said}");
    let (good, said) = check(&export.text, &"ab".repeat(32)).await;
    assert!(!good, "another key: {said}");
    world.finish().await;
}

/// `pgvalet audit verify FILE --public-key KEY`: whether it ended well, and what it said.
async fn check(export: &str, key: &str) -> (bool, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(export.as_bytes()).unwrap();
    let mut command = binary();
    command.args(["audit", "verify"]).arg(file.path()).args(["--public-key", key]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}
