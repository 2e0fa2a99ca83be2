//! Rows of `vote`, and what they make of their request.

use chrono::{DateTime, Utc};

use crate::{
    domain::{duration::Seconds, request::Vote},
    ids::{AccessRequestId, PrincipalId},
    store::{Tx, error::Error, exactly_one},
};

impl Tx {
    /// Records what somebody said: once, unless what they said is void.
    ///
    /// # Errors
    /// If they said something that counts, or the database does not answer.
    pub async fn add_vote(&mut self, id: AccessRequestId, vote: &Vote) -> Result<(), Error> {
        let done = sqlx::query!(
            "INSERT INTO vote (request_id, principal_id, step, verdict, comment, via, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT ON CONSTRAINT vote_once DO UPDATE
             SET step = excluded.step, verdict = excluded.verdict, comment = excluded.comment, via = excluded.via,
                 created_at = excluded.created_at, void_at = NULL
             WHERE vote.void_at IS NOT NULL",
            id.uuid(),
            vote.principal_id.uuid(),
            vote.step,
            vote.verdict.as_str(),
            vote.comment,
            vote.via.as_str(),
            vote.at
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that what somebody agreed to counts no more. The request waits for others again, if enough had agreed
    /// and it was not used.
    ///
    /// # Errors
    /// If there is no such vote that counts, or the database does not answer.
    pub async fn void_vote(
        &mut self,
        id: AccessRequestId,
        of: PrincipalId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE vote SET void_at = $3 WHERE request_id = $1 AND principal_id = $2 AND verdict = 'agreed' AND void_at IS NULL",
            id.uuid(),
            of.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)?;
        sqlx::query!(
            "UPDATE request r SET state = 'pending', decided_at = NULL, use_by = NULL
             WHERE r.id = $1 AND request_state(r.state, r.extends, (SELECT l.cause FROM lease l WHERE l.id = r.lease_id)) = 'approved'",
            id.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        // It is being used just now. If that fails it is over: whoever asks again finds another one.
        sqlx::query!(
            "UPDATE request r SET ended_at = $2
             WHERE r.id = $1 AND r.state = 'claimed' AND r.ended_at IS NULL
               AND EXISTS (SELECT FROM lease l WHERE l.id = r.lease_id AND l.state = 'provisioning')",
            id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Those who agree may agree to less; the least of it counts.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn shorten_request(&mut self, id: AccessRequestId, to: Seconds) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE request SET agreed_seconds = least(agreed_seconds, $2) WHERE id = $1",
            id.uuid(),
            to.get()
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that enough agreed.
    ///
    /// # Errors
    /// If it did not wait for that, or the database does not answer.
    pub async fn approve_request(
        &mut self,
        id: AccessRequestId,
        (now, use_by): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE request SET state = 'approved', decided_at = $2, use_by = $3 WHERE id = $1 AND state = 'pending'",
            id.uuid(),
            now,
            use_by
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }
}
