//! TLS in front of the API: both versions, both HTTPs, files that change under live connections, and
//! peers that send what is no TLS.

use std::{fs, path::Path, sync::Arc};

use pgvalet::config::Config;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::support::{
    certificates::{Authority, Pair, Wanted, http_client, tls_client, write},
    daemon::Daemon,
    eventually, seconds,
    world::World,
};

/// Settings of a daemon that serves the pair `api`, with more lines of `[tls]`.
pub(crate) fn settings(more: &str) -> String {
    format!(
        "[metrics]\nlisten = \"127.0.0.1:0\"\n\n[tls]\ncert = \"api.pem\"\nkey = \"api.key\"\n{more}"
    )
}

/// Where it listens, without the scheme.
pub(crate) fn address(daemon: &Daemon) -> &str {
    daemon.url.strip_prefix("http://").unwrap()
}

fn metrics_address(daemon: &Daemon) -> String {
    let log = daemon.log();
    let line = log.lines().rfind(|line| line.contains("metrics are served")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["address"].as_str().unwrap().to_owned()
}

/// A value of a metric, by its whole name with labels.
async fn metric(daemon: &Daemon, client: &reqwest::Client, name: &str) -> f64 {
    let url = format!("https://{}/metrics", metrics_address(daemon));
    let text = client.get(url).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not in:\n{text}")).parse().unwrap()
}

pub(crate) async fn connect(daemon: &Daemon, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address(daemon)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(config).connect(name, stream).await.unwrap()
}

/// Asks over HTTP/1.1 on a connection that stays open; gives the status line.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("\"alive\"") {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).await.unwrap();
        assert!(n > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    text.lines().next().unwrap().to_owned()
}

async fn served(daemon: &Daemon, authority: &Authority) -> Vec<u8> {
    let stream = connect(daemon, tls_client(authority, None)).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Runs curl, where it is there; none otherwise.
async fn curl(arguments: &[&str]) -> Option<(i32, String)> {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "-m", "20"]).args(arguments);
    let output = command.output().await.ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some((output.status.code().unwrap_or(-1), text))
}

