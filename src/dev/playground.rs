//! What the playground consists of: one folder with a PostgreSQL cluster (the state database and the
//! shop), the master key, the administrator's token, and the daemon on top.

use std::{
    fs, io,
    io::Write as _,
    os::unix::{fs::OpenOptionsExt, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{
    api::{
        admin::{Code, CreateToken},
        people::Link,
    },
    cli::{child, client::Client, daemon_arguments::Dev, people},
    cluster::{self, Cluster, Lifetime, Listen, obtain, programs},
    config::{Config, MasterKeys},
    dev::{outside::Outside, shop},
    rng,
    secret::Secret,
    serve::Daemon,
    target::{
        scram,
        script::{self, Place},
    },
};

/// The superuser of the playground's cluster.
const SUPERUSER: &str = "postgres";

/// The owner of the state database, and the state database.
const STATE: &str = "pgvalet_state";

/// The playground's target and profiles.
const PROFILES: &str = include_str!("profiles.toml");

/// Where the target's port stands in them.
const PORT_LINE: &str = "port = 5432";

/// A person of each tenant of the shop, the tenant's id, and the group that they are in.
pub const TENANTS: [(&str, &str, &str); 2] = [("ada", "1", "acme"), ("gus", "2", "globex")];

fn token_of(person: &str, tenant: &str, group: &str) -> CreateToken {
    CreateToken {
        name: "playground".to_owned(),
        principal: Some(format!("person:{person}")),
        groups: Some(vec![group.to_owned()]),
        claims: Some([("tenant_id".to_owned(), tenant.to_owned())].into()),
        ..CreateToken::default()
    }
}

/// A running playground.
pub struct Playground {
    folder: Folder,
    cluster: Cluster,
    daemon: Daemon,
    token: Secret<String>,
    outside: Outside,
}

/// A kept folder, or one that goes with the playground.
enum Folder {
    Kept(PathBuf),
    ThrowAway(TempDir, Sweeper),
}

/// Removes a throw-away folder when this process was killed and cannot: the end of the pipe to the
/// shell tells. PostgreSQL is ended by a shell of its own, and is waited for, so that it does not
/// write into what is being removed.
struct Sweeper(Child);

const SWEEP: &str = r#"trap '' INT TERM HUP
while read -r _; do :; done
tries=0
while [ -e "$1/postgres/postmaster.pid" ] && [ "$tries" -lt 30 ]; do sleep 1; tries=$((tries + 1)); done
rm -rf -- "$1""#;

impl Sweeper {
    fn of(folder: &Path) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SWEEP, "pgvalet-sweeper"]).arg(folder).current_dir("/");
        // Its own group, so that Ctrl-C on the terminal reaches us alone.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(Self)
    }
}

impl Drop for Sweeper {
    /// It is not needed any more: who drops it has removed the folder, or is about to.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::ThrowAway(folder, _) => folder.path(),
        }
    }
}

impl Playground {
    /// Starts it. What was begun is taken back if it fails.
    ///
    /// # Errors
    /// If a part cannot be started.
    pub async fn start(given: &Dev) -> anyhow::Result<Self> {
        let folder = make_folder(given.data.as_deref())?;
        let superuser = kept_secret(&folder.path().join("superuser.secret"))?;
        let outside = Outside::start(given).await?;
        let cluster = start_cluster(given, &folder, superuser.duplicate()).await?;
        match Self::fill(given, &folder, (&cluster, &outside), &superuser).await {
            Ok((daemon, token)) => Ok(Self { folder, cluster, daemon, token, outside }),
            Err(e) => {
                tokio::task::spawn_blocking(|| cluster.stop()).await??;
                Err(e)
            }
        }
    }

    async fn fill(
        given: &Dev,
        folder: &Folder,
        (cluster, outside): (&Cluster, &Outside),
        superuser: &Secret<String>,
    ) -> anyhow::Result<(Daemon, Secret<String>)> {
        let state = kept_secret(&folder.path().join("state.secret"))?;
        let admin = kept_secret(&folder.path().join("shop-admin.secret"))?;
        let place = |database| Place {
            port: cluster.port(),
            database,
            user: SUPERUSER,
            password: superuser,
        };
        if !script::database_exists(&place("postgres"), STATE).await? {
            make_databases(&place, &state, &admin).await?;
        }
        let config = configuration(given, folder, (cluster.port(), outside), &state)?;
        let daemon = Daemon::start(config).await?;
        match Self::introduce(folder, (cluster, outside), &daemon, admin).await {
            Ok(token) => Ok((daemon, token)),
            Err(e) => {
                daemon.stop().await?;
                Err(e)
            }
        }
    }

