//! What was granted and never exercised, by the statements that a target remembers.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::{
    requests::approver,
    reviews::{REVIEWERS, open, profile_for, reviewed_world},
    support::{
        chaos::Mode,
        eventually,
        people::Person,
        postgres::own_cluster,
        seconds,
        sessions::sign_in,
        shell::Shell,
        world::{Plan, World},
    },
};

/// Waits until the target was asked about a profile; gives what is known.
async fn exercise(by: &Person, id: &str, profile: &str) -> Value {
    let mut found = Value::Null;
    eventually("the target was asked", seconds(30), async || {
        let page = by.get(&format!("/v1/reviews/{id}/profiles")).await.expect(200);
        let of = page["items"].as_array().unwrap().iter().find(|of| of["profile"] == profile);
        found = of.unwrap()["exercise"].clone();
        !found.is_null()
    })
    .await;
    found
}

#[tokio::test]
async fn privileges_that_no_statement_asked_for_are_named() {
    let (cluster, _folder) = own_cluster().await;
    cluster.stop().await;
    let file = cluster.data_dir().join("postgresql.auto.conf");
    let mut settings = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    writeln!(settings, "shared_preload_libraries = 'pg_stat_statements'").unwrap();
    cluster.start_again().await;
    let plan = Plan { settings: REVIEWERS, shop_on: Some(cluster), ..Plan::default() };
    let world = World::with(plan).await;
    let dora = approver(&world, "dora", &["security"]).await;
    let mut shop = world.target.superuser(&world.shop()).await;
    sqlx::raw_sql("CREATE EXTENSION pg_stat_statements").execute(&mut shop).await.unwrap();
    let rules = json!({ "allow": ["person:ann"], "preset": "readwrite" });
    world.put_profile("guarded", rules).await;
    let profile = world.profile("guarded");
    let ann = world.person("ann", &[]).await;
    let issued = ann.ask(&profile, json!({})).await.expect(201);
    let mut session = sign_in(&issued).await.unwrap();
    sqlx::raw_sql("SELECT count(*) FROM public.orders").execute(&mut session).await.unwrap();

    // Without the right to see the statements of others nothing is said of them.
    let revoke = format!("REVOKE pg_read_all_stats FROM \"{}\"", world.shop());
    sqlx::raw_sql(sqlx::AssertSqlSafe(revoke)).execute(&mut shop).await.unwrap();
    let blind = open(&dora, Some("person:ann")).await;
    let unknown = exercise(&dora, &blind, &profile).await;
    assert_eq!(unknown["state"], "unknown", "{unknown}");
    assert!(unknown["why"].as_str().unwrap().contains("pg_read_all_stats"), "{unknown}");
    let grant = format!("GRANT pg_read_all_stats TO \"{}\"", world.shop());
    sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&mut shop).await.unwrap();

    let id = open(&dora, None).await;
    let known = exercise(&dora, &id, &profile).await;
    assert_eq!(known["state"], "known", "{known}");
    assert!(known["statements"].as_i64().unwrap() >= 1, "{known}");
    let never = |relation: &str| {
        let all = known["never"].as_array().unwrap();
        all.iter().find(|of| of["relation"] == relation).map(|of| of["privileges"].clone())
    };
    assert_eq!(never("orders"), Some(json!(["insert", "update", "delete"])), "{known}");
    let all = json!(["select", "insert", "update", "delete"]);
    assert_eq!(never("customers"), Some(all), "{known}");
    let shell = Shell { token: Some(dora.token.clone()), ..Shell::of(&world) };
    let told = shell.run(&["review", "profiles", &id]).await.expect(0);
    assert!(told.contains("public.orders: insert, update, delete never"), "{told}");
    let markdown = dora.get(&format!("/v1/reviews/{id}/export?format=markdown")).await.text;
    assert!(markdown.contains("public.orders: insert, update, delete never"), "{markdown}");
    drop((session, shop));
    world.finish().await;
}

#[tokio::test]
async fn a_target_that_remembers_nothing_or_does_not_answer_is_no_obstacle() {
    let (world, dora) = reviewed_world().await;
    let profile = profile_for(&world, "guarded", &["person:ann"]).await;
    world.person("ann", &[]).await;
    let id = open(&dora, Some("person:ann")).await;
    let unknown = exercise(&dora, &id, &profile).await;
    assert!(unknown["why"].as_str().unwrap().contains("pg_stat_statements"), "{unknown}");
    let mut state = world.on_state().await;
    world.target_path.set(Mode::Refuse);
    // It is asked again as long as it does not tell; here at once.
    let again = "UPDATE review_profile SET exercise = NULL, ask_at = now()";
    sqlx::raw_sql(again).execute(&mut state).await.unwrap();
    let unknown = exercise(&dora, &id, &profile).await;
    assert!(unknown["why"].as_str().unwrap().contains(&world.name), "{unknown}");
    world.target_path.set(Mode::Pass);
    drop(state);
    world.finish().await;
}
