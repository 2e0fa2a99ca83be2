//! CI jobs by the tokens of their CI system: from the rule in a file to the lease, and everything that must not get in.

mod commands;
mod keys;
mod kubernetes;
mod leases;
mod many;
mod matrix;
mod pipelines;

use serde_json::{Value, json};

use crate::support::{issuer::Issuer, people::Person, world::World};

/// What a token of GitHub's says of a job of the storefront's main branch.
pub(crate) fn storefront() -> Value {
    json!({
        "sub": "repo:acme/storefront:ref:refs/heads/main",
        "repository": "acme/storefront", "repository_id": "74", "repository_owner": "acme",
        "repository_owner_id": "65", "repository_visibility": "private", "ref": "refs/heads/main",
        "ref_type": "branch", "sha": "f00d", "event_name": "push", "runner_environment": "github-hosted",
        "actor": "octocat", "actor_id": "12", "run_id": "1001", "run_attempt": "1", "check_run_id": "5005", "run_number": "10",
        "workflow": "deploy",
        "workflow_ref": "acme/storefront/.github/workflows/deploy.yml@refs/heads/main",
        "job_workflow_ref": "acme/storefront/.github/workflows/deploy.yml@refs/heads/main",
    })
}

/// The same, but for what differs.
pub(crate) fn storefront_but(differs: Value) -> Value {
    let mut claims = storefront();
    for (name, value) in differs.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// Records an issuer and its rules, and lets their jobs ask for `read`.
pub(crate) async fn apply(world: &World, text: &str, allow: &[&str]) {
    let file = json!({ "name": "ci.toml", "text": text });
    world.admin.post("/v1/apply", &file).await.expect(200);
    world.put_profile("read", json!({ "allow": allow })).await;
}

/// The issuer as GitHub's, with one rule for the storefront's main branch.
pub(crate) async fn let_storefront_in(world: &World, issuer: &Issuer) {
    let text = format!(
        "[issuer.github]\nkind = \"github\"\nurl = \"{}\"\naudience = \"https://pgvalet.example.org\"\n\n\
         [ci.storefront-main]\nissuer = \"github\"\nrepository_id = 74\nrepository_owner_id = 65\n\
         ref = \"refs/heads/main\"\n",
        issuer.url
    );
    apply(world, &text, &["ci:storefront-main", "anyone"]).await;
}

/// A job with this token.
pub(crate) fn job(world: &World, token: &str) -> Person {
    world.admin.with_token(token)
}

/// Why the last token was refused, as the audit has it.
pub(crate) async fn last_refusal(world: &World) -> String {
    let page = world.admin.get("/v1/audit?kind=token.refused&limit=1").await.expect(200);
    page["items"][0]["entry"]["event"]["why"].as_str().unwrap_or_default().to_owned()
}
