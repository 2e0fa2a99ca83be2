//! The daemon is killed again and again at named points, while eight clients use it. The long form is
//! `cargo bench --bench kills`.

use std::time::Instant;

use crate::support::{
    kills::{self, Killer},
    seconds,
};

#[tokio::test]
async fn the_books_balance_wherever_the_daemon_is_killed() {
    let killer = Killer::new();
    let mut world = kills::world(&killer, "").await;
    let began = Instant::now();
    // As many as it takes to come to every point that must be hit, and a few more.
    let may_go_on =
        |kills| (kills < 16 || !killer.missed().is_empty()) && began.elapsed() < seconds(180);
    let report = kills::kill_often(&mut world, &killer, 4, may_go_on).await;
    for (point, (seen, hit)) in killer.points() {
        println!("{point}: {hit} of {seen}");
    }
    println!("{} kills in {:?}: {}", report.kills, began.elapsed(), report.counts);
    assert_eq!(report.faults, Vec::<String>::new());
    assert_eq!(killer.missed(), [], "points that were not hit");
    assert!(report.counts.told > 20, "the clients came to nothing: {}", report.counts);
    world.finish().await;
}