    /// The administrator's token, made on the first start; and the profiles, applied on each, because
    /// the port may be another one.
    async fn introduce(
        folder: &Folder,
        (cluster, outside): (&Cluster, &Outside),
        daemon: &Daemon,
        admin: Secret<String>,
    ) -> anyhow::Result<Secret<String>> {
        let token_file = folder.path().join("admin.token");
        let token = match fs::read_to_string(&token_file) {
            Ok(text) => Secret::new(text.trim().to_owned()),
            Err(_) => {
                let token = daemon.bootstrap(&"you".parse()?).await?.secret;
                write_private(&token_file, token.expose())?;
                token
            }
        };
        let client = Client::new(&url_of(daemon), token.duplicate())?;
        let code = Code {
            name: "playground".to_owned(),
            text: PROFILES.replace(PORT_LINE, &format!("port = {}", cluster.port()))
                + outside.profiles(),
            secrets: [("env:SHOP_ADMIN".to_owned(), admin)].into(),
        };
        for (person, tenant, group) in TENANTS {
            let file = folder.path().join(format!("{person}.token"));
            if !file.exists() {
                let made = client.create_token(&token_of(person, tenant, group)).await?.value;
                write_private(&file, made.secret.expose())?;
            }
        }
        client.apply(&code).await?;
        if let Some(slack) = outside.slack() {
            slack.installed_at(&url_of(daemon));
        }
        if let Some(provider) = outside.provider() {
            make_administrator(&client, folder).await?;
            link_people(&client, &provider.issuer()).await?;
        }
        Ok(token)
    }

    /// A client of its daemon, as the administrator.
    ///
    /// # Errors
    /// If its address is no address, which does not happen.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url(), self.token.duplicate())?)
    }

    /// The API's address.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(&self.daemon)
    }

    /// Where the administrator's token is.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("admin.token")
    }

    /// Where the token of a person of the shop is.
    #[must_use]
    pub fn token_file_of(&self, person: &str) -> PathBuf {
        self.folder.path().join(format!("{person}.token"))
    }

    /// What stands in for other people's servers.
    #[must_use]
    pub const fn outside(&self) -> &Outside {
        &self.outside
    }

    /// PostgreSQL's major version.
    #[must_use]
    pub const fn postgres_major(&self) -> u32 {
        self.cluster.major()
    }

    /// What is left after the end, in words.
    #[must_use]
    pub fn what_stays(&self) -> String {
        match &self.folder {
            Folder::Kept(path) => format!("; {} is kept for the next time", path.display()),
            Folder::ThrowAway(..) => " and leaves nothing behind".to_owned(),
        }
    }

    /// Waits for a signal, or for the end of the daemon. Gives the exit status.
    pub async fn until_stopped(&self, signals: &mut child::Signals) -> u8 {
        tokio::select! {
            // To be stopped is how a playground ends well.
            () = signals.any() => 0,
            () = self.daemon.ended() => 5,
        }
    }

    /// Ends all of it.
    ///
    /// # Errors
    /// If a part does not end well.
    pub async fn stop(self) -> anyhow::Result<()> {
        let stopped = self.daemon.stop().await;
        let cluster = self.cluster;
        tokio::task::spawn_blocking(|| cluster.stop()).await??;
        if let Folder::ThrowAway(folder, _sweeper) = self.folder {
            folder.close().context("could not remove the playground's folder")?;
        }
        Ok(stopped?)
    }
}

/// The person of the provider who administers is one here too.
async fn make_administrator(client: &Client, folder: &Folder) -> anyhow::Result<()> {
    let file = folder.path().join("mia.token");
    if !file.exists() {
        let wish = CreateToken {
            name: "playground".to_owned(),
            principal: Some("person:mia".to_owned()),
            admin: Some(true),
            ..CreateToken::default()
        };
        let made = client.create_token(&wish).await?.value;
        write_private(&file, made.secret.expose())?;
    }
    Ok(())
}

/// People who were here before the provider are linked to it, as an administrator does: a name alone makes nobody
/// the same person.
async fn link_people(client: &Client, issuer: &str) -> anyhow::Result<()> {
    for person in ["ada", "gus", "mia"] {
        let link = Link { issuer: issuer.to_owned(), subject: format!("sub-{person}") };
        people::add_identity(client, &format!("person:{person}"), &link).await?;
    }
    Ok(())
}

fn url_of(daemon: &Daemon) -> String {
    format!("http://{}", daemon.address())
}

fn make_folder(kept: Option<&Path>) -> anyhow::Result<Folder> {
    match kept {
        Some(path) => {
            fs::create_dir_all(path)
                .with_context(|| format!("could not make {}", path.display()))?;
            let path =
                path.canonicalize().with_context(|| format!("could not use {}", path.display()))?;
            Ok(Folder::Kept(path))
        }
        None => {
            let folder = tempfile::Builder::new().prefix("pgvalet-dev-").tempdir_in("/tmp");
            let folder = folder.context("could not make a folder in /tmp")?;
            // The account that runs PostgreSQL must get through it, and may see nothing in it.
            fs::set_permissions(
                folder.path(),
                std::os::unix::fs::PermissionsExt::from_mode(0o711),
            )?;
            let sweeper = Sweeper::of(folder.path()).context("could not run /bin/sh")?;
            Ok(Folder::ThrowAway(folder, sweeper))
        }
    }
}

