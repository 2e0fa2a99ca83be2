//! What the time does, and what opens a review by itself.

use serde_json::{Value, json};

use crate::{
    metrics::scrape,
    requests::approver,
    reviews::{decide, events, items, open, profile_for, reviewed_world, shown},
    support::{
        eventually, milliseconds,
        people::lease_id,
        seconds,
        world::{Plan, World},
    },
};

/// A world in which a review is due after eight seconds, which is said two before; and in which that happens.
async fn hasty_world(on_due: &str) -> (World, crate::support::people::Person) {
    let settings = format!(
        "[review]\nreviewers = [\"group:security\"]\nschedule = \"never\"\ndue_after = \"8s\"\n\
         announce_before = \"2s\"\non_due = \"{on_due}\"\n"
    );
    let world = World::with(Plan { settings: settings.leak(), ..Plan::default() }).await;
    let dora = approver(&world, "dora", &["security"]).await;
    (world, dora)
}

/// The digest names what waits for reviewers.
#[tokio::test]
async fn a_review_that_waits_is_in_the_digest() {
    let settings = "[review]\nschedule = \"never\"\n[notices]\ndigest = \"1s\"\n";
    let world = World::with(Plan { settings, ..Plan::default() }).await;
    let id = open(&world.admin, None).await;
    let told = entry(&world, "digest.made").await;
    let waiting = told["event"]["reviews_waiting"][0].as_str().unwrap();
    assert!(waiting.starts_with(&format!("{id} of everybody: ")), "{told}");
    eventually("it is counted", seconds(40), async || {
        let scrape = scrape(&format!("{}/metrics", world.daemon.url)).await;
        scrape.value("pgvalet_reviews_open") == Some(1.0)
            && scrape.value("pgvalet_reviews_overdue") == Some(0.0)
    })
    .await;
    world.finish().await;
}

/// Waits for an event of a kind; gives its entry.
async fn entry(world: &World, kind: &str) -> Value {
    let path = format!("/v1/audit?kind={kind}&limit=100");
    let mut found = Value::Null;
    eventually(&format!("there is {kind}"), seconds(30), async || {
        found = world.admin.get(&path).await.expect(200)["items"][0]["entry"].clone();
        !found.is_null()
    })
    .await;
    found
}

