//! The administrator's own password: set, and tried.
//!
//! Whoever sets it must hold the claim on that work when the server does it, not only when it is sent:
//! a daemon that is put to sleep in between would otherwise set, an hour later, a password that
//! everybody has forgotten. So the transaction is begun first, then the claim is looked at, and from
//! then on the server itself ends the transaction of a client that says nothing.

use std::time::Duration;

use sqlx::Connection as _;

use crate::{
    secret::Secret,
    target::{
        connect::{Connections, Login, run},
        error::{self, Error},
        scram::Verifier,
        sql,
    },
};

const SET: &str = "set the admin's own password";

/// Between the look at the claim and the end of the transaction, by the limits below: 2 s of silence,
/// a statement of 3 s, and 2 s of silence again.
pub const SETS_WITHIN: Duration = Duration::from_secs(7);

/// An administrator that works as another role (`ALTER ROLE … SET role`) may change only what is its
/// own as itself.
const AS_ITSELF: &str = "SET LOCAL idle_in_transaction_session_timeout = '2s'; \
    SET LOCAL statement_timeout = '3s'; SET LOCAL lock_timeout = '2s'; SET LOCAL ROLE NONE";

/// Sets the password of the role that signs in.
pub(crate) async fn set_password(
    connections: &Connections,
    verifier: &Verifier,
    still_ours: impl Future<Output = bool>,
) -> Result<(), Error> {
    let failed = || error::failed(SET);
    let statement = sql::own_password(verifier).ok_or_else(|| Error::Failure {
        doing: SET,
        source: "the verifier is malformed, and PostgreSQL would take it for a password".into(),
    })?;
    // A standby would say so only when the password is on its way.
    let (mut connection, _) = connections.to_change_cluster(None).await?;
    let mut tx = connection.begin().await.map_err(failed())?;
    run(&mut tx, AS_ITSELF).await.map_err(failed())?;
    if !still_ours.await {
        let source = "another daemon has taken this over".into();
        return Err(Error::Busy { doing: SET, source });
    }
    run(&mut tx, &statement).await.map_err(failed())?;
    tx.commit().await.map_err(failed())
}

/// Would the administrator be let in with this password?
pub(crate) async fn accepts(
    connections: &Connections,
    password: &Secret<String>,
) -> Result<bool, Error> {
    let user = connections.admin_user();
    let login = Login { user, password: password.expose(), role: None };
    connections.accepts(connections.first_database(), &login).await
}
