//! What one test has for itself: a state database, a shop with an admin role, a target and profiles
//! with names of their own, a daemon, and an administrator. Roles belong to the whole cluster, so
//! every name begins with the world's.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::{Value, json};
use sqlx::PgConnection;
use tempfile::TempDir;

use crate::support::{
    chaos::Proxy,
    daemon::Daemon,
    eventually,
    people::{Person, Secrets},
    postgres::{Postgres, shared},
    seconds,
    sessions::try_text,
    wire::{Judge, Side, Wire},
};

/// What a world is to be like.
#[derive(Default)]
pub(crate) struct Plan {
    /// Lines of the daemon's settings outside of any table.
    pub(crate) top: &'static str,
    /// Lines of the `[lease]` table of the daemon's settings.
    pub(crate) lease: &'static str,
    /// More settings, in tables of their own.
    pub(crate) settings: &'static str,
    /// Variables that the daemon is started with.
    pub(crate) environment: Vec<(String, String)>,
    /// Asked at every statement between the daemon and its databases.
    pub(crate) judge: Option<Judge>,
    /// What the daemon logs; everything if empty.
    pub(crate) log: &'static str,
    /// The cluster of the state database; the shared one if none.
    pub(crate) state_on: Option<Arc<Postgres>>,
    /// The cluster of the shop; the shared one if none.
    pub(crate) shop_on: Option<Arc<Postgres>>,
}

/// A test's own.
pub(crate) struct World {
    /// What every name of this world begins with.
    pub(crate) name: String,
    pub(crate) daemon: Daemon,
    /// The administrator, whom every profile allows.
    pub(crate) admin: Person,
    pub(crate) secrets: Secrets,
    /// The cluster of the shop.
    pub(crate) target: Arc<Postgres>,
    /// Between the daemon and the shop's cluster. Leases name its port.
    pub(crate) target_path: Proxy,
    /// Between the daemon and the state's cluster.
    pub(crate) state_path: Proxy,
    state: Arc<Postgres>,
    _wires: Vec<Wire>,
    folder: TempDir,
    settings: String,
    more_daemons: u32,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    /// The usual one.
    pub(crate) async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    /// One with a difference.
    pub(crate) async fn with(plan: Plan) -> Self {
        let name = format!("w{}", WORLDS.fetch_add(1, Ordering::Relaxed));
        let state = match plan.state_on {
            Some(own) => own,
            None => shared().await,
        };
        let target = match plan.shop_on {
            Some(own) => own,
            None => shared().await,
        };
        let (mut state_port, mut target_port, mut wires) =
            (state.port(), target.port(), Vec::new());
        if let Some(judge) = plan.judge {
            for (side, port) in [(Side::State, &mut state_port), (Side::Target, &mut target_port)] {
                let wire = Wire::before(*port, side, Arc::clone(&judge)).await;
                *port = wire.port();
                wires.push(wire);
            }
        }
        let (state_path, target_path) =
            (Proxy::before(state_port).await, Proxy::before(target_port).await);
        let state_password = state.make_state(&format!("{name}_state")).await;
        let members = [("read", 1), ("read", 2), ("write", 1), ("write", 2), ("acme", 1)];
        let members = members.map(|(profile, tenant)| (format!("pgvg_{name}_{profile}"), tenant));
        let admin_password = target.make_shop(&format!("{name}_shop"), &members).await;

        let folder = tempfile::Builder::new().prefix("pgvalet-it-").tempdir().unwrap();
        let url = format!(
            "postgres://{name}_state:{state_password}@127.0.0.1:{}/{name}_state?sslmode=disable",
            state_path.port()
        );
        fs::write(folder.path().join("state.url"), url).unwrap();
        let key_file = folder.path().join("master.key");
        pgvalet::config::MasterKeys::generate_file(&key_file, pgvalet::rng::bytes().unwrap())
            .unwrap();
        let settings = format!(
            "listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\n{}\n[state]\nurl = {{ file = \"state.url\" }}\n\n\
             [master_key]\nfile = \"master.key\"\n\n[log]\nformat = \"json\"\nfilter = \"{}\"\n\n\
             [lease]\n{}\n\n{}\n",
            plan.top,
            if plan.log.is_empty() { "trace" } else { plan.log },
            plan.lease,
            plan.settings
        );
        let secrets = Secrets::default();
        secrets.remember(&state_password);
        secrets.remember(&admin_password);
        let mut daemon = Daemon::new(folder.path(), "daemon", &settings);
        daemon.environment = plan.environment;
        daemon.start().await;
        let token = daemon.bootstrap().await;
        let admin = Person::new(&daemon.url, &token, &secrets);
        let world = Self {
            name,
            daemon,
            admin,
            secrets,
            target,
            target_path,
            state_path,
            state,
            _wires: wires,
            folder,
            settings,
            more_daemons: 0,
        };
        world.introduce(&admin_password).await;
        world
    }

    async fn introduce(&self, admin_password: &str) {
        let shop = format!("{}_shop", self.name);
        let target = json!({
            "environment": "test", "host": "127.0.0.1", "port": self.target_path.port(),
            "sslmode": "disable", "admin_user": shop, "admin_password": admin_password,
            "databases": [shop], "rotate_admin": "never",
        });
        self.admin.put(&format!("/v1/targets/{}", self.name), &target).await.expect(201);
        self.put_profile("read", json!({})).await;
        self.put_profile("write", json!({ "preset": "readwrite" })).await;
        self.put_profile("acme", json!({})).await;
    }

