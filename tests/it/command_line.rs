//! The real binary as a client of a real daemon: what it prints, what it ends with, and what its
//! credentials do in the programs that they are for.

use std::{
    collections::BTreeSet, fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    people::lease_id,
    seconds,
    shell::{Shell, end, first_line},
    world::World,
};

const WHO: &str = "select current_user, session_user, count(*) > 1000 from orders";

#[tokio::test]
async fn login_keeps_a_token_and_logout_forgets_it() {
    let world = World::start().await;
    let mut shell = Shell::of(&world);
    let token = shell.token.take().unwrap();
    let said = shell.run(&["whoami"]).await;
    assert!(said.err.contains("pgvalet login"), "{said:?}");
    said.expect(3);

    let file = shell.path("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let login = ["login", "--url", &shell.url, "--token-file", &file];
    let said = shell.run(&login).await;
    assert!(!said.out.contains(&token) && !said.err.contains(&token), "{said:?}");
    said.expect(0);
    let kept = shell.home.path().join(".config/pgvalet/client.toml");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(shell.run(&["whoami"]).await.expect(0).contains("person:admin"));
    let who = shell.run(&["whoami", "--json"]).await.json();
    assert_eq!(who["admin"], true);
    shell.run(&["whoami", "--url", "http://127.0.0.1:1"]).await.expect(3);

    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = shell.run(&["whoami"]).await;
    assert_ne!(exposed.code, 0, "a token that others can read is used: {exposed:?}");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    shell.run(&["logout"]).await.expect(0);
    shell.run(&["whoami"]).await.expect(3);
    assert!(!kept.exists() || !fs::read_to_string(&kept).unwrap().contains("pgv_"));

    fs::write(&file, format!("pgv_{}_{}", "0".repeat(32), "a".repeat(43))).unwrap();
    shell.run(&login).await.expect(3);
    shell.run(&["login", "--token-file", &file]).await.expect(2);
    shell.run(&["get"]).await.expect(2);
    world.finish().await;
}

#[tokio::test]
async fn a_daemon_that_is_down_is_unavailable() {
    let mut world = World::start().await;
    let shell = Shell::of(&world);
    let id = lease_id(&world.issue("read", json!({})).await);
    assert!(world.daemon.stop().await.success());
    let read = world.profile("read");
    for command in [
        &["whoami"][..],
        &["get", &read],
        &["run", &read, "--", "true"],
        &["leases"],
        &["revoke", &id],
        &["audit", "verify"],
    ] {
        let said = shell.run(command).await;
        assert!(said.err.contains("cannot be reached"), "{said:?}");
        said.expect(5);
    }
    world.start_daemon().await;
    world.finish().await;
}

#[tokio::test]
async fn each_format_opens_a_session() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let psql = format!("psql -X -q -A -t -c '{WHO}'");
    let mut users = BTreeSet::new();
    for (format, script) in [
        ("uri", format!("{psql} \"$(cat uri)\"")),
        ("kv", format!("{psql} \"$(cat kv)\"")),
        ("dotenv", format!("set -a; . ./dotenv; {psql}")),
        ("pgservice", format!("PGSERVICEFILE=pgservice PGSERVICE=pgvalet-{read} {psql}")),
        // A password file has no place for the options that start the session as the group role: the
        // login's own setting does it.
        (
            "pgpass",
            format!(
                "IFS=: read -r h p d u _ < pgpass
                 PGSSLMODE=disable PGPASSFILE=pgpass {psql} -w -h $h -p $p -U $u -d $d"
            ),
        ),
        ("json", format!("{psql} \"$(sed 's/.*\"uri\":\"\\([^\"]*\\)\".*/\\1/' json)\"")),
    ] {
        let file = shell.path(format);
        let made = shell.run(&["get", &read, "--format", format, "--out", &file]).await;
        assert_eq!((made.code, made.out.as_str()), (0, ""), "{made:?}");
        assert_eq!(Path::new(&file).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let said = shell.script(&script).await;
        let out = said.out.trim().to_owned();
        assert_eq!(said.code, 0, "{format}: {said:?}");
        let parts: Vec<&str> = out.split('|').collect();
        assert_eq!(
            (parts[0], parts[2]),
            (format!("pgvg_{}_read", world.name).as_str(), "t"),
            "{out}"
        );
        users.insert(parts[1].to_owned());
        // A file that is there is not overwritten, and costs no lease.
        shell.run(&["get", &read, "--format", format, "--out", &file]).await.expect(1);
    }
    assert_eq!((users.len(), world.roles().await.len()), (6, 6));
    assert!(
        users.iter().all(|user| user.starts_with(&format!("pgv_{}-read_admin_cli_", world.name))),
        "{users:?}"
    );
    let jdbc = shell.run(&["get", &read, "--format", "jdbc"]).await.expect(0);
    assert!(jdbc.starts_with("jdbc:postgresql://127.0.0.1:"), "{jdbc}");
    let whole = shell.run(&["get", &read, "--json"]).await.json();
    assert_eq!(whole["lease"]["state"], "active");
    world.finish().await;
}

#[tokio::test]
async fn connect_ends_as_psql_does_and_gives_the_lease_back() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let quiet = ["connect", &read, "--", "-X", "-q", "-A", "-t"];
    let with = |more: &[&'static str]| -> Vec<String> {
        quiet.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    for (more, code) in [
        (with(&["-c", WHO]), 0),
        (with(&["-c", "select 1/0"]), 1),
        (with(&["-v", "ON_ERROR_STOP=1", "-f", "/dev/stdin"]), 3),
        (with(&["-c", "\\q", "--no-such-option"]), 1),
    ] {
        let words: Vec<&str> = more.iter().map(String::as_str).collect();
        let mut child = shell.start(&words);
        child.stdin.take().unwrap().write_all(b"select 1/0;\n").unwrap();
        let output =
            tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        if code == 0 {
            let out = String::from_utf8(output.stdout).unwrap();
            assert!(
                out.starts_with(&format!("pgvg_{}_read|pgv_{read}_admin_psql_", world.name)),
                "{out}"
            );
        }
        assert_eq!(world.roles().await, Vec::<String>::new(), "{words:?}");
        assert_eq!(world.live().await, Vec::<Value>::new());
    }
    world.finish().await;
}

/// The files under a folder that hold a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if kind.is_file()
            && fs::read(entry.path())
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn connect_keeps_the_password_out_of_command_lines_and_files() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    // psql's own shell prints the password, and then waits for the end of our pipe.
    let tell = "\\! printf '%s\\n' \"$PGPASSWORD\"; cat >/dev/null";
    let mut child =
        shell.start(&["connect", &read, "--", "-X", "-q", "-c", tell, "-c", "select 2"]);
    let password = first_line(&mut child).await;
    assert!(password.len() > 30, "{password:?}");
    world.secrets.remember(&password);

    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = fs::read(process.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains(&password), "in the command line of {:?}", process.path());
        assert!(!line.contains(&world.admin.token), "in the command line of {:?}", process.path());
    }
    assert_eq!(files_with(shell.home.path(), &password), Vec::<String>::new());
    assert_eq!(world.roles().await.len(), 1);
    drop(child.stdin.take());
    assert_eq!(end(&mut child).await, 0);
    world.finish().await;
}

