//! Standing roles: rotated on a schedule and by hand, read by their consumers, whole after a crash.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::{
    chaos::{Break, Mode, Proxy},
    daemon::binary,
    eventually,
    people::{Answer, Person},
    seconds,
    sessions::{is_shut_out, sign_in, text, try_text},
    world::{Plan, World},
};

/// Its path in the API.
pub(crate) fn path(world: &World) -> String {
    format!("/v1/standing-roles/{}-app", world.name)
}

/// Records the standing role of this world, but for what differs.
pub(crate) async fn put(world: &World, differs: Value) -> Answer {
    let mut spec = json!({
        "name": format!("{}-app", world.name), "profile": world.profile("write"), "grace": "1s",
        "allow": ["anyone"],
    });
    spec.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
    world.admin.put(&path(world), &spec).await
}

/// Waits until it has handed out so many logins; gives it.
pub(crate) async fn generation(world: &World, least: i64) -> Value {
    let mut role = Value::Null;
    eventually(&format!("generation {least}"), seconds(40), async || {
        role = world.admin.get(&path(world)).await.body;
        role["generation"].as_i64().is_some_and(|generation| generation >= least)
    })
    .await;
    role
}

/// What it hands out now.
pub(crate) async fn read(person: &Person, world: &World) -> Value {
    person.get(&format!("{}/credential", path(world))).await.expect(200)
}

async fn rotate(world: &World, body: Value) -> Value {
    world.admin.post(&format!("{}/rotate", path(world)), &body).await.expect(200)
}

/// Removes it, so that nothing of it is live when the world ends.
pub(crate) async fn remove(world: &World) {
    world.admin.delete(&path(world)).await.expect(204);
}

/// Kinds of the audit's entries about standing roles, oldest first.
async fn told(world: &World) -> Vec<String> {
    let page = world.admin.get("/v1/audit?limit=200").await.expect(200);
    let kind = |item: &Value| item["entry"]["event"]["kind"].as_str().unwrap().to_owned();
    let kinds = page["items"].as_array().unwrap().iter().rev().map(kind);
    kinds.filter(|kind| kind.starts_with("standing-role.")).collect()
}

#[tokio::test]
async fn a_standing_role_is_made_read_rotated_and_removed() {
    let world = World::start().await;
    let api = world.person("api", &[]).await;
    put(&world, json!({ "allow": ["person:api"], "rotate": "30d" })).await.expect(201);
    let role = generation(&world, 1).await;
    assert_eq!((&role["state"], &role["overdue"]), (&json!("active"), &json!(false)), "{role}");
    let first = read(&api, &world).await;
    assert_eq!(first["standing_role"]["allow"], json!([]), "whom else it allows is not told");
    let mut session = sign_in(&first).await.unwrap();
    assert_eq!(text(&mut session, "SELECT count(*) > 0 FROM orders").await, "true");

    rotate(&world, json!({})).await;
    let second = read(&api, &world).await;
    assert_eq!(second["standing_role"]["generation"], 2);
    assert_ne!(second["credential"]["user"], first["credential"]["user"]);
    sign_in(&second).await.unwrap();
    let superseded = world.gone(first["standing_role"]["lease_id"].as_str().unwrap(), 20).await;
    assert_eq!(superseded["proof"]["role_absent"], true, "after the grace, with proof");
    try_text(&mut session, "SELECT 1").await.unwrap_err();
    assert!(is_shut_out(&first).await);

    let lease = second["standing_role"]["lease_id"].as_str().unwrap();
    let refused = world.admin.revoke(lease).await;
    refused.expect_problem(409, "lease_of_standing_role");
    world.admin.renew(lease, json!({})).await.expect_problem(409, "lease_of_standing_role");
    world.admin.rotate(lease).await.expect_problem(409, "lease_of_standing_role");
    let all = json!({ "target": world.name });
    let revoked = world.admin.post("/v1/revocations", &all).await.expect(200);
    assert_eq!(revoked["leases"], json!([]), "nobody asked for it, so no set has it");
    let used = world.admin.delete(&format!("/v1/profiles/{}", world.profile("write"))).await;
    used.expect_problem(409, "profile_in_use");
    sign_in(&second).await.unwrap();

    remove(&world).await;
    world.gone(lease, 20).await;
    assert!(is_shut_out(&second).await);
    let kinds = told(&world).await;
    let expected =
        ["created", "rotating", "rotated", "read", "rotating", "rotated", "read", "removed"];
    let expected = expected.map(|kind| format!("standing-role.{kind}"));
    assert_eq!(kinds, expected);
    world.finish().await;
}

