//! Our own database: the only module that holds its SQL.
//!
//! A [`Tx`] is one transaction: the change, its audit entry and what must be told to others are
//! written in it together, or not at all. Every move of a lease or login is a compare-and-set on the
//! state that it leaves. Statements are checked against the schema at compile time (`.sqlx/`).

pub mod admin_rotation;
pub mod administration;
pub mod audit;
pub mod caution;
pub mod certificates;
pub mod chat;
pub mod ci;
pub mod drift;
pub mod emergencies;
pub mod emergency_codes;
pub mod ending;
pub mod error;
pub mod idempotency;
pub mod identities;
pub mod installation;
pub mod issuing;
pub mod leases;
pub mod limits;
pub mod logins;
pub mod measure;
pub mod notices;
pub mod offboarding;
pub mod people;
pub mod profiles;
pub mod requests;
pub mod review_items;
pub mod review_profiles;
pub mod reviews;
pub mod rotating;
pub mod seal;
pub mod sessions;
pub mod sign_ins;
pub mod standing;
pub mod sweep;
pub mod targets;
pub mod tokens;
pub mod votes;

use std::{str::FromStr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    Connection as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{secret::Secret, store::error::Error, telemetry::metrics::Metrics};

/// How long a request waits for a connection before it is told that the database does not answer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long after its last use a connection is taken to be alive. A server that restarts in between
/// fails the one request that gets it, which would have failed a moment earlier as well.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A statement that takes longer is not one of ours: each touches a few rows by an index.
const STATEMENT_TIMEOUT: &str = "15s";

/// A handle on our database. The pool is private, so every statement goes through this module.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    metrics: Arc<Metrics>,
    issuing: Arc<issuing::Issuing>,
    token_lookups: Arc<tokens::Lookups>,
    issuer_lookups: Arc<ci::Lookups>,
}

/// One running transaction. Dropped without [`Tx::commit`], it rolls back.
#[derive(Debug)]
#[must_use]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    metrics: Arc<Metrics>,
    /// Audit entries written in it, which count once it is committed.
    audited: u64,
}

impl Store {
    /// Takes the address of the database. Connects when first used.
    ///
    /// # Errors
    /// If the address cannot be read.
    pub fn new(
        url: &Secret<String>,
        max_connections: u32,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let options =
            PgConnectOptions::from_str(url.expose())?.application_name("pgvalet-state").options([
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("idle_in_transaction_session_timeout", "30s"),
                ("TimeZone", "UTC"),
                ("jit", "off"),
                // Each statement is planned once for each connection: for arrays the planner would do so
                // every time, which takes longer than to run it. That may be while a table is nearly
                // empty, so the plan must not be one that reads all of it.
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(300))
            // One that was in use a moment ago is not asked whether it still lives.
            .test_before_acquire(false)
            .before_acquire(|connection, use_before| {
                Box::pin(async move {
                    Ok(use_before.idle_for < TRUSTED_FOR || connection.ping().await.is_ok())
                })
            })
            .connect_lazy_with(options);
        let issuing = Arc::new(issuing::Issuing::new(&pool, &metrics));
        let token_lookups = Arc::new(tokens::Lookups::new(&pool));
        let issuer_lookups = Arc::new(ci::Lookups::new(&pool));
        Ok(Self { pool, metrics, issuing, token_lookups, issuer_lookups })
    }

    /// Brings the schema up to date. Several daemons may do so at once: one waits for the other. A
    /// schema later than this release is left as it is: migrations only grow, so that an older daemon
    /// runs on while a newer one is brought in.
    ///
    /// # Errors
    /// If the database does not answer, or a migration fails.
    pub async fn migrate(&self) -> Result<(), Error> {
        let mut migrator = sqlx::migrate!("./migrations");
        migrator.set_ignore_missing(true);
        migrator.run(&self.pool).await.map_err(schema_error)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// If no connection comes free in time, or the database does not answer.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let inner = begin(self.pool.clone()).await?;
        Ok(Tx { inner, metrics: Arc::clone(&self.metrics), audited: 0 })
    }

    /// Begins to read a list with filters, which is planned for those that are asked for: a plan for
    /// whatever may be asked for reads everything.
    async fn begin_list(&self) -> Result<Transaction<'static, Postgres>, Error> {
        let mut tx = begin(self.pool.clone()).await?;
        sqlx::query!("SET LOCAL plan_cache_mode = force_custom_plan").execute(&mut *tx).await?;
        Ok(tx)
    }

    /// What the database's clock says.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>, Error> {
        Ok(sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Does the database answer?
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query!("SELECT 1 AS one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Tx {
    /// Makes everything done in this transaction lasting.
    ///
    /// # Errors
    /// If the database refuses, in which case nothing was done, or does not answer, in which case
    /// it is not known.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.commit().await?;
        self.metrics.audited(self.audited);
        Ok(())
    }
}

/// Begins a transaction, in a task of its own: a caller that gave up while BEGIN is under way would leave a
/// transaction open that the driver does not know of, and whoever has the connection next would work in
/// it, and see it undone. The task comes to the end of BEGIN, and takes it back.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with BEGIN, which the statement timeout bounds, and whoever asked waits for it"
)]
async fn begin(pool: PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    let begun = tokio::spawn(async move { pool.begin().await });
    Ok(begun.await.map_err(|_| sqlx::Error::WorkerCrashed)??)
}

/// Exactly one row was changed, or the move was not ours to make.
fn exactly_one(done: &sqlx::postgres::PgQueryResult) -> Result<(), Error> {
    match done.rows_affected() {
        1 => Ok(()),
        n => Err(Error::NotOneRow(n)),
    }
}

fn schema_error(e: sqlx::migrate::MigrateError) -> Error {
    match e {
        sqlx::migrate::MigrateError::Execute(e) => Error::from(e),
        other => Error::Schema(other),
    }
}
