//! The pool of one database of a target.
//!
//! The driver's pool tries to connect for as long as its callers wait when a server has no room for
//! another connection, though others may come back to it meanwhile. Here whoever waits takes what comes
//! first.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::target::{connect::CONNECT_TIME, gate::Gate, sound};

/// How long after its last use a connection is taken to be alive.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// After a minute without work nothing of ours is left open there.
const IDLE_TIME: Duration = Duration::from_mins(1);

/// How often a caller that is being connected looks for a connection that came back.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A pool; its clones are the same one.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: PgPool,
    lent: Arc<AtomicUsize>,
}

/// A connection, until it is dropped.
pub(crate) struct Lent {
    connection: PoolConnection<Postgres>,
    lent: Arc<AtomicUsize>,
}

impl Pool {
    /// Connects when first used.
    pub(crate) fn new(most: u32, gate: Arc<Gate>, options: PgConnectOptions) -> Self {
        let inner = PgPoolOptions::new()
            .max_connections(most)
            .min_connections(0)
            .acquire_timeout(CONNECT_TIME)
            .idle_timeout(IDLE_TIME)
            .after_connect(move |connection, _| {
                let gate = Arc::clone(&gate);
                Box::pin(async move {
                    gate.look(connection).await;
                    sound::prepare(connection).await
                })
            })
            // One that was in use a moment ago is not asked whether it still lives.
            .test_before_acquire(false)
            .before_acquire(|connection, use_before| {
                Box::pin(async move {
                    Ok(use_before.idle_for < TRUSTED_FOR || connection.ping().await.is_ok())
                })
            })
            .after_release(|connection, _| {
                Box::pin(async { Ok(is_outside_transactions(connection).await) })
            })
            .connect_lazy_with(options);
        Self { inner, lent: Arc::default() }
    }

    /// A connection: one that idles, or comes back, or a new one.
    pub(crate) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        let connection = tokio::select! {
            biased;
            acquired = self.inner.acquire() => acquired?,
            connection = self.come_back() => connection,
        };
        self.lent.fetch_add(1, Ordering::Relaxed);
        Ok(Lent { connection, lent: Arc::clone(&self.lent) })
    }

    async fn come_back(&self) -> PoolConnection<Postgres> {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // It may have idled for long: on a far target the pool is asking another one at this time.
            if let Some(mut connection) = self.inner.try_acquire()
                && connection.ping().await.is_ok()
            {
                return connection;
            }
        }
    }

    /// Signs new connections in with this from now on.
    pub(crate) fn use_options(&self, options: PgConnectOptions) {
        self.inner.set_connect_options(options);
    }

    /// Connections that somebody has.
    pub(crate) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// Connections that nobody has.
    pub(crate) fn idle(&self) -> usize {
        self.inner.num_idle()
    }

    /// Closes everything; what is lent goes when it is given back. Begins at once, and ends when all are
    /// closed.
    pub(crate) fn close(&self) -> impl Future<Output = ()> {
        self.inner.close()
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lent.fetch_sub(1, Ordering::Relaxed);
    }
}

/// May the next one have the connection? A caller that gives up while its BEGIN is under way leaves a
/// transaction open that the driver does not know of, and what the next one does there, outside of
/// transactions as it believes, would be undone. The driver asks the server whether a statement that
/// was to begin a transaction did; this one does not.
async fn is_outside_transactions(connection: &mut PgConnection) -> bool {
    matches!(connection.begin_with("SELECT 1").await, Err(sqlx::Error::BeginFailed))
}
