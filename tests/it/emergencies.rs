//! Emergencies: at once, with a reason, loudly; looked at by somebody else; opened by a sealed code when nobody can
//! sign in, once for each code.

use std::{collections::BTreeSet, io::Write as _, process::Stdio};

use serde_json::{Value, json};

use crate::support::{
    browser::{nobody, world_with_provider},
    chaos::Mode,
    eventually,
    people::{Answer, Person, lease_id},
    seconds,
    sessions::sign_in,
    shell::{Said, Shell},
    world::World,
};

/// What closes reviews: by name, since what carries everything may be in a program's hands.
const CLOSES: [&str; 6] = ["ask", "approve", "people", "leases", "audit", "read"];

/// Records the profile for emergencies of this world.
async fn put_glass(world: &World, differs: Value) {
    let mut spec = json!({
        "preset": "break-glass", "ttl": "10m", "max_ttl": "1h", "reason": "required",
        "allow": ["person:ann", "group:on-call"],
    });
    spec.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
    world.put_profile("glass", spec).await;
}

/// Whoever is in `responders` ends access, and is a registrar.
async fn put_roles(world: &World) {
    let text = "[administration]\nresponder = [\"group:responders\"]\nregistrar = [\"group:responders\"]\n";
    let file = json!({ "name": "roles.toml", "text": text });
    world.admin.post("/v1/apply", &file).await.expect(200);
}

/// A token with these scopes, made by somebody for a person.
async fn token_for(by: &Person, name: &str, groups: Option<&[&str]>, scopes: &[&str]) -> Person {
    let mut body =
        json!({ "name": "test", "principal": format!("person:{name}"), "scopes": scopes });
    if let Some(groups) = groups {
        body["groups"] = json!(groups);
    }
    let made = by.post("/v1/tokens", &body).await.expect(201);
    by.with_token(made["secret"].as_str().unwrap())
}

