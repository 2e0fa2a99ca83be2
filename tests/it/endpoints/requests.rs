//! A sound request for each route, by a caller who may use it.

use std::sync::atomic::{AtomicU32, Ordering};

use pgvalet::{dev::provider::Provider, ids::NoticeId};
use serde_json::{Value, json};

use crate::{
    requests::{approve, approver},
    support::{
        browser::{click_device, device_session, nobody},
        people::{Person, lease_id},
        world::World,
    },
    targets::admin_password,
};

/// Each file has a profile that is new.
static APPLIED: AtomicU32 = AtomicU32::new(0);

/// A sound request for a route by a caller who may use it, with what it needs made beforehand.
pub(super) async fn request(
    (world, provider): (&World, &Provider),
    caller: &Person,
    method: &str,
    path: &str,
) -> (String, Value) {
    if path.starts_with("/v1/emergenc") {
        about_emergencies(world, method, path).await
    } else if is_about_people(path) {
        about_people(world, provider, method, path).await
    } else if path.starts_with("/v1/notices/") {
        about_notices(world, path).await
    } else if path.starts_with("/v1/requests/") {
        about_agreement((world, provider), caller, path).await
    } else if path.starts_with("/v1/reviews") || path.ends_with("/restore") {
        about_reviews(world, method, path).await
    } else if path.starts_with("/v1/identities") {
        about_certificates(world, method, path).await
    } else {
        about_the_rest(world, caller, method, path).await
    }
}

/// For a channel that no daemon has: so that what is sent again stays where it is.
async fn about_notices(world: &World, path: &str) -> (String, Value) {
    let id = NoticeId::new();
    let mut state = world.on_state().await;
    sqlx::query(
        "INSERT INTO notice (id, channel, subject, topic, position, audit_id, body, created_at, waits_since, due_at, dead_at)
         VALUES ($1, 'webhook:nowhere', 'test', 'digest', 0, $1, '{}', now(), now(), now(), now())",
    )
    .bind(id.uuid())
    .execute(&mut state)
    .await
    .unwrap();
    let body = match path {
        "/v1/notices/replay" => json!({ "channel": "webhook:nowhere" }),
        "/v1/notices/test" => json!({ "channel": "webhook:walk" }),
        _ => Value::Null,
    };
    (path.replace("{id}", &id.to_string()), body)
}

/// A request that somebody else asked for if the caller is to decide about it, or their own.
async fn about_agreement(
    (world, provider): (&World, &Provider),
    caller: &Person,
    path: &str,
) -> (String, Value) {
    let needs = json!({ "approval": {
        "steps": [{ "from": ["anyone"], "count": 1 }], "lapse_after": "1h", "use_within": "1h",
    } });
    world.put_profile("agreed", json!({ "conditions": needs })).await;
    let decides = path.ends_with("/approve") || path.ends_with("/deny");
    let asker = if decides { world.person("asker", &[]).await } else { caller.clone() };
    // The same wish again would be the same request.
    let nth = APPLIED.fetch_add(1, Ordering::Relaxed);
    let wish = json!({ "reason": format!("the {nth}th") });
    let asked = asker.ask(&world.profile("agreed"), wish).await.expect(202);
    let id = asked["id"].as_str().unwrap();
    if path.ends_with("/claim") {
        // Somebody whose token nobody made: the administrator made all the others.
        let gus = device_session(&nobody(world), provider, "sub-gus").await;
        approve(&gus, id).await.expect(200);
    }
    let body = if path.ends_with("/deny") { json!({ "comment": "no" }) } else { json!({}) };
    let body = if path.ends_with("{id}") { Value::Null } else { body };
    (path.replace("{id}", id), body)
}

/// A sealed code for somebody new, or an emergency that they opened, with what a review of it needs.
async fn about_emergencies(world: &World, method: &str, path: &str) -> (String, Value) {
    let person = format!("person:in-need-{}", APPLIED.fetch_add(1, Ordering::Relaxed));
    let known = json!({ "name": "in need", "principal": person });
    let known = world.admin.post("/v1/tokens", &known).await.expect(201);
    let codes = json!({ "person": person, "count": 1 });
    let glass = json!({ "preset": "break-glass", "max_ttl": "1h", "reason": "required" });
    world.put_profile("glass", glass).await;
    let profile = world.profile("glass");
    match (method, path) {
        ("post", "/v1/emergencies") => {
            let made = world.admin.post("/v1/emergency-codes", &codes).await.expect(201);
            let code = &made["codes"][0];
            let body =
                json!({ "person": person, "code": code, "profile": profile, "reason": "a walk" });
            (path.to_owned(), body)
        }
        ("post", "/v1/emergency-codes") => (path.to_owned(), codes),
        ("delete", _) => {
            world.admin.post("/v1/emergency-codes", &codes).await.expect(201);
            (path.replace("{which}", &person), Value::Null)
        }
        (_, path) if path.contains("{id}") => {
            let in_need = world.admin.with_token(known["secret"].as_str().unwrap());
            let opened = in_need.ask(&profile, json!({ "reason": "a walk" })).await.expect(201);
            let verdict = json!({ "verdict": "justified", "comment": "a walk" });
            let body = if method == "post" { verdict } else { Value::Null };
            (path.replace("{id}", &lease_id(&opened)), body)
        }
        _ => (path.to_owned(), Value::Null),
    }
}

