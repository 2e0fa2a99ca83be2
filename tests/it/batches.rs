//! Leases that are asked for at the same time share transactions, and none of another's trouble.

use serde_json::{Value, json};

use crate::{metrics::scrape, support::world::World};

/// Asks for a lease of each of these profiles at once; gives the answers' status and body in order.
async fn all_at_once(world: &World, profiles: Vec<String>) -> Vec<(u16, Value)> {
    let asking: Vec<_> = profiles
        .into_iter()
        .map(|profile| {
            let person = world.admin.clone();
            tokio::spawn(async move {
                let wish = json!({ "profile": profile });
                let answer = person.post("/v1/leases", &wish).await;
                (answer.status, answer.body)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for one in asking {
        answers.push(one.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn one_of_64_whose_group_role_is_gone_fails_alone() {
    let world = World::start().await;
    let mut target = world.on_target().await;
    let group = format!("{}_dropped", world.shop());
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE ROLE {group}")))
        .execute(&mut target)
        .await
        .unwrap();
    let custom = json!({ "preset": "custom", "schemas": [], "group_role": group });
    world.put_profile("dropped", custom).await;
    // Both profiles are prepared, and the daemon knows that both can be had.
    for profile in ["read", "dropped", "dropped"] {
        let lease = world.issue(profile, json!({})).await;
        world.admin.revoke(lease["lease"]["id"].as_str().unwrap()).await.expect(200);
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP ROLE {group}")))
        .execute(&mut target)
        .await
        .unwrap();

    let mut profiles = vec![world.profile("read"); 64];
    profiles[20] = world.profile("dropped");
    let batches = async || {
        let scrape = scrape(&format!("{}/metrics", world.daemon.url)).await;
        let count = "pgvalet_batch_size_count{queue=\"creations\"}";
        scrape.value(count).unwrap_or_default()
    };
    let before = batches().await;
    let answers = all_at_once(&world, profiles).await;
    for (place, (status, body)) in answers.iter().enumerate() {
        if place == 20 {
            assert_eq!(*status, 502, "{body}");
            assert_eq!(body["code"], "group_role_missing");
            let detail = body["detail"].as_str().unwrap();
            assert!(detail.contains(&group), "it names what is missing: {detail}");
        } else {
            assert_eq!(*status, 201, "{body}");
        }
    }
    let transactions = batches().await - before;
    assert!(transactions < 32.0, "64 logins came in {transactions} batches");
    let roles = world.roles().await;
    assert_eq!(roles.len(), 63, "{roles:?}");
    world.finish().await;
}

/// A login that is left behind by whoever gave up would be found by `finish`.
#[tokio::test]
async fn whoever_gives_up_spoils_nothing_for_the_others() {
    let world = World::start().await;
    world.issue("read", json!({})).await;
    let hurried: Vec<_> = (0..40)
        .map(|place| {
            let (person, profile) = (world.admin.clone(), world.profile("read"));
            tokio::spawn(async move {
                let wish = json!({ "profile": profile });
                let asking = person.post("/v1/leases", &wish);
                if place % 2 == 0 {
                    // Gone before it can be answered: the daemon sees the connection close.
                    let _ =
                        tokio::time::timeout(std::time::Duration::from_millis(place), asking).await;
                    None
                } else {
                    Some(asking.await)
                }
            })
        })
        .collect();
    for one in hurried {
        if let Some(answer) = one.await.unwrap() {
            answer.expect(201);
        }
    }
    world.finish().await;
}
