//! The command line against a stand-in for the daemon: what is printed, where the token goes, and the
//! exit status. The real daemon is met in the integration tests.

use std::{
    future::Future,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::{delete, get, post},
};
use clap::Parser;
use serde_json::{Value, json};

use crate::cli::{Arguments, Io, Terminals, arguments::Command, environment::Environment};
use crate::clock::Clock;

const TOKEN: &str = "pgv_0190c5d3e1a27c41b1f5d0c2a1b3c4d5_secret";
const LEASE: &str = "lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5";

/// What a command printed, and its exit status.
#[derive(Debug)]
struct Outcome {
    status: u8,
    out: String,
    err: String,
}

/// One user's home and environment.
struct User {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
    input: String,
}

impl User {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = std::env::join_paths(["/usr/bin", "/bin"]).unwrap().into_string().unwrap();
        let variables = vec![
            ("HOME".to_owned(), home.path().to_str().unwrap().to_owned()),
            ("PATH".to_owned(), path),
        ];
        Self { home, variables, input: String::new() }
    }

    fn signed_in(url: &str) -> Self {
        let mut user = Self::new();
        user.set("PGVALET_URL", url);
        user.set("PGVALET_TOKEN", TOKEN);
        user
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    fn kept(&self) -> std::path::PathBuf {
        self.home.path().join(".config/pgvalet/client.toml")
    }

    async fn runs(&self, words: &[&str]) -> Outcome {
        let arguments = std::iter::once(&"pgvalet").chain(words);
        let arguments = Arguments::try_parse_from(arguments).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let io = Io {
            out: &mut out,
            err: &mut err,
            input: &mut self.input.as_bytes(),
            terminals: Terminals::default(),
            clock: Clock,
            environment: Environment::of_table(self.variables.clone()),
        };
        let globals = &arguments.globals;
        let status = match arguments.command {
            Command::Remote(command) => crate::cli::run(command, globals, io).await,
            Command::Local(command) => crate::cli::run_locally(command, globals, io),
            _ => panic!("a command of the client"),
        };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { status, out: text(out), err: text(err) }
    }
}

/// Serves a router for as long as a test runs.
async fn against<F: Future<Output = ()>>(router: Router, test: impl FnOnce(String) -> F) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.unwrap(),
        () = test(url) => {}
    }
}

