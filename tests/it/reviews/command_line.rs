//! The same in a terminal.

use std::io::Write as _;

use serde_json::json;

use crate::{
    reviews::{decide, items, open, profile_for, reviewed_world, second_admin, shown},
    support::{
        people::Person,
        shell::{Shell, end},
        world::World,
    },
};

fn shell_of(world: &World, person: &Person) -> Shell {
    Shell { token: Some(person.token.clone()), ..Shell::of(world) }
}

#[tokio::test]
async fn a_review_of_500_is_gone_through_in_the_terminal() {
    let (world, dora) = reviewed_world().await;
    let shell = shell_of(&world, &dora);
    for n in 0..10 {
        profile_for(&world, &format!("p{n}"), &["group:dba", "group:security"]).await;
    }
    let mut state = world.on_state().await;
    let people = "INSERT INTO principal (id, issuer, subject, kind, groups, created_at)
                  SELECT gen_random_uuid(), 'local', 'member-' || n, 'person', '{dba}', now() FROM generate_series(1, 49) n";
    sqlx::raw_sql(people).execute(&mut state).await.unwrap();
    let opened = shell.run(&["review", "open", "--json"]).await.json();
    let id = opened["id"].as_str().unwrap();
    // Most of them at once, by what is known of them; the rest one by one.
    let first = world.profile("p0");
    for n in 1..10 {
        let profile = world.profile(&format!("p{n}"));
        let arguments =
            ["review", "decide", id, "--profile", &profile, "--keep", "--reason", "team"];
        let said = shell.run(&arguments).await;
        assert!(said.err.contains("1 left out"), "{said:?}");
        assert!(said.expect(0).contains("49 decided"));
    }
    let waiting = items(&dora, id, &format!("&undecided=true&profile={first}")).await;
    assert_eq!(waiting.len(), 50);
    // For each that waits: a verdict and a reason; empty is as before. Nonsense is asked again. The first is her own.
    let mut script = "what?\nk\nmine\nr\nleft the team\n".to_owned();
    script += "n\nsoon\n10m\nonly reads\n";
    script += &"k\n\n".repeat(100);
    let mut child = shell.start(&["review", "walk", id]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    assert_eq!(end(&mut child).await, 0);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut told).unwrap();
    assert!(told.contains("never used"), "{told}");
    let counts = shown(&dora, id).await["counts"].clone();
    assert_eq!((&counts["removed"], &counts["narrowed"]), (&json!(1), &json!(1)), "{counts}");
    // What she reaches herself waits for another.
    let left = items(&dora, id, "&undecided=true").await;
    assert_eq!(left.len(), 10, "{left:?}");
    assert!(left.iter().all(|item| item["principal"] == "person:dora"), "{left:?}");
    let waiting = shell.run(&["review", "sign-off", id]).await;
    assert!(waiting.err.contains("wait to be decided"), "{waiting:?}");
    waiting.expect(1);
    let dan = crate::requests::approver(&world, "dan", &["security"]).await;
    let of_dan = shell_of(&world, &dan);
    let all = ["review", "decide", id, "--all", "--keep", "--reason", "she leads it"];
    of_dan.run(&all).await.expect(0);
    of_dan.run(&["review", "sign-off", id, "--comment", "third quarter"]).await.expect(0);
    let csv = shell.run(&["review", "export", id]).await.expect(0);
    assert!(csv.lines().count() > 500, "{csv}");
    assert!(shell.run(&["review", "list"]).await.expect(0).contains("signed-off"));
    world.finish().await;
}

#[tokio::test]
async fn what_was_removed_is_given_back_from_the_command_line() {
    let (world, dora) = reviewed_world().await;
    let profile = profile_for(&world, "guarded", &["person:ann"]).await;
    let ann = world.person("ann", &[]).await;
    let id = open(&dora, Some("person:ann")).await;
    let body = json!({ "all": true, "verdict": "remove", "reason": "left" });
    decide(&dora, &id, body).await.expect(200);
    let shell = Shell::of(&world);
    let record = shell.run(&["profile", "show", &profile]).await.expect(0);
    assert!(record.contains("person:ann: removed"), "{record}");
    let refused = shell_of(&world, &ann).run(&["get", &profile]).await;
    assert!(refused.err.contains("access review"), "{refused:?}");
    refused.expect(3);
    let asked = shell.run(&["explain-access", "person:ann", &profile]).await;
    assert!(asked.out.contains("review"), "{asked:?}");
    let back = ["review", "restore", "ann", &profile, "--reason", "she is back"];
    shell_of(&world, &second_admin(&world).await).run(&back).await.expect(0);
    ann.ask(&profile, json!({})).await.expect(201);
    let shown = shell.run(&["review", "items", &id]).await.expect(0);
    assert!(shown.contains("remove: left"), "{shown}");
    world.finish().await;
}
