//! Administrators' passwords that pgvalet does not keep: from a program, a file that changes, AWS; and the
//! certificate that a target is shown.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{
    support::{
        certificates::{Authority, Pair, Wanted, write},
        daemon::{Daemon, binary},
        people::{Answer, Person},
        postgres::{Postgres, own_cluster},
        sessions::{sign_in, text},
        world::{Plan, World},
    },
    targets::admin_password,
};

/// The world's target as it is to be recorded, but for what differs.
fn target(world: &World, differs: Value) -> Value {
    let shop = world.shop();
    let mut body = json!({
        "environment": "test", "host": "127.0.0.1", "port": world.target_path.port(),
        "sslmode": "disable", "admin_user": shop, "databases": [shop],
    });
    body.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
    body
}

fn at(world: &World, daemon: &Daemon) -> Person {
    world.admin.at(&daemon.url)
}

/// Sets the admin's password by hand, and ends its sessions, so that the next connection is a new one.
async fn change_password(world: &World, password: &str) {
    let mut session = world.on_target().await;
    let change = format!("ALTER ROLE {} PASSWORD '{password}'", world.shop());
    sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&mut session).await.unwrap();
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
        world.shop()
    );
    text(&mut session, &end).await;
}

/// Runs the command line at a daemon; its status, and what it said.
async fn pgvalet(world: &World, daemon: &Daemon, words: &[&str]) -> (i32, String) {
    let mut command = binary();
    command.args(words).env("PGVALET_URL", &daemon.url).env("PGVALET_TOKEN", &world.admin.token);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (text_only, path) = (folder.join(format!("{name}.text")), folder.join(name));
    write(&text_only, &format!("#!/bin/sh\n{text}\n"), 0o755);
    // By another process: what a test beside this one starts may hold a file that we write open for a moment, and what is
    // open for writing cannot be run (ETXTBSY).
    let copied = std::process::Command::new("cp").arg("-p").args([&text_only, &path]).status();
    assert!(copied.unwrap().success());
    path
}

