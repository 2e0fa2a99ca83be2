//! Requests that are not sound: each gets a problem document with a stable code, and leaves nothing.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    eventually,
    people::Answer,
    seconds,
    sessions::{psql, sign_in, text},
    world::World,
};

/// Looks that an answer is a whole problem document with this code.
#[track_caller]
fn problem(answer: Answer, status: u16, code: &str) -> Value {
    let kind = answer.headers["content-type"].to_str().unwrap().to_owned();
    let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let body = answer.expect_problem(status, code);
    assert_eq!(kind, "application/problem+json");
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], format!("urn:pgvalet:problem:{code}"));
    assert_eq!(body["request_id"], id);
    assert!(!body["title"].as_str().unwrap().is_empty(), "{body}");
    assert!(!body["detail"].as_str().unwrap().is_empty(), "{body}");
    body
}

/// The fields that a problem names.
fn named(problem: &Value) -> Vec<&str> {
    let faults = problem["faults"].as_array().unwrap();
    faults.iter().map(|fault| fault["at"].as_str().unwrap()).collect()
}

/// Sends any bytes as the body.
async fn send(world: &World, path: &str, content_type: Option<&str>, body: &str) -> Answer {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.post(format!("{}{path}", world.admin.url));
    request = request.bearer_auth(&world.admin.token).body(body.to_owned());
    if let Some(content_type) = content_type {
        request = request.header("Content-Type", content_type);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
}

const JSON: Option<&str> = Some("application/json");

#[tokio::test]
async fn a_body_that_cannot_be_read() {
    let world = World::start().await;
    for body in ["", "{", "[", "nonsense", "{\"profile\": \"a\"} more", "{\"profile\": \"\u{0}\"}"]
    {
        let told = problem(send(&world, "/v1/leases", JSON, body).await, 400, "malformed_json");
        assert!(told["detail"].as_str().unwrap().contains("line 1"), "{told}");
    }
    let good = json!({ "profile": world.profile("read") }).to_string();
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("json")]
    {
        let answer = send(&world, "/v1/leases", kind, &good).await;
        problem(answer, 415, "unsupported_media_type");
    }
    for (body, at) in [
        (json!({ "profile": "a", "tll": "1h" }), "tll"),
        (json!({}), "profile"),
        (json!({ "profile": 1 }), "profile"),
        (json!({ "profile": "a", "ttl": 30 }), "ttl"),
        (json!([]), "body"),
    ] {
        let told = world.admin.post("/v1/leases", &body).await;
        let told = problem(told, 422, "invalid_request");
        assert!(told.to_string().contains(at), "{told}");
    }
    let deep = "[".repeat(100_000);
    let answer = send(&world, "/v1/leases", JSON, &deep).await;
    assert!([400, 422].contains(&answer.status), "{}", answer.text);
    assert_eq!(world.live().await, Vec::<Value>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_body_of_a_mebibyte_is_too_large_with_and_without_its_length() {
    let world = World::start().await;
    let large = json!({ "profile": "a", "reason": "x".repeat(1024 * 1024) }).to_string();
    problem(send(&world, "/v1/leases", JSON, &large).await, 413, "body_too_large");

    let address = world.admin.url.strip_prefix("http://").unwrap();
    let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
    let head = format!(
        "POST /v1/leases HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        world.admin.token
    );
    let sending = tokio::spawn(async move {
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
        // The daemon may answer and close before it has all of it.
        let mut open = to.write_all(head.as_bytes()).await.is_ok();
        for _ in 0..256 {
            open = open && to.write_all(chunk.as_bytes()).await.is_ok();
        }
        let _ = to.write_all(b"0\r\n\r\n").await;
        to
    });
    let mut answer = Vec::new();
    let _ = from.read_to_end(&mut answer).await;
    sending.await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"code\":\"body_too_large\""), "{answer}");
    world.finish().await;
}

