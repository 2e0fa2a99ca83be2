//! What pgvalet does: one file per verb. Only here meet our own database and other people's, so the
//! order "ours first, theirs second" is decided in one place.

mod administration;
mod adopt;
pub mod apply;
pub mod ask;
pub mod bootstrap;
pub mod caution;
pub mod check;
pub mod ci;
pub mod doctor;
pub mod drift;
pub mod emergencies;
pub mod ending;
pub mod error;
pub mod explain;
pub mod explain_access;
mod fit;
pub mod hba;
pub mod history;
pub mod identities;
pub mod issue;
mod limits;
pub mod measure;
pub mod notices;
mod offers;
mod passwords;
pub mod people;
pub mod prepare;
pub mod profiles;
pub mod readiness;
pub mod reconcile;
pub mod renew;
pub mod requests;
pub mod reviews;
pub mod revoke;
pub mod rotate;
pub mod rotate_admin;
pub mod rotate_standing;
pub mod rotations;
pub mod show;
pub mod sign_in;
mod sign_in_job;
pub mod slack;
pub mod standing;
pub mod status;
pub mod sweep;
mod sweep_acts;
pub mod targets;
pub mod tokens;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use tokio::sync::{Mutex, Notify, watch};
use uuid::Uuid;

use crate::{
    clock::Clock,
    config::ReviewConfig,
    domain::{
        audit::{Actor, Entry, Event},
        target::Target,
    },
    identity::{Caller, issuers::Issuers, throttle::Throttle, token::Tokens},
    ids::{AuditId, RequestId, TargetId},
    store::{Store, admin_rotation::AdminSecrets, seal::KeyRing},
    target::{AdminPasswords, Credentials, Handle, Reread, Targets},
    telemetry::metrics::Metrics,
};

/// A place that is told of what happens.
pub use crate::notify::Channel;
/// Renewals of administrators' passwords that are ours until the claim ends, and how they stand.
pub use crate::store::admin_rotation::{AdminRotation, ClaimedAdmin};
/// An entry of the audit as it is listed.
pub use crate::store::audit::Listed;
/// By which name of a certificate a principal is known.
pub use crate::store::certificates::ListedCertificate;
/// A login of an emergency's lease.
pub use crate::store::emergencies::SeenLogin;
/// Sealed codes of a person, as they are listed.
pub use crate::store::emergency_codes::CodeSet;
/// Which leases are meant.
pub use crate::store::leases::LeaseFilter;
/// Work on a login that is ours until its claim ends.
pub use crate::store::logins::Claimed;
/// A notice as it is listed, and which are meant.
pub use crate::store::notices::{ListedNotice, NoticeFilter};
/// A rotation that is ours until the claim ends.
pub use crate::store::rotating::ClaimedStandingRole;
/// A token as it is shown.
pub use crate::store::tokens::ListedToken;
/// A principal and its identities as they are shown.
pub use crate::store::{
    identities::Identity,
    people::{ListedPrincipal, PrincipalFilter},
};

/// The parts that a use case needs.
pub struct App {
    pub(in crate::app) store: Store,
    pub(in crate::app) targets: Targets,
    pub(in crate::app) keys: Arc<KeyRing>,
    pub(in crate::app) signer: history::Signer,
    pub(in crate::app) clock: Clock,
    /// Passwords for the next logins.
    pub(in crate::app) passwords: passwords::Passwords,
    pub(in crate::app) tokens: Tokens,
    pub(in crate::app) throttle: Throttle,
    /// Who vouches for others, and their keys.
    pub(in crate::app) issuers: Arc<Issuers>,
    pub(in crate::app) times: Times,
    /// The proxies whose word about where a request comes from is taken.
    pub(in crate::app) trusted_proxies: Vec<IpNet>,
    /// The clusters that may be asked about pods, each with the file of the token for it.
    pub(in crate::app) token_reviews: Vec<(String, String)>,
    /// The provider that people sign in at, if there is one.
    pub(in crate::app) sign_ins: Option<people::SignIns>,
    /// Slack, if people ask and agree there.
    pub(in crate::app) slack: Option<slack::Slack>,
    /// How long a token may last.
    pub(in crate::app) longest_token: TimeDelta,
    /// When access is looked at again, and by whom.
    pub(in crate::app) reviews: ReviewConfig,
    /// How many leases one caller may have at once, under all profiles.
    pub(in crate::app) max_live_per_caller: Option<i32>,
    /// What was last read of the profiles that are asked for.
    pub(in crate::app) offers: offers::Offers,
    /// One preparation of a profile at a time: they are rare, and two of the same would only race.
    pub(in crate::app) preparing: Mutex<()>,
    /// Wakes the loops.
    pub(in crate::app) nudges: Nudges,
    /// Where proofs gather.
    pub(in crate::app) proofs: ending::Proofs,
    /// Changes whenever a login was removed, for those who wait for it.
    pub(in crate::app) removed: watch::Sender<u64>,
    /// What is known of sweeps and of the record.
    pub(in crate::app) standing: caution::Standing,
    /// What the loops last did.
    pub(in crate::app) loops: readiness::Loops,
    /// The places that are told of what happens.
    pub(in crate::app) channels: Vec<Arc<Channel>>,
    /// Where people find us, once that is known.
    pub(in crate::app) found_at: OnceLock<String>,
    /// What is measured.
    pub(in crate::app) metrics: Arc<Metrics>,
}

