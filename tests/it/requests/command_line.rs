//! The same from the command line: ask, wait, agree, fetch, give back.

use serde_json::json;

use crate::{
    requests::{approve, approver, guarded, state},
    support::{eventually, people::Person, seconds, shell::Shell, world::World},
};

fn shell_of(world: &World, person: &Person) -> Shell {
    Shell { token: Some(person.token.clone()), ..Shell::of(world) }
}

/// A world, a profile in it that one of the group `dba` must agree to, ann who asks, and dora who may agree.
async fn asker_and_approver() -> (World, String, Person, Person) {
    let world = World::start().await;
    guarded(&world).await;
    let ann = world.person("ann", &[]).await;
    let dora = approver(&world, "dora", &["dba"]).await;
    let guarded = world.profile("guarded");
    (world, guarded, ann, dora)
}

/// The request's id in what a command said.
fn request_id(text: &str) -> String {
    let start = text.find("acc_").unwrap_or_else(|| panic!("no request in: {text}"));
    text[start..].chars().take(36).collect()
}

#[tokio::test]
async fn a_request_goes_from_question_to_psql_and_back() {
    let (world, guarded, ann, dora) = asker_and_approver().await;
    let (of_ann, of_dora) = (shell_of(&world, &ann), shell_of(&world, &dora));

    for command in
        [&["get", &guarded][..], &["run", &guarded, "--", "true"], &["connect", &guarded]]
    {
        let asked = of_ann.run(command).await;
        assert!(asked.err.contains("waits for 1 of group:dba to agree"), "{asked:?}");
        let id = request_id(&asked.err);
        assert!(asked.err.contains(&format!("pgvalet claim {id}")), "{asked:?}");
        assert_eq!(asked.out, "", "{asked:?}");
        asked.expect(4);
    }
    let listed = of_dora.run(&["requests", "--to-decide"]).await.expect(0);
    assert_eq!(listed.matches("person:ann").count(), 3, "{listed}");
    let id = request_id(&listed);
    of_ann.run(&["claim", &id]).await.expect(1);
    let denied = of_ann.run(&["approve", &id]).await;
    assert!(denied.err.contains("nobody agrees to their own request"), "{denied:?}");
    denied.expect(3);
    let agreed = of_dora.run(&["approve", &id, "--ttl", "5m", "--comment", "fine"]).await.expect(0);
    assert!(agreed.contains("person:ann may fetch"), "{agreed}");
    let shown = of_ann.run(&["request", &id]).await.expect(0);
    assert!(shown.contains("person:dora") && shown.contains("fine"), "{shown}");
    let rows = of_ann.run(&["claim", &id, "--", "psql", "-XAtc", "select current_user"]).await;
    assert_eq!(rows.out.trim(), format!("pgvg_{guarded}").replace('-', "_"), "{rows:?}");
    rows.expect(0);
    assert!(world.live().await.is_empty(), "revoked when psql ended");
    of_ann.run(&["claim", &id]).await.expect(1);

    let listed = of_ann.run(&["requests", "--own"]).await.expect(0);
    let id = request_id(&listed);
    of_dora.run(&["deny", &id, "--comment", "use read"]).await.expect(0);
    assert_eq!(state(&ann, &id).await, "denied");
    let listed = of_ann.run(&["requests", "--own"]).await.expect(0);
    of_ann.run(&["withdraw", &request_id(&listed)]).await.expect(0);
    let none = of_ann.run(&["requests", "--state", "pending"]).await;
    assert!(none.err.contains("no requests"), "{none:?}");
    world.finish().await;
}

#[tokio::test]
async fn an_extension_that_is_claimed_is_one_for_the_files_too() {
    let (world, guarded, ann, dora) = asker_and_approver().await;
    let shell = shell_of(&world, &ann);
    let get = ["get", &guarded, "--ttl", "10m"];
    let id = request_id(&shell.run(&get).await.err);
    approve(&dora, &id).await.expect(200);
    shell.run(&["claim", &id, "--format", "pgpass", "--install"]).await.expect(0);
    let file = shell.path(".pgpass");
    let before = std::fs::read_to_string(&file).unwrap();
    let lease = ann.get("/v1/leases?state=live").await.expect(200)["items"][0]["id"].clone();
    let lease = lease.as_str().unwrap();
    let id = request_id(&shell.run(&["renew", lease, "--ttl", "2h"]).await.err);
    approve(&dora, &id).await.expect(200);
    let said = shell.run(&["claim", &id]).await.expect(0);
    assert!(said.contains(lease) && said.contains(": 2h from now"), "{said}");
    let after = std::fs::read_to_string(&file).unwrap();
    assert_ne!(after, before);
    let ends =
        |text: &str| text.split("ends ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let recorded = ann.lease(lease).await["expires_at"].as_str().unwrap().to_owned();
    assert_eq!(ends(&after)[..16], recorded[..16]);
    assert_eq!(after.lines().count(), before.lines().count());
    ann.revoke(lease).await.expect(200);
    world.finish().await;
}

#[tokio::test]
async fn who_waits_gets_the_lease_when_somebody_agrees() {
    let (world, guarded, ann, dora) = asker_and_approver().await;
    let shell = shell_of(&world, &ann);
    let command = ["get", &guarded, "--wait", "--json"];
    let waiting = shell.run(&command);
    let agreeing = async {
        let mut found = json!(null);
        eventually("it is asked", seconds(20), async || {
            found = dora.get("/v1/requests?to_decide=true").await.expect(200);
            !found["items"].as_array().unwrap().is_empty()
        })
        .await;
        approve(&dora, found["items"][0]["id"].as_str().unwrap()).await.expect(200)
    };
    let (said, _) = futures_util::future::join(waiting, agreeing).await;
    let issued: serde_json::Value = serde_json::from_str(&said.expect(0)).unwrap();
    world.secrets.remember(issued["credential"]["password"].as_str().unwrap());
    assert_eq!(issued["ttl"]["rule"], "agreed");
    world.finish().await;
}