#[tokio::test]
async fn run_lends_the_lease_and_not_the_token() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let script = format!("test -z \"$PGVALET_TOKEN\" && psql -X -q -A -t -c '{WHO}' && exit 7");
    let said = shell.run(&["run", &read, "--", "sh", "-c", &script]).await;
    let out = said.expect(7);
    assert!(out.starts_with(&format!("pgvg_{}_read|pgv_{read}_admin_sh_", world.name)), "{out}");
    assert_eq!(world.roles().await, Vec::<String>::new());
    shell.run(&["run", &read, "--", "/no/such/program"]).await.expect(1);
    world.finish().await;
}

#[tokio::test]
async fn run_renews_a_short_lease_while_its_program_works() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let script =
        "psql -X -q -A -t -c 'select pg_sleep(6)' -c 'select 1' && psql -X -q -A -t -c 'select 2'";
    let said = shell.run(&["run", &read, "--ttl", "3s", "--", "sh", "-c", script]).await;
    assert_eq!(said.expect(0).trim(), "1\n2");
    let page = world.admin.get("/v1/leases?limit=1").await.expect(200);
    let lease = &page["items"][0];
    assert_eq!(
        (&lease["state"], &lease["cause"]),
        (&json!("revoked"), &json!("revoked")),
        "{lease}"
    );
    let steps = world.admin.audit_of(lease["id"].as_str().unwrap()).await;
    assert!(steps.iter().filter(|step| *step == "lease.renewed").count() >= 2, "{steps:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_signal_ends_the_program_and_the_lease() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let script = "echo $PGVALET_LEASE_ID; exec cat";
        let mut child = shell.start(&["run", &read, "--", "sh", "-c", script]);
        let id = first_line(&mut child).await;
        assert_eq!(world.admin.lease(&id).await["state"], "active");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(end(&mut child).await, code, "{signal:?}");
        assert_eq!(world.admin.lease(&id).await["state"], "revoked", "{signal:?}");
    }
    let tell = "\\! echo $PGVALET_LEASE_ID; cat >/dev/null";
    let mut child = shell.start(&["connect", &read, "--", "-X", "-q", "-c", tell]);
    let id = first_line(&mut child).await;
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(end(&mut child).await, 143);
    assert_eq!(world.admin.lease(&id).await["state"], "revoked");
    world.finish().await;
}