#[tokio::test]
async fn a_program_of_the_daemons_own_choice_gives_the_password_whenever_it_is_asked() {
    let mut world = World::start().await;
    let folder = world.folder().to_owned();
    let (password, asked) = (folder.join("given"), folder.join("asked"));
    let typed = admin_password(&world);
    write(&password, &typed, 0o600);
    let program = script(
        &folder,
        "password",
        &format!("echo once >> {}\ncat {}", asked.display(), password.display()),
    );
    let program = program.display().to_string();
    let mut daemon = world
        .another_daemon_with(&format!("[targets]\npassword_commands = [\"{program}\"]\n"))
        .await;
    let (here, path) = (at(&world, &daemon), format!("/v1/targets/{}", world.name));
    let source = json!({ "admin_source": { "command": [program, "an argument"] } });
    let body = target(&world, source.clone());

    // Only where the daemon's own configuration names it; nothing else of its machine.
    let told = world.admin.put(&path, &body).await.expect_problem(422, "invalid_request");
    assert!(told.to_string().contains("password_commands"), "{told}");
    let other = json!({ "admin_source": { "command": ["/bin/cat", "/etc/passwd"] } });
    here.put(&path, &target(&world, other)).await.expect_problem(422, "invalid_request");
    let both = json!({ "admin_source": { "command": [program] }, "admin_password": "x" });
    here.put(&path, &target(&world, both)).await.expect_problem(422, "invalid_request");
    let renewed = json!({ "admin_source": { "command": [program] }, "rotate_admin": "90d" });
    let told =
        here.put(&path, &target(&world, renewed)).await.expect_problem(422, "invalid_request");
    assert!(told.to_string().contains("rotate_admin"), "{told}");
    let recorded = here.put(&path, &body).await.expect(200);
    assert_eq!(
        (&recorded["rotate_admin"], &recorded["admin_source"]),
        (&json!("never"), &source["admin_source"])
    );
    let mut state = world.on_state().await;
    let kept = "SELECT count(*) FROM target WHERE admin_password IS NOT NULL";
    assert_eq!(text(&mut state, kept).await, "0", "the sealed one is forgotten");

    let issued = here.ask(&world.profile("read"), json!({})).await.expect(201);
    sign_in(&issued).await.unwrap();
    let problem = world.admin.ask(&world.profile("read"), json!({})).await;
    problem.expect_problem(503, "admin_password_unavailable");

    // Another one: the first sign-in is refused, the program is asked once more, and nobody sees an error.
    let next = "a Fresh-one'\"";
    world.secrets.remember(next);
    write(&password, next, 0o600);
    change_password(&world, &next.replace('\'', "''")).await;
    here.ask(&world.profile("read"), json!({})).await.expect(201);
    // One that nobody lets in is refused, and not asked for again and again.
    write(&password, "wrong", 0o600);
    change_password(&world, "neither").await;
    let before = fs::read_to_string(&asked).unwrap().lines().count();
    let refused = here.ask(&world.profile("read"), json!({})).await;
    refused.expect_problem(502, "target_refused_admin");
    let times = fs::read_to_string(&asked).unwrap().lines().count() - before;
    assert!(times <= 4, "asked {times} times");
    write(&password, "neither", 0o600);
    crate::support::eventually("it is let in again", crate::support::seconds(30), async || {
        here.ask(&world.profile("read"), json!({})).await.status == 201
    })
    .await;

    // Where it comes from is told, and that pgvalet does not renew it; never what it is.
    let renew = here.post(&format!("{path}/rotate-admin"), &json!({})).await;
    renew.expect_problem(409, "admin_password_not_kept");
    let (code, shown) = pgvalet(&world, &daemon, &["target", "show", &world.name]).await;
    assert!(code == 0 && shown.contains(&format!("the command {program}")), "{shown}");
    let (_, told) = pgvalet(&world, &daemon, &["doctor", &world.name]).await;
    assert!(told.contains(&program), "{told}");
    let export = here.get("/v1/export").await.expect(200);
    let export = export["text"].as_str().unwrap();
    assert!(
        export.contains(&format!("password = {{ command = [\"{program}\", \"an argument\"] }}")),
        "{export}"
    );
    let plan =
        here.post("/v1/plan", &json!({ "name": "e.toml", "text": export })).await.expect(200);
    assert_eq!(plan["changes"], false, "{plan}");
    // Whoever says nothing of it leaves it; a password that is kept takes its place.
    let silent =
        here.put(&path, &target(&world, json!({ "environment": "other" }))).await.expect(200);
    assert_eq!(silent["admin_source"], source["admin_source"]);
    let typed = json!({ "admin_password": "neither", "rotate_admin": "never" });
    let kept = here.put(&path, &target(&world, typed)).await.expect(200);
    assert_eq!(kept["admin_source"], Value::Null);
    world.issue("read", json!({})).await;
    assert!(daemon.stop().await.success());
    world.finish().await;
}

#[tokio::test]
async fn a_file_that_changes_is_read_anew() {
    let mut world = World::start().await;
    let secrets = world.folder().join("secrets");
    fs::create_dir(&secrets).unwrap();
    let token = secrets.join("token");
    write(&token, &format!("{}\n", admin_password(&world)), 0o600);
    let lines = format!("[targets]\npassword_folders = [\"{}\"]\n", secrets.display());
    let mut daemon = world.another_daemon_with(&lines).await;
    let (here, path) = (at(&world, &daemon), format!("/v1/targets/{}", world.name));
    let outside = json!({ "admin_source": { "daemon_file": "/etc/passwd" } });
    let told =
        here.put(&path, &target(&world, outside)).await.expect_problem(422, "invalid_request");
    assert!(told.to_string().contains("password_folders"), "{told}");
    let file = format!(
        "[target.{}]\nenvironment = \"test\"\nhost = \"127.0.0.1\"\nport = {}\nsslmode = \"disable\"\ndatabases = [\"{}\"]\n\
         admin = {{ user = \"{}\", password = {{ daemon_file = \"{}\" }} }}\n",
        world.name,
        world.target_path.port(),
        world.shop(),
        world.shop(),
        token.display()
    );
    let code = json!({ "name": "t.toml", "text": file });
    let plan = here.post("/v1/plan", &code).await.expect(200);
    assert_eq!(plan["lines"][0]["changed"], json!(["admin.password"]), "{plan}");
    here.post("/v1/apply", &code).await.expect(200);
    for next in ["second", "third"] {
        write(&token, next, 0o600);
        change_password(&world, next).await;
        here.ask(&world.profile("read"), json!({})).await.expect(201);
    }
    let typed = json!({ "admin_password": "third", "rotate_admin": "never" });
    here.put(&path, &target(&world, typed)).await.expect(200);
    assert!(daemon.stop().await.success());
    world.finish().await;
}