/// Lengths of time from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long issuing may take in all.
    pub issue_deadline: Duration,
    /// How long a superseded login goes on working.
    pub rotation_grace: Duration,
    /// How long an orphan is left there, shut out.
    pub orphan_grace: Duration,
}

/// Wakes the loops of this daemon. A nudge says only "look"; what there is to do is read from the
/// record.
#[derive(Debug, Clone, Default)]
pub struct Nudges {
    /// The loop that ends leases.
    pub leases: Arc<Notify>,
    /// The loop that seals the audit and tells others.
    pub audit: Arc<Notify>,
    /// The loop that rotates standing roles and administrators' passwords.
    pub rotations: Arc<Notify>,
    /// The loop that sweeps: it is time for one.
    pub sweep: Arc<Notify>,
    /// The loop that looks for drift: it is time.
    pub drift: Arc<Notify>,
    /// The loop that looks after people.
    pub people: Arc<Notify>,
}

/// The loop that ends leases looks at least this often by itself: what another daemon recorded and
/// did not live to end is found then.
pub const LOOKS_EVERY: TimeDelta = TimeDelta::seconds(5);

/// The parts from which an [`App`] is built.
pub struct Parts {
    /// Our database.
    pub store: Store,
    /// Other people's.
    pub targets: Targets,
    /// What opens sealed values.
    pub keys: KeyRing,
    /// What signs the audit.
    pub signer: history::Signer,
    /// The time.
    pub clock: Clock,
    /// Makes and checks tokens.
    pub tokens: Tokens,
    /// Slows down guesses.
    pub throttle: Throttle,
    /// Who vouches for others, and their keys.
    pub issuers: Arc<Issuers>,
    /// Lengths of time.
    pub times: Times,
    /// The proxies whose word about where a request comes from is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// The clusters that may be asked about pods, each with the file of the token for it.
    pub token_reviews: Vec<(String, String)>,
    /// The provider that people sign in at, if there is one.
    pub sign_ins: Option<people::SignIns>,
    /// Slack, if people ask and agree there.
    pub slack: Option<slack::Slack>,
    /// How long a token may last.
    pub longest_token: Duration,
    /// When access is looked at again, and by whom.
    pub reviews: ReviewConfig,
    /// How many leases one caller may have at once.
    pub max_live_per_caller: Option<i32>,
    /// The places that are told of what happens.
    pub channels: Vec<Arc<Channel>>,
    /// The instruments.
    pub metrics: Arc<Metrics>,
    /// Which installation this is.
    pub installation: Uuid,
}

/// Where a request came from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The request.
    pub request_id: RequestId,
    /// The address it came from.
    pub source: Option<IpAddr>,
}

impl Origin {
    /// An audit entry for what a caller did in this request.
    fn entry(&self, caller: &Caller, now: DateTime<Utc>, event: Event) -> Entry {
        let principal = caller.principal();
        let actor = Actor::Principal { id: principal.id, name: principal.to_string() };
        self.entry_by(actor, now, event)
    }

    fn entry_by(&self, actor: Actor, now: DateTime<Utc>, event: Event) -> Entry {
        Entry {
            id: AuditId::new(),
            at: now,
            actor,
            request_id: Some(self.request_id),
            source: self.source.map(|source| source.to_string()),
            event,
        }
    }
}

/// On whose behalf something is done that pgvalet also does by itself.
#[derive(Clone, Copy)]
pub(in crate::app) enum Author<'a> {
    /// A caller, in a request.
    Caller(&'a Origin, &'a Caller),
    /// pgvalet: it was due.
    Pgvalet,
}

