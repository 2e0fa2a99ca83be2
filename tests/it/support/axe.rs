//! axe-core, which knows the rules of accessible pages (WCAG) and looks for what a program can find. It comes from
//! npm, as the other versions of PostgreSQL do, into the same cache.

use std::{
    fs::{self, File},
    io::Write as _,
    process::{Command, Stdio},
    sync::OnceLock,
};

use pgvalet::cluster::obtain;
use serde_json::Value;

use crate::support::{chromium::Window, versions::ALL_VERSIONS};

/// One version: what it finds does not change from one day to the next.
const PACKAGE: &str = "axe-core";
const VERSION: &str = "4.14.1";

/// What it runs: everything but experiments.
const RUN: &str = r"
const done = arguments[arguments.length - 1];
axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
    .then(found => done(found.violations.map(one =>
        one.id + ': ' + one.help + ': ' + one.nodes.map(node => node.html).join(' | '))))
    .catch(fault => done(['axe failed: ' + fault]));";

/// What is wrong with the page that is open; nothing if axe cannot be had, which is told.
pub(crate) async fn violations(window: &Window) -> Vec<String> {
    let Some(axe) = tokio::task::spawn_blocking(source).await.unwrap() else { return Vec::new() };
    window.driver.script(axe).await;
    let found = window.driver.script_later(RUN).await;
    found.as_array().unwrap().iter().map(|one: &Value| one.as_str().unwrap().to_owned()).collect()
}

fn source() -> Option<&'static str> {
    static SOURCE: OnceLock<Option<String>> = OnceLock::new();
    SOURCE.get_or_init(fetched).as_deref()
}

/// Its text, from the cache or from npm.
fn fetched() -> Option<String> {
    let cache = obtain::default_cache();
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("tests.lock")).unwrap();
    lock.lock().unwrap();
    let place = cache.join(format!("{PACKAGE}-{VERSION}.min.js"));
    if let Ok(text) = fs::read_to_string(&place) {
        return Some(text);
    }
    let folder = tempfile::tempdir_in(&cache).unwrap();
    let run = |command: &mut Command| {
        let ran = command.current_dir(folder.path()).stdin(Stdio::null()).output().ok()?;
        ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    };
    let wanted = format!("{PACKAGE}@{VERSION}");
    let packed = run(Command::new("npm").args(["pack", "--silent", &wanted]));
    let unpacked = packed.and_then(|archive| {
        run(Command::new("tar").args(["-xzf", &archive, "package/axe.min.js"]))
    });
    if unpacked.is_none() {
        assert!(
            std::env::var_os(ALL_VERSIONS).is_none(),
            "{ALL_VERSIONS} is set, and npm has no {wanted}"
        );
        let said = format!("npm has no {wanted}: pages are not looked at with it\n");
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return None;
    }
    fs::rename(folder.path().join("package/axe.min.js"), &place).unwrap();
    Some(fs::read_to_string(&place).unwrap())
}
