//! `pgvalet ci`: explained, proposed, listed, removed; and leases from within a job.

use std::{
    io::Write as _,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::HeaderMap,
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    ci_jobs::{apply, job, let_storefront_in, storefront, storefront_but},
    support::{
        daemon::binary,
        issuer::{AUDIENCE, Issuer, Key},
        world::World,
    },
};

/// Runs the client with these variables.
pub(crate) async fn client(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut command = binary();
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let running = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output()
    });
    running.await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_token_is_explained_matcher_by_matcher_and_not_spent() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let_storefront_in(&world, &issuer).await;
    let signed_in =
        [("PGVALET_URL", world.admin.url.as_str()), ("PGVALET_TOKEN", world.admin.token.as_str())];
    let explain =
        async |token: &str| client(&["ci", "explain", "--token", "-"], &signed_in, token).await;

    let good = issuer.token(&storefront());
    let told = explain(&good).await;
    let shown = text(&told.stdout);
    assert!(told.status.success(), "{shown}{}", text(&told.stderr));
    assert!(shown.contains("the job is ci:storefront-main"), "{shown}");
    job(&world, &good).ask(&world.profile("read"), json!({})).await.expect(201);

    let bad = storefront_but(
        json!({ "ref": "refs/heads/feature", "aud": "elsewhere", "event_name": "pull_request" }),
    );
    let told = explain(&Key::rsa("first").sign(&issuer.claims(&bad))).await;
    let shown = text(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{shown}");
    for words in [
        "its signature is wrong",
        "its audience is `elsewhere`: it has to be `https://pgvalet.example.org`",
        "ci.storefront-main is not met",
        "refs/heads/feature",
        "pull_request",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let line = |key: &str| shown.lines().find(|line| line.contains(key)).unwrap().trim().to_owned();
    assert!(line("repository_id").starts_with("yes") && line(" ref ").starts_with("NO"), "{shown}");

    let nearly = issuer.claims(&json!({ "iss": format!("{}/", issuer.url) }));
    let shown = text(&explain(&issuer.key().sign(&nearly)).await.stdout);
    assert!(shown.contains("to the letter") && shown.contains(&issuer.url), "{shown}");
    let shown = text(&explain("no token at all").await.stdout);
    assert!(shown.contains("it is not a signed token"), "{shown}");
    world.finish().await;
}

#[tokio::test]
async fn a_first_rule_is_written_from_a_token_and_removed_again() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let token = issuer.token(&storefront());
    let proposed =
        client(&["ci", "rule", "--from-token", "-", "--name", "storefront-main"], &[], &token)
            .await;
    let rule = text(&proposed.stdout);
    assert!(
        proposed.status.success() && rule.contains("repository_id = 74    # acme/storefront"),
        "{rule}"
    );
    assert!(text(&proposed.stderr).contains("was not checked"));
    apply(&world, &rule, &["ci:storefront-main"]).await;
    let ours = job(&world, &issuer.token(&storefront()));
    ours.ask(&world.profile("read"), json!({})).await.expect(201);

    // What is exported applies to nothing new.
    let exported =
        world.admin.get("/v1/export").await.expect(200)["text"].as_str().unwrap().to_owned();
    let plan = world
        .admin
        .post("/v1/plan", &json!({ "name": "again.toml", "text": exported }))
        .await
        .expect(200);
    let ours_of_it = plan["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| ["ci", "issuer"].contains(&line["what"].as_str().unwrap()));
    let actions: Vec<&Value> = ours_of_it.map(|line| &line["action"]).collect();
    assert_eq!(actions, ["keep", "keep"]);

    let signed_in =
        [("PGVALET_URL", world.admin.url.as_str()), ("PGVALET_TOKEN", world.admin.token.as_str())];
    let rules = text(&client(&["ci", "rules"], &signed_in, "").await.stdout);
    assert!(rules.contains("ci:storefront-main") && rules.contains("repository_id=74"), "{rules}");
    let in_use = client(&["ci", "remove", "--issuer", "github"], &signed_in, "").await;
    assert!(text(&in_use.stderr).contains("issuer_in_use"), "{}", text(&in_use.stderr));
    assert!(client(&["ci", "remove", "storefront-main"], &signed_in, "").await.status.success());
    assert!(client(&["ci", "remove", "--issuer", "github"], &signed_in, "").await.status.success());
    ours.get("/v1/whoami").await.expect_problem(401, "token_refused");
    let lost = client(&["ci", "remove", "storefront-main"], &signed_in, "").await;
    assert!(text(&lost.stderr).contains("there is no rule for CI jobs"), "{}", text(&lost.stderr));
    world.finish().await;
}

#[tokio::test]
async fn who_may_not_change_people_lets_no_job_in_and_a_job_makes_nothing_of_its_rule() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let roles = "[administration]\nauthor = [\"person:ann\"]\nadmin = [\"ci:storefront-main\"]\n";
    world
        .admin
        .post("/v1/apply", &json!({ "name": "roles.toml", "text": roles }))
        .await
        .expect(200);
    let_storefront_in(&world, &issuer).await;
    let ann = world.person("ann", &[]).await;
    let text = format!(
        "[issuer.github]\nkind = \"github\"\nurl = \"{}\"\naudience = \"{AUDIENCE}\"\n\
         [ci.mine]\nissuer = \"github\"\nrepository_id = 1\nrepository_owner_id = 2\n",
        issuer.url
    );
    let file = json!({ "name": "ci.toml", "text": text });
    ann.post("/v1/apply", &file).await.expect_problem(403, "admin_only");

    // A rule for a role names it, and still it administers nothing: whoever can change a workflow would.
    let ours = job(&world, &issuer.token(&storefront()));
    ours.get("/v1/audit").await.expect_problem(403, "admin_only");
    ours.post("/v1/tokens", &json!({ "name": "mine" })).await.expect_problem(403, "not_for_jobs");
    let for_rule = json!({ "name": "x", "principal": "ci:storefront-main" });
    world.admin.post("/v1/tokens", &for_rule).await.expect_problem(422, "invalid_request");
    world.finish().await;
}

