//! Every route of the API's own description, by every kind of caller: who gets in, and what is
//! recorded of it. A route that is not in the table here fails the test.

mod requests;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use self::requests::request;
use crate::{
    ci_jobs::{let_storefront_in, storefront},
    requests::approver,
    support::{
        browser::world_with_provider,
        eventually,
        issuer::Issuer,
        people::{Answer, Person, lease_id},
        seconds,
        world::World,
    },
};

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Anyone,
    /// Anyone who brings what it takes, which is no token.
    Guests,
    SignedIn,
    /// Those who are signed in with what agrees to requests.
    Deciders,
    /// Those whom `[review]` names, signed in with the same.
    Reviewers,
    /// Those who hold one of these rights.
    With(&'static [&'static str]),
    /// Those who hold all of them.
    WithAll(&'static [&'static str]),
}
use For::{Anyone, Deciders, Guests, Reviewers, SignedIn, With, WithAll};

const TARGETS: For = With(&["targets"]);
const PROFILES: For = With(&["profiles"]);
const PEOPLE: For = With(&["people"]);
const READ: For = With(&["read"]);
const AUDIT: For = With(&["audit"]);
const LEASES: For = With(&["leases"]);
const LOOKERS: For = With(&["leases", "audit"]);
const BOTH: For = WithAll(&["people", "leases"]);
/// What a file says decides what it takes.
const OF_A_FILE: For = With(&["targets", "profiles", "people", "roles"]);

/// The page of `domain/administration.rs`, written down once more: who holds what.
const ROLES: [(&str, &[&str]); 5] = [
    ("operator", &["targets", "leases", "read"]),
    ("author", &["profiles", "read"]),
    ("registrar", &["people", "read"]),
    ("responder", &["leases", "audit", "read"]),
    ("auditor", &["audit", "read"]),
];

