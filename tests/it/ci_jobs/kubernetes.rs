//! Kubernetes: a token outlives its pod, so the cluster is asked whether the pod is still there.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, http::HeaderMap, routing::post};
use serde_json::{Value, json};

use crate::{
    ci_jobs::{apply, job, last_refusal},
    support::{
        issuer::{AUDIENCE, Issuer},
        people::lease_id,
        world::{Plan, World},
    },
};

/// An API server that knows which pods there are.
#[derive(Clone, Default)]
struct Cluster {
    deleted: Arc<Mutex<bool>>,
    /// A server that knows nothing of audiences names none.
    forgets_audience: Arc<Mutex<bool>>,
    asked_with: Arc<Mutex<Vec<String>>>,
}

async fn review(
    State(cluster): State<Cluster>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> Json<Value> {
    let bearer = headers["authorization"].to_str().unwrap().to_owned();
    cluster.asked_with.lock().unwrap().push(bearer);
    assert!(asked["spec"]["token"].as_str().unwrap().starts_with("ey"));
    let status = if *cluster.deleted.lock().unwrap() {
        json!({ "authenticated": false, "error": "[invalid bearer token, Pod \"shop/api-1\" not found]" })
    } else if *cluster.forgets_audience.lock().unwrap() {
        json!({ "authenticated": true, "user": {} })
    } else {
        json!({ "authenticated": true, "user": {}, "audiences": asked["spec"]["audiences"] })
    };
    Json(json!({ "kind": "TokenReview", "status": status }))
}

impl Cluster {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let router = Router::new().route(path, post(review)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

#[tokio::test]
async fn a_pod_that_was_deleted_is_out_though_its_token_lasts() {
    let cluster = Cluster::default();
    let api = cluster.start().await;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("token");
    fs::write(&own, "eyown.token.1\n").unwrap();
    let may = format!("[[token_review]]\nurl = \"{api}\"\ntoken_file = \"{}\"\n", own.display());
    let plan = Plan { settings: may.leak(), ..Plan::default() };
    let (world, issuer) = (World::with(plan).await, Issuer::start().await);
    let account = "01234567-89ab-cdef-0123-456789abcdef";
    let text = format!(
        "[issuer.cluster]\nkind = \"kubernetes\"\nurl = \"{}\"\naudience = \"{AUDIENCE}\"\nmax_age = \"1h\"\n\
         token_review = {{ url = \"{api}\", token_file = \"{}\" }}\n\
         [ci.reports]\nissuer = \"cluster\"\nnamespace = \"shop\"\nserviceaccount_uid = \"{account}\"\n",
        issuer.url,
        own.display()
    );
    // The token goes where the daemon's own configuration says, whoever may write rules.
    for (part, other) in [(api.as_str(), "http://127.0.0.1:1"), ("/token\"", "/other\"")] {
        let file = json!({ "name": "ci.toml", "text": text.replacen(part, other, 1) });
        let refused = world.admin.post("/v1/apply", &file).await.expect(422);
        assert!(refused.to_string().contains("[[token_review]]"), "{refused}");
    }
    apply(&world, &text, &["ci:reports"]).await;
    let claims = |namespace: &str, uid: &str| {
        json!({
            "sub": format!("system:serviceaccount:{namespace}:api"),
            "kubernetes.io": {
                "namespace": namespace, "serviceaccount": { "name": "api", "uid": uid },
                "pod": { "name": "api-1", "uid": "11111111-89ab-cdef-0123-456789abcdef" },
            },
        })
    };
    let profile = world.profile("read");
    let pod = job(&world, &issuer.token(&claims("shop", account)));
    let issued = pod.ask(&profile, json!({})).await.expect(201);

    // An account of that name that was made anew has another UID.
    let anew = issuer.token(&claims("shop", "21234567-89ab-cdef-0123-456789abcdef"));
    job(&world, &anew).ask(&profile, json!({})).await.expect_problem(401, "token_refused");
    assert!(last_refusal(&world).await.contains("it meets no rule"));

    // What the daemon asks with is read anew: the kubelet writes a fresh one.
    fs::write(&own, "eyown.token.2").unwrap();
    pod.lease(&lease_id(&issued)).await;
    let asked_with = cluster.asked_with.lock().unwrap().clone();
    assert_eq!(asked_with.first().unwrap(), "Bearer eyown.token.1");
    assert_eq!(asked_with.last().unwrap(), "Bearer eyown.token.2");

    *cluster.forgets_audience.lock().unwrap() = true;
    pod.get("/v1/whoami").await.expect_problem(401, "token_refused");
    assert!(last_refusal(&world).await.contains("audience"));
    *cluster.forgets_audience.lock().unwrap() = false;

    *cluster.deleted.lock().unwrap() = true;
    pod.renew(&lease_id(&issued), json!({})).await.expect_problem(401, "token_refused");
    assert!(last_refusal(&world).await.contains("not found"));
    let fresh = job(&world, &issuer.token(&claims("shop", account)));
    fresh.ask(&profile, json!({})).await.expect_problem(401, "token_refused");

    // What is no token is never sent to the address of a rule, and an answer that does not come lets nobody in.
    fs::write(&own, "the daemon's other secrets").unwrap();
    fresh.get("/v1/whoami").await.expect_problem(503, "issuer_unavailable");
    assert!(!cluster.asked_with.lock().unwrap().iter().any(|sent| sent.contains("secrets")));
    world.finish().await;
}
