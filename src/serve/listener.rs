//! Connections: from the socket to the router, within bounds.
//!
//! `axum::serve` has no bounds: whoever sends nothing, or half a request, keeps a connection for ever,
//! and with enough of them everybody else out; and one of them holds up a stop until its deadline. So
//! each connection here keeps count of its requests. One on which nothing is under way is closed after
//! a while, and soon when the daemon stops; a request that has fully arrived is always answered.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request},
};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    identity::certificate::ClientCertificate,
    lifecycle::Tasks,
    serve::tls::{Front, Opened},
};

/// The most connections at once. More wait in the system's queue.
const MOST_CONNECTIONS: usize = 1000;
/// How long the head of a request may take, and how long a connection may stand idle.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection that is to close may stay if no request that has fully arrived is under way
/// on it: for the last bytes of an answer.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long to wait when the system gives no connection, most likely for want of file descriptors.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Raises the number of files that this process may open to what the system allows. Gives how many
/// connections are then taken at once: at most half of the files, because the databases and the
/// programs that we start need some too.
pub(in crate::serve) fn make_room() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // Some systems say "unlimited" and do not mean it.
        Err(_) => limit.current,
    };
    let half = files.and_then(|files| usize::try_from(files / 2).ok());
    half.unwrap_or(MOST_CONNECTIONS).clamp(1, MOST_CONNECTIONS)
}

/// What answers on a port.
#[derive(Clone)]
pub(in crate::serve) struct Service {
    /// The answers.
    pub(in crate::serve) router: Router,
    /// TLS in front of them, and what plain HTTP is told there; none means plain HTTP.
    pub(in crate::serve) tls: Option<(Arc<Front>, Router)>,
}

/// Takes connections until the daemon stops, at most so many at once.
pub(in crate::serve) async fn run(
    listener: TcpListener,
    service: Service,
    tasks: Tasks,
    most: usize,
) -> Result<(), Infallible> {
    let stop = tasks.stop_token();
    let server = Arc::new(server(&tasks));
    let places = Arc::new(Semaphore::new(most));
    while let Some((stream, peer, place)) =
        stop.run_until_cancelled(accept(&listener, &places)).await
    {
        let (server, service, stop) = (Arc::clone(&server), service.clone(), stop.clone());
        tasks.spawn("http connection", async move {
            begin(stream, peer, service, stop, &server).await;
            drop(place);
            Ok::<_, Infallible>(())
        });
    }
    Ok(())
}

fn server(tasks: &Tasks) -> auto::Builder<Streams> {
    let mut server = auto::Builder::new(Streams(tasks.clone()));
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    server
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            // The peer is gone already.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(e) => {
                tracing::error!(error = %e, "could not take a connection; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Begins a connection, with TLS if that is in front, and serves it to its end.
async fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    service: Service,
    stop: CancellationToken,
    server: &auto::Builder<Streams>,
) {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(error = %e, "a connection without TCP_NODELAY");
    }
    let Service { router, tls } = service;
    let never = CancellationToken::new();
    let plain =
        |router| Connection { peer, certificate: None, router, stop: stop.clone(), over: never };
    let Some((front, plain_router)) = tls else {
        return Box::pin(plain(router).serve(stream, server)).await;
    };
    match stop.run_until_cancelled(front.open(stream, peer)).await {
        Some(Opened::Tls { stream, certificate, over }) => {
            let connection = Connection { peer, certificate, router, stop, over };
            Box::pin(connection.serve(stream, server)).await;
        }
        Some(Opened::Plain(stream)) => {
            Box::pin(plain(plain_router).serve(stream, server)).await;
        }
        Some(Opened::Refused) | None => {}
    }
}

struct Connection {
    peer: SocketAddr,
    /// What the client showed when it began.
    certificate: Option<ClientCertificate>,
    router: Router,
    stop: CancellationToken,
    /// This one is to close, the others are not.
    over: CancellationToken,
}

impl Connection {
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        server: &auto::Builder<Streams>,
    ) {
        let Self { peer, certificate, router, stop, over } = self;
        let (counts, mut seen) = watch::channel(Counts::default());
        let counts = Arc::new(counts);
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request;
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(certificate) = certificate.clone() {
                request.extensions_mut().insert(certificate);
            }
            answer(request, router.clone(), Arc::clone(&counts))
        });
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => return log_end(ended),
            () = stop.cancelled() => {}
            () = over.cancelled() => {}
            () = quiet(&mut seen, |counts| counts.under_way == 0, HEAD_LIMIT) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => log_end(ended),
            () = quiet(&mut seen, |counts| counts.under_way == counts.arriving, CLOSE_LIMIT) => {}
        }
    }
}

/// What goes wrong on one connection is its peer's doing, or its peer's loss.
fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection was broken off");
    }
}

/// Waits until the counts have been quiet, and have not changed, for so long.
async fn quiet(seen: &mut watch::Receiver<Counts>, is_quiet: fn(&Counts) -> bool, limit: Duration) {
    // The sender is gone when the service is, and then the connection ends by itself.
    while seen.wait_for(is_quiet).await.is_ok() {
        // A request may have come and gone between two looks: any change counts.
        if tokio::time::timeout(limit, seen.changed()).await.is_err() {
            return;
        }
    }
    std::future::pending().await
}

async fn answer(
    request: hyper::Request<Incoming>,
    router: Router,
    counts: Arc<watch::Sender<Counts>>,
) -> Result<hyper::Response<Counted>, Infallible> {
    let under_way = Mark::set(&counts, |counts| &mut counts.under_way);
    let arriving = (!request.body().is_end_stream())
        .then(|| Mark::set(&counts, |counts| &mut counts.arriving));
    let request: Request =
        request.map(|body| Body::new(Counted { body: Body::new(body), mark: arriving }));
    let response = router.oneshot(request).await?;
    Ok(response.map(|body| Counted { body, mark: Some(under_way) }))
}

/// The requests of one connection.
#[derive(Default)]
struct Counts {
    /// Begun, and their answers not yet handed over to the connection whole.
    under_way: usize,
    /// Of these, the ones whose bodies have not arrived whole.
    arriving: usize,
}

/// One of a count, until it is dropped.
struct Mark {
    counts: Arc<watch::Sender<Counts>>,
    which: fn(&mut Counts) -> &mut usize,
}

impl Mark {
    fn set(counts: &Arc<watch::Sender<Counts>>, which: fn(&mut Counts) -> &mut usize) -> Self {
        counts.send_modify(|counts| *which(counts) += 1);
        Self { counts: Arc::clone(counts), which }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| {
            let count = (self.which)(counts);
            *count = count.saturating_sub(1);
        });
    }
}

/// A body that keeps a mark until its end.
struct Counted {
    body: Body,
    mark: Option<Mark>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.mark = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the requests of HTTP/2 connections, which are tasks of their own.
#[derive(Clone)]
struct Streams(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, work: F) {
        self.0.spawn("http stream", async move {
            work.await;
            Ok::<_, Infallible>(())
        });
    }
}