#[tokio::test]
async fn parameters_and_paths_that_are_not_sound() {
    let world = World::start().await;
    let unknown = format!("lse_{}", "0".repeat(32));
    for (path, status, code) in [
        ("/v1/leases?profil=a", 422, "unknown_parameter"),
        ("/v1/leases?profile=a&profile=b", 422, "invalid_request"),
        ("/v1/leases?limit=0", 422, "invalid_request"),
        ("/v1/leases?limit=201", 422, "invalid_request"),
        ("/v1/leases?limit=-1", 422, "invalid_request"),
        ("/v1/leases?limit=ten", 422, "invalid_request"),
        ("/v1/leases?state=gone", 422, "invalid_request"),
        ("/v1/leases?cursor=xyz", 422, "invalid_request"),
        ("/v1/leases?person=A%20B", 422, "invalid_request"),
        ("/v1/leases?profile=%22%3B%20drop", 422, "invalid_request"),
        ("/v1/targets?cursor=xyz", 422, "invalid_request"),
        ("/v1/audit?lease_id=1", 422, "invalid_request"),
        ("/v1/audit?limit=0", 422, "invalid_request"),
        ("/v1/tokens?cursor=%00", 422, "invalid_request"),
        ("/v1/whoami?x=1", 422, "unknown_parameter"),
        ("/v1/leases/xyz", 422, "invalid_id"),
        ("/v1/leases/lse_0", 422, "invalid_id"),
        ("/v1/leases/tok_00000000000000000000000000000000", 422, "invalid_id"),
        ("/v1/leases/%00", 422, "invalid_id"),
        ("/v1/leases/%ff", 422, "invalid_id"),
        ("/v1/targets/Not%20a%20name", 422, "invalid_id"),
        ("/v1/profiles/%22%3Bdrop", 422, "invalid_id"),
        ("/v1/profiles/none-such", 404, "not_found"),
        ("/v1/targets/none-such", 404, "not_found"),
        (&format!("/v1/leases/{unknown}"), 404, "not_found"),
        ("/v1/nothing", 404, "route_unknown"),
        ("/v2/leases", 404, "route_unknown"),
        ("/v1/leases/", 404, "route_unknown"),
    ] {
        let answer = world.admin.get(path).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{path}");
        problem(answer, status, code);
    }
    let misspelt = world.admin.get("/v1/leases?profil=a").await.expect(422);
    assert!(misspelt["detail"].as_str().unwrap().contains("did you mean `profile`"), "{misspelt}");
    let wrong = world.admin.call(Method::PATCH, "/v1/leases", None, &[]).await;
    assert!(wrong.headers["allow"].to_str().unwrap().contains("POST"), "{:?}", wrong.headers);
    problem(wrong, 405, "method_not_allowed");
    for name in ["reed", "raed"] {
        let near = world.admin.ask(&world.profile(name), json!({})).await;
        let near = problem(near, 404, "not_found");
        let wanted = format!("did you mean `{}`", world.profile("read"));
        assert!(near["detail"].as_str().unwrap().contains(&wanted), "{near}");
    }
    for key in ["", "a b", "ä", &"k".repeat(256)] {
        let answer = world.admin.ask_with_key(key, &world.profile("read"), json!({})).await;
        let told = problem(answer, 422, "invalid_request");
        assert_eq!(named(&told), ["Idempotency-Key"]);
    }
    world.finish().await;
}