fn whoami(headers: &HeaderMap) -> axum::response::Response {
    let wanted = format!("Bearer {TOKEN}");
    if headers.get(header::AUTHORIZATION).is_some_and(|given| *given == wanted) {
        Json(json!({
            "principal_id": "prn_0190c5d3e1a27c41b1f5d0c2a1b3c4d5", "principal": "person:alice",
            "issuer": "pgvalet", "groups": ["engineering"], "admin": false,
            "token_id": "tok_0190c5d3e1a27c41b1f5d0c2a1b3c4d5", "token_expires_at": null,
        }))
        .into_response()
    } else {
        problem(StatusCode::UNAUTHORIZED, "unauthenticated", "the token is not valid")
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> axum::response::Response {
    let body = json!({
        "type": format!("urn:pgvalet:problem:{code}"), "title": "T", "status": status.as_u16(),
        "detail": detail, "code": code, "request_id": "req_1",
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn lease(state: &str) -> Value {
    let proof = json!({
        "role": "pgv_alice", "role_absent": true, "sessions_left": 0, "sessions_ended": 1,
        "seen_at": "2026-01-01T00:00:01Z", "took_ms": 12,
    });
    let over = state == "revoked";
    json!({
        "id": LEASE, "state": state, "cause": (state != "active").then_some("revoked"),
        "profile": "shop-read", "target": "shop", "database": "shop", "role": "pgv_alice",
        "group_role": "pgvg_shop_read", "principal_id": "prn_0190c5d3e1a27c41b1f5d0c2a1b3c4d5",
        "principal": "person:alice", "tool": "psql", "reason": "x\u{1b}[31m", "ticket": null,
        "created_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
        "max_expires_at": "2099-01-01T00:00:00Z", "ended_at": null, "blocked_by": null,
        "proof": over.then_some(proof),
    })
}

fn issued(credential: bool) -> Value {
    let secret = json!({
        "host": "127.0.0.1", "port": 5432, "database": "shop", "user": "pgv_alice",
        "password": "p_W-1", "sslmode": "disable", "sslrootcert_pem": null,
        "options": "-c role=pgvg_shop_read", "valid_until": "2099-01-01T00:00:00Z",
        "uri": "postgresql://elsewhere",
    });
    let ttl = json!({ "asked": null, "granted": "1h", "rule": "profile_ttl",
        "because": "the profile's ttl is 1h" });
    json!({ "lease": lease("active"), "ttl": ttl, "credential": credential.then_some(secret) })
}

/// Hands out a lease, and revokes it; counts the revocations.
fn valet(revoked: &Arc<AtomicUsize>) -> Router {
    let revoked = Arc::clone(revoked);
    let revoke = move || {
        revoked.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Json(json!({ "leases": [lease("revoked")], "counts": {"revoked": 1} })))
    };
    Router::new()
        .route("/v1/leases", post(|| async { (StatusCode::CREATED, Json(issued(true))) }))
        .route(&format!("/v1/leases/{LEASE}"), delete(revoke))
}

#[tokio::test]
async fn login_keeps_a_token_that_worked_for_its_owner_and_its_daemon_alone() {
    let router = Router::new().route("/v1/whoami", get(|h: HeaderMap| async move { whoami(&h) }));
    against(router, |url| async move {
        let mut user = User::new();
        let refused = user.runs(&["whoami"]).await;
        assert_eq!(refused.status, 3);
        assert!(refused.err.contains("pgvalet login"), "{}", refused.err);

        user.input = "pgv_wrong".to_owned();
        let refused = user.runs(&["login", "--url", &url, "--token", "-"]).await;
        assert_eq!(refused.status, 3, "{}", refused.err);
        assert!(!user.kept().exists());

        user.input = format!("{TOKEN}\n");
        let done = user.runs(&["login", "--url", &url, "--token", "-"]).await;
        assert_eq!(done.status, 0, "{}", done.err);
        assert!(!done.err.contains(TOKEN) && done.out.is_empty());
        assert_eq!(user.kept().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let folder = user.kept().parent().unwrap().metadata().unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);

        let told = user.runs(&["whoami"]).await;
        assert_eq!(told.status, 0, "{}", told.err);
        assert!(told.out.contains("principal    person:alice"), "{}", told.out);

        // The same daemon under the same name is; any other one is not sent the token.
        assert_eq!(user.runs(&["whoami", "--url", &format!("{url}/")]).await.status, 0);
        let elsewhere = user.runs(&["whoami", "--url", "http://127.0.0.1:1"]).await;
        assert_eq!(elsewhere.status, 3, "{}", elsewhere.err);
        user.set("PGVALET_URL", "http://127.0.0.1:1");
        assert_eq!(user.runs(&["whoami"]).await.status, 3);
        user.unset("PGVALET_URL");

        let open = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(user.kept(), open).unwrap();
        let refused = user.runs(&["whoami"]).await;
        assert_eq!(refused.status, 3);
        assert!(refused.err.contains("mode 0640"), "{}", refused.err);

        assert_eq!(user.runs(&["logout"]).await.status, 0);
        assert!(!user.kept().exists());
        assert_eq!(user.runs(&["logout"]).await.status, 0);
    })
    .await;
}

#[tokio::test]
async fn the_environment_wins_and_a_file_is_read() {
    let router = Router::new().route("/v1/whoami", get(|h: HeaderMap| async move { whoami(&h) }));
    against(router, |url| async move {
        let mut user = User::new();
        user.set("PGVALET_URL", &url);
        let file = user.home.path().join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        user.set("PGVALET_TOKEN_FILE", file.to_str().unwrap());
        let told = user.runs(&["whoami", "--json"]).await;
        let read: Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!(read["principal"], "person:alice");
        user.set("PGVALET_TOKEN", "pgv_wrong");
        assert_eq!(user.runs(&["whoami"]).await.status, 3);
    })
    .await;
}

/// A request that waits for others.
fn waiting() -> Value {
    json!({
        "id": "acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5", "state": "pending", "principal": "person:alice",
        "profile": "shop-write", "target": "shop", "environment": "prod", "database": "shop", "tool": "cli",
        "ttl": "30m", "reason": null, "ticket": null, "votes": [], "open_step": 0,
        "needs": {
            "steps": [{ "from": ["group:dba"], "count": 1 }], "lapse_after": "4h", "use_within": "1h",
        },
        "created_at": "2026-01-05T09:00:00Z", "lapse_at": "2026-01-05T13:00:00Z", "decided_at": null,
        "use_by": null, "lease_id": null,
    })
}

#[tokio::test]
async fn each_way_to_fail_has_its_exit_status() {
    let answer = |status: u16| {
        move || async move { problem(StatusCode::from_u16(status).unwrap(), "some-code", "some detail") }
    };
    let router = Router::new()
        .route("/v1/targets/denied", get(answer(403)))
        .route("/v1/targets/missing", get(answer(404)))
        .route("/v1/targets/slow", get(answer(429)))
        .route("/v1/targets/away", get(answer(503)))
        .route("/v1/targets/proxy", get(|| async { (StatusCode::BAD_GATEWAY, "<html>") }))
        .route("/v1/targets/moved", get(|| async { axum::response::Redirect::permanent("/") }))
        .route("/v1/leases", post(|| async { (StatusCode::ACCEPTED, Json(waiting())) }));
    against(router, |url| async move {
        let user = User::signed_in(&url);
        for (target, status) in
            [("denied", 3), ("missing", 1), ("slow", 5), ("away", 5), ("proxy", 5), ("moved", 5)]
        {
            let outcome = user.runs(&["target", "show", target]).await;
            assert_eq!(outcome.status, status, "{target}: {}", outcome.err);
            assert!(outcome.err.starts_with("pgvalet: "), "{}", outcome.err);
        }
        let told = user.runs(&["target", "show", "denied"]).await.err;
        assert_eq!(told, "pgvalet: some detail\n  code some-code, request req_1\n");
        let waits = user.runs(&["get", "shop-write"]).await;
        assert_eq!(waits.status, 4, "{}", waits.err);
        assert!(waits.err.contains("waits for 1 of group:dba to agree"), "{}", waits.err);
        let nobody = User::signed_in("http://127.0.0.1:1");
        assert_eq!(nobody.runs(&["whoami"]).await.status, 5);
        let plain = User::signed_in("http://pgvalet.example.org");
        assert_eq!(plain.runs(&["whoami"]).await.status, 2);
    })
    .await;
}

#[tokio::test]
async fn get_prints_the_credential_alone_and_a_file_of_it_is_private() {
    let revoked = Arc::new(AtomicUsize::new(0));
    against(valet(&revoked), |url| async move {
        let user = User::signed_in(&url);
        let got = user.runs(&["get", "shop-read"]).await;
        assert_eq!((got.status, got.err.as_str()), (0, ""));
        assert_eq!(
            got.out,
            "postgresql://pgv_alice:p_W-1@127.0.0.1:5432/shop?sslmode=disable&options=-c%20role%3Dpgvg_shop_read&application_name=pgvalet%2Fshop-read\n"
        );
        let file = user.home.path().join("credential");
        let words = ["get", "shop-read", "--format", "pgpass", "--out", file.to_str().unwrap()];
        let got = user.runs(&words).await;
        assert_eq!((got.status, got.out.as_str()), (0, ""));
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "127.0.0.1:5432:shop:pgv_alice:p_W-1\n");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(user.runs(&words).await.status, 1, "it is there already");
        let json = user.runs(&["get", "shop-read", "--json"]).await;
        let read: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(read["credential"]["password"], "p_W-1");
    })
    .await;
    assert_eq!(revoked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&keys);
    let router = Router::new().route(
        "/v1/leases",
        post(move |headers: HeaderMap| async move {
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            let first = {
                let mut keys = noted.lock().unwrap();
                keys.push(key);
                keys.len() == 1
            };
            // A handler that panics takes the connection with it, before an answer.
            assert!(!first, "the first connection breaks");
            (StatusCode::CREATED, Json(issued(true)))
        }),
    );
    against(router, |url| async move {
        let user = User::signed_in(&url);
        let got = user.runs(&["get", "shop-read"]).await;
        assert_eq!(got.status, 0, "{}", got.err);
    })
    .await;
    let keys = keys.lock().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_credential_that_was_handed_out_before_is_no_success() {
    let router = Router::new().route("/v1/leases", post(|| async { Json(issued(false)) }));
    against(router, |url| async move {
        let user = User::signed_in(&url);
        let got = user.runs(&["get", "shop-read", "--idempotency-key", "k"]).await;
        assert_eq!((got.status, got.out.as_str()), (1, ""));
        assert!(got.err.contains(&format!("pgvalet rotate {LEASE}")), "{}", got.err);
    })
    .await;
}

#[tokio::test]
async fn run_lends_the_lease_and_revokes_it_whatever_the_program_does() {
    let revoked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&revoked);
    against(valet(&revoked), |url| async move {
        let user = User::signed_in(&url);
        let file = user.home.path().join("seen");
        let script = format!(
            r#"printf '%s|' "$PGHOST" "$PGPORT" "$PGDATABASE" "$PGUSER" "$PGPASSWORD" "$PGOPTIONS" "$PGSSLMODE" "$PGAPPNAME" "$PGVALET_LEASE_ID" > {}; exit 7"#,
            file.display()
        );
        let ran = user.runs(&["run", "shop-read", "--", "sh", "-c", &script]).await;
        assert_eq!(ran.status, 7, "{}", ran.err);
        let seen = std::fs::read_to_string(Path::new(&file)).unwrap();
        let wanted = format!("127.0.0.1|5432|shop|pgv_alice|p_W-1|-c role=pgvg_shop_read|disable|pgvalet/shop-read|{LEASE}|");
        assert_eq!(seen, wanted);
        assert_eq!(count.load(Ordering::SeqCst), 1);

        let killed = user.runs(&["run", "shop-read", "--", "sh", "-c", "kill -9 $$"]).await;
        assert_eq!((killed.status, count.load(Ordering::SeqCst)), (137, 2));

        let missing = user.runs(&["run", "shop-read", "--", "/no/such/program"]).await;
        assert_eq!((missing.status, count.load(Ordering::SeqCst)), (1, 3), "{}", missing.err);
    })
    .await;
}

#[tokio::test]
async fn connect_needs_psql_before_it_asks_for_a_lease() {
    let mut user = User::signed_in("http://127.0.0.1:1");
    user.unset("PATH");
    let refused = user.runs(&["connect", "shop-read"]).await;
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("psql is not on the search path"), "{}", refused.err);
}

#[tokio::test]
async fn revoke_waits_for_the_proof_and_leases_are_told_without_escapes() {
    let path = format!("/v1/leases/{LEASE}");
    let router = Router::new()
        .route(
            &path,
            delete(|| async {
                let body = json!({ "leases": [lease("revoking")], "counts": {} });
                (StatusCode::ACCEPTED, Json(body))
            })
            .get(|| async { Json(lease("revoked")) }),
        )
        .route("/v1/leases", get(|| async { Json(json!({ "items": [lease("active")] })) }));
    against(router, |url| async move {
        let user = User::signed_in(&url);
        let done = user.runs(&["revoke", LEASE]).await;
        assert_eq!(done.status, 0, "{}", done.err);
        assert!(done.out.contains("no role, 0 sessions left, 1 ended"), "{}", done.out);
        let done = user.runs(&["revoke", LEASE, "--no-wait"]).await;
        assert!(done.out.contains("revoking (revoked)"), "{}", done.out);
        let shown = user.runs(&["lease", LEASE]).await;
        assert!(!shown.out.contains('\u{1b}'), "{}", shown.out);
        insta::assert_snapshot!(shown.out);
        let listed = user.runs(&["leases"]).await;
        assert!(listed.out.contains(LEASE) && listed.out.lines().count() == 2, "{}", listed.out);
    })
    .await;
}

#[tokio::test]
async fn a_list_is_read_page_by_page_up_to_the_limit() {
    let page = |axum::extract::Query(query): axum::extract::Query<Vec<(String, String)>>| async move {
        let cursor = query.iter().find(|(key, _)| key == "cursor").map(|(_, at)| at.as_str());
        let next = match cursor {
            None => Some("2"),
            Some("2") => Some("3"),
            Some(_) => None,
        };
        Json(json!({ "items": [lease("active"), lease("active")], "next_cursor": next }))
    };
    against(Router::new().route("/v1/leases", get(page)), |url| async move {
        let user = User::signed_in(&url);
        for (limit, came) in [("1", 1), ("3", 3), ("50", 6)] {
            let told = user.runs(&["leases", "--json", "--limit", limit]).await;
            let read: Value = serde_json::from_str(&told.out).unwrap();
            assert_eq!(read["items"].as_array().unwrap().len(), came);
        }
    })
    .await;
}

#[tokio::test]
async fn apply_sends_passwords_that_plan_does_not_and_asks_first() {
    let sent: Arc<Mutex<Vec<(&str, Value)>>> = Arc::default();
    let note = |what: &'static str, sent: &Arc<Mutex<Vec<(&'static str, Value)>>>| {
        let sent = Arc::clone(sent);
        move |Json(body): Json<Value>| async move {
            sent.lock().unwrap().push((what, body));
            let line = json!({ "what": "target", "name": "shop", "action": "create",
                "changed": [], "statements": ["CREATE ROLE x"], "notes": [] });
            Json(json!({ "lines": [line], "changes": true }))
        }
    };
    let router = Router::new()
        .route("/v1/plan", post(note("plan", &sent)))
        .route("/v1/apply", post(note("apply", &sent)));
    against(router, |url| async move {
        let user = User::signed_in(&url);
        let file = user.home.path().join("profiles.toml");
        std::fs::write(&file, "[target.shop.admin]\npassword = { file = \"pw\" }\n").unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(user.runs(&["apply", "-f", file]).await.status, 2);
        let told = user.runs(&["plan", "-f", file]).await;
        assert_eq!((told.status, told.out.as_str()), (0, "+ target shop\n    CREATE ROLE x\n"));
        let missing = user.runs(&["apply", "-f", file, "--yes"]).await;
        assert_eq!(missing.status, 1, "the password's file is missing");
        std::fs::write(user.home.path().join("pw"), "hunter2\n").unwrap();
        let done = user.runs(&["apply", "-f", file, "--yes"]).await;
        assert_eq!(done.status, 0, "{}", done.err);
        assert!(!format!("{done:?}").contains("hunter2"));
    })
    .await;
    let sent = sent.lock().unwrap();
    let told: Vec<_> = sent.iter().map(|(what, body)| (*what, body["secrets"].clone())).collect();
    let wanted =
        [("plan", json!({})), ("plan", json!({})), ("apply", json!({ "file:pw": "hunter2" }))];
    assert_eq!(told, wanted);
}