/// What a GitHub runner gives tokens out of.
#[derive(Clone)]
struct Runner {
    issuer: Issuer,
    given: Arc<Mutex<Vec<String>>>,
}

async fn give(
    State(runner): State<Runner>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Json<Value> {
    assert_eq!(headers["authorization"], "Bearer the-runner's-own");
    let query = query.unwrap();
    assert!(query.starts_with("api-version=2&audience="), "{query}");
    let audience = query.split_once("audience=").unwrap().1;
    let audience = audience.replace("%3A", ":").replace("%2F", "/");
    runner.given.lock().unwrap().push(audience.clone());
    Json(
        json!({ "count": 1, "value": runner.issuer.token(&storefront_but(json!({ "aud": audience }))) }),
    )
}

/// The address of a runner that gives tokens of this issuer, with what it gave them for.
pub(crate) async fn runner(issuer: &Issuer) -> (String, Arc<Mutex<Vec<String>>>) {
    let given = Arc::new(Mutex::new(Vec::new()));
    let state = Runner { issuer: issuer.clone(), given: Arc::clone(&given) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token?api-version=2", listener.local_addr().unwrap());
    let router = Router::new().route("/token", get(give)).with_state(state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, given)
}

#[tokio::test]
async fn the_client_in_a_github_job_asks_its_runner_for_a_token_each_time() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let_storefront_in(&world, &issuer).await;
    let (url, given) = runner(&issuer).await;
    let variables = [
        ("PGVALET_URL", world.admin.url.as_str()),
        ("PGVALET_OIDC", "github"),
        ("PGVALET_AUDIENCE", AUDIENCE),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-runner's-own"),
    ];
    let profile = world.profile("read");
    for _ in 0..2 {
        let ran = client(
            &["run", &profile, "--", "sh", "-c", "psql -Atc 'select count(*) > 0 from orders'"],
            &variables,
            "",
        )
        .await;
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        assert_eq!(text(&ran.stdout), "t\n");
    }
    assert_eq!(world.live().await, Vec::<Value>::new());
    let given = given.lock().unwrap().clone();
    assert!(given.len() >= 4 && given.iter().all(|audience| audience == AUDIENCE), "{given:?}");
    let without = client(&["whoami"], &variables[..2], "").await;
    assert!(text(&without.stderr).contains("id-token: write"), "{}", text(&without.stderr));
    world.finish().await;
}
