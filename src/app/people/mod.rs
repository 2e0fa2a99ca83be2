//! People whom a provider vouches for: they sign in, are looked after while it knows them, and are looked after
//! by administrators. A person is known by the provider's key for them, never by a name or an address: names
//! are given anew, and whoever comes second must not inherit what the first one had.

pub mod browser;
pub mod device;
pub mod directory;
pub mod disabling;
pub mod offboarding;
pub mod recheck;
pub mod scim;
pub mod sessions;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, OnceLock, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::{
    app::{App, Origin, error::Error},
    config::{OidcConfig, SessionLengths},
    domain::{
        audit::{Actor, Event},
        person::{Described, LONGEST_USER_NAME, groups_from},
        session::Client,
    },
    identity::{
        jwt::Claims,
        oidc::{self, Provider},
        throttle::{Throttle, Turn},
    },
};

/// Sign-ins that one network may begin in a minute: each asks the provider.
const BEGUN_PER_MINUTE: u32 = 60;

/// The longest key that a provider may have for a person.
const LONGEST_SUBJECT: usize = 255;

/// As long as a claim that is set here.
const LONGEST_CLAIM: usize = 500;

/// Groups of one person at most that are looked at.
const MOST_GROUPS: usize = 1000;

/// Groups that were told to be left out, at most: more is said of none.
const MOST_TOLD: usize = 1000;

/// The provider, and what is made of its word.
#[derive(Debug)]
pub struct SignIns {
    provider: Provider,
    config: OidcConfig,
    begun: Throttle,
    /// Where browsers find us: known once we listen.
    address: OnceLock<String>,
    /// Groups that were told to be left out.
    left_out: Mutex<HashSet<String>>,
}

impl SignIns {
    /// Takes the provider.
    #[must_use]
    pub fn new(provider: Provider, config: OidcConfig) -> Self {
        Self {
            provider,
            config,
            begun: Throttle::new(BEGUN_PER_MINUTE),
            address: OnceLock::new(),
            left_out: Mutex::default(),
        }
    }

    pub(in crate::app) fn issuer(&self) -> &str {
        self.provider.issuer()
    }

    const fn lengths(&self, client: Client) -> SessionLengths {
        match client {
            Client::Browser => self.config.browser,
            Client::CommandLine => self.config.command_line,
        }
    }

    /// When a person is to be asked about next.
    fn next_check(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.config.recheck).unwrap_or(TimeDelta::MAX)
    }

    /// What the provider's token says of its person.
    fn describe(&self, claims: &Claims) -> Result<Described, &'static str> {
        let is_line = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
        let subject = claims.text(&self.config.subject_claim).filter(is_line);
        let subject = subject.filter(|text| text.len() <= LONGEST_SUBJECT);
        let subject = subject.ok_or("it does not say who it is: see subject_claim in [oidc]")?;
        let user_name = self.user_name(claims).filter(is_line);
        let user_name = user_name.filter(|text| text.len() <= LONGEST_USER_NAME);
        let user_name = user_name.ok_or(
            "it has no name of yours that can be used: see name_claim in [oidc]; an `email` counts if it is verified",
        )?;
        let (groups, left_out) = {
            let theirs = texts(claims.all().get(&self.config.groups_claim));
            let (ours, left_out) = groups_from(&theirs, self.config.groups.as_ref());
            (ours, left_out.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        self.tell_left_out(left_out);
        Ok(Described {
            issuer: self.provider.issuer().to_owned(),
            subject: subject.to_owned(),
            user_name: user_name.to_owned(),
            groups,
            claims: self.claims(claims),
        })
    }

    /// An address of mail is a name only if the provider has seen that it is the person's.
    fn user_name<'a>(&self, claims: &'a Claims) -> Option<&'a str> {
        let verified = match claims.all().get("email_verified") {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        let email = || claims.text("email").filter(|_| verified);
        match self.config.name_claim.as_str() {
            "email" => email(),
            "preferred_username" => claims.text("preferred_username").or_else(email),
            claim => claims.text(claim),
        }
    }

    fn claims(&self, claims: &Claims) -> BTreeMap<String, String> {
        let value = |theirs: &String| match claims.all().get(theirs)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        };
        let fits = |text: &String| text.len() <= LONGEST_CLAIM && !text.contains(char::is_control);
        let claim =
            |(ours, theirs): (&String, _)| Some((ours.clone(), value(theirs).filter(fits)?));
        self.config.claims.iter().filter_map(claim).collect()
    }

    fn claim_names(&self) -> Vec<String> {
        self.config.claims.keys().cloned().collect()
    }

    fn tell_left_out(&self, groups: Vec<String>) {
        let mut told = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups {
            if told.len() < MOST_TOLD && told.insert(group.clone()) {
                tracing::info!(
                    group,
                    "a group of the provider is left out: it has no name here, see groups in [oidc]"
                );
            }
        }
    }
}

