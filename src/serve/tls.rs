//! TLS in front of the API: the handshake, within bounds, and files that change while connections live.
//!
//! The files are looked at every few seconds, and at once on SIGHUP. A new pair serves the connections
//! that come from then on; those that are there stay. Only where the new files say something else of
//! clients' certificates, connections that were let in by one are closed after the requests under way:
//! a certificate may have been revoked.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, CertificateError},
    server::TlsStream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    clock::Clock,
    config::{Tls, TlsConfig, TlsFault, TlsFiles, with_cause},
    identity::certificate::ClientCertificate,
    lifecycle::{Hangups, Tasks},
    telemetry::labels::{Handshake, Outcome},
};

/// How long a peer may take to begin, from its first byte to the last of the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The first byte of a TLS connection: the type of a record that holds a handshake.
const HANDSHAKE_RECORD: u8 = 22;

/// The pair that is served, and how it is looked after.
pub(in crate::serve) struct Front {
    config: TlsConfig,
    served: RwLock<Served>,
    app: Arc<App>,
}

/// What is served now.
#[derive(Clone)]
struct Served {
    files: Arc<TlsFiles>,
    tls: Tls,
    /// Cancelled when what is served says something else of clients.
    clients_over: CancellationToken,
}

/// A connection after its beginning.
pub(in crate::serve) enum Opened {
    /// A peer that speaks TLS.
    Tls {
        /// The connection.
        stream: Box<TlsStream<TcpStream>>,
        /// Who it says it is, if it showed a certificate.
        certificate: Option<ClientCertificate>,
        /// When the connection is to end, because the certificate may no longer hold.
        over: CancellationToken,
    },
    /// A peer that speaks plain HTTP.
    Plain(TcpStream),
    /// Nobody that could be talked to.
    Refused,
}

/// What was last wrong with the files. A fault is told when it is seen twice: who writes a new pair
/// writes one file after the other.
#[derive(Default)]
struct Fault {
    text: Option<String>,
    told: bool,
}

impl Front {
    /// Reads the files.
    pub(in crate::serve) fn start(config: TlsConfig, app: Arc<App>) -> Result<Arc<Self>, TlsFault> {
        let files = Arc::new(config.read()?);
        let tls = config.make(&files)?;
        app.metrics().certificate_ends(tls.ends_at);
        let served = RwLock::new(Served { files, tls, clients_over: CancellationToken::new() });
        Ok(Arc::new(Self { config, served, app }))
    }

    /// Begins a connection.
    pub(in crate::serve) async fn open(&self, stream: TcpStream, peer: SocketAddr) -> Opened {
        let (opened, came) = match timeout(HANDSHAKE_LIMIT, self.begin(stream)).await {
            Ok(Ok(Opened::Plain(stream))) => (Opened::Plain(stream), Handshake::Plain),
            Ok(Ok(opened)) => (opened, Handshake::Ok),
            Ok(Err(error)) => {
                let came = what_came_of_it(&error);
                tracing::debug!(peer = %peer.ip(), error = %error, why = came.word(), "a TLS handshake failed");
                (Opened::Refused, came)
            }
            Err(_) => (Opened::Refused, Handshake::Slow),
        };
        self.app.metrics().handshake(came);
        // Who shows a wrong certificate is told of as who shows a wrong token.
        let source = peer.ip().to_canonical();
        match came {
            Handshake::Revoked => self.app.note_refused_handshake(source, "revoked").await,
            Handshake::BadCertificate => {
                let why = "of no authority that is trusted, over, or not meant for clients";
                self.app.note_refused_handshake(source, why).await;
            }
            _ => {}
        }
        opened
    }

