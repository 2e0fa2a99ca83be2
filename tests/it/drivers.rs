//! The programs and drivers that people use, each in one and the same lease, by the format that is for it. What
//! is not on this machine comes from npm or pip, into the cache that the playground uses; what cannot be had is
//! left out, and a line says so.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr as _,
};

use pgvalet::{
    api::leases::ReceivedIssued,
    cli::format::{Access, Format},
    cluster::obtain,
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::{
    formats::PGJDBC,
    support::{
        shell::{Shell, finish},
        versions::ALL_VERSIONS,
        world::World,
    },
};

/// What each of them asks: as whom it works, and whether it sees what the profile gives.
const WHO: &str =
    "select current_user || '|' || session_user || '|' || (count(*) > 1000) from orders";

const PSYCOPG: &str = "\
import os, psycopg
for text in (open('kv').read(), open('uri').read()):
    with psycopg.connect(text) as connection:
        print(connection.execute(os.environ['WHO']).fetchone()[0])
";

const PSYCOPG_ENVIRONMENT: &str = "\
import os, psycopg
with psycopg.connect() as connection:
    print(connection.execute(os.environ['WHO']).fetchone()[0])
";

const SQLALCHEMY: &str = "\
import os, sqlalchemy
url = open('uri').read().strip().replace('postgresql://', 'postgresql+psycopg://', 1)
with sqlalchemy.create_engine(url).connect() as connection:
    print(connection.execute(sqlalchemy.text(os.environ['WHO'])).scalar())
";

const NODE: &str = "\
const { Client } = require('pg');
const ask = async (given) => {
  const client = new Client(given);
  await client.connect();
  const { rows } = await client.query({ text: process.env.WHO, rowMode: 'array' });
  console.log(rows[0][0]);
  await client.end();
};
const url = require('fs').readFileSync('uri', 'utf8').trim();
ask({ connectionString: url }).then(() => process.env.PGUSER && ask({}));
";

const JDBC: &str = r#"
import java.nio.file.*;
import java.sql.*;

class Ask {
    public static void main(String[] arguments) throws Exception {
        String url = Files.readString(Path.of("jdbc")).trim();
        try (Connection connection = DriverManager.getConnection(url);
                ResultSet rows = connection.createStatement().executeQuery(System.getenv("WHO"))) {
            rows.next();
            System.out.println(rows.getString(1));
        }
    }
}
"#;

fn left_out(what: &str, why: &str) {
    // Not by a macro: what those write, the test runner keeps to itself.
    let said = format!("{what} is left out of the tests: {why}\n");
    std::io::stderr().write_all(said.as_bytes()).unwrap();
}

/// A folder with what a package manager installs; made once, whichever process wants it.
fn packages(name: &str, mut install: impl FnMut(&Path) -> Command) -> Result<PathBuf, String> {
    let cache = obtain::default_cache().with_file_name("drivers");
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("tests.lock")).unwrap();
    lock.lock().unwrap();
    let folder = cache.join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let staging = tempfile::Builder::new().prefix(".fetching-").tempdir_in(&cache).unwrap();
    let mut command = install(staging.path());
    let output = command.current_dir(staging.path()).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().last().unwrap_or("it fails").to_owned());
    }
    fs::rename(staging.keep(), &folder).unwrap();
    Ok(folder)
}

/// node-postgres. `.ci/run` has npm, so that there it must be had.
fn node_packages() -> Option<PathBuf> {
    let made = packages("node", |folder| {
        let mut command = Command::new("npm");
        command.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
        command.arg(folder).arg("pg@8");
        command
    });
    match made {
        Ok(folder) => Some(folder),
        Err(why) if std::env::var_os(ALL_VERSIONS).is_some() => {
            panic!("{ALL_VERSIONS} is set, and node-postgres cannot be had: {why}")
        }
        Err(why) => {
            left_out("node-postgres", &why);
            None
        }
    }
}

/// psycopg and SQLAlchemy, for the Python that is here.
fn python_packages() -> Option<PathBuf> {
    let version = Command::new("python3").arg("--version").output().ok()?;
    let version = String::from_utf8(version.stdout).ok()?.trim().replace(' ', "-");
    let made = packages(&version, |folder| {
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--target"]).arg(folder);
        command.args(["psycopg[binary]>=3", "sqlalchemy>=2"]);
        command
    });
    made.inspect_err(|why| left_out("psycopg with SQLAlchemy", why)).ok()
}

/// One lease, in all its forms.
struct Lent {
    shell: Shell,
    variables: Vec<(String, String)>,
    who: String,
}