#[tokio::test]
async fn the_api_and_the_metrics_speak_tls_of_both_versions_and_http_of_both() {
    let mut world = World::start().await;
    let (authority, stranger) = (Authority::new("tests"), Authority::new("somebody else"));
    authority.for_loopback().write(world.folder(), "api");
    let mut daemon = world.another_daemon_with(&settings("")).await;
    let url = format!("https://{}/v1/whoami", address(&daemon));
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let builder = http_client(&authority, None);
        let client = builder.tls_version_min(version).tls_version_max(version).build().unwrap();
        let answer = client.get(&url).bearer_auth(&world.admin.token).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    }
    let client = http_client(&authority, None).http1_only().build().unwrap();
    let answer = client.get(&url).bearer_auth(&world.admin.token).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
    let untrusting = http_client(&stranger, None).build().unwrap();
    assert!(untrusting.get(&url).send().await.unwrap_err().is_connect());

    let ca = world.folder().join("ca.pem");
    write(&ca, &authority.pem(), 0o644);
    let ca = ca.display().to_string();
    for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let healthz = format!("https://{}/healthz", address(&daemon));
        let arguments = [&version[..], &["--cacert", &ca, &healthz]].concat();
        if let Some((code, said)) = curl(&arguments).await {
            assert!(code == 0 && said.contains("alive"), "{code} {said}");
        }
    }

    let ends_at = metric(&daemon, &client, "pgvalet_tls_certificate_expiration_timestamp_seconds");
    assert_eq!(ends_at.await, 3_786_912_000.0, "2090");
    assert!(metric(&daemon, &client, "pgvalet_tls_handshakes_total{outcome=\"ok\"}").await > 4.0);
    let ready = client.get(url.replace("v1/whoami", "readyz")).send().await.unwrap();
    let ready: serde_json::Value = ready.json().await.unwrap();
    assert!(ready["parts"].as_array().unwrap().iter().any(|part| part["name"] == "loop tls"));
    assert!(daemon.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn what_is_no_tls_harms_nobody_and_plain_http_is_told_so() {
    let mut world = World::start().await;
    let authority = Authority::new("tests");
    authority.for_loopback().write(world.folder(), "api");
    let mut daemon = world.another_daemon_with(&settings("")).await;
    let client = http_client(&authority, None).build().unwrap();
    let url = format!("https://{}/healthz", address(&daemon));

    // Three that never finish: nothing, a few bytes of a handshake, and a record that does not end.
    let mut slow = Vec::new();
    for sent in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stream = TcpStream::connect(address(&daemon)).await.unwrap();
        stream.write_all(sent).await.unwrap();
        slow.push(stream);
    }
    for garbage in [
        &b"\x00\x01\x02\x03\x04\x05\x06\x07"[..],
        b"\x16\x03\x01\x00\x05\xff\x00\x00\x01\x00",
        b"SSH-2.0-x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address(&daemon)).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("alive"));
    }
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200, "others are served meanwhile");

    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = plain.get(format!("{}/v1/whoami", daemon.url)).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "needs_tls");
    assert!(problem["detail"].as_str().unwrap().contains("https://"), "{problem}");

    for mut stream in slow {
        let ended = tokio::time::timeout(seconds(15), stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "closed at the deadline of handshakes");
    }
    for (outcome, least) in [("slow", 3.0), ("broken", 2.0), ("plain", 1.0)] {
        let name = format!("pgvalet_tls_handshakes_total{{outcome=\"{outcome}\"}}");
        let seen = metric(&daemon, &client, &name).await;
        assert!(seen >= least, "{outcome}: {seen}");
    }
    assert!(daemon.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn a_new_pair_is_served_while_connections_live_and_a_bad_one_is_told_once() {
    let mut world = World::start().await;
    let authority = Authority::new("tests");
    let (first, second) = (authority.for_loopback(), authority.for_loopback());
    let (cert, key) = first.write(world.folder(), "api");
    let mut daemon = world.another_daemon_with(&settings("")).await;
    let client = http_client(&authority, None).build().unwrap();
    let failed = "pgvalet_tls_certificate_loads_total{outcome=\"failed\"}";
    let told = |daemon: &Daemon| {
        let lines = daemon.lines_at("ERROR");
        lines.iter().filter(|line| line.contains("cannot be used")).count()
    };

    // Found by itself; the connection of before goes on.
    let mut old = connect(&daemon, tls_client(&authority, None)).await;
    assert_eq!(ask(&mut old).await, "HTTP/1.1 200 OK");
    second.write(world.folder(), "api");
    eventually("the new pair is served", seconds(15), async || {
        ask(&mut old).await;
        served(&daemon, &authority).await == second.der().to_vec()
    })
    .await;
    assert_eq!(ask(&mut old).await, "HTTP/1.1 200 OK");

    // A key that is not the certificate's: told once, and what was served is served on.
    write(&key, &first.key, 0o600);
    daemon.signal(Signal::HUP);
    eventually("it is told", seconds(10), async || told(&daemon) == 1).await;
    daemon.signal(Signal::HUP);
    let passes =
        metric(&daemon, &client, "pgvalet_loop_passes_total{loop=\"tls\",outcome=\"ok\"}").await;
    eventually("it was looked at again", seconds(15), async || {
        let name = "pgvalet_loop_passes_total{loop=\"tls\",outcome=\"ok\"}";
        metric(&daemon, &client, name).await > passes + 1.0
    })
    .await;
    assert_eq!(told(&daemon), 1, "and not again");
    assert_eq!(metric(&daemon, &client, failed).await, 1.0);
    assert_eq!(served(&daemon, &authority).await, second.der().to_vec());

    // A certificate that is over does not take the place of one that holds; nor does a key that others read.
    let names = &["ip:127.0.0.1"];
    let over = authority.sign(&Wanted { names, years: (2020, 2021), ..Wanted::default() });
    over.write(world.folder(), "api");
    daemon.signal(Signal::HUP);
    eventually("it is told", seconds(10), async || told(&daemon) == 2).await;
    let (_, key) = second.write(world.folder(), "api");
    write(&key, &second.key, 0o666);
    daemon.signal(Signal::HUP);
    eventually("it is told", seconds(10), async || told(&daemon) == 3).await;
    assert!(daemon.log().contains("chmod 600"));
    fs::remove_file(&cert).unwrap();
    assert_eq!(served(&daemon, &authority).await, second.der().to_vec());
    assert_eq!(ask(&mut old).await, "HTTP/1.1 200 OK", "the oldest connection is still there");

    first.write(world.folder(), "api");
    daemon.signal(Signal::HUP);
    eventually("the first is back", seconds(10), async || {
        served(&daemon, &authority).await == first.der().to_vec()
    })
    .await;
    assert!(daemon.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn a_daemon_whose_certificate_is_over_starts_and_says_that_it_is_not_ready() {
    let mut world = World::start().await;
    let authority = Authority::new("tests");
    let names = &["ip:127.0.0.1"];
    let over = authority.sign(&Wanted { names, years: (2020, 2021), ..Wanted::default() });
    over.write(world.folder(), "api");
    let mut daemon = world.another_daemon_with(&settings("")).await;
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    let client = client.build().unwrap();
    let url = format!("https://{}/readyz", address(&daemon));
    eventually("it says so", seconds(10), async || {
        let answer = client.get(&url).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        status == 503 && text.contains("the certificate ended at 2021-01-01")
    })
    .await;
    authority.for_loopback().write(world.folder(), "api");
    daemon.signal(Signal::HUP);
    let client = http_client(&authority, None).build().unwrap();
    eventually("it is ready with another one", seconds(10), async || {
        client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    assert!(daemon.stop().await.success());
    world.finish().await;
}

/// What loading settings with these lines of `[tls]` says.
fn faults(folder: &Path, tls: &str, variables: &[(&str, &str)]) -> String {
    let path = folder.join("p.toml");
    fs::write(&path, format!("listen = \"0.0.0.0:0\"\ndata_dir = \"d\"\n{tls}")).unwrap();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    match Config::load(Some(&path), variables.iter().map(own)) {
        Ok(config) => config.describe(),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn faults_of_the_files_are_told_at_the_start_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new("tests");
    let (pair, other): (Pair, Pair) = (authority.for_loopback(), authority.for_loopback());
    let (cert, key) = pair.write(folder, "api");
    let (_, other_key) = other.write(folder, "other");
    write(&folder.join("ca.pem"), &authority.pem(), 0o644);
    write(&folder.join("crl.pem"), &authority.revoked(&[&other], 2090), 0o644);
    write(&folder.join("none.pem"), "nothing\n", 0o600);
    write(
        &folder.join("broken.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        0o644,
    );
    let both = "[tls]\ncert = \"api.pem\"\nkey = \"api.key\"\n";
    let good = faults(folder, both, &[]);
    assert!(
        good.contains("the certificate ends at 2090-01-01"),
        "beyond loopback it is enough: {good}"
    );
    let clients = format!(
        "{both}client_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"\nclient_certificates = \"required\"\n"
    );
    assert!(faults(folder, &clients, &[]).contains("client_certificates = \"required\""));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let variables = [("PGVALET_TLS_CERT", cert.as_str()), ("PGVALET_TLS_KEY", key.as_str())];
    assert!(faults(folder, "", &variables).contains("the certificate ends at"));

    for (tls, variables, said) in [
        ("", &[][..], "allow_plaintext"),
        ("", &variables[..1], "PGVALET_TLS_KEY"),
        ("[tls]\ncert = \"api.pem\"\n", &[], "both `cert` and `key`"),
        ("[tls]\ncert = \"api.pem\"\nkey = \"gone.key\"\n", &[], "gone.key cannot be read"),
        (
            "[tls]\ncert = \"api.pem\"\nkey = \"other.key\"\n",
            &[],
            "is not the one of the certificate",
        ),
        ("[tls]\ncert = \"none.pem\"\nkey = \"api.key\"\n", &[], "there is no certificate in"),
        ("[tls]\ncert = \"broken.pem\"\nkey = \"api.key\"\n", &[], "broken.pem cannot be used"),
        ("[tls]\ncert = \"api.pem\"\nkey = \"none.pem\"\n", &[], "there is no private key"),
        ("[tls]\ncert = \".\"\nkey = \"api.key\"\n", &[], "is not a file"),
        (
            "[tls]\ncert = \"api.pem\"\nkey = \"api.key\"\nclient_crl = \"crl.pem\"\n",
            &[],
            "needs `client_ca`",
        ),
        (
            "[tls]\ncert = \"api.pem\"\nkey = \"api.key\"\nclient_ca = \"none.pem\"\n",
            &[],
            "no certificate in it",
        ),
        (
            "[tls]\ncert = \"api.pem\"\nkey = \"api.key\"\nclient_ca = \"ca.pem\"\nclient_crl = \"ca.pem\"\n",
            &[],
            "BEGIN X509 CRL",
        ),
        (
            "[tls]\ncert = \"api.pem\"\nkey = \"api.key\"\nclient_certificates = \"maybe\"\n",
            &[],
            "\"optional\", \"required\"",
        ),
    ] {
        let told = faults(folder, tls, variables);
        assert!(told.contains(said), "{tls:?} tells {told}");
        assert!(!told.contains("PRIVATE KEY"), "{told}");
    }
    write(&other_key, &other.key, 0o604);
    let told = faults(folder, "[tls]\ncert = \"other.pem\"\nkey = \"other.key\"\n", &[]);
    assert!(told.contains("chmod 600") && told.contains("0604"), "{told}");
}
