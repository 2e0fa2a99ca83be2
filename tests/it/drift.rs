//! What was changed by hand on a target is found, told once, and mended where the profile says so.

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::support::{
    eventually, seconds,
    sessions::text,
    world::{Plan, World},
};

async fn look(world: &World, profile: &str, mend: bool) -> Value {
    let ask = json!({ "profiles": [world.profile(profile)], "mend": mend });
    let found = world.admin.post("/v1/drift", &ask).await.expect(200);
    found["profiles"][0].clone()
}

async fn by_hand(world: &World, sql: &str) {
    world
        .on_target()
        .await
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())))
        .await
        .unwrap();
}

async fn events(world: &World, kind: &str) -> usize {
    let page = world.admin.get(&format!("/v1/audit?kind={kind}")).await.expect(200);
    page["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_grant_made_or_taken_by_hand_is_told_once_and_mended_when_asked() {
    let world = World::start().await;
    let group = format!("pgvg_{}_read", world.name);
    assert_eq!(look(&world, "read", false).await["statements"], json!([]));
    for (change, mends) in [
        (format!("GRANT DELETE ON orders TO {group}"), "REVOKE"),
        (format!("REVOKE SELECT ON orders FROM {group}"), "GRANT"),
        (
            format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA public REVOKE SELECT ON TABLES FROM {group}"
            ),
            "DEFAULT",
        ),
    ] {
        by_hand(&world, &change).await;
        let before = events(&world, "drift.found").await;
        for _ in 0..2 {
            let found = look(&world, "read", false).await;
            assert!(found["statements"][0].as_str().unwrap().contains(mends), "{change}: {found}");
        }
        assert_eq!(events(&world, "drift.found").await, before + 1, "{change}");
        let known = world.admin.get("/v1/drift").await.expect(200);
        assert_eq!(known["profiles"][0]["profile"], world.profile("read"));

        let mended = look(&world, "read", true).await;
        assert_eq!((&mended["mended"], &mended["fault"]), (&json!(true), &Value::Null), "{mended}");
        assert_eq!(look(&world, "read", false).await["statements"], json!([]));
        let known = world.admin.get("/v1/drift").await.expect(200);
        assert_eq!(known["profiles"], json!([]));
    }
    assert_eq!(events(&world, "drift.gone").await, 3);
    let person = world.person("eve", &[]).await;
    person.post("/v1/drift", &json!({})).await.expect_problem(403, "admin_only");
    person.get("/v1/drift").await.expect_problem(403, "admin_only");
    world.finish().await;
}

#[tokio::test]
async fn the_schedule_finds_it_and_mends_what_says_so_and_silence_proves_nothing() {
    let settings = "[drift]\nschedule = \"* * * * * *\"";
    let world = World::with(Plan { settings, ..Plan::default() }).await;
    world
        .put_profile("write", json!({ "preset": "readwrite", "rights": { "drift": "mend" } }))
        .await;
    let (read, write) = (format!("pgvg_{}_read", world.name), format!("pgvg_{}_write", world.name));
    by_hand(&world, &format!("GRANT TRUNCATE ON orders TO {read}, {write}")).await;
    let mut target = world.on_target().await;
    let still = format!("SELECT has_table_privilege('{write}', 'orders', 'TRUNCATE')");
    eventually("the profile that says so is mended", seconds(30), async || {
        text(&mut target, &still).await == "false"
    })
    .await;
    let known = async || world.admin.get("/v1/drift").await.expect(200)["profiles"].clone();
    eventually("the other one is told", seconds(30), async || {
        let known = known().await;
        known.as_array().unwrap().len() == 1 && known[0]["profile"] == world.profile("read")
    })
    .await;
    let scraped = async || world.admin.get("/metrics").await.text;
    eventually("it is counted", seconds(30), async || {
        scraped().await.contains("pgvalet_drift_profiles 1")
    })
    .await;

    world.target_path.set(crate::support::chaos::Mode::Refuse);
    let found = look(&world, "read", false).await;
    assert!(found["fault"].as_str().unwrap().contains("cannot be reached"), "{found}");
    assert_eq!(known().await.as_array().unwrap().len(), 1);
    world.target_path.set(crate::support::chaos::Mode::Pass);
    let mended = look(&world, "read", true).await;
    assert_eq!(mended["mended"], true, "{mended}");
    world.finish().await;
}
