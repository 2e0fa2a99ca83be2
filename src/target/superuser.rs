//! The session in which a superuser (or a managed service's administrator) sets a target up. Nothing
//! that the daemon does passes through here.

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{
    domain::network::is_this_machine,
    secret::Secret,
    target::{
        bootstrap::Step,
        error::{self, Source},
        observe,
    },
};

/// A server that somebody with the rights for it signed in to.
#[expect(missing_debug_implementations, reason = "it knows a password")]
pub struct Server {
    options: PgConnectOptions,
    connection: PgConnection,
    at: Option<String>,
    /// Its version: 150004 is 15.4.
    pub version: i32,
}

/// It could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The address is none.
    #[error("`{0}` is no address: write postgres://user@host:port/database, without a password")]
    Address(String),
    /// Nobody signed in.
    #[error("could not sign in to {at}")]
    SignIn {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A statement failed. Nothing of its step is kept.
    #[error("could not run this: {sql}")]
    Step {
        /// The step's statements.
        sql: String,
        /// Why.
        #[source]
        source: Source,
    },
}

/// An address whose password is elsewhere: every user of a machine can read command lines.
#[derive(Debug, Clone)]
pub struct Address {
    options: PgConnectOptions,
    /// For people.
    pub shown: String,
}

impl Address {
    /// Reads a `postgres://` URL. Without an `sslmode`, a server elsewhere must have a certificate
    /// for its name.
    ///
    /// # Errors
    /// If it is none, or holds a password.
    pub fn read(url: &str) -> Result<Self, Failed> {
        let wrong = || Failed::Address(without_password(url));
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let authority = rest.ok_or_else(wrong)?.split(['/', '?']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) || url.contains("password=") {
            return Err(wrong());
        }
        let mut options: PgConnectOptions = url.parse().map_err(|_| wrong())?;
        let is_near = options.get_socket().is_some()
            || is_this_machine(options.get_host())
            || options.get_host().starts_with('/');
        if !is_near && matches!(options.get_ssl_mode(), PgSslMode::Prefer | PgSslMode::Allow) {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        let shown =
            format!("{}@{}:{}", options.get_username(), options.get_host(), options.get_port());
        Ok(Self { options, shown })
    }

    /// Signs in.
    ///
    /// # Errors
    /// If that fails, or the server does not say what it is.
    pub async fn sign_in(self, password: Option<&Secret<String>>) -> Result<Server, Failed> {
        let failed = |source: Source| Failed::SignIn { at: self.shown.clone(), source };
        let mut options = self
            .options
            .clone()
            .application_name("pgvalet bootstrap-target")
            .options([("search_path", "pg_catalog, pg_temp")])
            .disable_statement_logging();
        if let Some(password) = password {
            options = options.password(password.expose());
        }
        let mut connection = PgConnection::connect_with(&options)
            .await
            .map_err(|error| failed(error::source_of(error)))?;
        let facts = observe::facts(&mut connection).await.map_err(|error| failed(error.into()))?;
        let version = facts.server.version_num;
        Ok(Server { options, connection, at: None, version })
    }
}

/// What may be shown of an address.
fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{}", rest.split('?').next().unwrap_or_default()),
        None => url.split('?').next().unwrap_or_default().to_owned(),
    }
}

impl Server {
    /// Runs the steps that are chosen, each in a transaction of its own. What the server remarks (a
    /// REVOKE by somebody who may not only warns) goes to the log.
    ///
    /// # Errors
    /// The first fault; the steps before it stay, and running all again is fine.
    pub async fn apply(mut self, steps: &[Step]) -> Result<(), Failed> {
        for step in steps.iter().filter(|step| step.is_chosen) {
            let failed = |error| Failed::Step {
                // A verifier is in no message.
                sql: step.sql.split(" PASSWORD ").next().unwrap_or_default().to_owned(),
                source: error::source_of(error),
            };
            if step.database.is_some() && step.database != self.at {
                let database = step.database.as_deref().unwrap_or_default();
                let options = self.options.clone().database(database);
                self.connection = PgConnection::connect_with(&options).await.map_err(failed)?;
                self.at.clone_from(&step.database);
            }
            // Several statements in one message are one transaction.
            sqlx::raw_sql(AssertSqlSafe(step.sql.as_str()))
                .execute(&mut self.connection)
                .await
                .map_err(failed)?;
        }
        self.connection.close().await.map_err(|error| Failed::SignIn {
            at: self.options.get_host().to_owned(),
            source: error::source_of(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_no_password_and_wants_tls_far_away() {
        for url in [
            "postgres://boss:secret@db1/orders",
            "postgres://boss@db1/orders?password=secret",
            "host=db1 user=boss",
            "mysql://boss@db1/",
        ] {
            let said = Address::read(url).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
        let mode = |url: &str| Address::read(url).unwrap().options.get_ssl_mode();
        for (url, is_verified) in [
            ("postgres://boss@db1/orders", true),
            ("postgres://boss@127.0.0.1/orders", false),
            ("postgres://boss@localhost/orders", false),
            ("postgres://boss@db1/orders?sslmode=require", false),
        ] {
            assert_eq!(matches!(mode(url), PgSslMode::VerifyFull), is_verified, "{url}");
        }
    }
}
