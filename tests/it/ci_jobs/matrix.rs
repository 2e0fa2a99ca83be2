//! Every token that must not get in, and those that must: exactly the permitted ones get a lease.

use chrono::Utc;
use serde_json::{Value, json};

use crate::{
    ci_jobs::{apply, job, last_refusal, let_storefront_in, storefront, storefront_but},
    support::{
        issuer::{AUDIENCE, Issuer, Key, signed_by_hmac, unsigned},
        world::{Plan, World},
    },
};

/// So that refusals of one test are not slowed down.
const PATIENT: &str = "[throttle]\nfailures_per_minute = 10000";

/// A token is refused without a reason, and the audit has this one.
async fn refused(world: &World, token: &str, why: &str) {
    let answer = job(world, token).ask(&world.profile("read"), json!({})).await;
    let told = answer.expect_problem(401, "token_refused").to_string();
    let reason = last_refusal(world).await;
    assert!(reason.contains(why), "`{why}` is not in `{reason}`");
    assert!(!told.contains(why), "the caller is told: {told}");
}

async fn taken(world: &World, token: &str) {
    let answer = job(world, token).ask(&world.profile("read"), json!({})).await;
    assert_eq!(answer.status, 201, "{}: {}", answer.text, last_refusal(world).await);
}

/// Claims that differ from a good token's, and what the audit says of them.
fn lies(issuer: &Issuer, evil: &Issuer) -> Vec<(Value, &'static str)> {
    let now = Utc::now().timestamp();
    vec![
        (json!({ "aud": "https://github.com/acme" }), "its audience is `https://github.com/acme`"),
        (json!({ "aud": format!("{AUDIENCE}/") }), "its audience is"),
        (json!({ "aud": null }), "its audience is nothing"),
        (json!({ "aud": [] }), "its audience is nothing"),
        (json!({ "iss": format!("{}/", issuer.url) }), "its issuer is"),
        (json!({ "iss": issuer.url.to_uppercase() }), "its issuer is"),
        (json!({ "iss": evil.url }), "its issuer is"),
        (json!({ "iss": null }), "no usable claim `iss`"),
        (json!({ "sub": null }), "no usable claim `sub`"),
        (json!({ "exp": now - 61 }), "it ended at"),
        (json!({ "exp": null }), "no usable claim `exp`"),
        (json!({ "exp": "soon" }), "no usable claim `exp`"),
        (json!({ "nbf": now + 120 }), "it is good from"),
        (json!({ "nbf": "later" }), "no usable claim `nbf`"),
        (json!({ "iat": now + 120 }), "it is good from"),
        (json!({ "iat": null }), "no usable claim `iat`"),
        (json!({ "iat": now - 90_000, "exp": i64::MAX }), "no usable claim `exp`"),
        (json!({ "iat": now - 90_000, "exp": 8_000_000_000_000_i64 }), "it was issued at"),
        // What it says of the job.
        (
            json!({ "repository_owner": "acme-corp", "repository_owner_id": "66" }),
            "it meets no rule",
        ),
        (json!({ "repository_id": "75" }), "it meets no rule"),
        (json!({ "repository_id": "740", "repository": "acme/storefront" }), "it meets no rule"),
        (
            json!({ "repository_id": "990", "repository": "mallory/storefront", "repository_owner_id": "99" }),
            "it meets no rule",
        ),
        (json!({ "repository_id": null }), "it meets no rule"),
        (
            json!({ "event_name": "pull_request", "ref": "refs/pull/7/merge", "sub": "repo:acme/storefront:pull_request" }),
            "it meets no rule",
        ),
        (json!({ "event_name": "pull_request_target" }), "it meets no rule"),
        (json!({ "ref": "refs/heads/main2" }), "it meets no rule"),
        (json!({ "ref": "refs/tags/main" }), "it meets no rule"),
        (json!({ "runner_environment": "self-hosted" }), "it meets no rule"),
    ]
}

/// Tokens that others signed, or nobody, or in a way that is not taken.
async fn forged(world: &World, issuer: &Issuer, evil: &Issuer) {
    let claims = issuer.claims(&storefront());
    let header = |algorithm: &str| json!({ "alg": algorithm, "typ": "JWT", "kid": "first" });
    let key = issuer.key();
    let foreign = Key::rsa("first").sign(&claims);
    refused(world, &foreign, "its signature is wrong").await;
    for algorithm in ["none", "None", "HS256", "RS512", "PS256"] {
        let token = format!("{}.", unsigned(&header(algorithm), &claims));
        refused(world, &token, "RS256 and ES256 are taken").await;
    }
    let public = signed_by_hmac(&header("HS256"), &claims, &key.public_der());
    refused(world, &public, "it is signed with `HS256`").await;
    let crossed = signed_by_hmac(&header("RS256"), &claims, &key.public_der());
    refused(world, &crossed, "its signature is wrong").await;
    let critical = json!({ "alg": "RS256", "kid": "first", "crit": ["exp"] });
    refused(world, &key.sign_with(&critical, &claims), "extensions").await;
    let other_kind = json!({ "alg": "RS256", "kid": "first", "typ": "at+jwt" });
    refused(world, &key.sign_with(&other_kind, &claims), "a token of another kind").await;
    let elsewhere = json!({ "alg": "RS256", "kid": "other", "jku": format!("{}/keys", evil.url) });
    refused(world, &evil.key().sign_with(&elsewhere, &claims), "its issuer has no key").await;
    let good = key.sign(&claims);
    let (text, _) = good.rsplit_once('.').unwrap();
    refused(world, &format!("{text}.AAAA"), "its signature is wrong").await;
    let changed = key.sign(&issuer.claims(&storefront_but(json!({ "repository_id": "75" }))));
    let spliced = format!("{text}.{}", changed.rsplit_once('.').unwrap().1);
    refused(world, &spliced, "its signature is wrong").await;
    assert_eq!(evil.asked(), 0, "an issuer that is not ours was asked");
}

