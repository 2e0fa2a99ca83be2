//! Mutual TLS: whose a client's certificate is, and who is refused.

use serde_json::{Value, json};

use crate::{
    support::{
        certificates::{Authority, Pair, Wanted, http_client, tls_client, write},
        daemon::{Daemon, binary},
        eventually, seconds,
        world::World,
    },
    tls::{address, connect, settings},
};
use rustix::process::Signal;

const RUNNER: &str = "uri:spiffe://example.org/ns/ci/sa/runner";

/// A daemon that asks for certificates of one authority, and what clients need to talk to it.
struct Mutual {
    world: World,
    daemon: Daemon,
    /// Of the API itself.
    api: Authority,
    /// Of clients.
    clients: Authority,
}

impl Mutual {
    async fn start(more: &str) -> Self {
        let mut world = World::start().await;
        let (api, clients) = (Authority::new("api"), Authority::new("clients"));
        api.for_loopback().write(world.folder(), "api");
        write(&world.folder().join("ca.pem"), &clients.pem(), 0o644);
        let more = format!("client_ca = \"ca.pem\"\n{more}");
        let daemon = world.another_daemon_with(&settings(&more)).await;
        Self { world, daemon, api, clients }
    }

    fn named(&self, names: &[&str]) -> Pair {
        self.clients.sign(&Wanted { names, ..Wanted::default() })
    }

    /// Asks who the bearer of a certificate is, on a connection of its own; the status, and the answer.
    async fn whoami(&self, shown: Option<&Pair>, token: Option<&str>) -> (u16, Value) {
        self.try_whoami(shown, token).await.unwrap()
    }

    async fn try_whoami(
        &self,
        shown: Option<&Pair>,
        token: Option<&str>,
    ) -> reqwest::Result<(u16, Value)> {
        let client = http_client(&self.api, shown).build().unwrap();
        let mut request = client.get(format!("https://{}/v1/whoami", address(&self.daemon)));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    async fn add(&self, principal: &str, certificate: &str) -> Value {
        let body = json!({ "principal": principal, "certificate": certificate });
        self.world.admin.post("/v1/identities", &body).await.expect(201)
    }

    /// The audit's entries of refused certificates, newest first.
    async fn refused(&self) -> Vec<Value> {
        let page = self.world.admin.get("/v1/audit?limit=100").await.expect(200);
        let events = page["items"].as_array().unwrap().iter().map(|item| &item["entry"]["event"]);
        events.filter(|event| event["kind"] == "certificate.refused").cloned().collect()
    }

    async fn finish(mut self) {
        assert!(self.daemon.stop().await.success());
        self.world.finish().await;
    }
}

#[tokio::test]
async fn a_certificate_signs_in_as_the_one_principal_that_it_names() {
    let mutual = Mutual::start("").await;
    let runner = mutual.named(&[RUNNER, "dns:runner-7.internal"]);
    let (status, problem) = mutual.whoami(Some(&runner), None).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("certificate_refused")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(RUNNER) && detail.contains("dns:runner-7.internal"), "{detail}");

    let body =
        json!({ "principal": "service:ci-runner", "certificate": RUNNER, "groups": ["deployers"] });
    mutual.world.admin.post("/v1/identities", &body).await.expect(201);
    mutual.world.admin.post("/v1/identities", &body).await.expect(200);
    let (status, who) = mutual.whoami(Some(&runner), None).await;
    assert_eq!((status, who["principal"].as_str()), (200, Some("service:ci-runner")), "{who}");
    assert_eq!((&who["certificate"], &who["groups"]), (&json!(RUNNER), &json!(["deployers"])));
    assert_eq!(who["token_expires_at"], "2090-01-01T00:00:00Z");
    assert!(who["token_id"].is_null() && who["rights"] == json!([]), "{who}");

    // A lease as any other, under the service's name.
    let client = http_client(&mutual.api, Some(&runner)).build().unwrap();
    let wish = json!({ "profile": mutual.world.profile("read") });
    let url = format!("https://{}/v1/leases", address(&mutual.daemon));
    let issued = client.post(url).json(&wish).send().await.unwrap();
    assert_eq!(issued.status(), 201);
    let issued: Value = issued.json().await.unwrap();
    mutual.world.secrets.remember(issued["credential"]["password"].as_str().unwrap());
    let lease = mutual.world.admin.lease(issued["lease"]["id"].as_str().unwrap()).await;
    assert_eq!(lease["principal"], "service:ci-runner", "{lease}");

