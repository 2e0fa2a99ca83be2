//! The day somebody leaves: one command ends it all and proves it, and what cannot be proven yet is named.

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::{
    standing,
    support::{
        browser::{click_device, device_session, nobody, poll, world_with_provider},
        eventually,
        people::{Person, lease_id},
        postgres::own_cluster,
        seconds,
        sessions::{is_shut_out, sign_in, try_text},
        shell::Shell,
        world::{Plan, World},
    },
    targets::admin_password,
};

const OFFBOARDING: &str = "/v1/principals/person:ann/offboarding";

/// How many targets there are, of which one is stopped.
const TARGETS: usize = 20;

async fn told(world: &World, kind: &str) -> usize {
    let page = world.admin.get(&format!("/v1/audit?kind={kind}&limit=200")).await.expect(200);
    page["items"].as_array().unwrap().len()
}

/// A target of its own name in the same cluster as the world's, with a profile.
async fn put_target(world: &World, name: &str, spec: &Value) -> String {
    world.admin.put(&format!("/v1/targets/{name}"), spec).await.expect(201);
    let profile = format!("{name}-read");
    let body = json!({
        "name": profile, "target": name, "database": world.shop(), "preset": "readonly",
        "schemas": ["public"], "ttl": "1h", "max_ttl": "8h", "connection_limit": 5, "allow": ["anyone"],
    });
    world.admin.put(&format!("/v1/profiles/{profile}"), &body).await.expect(201);
    profile
}