#[tokio::test]
async fn only_what_the_rule_says_gets_a_lease() {
    let world = World::with(Plan { settings: PATIENT, ..Plan::default() }).await;
    let (issuer, evil) = (Issuer::start().await, Issuer::start().await);
    let_storefront_in(&world, &issuer).await;
    let sign = |differs: Value| issuer.token(&storefront_but(differs));

    for (differs, why) in lies(&issuer, &evil) {
        refused(&world, &sign(differs), why).await;
    }
    forged(&world, &issuer, &evil).await;
    assert_eq!(world.live().await, Vec::<Value>::new());

    // Too old for a credential, though it is good for looking.
    let now = Utc::now().timestamp();
    let old = json!({ "iat": now - 1000, "nbf": now - 1000, "exp": now + 300 });
    let old = job(&world, &sign(old));
    old.ask(&world.profile("read"), json!({})).await.expect_problem(401, "token_too_old");
    old.get("/v1/leases").await.expect(200);

    let now = Utc::now().timestamp();
    // The forms that one and the same job's token has had, and clocks that are a little apart.
    for differs in [
        json!({}),
        json!({ "sub": "repo:acme@65/storefront@74:ref:refs/heads/main" }),
        json!({ "sub": "repository_owner_id:65:custom" }),
        json!({ "aud": ["another", AUDIENCE] }),
        json!({ "iat": now + 50, "nbf": now + 50 }),
        json!({ "exp": now - 50 }),
        json!({ "jti": null }),
    ] {
        taken(&world, &sign(differs)).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_job_of_another_system_is_bound_by_what_that_one_vouches_for() {
    let world = World::with(Plan { settings: PATIENT, ..Plan::default() }).await;
    let (circle, spire) = (Issuer::start().await, Issuer::with(Key::elliptic("spiffe")).await);
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let text = format!(
        "[issuer.circle]\nkind = \"circleci\"\nurl = \"{}\"\naudience = \"{AUDIENCE}\"\n\
         [ci.circle-job]\nissuer = \"circle\"\nproject_id = \"{uuid}\"\n\
         [issuer.spire]\nkind = \"generic\"\nurl = \"{}\"\naudience = \"{AUDIENCE}\"\n\
         [ci.workload]\nissuer = \"spire\"\nsubject = \"spiffe://example.org/reports\"\n\
         [ci.twin]\nissuer = \"spire\"\nsubject = [\"spiffe://example.org/twin\"]\n\
         [ci.other-twin]\nissuer = \"spire\"\nsubject = \"spiffe://example.org/twin\"\n",
        circle.url, spire.url
    );
    apply(&world, &text, &["ci:circle-job", "ci:workload", "ci:twin"]).await;
    let of_circle = |rerun: Value| {
        circle.token(&json!({
            "oidc.circleci.com/project-id": uuid, "oidc.circleci.com/job-id": "j",
            "oidc.circleci.com/ssh-rerun": rerun,
        }))
    };
    refused(&world, &of_circle(json!(true)), "it meets no rule").await;
    refused(&world, &of_circle(Value::Null), "it meets no rule").await;
    taken(&world, &of_circle(json!(false))).await;

    let workload = |id: &str| spire.token(&json!({ "sub": id }));
    refused(&world, &workload("spiffe://example.org/reports/x"), "it meets no rule").await;
    // Whoever meets two rules is nobody.
    refused(&world, &workload("spiffe://example.org/twin"), "several rules (other-twin, twin)")
        .await;
    taken(&world, &workload("spiffe://example.org/reports")).await;
    world.finish().await;
}

#[tokio::test]
async fn a_source_that_guesses_is_told_to_wait_and_good_tokens_from_there_go_on() {
    let settings = "[throttle]\nfailures_per_minute = 3";
    let world = World::with(Plan { settings, ..Plan::default() }).await;
    let issuer = Issuer::start().await;
    let_storefront_in(&world, &issuer).await;
    let guess = Key::rsa("first").sign(&issuer.claims(&storefront()));
    for _ in 0..3 {
        job(&world, &guess).get("/v1/whoami").await.expect_problem(401, "token_refused");
    }
    let before =
        world.admin.get("/v1/audit?limit=1").await.expect(200)["items"][0]["entry"].clone();
    let told = job(&world, &guess).get("/v1/whoami").await;
    assert!(told.headers.contains_key("retry-after"));
    told.expect_problem(429, "throttled");
    let first = world.admin.get("/v1/audit?limit=1").await.expect(200)["items"][0]["entry"].clone();
    assert_eq!(first["event"]["kind"], "source.throttled");
    for _ in 0..20 {
        job(&world, &guess).get("/v1/whoami").await.expect_problem(429, "throttled");
    }
    let last = world.admin.get("/v1/audit?limit=1").await.expect(200)["items"][0]["entry"].clone();
    assert_eq!((last == first, last == before), (true, false), "guesses fill the audit");
    taken(&world, &issuer.token(&storefront())).await;
    assert_eq!(issuer.asked(), 1, "guesses had the issuer asked");
    world.finish().await;
}
