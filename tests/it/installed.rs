//! Entries in libpq's own files, and the values for a step of GitHub Actions: where they are put, that they work
//! there, and that they go.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;

use crate::support::{
    people::lease_id,
    shell::{Said, Shell, finish},
    world::World,
};

const SERVICES: &str = "# mine\n[mine]\nhost=elsewhere";
const PASSWORDS: &str = "*:*:*:*:of nobody\n";

fn write(path: &str, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &str) -> u32 {
    Path::new(path).metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn an_entry_works_in_libpqs_files_and_goes_with_its_lease() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let (services, passwords) = (shell.path(".pg_service.conf"), shell.path(".pgpass"));
    write(&services, SERVICES, 0o600);
    write(&passwords, PASSWORDS, 0o600);
    let install = |format| ["get", &read, "--format", format, "--install"].map(str::to_owned);
    let how = |words: [String; 5]| {
        let shell = &shell;
        async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = shell.run(&words).await;
            assert_eq!(said.err, "");
            said.expect(0).trim().to_owned()
        }
    };
    let service = how(install("pgservice")).await;
    assert_eq!(service, format!("service=pgvalet-{read}"));
    let uri = how(install("pgpass")).await;
    assert!(uri.starts_with("postgresql://pgv_") && !uri.contains("password"), "{uri}");
    for (path, before) in [(&services, SERVICES), (&passwords, PASSWORDS)] {
        assert_eq!(mode(path), 0o600);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(before), "{text}");
        let user = world.roles().await.into_iter().find(|role| text.contains(role));
        assert!(user.is_some(), "{text}");
    }
    // The line of stars, which was there first, is not what libpq takes.
    for way in [&service, &uri] {
        let said = shell.script(&format!("psql -w -X -q -A -t -c 'select 1' '{way}'")).await;
        assert_eq!(said.expect(0).trim(), "1", "{way}");
    }

    // The same service again is in the place of the one before; each password has a line of its own.
    how(install("pgservice")).await;
    how(install("pgpass")).await;
    assert_eq!(fs::read_to_string(&services).unwrap().matches("begin lse_").count(), 1);
    assert_eq!(fs::read_to_string(&passwords).unwrap().matches("begin lse_").count(), 2);

    shell.run(&["revoke", "--person", "admin"]).await.expect(0);
    assert_eq!(fs::read_to_string(&services).unwrap(), format!("{SERVICES}\n"));
    assert_eq!(fs::read_to_string(&passwords).unwrap(), PASSWORDS);
    assert!(!shell.home.path().join(".config/pgvalet/installed").exists());
    world.finish().await;
}

#[tokio::test]
async fn an_entry_goes_with_the_first_command_after_its_end_and_stays_while_it_is_renewed() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let (real, file) = (shell.path("dotfiles"), shell.path(".pgpass"));
    write(&real, PASSWORDS, 0o600);
    std::os::unix::fs::symlink(&real, &file).unwrap();
    let get = ["get", &read, "--format", "pgpass", "--install", "--ttl", "10m"];
    shell.run(&get).await.expect(0);
    let lease = world.live().await.remove(0);
    let id = lease["id"].as_str().unwrap();
    let before = fs::read_to_string(&file).unwrap();
    shell.run(&["renew", id, "--ttl", "2h"]).await.expect(0);
    let renewed = fs::read_to_string(&file).unwrap();
    assert_ne!(renewed, before);
    assert_eq!(renewed.lines().count(), before.lines().count());
    let ends = renewed.split("ends ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    fs::write(&file, renewed.replace(ends, "2020-01-01T00:00:00Z")).unwrap();
    shell.run(&["daemons"]).await.expect(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), PASSWORDS);
    assert!(Path::new(&file).is_symlink(), "a link stays one");
    world.finish().await;
}

#[tokio::test]
async fn a_file_that_others_may_read_costs_no_lease() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let file = shell.path("services");
    write(&file, SERVICES, 0o644);
    let get = async |more: &[&str]| -> Said {
        let words = [&["get", &read, "--install", "--format"], more].concat();
        let mut command = shell.command(&words);
        command.env("PGSERVICEFILE", &file).env("PGPASSFILE", "/proc/self");
        finish(command).await
    };
    let refused = get(&["pgservice"]).await;
    assert!(refused.err.contains("mode 0644") && refused.err.contains("chmod 600"), "{refused:?}");
    refused.expect(1);
    get(&["pgpass"]).await.expect(1);
    assert_eq!(fs::read_to_string(&file).unwrap(), SERVICES);
    assert_eq!(world.live().await.len(), 0);

    // A section of the same name would be what libpq takes. The lease is given back.
    write(&file, &format!("[pgvalet-{read}]\nhost=elsewhere\n"), 0o600);
    for wrong in [&["uri"][..], &["pgservice", "--json"], &["pgservice", "--out", "x"]] {
        get(wrong).await.expect(2);
    }
    let refused = get(&["pgservice"]).await;
    assert!(refused.err.contains("did not write"), "{refused:?}");
    refused.expect(1);
    assert_eq!(world.roles().await, Vec::<String>::new());
    world.finish().await;
}