/// Each route, who may use it, and the kind of the audit entry that it leaves if it changes something.
const TABLE: [(&str, &str, For, Option<&str>); 97] = [
    ("get", "/healthz", Anyone, None),
    ("get", "/readyz", Anyone, None),
    ("get", "/v1/whoami", SignedIn, None),
    ("get", "/v1/leases", SignedIn, None),
    ("post", "/v1/leases", SignedIn, Some("lease.intended")),
    ("get", "/v1/leases/{id}", SignedIn, None),
    ("delete", "/v1/leases/{id}", SignedIn, Some("lease.revoking")),
    ("post", "/v1/leases/{id}/renew", SignedIn, Some("lease.renewed")),
    ("post", "/v1/leases/{id}/rotate", SignedIn, Some("lease.rotated")),
    ("post", "/v1/revocations", SignedIn, Some("lease.revoking")),
    ("get", "/v1/requests", SignedIn, None),
    ("get", "/v1/requests/{id}", SignedIn, None),
    ("post", "/v1/requests/{id}/approve", Deciders, Some("request.approved")),
    ("post", "/v1/requests/{id}/deny", Deciders, Some("request.denied")),
    ("post", "/v1/requests/{id}/withdraw", SignedIn, Some("request.withdrawn")),
    ("post", "/v1/requests/{id}/claim", SignedIn, Some("lease.intended")),
    ("get", "/v1/reviews", Reviewers, None),
    ("post", "/v1/reviews", Reviewers, Some("review.opened")),
    ("get", "/v1/reviews/{id}", Reviewers, None),
    ("get", "/v1/reviews/{id}/items", Reviewers, None),
    ("get", "/v1/reviews/{id}/profiles", Reviewers, None),
    ("post", "/v1/reviews/{id}/decisions", Reviewers, Some("review.decided")),
    ("post", "/v1/reviews/{id}/sign-off", Reviewers, Some("review.signed-off")),
    ("get", "/v1/reviews/{id}/export", Reviewers, None),
    ("post", "/v1/profiles/{name}/restore", PROFILES, Some("review.restored")),
    ("get", "/v1/targets", READ, None),
    ("get", "/v1/targets/{name}", READ, None),
    ("get", "/v1/targets/{name}/doctor", TARGETS, None),
    ("get", "/v1/targets/{name}/hba", TARGETS, None),
    ("put", "/v1/targets/{name}", TARGETS, Some("target.created")),
    ("delete", "/v1/targets/{name}", TARGETS, Some("target.removed")),
    ("post", "/v1/targets/{name}/rotate-admin", TARGETS, Some("target.admin-rotated")),
    ("get", "/v1/profiles", SignedIn, None),
    ("get", "/v1/profiles/{name}", SignedIn, None),
    ("get", "/v1/profiles/{name}/explain", SignedIn, None),
    ("get", "/v1/profiles/{name}/access", SignedIn, None),
    ("post", "/v1/profiles/{name}/check", PROFILES, Some("profile.checked")),
    ("put", "/v1/profiles/{name}", PROFILES, Some("profile.created")),
    ("delete", "/v1/profiles/{name}", PROFILES, Some("profile.removed")),
    ("get", "/v1/standing-roles", SignedIn, None),
    ("put", "/v1/standing-roles/{name}", PROFILES, Some("standing-role.created")),
    ("get", "/v1/standing-roles/{name}", SignedIn, None),
    ("get", "/v1/standing-roles/{name}/credential", SignedIn, Some("standing-role.read")),
    ("post", "/v1/standing-roles/{name}/rotate", PROFILES, Some("standing-role.rotated")),
    ("delete", "/v1/standing-roles/{name}", PROFILES, Some("standing-role.removed")),
    ("post", "/v1/plan", OF_A_FILE, None),
    ("post", "/v1/apply", PROFILES, Some("profile.created")),
    ("get", "/v1/export", READ, None),
    ("post", "/v1/adopt", PROFILES, None),
    ("get", "/v1/drift", PROFILES, None),
    ("post", "/v1/drift", PROFILES, None),
    ("post", "/v1/sweep", TARGETS, Some("sweep.asked")),
    ("post", "/v1/sweep/accept", TARGETS, Some("caution.ended")),
    ("get", "/v1/notices", READ, None),
    ("post", "/v1/notices/{id}/replay", TARGETS, Some("notice.replayed")),
    ("post", "/v1/notices/replay", TARGETS, Some("notice.replayed")),
    ("post", "/v1/notices/test", TARGETS, Some("notice.tested")),
    ("get", "/v1/identities", PEOPLE, None),
    ("post", "/v1/identities", PEOPLE, Some("certificate.added")),
    ("delete", "/v1/identities/{certificate}", PEOPLE, Some("certificate.removed")),
    ("get", "/v1/tokens", SignedIn, None),
    ("post", "/v1/tokens", SignedIn, Some("token.created")),
    ("delete", "/v1/tokens/{id}", SignedIn, Some("token.revoked")),
    ("get", "/v1/ci/rules", READ, None),
    ("delete", "/v1/ci/rules/{name}", PEOPLE, Some("ci-rule.removed")),
    ("delete", "/v1/ci/issuers/{name}", PEOPLE, Some("issuer.removed")),
    ("post", "/v1/ci/explain", PEOPLE, None),
    ("post", "/v1/sign-in/device", Guests, None),
    ("post", "/v1/sign-in/device/poll", Guests, Some("person.signed-in")),
    ("delete", "/v1/sessions", SignedIn, None),
    ("get", "/v1/principals", PEOPLE, None),
    ("get", "/v1/principals/{which}", PEOPLE, None),
    ("post", "/v1/principals/{which}/disable", PEOPLE, Some("principal.disabled")),
    ("post", "/v1/principals/{which}/enable", PEOPLE, Some("principal.enabled")),
    ("post", "/v1/principals/{which}/identities", PEOPLE, Some("identity.added")),
    ("delete", "/v1/principals/{which}/identities", PEOPLE, Some("identity.removed")),
    ("put", "/v1/principals/{which}/groups", PEOPLE, Some("principal.groups")),
    ("post", "/v1/principals/{which}/offboarding", BOTH, Some("offboarding.started")),
    ("get", "/v1/principals/{which}/offboarding", PEOPLE, None),
    ("post", "/v1/emergencies", Guests, Some("emergency.opened")),
    ("get", "/v1/emergencies", LOOKERS, None),
    ("get", "/v1/emergencies/{id}", LOOKERS, None),
    ("post", "/v1/emergencies/{id}/close", LEASES, Some("emergency.closed")),
    ("get", "/v1/emergency-codes", PEOPLE, None),
    ("post", "/v1/emergency-codes", PEOPLE, Some("emergency-codes.made")),
    ("delete", "/v1/emergency-codes/{which}", PEOPLE, Some("emergency-codes.withdrawn")),
    ("get", "/scim/v2/ServiceProviderConfig", PEOPLE, None),
    ("get", "/scim/v2/Users", PEOPLE, None),
    ("post", "/scim/v2/Users", PEOPLE, Some("person.recorded")),
    ("get", "/scim/v2/Users/{user}", PEOPLE, None),
    ("put", "/scim/v2/Users/{user}", PEOPLE, Some("identity.renamed")),
    ("patch", "/scim/v2/Users/{user}", PEOPLE, Some("principal.disabled")),
    ("delete", "/scim/v2/Users/{user}", PEOPLE, Some("principal.disabled")),
    ("get", "/v1/status", READ, None),
    ("get", "/v1/audit", AUDIT, None),
    ("get", "/v1/audit/verify", AUDIT, None),
    ("get", "/v1/audit/export", AUDIT, None),
];