#[tokio::test]
async fn nineteen_targets_are_proven_the_stopped_one_is_named_and_the_report_completes_by_itself() {
    // Targets that are one cluster would have each other's logins swept.
    let settings = "[sweep]\nschedule = \"0 0 0 1 1 *\"\n";
    let world = World::with(Plan { settings, log: "info", ..Plan::default() }).await;
    let (stopped, _folder) = own_cluster().await;
    let elsewhere = stopped.make_shop(&world.shop(), &[]).await;
    world.secrets.remember(&elsewhere);
    let target = |port: u16, password: &str| {
        json!({
            "environment": "test", "host": "127.0.0.1", "port": port, "sslmode": "disable",
            "admin_user": world.shop(), "admin_password": password, "databases": [world.shop()],
            "rotate_admin": "never",
        })
    };
    let here = target(world.target.port(), &admin_password(&world));
    let mut profiles = vec![world.profile("read")];
    for n in 2..TARGETS {
        profiles.push(put_target(&world, &format!("{}-{n}", world.name), &here).await);
    }
    let away = format!("{}-away", world.name);
    profiles.push(put_target(&world, &away, &target(stopped.port(), &elsewhere)).await);
    assert_eq!(profiles.len(), TARGETS);
    let ann = world.person("ann", &[]).await;
    let mut leases = Vec::new();
    for profile in &profiles {
        leases.push(ann.ask(profile, json!({})).await.expect(201));
    }
    let mut session = sign_in(&leases[0]).await.unwrap();
    stopped.stop().await;

    let shell = Shell::of(&world);
    let offboard = ["offboard", "ann", "--no-wait"];
    let first = shell.run(&[&offboard[..], &["--json"]].concat()).await;
    assert_eq!(first.code, 1, "{first:?}");
    assert!(first.err.contains("run this again"), "{first:?}");
    eventually("nineteen are proven", seconds(240), async || {
        let report = world.admin.get(OFFBOARDING).await.expect(200);
        report["proofs"] == json!(TARGETS - 1) && report["pending_targets"][0]["why"] != json!([])
    })
    .await;
    let said = shell.run(&[&offboard[..], &["--format", "json"]].concat()).await;
    assert_eq!(said.code, 1, "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&report["proofs"], &report["pending"]), (&json!(TARGETS - 1), &json!(1)));
    assert_eq!((&report["complete"], &report["finished_at"]), (&json!(false), &Value::Null));
    assert_eq!(report["pending_targets"][0]["target"], json!(away), "{report}");
    let proven = |lease: &&Value| lease["proof"]["role_absent"] == true;
    assert_eq!(report["leases"].as_array().unwrap().iter().filter(proven).count(), TARGETS - 1);
    for format in ["text", "markdown"] {
        let told = shell.run(&[&offboard[..], &["--format", format]].concat()).await;
        assert_eq!(told.code, 1, "{told:?}");
        assert!(
            told.out.contains("19 proofs, 1 pending") && told.out.contains(&away),
            "{}",
            told.out
        );
    }
    try_text(&mut session, "SELECT 1").await.unwrap_err();
    assert!(is_shut_out(&leases[0]).await);
    ann.get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert_eq!(told(&world, "offboarding.started").await, 1);
    assert_eq!(told(&world, "offboarding.finished").await, 0);

    stopped.start_again().await;
    eventually("it completes by itself", seconds(90), async || {
        let report = world.admin.get(OFFBOARDING).await.expect(200);
        report["complete"] == true && !report["finished_at"].is_null()
    })
    .await;
    let done = shell.run(&["offboard", "person:ann", "--format", "markdown"]).await;
    assert!(done.out.contains("complete") && !done.out.contains("something left"), "{}", done.out);
    done.expect(0);
    assert_eq!(told(&world, "offboarding.started").await, 1, "to say it again begins nothing");
    assert_eq!(told(&world, "offboarding.finished").await, 1);
    world.finish().await;
}

/// Passwords of a standing role, of which a rotation in between leaves the one of before working for its grace.
async fn read_both_generations(reader: &Person, world: &World) -> (Value, Value) {
    standing::put(world, json!({ "grace": "1h" })).await.expect(201);
    standing::generation(world, 1).await;
    let before = standing::read(reader, world).await;
    world.admin.post(&format!("{}/rotate", standing::path(world)), &json!({})).await.expect(200);
    (before, standing::read(reader, world).await)
}

#[tokio::test]
async fn passwords_of_standing_roles_that_they_were_given_are_replaced_without_a_grace() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann", &[]).await, world.person("bob", &[]).await);
    let (before, known) = read_both_generations(&ann, &world).await;
    let mut session = sign_in(&known).await.unwrap();
    assert_ne!(before["credential"]["user"], known["credential"]["user"]);

    world.admin.post(OFFBOARDING, &json!({})).await.expect(200);
    eventually("both are gone", seconds(60), async || {
        world.admin.get(OFFBOARDING).await.expect(200)["complete"] == true
    })
    .await;
    let report = world.admin.get(OFFBOARDING).await.expect(200);
    let secrets = report["standing_secrets"].as_array().unwrap();
    assert_eq!(secrets.len(), 2, "{report}");
    for secret in secrets {
        assert_eq!(
            (&secret["replaced"], &secret["proof"]["role_absent"]),
            (&json!(true), &json!(true))
        );
    }
    assert!(is_shut_out(&before).await && is_shut_out(&known).await);
    try_text(&mut session, "SELECT 1").await.unwrap_err();
    let fresh = standing::read(&bob, &world).await;
    sign_in(&fresh).await.unwrap();
    assert_eq!(fresh["standing_role"]["generation"], 3);
    standing::remove(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn a_password_known_to_somebody_kept_from_it_is_replaced_whatever_put_that_off() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann", &[]).await, world.person("bob", &[]).await);
    let (before, known) = read_both_generations(&ann, &world).await;

    // As a schedule that was changed meanwhile leaves it, or a daemon of an earlier release.
    let mut state = world.on_state().await;
    state.execute("UPDATE standing_reading SET kept_at = now()").await.unwrap();
    standing::generation(&world, 3).await;
    for credential in [&before, &known] {
        let is_over = async || is_shut_out(credential).await;
        eventually("it ends without its grace", seconds(20), is_over).await;
    }
    sign_in(&standing::read(&bob, &world).await).await.unwrap();
    standing::remove(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn whatever_they_sign_in_with_is_refused_and_what_still_names_them_is_listed() {
    let (world, provider) = world_with_provider("").await;
    let ada = device_session(&nobody(&world), &provider, "sub-ada").await;
    let path = "/v1/principals/person:ada/offboarding";
    let roles = "[administration]\nregistrar = [\"group:registrars\"]\nresponder = [\"person:ada\", \"group:on-call\"]\n";
    let file = json!({ "name": "roles.toml", "text": roles });
    world.admin.post("/v1/apply", &file).await.expect(200);
    world
        .put_profile("write", json!({ "preset": "readwrite", "allow": ["person:ada", "group:x"] }))
        .await;
    let groups = json!({ "groups": ["registrars"] });
    world.admin.put("/v1/principals/person:ada/groups", &groups).await.expect(204);
    let bob = world.person("bob", &[]).await;
    let needs = json!({ "approval": {
        "steps": [{ "from": ["anyone"], "count": 1 }], "lapse_after": "1h", "use_within": "1h",
    } });
    world.put_profile("acme", json!({ "conditions": needs })).await;
    let asked = bob.ask(&world.profile("acme"), json!({})).await.expect(202);
    let approve = format!("/v1/requests/{}/approve", asked["id"].as_str().unwrap());
    ada.post(&approve, &json!({})).await.expect(200);
    let own = ada.ask(&world.profile("acme"), json!({})).await.expect(202);
    let lent = json!({ "name": "for bob", "principal": "person:bob" });
    ada.post("/v1/tokens", &lent).await.expect(201);
    ada.post("/v1/emergency-codes", &json!({ "person": "person:bob" })).await.expect(201);
    let token = ada.post("/v1/tokens", &json!({ "name": "own" })).await.expect(201);
    let token = ada.with_token(token["secret"].as_str().unwrap());
    let lease = lease_id(&token.ask(&world.profile("read"), json!({})).await.expect(201));

    // Neither right alone will do, and nobody does it to themselves.
    let registrar = world.person("registrar", &["registrars"]).await;
    registrar.post(path, &json!({})).await.expect_problem(403, "admin_only");
    registrar.get(path).await.expect_problem(404, "not_found");
    let responder = world.person("responder", &["on-call"]).await;
    responder.post(path, &json!({})).await.expect_problem(403, "admin_only");
    let both = world.person("both", &["registrars", "on-call"]).await;
    both.post("/v1/principals/person:both/offboarding", &json!({}))
        .await
        .expect_problem(409, "offboard_oneself");
    both.post("/v1/principals/person:nobody/offboarding", &json!({})).await.expect(404);

    both.post(path, &json!({})).await.expect(200);
    refused(&ada).await;
    refused(&token).await;
    let begun = nobody(&world).post("/v1/sign-in/device", &json!({})).await.expect(200);
    click_device(&provider, begun["user_code"].as_str().unwrap(), "sub-ada").await;
    let polled = poll(&nobody(&world), &begun).await;
    assert_ne!(polled.status, 200, "{}", polled.text);
    assert_eq!(world.gone(&lease, 20).await["proof"]["role_absent"], true);
    let report = both.get(path).await.expect(200);
    assert_eq!(report["complete"], true, "{report}");
    assert_eq!(report["started_by"], "person:both");
    assert_eq!(report["shut_out"]["sessions_ended"], 1);
    assert_eq!(report["shut_out"]["tokens"], 1);
    assert_eq!(report["shut_out"]["identities"].as_array().unwrap().len(), 1);
    assert_eq!(report["codes_withdrawn"], json!(["person:bob"]));
    assert_eq!(report["requests_withdrawn"], json!([own["id"]]));
    assert_eq!(report["approvals_given"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["approvals_given"][0]["request_id"], asked["id"]);
    assert_eq!(report["approvals_given"][0]["principal"], "person:bob");
    let places: Vec<_> = report["still_named"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["place"].as_str().unwrap().to_owned())
        .collect();
    let profile = format!("profile.{}.access.allow", world.profile("write"));
    assert_eq!(places, [profile, "administration.responder".to_owned()]);
    assert_eq!(report["tokens_made"][0]["principal"], "person:bob", "{report}");
    assert_eq!(report["tokens_made"].as_array().unwrap().len(), 1);

    // Let in again, it is over, and that is said.
    let said = Shell::of(&world).run(&["person", "enable", "person:ada"]).await;
    assert!(said.err.contains("their offboarding ended"), "{said:?}");
    said.expect(0);
    token.get("/v1/whoami").await.expect(200);
    assert!(!both.get(path).await.expect(200)["ended_at"].is_null());
    assert_eq!(told(&world, "offboarding.ended").await, 1);
    both.post(path, &json!({})).await.expect(200);
    assert_eq!(told(&world, "offboarding.started").await, 2, "they may leave again");
    world.finish().await;
}

async fn refused(person: &Person) {
    person.get("/v1/whoami").await.expect_problem(401, "token_refused");
}
