//! What is in `deploy/ci/`, run as a runner would run it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::{
    ci_jobs::{apply, commands::runner, let_storefront_in},
    support::{
        issuer::{AUDIENCE, Issuer},
        world::World,
    },
};

fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ci").join(path)
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// The runner's files of one step, as it reads them: `NAME<<END`, the value, `END`.
fn kept(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let (mut found, mut lines) = (BTreeMap::new(), text.lines());
    while let Some((name, end)) = lines.next().map(|line| line.split_once("<<").unwrap()) {
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        found.insert(name.to_owned(), value.join("\n"));
    }
    found
}

/// Is the password in a log, but for the lines that mask it?
fn shows(log: &str, password: &str) -> bool {
    log.lines().any(|line| line.contains(password) && !line.starts_with("::add-mask::"))
}

struct Step<'a> {
    world: &'a World,
    folder: &'a Path,
    tokens: String,
}

impl Step<'_> {
    fn node(&self, state: &BTreeMap<String, String>) -> Command {
        let mut command = Command::new("node");
        command.arg(deployed("github/lease.js")).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        for file in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE"] {
            fs::write(self.folder.join(file), "").unwrap();
            command.env(file, self.folder.join(file));
        }
        command.env("RUNNER_TEMP", self.folder);
        command.env("ACTIONS_ID_TOKEN_REQUEST_URL", &self.tokens);
        command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-runner's-own");
        command
            .env("INPUT_URL", format!("{}/", self.world.admin.url))
            .env("INPUT_AUDIENCE", AUDIENCE);
        command.env("INPUT_PROFILE", self.world.profile("read")).env("INPUT_ENVIRONMENT", "true");
        command.envs(state.iter().map(|(name, value)| (format!("STATE_{name}"), value)));
        command
    }
}

#[tokio::test]
async fn the_action_for_github_masks_first_sets_the_login_and_revokes_it_afterwards() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let_storefront_in(&world, &issuer).await;
    let (tokens, _) = runner(&issuer).await;
    let folder = tempfile::tempdir().unwrap();
    let step = Step { world: &world, folder: folder.path(), tokens };

    let main = run(step.node(&BTreeMap::new())).await;
    let log = String::from_utf8_lossy(&main.stdout).into_owned();
    assert!(main.status.success(), "{log}{}", String::from_utf8_lossy(&main.stderr));
    let (set, outputs) =
        (kept(&folder.path().join("GITHUB_ENV")), kept(&folder.path().join("GITHUB_OUTPUT")));
    let state = kept(&folder.path().join("GITHUB_STATE"));
    let password = &set["PGPASSWORD"];
    world.secrets.remember(password);
    assert_eq!((password, &set["PGVALET_LEASE_ID"]), (&outputs["password"], &outputs["lease-id"]));
    assert!(!shows(&log, password), "{log}");
    for masked in [password, &outputs["uri"]] {
        // As the runner reads a mask.
        let written = format!("::add-mask::{}", masked.replace('%', "%25"));
        assert!(log.lines().any(|line| line == written), "{masked} is not masked: {log}");
    }

    // The steps in between get in by it.
    let mut psql = Command::new("psql");
    psql.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(&set)
        .args(["-Atc", "select current_user <> session_user"]);
    let seen = run(psql).await;
    assert_eq!(
        String::from_utf8_lossy(&seen.stdout),
        "t\n",
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    assert_eq!(world.live().await.len(), 1);

    let post = run(step.node(&state)).await;
    let log = String::from_utf8_lossy(&post.stdout).into_owned();
    assert!(post.status.success() && log.contains("is revoked"), "{log}");
    assert_eq!(world.live().await, Vec::<Value>::new());

    // A job that may not is told why, in one line for the log; and there is nothing to revoke.
    world.put_profile("read", json!({ "allow": ["person:alice"] })).await;
    let refused = run(step.node(&BTreeMap::new())).await;
    let log = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(
        !refused.status.success() && log.contains("::error::") && log.contains("not_allowed"),
        "{log}"
    );
    let state = kept(&folder.path().join("GITHUB_STATE"));
    assert!(run(step.node(&state)).await.status.success());
    world.finish().await;
}

/// The script of a section of the template: what stands under its `- |`.
fn script(section: &str) -> String {
    let text = fs::read_to_string(deployed("gitlab.yml")).unwrap();
    let from = text.find(&format!("  {section}:\n    - |\n")).unwrap();
    let lines = text[from..].lines().skip(2);
    let lines = lines.take_while(|line| line.starts_with("      ") || line.is_empty());
    lines.map(|line| line.trim_start_matches("      ").to_owned() + "\n").collect()
}

#[tokio::test]
async fn the_template_for_gitlab_sets_the_login_and_revokes_it_though_the_job_fails() {
    let (world, issuer) = (World::start().await, Issuer::start().await);
    let text = format!(
        "[issuer.gitlab]\nkind = \"gitlab\"\nurl = \"{}\"\naudience = \"{AUDIENCE}\"\n\
         [ci.shop]\nissuer = \"gitlab\"\nproject_id = 7\nnamespace_id = 3\nref = \"main\"\nref_type = \"branch\"\n",
        issuer.url
    );
    apply(&world, &text, &["ci:shop"]).await;
    let claims = json!({
        "project_id": "7", "namespace_id": "3", "ref": "main", "ref_type": "branch", "ref_protected": "true",
        "pipeline_source": "push", "job_id": "99", "project_path": "acme/shop",
    });
    let token = issuer.token(&claims);
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_pgvalet")).parent().unwrap();
    let shell = |script: &str, debug: &str| {
        let mut command = Command::new("sh");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        command.args(["-c", script]).env_clear().env("PATH", path).env("TMPDIR", folder.path());
        command.env("PGVALET_URL", &world.admin.url).env("PGVALET_TOKEN", &token);
        command.env("PGVALET_PROFILE", world.profile("read")).env("CI_DEBUG_TRACE", debug);
        run(command)
    };
    let traced = shell(&script("before_script"), "true").await;
    assert!(!traced.status.success());
    assert_eq!(world.live().await, Vec::<Value>::new());

    let job = script("before_script") + "psql -Atc 'select count(*) > 0 from orders'\nexit 7\n";
    let ran = shell(&job, "").await;
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "t\n",
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert_eq!(ran.status.code(), Some(7));
    assert_eq!(world.live().await.len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a file is left behind");

    let after = shell(&script("after_script"), "").await;
    assert!(after.status.success(), "{}", String::from_utf8_lossy(&after.stderr));
    assert_eq!(world.live().await, Vec::<Value>::new());
    world.finish().await;
}