/// Codes for a person, made by the administrator.
async fn codes_for(world: &World, name: &str, more: Value) -> Vec<String> {
    let mut body = json!({ "person": format!("person:{name}"), "count": 2 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = world.admin.post("/v1/emergency-codes", &body).await.expect(201);
    let codes: Vec<String> = made["codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    for code in &codes {
        world.secrets.remember(code);
    }
    codes
}

async fn open(at: &Person, profile: &str, person: &str, code: &str) -> Answer {
    let body = json!({
        "person": format!("person:{person}"), "code": code, "profile": profile, "reason": "INC-42",
    });
    at.post("/v1/emergencies", &body).await
}

/// The same of ann's, until the daemon has the time for it.
async fn open_unless_busy(at: &Person, profile: &str, code: &str) -> Answer {
    let mut answer = open(at, profile, "ann", code).await;
    for _ in 0..20 {
        if answer.status != 503 {
            break;
        }
        answer = open(at, profile, "ann", code).await;
    }
    answer
}

async fn left(world: &World, person: &str) -> i64 {
    let sets = world.admin.get("/v1/emergency-codes").await.expect(200);
    let of = |set: &&Value| set["principal"] == format!("person:{person}");
    let set = sets["items"].as_array().unwrap().iter().find(of).expect("a set of codes").clone();
    set["left"].as_i64().unwrap()
}

/// The kinds of events in the audit.
async fn told(world: &World, kind: &str) -> Vec<Value> {
    let page = world.admin.get(&format!("/v1/audit?kind={kind}&limit=200")).await.expect(200);
    page["items"].as_array().unwrap().iter().map(|item| item["entry"].clone()).collect()
}

#[tokio::test]
async fn an_emergency_waits_for_nobody_and_is_looked_at_by_somebody_else() {
    let world = World::start().await;
    put_glass(&world, json!({})).await;
    put_roles(&world).await;
    let ann = token_for(&world.admin, "ann", Some(&["responders"]), &CLOSES).await;
    let rita = token_for(&world.admin, "rita", Some(&["responders"]), &CLOSES).await;
    let glass = world.profile("glass");
    ann.ask(&glass, json!({})).await.expect_problem(422, "reason_required");
    assert_eq!(told(&world, "emergency.opened").await, Vec::<Value>::new());
    let issued =
        ann.ask(&glass, json!({ "reason": "INC-42", "ticket": "OPS-1" })).await.expect(201);
    let lease = lease_id(&issued);
    let opened = told(&world, "emergency.opened").await;
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["event"]["lease_id"], json!(lease));
    assert_eq!(opened[0]["actor"]["name"], "person:ann");
    assert!(world.daemon.log().contains("an emergency is opened"), "it is loud");

    let open = rita.get("/v1/emergencies?state=open").await.expect(200);
    let one = &open["items"][0];
    assert_eq!(
        (&one["lease_id"], &one["principal"]),
        (&json!(lease), &json!("person:ann")),
        "{open}"
    );
    eventually("it is measured", seconds(40), async || {
        let text =
            reqwest::get(format!("{}/metrics", world.daemon.url)).await.unwrap().text().await;
        text.unwrap().contains("pgvalet_emergencies_open 1")
    })
    .await;

    // Nobody closes their own: not with another token, not through somebody whose token they made.
    let close = format!("/v1/emergencies/{lease}/close");
    let verdict = json!({ "verdict": "justified", "comment": "an index was rebuilt" });
    let again = token_for(&world.admin, "ann", None, &CLOSES).await;
    let lent = token_for(&ann, "bob", Some(&["responders"]), &CLOSES).await;
    let agent = json!({ "name": "agent", "principal": "service:agent", "groups": ["responders"], "scopes": CLOSES });
    let agent = world.admin.post("/v1/tokens", &agent).await.expect(201);
    let agent = world.admin.with_token(agent["secret"].as_str().unwrap());
    for (who, words) in [
        (&ann, "somebody else closes"),
        (&again, "somebody else closes"),
        (&lent, "token was made by"),
        (&agent, "by a person"),
    ] {
        let refused = who.post(&close, &verdict).await.expect_problem(403, "not_yours_to_close");
        assert!(refused["detail"].as_str().unwrap().contains(words), "{refused}");
    }
    let mut shell = Shell::of(&world);
    shell.token = Some(ann.token.clone());
    let words = ["emergency", "close", &lease, "--verdict", "justified", "--comment", "fine"];
    let said = shell.run(&words).await;
    assert!(said.err.contains("somebody else closes"), "{said:?}");
    said.expect(3);
    assert_eq!(told(&world, "access.refused").await.len(), 5);
    assert_eq!(told(&world, "emergency.closed").await, Vec::<Value>::new());

    // Whoever looks sees what was done.
    sign_in(&issued).await.unwrap();
    let detail = rita.get(&format!("/v1/emergencies/{lease}")).await.expect(200);
    assert_eq!(detail["logins"][0]["role"], issued["credential"]["user"]);
    let kinds: Vec<_> = detail["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["entry"]["event"]["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"emergency.opened") && kinds.contains(&"lease.activated"), "{kinds:?}");
    let nothing = json!({ "verdict": "justified", "comment": " " });
    rita.post(&close, &nothing).await.expect_problem(422, "invalid_request");
    shell.token = Some(rita.token.clone());
    let listed = shell.run(&["emergency", "list"]).await.expect(0);
    assert!(listed.contains(&lease) && listed.contains("INC-42"), "{listed}");
    shell.run(&["emergency", "show", &lease]).await.expect(0);
    shell.run(&words).await.expect(0);
    let closed = rita.get(&format!("/v1/emergencies/{lease}")).await.expect(200);
    assert_eq!(closed["emergency"]["closed_by"], "person:rita");
    rita.post(&close, &verdict).await.expect_problem(409, "emergency_closed");
    assert_eq!(told(&world, "emergency.closed").await.len(), 1);
    assert_eq!(rita.get("/v1/emergencies?state=open").await.expect(200)["items"], json!([]));
    ann.get("/v1/emergencies/lse_00000000000000000000000000000000").await.expect(404);
    world.finish().await;
}

#[tokio::test]
async fn who_made_the_token_that_an_emergency_was_opened_with_does_not_close_its_review() {
    let world = World::start().await;
    put_glass(&world, json!({})).await;
    put_roles(&world).await;
    let ann = token_for(&world.admin, "ann", Some(&["responders"]), &CLOSES).await;
    let rita = token_for(&world.admin, "rita", Some(&["responders"]), &CLOSES).await;
    let lent = token_for(&rita, "bob", Some(&["on-call"]), &["ask"]).await;
    let issued = lent.ask(&world.profile("glass"), json!({ "reason": "INC-42" })).await.expect(201);
    let close = format!("/v1/emergencies/{}/close", lease_id(&issued));
    let verdict = json!({ "verdict": "justified", "comment": "an index was rebuilt" });
    let refused = rita.post(&close, &verdict).await.expect_problem(403, "not_yours_to_close");
    assert!(refused["detail"].as_str().unwrap().contains("you made the token"), "{refused}");
    let told = told(&world, "access.refused").await;
    assert_eq!(told[0]["actor"]["name"], "person:rita", "{told:?}");
    ann.post(&close, &verdict).await.expect(200);
    world.finish().await;
}

