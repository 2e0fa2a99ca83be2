//! What ending records, for all logins that were claimed, or seen to be gone, at the same time: their
//! moves and audit entries in one transaction.
//!
//! Several daemons share the work. A claim ends by itself, so one that was paused may wake up amid what
//! another has done since. Its record is fenced: every move asks for the claim's token and the state
//! that it leaves. On the target it can do no harm: a role's name holds its login's id and is never
//! minted twice, its OID is looked at first, and what is left to send (NOLOGIN, end sessions, drop) is
//! what the other one sent, to the same role or to none. A role that it still makes after its login was
//! given up is recorded as due again ([`crate::app::issue`]). What is due is so by the clock of the state
//! database ([`crate::clock`]), which is the same for all.

use chrono::{DateTime, Utc};
use tracing::Instrument as _;

use crate::{
    app::{App, Nudges, error::Error, own_entry},
    clock::Clock,
    domain::{
        audit::{Entry, Event},
        lease::{Cause, Proof, State},
        reconcile::{Recorded, Step, next_step},
    },
    gather::{Bounds, Gather},
    ids::LeaseId,
    store::{self, Store, ending::Locked, logins::Claimed},
    telemetry::labels::RevokeStep,
};

/// While one transaction waits for its commit, the next is filled.
const BOUNDS: Bounds = Bounds { in_a_batch: 64, at_once: 2, waiting: 4096 };

/// Where proofs gather.
pub(in crate::app) type Proofs = Gather<(), Gone, Recording>;

/// What became of a proof.
type Recording = Result<(), store::error::Error>;

/// A claimed login that was seen to be gone.
pub(in crate::app) struct Gone {
    claimed: Claimed,
    proof: Proof,
}

impl App {
    /// Takes claimed logins to where they are to be removed, and gives these; the others are given
    /// back or need nothing. What somebody moved meanwhile, or another daemon took over, is left to
    /// whoever did.
    ///
    /// # Errors
    /// If our database does not answer; the claims then end by themselves.
    pub(in crate::app) async fn begin_ending(
        &self,
        claimed: Vec<Claimed>,
    ) -> Result<Vec<Claimed>, Error> {
        let now = self.clock.now();
        let (mut to_remove, mut to_end, mut to_leave) = (Vec::new(), Vec::new(), Vec::new());
        for claimed in claimed {
            let login = &claimed.login;
            let recorded = Recorded {
                state: login.state,
                give_up_at: login.give_up_at,
                ends_at: login.ends_at,
                superseded: claimed.superseded,
            };
            match next_step(recorded, now) {
                Step::Wait(until) => to_leave.push((claimed, until)),
                Step::StartRevoking(cause) => to_end.push((claimed, cause)),
                Step::Remove => to_remove.push(claimed),
                Step::Done => {}
            }
        }
        if !to_end.is_empty() {
            let recording = self.record_ends(to_end, now);
            let (ended, locked) = self.metrics.revoking(RevokeStep::Record, recording).await?;
            to_remove.extend(ended);
            to_leave.extend(locked.into_iter().map(|claimed| (claimed, now)));
        }
        for (claimed, until) in to_leave {
            self.give_back(&claimed, until).await?;
        }
        Ok(to_remove)
    }

    async fn give_back(&self, claimed: &Claimed, until: DateTime<Utc>) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        match tx.release_login(claimed, until).await {
            Err(store::error::Error::NotOneRow(_)) => return Ok(()),
            released => released?,
        }
        Ok(tx.commit().await?)
    }

    /// Records that logins end, and with each its lease if it is the lease's present one. Gives those
    /// that now are ending, and those whose lease is locked by somebody else.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "record end",
        skip_all,
        fields(otel.kind = "client", db.system.name = "postgresql", logins = ending.len())
    )]
    async fn record_ends(
        &self,
        ending: Vec<(Claimed, Cause)>,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Claimed>, Vec<Claimed>), store::error::Error> {
        let mut tx = self.store.begin().await?;
        let leases: Vec<_> = ending.iter().map(|(claimed, _)| claimed.login.lease_id).collect();
        let ours = tx.lock_leases(&leases, Locked::LeftOut).await?;
        let (ending, locked): (Vec<_>, Vec<_>) =
            ending.into_iter().partition(|(claimed, _)| ours.contains(&claimed.login.lease_id));
        let borrowed: Vec<_> = ending.iter().map(|(claimed, cause)| (claimed, *cause)).collect();
        let moved = tx.start_revoking_claimed(&borrowed, now).await?;
        let ended: Vec<_> =
            ending.into_iter().filter(|(claimed, _)| moved.contains(&claimed.login.id)).collect();
        // A login that was superseded by a rotation leaves its lease as it is.
        let of_leases: Vec<_> = ended
            .iter()
            .filter(|(_, cause)| *cause != Cause::Rotated)
            .map(|(claimed, cause)| (claimed.login.lease_id, claimed.login.id, *cause))
            .collect();
        let present = tx.start_revoking_leases(&of_leases).await?;
        let with_others: Vec<_> = present.iter().map(|(id, cause, _)| (*id, *cause)).collect();
        let others = tx.start_revoking_others(&with_others, now).await?;

        let mut events: Vec<_> = present
            .into_iter()
            .filter(|(_, _, lived)| *lived)
            .map(|(lease_id, cause, _)| Event::LeaseRevoking { lease_id, cause })
            .collect();
        events.extend(others.into_iter().map(|other| Event::LoginRevoking {
            lease_id: other.lease_id,
            login_id: other.login_id,
            role: other.role,
            cause: other.cause,
        }));
        events.extend(ended.iter().map(|(claimed, cause)| Event::LoginRevoking {
            lease_id: claimed.login.lease_id,
            login_id: claimed.login.id,
            role: claimed.login.role_name.to_string(),
            cause: *cause,
        }));
        let entries: Vec<_> = events.into_iter().map(|event| own_entry(now, event)).collect();
        tx.audit_all(&entries).await?;
        tx.commit().await?;
        let ended = ended.into_iter().map(|(mut claimed, cause)| {
            claimed.login.state = State::Revoking;
            claimed.login.cause = Some(cause);
            claimed
        });
        Ok((ended.collect(), locked.into_iter().map(|(claimed, _)| claimed).collect()))
    }

    /// Records that a login was seen to be gone.
    ///
    /// # Errors
    /// [`store::error::Error::NotOneRow`] if its claim is no longer ours, or if our database does not
    /// answer: the claim then ends by itself, and the next look finds the login gone again.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "record removal",
        skip_all,
        fields(otel.kind = "client", db.system.name = "postgresql", lease.id = %claimed.login.lease_id)
    )]
    pub(in crate::app) async fn record_removal(
        &self,
        claimed: Claimed,
        proof: Proof,
    ) -> Result<(), store::error::Error> {
        let login = claimed.login.clone();
        // The proof and its audit entry are one transaction, which others may share.
        let span = tracing::info_span!(
            target: "pgvalet::trace",
            "INSERT audit_entry",
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = "INSERT",
            db.collection.name = "audit_entry",
        );
        self.proofs.ask((), Gone { claimed, proof }).instrument(span).await??;
        if login.cause == Some(Cause::Expired) {
            let lag = self.clock.now() - login.ends_at;
            self.metrics.expired(lag.to_std().unwrap_or_default());
        }
        self.tell_removed();
        Ok(())
    }
}