/// A server that asks for the password as it is, over TLS, and lets nobody in; gives its port, and what was
/// sent to it.
async fn wants_clear_text(authority: &Authority) -> (u16, Arc<Mutex<Vec<String>>>) {
    let pair = authority.for_loopback();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.der()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8];
            // Whoever only looks whether somebody is there sends nothing.
            if stream.read_exact(&mut request).await.is_err() {
                continue;
            }
            stream.write_all(b"S").await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.unwrap();
            let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
            stream.read_exact(&mut startup).await.unwrap();
            stream.write_all(b"R\x00\x00\x00\x08\x00\x00\x00\x03").await.unwrap();
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut password = vec![0; usize::try_from(length).unwrap() - 4];
            stream.read_exact(&mut password).await.unwrap();
            password.pop();
            sent.lock().unwrap().push(String::from_utf8(password).unwrap());
            let fields = b"SFATAL\0VFATAL\0C28P01\0Mno\0\0";
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            stream.write_all(&[&b"E"[..], &length, fields].concat()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (port, seen)
}

#[tokio::test]
async fn a_token_for_aws_is_made_by_the_daemon_and_sent_to_a_known_server_only() {
    let authority = Authority::new("rds");
    let (port, seen) = wants_clear_text(&authority).await;
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let environment = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", secret)];
    let own = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let plan = Plan { environment: own.to_vec(), ..Plan::default() };
    let world = World::with(plan).await;
    world.secrets.remember(secret);
    let mut body = json!({
        "host": "127.0.0.1", "port": port, "admin_user": "pgvalet_admin", "databases": ["shop"],
        "sslrootcert_pem": authority.pem(), "admin_source": { "aws_rds": { "region": "eu-west-1" } },
    });
    let path = format!("/v1/targets/{}-rds", world.name);
    world.admin.put(&path, &body).await.expect_problem(502, "target_refused_admin");
    let tokens = seen.lock().unwrap().clone();
    assert!((1..=3).contains(&tokens.len()), "once, and once more when it is refused: {tokens:?}");
    for token in &tokens {
        let begins = format!(
            "127.0.0.1:{port}/?Action=connect&DBUser=pgvalet_admin&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F"
        );
        assert!(token.starts_with(&begins), "{token}");
        for part in [
            "%2Feu-west-1%2Frds-db%2Faws4_request",
            "&X-Amz-Expires=900",
            "&X-Amz-SignedHeaders=host",
            "&X-Amz-Signature=",
        ] {
            assert!(token.contains(part), "{token}");
        }
    }
    body["sslmode"] = json!("require");
    let told = world.admin.put(&path, &body).await.expect_problem(422, "invalid_request");
    assert!(told.to_string().contains("verify-full"), "{told}");
    world.finish().await;
}