/// A review of somebody new each time.
async fn about_reviews(world: &World, method: &str, path: &str) -> (String, Value) {
    let name = format!("reviewed-{}", APPLIED.fetch_add(1, Ordering::Relaxed));
    world.put_profile("reviewed", json!({ "allow": ["group:reviewed"] })).await;
    let person = world.person(&name, &["reviewed"]).await;
    let of = json!({ "principal": format!("person:{name}") });
    if path == "/v1/reviews" {
        return (path.to_owned(), if method == "post" { of } else { Value::Null });
    }
    let reviewer = approver(world, "somebody", &[]).await;
    let review = reviewer.post("/v1/reviews", &of).await.expect(201);
    let id = review["id"].as_str().unwrap();
    let said = |verdict: &str| json!({ "all": true, "verdict": verdict, "reason": "a test" });
    let decide = async |verdict: &str| {
        reviewer.post(&format!("/v1/reviews/{id}/decisions"), &said(verdict)).await.expect(200)
    };
    let body = match path {
        "/v1/profiles/{name}/restore" => {
            decide("remove").await;
            // Nobody gives back to whom they made a token for that is good.
            let who = person.get("/v1/whoami").await.expect(200);
            let token = format!("/v1/tokens/{}", who["token_id"].as_str().unwrap());
            world.admin.delete(&token).await.expect(204);
            json!({ "principal": of["principal"], "reason": "a test" })
        }
        path if path.ends_with("/decisions") => said("keep"),
        path if path.ends_with("/sign-off") => {
            decide("keep").await;
            json!({})
        }
        _ => Value::Null,
    };
    let path = path.replace("{id}", id).replace("{name}", &world.profile("reviewed"));
    (path, body)
}

async fn about_certificates(world: &World, method: &str, path: &str) -> (String, Value) {
    let n = APPLIED.fetch_add(1, Ordering::Relaxed);
    let name = format!("dns:{}-{n}.internal", world.name);
    let body = json!({ "principal": "service:walk", "certificate": name });
    if method == "delete" {
        world.admin.post("/v1/identities", &body).await.expect(201);
    }
    let body = if method == "post" { body } else { Value::Null };
    (path.replace("{certificate}", &name), body)
}

async fn about_the_rest(
    world: &World,
    caller: &Person,
    method: &str,
    path: &str,
) -> (String, Value) {
    let name = &world.name;
    let spare = format!("{name}-spare");
    let mut path = with_ci_records(world, method, path).await;
    if path.starts_with("/v1/leases/{id}") || path == "/v1/revocations" {
        let made = caller.ask(&world.profile("read"), json!({ "tool": "walk" })).await.expect(201);
        path = path.replace("{id}", &lease_id(&made));
    } else if path.starts_with("/v1/tokens/{id}") {
        let made = caller.post("/v1/tokens", &json!({ "name": "spare" })).await.expect(201);
        path = path.replace("{id}", made["token"]["id"].as_str().unwrap());
    } else if path == "/v1/targets/{name}/rotate-admin" {
        path = path.replace("{name}", name);
    } else if path.starts_with("/v1/targets/{name}") {
        path = path.replace("{name}", if method == "get" { name } else { &spare });
    } else if path.starts_with("/v1/standing-roles/{name}") {
        path = path.replace("{name}", &format!("{name}-standing"));
    } else if ["/v1/profiles/{name}/check", "/v1/profiles/{name}/access"].contains(&path.as_str()) {
        path = path.replace("{name}", &world.profile("read"));
    } else if path == "/v1/profiles/{name}/explain" {
        path = path.replace("{name}", &world.profile("read")) + "?object=public.orders";
    } else if path == "/v1/profiles/{name}" {
        let read = world.profile("read");
        path = path.replace("{name}", if method == "get" { &read } else { &spare });
    }
    let profile = json!({
        "name": spare, "target": name, "database": world.shop(), "preset": "readonly",
        "schemas": ["public"], "ttl": "1h", "max_ttl": "1h", "connection_limit": 1,
    });
    let nth = APPLIED.fetch_add(1, Ordering::Relaxed);
    let file = format!(
        "[profile.{name}-applied-{nth}]\ntarget = \"{name}\"\ndatabase = \"{}\"\npreset = \"readonly\"\n\
         schemas = [\"public\"]\nttl = \"1h\"\n",
        world.shop()
    );
    let body = match (method, path.as_str()) {
        ("post", "/v1/leases") => json!({ "profile": world.profile("read") }),
        ("post", "/v1/revocations") => json!({ "tool": "walk" }),
        ("post", "/v1/tokens") => json!({ "name": "another" }),
        ("post", "/v1/plan" | "/v1/apply") => json!({ "name": "file.toml", "text": file }),
        ("put", path) if path.starts_with("/v1/standing-roles/") => json!({
            "name": format!("{name}-standing"), "profile": world.profile("read"), "allow": ["anyone"],
        }),
        ("post", path) if path.ends_with("/renew") => json!({ "ttl": "2h" }),
        ("put", path) if path.starts_with("/v1/targets/") => spare_target(world),
        ("put", path) if path.starts_with("/v1/profiles/") => profile,
        ("post", "/v1/adopt") => json!({ "target": world.name, "database": world.shop() }),
        ("post", "/v1/ci/explain") => json!({ "token": "no token" }),
        ("post", "/v1/drift") => json!({}),
        ("post", "/v1/sweep") => json!({ "plan": true }),
        ("post", "/v1/sweep/accept") => json!({ "plan": cautious_plan(world).await }),
        _ => Value::Null,
    };
    (path, body)
}

