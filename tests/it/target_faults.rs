//! A target, or the state database, breaks in each way that we know of: clear codes to callers,
//! nothing half-made, and books that balance once it is whole again.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde_json::json;

use crate::support::{
    books::{self, Ledger},
    clients, eventually,
    kills::missing,
    people::lease_id,
    postgres::own_cluster,
    seconds,
    sessions::sign_in,
    wire::{Moment, Point, Side, Verdict},
    world::{Plan, World},
};

/// So many points pass between two cuts: with fewer, nothing would ever be done.
const BETWEEN_CUTS: u32 = 6;

/// Cuts the connection at every point once: before, within and after each kind of statement.
#[derive(Default)]
struct Cutter {
    on: AtomicBool,
    cut: Mutex<(BTreeSet<Point>, u32)>,
}

impl Cutter {
    fn at(&self, point: &Point) -> Verdict {
        if !self.on.load(Ordering::Relaxed) {
            return Verdict::Pass;
        }
        let mut cut = self.cut.lock().unwrap();
        cut.1 += 1;
        if cut.1 < BETWEEN_CUTS || !cut.0.insert(point.clone()) {
            return Verdict::Pass;
        }
        cut.1 = 0;
        Verdict::Cut
    }

    fn points(&self) -> BTreeSet<Point> {
        self.cut.lock().unwrap().0.clone()
    }
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_statement_loses_nothing() {
    let cutter = Arc::new(Cutter::default());
    let judge = Arc::clone(&cutter);
    let plan = Plan {
        lease: "issue_deadline = \"2s\"\nrotation_grace = \"1s\"",
        judge: Some(Arc::new(move |point| judge.at(point))),
        ..Plan::default()
    };
    let world = World::with(plan).await;
    let ledger = Arc::new(Ledger::default());
    let working = clients::start(&world, 8, 4, &ledger);
    cutter.on.store(true, Ordering::Relaxed);
    let all = [Moment::Before, Moment::Within, Moment::After];
    let began = Instant::now();
    eventually("every essential point was cut", seconds(180), async || {
        let points = cutter.points();
        missing(&all, &points).is_empty() && (points.len() > 60 || began.elapsed() > seconds(20))
    })
    .await;
    let mut faults = books::while_it_runs(&world).await;
    cutter.on.store(false, Ordering::Relaxed);
    working.stop().await;
    let (at_the_end, counts) = books::at_the_end(&world, &ledger).await;
    faults.extend(at_the_end);
    faults.extend(ledger.faults());
    println!("{} points were cut; {counts}", cutter.points().len());
    assert_eq!(faults, Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_target_that_takes_10_s_for_each_statement_is_told_in_time() {
    let slow = Arc::new(AtomicBool::new(false));
    let judged = Arc::clone(&slow);
    let plan = Plan {
        lease: "issue_deadline = \"2s\"",
        judge: Some(Arc::new(move |point| {
            let is_slow = judged.load(Ordering::Relaxed) && point.side == Side::Target;
            let holds = is_slow && point.moment == Moment::Before;
            if holds { Verdict::Hold(seconds(10)) } else { Verdict::Pass }
        })),
        ..Plan::default()
    };
    let world = World::with(plan).await;
    let issued = world.issue("read", json!({})).await;
    slow.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let late = world.admin.ask(&world.profile("read"), json!({})).await;
    late.expect_problem(504, "timed_out");
    assert!(began.elapsed() < seconds(6), "{:?}", began.elapsed());
    let revoked = world.admin.revoke(&lease_id(&issued)).await;
    assert_eq!(revoked.status, 202, "{}", revoked.text);
    slow.store(false, Ordering::Relaxed);
    let lease = world.gone(&lease_id(&issued), 60).await;
    assert_eq!(lease["cause"], "revoked");
    world.finish().await;
}

/// Waits until what is asked for is refused so; on the way there it may be refused otherwise.
async fn is_refused(world: &World, status: u16, code: &str) {
    let mut seen = BTreeSet::new();
    let began = Instant::now();
    while !seen.contains(&(status, code.to_owned())) {
        assert!(began.elapsed() < seconds(40), "{code} was to come, and these came: {seen:?}");
        let answer = world.admin.ask(&world.profile("read"), json!({})).await;
        seen.insert((answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned()));
    }
}

/// Waits until a lease that is over says what keeps it from being removed.
async fn waits(world: &World, id: &str) {
    eventually("the short lease waits", seconds(40), async || {
        let lease = world.admin.lease(id).await;
        assert_ne!(lease["state"], "revoked", "{lease}");
        lease["blocked_by"].is_string()
    })
    .await;
}

/// Does something to the target that ends the daemon's sessions there; what is asked for is refused
/// with the code; when it is undone, what should have ended meanwhile ends, and issuing goes on.
async fn refused_until_undone((fault, undo): (&str, &str), status: u16, code: &str) {
    let world = World::start().await;
    let short = world.issue("read", json!({ "ttl": "5s" })).await;
    let long = world.issue("read", json!({})).await;
    let by_hand = async |statement: &str| {
        let statement = statement.replace("ADMIN", &world.shop());
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
            world.shop()
        );
        world.target.run("postgres", &[&statement, &end]).await;
    };
    by_hand(fault).await;
    is_refused(&world, status, code).await;
    waits(&world, &lease_id(&short)).await;
    by_hand(undo).await;
    let lease = world.gone(&lease_id(&short), 60).await;
    assert_eq!(lease["cause"], "expired");
    sign_in(&long).await.unwrap();
    eventually("it issues again", seconds(60), async || {
        world.admin.ask(&world.profile("read"), json!({})).await.status == 201
    })
    .await;
    assert_eq!(books::while_it_runs(&world).await, Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn too_many_connections() {
    let full = ("ALTER ROLE ADMIN CONNECTION LIMIT 0", "ALTER ROLE ADMIN CONNECTION LIMIT -1");
    refused_until_undone(full, 503, "target_unreachable").await;
}

#[tokio::test]
async fn the_admins_password_is_changed_behind_our_back() {
    // The verifier of before cannot be read back, so the name is the way to undo it.
    let locked =
        ("ALTER ROLE ADMIN VALID UNTIL '2001-01-01'", "ALTER ROLE ADMIN VALID UNTIL 'infinity'");
    refused_until_undone(locked, 502, "target_refused_admin").await;
}

#[tokio::test]
async fn a_target_that_refuses_writes() {
    let read_only = (
        "ALTER ROLE ADMIN SET default_transaction_read_only = on",
        "ALTER ROLE ADMIN RESET default_transaction_read_only",
    );
    refused_until_undone(read_only, 503, "target_in_recovery").await;
}

#[tokio::test]
async fn a_target_that_comes_back_as_a_standby() {
    let (postgres, folder) = own_cluster().await;
    let plan = Plan { shop_on: Some(Arc::clone(&postgres)), ..Plan::default() };
    let world = World::with(plan).await;
    let short = world.issue("read", json!({ "ttl": "3s" })).await;
    let long = world.issue("read", json!({})).await;

    postgres.stop().await;
    let signal = folder.path().join("data/standby.signal");
    fs::write(&signal, "").unwrap();
    postgres.start_again().await;
    is_refused(&world, 503, "target_in_recovery").await;
    waits(&world, &lease_id(&short)).await;
    sign_in(&long).await.unwrap();

    postgres.stop().await;
    fs::remove_file(&signal).unwrap();
    postgres.start_again().await;
    assert_eq!(world.gone(&lease_id(&short), 60).await["cause"], "expired");
    sign_in(&long).await.unwrap();
    world.issue("read", json!({})).await;
    world.finish().await;
    postgres.stop().await;
}