/// Has a server speak TLS, and ask for a client's certificate of an authority.
async fn speak_tls(postgres: &Postgres, server: &Authority, clients: &Authority, hba: &str) {
    let folder = postgres.data_dir();
    let owner = fs::metadata(folder).unwrap();
    let pair = server.for_loopback();
    let rules = folder.join("pg_hba.conf");
    let before = fs::read_to_string(&rules).unwrap();
    for (name, text) in [
        ("server.crt", pair.cert.as_str()),
        ("server.key", pair.key.as_str()),
        ("clients.crt", &clients.pem()),
        ("pg_hba.conf", &format!("{hba}\n{before}")),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let mut session = postgres.superuser("postgres").await;
    for statement in [
        "ALTER SYSTEM SET ssl = on",
        "ALTER SYSTEM SET ssl_ca_file = 'clients.crt'",
        "SELECT pg_reload_conf()",
    ] {
        sqlx::raw_sql(statement).execute(&mut session).await.unwrap();
    }
    crate::support::eventually("it speaks TLS", crate::support::seconds(20), async || {
        let mut fresh = postgres.superuser("postgres").await;
        text(&mut fresh, "SELECT current_setting('ssl')").await == "on"
    })
    .await;
}

/// A world whose shop is on a server that asks for clients' certificates.
struct Shown {
    world: World,
    cluster: Arc<Postgres>,
    server: Authority,
    clients: Authority,
    /// In the name of the shop's admin.
    own: Pair,
    /// In somebody else's.
    other: Pair,
    typed: String,
    _folder: tempfile::TempDir,
}

impl Shown {
    async fn start() -> Self {
        let (cluster, folder) = own_cluster().await;
        let plan = Plan { shop_on: Some(Arc::clone(&cluster)), ..Plan::default() };
        let world = World::with(plan).await;
        let (server, clients) = (Authority::new("server"), Authority::new("clients"));
        let shop = world.shop();
        let own = clients.sign(&Wanted { common_name: &shop, ..Wanted::default() });
        let other = clients.sign(&Wanted { common_name: "somebody", ..Wanted::default() });
        let typed = admin_password(&world);
        let shown = Self { world, cluster, server, clients, own, other, typed, _folder: folder };
        shown.let_in("scram-sha-256 clientcert=verify-full").await;
        shown
    }

    /// Has the server let the admin in in this way alone.
    async fn let_in(&self, method: &str) {
        let shop = self.world.shop();
        let hba =
            format!("hostssl all {shop} 127.0.0.1/32 {method}\nhostnossl all {shop} all reject");
        speak_tls(&self.cluster, &self.server, &self.clients, &hba).await;
    }

    /// The target over TLS, but for what differs.
    fn target(&self, differs: Value) -> Value {
        let mut body = json!({
            "sslmode": "verify-full", "sslrootcert_pem": self.server.pem(),
            "admin_password": self.typed, "rotate_admin": "never",
        });
        body.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
        target(&self.world, body)
    }

    async fn put(&self, body: &Value) -> Answer {
        self.world.admin.put(&format!("/v1/targets/{}", self.world.name), body).await
    }
}

fn shown(pair: &Pair) -> Value {
    json!({ "sslcert_pem": pair.cert, "ssl_key": pair.key })
}

#[tokio::test]
async fn a_target_is_shown_a_certificate_whose_key_is_sealed() {
    let shop = Shown::start().await;
    let own = &shop.own;
    let mut in_plain = shown(own);
    in_plain["sslmode"] = json!("disable");
    for (differs, status, code) in [
        (json!({}), 502, "target_refused_admin"),
        (json!({ "sslcert_pem": own.cert }), 422, "invalid_request"),
        (json!({ "sslcert_pem": own.key, "ssl_key": own.key }), 422, "invalid_request"),
        (shown(&shop.other), 502, "target_refused_admin"),
        (in_plain, 422, "invalid_request"),
    ] {
        let answer = shop.put(&shop.target(differs.clone())).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &json!(code)),
            "{differs} {}",
            answer.text
        );
        assert!(!answer.text.contains("PRIVATE KEY"), "{}", answer.text);
    }
    let wanted = Wanted { common_name: &shop.world.shop(), ..Wanted::default() };
    let stranger = Authority::new("clients").sign(&wanted);
    let answer = shop.put(&shop.target(shown(&stranger))).await;
    assert!(
        [502, 503].contains(&answer.status),
        "of an authority that the server does not know: {}",
        answer.text
    );

    let recorded = shop.put(&shop.target(shown(own))).await.expect(200);
    assert!(!recorded.to_string().contains("PRIVATE KEY"), "{recorded}");
    assert_eq!(recorded["sslcert_pem"], own.cert.as_str());
    shop.world.issue("read", json!({})).await;
    let mut state = shop.world.on_state().await;
    let sealed = "SELECT count(*) FROM target WHERE ssl_key IS NOT NULL AND position('PRIVATE'::bytea IN ssl_key) = 0";
    assert_eq!(text(&mut state, sealed).await, "1");

    // The certificate alone, where the server takes it for proof enough.
    shop.let_in("cert").await;
    let mut alone = shop.target(json!({ "admin_source": "client_certificate" }));
    alone.as_object_mut().unwrap().remove("admin_password");
    let without = shop.put(&alone).await.expect_problem(422, "invalid_request");
    assert!(without.to_string().contains("sslcert"), "{without}");
    alone["sslcert_pem"] = json!(own.cert);
    shop.put(&alone).await.expect(200);
    shop.world.issue("read", json!({})).await;
    let world = &shop.world;
    let (_, told) = pgvalet(world, &world.daemon, &["target", "show", &world.name]).await;
    assert!(told.contains("the client certificate alone"), "{told}");
    shop.world.finish().await;
}

