//! What ending records, for many logins at once: a thousand leases may end in the same second, and
//! each statement and each durable commit is shared by all that were claimed together.
//!
//! Leases are locked before their logins, as everywhere, so that nobody deadlocks with somebody who
//! revokes, renews or rotates. One whose lock is held (a daemon may stand still in the middle of a
//! transaction) is left out, and holds up no other.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::lease::{Cause, Proof},
    ids::{LeaseId, LoginId},
    store::{Store, Tx, error::Error, logins::Claimed},
};

/// Does a statement wait for locks that others hold?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// No: what is locked is left out.
    LeftOut,
    /// For a second.
    WaitedFor,
}

/// A login that ends because another one of its lease did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndsToo {
    /// Its lease.
    pub lease_id: LeaseId,
    /// The login.
    pub login_id: LoginId,
    /// Its role.
    pub role: String,
    /// Why the lease ends.
    pub cause: Cause,
}

impl Store {
    /// Which of these leases are over.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn over_among(&self, leases: &[LeaseId]) -> Result<HashSet<LeaseId>, Error> {
        let ids: Vec<Uuid> = leases.iter().map(|id| id.uuid()).collect();
        let over = sqlx::query_scalar!(
            "SELECT id FROM lease WHERE id = ANY ($1) AND state = 'revoked'",
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(over.into_iter().map(LeaseId::from).collect())
    }
}

impl Tx {
    /// Locks leases until the transaction ends, all in the same order. Gives those that are locked now.
    ///
    /// # Errors
    /// If the database does not answer, or a lock is waited for in vain.
    pub async fn lock_leases(
        &mut self,
        leases: &[LeaseId],
        locked: Locked,
    ) -> Result<HashSet<LeaseId>, Error> {
        let ids: Vec<Uuid> = leases.iter().map(|id| id.uuid()).collect();
        let ids =
            match locked {
                Locked::LeftOut => sqlx::query_scalar!(
                    "SELECT id FROM lease WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED",
                    &ids
                )
                .fetch_all(&mut *self.inner)
                .await?,
                Locked::WaitedFor => {
                    sqlx::query!("SET LOCAL lock_timeout = '1s'").execute(&mut *self.inner).await?;
                    sqlx::query_scalar!(
                        "SELECT id FROM lease WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
                        &ids
                    )
                    .fetch_all(&mut *self.inner)
                    .await?
                }
            };
        Ok(ids.into_iter().map(LeaseId::from).collect())
    }