#[tokio::test]
async fn leases_are_listed_renewed_rotated_and_revoked() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let get = ["get", &read, "--json", "--ttl", "10m", "--tool", "psql", "--ticket", "OPS-1"];
    let first = shell.run(&get).await.json();
    let id = lease_id(&first);
    let listed = shell.run(&["leases"]).await.expect(0);
    assert!(listed.contains(&id) && listed.contains(&read), "{listed}");
    let shown = shell.run(&["leases", &id, "--json"]).await.json();
    assert_eq!(shown["ticket"], "OPS-1");

    let renewed = shell.run(&["renew", &id, "--ttl", "30m", "--json"]).await.json();
    assert_ne!(renewed["lease"]["expires_at"], first["lease"]["expires_at"]);
    let rotated = shell.run(&["rotate", &id, "--json"]).await.json();
    assert_ne!(rotated["credential"]["user"], first["credential"]["user"]);
    let revoked = shell.run(&["revoke", &id, "--json"]).await.json();
    assert_eq!(revoked["leases"][0]["state"], "revoked");
    let shown = shell.run(&["lease", &id]).await.expect(0);
    assert!(shown.contains("revoked"), "{shown}");
    let live = shell.run(&["leases", "--json"]).await.json();
    assert!(!live.to_string().contains(&id), "{live}");
    shell.run(&["renew", &id]).await.expect(1);
    shell.run(&["rotate", &id]).await.expect(1);
    shell.run(&["leases", &format!("lse_{}", "0".repeat(32))]).await.expect(1);

    for tool in ["cursor", "psql"] {
        shell.run(&["get", &read, "--tool", tool]).await.expect(0);
    }
    shell.run(&["revoke", "--tool", "cursor"]).await.expect(0);
    assert_eq!(world.roles().await.len(), 1);
    shell.run(&["revoke", "--person", "admin"]).await.expect(0);
    assert_eq!(world.roles().await, Vec::<String>::new());
    shell.run(&["revoke"]).await.expect(2);
    world.finish().await;
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let world = World::start().await;
    let mut shell = Shell::of(&world);
    let create =
        ["token", "create", "ci", "--for", "service:ci", "--group", "deployers", "--ttl", "1h"];
    let secret = shell.run(&create).await.expect(0).trim().to_owned();
    world.secrets.remember(&secret);
    let listed = shell.run(&["token", "list"]).await;
    assert!(listed.out.contains("service:ci") && !listed.out.contains(&secret), "{listed:?}");
    let admin = shell.token.replace(secret);
    let who = shell.run(&["whoami", "--json"]).await.json();
    assert_eq!((&who["principal"], &who["groups"]), (&json!("service:ci"), &json!(["deployers"])));
    shell.run(&["token", "create", "x", "--admin"]).await.expect(3);
    shell.run(&["audit", "verify"]).await.expect(3);
    let secret = std::mem::replace(&mut shell.token, admin);
    shell.run(&["token", "revoke", who["token_id"].as_str().unwrap()]).await.expect(0);
    shell.token = secret;
    shell.run(&["whoami"]).await.expect(3);
    world.finish().await;
}

