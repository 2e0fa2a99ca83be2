//! A daemon that is told to stop finishes what it has begun.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{eventually, people::lease_id, seconds, sessions::sign_in, world::World};

#[tokio::test]
async fn a_request_in_hand_is_answered_and_its_lease_holds() {
    let mut world = World::start().await;
    world.issue("read", json!({})).await;
    // Whoever asks now waits for this transaction.
    let mut state = world.on_state().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE lease IN EXCLUSIVE MODE").execute(&mut state).await.unwrap();
    let (person, profile) = (world.admin.clone(), world.profile("read"));
    let asking = tokio::spawn(async move { person.ask(&profile, json!({})).await });
    let mut other = world.on_state().await;
    eventually("the request waits", seconds(20), async || {
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'lease'::regclass
                       AND mode = 'RowExclusiveLock' AND NOT granted)";
        sqlx::query_scalar(waiting).fetch_one(&mut other).await.unwrap()
    })
    .await;

    world.daemon.signal(Signal::TERM);
    let address = address(&world);
    eventually("nobody is let in any more", seconds(20), async || {
        TcpStream::connect(address).is_err()
    })
    .await;
    assert!(!asking.is_finished());
    sqlx::raw_sql("COMMIT").execute(&mut state).await.unwrap();
    let issued = asking.await.unwrap().expect(201);
    assert!(world.daemon.wait(seconds(30)).await.success(), "{}", world.daemon.log());
    sign_in(&issued).await.unwrap();

    world.start_daemon().await;
    assert_eq!(world.admin.lease(&lease_id(&issued)).await["state"], "active");
    world.finish().await;
}

#[tokio::test]
async fn a_lease_in_use_outlives_a_restart() {
    let mut world = World::start().await;
    let issued = world.issue("read", json!({})).await;
    let mut session = sign_in(&issued).await.unwrap();
    assert!(world.daemon.stop().await.success());
    sqlx::raw_sql("SELECT count(*) FROM orders").execute(&mut session).await.unwrap();
    world.start_daemon().await;
    sqlx::raw_sql("SELECT count(*) FROM orders").execute(&mut session).await.unwrap();
    let fresh = world.admin.rotate(&lease_id(&issued)).await.expect(200);
    sign_in(&fresh).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn idle_and_half_sent_connections_do_not_hold_up_the_end() {
    let mut world = World::start().await;
    let address = address(&world);
    let idle: Vec<_> = (0..50).map(|_| sent(address, HEALTH, true)).collect();
    let body = "POST /v1/leases HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let body =
        format!("{body}authorization: Bearer {}\r\ncontent-length: 9\r\n\r\n{{", world.admin.token);
    let half = ["", "PRI * HT", "GET /healthz HTTP/1.1\r\nhost: x\r\n", &body];
    let mut half: Vec<_> = half.iter().map(|text| sent(address, text, false)).collect();
    // Half a second request on a connection that has served one.
    half.push(sent(address, HEALTH, true));
    half.last_mut().unwrap().write_all(b"GET /heal").unwrap();
    // Whatever was sent before it has been taken in by now, as far as it goes.
    world.admin.get("/v1/whoami").await.expect(200);

    world.daemon.signal(Signal::TERM);
    // The head of a request may take 10 s.
    assert!(world.daemon.wait(seconds(8)).await.success(), "{}", world.daemon.log());
    drop((idle, half));
    world.start_daemon().await;
    world.finish().await;
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// A connection on which this was sent, and, if it is a whole request, answered.
fn sent(address: SocketAddr, text: &str, is_whole: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(seconds(20))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    if is_whole {
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
    }
    stream
}

fn address(world: &World) -> SocketAddr {
    world.daemon.url.strip_prefix("http://").unwrap().parse().unwrap()
}
