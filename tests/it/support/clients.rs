//! A client that issues, uses, renews, rotates and revokes leases, and does not mind a daemon that is
//! gone: it goes on with the next one. What it was told goes into the ledger.

use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::{sync::watch, task::JoinSet};

use crate::support::{books::Ledger, people::Person, sessions::sign_in, world::World};

/// A client keeps so many leases at most.
const MOST_LEASES: usize = 6;

/// And so many sessions.
const MOST_SESSIONS: usize = 3;

/// Clients at work.
pub(crate) struct Working {
    clients: JoinSet<()>,
    admin: watch::Sender<Person>,
    stop: watch::Sender<bool>,
}

/// Starts so many clients of a world; what they do follows from the seed.
pub(crate) fn start(world: &World, count: u64, seed: u64, ledger: &Arc<Ledger>) -> Working {
    let (admin, stop) = (watch::Sender::new(world.admin.clone()), watch::Sender::new(false));
    let mut clients = JoinSet::new();
    for client in 0..count {
        let client = Client {
            rng: StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(client)),
            admin: admin.subscribe(),
            stop: stop.subscribe(),
            profiles: [world.profile("read"), world.profile("write")],
            ledger: Arc::clone(ledger),
        };
        clients.spawn(client.run());
    }
    Working { clients, admin, stop }
}

impl Working {
    /// The daemon runs at another address now.
    pub(crate) fn follow(&self, admin: &Person) {
        self.admin.send_replace(admin.clone());
    }

    /// Lets each finish what it does.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

struct Client {
    rng: StdRng,
    /// Whom it acts as, at the daemon that runs.
    admin: watch::Receiver<Person>,
    stop: watch::Receiver<bool>,
    profiles: [String; 2],
    ledger: Arc<Ledger>,
}

/// What one client has at hand.
#[derive(Default)]
struct Hand {
    leases: Vec<String>,
    sessions: Vec<PgConnection>,
    /// The key of a wish whose answer never came.
    open_wish: Option<(String, Value)>,
}

impl Client {
    async fn run(mut self) {
        let mut hand = Hand::default();
        while !*self.stop.borrow() {
            let person = self.admin.borrow_and_update().clone();
            if !self.act(&person, &mut hand).await {
                // The daemon is gone: another one comes.
                tokio::select! {
                    _ = self.admin.changed() => {}
                    _ = self.stop.wait_for(|stop| *stop) => {}
                }
            }
        }
    }

    /// One call; false if no answer came.
    async fn act(&mut self, person: &Person, hand: &mut Hand) -> bool {
        let lease = (!hand.leases.is_empty())
            .then(|| self.rng.random_range(0..hand.leases.len()))
            .filter(|_| hand.leases.len() >= MOST_LEASES || self.rng.random_ratio(3, 5));
        let Some(at) = lease else { return self.issue(person, hand).await };
        let id = hand.leases[at].clone();
        let what = self.rng.random_range(0..4);
        let (method, path, body) = match what {
            0 => (Method::POST, format!("/v1/leases/{id}/renew"), Some(json!({ "ttl": "1h" }))),
            1 => (Method::POST, format!("/v1/leases/{id}/rotate"), None),
            _ => {
                hand.leases.swap_remove(at);
                (Method::DELETE, format!("/v1/leases/{id}"), None)
            }
        };
        let Ok(answer) = person.try_call(method, &path, body.as_ref(), &[]).await else {
            return false;
        };
        match (what, answer.status) {
            (0, 200) => self.ledger.told(&id, "lease.renewed"),
            (1, 200) => {
                self.ledger.told(&id, "lease.rotated");
                self.use_it(&answer.body, hand).await;
            }
            (_, 200) => self.ledger.told(&id, "lease.revoked"),
            _ => self.ledger.answered(&answer),
        }
        true
    }

    async fn issue(&mut self, person: &Person, hand: &mut Hand) -> bool {
        let (key, wish) = hand.open_wish.take().unwrap_or_else(|| self.wish());
        let headers = [("Idempotency-Key", key.as_str())];
        let asked = person.try_call(Method::POST, "/v1/leases", Some(&wish), &headers).await;
        let Ok(answer) = asked else {
            hand.open_wish = Some((key, wish));
            return false;
        };
        if let (200 | 201, Some(id)) = (answer.status, answer.body["lease"]["id"].as_str()) {
            self.ledger.told(id, "lease.activated");
            hand.leases.push(id.to_owned());
            self.use_it(&answer.body, hand).await;
        } else {
            self.ledger.answered(&answer);
        }
        true
    }

    fn wish(&mut self) -> (String, Value) {
        let key = format!("kills-{:032x}", self.rng.random::<u128>());
        let ttl = ["2s", "30s", "1h"][self.rng.random_range(0..3)];
        let profile = &self.profiles[self.rng.random_range(0..2)];
        (key, json!({ "profile": profile, "tool": "kills", "ttl": ttl }))
    }

    /// Signs in with every fourth credential, and keeps the session.
    async fn use_it(&mut self, answer: &Value, hand: &mut Hand) {
        if answer["credential"].is_object() && self.rng.random_ratio(1, 4) {
            if hand.sessions.len() >= MOST_SESSIONS {
                hand.sessions.remove(0);
            }
            // It may have been ended already, by its time or by another client's daemon.
            hand.sessions.extend(sign_in(answer).await.ok());
        }
    }
}