/// A list of texts, or one text.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).take(MOST_GROUPS).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// What is kept of something that a client alone holds.
pub(in crate::app) fn key_of(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}

impl App {
    /// Is there a provider that people sign in at?
    #[must_use]
    pub const fn has_provider(&self) -> bool {
        self.sign_ins.is_some()
    }

    /// Where browsers find us, once that is known. What comes from there is our own pages' doing.
    #[must_use]
    pub fn own_address(&self) -> Option<&str> {
        self.sign_ins.as_ref()?.address.get().map(String::as_str)
    }

    /// Says where people find us, once we listen.
    pub fn found_at(&self, address: String) {
        if let Some(sign_ins) = &self.sign_ins {
            // Said once: a second word would change nothing.
            let _ = sign_ins.address.set(address.clone());
        }
        let _ = self.found_at.set(address);
    }

    pub(in crate::app) fn sign_ins(&self) -> Result<&SignIns, Error> {
        self.sign_ins.as_ref().ok_or_else(|| Error::Conflict {
            code: "no_provider",
            detail: "this daemon has no identity provider ([oidc] in its settings): sign in with a token, `pgvalet login --token -`".to_owned(),
        })
    }

    /// Beginning to sign in costs nothing to whoever does, and asks the provider: so it is bounded.
    fn may_begin(&self, sign_ins: &SignIns, origin: &Origin) -> Result<(), Error> {
        match sign_ins.begun.begin(origin.source, self.clock.now()) {
            // Dropped: each one counts, whatever comes of it.
            Turn::Try(attempt) => {
                drop(attempt);
                Ok(())
            }
            Turn::TooManyOpen => Err(Error::Busy),
            Turn::MustWait { seconds, .. } => {
                Err(Error::Throttled { retry_after_seconds: seconds })
            }
        }
    }

    /// A sign-in that gives nobody a session: said, and on record.
    async fn refuse_sign_in(
        &self,
        origin: &Origin,
        client: Client,
        (code, detail): (&'static str, String),
    ) -> Error {
        let event = Event::SignInRefused { client, code: code.to_owned(), why: detail.clone() };
        match self.record(origin.entry_by(Actor::Unknown, self.clock.now(), event)).await {
            Ok(()) => Error::SignInRefused { code, detail },
            Err(error) => error,
        }
    }

    /// What a fault of the provider's answer is to whoever signs in.
    async fn provider_fault(&self, origin: &Origin, client: Client, fault: oidc::Error) -> Error {
        let refusal = match &fault {
            oidc::Error::Issuer(_) => return Error::Provider(fault),
            oidc::Error::Lacks("device_authorization_endpoint") => {
                let page = self.own_address().unwrap_or_default();
                let detail = format!(
                    "the identity provider has no sign-in by device (device_authorization_endpoint): sign in in a browser at {page}/sign-in, or with a token, `pgvalet login --token -`"
                );
                return Error::Conflict { code: "no_device_sign_in", detail };
            }
            oidc::Error::Lacks(_) => return Error::Provider(fault),
            oidc::Error::Refused { .. } => ("provider_refused", fault.to_string()),
            oidc::Error::Token(_)
            | oidc::Error::NoIdToken
            | oidc::Error::Nonce
            | oidc::Error::AuthorizedParty => ("id_token_refused", fault.to_string()),
        };
        tracing::warn!(error = &fault as &dyn std::error::Error, "a sign-in was refused");
        self.refuse_sign_in(origin, client, refusal).await
    }
}