    // Whoever sends a token is the token's, and a wrong one does not fall back to the certificate.
    let (_, who) = mutual.whoami(Some(&runner), Some(&mutual.world.admin.token)).await;
    assert_eq!(who["certificate"], Value::Null);
    assert!(who["token_id"].is_string(), "{who}");
    let (status, problem) = mutual.whoami(Some(&runner), Some("pgv_wrong")).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("token_refused")));
    let (status, problem) = mutual.whoami(None, None).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("token_missing")));
    assert_eq!(mutual.whoami(None, Some(&mutual.world.admin.token)).await.0, 200, "optional");

    // Nobody is known by the common name; two that are known are one too many; none at all is none.
    mutual.add("service:other", "dns:runner-7.internal").await;
    let (status, problem) = mutual.whoami(Some(&runner), None).await;
    assert_eq!(status, 401);
    assert!(problem["detail"].as_str().unwrap().contains("several of its names"), "{problem}");
    let nameless =
        mutual.clients.sign(&Wanted { common_name: "service:other", ..Wanted::default() });
    let (status, problem) = mutual.whoami(Some(&nameless), None).await;
    assert_eq!(status, 401);
    assert!(problem["detail"].as_str().unwrap().contains("common name is never"), "{problem}");
    let kinds = mutual.named(&["email:Ops@Example.org"]);
    mutual.add("person:olga", "email:Ops@example.ORG").await;
    assert_eq!(mutual.whoami(Some(&kinds), None).await.1["principal"], "person:olga");

    // Removed, and refused at once by every daemon; every refusal is in the audit.
    let path = "/v1/identities/uri%3Aspiffe%3A%2F%2Fexample.org%2Fns%2Fci%2Fsa%2Frunner";
    mutual.world.admin.delete(path).await.expect(204);
    mutual.world.admin.delete(path).await.expect(404);
    assert_eq!(mutual.whoami(Some(&runner), None).await.1["principal"], "service:other");
    let refused = mutual.refused().await;
    let whys: Vec<_> = refused.iter().map(|event| event["why"].as_str().unwrap()).collect();
    assert_eq!(
        whys,
        ["unknown certificate", "several of its names are known", "unknown certificate"]
    );
    assert_eq!(refused[2]["names"], json!([RUNNER, "dns:runner-7.internal"]));
    mutual.finish().await;
}