    /// Records that claimed logins are ending, each for its cause. Gives those that now are: not one
    /// that was moved meanwhile, or whose claim is no longer ours, or, if it was active, whose end was
    /// moved. Their claims go on.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_revoking_claimed(
        &mut self,
        ending: &[(&Claimed, Cause)],
        now: DateTime<Utc>,
    ) -> Result<HashSet<LoginId>, Error> {
        let (mut ids, mut tokens, mut states, mut causes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (claimed, cause) in ending {
            ids.push(claimed.login.id.uuid());
            tokens.push(claimed.token);
            states.push(claimed.login.state.as_str().to_owned());
            causes.push(cause.as_str().to_owned());
        }
        let ended = sqlx::query_scalar!(
            "UPDATE login g SET state = 'revoking', cause = e.cause, due_at = $5, attempts = 0
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS e (id, token, state, cause)
             WHERE g.id = e.id AND g.claim_token = e.token AND g.state = e.state
               AND (g.state <> 'active' OR g.ends_at <= $5)
             RETURNING g.id",
            &ids,
            &tokens,
            &states,
            &causes,
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(ended.into_iter().map(LoginId::from).collect())
    }

    /// Records that leases are ending whose present login does: of those given, each with its cause.
    /// Gives every lease whose present login it is, and whether it was not ending before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_revoking_leases(
        &mut self,
        ending: &[(LeaseId, LoginId, Cause)],
    ) -> Result<Vec<(LeaseId, Cause, bool)>, Error> {
        let (mut leases, mut logins, mut causes) = (Vec::new(), Vec::new(), Vec::new());
        for (lease, login, cause) in ending {
            leases.push(lease.uuid());
            logins.push(login.uuid());
            causes.push(cause.as_str().to_owned());
        }
        let rows = sqlx::query!(
            r#"WITH present AS (
                   SELECT l.id, e.cause, l.state IN ('provisioning', 'active') AS lived
                   FROM lease l
                   JOIN unnest($1::uuid[], $2::uuid[], $3::text[]) AS e (lease_id, login_id, cause)
                     ON l.id = e.lease_id AND l.login_id = e.login_id),
               ended AS (
                   UPDATE lease l SET state = 'revoking', cause = p.cause
                   FROM present p WHERE l.id = p.id AND p.lived)
               SELECT id, cause AS "cause!", lived AS "lived!" FROM present ORDER BY id"#,
            &leases,
            &logins,
            &causes
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.into_iter()
            .map(|row| Ok((LeaseId::from(row.id), row.cause.parse()?, row.lived)))
            .collect()
    }

    /// Records that leases are ending for one cause; their logins are
    /// [`Tx::start_revoking_others`]'s. Gives those that were not ending before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_revoking_set(
        &mut self,
        leases: &[LeaseId],
        cause: Cause,
    ) -> Result<Vec<LeaseId>, Error> {
        let ids: Vec<Uuid> = leases.iter().map(|id| id.uuid()).collect();
        let ended = sqlx::query_scalar!(
            "UPDATE lease SET state = 'revoking', cause = $2
             WHERE id = ANY ($1) AND state IN ('provisioning', 'active') RETURNING id",
            &ids,
            cause.as_str()
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(ended.into_iter().map(LeaseId::from).collect())
    }

    /// Records that the other logins of leases that end do so too: those of earlier rotations that are
    /// still in their grace. One that is still being made is due only when its making is over, because
    /// to see no role before then proves nothing.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn start_revoking_others(
        &mut self,
        leases: &[(LeaseId, Cause)],
        now: DateTime<Utc>,
    ) -> Result<Vec<EndsToo>, Error> {
        let ids: Vec<Uuid> = leases.iter().map(|(id, _)| id.uuid()).collect();
        let causes: Vec<String> =
            leases.iter().map(|(_, cause)| cause.as_str().to_owned()).collect();
        let rows = sqlx::query!(
            r#"UPDATE login g SET state = 'revoking', cause = e.cause, attempts = 0,
                      due_at = CASE WHEN g.state = 'provisioning' THEN g.give_up_at ELSE $3 END,
                      claim_token = NULL, claimed_until = NULL
               FROM unnest($1::uuid[], $2::text[]) AS e (lease_id, cause)
               WHERE g.lease_id = e.lease_id AND g.state IN ('provisioning', 'active')
               RETURNING g.lease_id, g.id, g.role_name, g.cause AS "cause!""#,
            &ids,
            &causes,
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(EndsToo {
                    lease_id: LeaseId::from(row.lease_id),
                    login_id: LoginId::from(row.id),
                    role: row.role_name,
                    cause: row.cause.parse()?,
                })
            })
            .collect()
    }

    /// Records that claimed logins were seen to be gone, each with its proof. Gives those for which it
    /// is recorded now: not one whose claim is no longer ours.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn finish_logins(
        &mut self,
        gone: &[(&Claimed, &Proof)],
        now: DateTime<Utc>,
    ) -> Result<HashSet<LoginId>, Error> {
        let (mut ids, mut tokens, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
        for (claimed, proof) in gone {
            ids.push(claimed.login.id.uuid());
            tokens.push(claimed.token);
            let proof = serde_json::to_value(proof).map_err(|_| Error::Unreadable("proof"))?;
            proofs.push(proof);
        }
        let finished = sqlx::query_scalar!(
            "UPDATE login g SET state = 'revoked', proof = e.proof, removed_at = $4, blocked_by = NULL,
                    claim_token = NULL, claimed_until = NULL
             FROM unnest($1::uuid[], $2::uuid[], $3::jsonb[]) AS e (id, token, proof)
             WHERE g.id = e.id AND g.claim_token = e.token AND g.state = 'revoking'
             RETURNING g.id",
            &ids,
            &tokens,
            &proofs,
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        Ok(finished.into_iter().map(LoginId::from).collect())
    }

    /// Records that leases are over, those of which each login is. They must be locked
    /// ([`Tx::lock_leases`]): two logins of one lease may be removed in the same instant, each seeing
    /// the other's row as it was. Gives them with their causes.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn finish_leases(
        &mut self,
        leases: &[LeaseId],
        now: DateTime<Utc>,
    ) -> Result<Vec<(LeaseId, Cause)>, Error> {
        let ids: Vec<Uuid> = leases.iter().map(|id| id.uuid()).collect();
        let rows = sqlx::query!(
            r#"UPDATE lease l SET state = 'revoked', ended_at = $2
               WHERE l.id = ANY ($1) AND l.state = 'revoking'
                 AND NOT EXISTS (SELECT FROM login g WHERE g.lease_id = l.id AND g.state <> 'revoked')
               RETURNING l.id, l.cause AS "cause!""#,
            &ids,
            now
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.into_iter().map(|row| Ok((LeaseId::from(row.id), row.cause.parse()?))).collect()
    }
}