#[tokio::test]
async fn wishes_that_are_not_sound() {
    let world = World::start().await;
    let read = world.profile("read");
    for ttl in
        ["100y", "999999999h", "99999999999999999999999h", "0s", "-1s", "", "1", "500ms", "1 h-ish"]
    {
        let answer = world.admin.ask(&read, json!({ "ttl": ttl })).await;
        let told = problem(answer, 422, "invalid_request");
        assert_eq!(named(&told), ["ttl"], "{ttl}");
    }
    let long = "x".repeat(64);
    for tool in ["\"", "'; drop role x; --", "a\u{0}b", "a\nb", &long, "ünïcode", "Psql", "", "-a"]
    {
        let told =
            problem(world.admin.ask(&read, json!({ "tool": tool })).await, 422, "invalid_request");
        assert_eq!(named(&told), ["tool"], "{tool:?}");
        let told = problem(world.admin.ask(tool, json!({})).await, 422, "invalid_request");
        assert_eq!(named(&told), ["profile"], "{tool:?}");
    }
    for reason in ["a\u{0}b", "a\u{1b}[31m", &"x".repeat(1001)] {
        let told = world.admin.ask(&read, json!({ "reason": reason, "ticket": reason })).await;
        let told = problem(told, 422, "invalid_request");
        assert_eq!(named(&told), ["reason", "ticket"]);
    }
    let all = json!({ "ttl": "0s", "tool": "A", "reason": "\u{0}", "ticket": "\u{0}" });
    let told = problem(world.admin.ask(&read, all).await, 422, "invalid_request");
    assert_eq!(named(&told).len(), 4, "every fault at once: {told}");
    assert_eq!(world.roles().await, Vec::<String>::new());

    // What may stand in a reason stands in the comment of the role as it is, whatever it looks like.
    let odd = "it's \"q\"\n$$; drop table orders; -- \\ ünïcode 🐘";
    let issued = world.issue("read", json!({ "reason": odd, "tool": "a.b-c_d" })).await;
    assert_eq!(issued["lease"]["reason"], odd);
    let mut session = sign_in(&issued).await.unwrap();
    assert_eq!(text(&mut session, "SELECT count(*) > 1000 FROM orders").await, "true");
    for body in [json!({}), json!({ "person": "A B" }), json!({ "tool": "\u{0}" })] {
        problem(world.admin.post("/v1/revocations", &body).await, 422, "invalid_request");
    }
    world.finish().await;
}

/// A profile of this world that differs in some keys.
fn profile(world: &World, name: &str, differs: &Value) -> (String, Value) {
    let mut spec = json!({
        "name": world.profile(name), "target": world.name, "database": world.shop(),
        "preset": "readonly", "schemas": ["public"], "ttl": "1h", "max_ttl": "8h",
        "connection_limit": 5, "allow": ["anyone"],
    });
    spec.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
    (format!("/v1/profiles/{}", world.profile(name)), spec)
}

#[tokio::test]
async fn profiles_that_are_not_sound() {
    let world = World::start().await;
    let long = "x".repeat(64);
    for (differs, at) in [
        (json!({ "database": "\"; drop table orders; --" }), "database"),
        (json!({ "database": "a\u{0}b" }), "database"),
        (json!({ "database": long }), "database"),
        (json!({ "database": "" }), "database"),
        (json!({ "schemas": ["a\u{0}b"] }), "schemas"),
        (json!({ "schemas": [long] }), "schemas"),
        (json!({ "schemas": ["pg_catalog"] }), "schemas"),
        (json!({ "preset": "custom", "schemas": [], "group_role": "a\u{0}" }), "group_role"),
        (json!({ "preset": "custom", "schemas": [], "group_role": long }), "group_role"),
        (
            json!({ "preset": "custom", "schemas": [], "group_role": "pg_read_all_data" }),
            "group_role",
        ),
        (json!({ "settings": { "work_mem; drop table orders": "1MB" } }), "settings"),
        (json!({ "settings": { "role": "postgres" } }), "settings"),
        (json!({ "settings": { "session_authorization": "postgres" } }), "settings"),
        (json!({ "settings": { "work_mem": "1MB\nx" } }), "settings"),
        (json!({ "connection_limit": -1 }), "connection_limit"),
        (json!({ "ttl": "9h" }), "ttl"),
        (json!({ "max_ttl": "100y" }), "max_ttl"),
        (json!({ "target": "none-such" }), "target"),
        // What only the target can tell.
        (json!({ "schemas": ["none_such"] }), "schemas"),
        (json!({ "schemas": ["\"; drop table public.orders; --"] }), "schemas"),
        (
            json!({ "preset": "custom", "schemas": [], "group_role": "\"; drop role x; --" }),
            "group_role",
        ),
        (json!({ "allow": ["everybody"] }), "allow"),
        (json!({ "description": "a\u{0}b" }), "text"),
    ] {
        let (path, spec) = profile(&world, "odd", &differs);
        let told = problem(world.admin.put(&path, &spec).await, 422, "invalid_request");
        assert!(named(&told)[0].starts_with(at), "{differs}: {told}");
        world.admin.get(&path).await.expect_problem(404, "not_found");
    }
    let (path, spec) = profile(&world, "odd", &json!({}));
    let other = world.admin.put(&path.replace("odd", "other"), &spec).await;
    assert_eq!(named(&problem(other, 422, "invalid_request")), ["name"]);
    world.finish().await;
}