/// A channel to be tried, where nobody listens; and anyone may review what others reach.
const SETTINGS: &str = "[[webhook]]\nname = \"walk\"\nurl = \"http://127.0.0.1:9/\"\n\
    secret = \"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\nallow_private = true\ntopics = []\n\
    [review]\nreviewers = [\"anyone\"]\nschedule = \"never\"\n";

/// The routes of the description, as method and path.
fn described() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(pgvalet::http::document()).unwrap();
    let methods = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let there = methods.iter().filter(|method| item.get(**method).is_some());
            there.map(|method| ((*method).to_owned(), path.clone()))
        })
        .collect()
}

fn method(name: &str) -> Method {
    Method::from_bytes(name.to_uppercase().as_bytes()).unwrap()
}

#[test]
fn the_table_names_every_route_and_no_other() {
    let named: BTreeSet<_> =
        TABLE.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(named, described());
}

/// A refusal: provisioning has a form of its own.
#[track_caller]
fn expect_refusal(answer: Answer, path: &str, status: u16, code: &str) -> Value {
    if path.starts_with("/scim") {
        let body = answer.expect(status);
        assert_eq!(body["status"], status.to_string(), "{body}");
        return body;
    }
    answer.expect_problem(status, code)
}

async fn send(caller: &Person, name: &str, path: &str, body: &Value) -> Answer {
    caller.call(method(name), path, (!body.is_null()).then_some(body), &[]).await
}

