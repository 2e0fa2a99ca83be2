//! A TCP proxy on loopback that breaks on request: between the daemon and a database, it does to the
//! daemon what networks do.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What happens to connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bytes pass.
    Pass,
    /// Each connection is closed at once, new ones and old ones.
    Refuse,
    /// Connections stand, and nothing comes through.
    Hang,
    /// A connection breaks when all of these texts, in this order, were sent to the server.
    Break(Break),
}

/// Where and how a connection breaks. The others pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    /// What the client must have sent, in this order. The break is at the last of them.
    pub(crate) on: Vec<&'static str>,
    /// Does the server still receive the last of them?
    pub(crate) delivered: bool,
    /// Does the client see the connection closed, or nothing at all?
    pub(crate) seen: bool,
}

impl Break {
    /// The last text does not reach the server, and the client waits.
    pub(crate) fn hang_before(on: &[&'static str]) -> Mode {
        Mode::Break(Self { on: on.to_vec(), delivered: false, seen: false })
    }

    /// The server does it, and the client waits for the answer.
    pub(crate) fn hang_after(on: &[&'static str]) -> Mode {
        Mode::Break(Self { on: on.to_vec(), delivered: true, seen: false })
    }

    /// The last text does not reach the server, and the connection closes.
    pub(crate) fn cut_before(on: &[&'static str]) -> Mode {
        Mode::Break(Self { on: on.to_vec(), delivered: false, seen: true })
    }

    /// The server does it, and the client sees the connection closed instead of the answer.
    pub(crate) fn cut_after(on: &[&'static str]) -> Mode {
        Mode::Break(Self { on: on.to_vec(), delivered: true, seen: true })
    }
}

/// A proxy before one port.
pub(crate) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    broken: watch::Sender<u32>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Stands before `upstream` on 127.0.0.1.
    pub(crate) async fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = watch::Sender::new(Mode::Pass);
        let broken = watch::Sender::new(0);
        let (modes, breaks) = (mode.subscribe(), broken.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, modes.clone(), breaks.clone()));
            }
        });
        Self { port, mode, broken, accepting }
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Changes what happens, to connections that stand too. Those that hung are closed.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits until a connection broke as asked for.
    pub(crate) async fn broken(&self) {
        let mut broken = self.broken.subscribe();
        let waited = tokio::time::timeout(crate::support::seconds(20), broken.wait_for(|n| *n > 0));
        waited.await.expect("no connection came to where it should break").unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What both directions of a connection share.
struct Link {
    modes: watch::Receiver<Mode>,
    broken: watch::Sender<u32>,
    /// Set once this connection broke: whether the client sees it.
    own_break: watch::Sender<Option<bool>>,
    /// What the client sent of late, and how many of the texts were found in it.
    progress: Mutex<(Vec<u8>, usize)>,
}

/// Carries one connection until it ends or breaks. Dropping both streams closes them.
async fn carry(
    client: TcpStream,
    upstream: u16,
    modes: watch::Receiver<Mode>,
    broken: watch::Sender<u32>,
) {
    let mut mode = modes.clone();
    let first = mode.borrow_and_update().clone();
    if first == Mode::Refuse {
        return;
    }
    if first == Mode::Hang {
        let _ = mode.changed().await;
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let link = Arc::new(Link {
        modes,
        broken,
        own_break: watch::Sender::new(None),
        progress: Mutex::default(),
    });
    let up = tokio::spawn(send_up(Arc::clone(&link), from_client, to_server));
    let down = tokio::spawn(send_down(Arc::clone(&link), from_server, to_client));
    let refused = async {
        let _ = mode.wait_for(|mode| *mode == Mode::Refuse).await;
    };
    let (stop_up, stop_down) = (up.abort_handle(), down.abort_handle());
    tokio::select! {
        _ = up => {}
        _ = down => {}
        () = refused => {}
    }
    stop_up.abort();
    stop_down.abort();
}

async fn send_up(link: Arc<Link>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut buffer).await else { return };
        let bytes = &buffer[..n];
        let mode = link.modes.borrow().clone();
        match &mode {
            Mode::Refuse => return,
            Mode::Hang => return hang(link.modes.clone()).await,
            Mode::Break(at) if reached(&link, at, bytes) => {
                link.own_break.send_replace(Some(at.seen));
                if at.delivered {
                    let _ = to.write_all(bytes).await;
                }
                link.broken.send_modify(|n| *n += 1);
                // What the server does now must have its time: its side stays open meanwhile.
                if at.seen && !at.delivered {
                    return;
                }
                let mut rest = Vec::new();
                let client_left = from.read_to_end(&mut rest);
                tokio::select! {
                    _ = client_left => {}
                    () = hang(link.modes.clone()) => {}
                }
                return;
            }
            Mode::Pass | Mode::Break(_) => {}
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn send_down(link: Arc<Link>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut buffer).await else { return };
        let own_break = *link.own_break.borrow();
        match own_break {
            // The server has answered: now the client may see the end.
            Some(true) => return,
            Some(false) => continue,
            None => {}
        }
        if *link.modes.borrow() == Mode::Hang {
            return hang(link.modes.clone()).await;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// Until somebody changes the mode.
async fn hang(mut modes: watch::Receiver<Mode>) {
    modes.mark_unchanged();
    let _ = modes.changed().await;
}

/// Was everything sent, with these bytes, that the break waits for?
fn reached(link: &Link, at: &Break, bytes: &[u8]) -> bool {
    let mut progress = link.progress.lock().unwrap();
    let (recent, found) = &mut *progress;
    recent.extend_from_slice(bytes);
    while let Some(text) = at.on.get(*found) {
        let Some(place) = recent.windows(text.len()).position(|w| w == text.as_bytes()) else {
            // The beginning of a text may be in these bytes and its end in the next.
            let keep = recent.len().saturating_sub(text.len());
            recent.drain(..keep);
            return false;
        };
        recent.drain(..place + text.len());
        *found += 1;
    }
    true
}