#[tokio::test]
async fn only_whom_it_allows_may_read_it_and_each_reading_is_recorded() {
    let world = World::start().await;
    let (alice, mallory) =
        (world.person("alice", &["api"]).await, world.person("mallory", &[]).await);
    put(&world, json!({ "allow": ["group:api"] })).await.expect(201);
    generation(&world, 1).await;
    read(&alice, &world).await;
    let credential = format!("{}/credential", path(&world));
    mallory.get(&credential).await.expect_problem(404, "not_found");
    mallory.get(&path(&world)).await.expect_problem(404, "not_found");
    world.admin.get(&credential).await.expect_problem(403, "not_allowed");
    mallory.post(&format!("{}/rotate", path(&world)), &json!({})).await.expect(403);
    let page = world.admin.get("/v1/audit?kind=standing-role.read").await.expect(200);
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{page}");
    assert_eq!(items[0]["entry"]["actor"]["name"], "person:alice");
    assert_eq!(items[0]["entry"]["event"]["allowed_by"], "group:api");
    remove(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn a_login_that_is_known_to_somebody_is_stopped_at_once() {
    let world = World::start().await;
    put(&world, json!({ "grace": "1h" })).await.expect(201);
    generation(&world, 1).await;
    let known = read(&world.admin, &world).await;
    let mut session = sign_in(&known).await.unwrap();
    // What a session of it can do: change its own password, so that only a new role is a rotation.
    let user = known["credential"]["user"].as_str().unwrap();
    let own = format!("ALTER ROLE \"{user}\" PASSWORD 'kept'");
    let own = format!("RESET ROLE; SET ROLE NONE; {own}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(own)).execute(&mut session).await.unwrap();
    rotate(&world, json!({ "now": true })).await;
    world.gone(known["standing_role"]["lease_id"].as_str().unwrap(), 20).await;
    try_text(&mut session, "SELECT 1").await.unwrap_err();
    let mut changed = known.clone();
    changed["credential"]["password"] = json!("kept");
    assert!(is_shut_out(&changed).await && is_shut_out(&known).await);
    sign_in(&read(&world.admin, &world).await).await.unwrap();
    remove(&world).await;
    world.finish().await;
}

/// The promise that consumers build on: whoever reads the credential and then connects gets in,
/// whatever is rotated meanwhile.
#[tokio::test]
async fn a_thousand_connections_a_minute_see_no_failure_across_three_rotations() {
    let world = World::start().await;
    // A server needs a moment to see that a session has ended.
    let many = json!({ "preset": "readwrite", "connection_limit": 100 });
    world.put_profile("write", many).await;
    put(&world, json!({ "grace": "10s" })).await.expect(201);
    generation(&world, 1).await;
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let began = std::time::Instant::now();
    let clients = (0..4).map(|_| {
        let (person, path) = (world.admin.clone(), format!("{}/credential", path(&world)));
        let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
        tokio::spawn(async move {
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let read = person.get(&path).await.expect(200);
                let mut session = sign_in(&read).await.expect("no connection fails");
                assert_eq!(text(&mut session, "SELECT 1").await, "1");
                session.close().await.unwrap();
                seen.insert(read["standing_role"]["generation"].as_i64().unwrap());
                made.fetch_add(1, Ordering::Relaxed);
            }
            seen
        })
    });
    let clients: Vec<_> = clients.collect();
    for round in 1..=3 {
        eventually("they connect", seconds(60), async || {
            made.load(Ordering::Relaxed) >= round * 40
        })
        .await;
        rotate(&world, json!({})).await;
    }
    eventually("they connect with the last one", seconds(60), async || {
        made.load(Ordering::Relaxed) >= 200
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut seen = std::collections::BTreeSet::new();
    for client in clients {
        seen.extend(client.await.unwrap());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    let rate = f64::from(made.load(Ordering::Relaxed)) / began.elapsed().as_secs_f64() * 60.0;
    println!("{} connections, {rate:.0} a minute", made.load(Ordering::Relaxed));
    remove(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn what_is_due_is_rotated_by_schedule_and_what_was_missed_at_the_next_start() {
    let mut world = World::start().await;
    put(&world, json!({ "rotate": "2s" })).await.expect(201);
    generation(&world, 3).await;
    world.daemon.kill();
    put_off(&world, "due_at = now() - interval '10 days', again_at = now() - interval '10 days'")
        .await;
    let mut state = world.on_state().await;
    let before = text(&mut state, "SELECT generation FROM standing_role").await;
    world.start_daemon().await;
    generation(&world, before.parse::<i64>().unwrap() + 1).await;
    eventually("it was alarmed", seconds(10), async || {
        told(&world).await.iter().any(|kind| kind == "standing-role.overdue")
    })
    .await;
    remove(&world).await;
    world.finish().await;
}

async fn put_off(world: &World, set: &str) {
    let mut state = world.on_state().await;
    let update = format!("UPDATE standing_role SET {set}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute(&mut state).await.unwrap();
}

/// Kills the daemon when a rotation that is due came to this break; after the next start it is made.
async fn killed_at(way: fn(&World) -> &Proxy, mode: Mode) {
    let plan = Plan { lease: "issue_deadline = \"2s\"", ..Plan::default() };
    let mut world = World::with(plan).await;
    put(&world, json!({})).await.expect(201);
    generation(&world, 1).await;
    let first = read(&world.admin, &world).await;
    way(&world).set(mode);
    put_off(&world, "due_at = now(), again_at = now()").await;
    way(&world).broken().await;
    world.daemon.kill();
    way(&world).set(Mode::Pass);
    sign_in(&first).await.expect("what is handed out works while nobody rotates");
    world.start_daemon().await;
    let role = generation(&world, 2).await;
    sign_in(&read(&world.admin, &world).await).await.unwrap();
    eventually("one login is left", seconds(30), async || world.roles().await.len() == 1).await;
    assert_eq!(world.roles().await, [role["role"].as_str().unwrap()]);
    remove(&world).await;
    world.finish().await;
}

const CREATE: &str = "CREATE ROLE \"pgv_";

#[tokio::test]
async fn killed_after_the_intent_to_rotate() {
    let after = Break::hang_after(&["standing-role.rotating", "COMMIT"]);
    killed_at(|world| &world.state_path, after).await;
}

#[tokio::test]
async fn killed_before_the_fresh_login_is_made() {
    killed_at(|world| &world.target_path, Break::hang_before(&[CREATE])).await;
}

#[tokio::test]
async fn killed_after_the_fresh_login_was_made() {
    killed_at(|world| &world.target_path, Break::hang_after(&[CREATE])).await;
}

#[tokio::test]
async fn killed_before_the_fresh_login_is_handed_out() {
    killed_at(|world| &world.state_path, Break::hang_before(&["standing-role.rotated"])).await;
}

#[tokio::test]
async fn killed_after_the_fresh_login_was_handed_out() {
    let after = Break::hang_after(&["standing-role.rotated", "COMMIT"]);
    killed_at(|world| &world.state_path, after).await;
}

#[tokio::test]
async fn what_cannot_be_rotated_is_told_alarmed_and_made_up_for() {
    let world = World::start().await;
    put(&world, json!({ "window": "1s" })).await.expect(201);
    generation(&world, 1).await;
    let first = read(&world.admin, &world).await;
    world.target_path.set(Mode::Refuse);
    put_off(&world, "due_at = now(), again_at = now()").await;
    let metrics = format!("{}/metrics", world.daemon.url);
    eventually("it is overdue", seconds(60), async || {
        let scraped = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        scraped.contains("pgvalet_rotations_overdue{what=\"standing_role\"} 1")
    })
    .await;
    let role = world.admin.get(&path(&world)).await.expect(200);
    assert_eq!(role["overdue"], true, "{role}");
    assert!(role["blocked_by"].as_str().unwrap().contains("cannot be reached"), "{role}");
    let due = pgvalet(&world, &["rotate", "--due"]).await;
    assert_eq!(due.0, 1, "{due:?}");
    // What it hands out is the login that works.
    assert_eq!(read(&world.admin, &world).await["credential"]["user"], first["credential"]["user"]);
    world.target_path.set(Mode::Pass);
    eventually("what is due is rotated", seconds(60), async || {
        pgvalet(&world, &["rotate", "--due"]).await.0 == 0
    })
    .await;
    generation(&world, 2).await;
    let kinds = told(&world).await;
    let count = |kind| kinds.iter().filter(|told| *told == kind).count();
    assert!((1..=3).contains(&count("standing-role.failed")), "each reason once: {kinds:?}");
    assert_eq!(count("standing-role.overdue"), 1, "{kinds:?}");
    let due = pgvalet(&world, &["rotate", "--due"]).await;
    assert_eq!((due.0, due.2.as_str()), (0, "nothing is due\n"), "{due:?}");
    remove(&world).await;
    world.finish().await;
}

/// The real command line; gives its exit status and what it printed.
pub(crate) async fn pgvalet(world: &World, words: &[&str]) -> (i32, String, String) {
    let mut command = binary();
    command.args(words).env("PGVALET_URL", &world.daemon.url);
    command.env("PGVALET_TOKEN", &world.admin.token);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn as_code_and_on_the_command_line() {
    let world = World::start().await;
    let name = format!("{}-app", world.name);
    let file = format!(
        "[standing-role.{name}]\nprofile = \"{}\"\nrotate = \"0 0 3 1 */3 *\"\njitter = \"2h\"\n\n\
         [standing-role.{name}.access]\nallow = [\"anyone\"]\n",
        world.profile("write")
    );
    let code = |text: &str| json!({ "name": "s.toml", "text": text, "secrets": {} });
    let plan = world.admin.post("/v1/plan", &code(&file)).await.expect(200);
    assert_eq!(plan["lines"][0]["action"], "create", "{plan}");
    world.admin.post("/v1/apply", &code(&file)).await.expect(200);
    generation(&world, 1).await;
    let export = world.admin.get("/v1/export").await.expect(200);
    let export = export["text"].as_str().unwrap();
    assert!(export.contains(&format!("[standing-role.{name}]")), "{export}");
    let again = world.admin.post("/v1/plan", &code(export)).await.expect(200);
    assert_eq!(again["changes"], false, "{again}");
    let unknown = file.replace(&world.profile("write"), "no-such-profile");
    world.admin.post("/v1/plan", &code(&unknown)).await.expect_problem(422, "invalid_file");

    let (status, listed, _) = pgvalet(&world, &["standing", "list"]).await;
    assert!(status == 0 && listed.contains(&name) && listed.contains("in time"), "{listed}");
    let (status, shown, _) = pgvalet(&world, &["standing", "show", &name]).await;
    assert!(status == 0 && shown.contains("up to 2h later"), "{shown}");
    let (status, uri, _) = pgvalet(&world, &["standing", "get", &name]).await;
    assert_eq!(status, 0);
    assert!(crate::support::sessions::psql(uri.trim(), "select 1").await.ok);
    let (status, rotated, err) = pgvalet(&world, &["standing", "rotate", "--all"]).await;
    assert_eq!((status, rotated), (0, format!("rotated      standing role {name}\n")), "{err}");
    assert_eq!(pgvalet(&world, &["standing", "remove", &name]).await.0, 0);
    assert_eq!(pgvalet(&world, &["standing", "show", &name]).await.0, 1);
    world.finish().await;
}