    async fn begin(&self, stream: TcpStream) -> io::Result<Opened> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE_RECORD] && first.iter().all(u8::is_ascii_uppercase) {
            return Ok(Opened::Plain(stream));
        }
        let Served { tls, clients_over, .. } = self.served();
        let stream = TlsAcceptor::from(tls.server).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|der| ClientCertificate::of_verified(der)).transpose();
        let certificate = certificate.map_err(io::Error::other)?;
        let over = if certificate.is_some() { clients_over } else { CancellationToken::new() };
        Ok(Opened::Tls { stream: Box::new(stream), certificate, over })
    }

    /// Looks at the files until the daemon stops.
    pub(in crate::serve) async fn watch(
        self: Arc<Self>,
        mut hangups: Hangups,
        tasks: Tasks,
    ) -> Result<(), Infallible> {
        let stop = tasks.stop_token();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fault = Fault::default();
        loop {
            let is_asked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = looks.tick() => false,
                () = hangups.next() => true,
            };
            let this = Arc::clone(&self);
            // A task that does not come back has panicked, and the daemon stops.
            if let Ok(seen) = tasks.spawn_blocking("tls files", move || this.look()).await {
                self.note(seen, &mut fault, is_asked);
            }
            self.app.note_pass("tls", self.not_ready());
        }
    }

    /// The files as they are, if they are not those that are served.
    fn look(&self) -> Result<Option<(TlsFiles, Tls)>, TlsFault> {
        let files = self.config.read()?;
        if files == *self.served().files {
            return Ok(None);
        }
        let tls = self.config.make(&files)?;
        Ok(Some((files, tls)))
    }

    fn note(
        &self,
        seen: Result<Option<(TlsFiles, Tls)>, TlsFault>,
        fault: &mut Fault,
        is_asked: bool,
    ) {
        let text = match seen {
            Ok(None) => {
                *fault = Fault::default();
                return;
            }
            Ok(Some((files, tls))) => match self.unfit(&tls) {
                Some(text) => text,
                None => {
                    *fault = Fault::default();
                    return self.serve(files, tls);
                }
            },
            Err(error) => with_cause(&error),
        };
        let is_seen_twice = fault.text.as_ref() == Some(&text);
        if !is_seen_twice {
            *fault = Fault { text: Some(text.clone()), told: false };
        }
        if (is_seen_twice || is_asked) && !fault.told {
            fault.told = true;
            self.app.metrics().certificate_loaded(Outcome::Failed);
            let ends_at = self.served().tls.ends_at;
            tracing::error!(
                fault = text,
                served_until = %ends_at,
                "the new TLS certificate cannot be used: the one before is still served; correct the files in [tls]"
            );
        }
    }

    /// Why a pair that could be served should not take the place of one that holds. At the start there is
    /// none to keep, and a daemon that does not run ends no leases.
    fn unfit(&self, tls: &Tls) -> Option<String> {
        let now = Clock.now();
        let holds = |tls: &Tls| tls.begins_at <= now && now < tls.ends_at;
        (!holds(tls) && holds(&self.served().tls)).then(|| {
            format!("the certificate holds only from {} to {}", tls.begins_at, tls.ends_at)
        })
    }

    fn serve(&self, files: TlsFiles, tls: Tls) {
        self.app.metrics().certificate_ends(tls.ends_at);
        self.app.metrics().certificate_loaded(Outcome::Ok);
        let ends_at = tls.ends_at;
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let clients_over = if files.agree_on_clients(&served.files) {
            served.clients_over.clone()
        } else {
            served.clients_over.cancel();
            CancellationToken::new()
        };
        *served = Served { files: Arc::new(files), tls, clients_over };
        tracing::info!(%ends_at, "a new TLS certificate is served");
    }

    /// Why clients will not talk to us, if the certificate does not hold now.
    fn not_ready(&self) -> Option<String> {
        let Tls { begins_at, ends_at, .. } = self.served().tls;
        let now = Clock.now();
        let words = "%Y-%m-%d %H:%M UTC";
        if ends_at <= now {
            return Some(format!("the certificate ended at {}: renew it", ends_at.format(words)));
        }
        (now < begins_at).then(|| format!("the certificate begins at {}", begins_at.format(words)))
    }

    /// It is only ever replaced whole, so one left by a panic is still sound.
    fn served(&self) -> Served {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a failed handshake counts as.
fn what_came_of_it(error: &io::Error) -> Handshake {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => Handshake::NoCertificate,
        Some(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => Handshake::Revoked,
        Some(rustls::Error::InvalidCertificate(_)) => Handshake::BadCertificate,
        _ => Handshake::Broken,
    }
}