    /// The name of a profile of this world.
    pub(crate) fn profile(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Records a profile: readonly on `public`, 1 h, at most 8 h, for anyone, but for what differs.
    pub(crate) async fn put_profile(&self, name: &str, differs: Value) {
        let mut spec = json!({
            "name": self.profile(name), "target": self.name, "database": self.shop(),
            "preset": "readonly", "schemas": ["public"], "ttl": "1h", "max_ttl": "8h",
            "connection_limit": 5, "allow": ["anyone"],
        });
        if let (Some(spec), Value::Object(differs)) = (spec.as_object_mut(), differs) {
            spec.extend(differs);
        }
        let answer = self.admin.put(&format!("/v1/profiles/{}", self.profile(name)), &spec).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.text);
    }

    /// The shop's database, and the admin role of the same name.
    pub(crate) fn shop(&self) -> String {
        format!("{}_shop", self.name)
    }

    /// A person with a token of their own.
    pub(crate) async fn person(&self, name: &str, groups: &[&str]) -> Person {
        let body = json!({
            "name": "test", "principal": format!("person:{name}"), "groups": groups,
        });
        let made = self.admin.post("/v1/tokens", &body).await.expect(201);
        self.admin.with_token(made["secret"].as_str().unwrap())
    }

    /// A session with the target as the superuser, in the shop.
    pub(crate) async fn on_target(&self) -> PgConnection {
        self.target.superuser(&self.shop()).await
    }

    /// A session with the state database as the superuser, past the proxy.
    pub(crate) async fn on_state(&self) -> PgConnection {
        self.state.superuser(&format!("{}_state", self.name)).await
    }

    /// The cluster of the state database.
    pub(crate) fn state(&self) -> &Postgres {
        &self.state
    }

    /// The daemon's master keys, as their file has them.
    pub(crate) fn master_keys(&self) -> String {
        fs::read_to_string(self.folder.path().join("master.key")).unwrap()
    }

    /// The leased logins of this world on the target.
    pub(crate) async fn roles(&self) -> Vec<String> {
        let mut connection = self.on_target().await;
        sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1 ORDER BY 1")
            .bind(format!("pgv\\_{}-%", self.name))
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }

    /// A lease of the administrator's under a profile of this world: the answer that issued it.
    pub(crate) async fn issue(&self, profile: &str, more: Value) -> Value {
        self.admin.ask(&self.profile(profile), more).await.expect(201)
    }

    /// The leases that are not over, newest first.
    pub(crate) async fn live(&self) -> Vec<Value> {
        let page = self.admin.get("/v1/leases?state=live&limit=100").await.expect(200);
        page["items"].as_array().unwrap().clone()
    }

    /// Waits until a lease is revoked; gives it.
    pub(crate) async fn gone(&self, id: &str, limit: u64) -> Value {
        let mut lease = Value::Null;
        eventually(&format!("lease {id} is revoked"), seconds(limit), async || {
            lease = self.admin.lease(id).await;
            lease["state"] == "revoked"
        })
        .await;
        lease
    }

    /// Where the settings of its daemons are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A second daemon on the same state, started. Stop it before the test ends.
    pub(crate) async fn another_daemon(&mut self) -> Daemon {
        self.another_daemon_with("").await
    }

    /// The same with more settings, in tables of their own.
    pub(crate) async fn another_daemon_with(&mut self, more: &str) -> Daemon {
        self.more_daemons += 1;
        let name = format!("daemon{}", self.more_daemons);
        let settings = format!("{}\n{more}", self.settings);
        let mut daemon = Daemon::new(self.folder.path(), &name, &settings);
        daemon.start().await;
        daemon
    }

    /// Starts the daemon again, after it was killed or stopped; the administrator follows it.
    pub(crate) async fn start_daemon(&mut self) {
        self.daemon.start().await;
        self.admin = self.admin.at(&self.daemon.url);
    }

    /// Ends the test: revokes what is live, stops the daemon, and looks whether anything is left over
    /// that must not be.
    pub(crate) async fn finish(self) {
        assert!(self.daemon.is_running(), "start the daemon again before the end");
        let all = json!({ "target": self.name });
        let answer = self.admin.post("/v1/revocations", &all).await;
        assert!([200, 202].contains(&answer.status), "{}", answer.text);
        let mut state = self.on_state().await;
        eventually("every login is removed", seconds(30), async || {
            let live = "SELECT count(*) FROM login WHERE state <> 'revoked'";
            try_text(&mut state, live).await.unwrap() == "0"
        })
        .await;
        assert_eq!(self.roles().await, Vec::<String>::new(), "roles are left over");
        let verification = self.admin.get("/v1/audit/verify").await.expect(200);
        assert_eq!(verification["intact"], true, "{verification}");
        self.finish_with_broken_audit().await;
    }

    /// The same for a test that altered the audit, or whose leases cannot all end.
    pub(crate) async fn finish_with_broken_audit(mut self) {
        let status = self.daemon.stop().await;
        assert!(status.success(), "the daemon ended with {status}: {}", self.daemon.log());
        let mut errors = self.daemon.lines_at("ERROR");
        // What the driver says of a connection that broke while it was made ready is its own level.
        errors.retain(|line| !line.contains("\"target\":\"sqlx_core::pool"));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(self.secrets.found_in(&self.daemon.log()), Vec::<String>::new(), "in the log");
        self.state.drop_database(&format!("{}_state", self.name)).await;
        self.target.drop_database(&self.shop()).await;
    }
}
