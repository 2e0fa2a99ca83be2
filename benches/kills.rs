//! The long form of the crash test: `cargo bench --bench kills -- --kills 1000 --seed 4`.
//!
//! The real daemon is killed so often, at named points and at any, while eight clients issue, use,
//! renew, rotate and revoke. After each kill, and at the end, the books are checked: every role on the
//! target has a lease, every lease that ended a proof, no session outlives its login, the audit is
//! whole. Exit status 1 if anything does not balance.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "it prints its figures, and should stop at the first thing that is not as it should be"
)]

use std::{process::ExitCode, time::Instant};

use crate::support::kills::{self, Killer};

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str, otherwise: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).map_or(otherwise, |text| text.parse().unwrap())
    };
    let (most, seed) = (after("--kills", 1000), after("--seed", 4));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(kill(most, seed))
}

async fn kill(most: u64, seed: u64) -> ExitCode {
    let killer = Killer::new();
    let mut world = kills::world(&killer, "warn,pgvalet=info,pgvalet::event=off").await;
    // The servers' logs would have every statement of it.
    let (state, shop) = (format!("{}_state", world.name), world.shop());
    for database in [&state, &shop] {
        let quiet = format!("ALTER DATABASE {database} SET log_statement = 'none'");
        world.target.run("postgres", &[&quiet]).await;
    }
    let began = Instant::now();
    let may_go_on = |kills: u64| {
        if kills > 0 && kills.is_multiple_of(50) {
            println!("{kills} kills after {:.0} s", began.elapsed().as_secs_f64());
        }
        kills < most
    };
    let report = kills::kill_often(&mut world, &killer, seed, may_go_on).await;
    let seconds = began.elapsed().as_secs_f64();
    let points = killer.points();
    for (point, (seen, hit)) in &points {
        println!("  {hit:>4} of {seen:>7}  {point}");
    }
    let hit = points.values().filter(|(_, hit)| *hit > 0).count();
    println!(
        "{} kills with seed {seed} in {seconds:.0} s, at {hit} of {} points",
        report.kills,
        points.len()
    );
    println!("{}", report.counts);
    let about = |what: &str| report.faults.iter().filter(|fault| fault.starts_with(what)).count();
    println!(
        "orphans: {}, untracked: {}, lost roles: {}, lost audit entries: {}, all faults: {}",
        about("orphan"),
        about("untracked"),
        about("lost: "),
        about("lost audit") + about("leases whose") + about("logins whose"),
        report.faults.len()
    );
    for fault in &report.faults {
        println!("  {fault}");
    }
    let missed = killer.missed();
    println!("points that must be hit and were not: {missed:?}");
    world.daemon.kill();
    if report.faults.is_empty() && missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