#[tokio::test]
async fn what_the_target_refuses_is_told_and_leaves_no_role() {
    let world = World::start().await;
    for (differs, code) in [
        (json!({ "settings": { "no_such_setting": "1" } }), "setting_refused"),
        (json!({ "settings": { "work_mem": "very much" } }), "setting_refused"),
        (
            json!({ "settings": { "work_mem": "'; drop table public.orders; --" } }),
            "setting_refused",
        ),
        (json!({ "settings": { "log_statement": "none" } }), "setting_refused"),
    ] {
        let (path, spec) = profile(&world, "odd", &differs);
        let put = world.admin.put(&path, &spec).await;
        let put = (put.status, put.text);
        let asked = world.admin.ask(&world.profile("odd"), json!({})).await;
        assert_eq!(asked.body["code"], code, "{differs}: put {put:?}, asked {}", asked.text);
        assert_eq!(asked.status, 502, "{}", asked.text);
        problem(asked, 502, code);
        assert_eq!(world.roles().await, Vec::<String>::new(), "{differs}");
        eventually("the failed wish is over", seconds(10), async || world.live().await.is_empty())
            .await;
    }
    let mut target = world.on_target().await;
    assert_eq!(text(&mut target, "SELECT count(*) > 1000 FROM orders").await, "true");
    world.finish().await;
}

#[tokio::test]
async fn names_that_need_quoting_are_quoted() {
    let world = World::start().await;
    let odd = format!("{}\"; drop table public.orders; -- $$ '\\ ü", world.name);
    let quoted = format!("\"{}\"", odd.replace('"', "\"\""));
    let owner = pgvalet::dev::shop::OWNER;
    let schema = format!(
        "CREATE SCHEMA {quoted} AUTHORIZATION {owner};
         CREATE TABLE {quoted}.{quoted} AS SELECT 'here'::text AS {quoted};
         ALTER TABLE {quoted}.{quoted} OWNER TO {owner};
         CREATE ROLE {quoted};
         GRANT USAGE ON SCHEMA {quoted} TO {quoted};
         GRANT SELECT ON ALL TABLES IN SCHEMA {quoted} TO {quoted}"
    );
    world.target.run(&world.shop(), &[&schema]).await;
    let setting = "1234kB";
    for differs in [
        json!({ "schemas": [odd] }),
        json!({ "preset": "custom", "schemas": [], "group_role": odd,
                "settings": { "work_mem": setting } }),
    ] {
        let (path, spec) = profile(&world, "odd", &differs);
        let put = world.admin.put(&path, &spec).await;
        assert!([200, 201].contains(&put.status), "{}", put.text);
        let issued = world.issue("odd", json!({})).await;
        let uri = issued["credential"]["uri"].as_str().unwrap();
        let said =
            psql(uri, &format!("SELECT current_user, {quoted} FROM {quoted}.{quoted}")).await;
        let group = issued["lease"]["group_role"].as_str().unwrap();
        assert_eq!(said.out, format!("{group}|here"), "{said:?}");
        if differs["settings"].is_object() {
            // Set for the login, where no options are sent.
            let query = "SELECT current_user || '|' || current_setting('work_mem')";
            let said = psql(uri.split("&options=").next().unwrap(), query).await;
            assert_eq!(said.out, format!("{odd}|{setting}"), "{said:?}");
        }
    }
    let all = json!({ "target": world.name });
    let revoked = world.admin.post("/v1/revocations", &all).await.expect(200);
    assert_eq!(revoked["counts"], json!({ "revoked": 2 }));
    let gone = format!("DROP SCHEMA {quoted} CASCADE; DROP ROLE {quoted}");
    world.target.run(&world.shop(), &[&gone]).await;
    let mut target = world.on_target().await;
    assert_eq!(text(&mut target, "SELECT count(*) > 1000 FROM public.orders").await, "true");
    world.finish().await;
}
