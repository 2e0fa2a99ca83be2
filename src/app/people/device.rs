//! Signing in on another device (RFC 8628): for `pgvalet login`, which may run where there is no browser. The
//! daemon asks the provider; what the client holds is a secret of ours, so that neither the provider's code
//! nor its tokens ever leave the daemon.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    app::{
        App, Origin,
        error::Error,
        people::{
            key_of,
            sessions::{Vouched, over},
        },
        tokens::NewToken,
    },
    domain::session::Client,
    identity::{oidc::Polled, throttle},
    rng,
    secret::Secret,
    store::{
        seal::Place,
        sign_ins::{NewSignIn, Turn},
    },
};

/// What a person is to do, and what the client asks with until it is done.
#[derive(Debug)]
pub struct Begun {
    /// What to poll with. Whoever has it gets the session.
    pub secret: Secret<String>,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub address: String,
    /// The same with the code in it.
    pub address_with_code: Option<String>,
    /// How long to wait between two questions.
    pub interval: TimeDelta,
    /// When it is too late.
    pub ends_at: DateTime<Utc>,
}

/// How it stands.
#[derive(Debug)]
pub enum Progress {
    /// The person is not there yet: ask again after this.
    Waiting(TimeDelta),
    /// The session.
    Done(Box<NewToken>),
}

const fn place(id: Uuid) -> Place {
    Place { table: "sign_in", row: id, column: "sealed" }
}

impl App {
    /// Begins a sign-in on another device.
    ///
    /// # Errors
    /// If there is no provider, it cannot be asked, or too many are begun.
    pub async fn begin_device(&self, origin: &Origin) -> Result<Begun, Error> {
        let sign_ins = self.sign_ins()?;
        self.may_begin(sign_ins, origin)?;
        let device = match sign_ins.provider.begin_device().await {
            Ok(device) => device,
            Err(fault) => {
                return Err(self.provider_fault(origin, Client::CommandLine, fault).await);
            }
        };
        let secret = rng::token_secret().map_err(Error::internal)?;
        let (id, now) = (Uuid::now_v7(), self.clock.now());
        let source = origin.source.map(|source| throttle::network(source).to_string());
        let ends_at = now + TimeDelta::seconds(device.seconds);
        let interval = TimeDelta::seconds(device.interval);
        let new = NewSignIn {
            key: &key_of(secret.expose()),
            id,
            client: Client::CommandLine,
            source: source.as_deref(),
            sealed: &self.seal(place(id), &device.code)?,
            interval,
            ends_at,
        };
        if !self.store.begin_sign_in(&new, now).await? {
            return Err(Error::Throttled { retry_after_seconds: 60 });
        }
        Ok(Begun {
            secret,
            user_code: device.user_code,
            address: device.address,
            address_with_code: device.address_with_code,
            interval,
            ends_at,
        })
    }

    /// How a device's sign-in stands; its session, once the person is there.
    ///
    /// # Errors
    /// If there is no such sign-in, the person said no, or the provider's word is not taken.
    pub async fn poll_device(&self, origin: &Origin, secret: &str) -> Result<Progress, Error> {
        let sign_ins = self.sign_ins()?;
        let (key, now) = (key_of(secret), self.clock.now());
        // Whoever guesses is slowed down as with tokens; whoever knows one is not.
        let attempt = self.may_try(origin).await?;
        let sign_in = match self.store.poll_sign_in(&key, now).await? {
            Turn::Unknown => {
                drop(attempt);
                return Err(self.refuse_sign_in(origin, Client::CommandLine, over()).await);
            }
            Turn::Wait(interval) => {
                attempt.was_good();
                return Ok(Progress::Waiting(interval));
            }
            Turn::Ask(sign_in) => sign_in,
        };
        attempt.was_good();
        let code = self.keys.open(place(sign_in.id), &sign_in.sealed).map_err(Error::Sealed)?;
        let answered = match sign_ins.provider.poll_device(&code).await {
            Ok(Polled::Done(answered)) => answered,
            Ok(Polled::Pending) => return Ok(Progress::Waiting(sign_in.interval)),
            Ok(Polled::SlowDown) => {
                self.store.slow_sign_in_down(&key, now).await?;
                return Ok(Progress::Waiting(sign_in.interval + TimeDelta::seconds(5)));
            }
            Ok(polled @ (Polled::Denied | Polled::Expired)) => {
                self.store.drop_sign_in(&key).await?;
                let refusal = match polled {
                    Polled::Denied => {
                        ("sign_in_denied", "you, or the provider, said no".to_owned())
                    }
                    _ => over(),
                };
                return Err(self.refuse_sign_in(origin, Client::CommandLine, refusal).await);
            }
            Err(fault) => {
                return Err(self.provider_fault(origin, Client::CommandLine, fault).await);
            }
        };
        let read = sign_ins.provider.read(&answered, None, now).await;
        let person = match read {
            Ok(claims) => sign_ins.describe(&claims),
            Err(fault) => {
                self.store.drop_sign_in(&key).await?;
                return Err(self.provider_fault(origin, Client::CommandLine, fault).await);
            }
        };
        let person = match person {
            Ok(person) => person,
            Err(why) => {
                self.store.drop_sign_in(&key).await?;
                let refusal =
                    ("id_token_refused", format!("the provider's ID token is not taken: {why}"));
                return Err(self.refuse_sign_in(origin, Client::CommandLine, refusal).await);
            }
        };
        let vouched = Vouched { person, refresh_token: answered.refresh_token };
        let made = self.open_session(origin, Client::CommandLine, &vouched, Some(&key)).await?;
        Ok(Progress::Done(Box::new(made)))
    }
}