#[tokio::test]
async fn a_code_opens_one_emergency_however_many_try_while_the_provider_is_down() {
    let (mut world, provider) = world_with_provider("").await;
    put_glass(&world, json!({})).await;
    world.person("ann", &[]).await;
    let codes = codes_for(&world, "ann", json!({ "count": 10 })).await;
    assert_eq!((codes.len(), left(&world, "ann").await), (10, 10));
    let mut second = world.another_daemon().await;
    provider.set_down(true);
    let (here, there) = (nobody(&world), nobody(&world).at(&second.url));
    let glass = world.profile("glass");
    let tries = (0..20).map(|n| {
        let (at, glass, code) = (
            if n % 2 == 0 { here.clone() } else { there.clone() },
            glass.clone(),
            codes[0].clone(),
        );
        tokio::spawn(async move { open_unless_busy(&at, &glass, &code).await })
    });
    let tries: Vec<_> = tries.collect();
    let mut opened = Vec::new();
    for one in tries {
        let answer = one.await.unwrap();
        match answer.status {
            201 => opened.push(answer.body),
            _ => drop(answer.expect_problem(401, "code_refused")),
        }
    }
    let [issued] = opened.as_slice() else { panic!("{} were opened", opened.len()) };
    sign_in(issued).await.unwrap();
    assert_eq!(world.live().await.len(), 1);
    assert_eq!(left(&world, "ann").await, 9);
    let told = told(&world, "emergency.opened").await;
    assert_eq!((told.len(), &told[0]["event"]["code"]), (1, &json!(1)));
    assert_eq!(told[0]["actor"]["name"], "person:ann");
    let item = &world.admin.get("/v1/emergencies").await.expect(200)["items"][0];
    assert_eq!((&item["code"], &item["state"]), (&json!(1), &json!("open")), "{item}");
    // Who made the code has seen it, and may have used it.
    let close = format!("/v1/emergencies/{}/close", lease_id(issued));
    let verdict = json!({ "verdict": "justified", "comment": "fine" });
    let refused =
        world.admin.post(&close, &verdict).await.expect_problem(403, "not_yours_to_close");
    assert!(refused["detail"].as_str().unwrap().contains("made the sealed code"), "{refused}");
    assert!(second.stop().await.success());
    provider.set_down(false);
    world.finish().await;
}

#[tokio::test]
async fn every_wrong_code_is_refused_in_the_same_words_and_a_failed_target_spends_none() {
    let world = World::start().await;
    put_glass(&world, json!({})).await;
    put_glass_two(&world).await;
    let ann = world.person("ann", &[]).await;
    world.person("bob", &["on-call"]).await;
    let (glass, nobody) = (world.profile("glass"), nobody(&world));
    let own = json!({ "person": "person:ann" });
    ann.post("/v1/emergency-codes", &own).await.expect_problem(403, "admin_only");
    let codes = codes_for(&world, "ann", json!({})).await;
    let mut words = BTreeSet::new();
    let altered = codes[0].replace(&codes[0][2..7], "00000");
    let elsewhere = codes[0].replacen("1-", "2-", 1);
    for (person, code) in [
        ("ann", altered.as_str()),
        ("ann", &elsewhere),
        ("ann", "no code"),
        ("bob", &codes[0]),
        ("nobody", &codes[0]),
    ] {
        let refused = open(&nobody, &glass, person, code).await.expect_problem(401, "code_refused");
        words.insert(refused["detail"].as_str().unwrap().to_owned());
    }
    assert_eq!(words.len(), 1, "{words:?}");
    assert_eq!(told(&world, "emergency-code.refused").await.len(), 5);

    // What the code is not for, what the profile does not allow, and a target that is away use nothing up.
    let read = world.profile("read");
    open(&nobody, &read, "ann", &codes[0]).await.expect_problem(403, "code_not_for_profile");
    open(&nobody, &world.profile("glass-two"), "ann", &codes[0])
        .await
        .expect_problem(403, "not_allowed");
    world.target_path.set(Mode::Refuse);
    let answer = open(&nobody, &glass, "ann", &codes[0]).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    world.target_path.set(Mode::Pass);
    assert_eq!(left(&world, "ann").await, 2);
    eventually("the target is used again", seconds(60), async || {
        open(&nobody, &glass, "ann", &codes[0]).await.status == 201
    })
    .await;
    assert_eq!(left(&world, "ann").await, 1);
    open(&nobody, &glass, "ann", &codes[0]).await.expect_problem(401, "code_refused");

    // A set for one profile alone; a new set, a withdrawal, and a person who is shut out.
    let only = json!({ "profiles": [world.profile("glass-two")] });
    let fresh = codes_for(&world, "ann", only).await;
    open(&nobody, &glass, "ann", &codes[1]).await.expect_problem(401, "code_refused");
    open(&nobody, &glass, "ann", &fresh[0]).await.expect_problem(403, "code_not_for_profile");
    let fresh = codes_for(&world, "ann", json!({})).await;
    world.admin.post("/v1/principals/person:ann/disable", &Value::Null).await.expect(204);
    open(&nobody, &glass, "ann", &fresh[0]).await.expect_problem(401, "code_refused");
    world.admin.post("/v1/principals/person:ann/enable", &Value::Null).await.expect(204);
    open(&nobody, &glass, "ann", &fresh[0]).await.expect(201);
    world.admin.delete("/v1/emergency-codes/person:ann").await.expect(204);
    open(&nobody, &glass, "ann", &fresh[1]).await.expect_problem(401, "code_refused");
    let admin = json!({ "person": "person:admin" });
    world.admin.post("/v1/emergency-codes", &admin).await.expect_problem(409, "codes_for_oneself");
    let wrong = json!({ "person": "service:x", "count": 0, "profiles": [read] });
    let faults =
        world.admin.post("/v1/emergency-codes", &wrong).await.expect(422)["faults"].clone();
    assert_eq!(faults.as_array().unwrap().len(), 3, "{faults}");
    world.finish().await;
}