/// The path; with a rule for CI jobs and an issuer made beforehand, if it is to remove one.
async fn with_ci_records(world: &World, method: &str, path: &str) -> String {
    let name = &world.name;
    if !path.starts_with("/v1/ci/") || method != "delete" {
        return path.to_owned();
    }
    let rule = format!("[ci.{name}-rule]\nissuer = \"{name}-ci\"\nsubject = \"x\"\n");
    for (issuer, rule) in [("ci", rule.as_str()), ("issuer", "")] {
        let text = format!(
            "[issuer.{name}-{issuer}]\nkind = \"generic\"\nurl = \"https://{issuer}.example\"\n\
             audience = \"{name}\"\n{rule}"
        );
        let file = json!({ "name": "ci.toml", "text": text });
        world.admin.post("/v1/apply", &file).await.expect(200);
    }
    let of = if path.contains("/rules/") { "rule" } else { "issuer" };
    path.replace("{name}", &format!("{name}-{of}"))
}

fn is_about_people(path: &str) -> bool {
    let begins = ["/v1/sign-in", "/v1/principals", "/scim"];
    begins.iter().any(|begin| path.starts_with(begin))
}

/// The same for routes about people: each is about somebody new.
async fn about_people(
    world: &World,
    provider: &Provider,
    method: &str,
    path: &str,
) -> (String, Value) {
    let nth = APPLIED.fetch_add(1, Ordering::Relaxed);
    let known = json!({ "issuer": "https://example.org", "subject": format!("key-{nth}") });
    let user =
        json!({ "userName": format!("user-{nth}"), "externalId": format!("user-key-{nth}") });
    let mut path = path.to_owned();
    if path.contains("{which}") {
        world.person(&format!("spare-{nth}"), &[]).await;
        path = path.replace("{which}", &format!("person:spare-{nth}"));
    }
    if path.contains("{user}") {
        let made = world.admin.post("/scim/v2/Users", &user).await.expect(201);
        path = path.replace("{user}", made["id"].as_str().unwrap());
    }
    if let Some(who) = path.strip_suffix("/enable") {
        world.admin.post(&format!("{who}/disable"), &Value::Null).await.expect(204);
    }
    if path.ends_with("/offboarding") && method == "get" {
        world.admin.post(&path, &json!({})).await.expect(200);
    }
    if path.ends_with("/identities") && method == "delete" {
        world.admin.post(&path, &known).await.expect(204);
        path += &format!("?issuer=https://example.org&subject=key-{nth}");
    }
    let body = match (method, path.as_str()) {
        ("post", "/v1/sign-in/device/poll") => {
            let begun = world.admin.post("/v1/sign-in/device", &Value::Null).await.expect(200);
            click_device(provider, begun["user_code"].as_str().unwrap(), "sub-gus").await;
            json!({ "secret": begun["secret"] })
        }
        ("post", "/scim/v2/Users") => user,
        ("put", path) if path.starts_with("/scim") => {
            json!({ "userName": format!("renamed-{nth}"), "externalId": user["externalId"] })
        }
        ("patch", _) => {
            json!({ "Operations": [{ "op": "replace", "path": "active", "value": false }] })
        }
        ("post", path) if path.ends_with("/identities") => known,
        ("put", path) if path.ends_with("/groups") => json!({ "groups": ["some"] }),
        _ => Value::Null,
    };
    (path, body)
}

/// Makes the daemon cautious; gives the plan to be accepted.
async fn cautious_plan(world: &World) -> Value {
    let cautious = "UPDATE installation SET cautious_since = now(), cautious_because = 'a test'";
    sqlx::raw_sql(cautious).execute(&mut world.on_state().await).await.unwrap();
    let planned = world.admin.post("/v1/sweep", &json!({ "plan": true })).await.expect(200);
    planned["plan"].clone()
}

/// The world's target under another name.
fn spare_target(world: &World) -> Value {
    json!({
        "host": "127.0.0.1", "port": world.target_path.port(), "sslmode": "disable",
        "admin_user": world.shop(), "admin_password": admin_password(world),
        "databases": [world.shop()], "rotate_admin": "never",
    })
}