/// Reads a file of names and values as the runner does.
fn values(text: &str) -> Vec<(String, String)> {
    let mut values = Vec::new();
    let mut lines = text.split('\n');
    while let Some(line) = lines.next().filter(|line| !line.is_empty()) {
        let (name, end) = line.split_once("<<").unwrap();
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        values.push((name.to_owned(), value.join("\n")));
    }
    values
}

#[tokio::test]
async fn a_step_of_github_gets_masks_first_and_shows_nothing_else() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let words = ["get", &read, "--format", "github"];
    let refused = shell.run(&words).await;
    assert!(refused.err.contains("GITHUB_ENV is not set"), "{refused:?}");
    refused.expect(2);
    let (environment, output) = (shell.path("env"), shell.path("output"));
    write(&environment, "BEFORE=1\n", 0o600);
    let mut command = shell.command(&words);
    command.env("GITHUB_ENV", &environment).env("GITHUB_OUTPUT", &output);
    let said = finish(command).await;
    assert_eq!(said.err, "");
    let out = said.expect(0);
    assert!(out.lines().all(|line| line.starts_with("::add-mask::")), "{out}");

    let text = fs::read_to_string(&environment).unwrap();
    let set = values(text.strip_prefix("BEFORE=1\n").unwrap());
    let value = |name: &str| {
        set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap()
    };
    let (password, uri) = (value("PGPASSWORD"), value("DATABASE_URL"));
    world.secrets.remember(&password);
    let masked = |text: &str| out.lines().any(|line| line == format!("::add-mask::{text}"));
    assert!(masked(&password) && masked(&uri.replace('%', "%25")), "{out}");
    let script = format!("psql -X -q -A -t -c 'select session_user' '{uri}'");
    assert_eq!(shell.script(&script).await.expect(0).trim(), value("PGUSER"));

    let told = values(&fs::read_to_string(&output).unwrap());
    let id = value("PGVALET_LEASE_ID");
    assert_eq!(told[0], ("lease-id".to_owned(), id.clone()));
    assert_eq!(told[1].0, "expires-at");
    assert_eq!(lease_id(&json!({ "lease": world.admin.lease(&id).await })), id);
    for wrong in [&["--json"][..], &["--out", "x"]] {
        let mut command = shell.command(&[&words[..], wrong].concat());
        command.env("GITHUB_ENV", &environment);
        finish(command).await.expect(2);
    }
    world.finish().await;
}

/// The files under a folder that hold a text, and that others may read.
fn open_files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let seen = path.symlink_metadata().unwrap();
        if seen.is_dir() {
            found.extend(open_files_with(&path, text));
        } else if seen.permissions().mode() & 0o077 != 0
            && String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn whatever_the_umask_says_no_file_with_a_password_is_open_to_others() {
    let world = World::start().await;
    let shell = Shell::of(&world);
    let read = world.profile("read");
    let get = async |more: &str| {
        let mut command = std::process::Command::new("sh");
        let script = format!("umask 000; exec \"$0\" get {read} {more}");
        command.args(["-c", &script]).arg(shell.command(&[]).get_program());
        command.env_clear().envs(shell.command(&[]).get_envs().filter_map(|(k, v)| Some((k, v?))));
        command.env("GITHUB_ENV", shell.path("env")).current_dir(shell.home.path());
        finish(command).await.expect(0)
    };
    let formats = ["uri", "kv", "jdbc", "json", "dotenv", "pgservice", "pgpass"];
    for format in formats.iter().chain(&["credential-process"]) {
        get(&format!("--format {format} --out out-{format}")).await;
    }
    for more in ["pgservice --install", "pgpass --install", "github", "credential-process"] {
        get(&format!("--format {more}")).await;
    }
    let logins = world.roles().await;
    assert_eq!(logins.len(), 11, "one for each, and one that is kept: {logins:?}");
    for login in &logins {
        assert_eq!(open_files_with(shell.home.path(), login), Vec::<String>::new());
    }
    // The walk sees what there is to see.
    let (path, login) = (shell.home.path().join("out-uri"), &logins[0]);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{login}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(open_files_with(shell.home.path(), login), [path.display().to_string()]);
    world.finish().await;
}