#[tokio::test]
async fn plan_apply_and_export_agree() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let (name, shop) = (&world.name, world.shop());
    let file = shell.path("profiles.toml");
    let profile = format!(
        "[profile.{name}-code]\ntarget = \"{name}\"\ndatabase = \"{shop}\"\npreset = \"readonly\"\n\
         schemas = [\"public\"]\nttl = \"1h\"\n\n[profile.{name}-code.access]\nallow = [\"anyone\"]\n"
    );
    fs::write(&file, &profile).unwrap();
    let planned = shell.run(&["plan", "-f", &file]).await.expect(0);
    assert!(planned.contains(&format!("+ profile {name}-code")), "{planned}");
    assert!(planned.contains("GRANT"), "the statements are shown: {planned}");
    world.admin.get(&format!("/v1/profiles/{name}-code")).await.expect(404);
    shell.run(&["apply", "-f", &file]).await.expect(2);
    shell.run(&["apply", "-f", &file, "--yes"]).await.expect(0);
    shell.run(&["get", &format!("{name}-code")]).await.expect(0);
    for verb in [&["plan", "--json"][..], &["apply", "--yes", "--json"]] {
        let words = [verb, &["-f", &file]].concat();
        let plan = shell.run(&words).await.json();
        assert_eq!(plan["changes"], false, "{verb:?}: {plan}");
    }

    let exported = shell.run(&["export"]).await.expect(0);
    let password = crate::targets::admin_password(&world);
    assert!(!exported.contains(&password), "a password in the export");
    let whole = shell.path("export.toml");
    fs::write(&whole, &exported).unwrap();
    let plan = shell.run(&["plan", "-f", &whole, "--json"]).await.json();
    assert_eq!(plan["changes"], false, "{plan}");
    assert!(plan["lines"].as_array().unwrap().len() >= 5, "{plan}");

    let faulty = profile.replace("\"1h\"", "\"1 hour-ish\"").replace("schemas", "shemas");
    fs::write(&file, faulty).unwrap();
    for verb in ["plan", "apply"] {
        let said =
            shell.run(&[verb, "-f", &file, "--yes"][..if verb == "plan" { 3 } else { 4 }]).await;
        assert!(said.err.contains("profiles.toml:6:"), "the line of ttl: {said:?}");
        assert!(said.err.contains("profiles.toml:5:") && said.err.contains("schemas"), "{said:?}");
        said.expect(1);
    }
    world.finish().await;
}

#[tokio::test]
async fn the_audit_is_shown_exported_and_verified() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let id = lease_id(&world.issue("read", json!({})).await);
    let tail = shell.run(&["audit", "tail", "-n", "5"]).await.expect(0);
    assert!(tail.contains("lease.activated") && tail.contains(&id), "{tail}");
    eventually("all is sealed", seconds(20), async || {
        world.admin.get("/v1/audit/verify").await.expect(200)["unsealed"] == 0
    })
    .await;
    shell.run(&["audit", "verify"]).await.expect(0);
    let file = shell.path("audit.jsonl");
    shell.run(&["audit", "export", "-o", &file]).await.expect(0);
    shell.run(&["audit", "verify", &file]).await.expect(0);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(world.secrets.found_in(&text), Vec::<String>::new());
    let altered = shell.path("altered.jsonl");
    fs::write(&altered, text.replacen("lease.activated", "lease.revoked", 1)).unwrap();
    shell.run(&["audit", "verify", &altered]).await.expect(1);
    world.finish().await;
}