#[tokio::test]
async fn certificates_and_keys_are_read_by_whoever_applies() {
    let shop = Shown::start().await;
    let (world, folder) = (&shop.world, shop.world.folder());
    shop.own.write(folder, "own");
    shop.other.write(folder, "other");
    write(&folder.join("server-ca.pem"), &shop.server.pem(), 0o644);
    write(&folder.join("typed.secret"), &shop.typed, 0o600);
    let path = folder.join("t.toml");
    let file = |pair: &str| {
        let (name, user, port) = (&world.name, world.shop(), world.target_path.port());
        format!(
            "[target.{name}]\nenvironment = \"test\"\nhost = \"127.0.0.1\"\nport = {port}\ndatabases = [\"{user}\"]\n\
             rotate_admin = \"never\"\nsslrootcert = {{ file = \"server-ca.pem\" }}\n\
             sslcert = {{ file = \"{pair}.pem\" }}\nsslkey = {{ file = \"{pair}.key\" }}\n\
             admin = {{ user = \"{user}\", password = {{ file = \"typed.secret\" }} }}\n"
        )
    };
    fs::write(&path, file("own")).unwrap();
    let code = path.display().to_string();
    let run = async |words: &[&str]| pgvalet(world, &world.daemon, words).await;
    let (status, said) = run(&["plan", "-f", &code]).await;
    assert!(status == 0 && said.contains("sslcert"), "{said}");
    let (status, said) = run(&["apply", "--yes", "-f", &code]).await;
    assert_eq!(status, 0, "{said}");
    let (status, said) = run(&["plan", "-f", &code]).await;
    assert!(status == 0 && said.contains("nothing to change"), "{said}");
    world.issue("read", json!({})).await;

    // The export has the certificate and no key, and changes nothing.
    let export = world.admin.get("/v1/export").await.expect(200);
    let export = export["text"].as_str().unwrap();
    assert!(export.contains("BEGIN CERTIFICATE") && !export.contains("PRIVATE KEY"), "{export}");
    let again = json!({ "name": "e.toml", "text": export });
    let again = world.admin.post("/v1/plan", &again).await.expect(200);
    assert_eq!(again["changes"], false, "{again}");

    // Somebody else's is refused by the server, and the one that is recorded goes on.
    fs::write(&path, file("other")).unwrap();
    let (status, said) = run(&["apply", "--yes", "-f", &code]).await;
    assert!(status != 0 && said.contains("sign in"), "{said}");
    world.issue("read", json!({})).await;
    let without = file("own").replace("sslkey = { file = \"own.key\" }\n", "");
    fs::write(&path, without.replace("own.pem", "other.pem")).unwrap();
    let (status, said) = run(&["apply", "--yes", "-f", &code]).await;
    assert!(status != 0 && said.contains("sslkey"), "{said}");
    shop.world.finish().await;
}