#[tokio::test]
async fn what_nobody_decided_is_removed_once_after_it_was_said() {
    let (mut world, dora) = hasty_world("remove").await;
    let mut second = world.another_daemon().await;
    let profile = profile_for(&world, "guarded", &["person:ann", "person:bob"]).await;
    let (ann, bob) = (world.person("ann", &[]).await, world.person("bob", &[]).await);
    let issued = ann.ask(&profile, json!({})).await.expect(201);
    let id = open(&dora, None).await;
    let keep = json!({ "principal": "person:bob", "verdict": "keep", "reason": "on call" });
    decide(&dora, &id, keep).await.expect(200);

    let over = entry(&world, "review.lapsed-items-removed").await;
    let said = entry(&world, "review.due-soon").await;
    assert!(milliseconds(&said["at"], &over["at"]) >= 2000, "{said} {over}");
    assert_eq!(said["event"]["review_id"], id.as_str());
    ann.ask(&profile, json!({})).await.expect_problem(403, "removed_by_review");
    world.gone(&lease_id(&issued), 20).await;
    bob.ask(&profile, json!({})).await.expect(201);
    let found = items(&dora, &id, "&principal=person:ann").await;
    assert_eq!(found[0]["decision"]["by"], "pgvalet");
    assert_eq!(shown(&dora, &id).await["counts"]["undecided"], 0);
    // Two daemons looked, and one of them did it.
    for kind in ["review.due-soon", "review.lapsed-items-removed"] {
        assert_eq!(events(&world, kind).await.len(), 1, "{kind}");
    }
    assert!(second.stop().await.success(), "{}", second.log());
    assert_eq!(second.lines_at("ERROR"), Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn what_nobody_decided_is_escalated_and_goes_on_waiting() {
    let (world, dora) = hasty_world("escalate").await;
    let profile = profile_for(&world, "guarded", &["person:ann"]).await;
    let ann = world.person("ann", &[]).await;
    let id = open(&dora, Some("person:ann")).await;
    let said = entry(&world, "review.escalated").await;
    assert_eq!(said["event"]["undecided"], 1, "{said}");
    assert_eq!(events(&world, "review.due-soon").await.len(), 1);
    ann.ask(&profile, json!({})).await.expect(201);
    let remove = json!({ "all": true, "verdict": "remove", "reason": "late" });
    decide(&dora, &id, remove).await.expect(200);
    ann.ask(&profile, json!({})).await.expect_problem(403, "removed_by_review");
    assert_eq!(events(&world, "review.escalated").await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn by_schedule_one_is_opened_and_no_second_while_it_is() {
    let settings = "[review]\nreviewers = [\"group:security\"]\nschedule = \"1s\"\n";
    let mut world = World::with(Plan { settings, ..Plan::default() }).await;
    let mut second = world.another_daemon().await;
    let dora = approver(&world, "dora", &["security"]).await;
    let opened = entry(&world, "review.opened").await;
    assert_eq!(opened["event"]["cause"], "schedule", "{opened}");
    let mut state = world.on_state().await;
    let is_late = "SELECT count(*) FROM review_schedule WHERE next_at < now() - interval '3 s'";
    eventually("it was time again", seconds(30), async || {
        crate::support::sessions::try_text(&mut state, is_late).await.unwrap() == "1"
    })
    .await;
    let listed = async || dora.get("/v1/reviews").await.expect(200)["items"].clone();
    let found = listed().await;
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    // The next one waits for this one to be signed off.
    let id = found[0]["id"].as_str().unwrap();
    let keep = json!({ "all": true, "verdict": "keep", "reason": "as before" });
    decide(&dora, id, keep).await.expect(200);
    crate::reviews::sign_off(&dora, id).await.expect(200);
    eventually("the next one is open", seconds(30), async || {
        listed().await.as_array().unwrap().len() == 2
    })
    .await;
    assert!(second.stop().await.success(), "{}", second.log());
    drop(state);
    world.finish().await;
}

#[tokio::test]
async fn what_was_announced_is_what_happens() {
    let (world, dora) = hasty_world("remove").await;
    let profile = profile_for(&world, "guarded", &["person:ann"]).await;
    let ann = world.person("ann", &[]).await;
    let id = open(&dora, Some("person:ann")).await;
    let said = entry(&world, "review.due-soon").await;
    assert_eq!(said["event"]["on_due"], "remove", "{said}");
    // As if that had been said by a daemon with other settings.
    let mut state = world.on_state().await;
    sqlx::raw_sql("UPDATE review SET on_due = 'escalate'").execute(&mut state).await.unwrap();
    assert_eq!(entry(&world, "review.escalated").await["event"]["review_id"], id.as_str());
    ann.ask(&profile, json!({})).await.expect(201);
    drop(state);
    world.finish().await;
}

#[tokio::test]
async fn who_changes_groups_is_looked_at_once_and_who_arrives_is_not() {
    let (world, dora) = reviewed_world().await;
    profile_for(&world, "guarded", &["group:dba", "group:ops"]).await;
    world.person("ann", &[]).await;
    let mut state = world.on_state().await;
    let mut groups = async |groups: &[&str]| {
        let body = json!({ "groups": groups });
        world.admin.put("/v1/principals/person:ann/groups", &body).await.expect(204);
        eventually("it was looked at", seconds(20), async || {
            let left = "SELECT count(*) FROM review_wanted";
            crate::support::sessions::try_text(&mut state, left).await.unwrap() == "0"
        })
        .await;
    };
    groups(&["dba"]).await;
    let opened = events(&world, "review.opened").await;
    assert_eq!(opened.len(), 0, "she has what she was given just now");
    groups(&["ops"]).await;
    let opened = events(&world, "review.opened").await;
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!(
        (&opened[0]["cause"], &opened[0]["principal"]),
        (&json!("groups"), &json!("person:ann"))
    );
    let id = opened[0]["review_id"].as_str().unwrap();
    let rules = async || -> Vec<String> {
        let found = items(&dora, id, "").await;
        found.iter().map(|item| item["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(rules().await, ["group:ops"]);
    // Once more while that one is open: what is new is looked at in it, once.
    groups(&["dba"]).await;
    groups(&["dba"]).await;
    assert_eq!(rules().await, ["group:ops", "group:dba"]);
    assert_eq!(events(&world, "review.opened").await.len(), 1);
    assert_eq!(events(&world, "review.extended").await.len(), 1);
    drop(state);
    world.finish().await;
}

#[tokio::test]
async fn who_is_let_in_again_is_looked_at() {
    let (world, dora) = reviewed_world().await;
    profile_for(&world, "guarded", &["person:ann"]).await;
    world.person("ann", &[]).await;
    for what in ["disable", "enable"] {
        let path = format!("/v1/principals/person:ann/{what}");
        world.admin.post(&path, &json!({})).await.expect(204);
    }
    let opened = entry(&world, "review.opened").await;
    assert_eq!(opened["event"]["cause"], "let-in-again", "{opened}");
    let id = opened["event"]["review_id"].as_str().unwrap();
    assert_eq!(items(&dora, id, "").await.len(), 1);
    world.finish().await;
}
