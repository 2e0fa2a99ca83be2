//! Claims logins that are due and takes each as far as it goes.
//!
//! The trouble of one target stays there: each target has a few turns of its own, and a target with
//! many logins in hand is left out of further claims, so that the others' are found behind it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use crate::{
    app::{App, Claimed, LOOKS_EVERY},
    clock::Clock,
    ids::TargetId,
    lifecycle::Tasks,
    worker::{Ended, note, woken},
};

/// The name that the loop has in logs and in `/readyz`.
const NAME: &str = "leases";

/// Logins taken at a time: they share the transaction that records that they end.
const BATCH: i64 = 64;

/// Removals at once on one target: as many as it takes together, on fewer connections.
const AT_ONCE: usize = 16;

/// Logins in hand from which on a target is left out of further claims.
const IN_HAND: usize = 64;

/// The shortest sleep while something is due that cannot be claimed now.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);

/// Work that waited longer for its turn is not begun: its claim may end before it does.
const STALE: Duration = Duration::from_secs(5);

/// What is in hand on each target.
#[derive(Default)]
struct Hands(Mutex<HashMap<TargetId, Hand>>);

#[derive(Clone)]
struct Hand {
    count: usize,
    turns: Arc<Semaphore>,
}

impl Hands {
    fn take(&self, target: TargetId) -> Arc<Semaphore> {
        let mut hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Hand { count: 0, turns: Arc::new(Semaphore::new(AT_ONCE)) };
        let hand = hands.entry(target).or_insert_with(fresh);
        hand.count += 1;
        Arc::clone(&hand.turns)
    }

    fn put_back(&self, target: TargetId) {
        let mut hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hand) = hands.get_mut(&target) {
            hand.count = hand.count.saturating_sub(1);
            if hand.count == 0 {
                hands.remove(&target);
            }
        }
    }

    fn full(&self) -> Vec<TargetId> {
        let hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hands.iter().filter(|(_, hand)| hand.count >= IN_HAND).map(|(target, _)| *target).collect()
    }
}

/// Runs until the daemon stops. Removals that were begun are finished first.
///
/// # Errors
/// Never.
pub async fn run(app: Arc<App>, clock: Clock, tasks: Tasks) -> Ended {
    let stop = tasks.stop_token();
    let nudge = Arc::clone(&app.nudges().leases);
    let hands = Arc::new(Hands::default());
    // Before anything is recorded as over: the targets may know that the record is an old one. If it
    // cannot be asked now, each removal asks its own target.
    let _ = app.check_record().await;
    loop {
        let done = pass(&app, clock, &tasks, &hands).await;
        let sleep = *done.as_ref().unwrap_or(&Duration::from_secs(1));
        note(&app, NAME, "look for due leases; trying again", done);
        if !woken(&nudge, sleep, &stop).await {
            return Ok(());
        }
    }
}

/// One pass: claims what is due, and gives how long to sleep.
async fn pass(
    app: &Arc<App>,
    clock: Clock,
    tasks: &Tasks,
    hands: &Arc<Hands>,
) -> Result<Duration, crate::app::error::Error> {
    app.agree_on_time().await?;
    loop {
        let due = app.claim_due(hands.full(), BATCH).await?;
        if !due.found_any {
            break;
        }
        for claimed in due.to_remove {
            carry_out(app, tasks, hands, claimed);
        }
    }
    let until = match app.next_due(hands.full()).await? {
        Some(due_at) => (due_at - clock.now()).min(LOOKS_EVERY),
        None => LOOKS_EVERY,
    };
    Ok(until.to_std().unwrap_or(SHORTEST_SLEEP).max(SHORTEST_SLEEP))
}

fn carry_out(app: &Arc<App>, tasks: &Tasks, hands: &Arc<Hands>, claimed: Claimed) {
    let target = claimed.login.target_id;
    let turns = hands.take(target);
    let (app, hands) = (Arc::clone(app), Arc::clone(hands));
    let begun = Instant::now();
    tasks.spawn("end a login", async move {
        let lease = claimed.login.lease_id;
        if let Ok(_turn) = turns.acquire().await
            && begun.elapsed() < STALE
            && let Err(error) = app.carry_out(claimed).await
        {
            tracing::warn!(
                lease.id = %lease,
                error = &error as &dyn std::error::Error,
                "could not end a login; trying again"
            );
        }
        hands.put_back(target);
        app.nudges().leases.notify_one();
        Ended::Ok(())
    });
}