async fn start_cluster(
    given: &Dev,
    folder: &Folder,
    password: Secret<String>,
) -> anyhow::Result<Cluster> {
    let lifetime = match folder {
        Folder::Kept(_) => Lifetime::Kept,
        Folder::ThrowAway(..) => Lifetime::ThrowAway,
    };
    let (wanted, data_dir) = (given.postgres_dir.clone(), folder.path().join("postgres"));
    let start = move || -> anyhow::Result<Cluster> {
        let programs = match programs::find(wanted.as_deref()) {
            Ok(programs) => programs,
            Err(e) if wanted.is_some() => return Err(e.into()),
            Err(_) => obtain::obtain(&obtain::default_cache(), &report)?,
        };
        Ok(Cluster::start(cluster::Options {
            programs,
            data_dir,
            socket_dir: None,
            lifetime,
            listen: Listen::Loopback(0),
            settings: vec![("max_connections".to_owned(), "200".to_owned())],
            superuser: SUPERUSER.to_owned(),
            password,
        })?)
    };
    tokio::task::spawn_blocking(start).await?
}

fn report(progress: &str) {
    // Without a terminal there is nobody who waits.
    let _ = writeln!(io::stderr(), "pgvalet: {progress}");
}

/// The shop first: the state database is the mark that everything before it was made.
async fn make_databases<'a>(
    place: &impl Fn(&'static str) -> Place<'a>,
    state: &Secret<String>,
    admin: &Secret<String>,
) -> anyhow::Result<()> {
    let maintenance = place("postgres");
    if script::database_exists(&maintenance, shop::DATABASE).await? {
        // A start that was broken off half-way: begin anew.
        script::run(&maintenance, &["DROP DATABASE shop WITH (FORCE)"]).await?;
    }
    let admin_sql = shop::admin_sql(verifier(admin)?.text());
    script::run(&maintenance, &[shop::CLUSTER_SQL, &admin_sql, shop::CREATE_DATABASE_SQL]).await?;
    script::run(&place(shop::DATABASE), &shop::DATABASE_SQL).await?;
    let verifier = verifier(state)?;
    let role = format!(
        "DROP ROLE IF EXISTS {STATE}; CREATE ROLE {STATE} LOGIN PASSWORD '{}'",
        verifier.text()
    );
    let database =
        format!("CREATE DATABASE {STATE} OWNER {STATE} TEMPLATE template0 ENCODING 'UTF8'");
    let closed = format!("REVOKE ALL ON DATABASE {STATE} FROM PUBLIC");
    script::run(&maintenance, &[&role, &database, &closed]).await?;
    Ok(())
}

fn verifier(password: &Secret<String>) -> anyhow::Result<scram::Verifier> {
    Ok(scram::verifier(password, rng::bytes()?, scram::DEFAULT_ITERATIONS))
}

/// The daemon's configuration, as a file in the folder: what a person would write.
fn configuration(
    given: &Dev,
    folder: &Folder,
    (port, outside): (u16, &Outside),
    state: &Secret<String>,
) -> anyhow::Result<Config> {
    let folder = folder.path();
    let key_file = folder.join("master.key");
    if !key_file.exists() {
        MasterKeys::generate_file(&key_file, rng::bytes()?)?;
    }
    let url =
        format!("postgres://{STATE}:{}@127.0.0.1:{port}/{STATE}?sslmode=disable", state.expose());
    write_private(&folder.join("state.url"), &url)?;
    let listen = given.listen.map_or_else(|| "127.0.0.1:0".to_owned(), |listen| listen.to_string());
    let text = format!(
        "listen = \"{listen}\"\ndata_dir = \"data\"\n\n[state]\nurl = {{ file = \"state.url\" }}\n\n[master_key]\nfile = \"master.key\"\n\n{}",
        outside.settings()
    );
    let path = folder.join("pgvalet.toml");
    fs::write(&path, text)?;
    Ok(Config::load(Some(&path), [])?)
}

/// The password in a file, made and written on the first start.
fn kept_secret(path: &Path) -> anyhow::Result<Secret<String>> {
    if let Ok(text) = fs::read_to_string(path) {
        return Ok(Secret::new(text.trim().to_owned()));
    }
    let password = rng::password()?;
    write_private(path, password.expose())?;
    Ok(password)
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("could not write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("could not write {}", path.display()))
}
