//! What rules let in and keep out, without keys and daemons.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::ci::{
    IssuerKind, IssuerSpec, audience_fault, faults, propose,
    rule::{self, RuleSpec},
    system::Form,
};

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn issuer(kind: IssuerKind) -> IssuerSpec {
    IssuerSpec {
        name: "ours".parse().unwrap(),
        kind,
        url: kind.system().url.unwrap_or("https://issuer.example/org/0b").to_owned(),
        audience: Some("https://pgvalet.example.org".to_owned()),
        jwks_url: None,
        ca: None,
        max_age: 900,
        token_review: None,
    }
}

fn rule(matchers: &[(&str, &[&str])]) -> RuleSpec {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    RuleSpec {
        name: "job".parse().unwrap(),
        description: String::new(),
        issuer: "ours".parse().unwrap(),
        audience: None,
        matchers: matchers.iter().map(|(key, values)| ((*key).to_owned(), texts(values))).collect(),
        claims: BTreeMap::new(),
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

/// Claims, and then for each change of one of them whether they still meet the rule.
fn table(kind: IssuerKind, rule: &RuleSpec, good: &Value, changes: &[(&str, Value, bool)]) {
    let issuer = issuer(kind);
    let mut good = good.clone();
    good["aud"] = json!("https://pgvalet.example.org");
    assert_eq!(rule::faults(rule, &issuer), [], "{kind:?}");
    assert!(rule.holds(&issuer, object(&good)), "{:#?}", rule.outcomes(&issuer, object(&good)));
    for (claim, value, holds) in changes {
        let mut claims = good.clone();
        claims[*claim] = value.clone();
        assert_eq!(rule.holds(&issuer, object(&claims)), *holds, "{kind:?}: {claim} = {value}");
    }
}

#[test]
fn a_rule_of_github_binds_ids_and_takes_only_what_its_own_people_start() {
    let rule = rule(&[
        ("repository_id", &["74"]),
        ("repository_owner_id", &["65"]),
        ("ref", &["refs/heads/main", "refs/heads/release/*"]),
    ]);
    let good = json!({
        "repository_id": "74", "repository_owner_id": "65", "ref": "refs/heads/main", "event_name": "push",
        "runner_environment": "github-hosted", "sub": "repo:acme/storefront:ref:refs/heads/main",
    });
    let changes = [
        ("repository_id", json!("75"), false),
        ("repository_id", json!(74), true),
        ("repository_id", Value::Null, false),
        ("repository_id", json!({ "74": "74" }), false),
        ("repository_owner_id", json!("650"), false),
        ("ref", json!("refs/heads/release/1.2"), true),
        ("ref", json!("refs/heads/release/1/2"), false),
        ("ref", json!("refs/heads/release/"), false),
        ("ref", json!("refs/heads/mainx"), false),
        ("ref", json!("refs/pull/7/merge"), false),
        ("event_name", json!("workflow_dispatch"), true),
        ("event_name", json!("pull_request"), false),
        ("event_name", json!("pull_request_target"), false),
        ("event_name", json!("issue_comment"), false),
        ("event_name", json!("workflow_run"), false),
        ("event_name", Value::Null, false),
        ("runner_environment", json!("self-hosted"), false),
        ("runner_environment", Value::Null, false),
        ("aud", json!(["https://pgvalet.example.org", "another"]), true),
        ("aud", json!("https://pgvalet.example.org/"), false),
        ("sub", json!("repo:acme@65/storefront@74:ref:refs/heads/main"), true),
        ("sub", json!("whatever an organisation made of it"), true),
    ];
    table(IssuerKind::Github, &rule, &good, &changes);
}

#[test]
fn rules_of_the_other_systems_bind_ids_too() {
    let gitlab = rule(&[
        ("project_id", &["7"]),
        ("namespace_id", &["3"]),
        ("ref", &["main"]),
        ("ref_type", &["branch"]),
    ]);
    let good = json!({
        "project_id": "7", "namespace_id": "3", "ref": "main", "ref_type": "branch", "ref_protected": "true",
        "pipeline_source": "push",
    });
    let changes = [
        ("project_id", json!("70"), false),
        ("namespace_id", json!("4"), false),
        ("ref_protected", json!("false"), false),
        ("ref_protected", Value::Null, false),
        ("ref_type", json!("tag"), false),
        ("pipeline_source", json!("merge_request_event"), false),
        ("pipeline_source", json!("external_pull_request_event"), false),
        ("pipeline_source", json!("schedule"), true),
    ];
    table(IssuerKind::Gitlab, &gitlab, &good, &changes);

    let pod = rule(&[("namespace", &["shop"]), ("serviceaccount_uid", &[UUID])]);
    let claims = |namespace: &str, uid: &str| json!({ "namespace": namespace, "serviceaccount": { "name": "api", "uid": uid } });
    let good = json!({ "kubernetes.io": claims("shop", UUID) });
    let changes = [
        ("kubernetes.io", claims("shop", "11234567-89ab-cdef-0123-456789abcdef"), false),
        ("kubernetes.io", claims("shop2", UUID), false),
        ("kubernetes.io", json!("shop"), false),
    ];
    table(IssuerKind::Kubernetes, &pod, &good, &changes);

    let buildkite = rule(&[
        ("organization_id", &[UUID]),
        ("pipeline_id", &[UUID]),
        ("build_branch", &["main"]),
    ]);
    let good = json!({ "organization_id": UUID, "pipeline_id": UUID, "build_branch": "main" });
    let changes = [("build_branch", json!("main2"), false), ("pipeline_id", json!("x"), false)];
    table(IssuerKind::Buildkite, &buildkite, &good, &changes);

    let circle = rule(&[("project_id", &[UUID]), ("context_ids", &[UUID])]);
    let good = json!({
        "oidc.circleci.com/project-id": UUID, "oidc.circleci.com/context-ids": ["another", UUID],
        "oidc.circleci.com/ssh-rerun": false,
    });
    let changes = [
        ("oidc.circleci.com/ssh-rerun", json!(true), false),
        ("oidc.circleci.com/ssh-rerun", Value::Null, false),
        ("oidc.circleci.com/context-ids", json!([]), false),
        ("oidc.circleci.com/project-id", json!("x"), false),
    ];
    table(IssuerKind::Circleci, &circle, &good, &changes);

    let mut spiffe = rule(&[("subject", &["spiffe://example.org/reports"])]);
    spiffe.claims.insert("tier".to_owned(), "1".to_owned());
    let good = json!({ "sub": "spiffe://example.org/reports", "tier": 1 });
    let changes = [
        ("sub", json!("spiffe://example.org/reports/2"), false),
        ("sub", json!("spiffe://example.org.evil/reports"), false),
        ("tier", json!("2"), false),
        ("tier", Value::Null, false),
    ];
    table(IssuerKind::Generic, &spiffe, &good, &changes);
}

#[test]
fn a_star_is_a_part_of_one_segment() {
    let form = Form::Ref("refs/");
    for (wanted, seen, holds) in [
        ("refs/heads/*", "refs/heads/a", true),
        ("refs/heads/*", "refs/heads/a/b", false),
        ("refs/heads/*", "refs/heads/", false),
        ("refs/*/v1", "refs/tags/v1", true),
        ("refs/tags/v*.*", "refs/tags/v1.2", true),
        ("refs/tags/v*.*", "refs/tags/v12", false),
        ("refs/tags/v*2", "refs/tags/v2", true),
        ("refs/tags/ab*b", "refs/tags/ab", false),
        ("refs/tags/v1", "refs/tags/v1.", false),
    ] {
        assert_eq!(form.holds(wanted, seen), holds, "{wanted} {seen}");
    }
}

#[test]
fn an_audience_that_others_have_too_is_refused() {
    let mut circle = issuer(IssuerKind::Circleci);
    circle.url = format!("https://oidc.circleci.com/org/{UUID}");
    let github = issuer(IssuerKind::Github);
    for (audience, issuer, refused) in [
        ("https://github.com/acme", &github, true),
        ("https://github.com/acme/", &github, true),
        ("https://github.com/acme/pgvalet", &github, false),
        ("https://pgvalet.example.org", &github, false),
        ("sts.amazonaws.com", &github, true),
        ("https://token.actions.githubusercontent.com", &github, true),
        (UUID, &circle, true),
        ("pgvalet-prod", &circle, false),
    ] {
        assert_eq!(audience_fault(audience, issuer).is_some(), refused, "{audience}");
    }
}

#[test]
fn an_issuer_is_asked_over_https() {
    let mut plain = issuer(IssuerKind::Gitlab);
    assert_eq!(faults(&plain), []);
    for (url, good) in [
        ("http://gitlab.example", false),
        ("http://127.0.0.1:80/x", true),
        ("http://localhost.evil.example", false),
        ("gitlab.example", false),
    ] {
        plain.url = url.to_owned();
        assert_eq!(faults(&plain).is_empty(), good, "{url}");
    }
    plain.jwks_url = Some("https://keys.example/jwks".to_owned());
    assert_eq!(faults(&plain), [], "where its keys are is said, its name is only a name");
}

#[test]
fn what_is_proposed_from_a_token_reads_back_as_a_rule_that_it_meets() {
    let claims = json!({
        "iss": "https://token.actions.githubusercontent.com", "aud": "https://pgvalet.example.org",
        "repository": "acme/store\nfront", "repository_id": "74", "repository_owner": "acme",
        "repository_owner_id": "65", "ref": "refs/heads/main", "event_name": "pull_request",
        "runner_environment": "github-hosted", "environment": "pro\"d", "sub": "x",
    });
    let text = propose::propose(object(&claims), "deploy");
    insta::assert_snapshot!(text, @r#"
    [issuer.github]
    kind = "github"
    audience = "https://pgvalet.example.org"    # as this token has it; nobody else may have it

    [ci.deploy]
    issuer = "github"
    repository_id = 74    # acme/storefront
    repository_owner_id = 65    # acme
    ref = "refs/heads/main"
    environment = 'pro"d'
    event = "pull_request"
    "#);
    let desired = crate::domain::profile_file::read("ci.toml", &text).unwrap();
    let (issuer, rule) = (&desired.issuers[0], &desired.ci_rules[0]);
    assert!(rule.holds(issuer, object(&claims)));
    let notes = rule::notes(rule, issuer.kind).join("\n");
    assert!(notes.contains("pull_request") && notes.contains("repository_visibility"), "{notes}");
}

#[test]
fn a_rule_that_would_let_others_in_is_refused_with_what_to_write() {
    let text = r#"
[issuer.github]
kind = "github"
max_age = "2h"

[issuer.gitlab]
kind = "gitlab"
url = "https://gitlab.example"
audience = "https://pgvalet.example.org"

[issuer.circle]
kind = "circleci"
url = "https://oidc.circleci.com/org/0b"
audience = "0b"

[ci.by-name]
issuer = "github"
repository = "acme/storefront"
sub = "repo:acme/*"

[ci.glob]
issuer = "gitlab"
project_id = "7*"
namespace_id = "acme"
ref = "**"

[ci.ssh]
issuer = "circle"
project_id = "storefront"
ssh_rerun = true

[ci.nowhere]
issuer = "gihub"
project = 7
"#;
    let faults = crate::domain::profile_file::read("ci.toml", text).unwrap_err();
    let told = faults
        .as_slice()
        .iter()
        .map(|fault| format!("{} {}: {}", fault.line.unwrap_or(0), fault.key, fault.message));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r#"
    4 issuer.github.max_age: `max_age = "2h"` in [issuer.github] is out of range; write from "1s" to "1h"
    14 issuer.circle.audience: `audience` in [issuer.circle]: the organisation's id is in every token of CircleCI's, for whomever it is made: write one that nobody else has, such as this deployment's own address ("https://pgvalet.example.org"), and ask for tokens with it
    16 ci.by-name.audience: `audience` in [ci.by-name]: tokens for anybody would be taken: write one here or in [issuer.github] that nobody else has, such as this deployment's own address ("https://pgvalet.example.org")
    16 ci.by-name.repository_id: `repository_id` in [ci.by-name]: it is missing, and without it others' jobs would be taken: write repository_id = "…" (`pgvalet ci rule --from-token -` finds it in a token)
    16 ci.by-name.repository_owner_id: `repository_owner_id` in [ci.by-name]: it is missing, and without it others' jobs would be taken: write repository_owner_id = "…" (`pgvalet ci rule --from-token -` finds it in a token)
    18 ci.by-name.repository: `repository` in [ci.by-name] cannot be used: names are recycled: write repository_id = …; `pgvalet ci rule --from-token -` finds it
    19 ci.by-name.sub: `sub` in [ci.by-name] cannot be used: its form changes, and it is made of names: write repository_id, repository_owner_id, ref or environment
    23 ci.glob.project_id: `project_id` in [ci.glob]: `7*` is taken to the letter, and `*` is no letter of it: write all of it
    24 ci.glob.namespace_id: `namespace_id` in [ci.glob]: `acme` is not an id, and names are recycled: write the number; `pgvalet ci rule --from-token -` finds it
    25 ci.glob.ref: `ref` in [ci.glob]: `**`: `*` stands for a part of one segment, and never goes across a `/`; write the segments
    29 ci.ssh.project_id: `project_id` in [ci.ssh]: `storefront` is not an id, and names are recycled: write the UUID; `pgvalet ci rule --from-token -` finds it
    30 ci.ssh.ssh_rerun: `ssh_rerun` in [ci.ssh] cannot be used: a job that was run again with SSH is never let in: leave it out
    33 ci.nowhere.issuer: `issuer` in [ci.nowhere]: there is no sound [issuer.gihub] in this file: write it beside its rules (`pgvalet export` shows those that are recorded)
    "#);
}