#[tokio::test]
async fn what_no_certificate_may_have_is_not_recorded_and_the_command_line_does_all_of_it() {
    let mutual = Mutual::start("").await;
    mutual.add("service:a", "dns:a.internal").await;
    let admin = &mutual.world.admin;
    for (principal, certificate, status, code) in [
        ("service:b", "dns:*.internal", 422, "invalid_request"),
        ("service:b", "cn:b", 422, "invalid_request"),
        ("ci:b", "dns:b.internal", 422, "invalid_request"),
        ("robot:b", "dns:b.internal", 422, "invalid_request"),
        ("service:b", "dns:A.internal", 409, "identity_taken"),
    ] {
        let body = json!({ "principal": principal, "certificate": certificate });
        admin.post("/v1/identities", &body).await.expect_problem(status, code);
    }
    let runner = mutual.named(&[RUNNER]);
    let (cert, key) = runner.write(mutual.world.folder(), "runner");
    let ca = mutual.world.folder().join("api-ca.pem");
    write(&ca, &mutual.api.pem(), 0o644);
    let url = format!("https://{}", address(&mutual.daemon));
    let run = async |words: &[&str], token: Option<&str>| {
        let mut command = binary();
        command.args(words).env("PGVALET_URL", &url).env("PGVALET_CA_FILE", &ca);
        command.env("HOME", mutual.world.folder());
        match token {
            Some(token) => command.env("PGVALET_TOKEN", token),
            None => command.env("PGVALET_CLIENT_CERT", &cert).env("PGVALET_CLIENT_KEY", &key),
        };
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let token = Some(admin.token.as_str());
    let add = ["identity", "add", "service:ci-runner", "--certificate", RUNNER, "--group", "ci"];
    let (code, said) = run(&add, token).await;
    assert!(code == 0 && said.contains("service:ci-runner"), "{code} {said}");
    let (code, said) = run(&["whoami"], None).await;
    assert!(
        code == 0 && said.contains("service:ci-runner") && said.contains(RUNNER),
        "{code} {said}"
    );
    let (code, said) = run(&["identity", "list"], token).await;
    assert!(code == 0 && said.contains(RUNNER) && said.contains("dns:a.internal"), "{code} {said}");
    let (code, said) = run(&["identity", "list"], None).await;
    assert!(code != 0 && said.contains("`people`"), "{code} {said}");
    let (code, said) = run(&["identity", "remove", RUNNER], token).await;
    assert!(code == 0, "{code} {said}");
    let (code, said) = run(&["whoami"], None).await;
    assert!(code != 0 && said.contains("identity add"), "{code} {said}");

    // The private authority is kept by login, for the address that it is for.
    let file = mutual.world.folder().join("token");
    write(&file, &admin.token, 0o600);
    let (ca, file) = (ca.display().to_string(), file.display().to_string());
    let login = async |words: &[&str]| {
        let mut command = binary();
        command.args(words).env("HOME", mutual.world.folder());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let (code, said) = login(&["login", "--url", &url, "--token-file", &file]).await;
    assert!(code != 0, "an authority that nobody named: {said}");
    let words = ["login", "--url", &url, "--token-file", &file, "--ca-file", &ca];
    let (code, said) = login(&words).await;
    assert!(code == 0, "{code} {said}");
    let (code, said) = login(&["whoami"]).await;
    assert!(code == 0 && said.contains("person:"), "{code} {said}");
    mutual.finish().await;
}

#[tokio::test]
async fn what_does_not_hold_is_refused_before_any_request_and_audited() {
    let mut world = World::start().await;
    let (api, clients) = (Authority::new("api"), Authority::new("clients"));
    api.for_loopback().write(world.folder(), "api");
    let (folder, names) = (world.folder().to_owned(), &[RUNNER][..]);
    write(&folder.join("ca.pem"), &clients.pem(), 0o644);
    write(&folder.join("crl.pem"), &clients.revoked(&[], 2090), 0o644);
    let lines =
        "client_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"\nclient_certificates = \"required\"\n";
    let daemon = world.another_daemon_with(&settings(lines)).await;
    let mutual = Mutual { world, daemon, api, clients };
    mutual.add("service:ci-runner", RUNNER).await;

    let runner = mutual.named(names);
    assert_eq!(mutual.whoami(Some(&runner), None).await.0, 200);
    let stranger = Authority::new("clients").sign(&Wanted { names, ..Wanted::default() });
    let over = mutual.clients.sign(&Wanted { names, years: (2020, 2021), ..Wanted::default() });
    let token = mutual.world.admin.token.clone();
    for (shown, what) in
        [(Some(&stranger), "of another authority"), (Some(&over), "over"), (None, "none")]
    {
        let refused = mutual.try_whoami(shown, Some(&token)).await;
        assert!(refused.is_err(), "{what}: {refused:?}");
    }

    // Revoked: the connection that it has ends, and no other begins; a token that is sent is nothing then.
    let mut open = connect(&mutual.daemon, tls_client(&mutual.api, Some(&runner))).await;
    write(&folder.join("crl.pem"), &mutual.clients.revoked(&[&runner], 2090), 0o644);
    mutual.daemon.signal(Signal::HUP);
    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut open, &mut rest);
    // It said nothing yet, and is let go without a word.
    let _ = tokio::time::timeout(seconds(20), ended).await.expect("it is closed");
    assert!(mutual.try_whoami(Some(&runner), None).await.is_err());
    let other = mutual.named(names);
    assert_eq!(
        mutual.whoami(Some(&other), None).await.0,
        200,
        "another one of the same name holds"
    );

    // A list that is over says nothing of anybody: refused.
    write(&folder.join("crl.pem"), &mutual.clients.revoked(&[], 2022), 0o644);
    mutual.daemon.signal(Signal::HUP);
    eventually("nobody gets in by an old list", seconds(20), async || {
        mutual.try_whoami(Some(&other), None).await.is_err()
    })
    .await;
    // Whoever is refused in the handshake is let go before that is on record.
    eventually("both refusals are on record", seconds(20), async || {
        let refused = mutual.refused().await;
        let whys: Vec<_> = refused.iter().map(|e| e["why"].as_str().unwrap().to_owned()).collect();
        whys.iter().any(|why| why == "revoked")
            && whys.iter().any(|why| why.contains("no authority"))
    })
    .await;
    mutual.finish().await;
}

#[tokio::test]
async fn a_source_that_shows_unknown_certificates_slows_down_only_its_own_refusals() {
    let mutual = Mutual::start("\n[throttle]\nfailures_per_minute = 3\n").await;
    mutual.add("service:ci-runner", RUNNER).await;
    let (known, unknown) = (mutual.named(&[RUNNER]), mutual.named(&["dns:who.internal"]));
    for _ in 0..3 {
        assert_eq!(mutual.whoami(Some(&unknown), None).await.0, 401);
    }
    let (status, problem) = mutual.whoami(Some(&unknown), None).await;
    assert_eq!((status, problem["code"].as_str()), (429, Some("throttled")));
    assert_eq!(mutual.refused().await.len(), 3, "what is turned away is not audited one by one");
    assert_eq!(mutual.whoami(Some(&known), None).await.0, 200, "verified is verified");
    mutual.finish().await;
}