impl Lent {
    async fn of(world: &World) -> Self {
        let (shell, issued) = (Shell::of(world), world.issue("read", json!({})).await);
        let received: ReceivedIssued = serde_json::from_value(issued).unwrap();
        let credential = received.credential.as_ref().unwrap();
        let access = Access {
            credential,
            lease_id: received.lease.id,
            profile: &received.lease.profile,
            expires_at: received.lease.expires_at,
            root_certificate: None,
        };
        for (name, format) in [
            ("uri", Format::Uri),
            ("kv", Format::Kv),
            ("jdbc", Format::Jdbc),
            ("services", Format::Pgservice),
            ("passwords", Format::Pgpass),
        ] {
            let text = access.write(format).unwrap();
            let path = shell.home.path().join(name);
            pgvalet::cli::session::write_private(&path, text.expose()).unwrap();
        }
        let bare = access.uri_without_password();
        fs::write(shell.path("bare"), bare).unwrap();
        let variables = access.variables();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.expose().clone()));
        let who = format!("pgvg_{}_read|{}|true", world.name, credential.user);
        Self { shell, variables: variables.collect(), who }
    }

    /// Runs a program in the folder with the forms; each line that it prints must say who it is.
    async fn tries(&self, what: &str, program: &str, arguments: &[&str], more: &[(&str, &str)]) {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.shell.home.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.shell.home.path()).env("WHO", WHO).envs(more.iter().copied());
        let said = finish(command).await;
        assert_eq!(said.code, 0, "{what}: {said:?}");
        let lines: Vec<&str> = said.out.lines().collect();
        assert!(
            !lines.is_empty() && lines.iter().all(|line| *line == self.who),
            "{what}: {said:?}"
        );
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

#[tokio::test]
async fn psql_and_sqlx_connect() {
    let world = World::start().await;
    let lent = Lent::of(&world).await;
    let quiet = ["-X", "-q", "-A", "-t", "-w", "-c", WHO];
    let service = format!("service=pgvalet-{}", world.profile("read"));
    let bare = fs::read_to_string(lent.shell.path("bare")).unwrap();
    lent.tries(
        "psql by its service file",
        "psql",
        &[&quiet[..], &[&service]].concat(),
        &[("PGSERVICEFILE", "services")],
    )
    .await;
    lent.tries(
        "psql by its password file",
        "psql",
        &[&quiet[..], &[&bare]].concat(),
        &[("PGPASSFILE", "passwords")],
    )
    .await;
    lent.tries("psql by its environment", "psql", &quiet, &lent.variables()).await;
    for form in ["uri", "kv"] {
        let text = fs::read_to_string(lent.shell.path(form)).unwrap();
        lent.tries(form, "psql", &[&quiet[..], &[text.trim()]].concat(), &[]).await;
    }

    let uri = fs::read_to_string(lent.shell.path("uri")).unwrap();
    let options = PgConnectOptions::from_str(uri.trim()).unwrap();
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let who: String = sqlx::query_scalar(WHO).fetch_one(&mut connection).await.unwrap();
    assert_eq!(who, lent.who);
    connection.close().await.unwrap();
    assert_eq!(world.roles().await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn psycopg_and_sqlalchemy_connect() {
    let Some(packages) = tokio::task::spawn_blocking(python_packages).await.unwrap() else {
        return;
    };
    let world = World::start().await;
    let lent = Lent::of(&world).await;
    let path = [("PYTHONPATH", packages.to_str().unwrap())];
    lent.tries("psycopg", "python3", &["-c", PSYCOPG], &path).await;
    lent.tries("SQLAlchemy", "python3", &["-c", SQLALCHEMY], &path).await;
    let variables = [&path[..], &lent.variables()].concat();
    lent.tries("psycopg's environment", "python3", &["-c", PSYCOPG_ENVIRONMENT], &variables).await;
    world.finish().await;
}

#[tokio::test]
async fn node_postgres_connects() {
    let Some(packages) = tokio::task::spawn_blocking(node_packages).await.unwrap() else { return };
    let world = World::start().await;
    let lent = Lent::of(&world).await;
    let modules = packages.join("node_modules");
    let path = [("NODE_PATH", modules.to_str().unwrap())];
    let variables = [&path[..], &lent.variables()].concat();
    lent.tries("node-postgres", "node", &["-e", NODE], &variables).await;
    world.finish().await;
}

#[tokio::test]
async fn pgjdbc_connects() {
    let has_compiler = Command::new("javac").arg("-version").output().is_ok();
    if !has_compiler || !Path::new(PGJDBC).exists() {
        left_out("pgjdbc", "it is not here");
        return;
    }
    let world = World::start().await;
    let lent = Lent::of(&world).await;
    fs::write(lent.shell.path("Ask.java"), JDBC).unwrap();
    lent.tries("pgjdbc", "java", &["-cp", PGJDBC, "Ask.java"], &[]).await;
    world.finish().await;
}
