//! The daemon is killed again and again while eight clients use it, at points that are named and at
//! any time; and whether the books balance after. The quick form is a test, the long one a bench.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::process::{Pid, Signal};
use tokio::sync::watch;

use crate::support::{
    books::{self, Ledger},
    clients,
    wire::{Judge, Moment, Point, Side, Verdict},
    world::{Plan, World},
};

/// How many clients work at once.
const CLIENTS: u64 = 8;

/// The point aimed at is waited for while so many others pass; then it is killed where it is.
const MOST_POINTS: u32 = 2000;

/// Killed anywhere, it has passed fewer points than this.
const ANYWHERE: u32 = 300;

/// A daemon that comes to no point, because nothing is left to do, is killed after this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// When it is killed, with regard to a statement.
const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

/// What must have been hit in every run, before and after: a daemon that never comes to these does
/// not do its work, or not where we look.
const ESSENTIAL: [(Side, &str); 7] = [
    (Side::State, "COMMIT"),
    (Side::State, "INSERT audit_entry"),
    (Side::State, "UPDATE login"),
    (Side::Target, "CREATE ROLE"),
    (Side::Target, "DROP ROLE"),
    (Side::Target, "ALTER ROLE"),
    (Side::Target, "COMMIT"),
];

/// Sits between the daemon and its databases, sees every point, and kills at the one aimed at.
pub(crate) struct Killer {
    aim: Mutex<Aim>,
    /// How often each point was passed, and how often it was the last.
    points: Mutex<BTreeMap<Point, (u64, u64)>>,
    fired: watch::Sender<bool>,
}

#[derive(Default)]
struct Aim {
    /// Whom to kill, if anybody.
    pid: Option<Pid>,
    /// At the first of what must be hit and was not.
    missed: Vec<(Side, &'static str, Moment)>,
    /// If all was hit, where; without it, anywhere.
    point: Option<Point>,
    /// How often it may still be passed.
    passes: u32,
    /// How many points may still be passed, whichever they are.
    points: u32,
}

impl Killer {
    pub(crate) fn new() -> Arc<Self> {
        let (aim, points) = (Mutex::default(), Mutex::default());
        Arc::new(Self { aim, points, fired: watch::Sender::new(false) })
    }

    pub(crate) fn judge(self: &Arc<Self>) -> Judge {
        let killer = Arc::clone(self);
        Arc::new(move |point| killer.at(point))
    }

    fn at(&self, point: &Point) -> Verdict {
        if point.moment == Moment::Within {
            return Verdict::Pass;
        }
        let mut points = self.points.lock().unwrap();
        let (seen, hit) = points.entry(point.clone()).or_default();
        *seen += 1;
        let mut aim = self.aim.lock().unwrap();
        let Some(pid) = aim.pid else { return Verdict::Pass };
        let is_it = if aim.missed.is_empty() {
            aim.point.as_ref().is_none_or(|at| at == point)
        } else {
            aim.missed
                .iter()
                .any(|(side, kind, moment)| point.moment == *moment && is_of(point, *side, kind))
        };
        if is_it && aim.passes > 0 {
            aim.passes -= 1;
        } else if is_it || aim.points == 0 {
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            *hit += 1;
            *aim = Aim::default();
            self.fired.send_replace(true);
            return Verdict::Cut;
        }
        aim.points = aim.points.saturating_sub(1);
        Verdict::Pass
    }

    /// Kills at something that must be hit; if all of it was, at the point that was hit least so far,
    /// when it was passed a few times, and now and then anywhere.
    fn aim(&self, pid: Pid, rng: &mut StdRng) {
        let (points, missed) = (self.points(), self.missed());
        let least = points.values().map(|(_, hit)| *hit).min();
        let least: Vec<_> = points.iter().filter(|(_, (_, hit))| Some(*hit) == least).collect();
        let point = rng
            .random_ratio(4, 5)
            .then(|| least.get(rng.random_range(0..least.len())).map(|(at, _)| (*at).clone()));
        let point = point.flatten();
        let passes = match &point {
            _ if !missed.is_empty() => 0,
            Some(_) => rng.random_range(0..3),
            None => rng.random_range(0..ANYWHERE),
        };
        self.fired.send_replace(false);
        *self.aim.lock().unwrap() =
            Aim { pid: Some(pid), missed, point, passes, points: MOST_POINTS };
    }

    /// Until the daemon was killed, or came to nothing for too long.
    async fn fired(&self) {
        let mut fired = self.fired.subscribe();
        let _ = tokio::time::timeout(PATIENCE, fired.wait_for(|fired| *fired)).await;
        *self.aim.lock().unwrap() = Aim::default();
    }

    /// The points with how often they were seen and hit.
    pub(crate) fn points(&self) -> BTreeMap<Point, (u64, u64)> {
        self.points.lock().unwrap().clone()
    }

    fn hit(&self) -> BTreeSet<Point> {
        let points = self.points();
        points.into_iter().filter(|(_, (_, hit))| *hit > 0).map(|(point, _)| point).collect()
    }

    /// What must be hit and was not.
    pub(crate) fn missed(&self) -> Vec<(Side, &'static str, Moment)> {
        missing(&MOMENTS, &self.hit())
    }
}

/// What must be among the points and is not.
pub(crate) fn missing(
    moments: &[Moment],
    points: &BTreeSet<Point>,
) -> Vec<(Side, &'static str, Moment)> {
    let all = ESSENTIAL
        .iter()
        .flat_map(|(side, kind)| moments.iter().map(move |moment| (*side, *kind, *moment)));
    let is_there = |(side, kind, moment): &(Side, &str, Moment)| {
        points.iter().any(|point| point.moment == *moment && is_of(point, *side, kind))
    };
    all.filter(|wanted| !is_there(wanted)).collect()
}

/// `CREATE ROLE` is meant by `BEGIN CREATE ROLE` too: several statements may go at once.
fn is_of(point: &Point, side: Side, kind: &str) -> bool {
    point.side == side && point.statement.contains(kind)
}

/// What came of it.
pub(crate) struct Report {
    pub(crate) kills: u64,
    /// What does not balance, in words.
    pub(crate) faults: Vec<String>,
    pub(crate) counts: books::Counts,
}

/// A world in which the daemon can be killed at every point.
pub(crate) async fn world(killer: &Arc<Killer>, log: &'static str) -> World {
    World::with(Plan {
        lease: "issue_deadline = \"2s\"\nrotation_grace = \"1s\"",
        judge: Some(killer.judge()),
        log,
        ..Plan::default()
    })
    .await
}

/// Kills the daemon so often, or until `may_go_on` says no; gives what the books say at the end, when
/// every lease was ended. The world goes on with a daemon that runs.
pub(crate) async fn kill_often(
    world: &mut World,
    killer: &Arc<Killer>,
    seed: u64,
    may_go_on: impl Fn(u64) -> bool,
) -> Report {
    let mut rng = StdRng::seed_from_u64(seed);
    let ledger = Arc::new(Ledger::default());
    let working = clients::start(world, CLIENTS, seed, &ledger);
    let mut kills = 0;
    let mut faults = BTreeSet::new();
    while may_go_on(kills) {
        killer.aim(world.daemon.pid(), &mut rng);
        killer.fired().await;
        kills += 1;
        world.daemon.kill();
        world.start_daemon().await;
        working.follow(&world.admin);
        faults.extend(books::while_it_runs(world).await);
    }
    working.stop().await;
    let (at_the_end, counts) = books::at_the_end(world, &ledger).await;
    faults.extend(at_the_end);
    faults.extend(ledger.faults());
    Report { kills, faults: faults.into_iter().collect(), counts }
}
