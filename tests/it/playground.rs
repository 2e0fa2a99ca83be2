//! `pgvalet dev`: what it gives, and that it leaves nothing behind, however it ends.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use pgvalet::secret::Secret;
use serde_json::Value;

use crate::support::{
    browser::{Browser, form},
    daemon::binary,
    eventually, seconds,
};

/// The playground of a child that printed its port: the folder under /tmp whose server listens there.
fn folder_of(port: &str) -> Option<PathBuf> {
    let folders = fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.path());
    folders
        .filter(|path| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("pgvalet-dev-"))
        })
        .find(|path| {
            let file = fs::read_to_string(path.join("postgres/postmaster.pid"));
            file.is_ok_and(|text| text.lines().nth(3) == Some(port))
        })
}

/// The processes that work in a folder or name it.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder_text = folder.display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes
        .filter(|process| {
            let names = fs::read(process.join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&folder_text));
            names || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .map(|process| process.display().to_string())
        .collect()
}

fn dev(arguments: &[&str]) -> Command {
    let mut command = binary();
    command.arg("dev").args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a whole playground printed: status, output, errors.
async fn whole(arguments: &[&str]) -> (i32, String, String) {
    let mut command = dev(arguments);
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Starts one whose program tells the port and then waits for us; gives its folder.
async fn start() -> (Child, PathBuf) {
    let mut child = dev(&["--", "sh", "-c", "echo $PGPORT; exec cat"]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let port = tokio::task::spawn_blocking(move || {
        let (mut line, mut byte) = (String::new(), [0]);
        while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        line
    })
    .await
    .unwrap();
    let folder = folder_of(&port);
    let Some(folder) = folder else {
        let _ = child.kill();
        panic!("no playground listens on port {port:?}");
    };
    assert!(processes_of(&folder).len() > 2, "the look at processes sees them");
    (child, folder)
}

async fn end(child: &mut Child) -> std::process::ExitStatus {
    let mut status = None;
    eventually("the playground ends", seconds(30), async || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    status.unwrap()
}

#[tokio::test]
async fn one_command_gives_a_lease_in_a_shop() {
    let query = "select current_user, session_user, count(*) from orders";
    let psql = ["--", "psql", "-X", "-q", "-A", "-t", "-c", query];
    let (code, out, err) = whole(&psql).await;
    assert_eq!(code, 0, "{out} {err}");
    let parts: Vec<&str> = out.trim().split('|').collect();
    assert_eq!((parts[0], parts[2]), ("pgvg_shop_read", "12000"), "{out}");
    assert!(parts[1].starts_with("pgv_shop-read_you_dev_"), "{out}");
}

#[tokio::test]
async fn its_status_is_the_programs_and_nothing_is_left() {
    let (mut child, folder) = start().await;
    drop(child.stdin.take());
    assert!(end(&mut child).await.success());
    assert!(!folder.exists());
    assert_eq!(processes_of(&folder), Vec::<String>::new());

    let (code, out, err) = whole(&["--", "sh", "-c", "exit 7"]).await;
    assert_eq!((code, out.as_str()), (7, ""), "{err}");
    let (code, _, err) = whole(&["--", "/no/such/program"]).await;
    assert!(code != 0 && err.contains("/no/such/program"), "{code} {err}");
}

#[tokio::test]
async fn a_signal_leaves_nothing() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (mut child, folder) = start().await;
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(end(&mut child).await.code(), Some(code));
        assert!(!folder.exists(), "{signal:?}");
        assert_eq!(processes_of(&folder), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_kill_leaves_nothing() {
    let (mut child, folder) = start().await;
    child.kill().unwrap();
    end(&mut child).await;
    eventually("the server is gone", seconds(20), async || processes_of(&folder).is_empty()).await;
    eventually("the folder is gone", seconds(20), async || !folder.exists()).await;
}

#[tokio::test]
async fn a_kept_playground_is_found_again() {
    let folder = tempfile::Builder::new().prefix("pgvalet-it-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let data = folder.path().join("kept");
    let data_text = data.display().to_string();
    let program = env!("CARGO_BIN_EXE_pgvalet");
    let leases = "psql -X -q -A -t -c 'select count(*) from orders'";
    let (code, out, err) = whole(&["--data", &data_text, "--", "sh", "-c", leases]).await;
    assert_eq!((code, out.trim()), (0, "12000"), "{err}");
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    assert_eq!(data.join("admin.token").metadata().unwrap().permissions().mode() & 0o077, 0);
    assert_eq!(processes_of(&data), Vec::<String>::new());

    // The first token still holds; of the first run's lease nothing is live.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = free.to_string();
    let look = format!(
        "PGVALET_URL=http://{listen} PGVALET_TOKEN_FILE={data_text}/admin.token {program} leases --all --profile shop-read --json"
    );
    let again = ["--data", &data_text, "--listen", &listen, "--", "sh", "-c", &look];
    let (code, out, err) = whole(&again).await;
    assert_eq!(code, 0, "{err}");
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    let items = listed.as_array().or_else(|| listed["items"].as_array()).unwrap();
    let states: Vec<&str> = items.iter().map(|lease| lease["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "revoked"], "{listed}");
    assert_eq!(fs::read_to_string(data.join("admin.token")).unwrap(), token);
    assert_eq!(processes_of(&data), Vec::<String>::new());
}

/// Lines of a pipe until one of them has this in it.
async fn lines_until(pipe: impl std::io::Read + Send + 'static, last: &'static str) -> Vec<String> {
    let read = move || {
        let mut lines = Vec::new();
        for line in BufReader::new(pipe).lines() {
            lines.push(line.unwrap());
            if lines.last().unwrap().contains(last) {
                break;
            }
        }
        lines
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// A command of somebody whose home this is: status, output, errors.
async fn at_home(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = binary();
    command.args(arguments).env("HOME", home).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// As the README has it: the playground with its provider, signing in by device, a lease, psql, signing out.
#[tokio::test]
async fn a_person_of_its_provider_signs_in_and_works_in_a_lease() {
    let home = tempfile::Builder::new().prefix("pgvalet-it-").tempdir().unwrap();
    let mut playground = dev(&["--with-idp"]).spawn().unwrap();
    let said = lines_until(playground.stdout.take().unwrap(), "Ctrl-C stops it").await;
    let line = |part: &str| said.iter().find(|line| line.contains(part)).unwrap().clone();
    let url = line("login --url").rsplit(' ').next().unwrap().to_owned();
    let issuer = line("where somebody leaves").trim().split("/   #").next().unwrap().to_owned();

    let mut login = binary();
    login.args(["login", "--url", &url]).env("HOME", home.path());
    login.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut login = login.spawn().unwrap();
    let mut told = BufReader::new(login.stderr.take().unwrap());
    let mut read = Vec::new();
    while !read.last().is_some_and(|line: &String| line.contains("Waiting until")) {
        let mut line = String::new();
        assert!(told.read_line(&mut line).unwrap() > 0, "{read:?}");
        read.push(line);
    }
    assert!(read.iter().any(|line| line.trim() == format!("{issuer}/device")), "{read:?}");
    let code =
        read.iter().map(|line| line.trim()).find(|line| line.len() == 9 && line.contains('-'));
    let body = form(&[("user_code", code.unwrap()), ("person", "sub-ada")]);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(format!("{issuer}/device")).body(body).send().await.unwrap();
    assert!(end(&mut login).await.success());

    let (code, who, err) = at_home(home.path(), &["whoami", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let who: Value = serde_json::from_str(&who).unwrap();
    assert_eq!(
        (who["principal"].as_str(), who["session"].as_str()),
        (Some("person:ada"), Some("command-line"))
    );
    let (code, lease, err) = at_home(home.path(), &["get", "tenant-read"]).await;
    assert_eq!(code, 0, "{err}");
    let lease = Secret::new(lease.trim().to_owned());
    let mut psql = Command::new("psql");
    psql.arg(lease.expose()).args(["-X", "-q", "-A", "-t", "-c", "select slug from tenants"]);
    let seen = tokio::task::spawn_blocking(move || psql.output()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "acme", "of her own tenant alone");

    let (code, _, err) = at_home(home.path(), &["logout"]).await;
    assert!(code == 0 && err.contains("the session is ended"), "{err}");
    let (code, _, err) = at_home(home.path(), &["whoami"]).await;
    assert_eq!(code, 3, "{err}");
    let (code, _, err) = at_home(home.path(), &["login", "--url", &url, "--token", "x"]).await;
    assert_eq!(code, 2, "{err}");
    kill_process(Pid::from_child(&playground), Signal::INT).unwrap();
    assert!(end(&mut playground).await.success());
}

/// As the README has it: somebody asks in one window of the playground's Slack, another agrees in another.
#[tokio::test]
async fn its_slack_is_asked_in_one_window_and_agreed_in_another() {
    let mut playground = dev(&["--with-slack"]).spawn().unwrap();
    let said = lines_until(playground.stdout.take().unwrap(), "Ctrl-C stops it").await;
    let line = |part: &str| said.iter().find(|line| line.contains(part)).unwrap().clone();
    let url = line("login --url").rsplit(' ').next().unwrap().to_owned();
    let page = line("as=U0ADA").trim().split('?').next().unwrap().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let shows = async |user: &str, words: &str| {
        let mut seen = String::new();
        eventually(&format!("{user} sees {words}"), seconds(30), async || {
            let asked = http.get(format!("{page}?as={user}")).send().await.unwrap();
            seen = asked.text().await.unwrap();
            seen.contains(words)
        })
        .await;
        seen
    };
    let post = async |path: &str, fields: &[(&str, &str)]| {
        http.post(format!("{page}{path}")).body(form(fields)).send().await.unwrap();
    };
    for (user, subject) in [("U0ADA", "sub-ada"), ("U0GUS", "sub-gus")] {
        post("write", &[("as", user), ("text", "mine")]).await;
        let seen = shows(user, "/slack/link?code=").await;
        let code = seen.split_once("code=").unwrap().1.split('"').next().unwrap().to_owned();
        let browser = Browser::new(&url);
        browser.sign_in(subject, "/").await;
        let token = browser.form_token().await;
        let fields = [("form_token", token.as_str()), ("code", &code)];
        let linked = browser.post("/slack/link", &fields, &[("sec-fetch-site", "same-origin")]);
        assert_eq!(linked.await.status, 200);
    }
    post("write", &[("as", "U0ADA"), ("text", "shop-fix 15m because INC-123")]).await;
    let seen = shows("U0GUS", "Waits for an answer").await;
    let message =
        seen.split_once("name=\"message\" value=\"").unwrap().1.split('"').next().unwrap();
    post("click", &[("as", "U0GUS"), ("message", message), ("action", "approve")]).await;
    let seen = shows("U0ADA", "pgvalet claim acc_").await;
    assert!(seen.contains("person:gus") && !seen.contains("value=\"approve\""), "{seen}");
    kill_process(Pid::from_child(&playground), Signal::INT).unwrap();
    assert!(end(&mut playground).await.success());
}