impl Author<'_> {
    fn entry(self, now: DateTime<Utc>, event: Event) -> Entry {
        match self {
            Self::Caller(origin, caller) => origin.entry(caller, now, event),
            Self::Pgvalet => own_entry(now, event),
        }
    }
}

/// An audit entry for what pgvalet did by itself.
fn own_entry(now: DateTime<Utc>, event: Event) -> Entry {
    Entry {
        id: AuditId::new(),
        at: now,
        actor: Actor::Pgvalet,
        request_id: None,
        source: None,
        event,
    }
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let nudges = Nudges::default();
        let proofs = ending::proofs(&parts.store, parts.clock, &nudges);
        Self {
            store: parts.store,
            targets: parts.targets,
            keys: Arc::new(parts.keys),
            signer: parts.signer,
            clock: parts.clock,
            tokens: parts.tokens,
            passwords: passwords::Passwords::default(),
            throttle: parts.throttle,
            issuers: parts.issuers,
            times: parts.times,
            trusted_proxies: parts.trusted_proxies,
            token_reviews: parts.token_reviews,
            sign_ins: parts.sign_ins,
            slack: parts.slack,
            longest_token: TimeDelta::from_std(parts.longest_token).unwrap_or(TimeDelta::MAX),
            reviews: parts.reviews,
            max_live_per_caller: parts.max_live_per_caller,
            offers: offers::Offers::default(),
            preparing: Mutex::new(()),
            nudges,
            proofs,
            removed: watch::Sender::new(0),
            standing: caution::Standing::new(
                parts.installation,
                TimeDelta::from_std(parts.times.orphan_grace).unwrap_or(TimeDelta::MAX),
            ),
            loops: readiness::Loops::default(),
            channels: parts.channels,
            found_at: OnceLock::new(),
            metrics: parts.metrics,
        }
    }

    /// Is this one of the proxies in front of us?
    #[must_use]
    pub fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// What is measured.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What wakes the loops.
    #[must_use]
    pub const fn nudges(&self) -> &Nudges {
        &self.nudges
    }

    /// Records what happened, where nothing of ours changes with it.
    async fn record(&self, entry: Entry) -> Result<(), error::Error> {
        let mut tx = self.store.begin().await?;
        tx.audit(&entry).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Wakes the loop that ends leases, if something is due before it looks by itself.
    fn nudge_if_soon(&self, due_at: DateTime<Utc>, now: DateTime<Utc>) {
        if due_at - now < LOOKS_EVERY {
            self.nudges.leases.notify_one();
        }
    }

    /// A target as it is recorded now, and the connections to it.
    async fn handle(&self, id: TargetId) -> Result<(Target, Arc<Handle>), error::Error> {
        let target = self
            .store
            .target(id)
            .await?
            .ok_or_else(|| error::Error::not_found("target", id.to_string()))?;
        let handle = self.open(&target).await?;
        Ok((target, handle))
    }

    /// The connections to a target.
    async fn open(&self, target: &Target) -> Result<Arc<Handle>, error::Error> {
        let open = self.targets.get(target.id, target.version);
        if let Some(handle) = &open
            && handle.admin_version() >= target.admin_version
        {
            return Ok(Arc::clone(handle));
        }
        let AdminSecrets { version, current, ssl_key, .. } =
            self.store.admin_secrets(target.id, &self.keys).await?;
        if let Some(handle) = open {
            handle.use_admin_password(version, current);
            return Ok(handle);
        }
        let cluster = self.store.target_cluster(target.id).await?;
        let reread = self.reread(target.id);
        let credentials = Credentials { version, password: current, ssl_key };
        let handle = self.targets.open(target, credentials, Some(reread));
        if let Some(cluster) = cluster {
            handle.expect_cluster(cluster);
        }
        Ok(handle)
    }

    /// How the passwords of a target's administrator are read anew when one is refused: another daemon
    /// may have renewed it a moment ago, or be about to.
    fn reread(&self, id: TargetId) -> Reread {
        let (store, keys) = (self.store.clone(), Arc::clone(&self.keys));
        Box::new(move || {
            let (store, keys) = (store.clone(), Arc::clone(&keys));
            Box::pin(async move {
                let read = store.admin_secrets(id, &keys).await;
                let secrets = read
                    .inspect_err(|error| {
                        let error = error as &dyn std::error::Error;
                        tracing::warn!(target.id = %id, error, "could not read the passwords of a refused admin");
                    })
                    .ok()?;
                let AdminSecrets { version, current, next, .. } = secrets;
                Some(AdminPasswords { version, current, next })
            })
        })
    }
}
