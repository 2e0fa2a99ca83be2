//! A client of several daemons; and what it says of itself: completions and manual pages.

use std::{fs, process::Command};

use serde_json::json;

use crate::support::{
    shell::{Shell, finish},
    world::World,
};

#[tokio::test]
async fn each_daemon_has_a_name_and_one_of_them_is_asked_when_none_is_named() {
    let mut world = World::start().await;
    let mut other = world.another_daemon().await;
    let mut shell = Shell::of(&world);
    let token = shell.token.take().unwrap();
    let file = shell.path("token");
    fs::write(&file, &token).unwrap();
    let none = shell.run(&["daemons"]).await;
    assert!(none.err.contains("pgvalet login"), "{none:?}");
    none.expect(0);

    let (one, two) = (world.daemon.url.clone(), other.url.clone());
    for (name, url) in [("one", &one), ("two", &two)] {
        let login = ["login", "--as", name, "--url", url, "--token-file", &file];
        let said = shell.run(&login).await;
        assert!(said.err.contains(name) && !said.err.contains(&token), "{said:?}");
        said.expect(0);
    }
    let address = async |more: &[&str]| {
        let told = shell.run(&[&["whoami"], more].concat()).await.expect(0);
        told.lines().find_map(|line| line.strip_prefix("daemon")).unwrap().trim().to_owned()
    };
    assert_eq!(address(&[]).await, two, "the one signed in to last");
    assert_eq!(address(&["--daemon", "one"]).await, one);
    assert_eq!(address(&["--url", &one]).await, one);
    let mut named = shell.command(&["whoami"]);
    named.env("PGVALET_DAEMON", "one");
    let told = finish(named).await.expect(0);
    assert!(told.contains(&one), "{told}");
    let mut wrong = shell.command(&["whoami", "--daemon", "two"]);
    wrong.env("PGVALET_DAEMON", "one").env("PGVALET_URL", &one).env("PGVALET_TOKEN", "pgv_wrong");
    let refused = finish(wrong).await;
    assert!(refused.err.contains("token"), "the environment's token is what is sent: {refused:?}");
    refused.expect(3);
    shell.run(&["use", "one"]).await.expect(0);
    assert_eq!(address(&[]).await, one);
    let listed = shell.run(&["daemons", "--json"]).await.json();
    let wanted = json!({ "items": [
        { "name": "one", "url": one, "default": true }, { "name": "two", "url": two, "default": false },
    ] });
    assert_eq!(listed, wanted);
    for (words, code) in [
        (&["use", "three"][..], 3),
        (&["whoami", "--daemon", "three"], 3),
        (&["whoami", "--daemon", "one", "--url", &two], 2),
    ] {
        shell.run(words).await.expect(code);
    }

    // Signing in again needs no address; forgetting one leaves the other.
    shell.run(&["login", "--daemon", "two", "--token-file", &file]).await.expect(0);
    shell.run(&["logout"]).await.expect(0);
    assert_eq!(address(&[]).await, one, "the one that is left");
    shell.run(&["logout", "--daemon", "one"]).await.expect(0);
    shell.run(&["whoami"]).await.expect(3);
    assert!(!shell.home.path().join(".config/pgvalet/client.toml").exists());

    // As one daemon was kept before there could be several.
    let kept = format!("url = '{one}'\ntoken = '{token}'\n");
    pgvalet::cli::session::write_private(
        &shell.home.path().join(".config/pgvalet/client.toml"),
        &kept,
    )
    .unwrap();
    assert_eq!(address(&[]).await, one);
    assert!(other.stop().await.success());
    world.finish().await;
}

/// Somebody who has never signed in anywhere.
fn nobody() -> Shell {
    let home = tempfile::Builder::new().prefix("pgvalet-it-").tempdir().unwrap();
    Shell { home, url: String::new(), token: None }
}

#[tokio::test]
async fn bash_completes_what_the_shells_are_told() {
    let shell = nobody();
    for (name, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef pgvalet"), ("fish", "complete -c pgvalet")]
    {
        let text = shell.run(&["completions", name]).await.expect(0);
        assert!(text.contains(sign), "{name}");
        fs::write(shell.path(name), text).unwrap();
    }
    shell.run(&["completions", "powershell"]).await.expect(2);
    let script = "\
        source ./bash
        complete -p pgvalet >/dev/null
        try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _pgvalet pgvalet \"${@: -1}\" \"${@: -2:1}\"; echo \"${COMPREPLY[@]}\"; }
        try pgvalet re; try pgvalet get --fo; try pgvalet get x --format cred";
    let mut command = Command::new("bash");
    command.args(["--norc", "-eu", "-c", script]).current_dir(shell.home.path());
    let told = finish(command).await.expect(0);
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(
        told,
        ["requests request review reviews renew revoke", "--format", "credential-process"]
    );
    for (program, check) in [("zsh", "-n"), ("fish", "-n")] {
        let mut command = Command::new(program);
        command.args([check, &shell.path(program)]);
        if let Ok(output) = command.output() {
            assert!(output.status.success(), "{output:?}");
        }
    }
}

#[tokio::test]
async fn a_manual_page_is_there_for_every_command() {
    let shell = nobody();
    let page = shell.run(&["man"]).await.expect(0);
    assert!(page.starts_with(".ie") && page.contains(".TH"), "{page}");
    let folder = shell.path("man1");
    shell.run(&["man", "--out", &folder]).await.expect(0);
    for name in ["pgvalet", "pgvalet-get", "pgvalet-standing-get", "pgvalet-completions"] {
        let path = format!("{folder}/{name}.1");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(".SH NAME"), "{name}: {text}");
        for (program, arguments) in [
            ("mandoc", &["-Tlint", "-Werror"][..]),
            ("groff", &["-man", "-ww", "-Kutf8", "-Tutf8"]),
        ] {
            let mut command = Command::new(program);
            if let Ok(output) = command.args(arguments).arg(&path).output() {
                assert!(output.status.success(), "{program} {name}: {output:?}");
                assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program} {name}");
            }
        }
    }
}
