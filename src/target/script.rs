//! Plain SQL, run once as a given role: how the playground sets up its databases. Nothing that works
//! on a person's target passes through here.

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::secret::Secret;

/// Where a script runs, and as whom.
#[derive(Debug)]
pub struct Place<'a> {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The database.
    pub database: &'a str,
    /// The role.
    pub user: &'a str,
    /// Its password.
    pub password: &'a Secret<String>,
}

/// A script did not run to its end.
#[derive(Debug, thiserror::Error)]
#[error("could not run SQL in database `{database}`")]
pub struct Failed {
    database: String,
    #[source]
    source: sqlx::Error,
}

/// Runs scripts one after the other in one session.
///
/// # Errors
/// The first fault; what ran before it stays.
pub async fn run(place: &Place<'_>, scripts: &[&str]) -> Result<(), Failed> {
    let run = async {
        let mut connection = connect(place).await?;
        for script in scripts {
            connection.execute(AssertSqlSafe(*script)).await?;
        }
        connection.close().await
    };
    run.await.map_err(|source| Failed { database: place.database.to_owned(), source })
}

/// Is there a database of this name?
///
/// # Errors
/// If the server does not answer.
pub async fn database_exists(place: &Place<'_>, name: &str) -> Result<bool, Failed> {
    let look = async {
        let mut connection = connect(place).await?;
        let found =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
        connection.close().await?;
        Ok(found)
    };
    look.await.map_err(|source| Failed { database: place.database.to_owned(), source })
}

async fn connect(place: &Place<'_>) -> Result<sqlx::PgConnection, sqlx::Error> {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(place.port)
        .database(place.database)
        .username(place.user)
        .password(place.password.expose())
        .ssl_mode(PgSslMode::Disable)
        .application_name("pgvalet-dev")
        .disable_statement_logging()
        .connect()
        .await
}