/// Kinds of the entries that a request left in the audit.
async fn left_by(world: &World, answer: &Answer) -> Vec<String> {
    let id = answer.headers["x-request-id"].to_str().unwrap();
    let page = world.admin.get("/v1/audit?limit=50").await.expect(200);
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .filter(|item| item["entry"]["request_id"] == id)
        .map(|item| item["entry"]["event"]["kind"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until the standing role of the path has its first login: it is made in the background.
async fn has_login(world: &World, path: &str) {
    let name = path.split('/').nth(3).unwrap();
    let path = format!("/v1/standing-roles/{name}");
    let body = json!({ "name": name, "profile": world.profile("read"), "allow": ["anyone"] });
    let answer = world.admin.put(&path, &body).await;
    assert!([200, 201].contains(&answer.status), "{}", answer.text);
    eventually("its login is there", seconds(20), async || {
        world.admin.get(&path).await.body["state"] == "active"
    })
    .await;
}

/// Reviews are closed with what agrees to things by name.
const CLOSE: &str = "/v1/emergencies/{id}/close";

/// An administrator with such a token, which somebody else made.
async fn reviewer(world: &World) -> Person {
    let wish = json!({
        "name": "reviews", "principal": "person:reviewer", "admin": true,
        "scopes": ["approve", "leases"],
    });
    let made = world.admin.post("/v1/tokens", &wish).await;
    world.admin.with_token(made.expect(201)["secret"].as_str().unwrap())
}

#[tokio::test]
async fn each_route_lets_in_whom_it_should_and_records_what_it_changes() {
    let (world, provider) = world_with_provider(SETTINGS).await;
    let member = world.person("member", &[]).await;
    let deciders = [approver(&world, "member", &[]).await, approver(&world, "decider", &[]).await];
    let reviewer = reviewer(&world).await;
    for (method, path, who, changes) in &TABLE {
        for (caller, is_admin) in [(&member, false), (&world.admin, true)] {
            let caller = match *path {
                _ if matches!(who, Deciders | Reviewers) => &deciders[usize::from(is_admin)],
                CLOSE if is_admin => &reviewer,
                _ => caller,
            };
            let (path, body) = request((&world, &provider), caller, method, path).await;
            if path.ends_with("/credential") || path.ends_with("-standing/rotate") {
                has_login(&world, &path).await;
            }
            let answer = send(caller, method, &path, &body).await;
            let at = format!("{method} {path}, admin: {is_admin}: {}", answer.text);
            let left = left_by(&world, &answer).await;
            if matches!(who, With(_) | WithAll(_)) && !is_admin {
                expect_refusal(answer, &path, 403, "admin_only");
                assert_eq!(left, ["access.refused"], "{at}");
                continue;
            }
            assert_eq!(answer.status / 100, 2, "{at}");
            match changes {
                Some(kind) => assert!(left.iter().any(|left| left == kind), "{left:?}: {at}"),
                None => assert_eq!(left, Vec::<String>::new(), "{at}"),
            }
        }
    }
    world.finish().await;
}

/// Every route that takes a right, by a holder of each role: it gets in where its role has the right, and a
/// refusal says which right is missing.
#[tokio::test]
async fn each_role_opens_what_its_rights_are_for() {
    let (world, provider) = world_with_provider(SETTINGS).await;
    let mut file = "[administration]\n".to_owned();
    for (role, _) in ROLES {
        file += &format!("{role} = [\"group:{role}s\"]\n");
    }
    let file = json!({ "name": "roles.toml", "text": file });
    world.admin.post("/v1/apply", &file).await.expect(200);
    for (role, rights) in ROLES {
        let holder = world.person(role, &[&format!("{role}s")]).await;
        let held = holder.get("/v1/whoami").await.expect(200)["rights"].clone();
        let mut wanted = rights.to_vec();
        wanted.sort_by_key(|right| {
            ["targets", "profiles", "people", "leases", "audit", "read"]
                .iter()
                .position(|known| known == right)
        });
        assert_eq!(held, json!(wanted), "{role}");
        for (method, path, who, _) in &TABLE {
            let (With(takes) | WithAll(takes)) = who else { continue };
            let is_held = |right: &&str| rights.contains(right);
            let lacks =
                takes.iter().find(|right| !rights.contains(right)).copied().unwrap_or_default();
            let gets_in = match who {
                WithAll(_) => lacks.is_empty(),
                _ => takes.iter().any(is_held),
            };
            let named = if matches!(who, WithAll(_)) { lacks } else { takes[0] };
            let (path, body) = request((&world, &provider), &world.admin, method, path).await;
            let answer = send(&holder, method, &path, &body).await;
            let at = format!("{role}: {method} {path}: {}", answer.text);
            if gets_in {
                let by_this_token = answer.body["code"] == "not_yours_to_close";
                assert!(answer.status != 403 || by_this_token, "{at}");
            } else {
                let problem = expect_refusal(answer, &path, 403, "admin_only");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains(&format!("`{named}`")), "{at}");
            }
        }
    }
    // A role that the file no longer names is nobody's.
    let file = json!({ "name": "roles.toml", "text": "[administration]\nauditor = []\n" });
    world.admin.post("/v1/apply", &file).await.expect(200);
    let former = world.person("operator", &["operators"]).await;
    former.get("/v1/targets").await.expect_problem(403, "admin_only");
    world.finish().await;
}

/// A job, though a rule makes its principal an administrator: whoever can change a workflow would be one.
#[tokio::test]
async fn a_ci_job_opens_nothing_that_takes_a_right() {
    let ((world, provider), issuer) = (world_with_provider(SETTINGS).await, Issuer::start().await);
    let roles = "[administration]\nadmin = [\"ci:storefront-main\"]\n";
    let file = json!({ "name": "roles.toml", "text": roles });
    world.admin.post("/v1/apply", &file).await.expect(200);
    let_storefront_in(&world, &issuer).await;
    let token = issuer.token(&storefront());
    let job = world.admin.with_token(&token);
    for (method, path, who, _) in &TABLE {
        let (path, body) = match (who, *path) {
            (With(_) | WithAll(_), _) => {
                request((&world, &provider), &world.admin, method, path).await
            }
            (SignedIn, path) if *method == "get" && !path.contains('{') => {
                (path.to_owned(), Value::Null)
            }
            _ => continue,
        };
        let answer = send(&job, method, &path, &body).await;
        match who {
            With(_) | WithAll(_) => drop(expect_refusal(answer, &path, 403, "admin_only")),
            _ => drop(answer.expect(200)),
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn without_a_good_token_every_route_is_closed_in_the_same_words() {
    let (world, _provider) = world_with_provider(SETTINGS).await;
    let unknown = format!("pgv_{}_{}", "0".repeat(32), "a".repeat(43));
    let short = json!({ "name": "short", "principal": "person:short", "ttl": "1s" });
    let short = world.admin.post("/v1/tokens", &short).await.expect(201);
    let expired = world.admin.with_token(short["secret"].as_str().unwrap());
    let revoked = world.person("revoked", &[]).await;
    let id = revoked.get("/v1/whoami").await.expect(200)["token_id"].as_str().unwrap().to_owned();
    world.admin.delete(&format!("/v1/tokens/{id}")).await.expect(204);
    eventually("the token ends", seconds(10), async || {
        expired.get("/v1/whoami").await.status == 401
    })
    .await;

    let before = world.admin.get("/v1/leases").await.expect(200);
    let mut told = BTreeSet::new();
    for (name, path, who, _) in &TABLE {
        let prefix = match *path {
            path if path.starts_with("/v1/requests") => "acc",
            path if path.starts_with("/v1/reviews") => "rvw",
            _ => "lse",
        };
        let path = path.replace("{id}", &format!("{prefix}_{}", "0".repeat(32)));
        let path = path.replace("{name}", &world.name).replace("{which}", "person:nobody");
        for bad in [&world.admin.with_token(&unknown), &expired, &revoked] {
            let answer = send(bad, name, &path, &Value::Null).await;
            if *who == Anyone {
                answer.expect(200);
                continue;
            }
            if *who == Guests {
                assert!([200, 415].contains(&answer.status), "{}", answer.text);
                continue;
            }
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            let problem = expect_refusal(answer, &path, 401, "token_refused");
            told.insert(problem["detail"].as_str().unwrap().to_owned());
        }
        let bare = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = bare.request(method(name), format!("{}{path}", world.admin.url)).send().await;
        let answer = answer.unwrap();
        if *who == Anyone {
            assert_eq!(answer.status(), 200);
        } else if *who == Guests {
            assert!([200, 415].contains(&answer.status().as_u16()), "{name} {path}");
        } else {
            assert_eq!(answer.status(), 401, "{name} {path}");
            let text = answer.text().await.unwrap();
            assert!(text.contains("send a token"), "{text}");
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(world.admin.get("/v1/leases").await.expect(200), before);
    world.finish().await;
}

#[tokio::test]
async fn what_is_anothers_is_as_if_it_were_not_there() {
    let world = World::start().await;
    let (alice, mallory) = (world.person("alice", &[]).await, world.person("mallory", &[]).await);
    let lease = lease_id(&alice.ask(&world.profile("read"), json!({})).await.expect(201));
    let token = alice.get("/v1/whoami").await.expect(200)["token_id"].as_str().unwrap().to_owned();
    let unknown = format!("lse_{}", "0".repeat(32));
    for lease in [&lease, &unknown] {
        let path = format!("/v1/leases/{lease}");
        mallory.get(&path).await.expect_problem(404, "not_found");
        mallory.delete(&path).await.expect_problem(404, "not_found");
        mallory.renew(lease, json!({})).await.expect_problem(404, "not_found");
        mallory.rotate(lease).await.expect_problem(404, "not_found");
    }
    mallory.delete(&format!("/v1/tokens/{token}")).await.expect_problem(404, "not_found");
    let all = json!({ "target": world.name });
    let revoked = mallory.post("/v1/revocations", &all).await.expect(200);
    assert_eq!(revoked["leases"], json!([]));
    assert_eq!(mallory.get("/v1/leases").await.expect(200)["items"], json!([]));
    let tokens = mallory.get("/v1/tokens").await.expect(200);
    assert_eq!(tokens["items"].as_array().unwrap().len(), 1, "{tokens}");
    assert_eq!(alice.lease(&lease).await["state"], "active");

    world.put_profile("write", json!({ "preset": "readwrite", "allow": ["person:alice"] })).await;
    let path = format!("/v1/profiles/{}", world.profile("write"));
    alice.get(&path).await.expect(200);
    mallory.get(&path).await.expect_problem(404, "not_found");
    world.finish().await;
}
