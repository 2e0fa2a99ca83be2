//! Clocks that are wrong, stand still or are told in another zone: a lease ends when it is due.

use std::path::Path;

use chrono::{DateTime, Utc};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    eventually, instant, late,
    people::lease_id,
    seconds,
    world::{Plan, World},
};

/// Debian's libfaketime: it gives a process another time.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

async fn valid_until(world: &World, issued: &Value) -> DateTime<Utc> {
    let mut target = world.on_target().await;
    sqlx::query_scalar("SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1")
        .bind(issued["credential"]["user"].as_str().unwrap())
        .fetch_one(&mut target)
        .await
        .unwrap()
}

/// Two daemons whose clocks differ would end each other's leases too early, or never: both go by the
/// state database's.
#[tokio::test]
async fn a_daemon_whose_clock_is_an_hour_wrong_goes_by_that_of_the_state_database() {
    if !Path::new(FAKETIME).exists() {
        eprintln!("skipped: there is no {FAKETIME} (Debian's package `faketime`)");
        return;
    }
    for wrong in ["+3600", "-3600"] {
        let environment =
            [("LD_PRELOAD", FAKETIME), ("FAKETIME", wrong), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let plan = Plan { environment: environment.to_vec(), ..Plan::default() };
        let world = World::with(plan).await;
        let ready = world.admin.get("/readyz").await.expect(200).to_string();
        assert!(ready.contains("ahead of this machine's"), "{ready}");

        let before = Utc::now();
        let issued = world.issue("read", json!({ "ttl": "4s" })).await;
        let expires_at = instant(&issued["lease"]["expires_at"]);
        assert!(expires_at >= before + chrono::TimeDelta::seconds(3), "{wrong}: {expires_at}");
        assert!(expires_at <= Utc::now() + chrono::TimeDelta::seconds(5), "{wrong}: {expires_at}");
        assert_eq!(valid_until(&world, &issued).await, expires_at, "{wrong}");
        let lease = world.gone(&lease_id(&issued), 20).await;
        assert!(late(&lease) < seconds(5), "{wrong}: {lease}");
        assert!(Utc::now() >= expires_at);
        world.finish().await;
    }
}

/// A laptop that slept: timers stand still meanwhile, as they do for a process that is stopped.
#[tokio::test]
async fn what_ended_while_the_daemon_slept_is_ended_as_soon_as_it_wakes() {
    let world = World::start().await;
    let issued = world.issue("read", json!({ "ttl": "2s" })).await;
    let long = world.issue("read", json!({})).await;
    world.daemon.signal(Signal::STOP);
    let expires_at = instant(&issued["lease"]["expires_at"]);
    eventually("the lease's time is over", seconds(10), async || {
        Utc::now() > expires_at + chrono::TimeDelta::seconds(1)
    })
    .await;
    let woken = Utc::now();
    world.daemon.signal(Signal::CONT);
    let lease = world.gone(&lease_id(&issued), 60).await;
    let late = (instant(&lease["ended_at"]) - woken).num_milliseconds();
    assert!((0..7000).contains(&late), "ended {late} ms after it woke");
    assert_eq!(world.admin.lease(&lease_id(&long)).await["state"], "active");
    world.finish().await;
}

/// All is UTC: a zone with summer time and a date style with the day first change nothing, wherever
/// they are set.
#[tokio::test]
async fn zones_and_date_styles_move_no_end() {
    let environment = vec![("TZ".to_owned(), "America/New_York".to_owned())];
    let world = World::with(Plan { environment, ..Plan::default() }).await;
    let shop = world.shop();
    let odd = [
        format!("ALTER DATABASE {shop} SET timezone = 'Pacific/Chatham'"),
        format!("ALTER DATABASE {shop} SET datestyle = 'SQL, DMY'"),
        format!("ALTER ROLE {shop} SET timezone = 'Europe/Lisbon'"),
    ];
    let odd: Vec<&str> = odd.iter().map(String::as_str).collect();
    world.target.run("postgres", &odd).await;
    // So long that summer time begins or ends meanwhile, wherever there is any.
    world.put_profile("read", json!({ "ttl": "300d", "max_ttl": "300d" })).await;
    let issued = world.issue("read", json!({})).await;
    let expires_at = instant(&issued["lease"]["expires_at"]);
    assert_eq!(valid_until(&world, &issued).await, expires_at);
    let created_at = instant(&issued["lease"]["created_at"]);
    assert_eq!(expires_at - created_at, chrono::TimeDelta::days(300));
    world.finish().await;
}
