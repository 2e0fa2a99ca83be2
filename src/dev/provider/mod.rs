//! An identity provider for the playground and for tests: real HTTP on loopback, real signatures, real pages to
//! click on, and three people. It asks for no password, so it vouches for nobody outside of this machine.
//!
//! What a provider may get wrong, or what somebody may put in its place, is a knob here ([`Wrong`]): what pgvalet
//! makes of each is tested against the very provider that one tries it out with.

mod grants;
mod pages;
mod tokens;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

pub use crate::dev::provider::tokens::Wrong;
use crate::dev::provider::{
    grants::{Code, Device},
    tokens::Key,
};

/// What pgvalet is called here.
pub const CLIENT: &str = "pgvalet";

/// The claim with a person's tenant.
pub const TENANT_CLAIM: &str = "https://example.org/tenant";

/// Somebody who can sign in here.
#[derive(Debug, Clone)]
pub struct Person {
    /// The key for them: never another's.
    pub subject: &'static str,
    /// What they are called.
    pub name: String,
    /// The groups that they are in.
    pub groups: Vec<String>,
    /// Their tenant, if they are of one.
    pub tenant: Option<&'static str>,
    /// Did they leave?
    pub disabled: bool,
}

/// A provider that runs.
#[derive(Debug)]
pub struct Provider {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    state: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    people: Vec<Person>,
    keys: Vec<Key>,
    codes: HashMap<String, Code>,
    devices: HashMap<String, Device>,
    refresh_tokens: HashMap<String, &'static str>,
    wrong: Option<Wrong>,
    down: bool,
    without_devices: bool,
    secret: Option<String>,
    interval: i64,
    devices_last: TimeDelta,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Provider {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// If there is no port, or no randomness.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is no part of the daemon: it ends with the value that is given back"
    )]
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Inside {
            people: people(),
            keys: vec![Key::new("first")?],
            codes: HashMap::new(),
            devices: HashMap::new(),
            refresh_tokens: HashMap::new(),
            wrong: None,
            down: false,
            without_devices: false,
            secret: None,
            interval: 1,
            devices_last: TimeDelta::minutes(10),
        };
        let shared = Arc::new(Shared { address, state: Mutex::new(state) });
        let router = router(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // It ends when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { shared, server })
    }

    /// Its name, and where it is.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.shared.issuer()
    }

    /// What a daemon's settings say of it, with more lines of that table.
    #[must_use]
    pub fn settings(&self, more: &str) -> String {
        format!(
            "[oidc]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclaims = {{ tenant_id = \"{TENANT_CLAIM}\" }}\n{more}",
            self.issuer()
        )
    }

    /// What is wrong with the next token, and with no other.
    pub fn next_token_is(&self, wrong: Wrong) {
        self.shared.inside().wrong = Some(wrong);
    }

    /// Does it answer at all?
    pub fn set_down(&self, down: bool) {
        self.shared.inside().down = down;
    }

    /// From now on it has no sign-in by device.
    pub fn forget_devices(&self) {
        self.shared.inside().without_devices = true;
    }

    /// From now on its client has to prove who it is.
    pub fn require_secret(&self, secret: &str) {
        self.shared.inside().secret = Some(secret.to_owned());
    }

    /// How long devices are to wait between two questions.
    pub fn set_interval(&self, seconds: i64) {
        self.shared.inside().interval = seconds;
    }

    /// Devices that wait have waited too long.
    pub fn expire_devices(&self) {
        let mut inside = self.shared.inside();
        for device in inside.devices.values_mut() {
            device.ends_at = DateTime::<Utc>::MIN_UTC;
        }
    }

    /// Signs with another key from now on; the one before is taken back.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn rotate_keys(&self) -> anyhow::Result<()> {
        let mut inside = self.shared.inside();
        let name =
            inside.keys.first().map_or_else(String::new, |key| format!("{}-and-next", key.name()));
        inside.keys = vec![Key::new(&name)?];
        Ok(())
    }

    /// Somebody leaves, or comes back.
    pub fn set_disabled(&self, subject: &str, disabled: bool) {
        self.change(subject, |person| person.disabled = disabled);
    }

    /// The groups that somebody is in from now on.
    pub fn set_groups(&self, subject: &str, groups: &[&str]) {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        self.change(subject, |person| person.groups = groups);
    }

    /// What somebody is called from now on.
    pub fn rename(&self, subject: &str, name: &str) {
        self.change(subject, |person| name.clone_into(&mut person.name));
    }

    /// Refresh tokens that hold.
    #[must_use]
    pub fn refresh_tokens(&self) -> Vec<String> {
        self.shared.inside().refresh_tokens.keys().cloned().collect()
    }

    fn change(&self, subject: &str, change: impl FnOnce(&mut Person)) {
        let mut inside = self.shared.inside();
        if let Some(person) = inside.people.iter_mut().find(|person| person.subject == subject) {
            change(person);
        }
    }
}

impl Shared {
    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn person(&self, subject: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.subject == subject)
    }
}

/// One of each tenant of the shop, and one who administers.
fn people() -> Vec<Person> {
    let person = |subject, name: &str, groups: &[&str], tenant| Person {
        subject,
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        tenant,
        disabled: false,
    };
    vec![
        person("sub-ada", "ada", &["acme"], Some("1")),
        person("sub-gus", "gus", &["globex"], Some("2")),
        person("sub-mia", "mia", &["platform"], None),
    ]
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/keys", get(keys))
        .route("/token", post(grants::token))
        .route("/device_authorization", post(grants::begin_device))
        .route("/", get(pages::people).post(pages::change_person))
        .route("/authorize", get(pages::authorize).post(pages::authorized))
        .route("/device", get(pages::device).post(pages::device_done))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), unless_down))
        .with_state(shared)
}

async fn unless_down(
    State(shared): State<Arc<Shared>>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let down = shared.inside().down;
    if down { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { next.run(request).await }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let issuer = shared.issuer();
    let mut document = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/keys"),
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "device_authorization_endpoint": format!("{issuer}/device_authorization"),
        "authorization_response_iss_parameter_supported": true,
        "code_challenge_methods_supported": ["S256"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
    });
    if shared.inside().without_devices
        && let Some(document) = document.as_object_mut()
    {
        document.remove("device_authorization_endpoint");
    }
    Json(document)
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let keys: Vec<Value> = shared.inside().keys.iter().map(Key::published).collect();
    Json(json!({ "keys": keys }))
}