/// A second profile for emergencies, which allows nobody.
async fn put_glass_two(world: &World) {
    let spec = json!({
        "preset": "break-glass", "ttl": "10m", "max_ttl": "1h", "reason": "required", "allow": ["person:nobody"],
    });
    world.put_profile("glass-two", spec).await;
}

#[tokio::test]
async fn guesses_at_codes_are_slowed_down_like_guesses_at_tokens() {
    let world = World::start().await;
    world.person("ann", &[]).await;
    let nobody = nobody(&world);
    let mut last = 0;
    for _ in 0..40 {
        let answer = open(&nobody, "shop", "ann", "1-00000-00000-00000-00000").await;
        last = answer.status;
        if last == 429 {
            break;
        }
        answer.expect_problem(401, "code_refused");
    }
    assert_eq!(last, 429);
    assert_eq!(told(&world, "source.throttled").await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn the_command_line_makes_codes_and_opens_with_one_from_a_file_never_an_argument() {
    let world = World::start().await;
    put_glass(&world, json!({})).await;
    world.person("ann", &[]).await;
    let shell = Shell::of(&world);
    let made = shell.run(&["emergency", "codes", "--for", "ann", "--count", "3"]).await.expect(0);
    let codes: Vec<&str> = made.lines().collect();
    assert_eq!(codes.len(), 3, "{made}");
    codes.iter().for_each(|code| world.secrets.remember(code));
    let glass = world.profile("glass");
    let with_code = ["emergency", "open", &glass, "--person", "ann", "--reason", "INC-42"];
    let mut signed_out = Shell::of(&world);
    signed_out.token = None;
    let argued = signed_out
        .run(&[&with_code[..], &["--url", &world.daemon.url, "--code", codes[0]]].concat())
        .await;
    argued.expect(2);
    std::fs::write(signed_out.path("code"), codes[0].to_lowercase()).unwrap();
    let from_file = [&with_code[..], &["--url", &world.daemon.url, "--code-file", "code"]].concat();
    let said = signed_out.run(&from_file).await;
    assert!(said.out.starts_with("postgresql://"), "{said:?}");
    world.secrets.remember(said.out.split(':').nth(2).unwrap().split('@').next().unwrap());
    said.expect(0);
    let again = signed_out.run(&from_file).await;
    assert!(again.err.contains("try the next one"), "{again:?}");
    again.expect(3);
    let from_input =
        [&with_code[..], &["--url", &world.daemon.url, "--code-file", "-", "--json"]].concat();
    let issued = piped(&signed_out, &from_input, codes[1]).await.json();
    world.secrets.remember(issued["credential"]["password"].as_str().unwrap());
    assert_eq!(issued["lease"]["principal"], "person:ann");
    let listed = shell.run(&["emergency", "codes"]).await.expect(0);
    assert!(listed.contains("person:ann") && listed.contains("1 of 3"), "{listed}");
    shell.run(&["emergency", "codes", "--for", "ann", "--withdraw"]).await.expect(0);
    let listed = shell.run(&["emergency", "codes"]).await.expect(0);
    assert!(!listed.contains("person:ann"), "{listed}");
    world.finish().await;
}

/// Runs a command with a text on its standard input.
async fn piped(shell: &Shell, arguments: &[&str], text: &str) -> Said {
    let mut command = shell.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