/// Where proofs gather until they are recorded together.
pub(in crate::app) fn proofs(store: &Store, clock: Clock, nudges: &Nudges) -> Proofs {
    let (store, nudges) = (store.clone(), nudges.clone());
    Gather::new(BOUNDS, move |gone: Vec<Gone>| {
        let (store, clock, nudges) = (store.clone(), clock, nudges.clone());
        async move {
            let recordings = record_removals(&store, clock, &gone).await;
            nudges.audit.notify_one();
            recordings
        }
    })
}

/// What became of one proof of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Recorded,
    /// Its claim is no longer ours.
    NotOurs,
    /// Its lease is locked by somebody else.
    Locked,
}

/// Records removals together; those that could not be so (their lease was locked, or something is
/// wrong with one of them) each by itself.
async fn record_removals(store: &Store, clock: Clock, gone: &[Gone]) -> Vec<Recording> {
    let all: Vec<&Gone> = gone.iter().collect();
    let together = try_record(store, clock.now(), &all, Locked::LeftOut).await;
    let fates = together.unwrap_or_else(|_| vec![Fate::Locked; gone.len()]);
    let mut recordings = Vec::new();
    for (one, fate) in gone.iter().zip(fates) {
        let fate = match fate {
            Fate::Locked => {
                let alone = try_record(store, clock.now(), &[one], Locked::WaitedFor).await;
                alone.map(|fates| fates.first().copied().unwrap_or(fate))
            }
            fate => Ok(fate),
        };
        recordings.push(match fate {
            Ok(Fate::Recorded) => Ok(()),
            Ok(Fate::NotOurs | Fate::Locked) => Err(store::error::Error::NotOneRow(0)),
            Err(e) => Err(e),
        });
    }
    recordings
}

/// One transaction; the fates in the order of what was given.
async fn try_record(
    store: &Store,
    now: DateTime<Utc>,
    gone: &[&Gone],
    locked: Locked,
) -> Result<Vec<Fate>, store::error::Error> {
    let mut tx = store.begin().await?;
    let leases: Vec<LeaseId> = gone.iter().map(|one| one.claimed.login.lease_id).collect();
    let ours = tx.lock_leases(&leases, locked).await?;
    let to_finish: Vec<_> = gone
        .iter()
        .filter(|one| ours.contains(&one.claimed.login.lease_id))
        .map(|one| (&one.claimed, &one.proof))
        .collect();
    let finished = tx.finish_logins(&to_finish, now).await?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut leases = Vec::new();
    for (claimed, proof) in to_finish {
        let login = &claimed.login;
        if finished.contains(&login.id) {
            leases.push(login.lease_id);
            let event = Event::LoginRemoved {
                lease_id: login.lease_id,
                login_id: login.id,
                role: login.role_name.to_string(),
                cause: login.cause.unwrap_or(Cause::Failed),
                proof: proof.clone(),
            };
            entries.push(own_entry(now, event));
        }
    }
    for (lease_id, cause) in tx.finish_leases(&leases, now).await? {
        entries.push(own_entry(now, Event::LeaseRevoked { lease_id, cause }));
    }
    tx.audit_all(&entries).await?;
    tx.commit().await?;
    let fate = |one: &&Gone| {
        if finished.contains(&one.claimed.login.id) {
            Fate::Recorded
        } else if ours.contains(&one.claimed.login.lease_id) {
            Fate::NotOurs
        } else {
            Fate::Locked
        }
    };
    Ok(gone.iter().map(fate).collect())
}
