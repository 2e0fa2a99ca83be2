//! Rows of `request`, and what was said to them (`vote`).

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    domain::{
        approval::Needs,
        duration::Seconds,
        lease::Granted,
        request::{Request, State, Vote},
    },
    ids::{AccessRequestId, LeaseId, PrincipalId, ProfileId},
    store::{Store, Tx, error::Error, exactly_one},
};

/// Which requests are meant: those for which all holds that is said.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Those of this principal.
    pub principal_id: Option<PrincipalId>,
    /// Those that one of these rules may agree to.
    pub approvers: Option<Vec<String>>,
    /// Those of this principal, and those that one of these rules may agree to.
    pub seen_by: Option<(PrincipalId, Vec<String>)>,
    /// Those in one of these states.
    pub states: Option<Vec<State>>,
    /// Those for this profile.
    pub profile: Option<String>,
    /// Those that were asked before this one.
    pub before: Option<AccessRequestId>,
}

struct Row {
    id: Uuid,
    state: String,
    principal_id: Uuid,
    principal: String,
    acts_for: Option<Uuid>,
    asker_makers: Vec<Uuid>,
    profile_id: Option<Uuid>,
    profile: String,
    profile_version: i32,
    target_id: Uuid,
    target: String,
    environment: String,
    database: String,
    tool: String,
    ttl: Json<Granted>,
    agreed_seconds: Option<i64>,
    reason: Option<String>,
    ticket: Option<String>,
    extends: Option<Uuid>,
    needs: Json<Needs>,
    start_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    lapse_at: DateTime<Utc>,
    decided_at: Option<DateTime<Utc>>,
    use_by: Option<DateTime<Utc>>,
    lease_id: Option<Uuid>,
    votes: Json<Vec<Vote>>,
}

impl TryFrom<Row> for Request {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let length = |seconds| Seconds::new(seconds).map_err(|_| Error::Unreadable("ttl"));
        Ok(Self {
            id: row.id.into(),
            state: State::from_text(&row.state).ok_or(Error::Unreadable("request's state"))?,
            principal_id: row.principal_id.into(),
            principal: row.principal,
            acts_for: row.acts_for.map(PrincipalId::from),
            asker_makers: row.asker_makers.into_iter().map(PrincipalId::from).collect(),
            profile_id: row.profile_id.map(ProfileId::from),
            profile: row.profile,
            profile_version: row.profile_version,
            target_id: row.target_id.into(),
            target: row.target,
            environment: row.environment,
            database: row.database,
            tool: row.tool,
            ttl: row.ttl.0,
            agreed: row.agreed_seconds.map(length).transpose()?,
            reason: row.reason,
            ticket: row.ticket,
            extends: row.extends.map(LeaseId::from),
            needs: row.needs.0,
            votes: row.votes.0,
            start_at: row.start_at,
            created_at: row.created_at,
            lapse_at: row.lapse_at,
            decided_at: row.decided_at,
            use_by: row.use_by,
            lease_id: row.lease_id.map(LeaseId::from),
        })
    }
}

/// Requests as they are read, all with the same columns; what follows says which. In which state one is now is said by
/// `request_state` alone.
macro_rules! request_rows {
    ($which:tt $($arguments:tt)*) => {
        sqlx::query_as!(
            Row,
            r#"SELECT r.id AS "id!", now.state AS "state!", r.principal_id AS "principal_id!",
                  p.kind || ':' || p.subject AS "principal!", p.acts_for AS "acts_for?",
                  with_whom_they_act_for(r.asker_makers) AS "asker_makers!", r.profile_id AS "profile_id?", r.profile AS "profile!",
                  r.profile_version AS "profile_version!", r.target_id AS "target_id!", t.name AS "target!", t.environment AS "environment!",
                  r.database AS "database!", r.tool AS "tool!", r.ttl AS "ttl!: Json<Granted>", r.agreed_seconds, r.reason, r.ticket,
                  r.extends AS "extends?", r.needs AS "needs!: Json<Needs>", r.start_at, r.created_at AS "created_at!", r.lapse_at AS "lapse_at!",
                  r.decided_at, r.use_by, r.lease_id AS "lease_id?",
                  (SELECT coalesce(jsonb_agg(jsonb_build_object(
                              'principal_id', 'prn_' || replace(v.principal_id::text, '-', ''), 'principal', vp.kind || ':' || vp.subject,
                              'step', v.step, 'verdict', v.verdict, 'comment', v.comment, 'via', v.via, 'at', v.created_at, 'void_at', v.void_at)
                          ORDER BY v.created_at, v.principal_id), '[]')
                   FROM vote v JOIN principal vp ON vp.id = v.principal_id WHERE v.request_id = r.id) AS "votes!: Json<Vec<Vote>>"
           FROM request r
           LEFT JOIN lease l ON l.id = r.lease_id
           CROSS JOIN LATERAL (SELECT request_state(r.state, r.extends, l.cause)) AS now (state)
           JOIN principal p ON p.id = r.principal_id
           JOIN target t ON t.id = r.target_id
               "# + $which $($arguments)*
        )
    };
}

/// What a request becomes.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// From this state, in which it must be.
    pub from: State,
    /// To this one.
    pub to: State,
    /// When.
    pub at: DateTime<Utc>,
}

impl Store {
    /// A page of requests, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn requests(
        &self,
        filter: &RequestFilter,
        limit: i64,
    ) -> Result<Vec<Request>, Error> {
        let states: Option<Vec<String>> = filter
            .states
            .as_ref()
            .map(|states| states.iter().map(|state| state.as_str().to_owned()).collect());
        let (seen_by, seen_as) = filter.seen_by.clone().unzip();
        let mut tx = self.begin_list().await?;
        let rows = request_rows!(
            "WHERE ($1::uuid IS NULL OR r.principal_id = $1)
             AND ($2::text[] IS NULL OR r.approvers && $2)
             AND ($3::uuid IS NULL OR r.principal_id = $3 OR r.approvers && $4::text[])
             AND ($5::text[] IS NULL OR now.state = ANY ($5)) AND ($6::text IS NULL OR r.profile = $6)
             AND ($7::uuid IS NULL OR r.id < $7)
           ORDER BY r.id DESC LIMIT $8",
                filter.principal_id.map(PrincipalId::uuid) as Option<Uuid>,
                filter.approvers.as_deref() as Option<&[String]>,
                seen_by.map(PrincipalId::uuid) as Option<Uuid>,
                seen_as.as_deref() as Option<&[String]>,
                states.as_deref() as Option<&[String]>,
                filter.profile.as_deref() as Option<&str>,
                filter.before.map(AccessRequestId::uuid) as Option<Uuid>,
                limit
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows.into_iter().map(Request::try_from).collect()
    }

    /// One request.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn request(&self, id: AccessRequestId) -> Result<Option<Request>, Error> {
        let row = request_rows!("WHERE r.id = $1", id.uuid()).fetch_optional(&self.pool).await?;
        row.map(Request::try_from).transpose()
    }

    /// The request that a lease came of, if others agreed to it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn request_of_lease(&self, id: LeaseId) -> Result<Option<Request>, Error> {
        let row = request_rows!("WHERE r.lease_id = $1 AND r.extends IS NULL", id.uuid())
            .fetch_optional(&self.pool)
            .await?;
        row.map(Request::try_from).transpose()
    }

    /// Requests whose time is over, or whose lease failed and whose time is over, the longest due first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn due_requests(
        &self,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<AccessRequestId>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT r.id FROM request r LEFT JOIN lease l ON l.id = r.lease_id
             WHERE r.ended_at IS NULL AND coalesce(r.use_by, r.lapse_at) <= $1
               AND request_state(r.state, r.extends, l.cause) IN ('pending', 'approved')
             ORDER BY coalesce(r.use_by, r.lapse_at) LIMIT $2",
            now,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(AccessRequestId::from).collect())
    }

    /// Records of requests that were claimed that nothing more comes of them: their time is over, and their lease did
    /// not fail. Gives how many.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn settle_requests(&self, now: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
        let done = sqlx::query!(
            "UPDATE request SET ended_at = $1 WHERE ended_at IS NULL AND id IN (
                 SELECT r.id FROM request r JOIN lease l ON l.id = r.lease_id
                 WHERE r.ended_at IS NULL AND coalesce(r.use_by, r.lapse_at) <= $1 AND l.state <> 'provisioning'
                   AND request_state(r.state, r.extends, l.cause) = 'claimed'
                 ORDER BY coalesce(r.use_by, r.lapse_at) LIMIT $2)",
            now,
            limit
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Tx {
    /// Is a principal still let in? It is not shut out, and asks for nothing else, until the transaction ends.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn hold_to_ask(&mut self, id: PrincipalId) -> Result<bool, Error> {
        let found = sqlx::query_scalar!(
            r#"SELECT 1 AS "one!" FROM principal WHERE id = $1 AND disabled_at IS NULL FOR NO KEY UPDATE"#,
            id.uuid()
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        Ok(found.is_some())
    }

    /// The open request that asks for the same.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn same_open_request(&mut self, wish: &Request) -> Result<Option<Request>, Error> {
        let row = request_rows!(
            "WHERE r.principal_id = $1 AND r.ended_at IS NULL AND now.state IN ('pending', 'approved')
               AND r.profile_id = $2 AND r.profile_version = $3 AND r.tool = $4 AND r.ttl = $5
               AND (r.reason, r.ticket, r.extends, r.start_at) IS NOT DISTINCT FROM ($6::text, $7::text, $8::uuid, $9::timestamptz)
               AND coalesce(r.use_by, r.lapse_at) > $10
             ORDER BY r.id LIMIT 1",
            wish.principal_id.uuid(),
            wish.profile_id.map(ProfileId::uuid) as Option<Uuid>,
            wish.profile_version,
            wish.tool,
            Json(&wish.ttl) as _,
            wish.reason.as_deref() as Option<&str>,
            wish.ticket.as_deref() as Option<&str>,
            wish.extends.map(LeaseId::uuid) as Option<Uuid>,
            wish.start_at as Option<DateTime<Utc>>,
            wish.created_at
        )
        .fetch_optional(&mut *self.inner)
        .await?;
        row.map(Request::try_from).transpose()
    }

    /// Records a request.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn create_request(&mut self, request: &Request) -> Result<(), Error> {
        let makers: Vec<Uuid> = request.asker_makers.iter().map(|id| id.uuid()).collect();
        sqlx::query!(
            "INSERT INTO request (id, state, principal_id, profile_id, profile, profile_version, target_id, database, tool, ttl,
                                  reason, ticket, extends, needs, approvers, start_at, created_at, lapse_at, asker_makers)
             VALUES ($1, 'pending', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            request.id.uuid(),
            request.principal_id.uuid(),
            request.profile_id.map(ProfileId::uuid) as Option<Uuid>,
            request.profile,
            request.profile_version,
            request.target_id.uuid(),
            request.database,
            request.tool,
            Json(&request.ttl) as _,
            request.reason,
            request.ticket,
            request.extends.map(LeaseId::uuid) as Option<Uuid>,
            Json(&request.needs) as _,
            &request.needs.approvers(),
            request.start_at,
            request.created_at,
            request.lapse_at,
            &makers
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Records that a key is answered with a request. False if it is another answer's already.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn answer_key_with(
        &mut self,
        request: &Request,
        (key, hash): (&str, &[u8]),
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO idempotency (principal_id, key, request_hash, request_id, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (principal_id, key) DO UPDATE
             SET request_hash = excluded.request_hash, lease_id = NULL, request_id = excluded.request_id, created_at = excluded.created_at
             WHERE EXISTS (SELECT FROM lease l WHERE l.id = idempotency.lease_id AND l.cause = 'failed')",
            request.principal_id.uuid(),
            key,
            hash,
            request.id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// How many requests of a principal are open.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_open_requests(&mut self, of: PrincipalId) -> Result<i64, Error> {
        Ok(sqlx::query_scalar!(
            r#"SELECT count(*) AS "n!" FROM request r LEFT JOIN lease l ON l.id = r.lease_id
               WHERE r.principal_id = $1 AND r.ended_at IS NULL
                 AND request_state(r.state, r.extends, l.cause) IN ('pending', 'approved')"#,
            of.uuid()
        )
        .fetch_one(&mut *self.inner)
        .await?)
    }

    /// One request, locked until the transaction ends: what is decided about it is decided once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_request(&mut self, id: AccessRequestId) -> Result<Option<Request>, Error> {
        sqlx::query!("SELECT 1 AS one FROM request WHERE id = $1 FOR UPDATE", id.uuid())
            .fetch_optional(&mut *self.inner)
            .await?;
        self.request(id).await
    }

    async fn request(&mut self, id: AccessRequestId) -> Result<Option<Request>, Error> {
        let row = request_rows!("WHERE r.id = $1", id.uuid());
        let row = row.fetch_optional(&mut *self.inner).await?;
        row.map(Request::try_from).transpose()
    }

    /// Records that nothing comes of a request.
    ///
    /// # Errors
    /// If it was not in that state, or the database does not answer.
    pub async fn end_request(&mut self, id: AccessRequestId, over: Move) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE request r SET state = $3, ended_at = $4, decided_at = coalesce(decided_at, $4)
             WHERE r.id = $1 AND r.ended_at IS NULL
               AND request_state(r.state, r.extends, (SELECT l.cause FROM lease l WHERE l.id = r.lease_id)) = $2",
            id.uuid(),
            over.from.as_str(),
            over.to.as_str(),
            over.at
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that a lease lasts longer by what others agreed to.
    ///
    /// # Errors
    /// If it was not agreed to, or the database does not answer.
    pub async fn claim_extension(
        &mut self,
        id: AccessRequestId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE request SET state = 'claimed', lease_id = extends, ended_at = $2
             WHERE id = $1 AND state = 'approved' AND use_by > $2 AND extends IS NOT NULL",
            id.uuid(),
            now
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)
    }

    /// Records that a lease does not last longer after all.
    ///
    /// # Errors
    /// If it was not claimed, or the database does not answer.
    pub async fn give_extension_back(&mut self, id: AccessRequestId) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE request SET state = 'approved', lease_id = NULL, ended_at = NULL WHERE id = $1 AND state = 'claimed'",
            id.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        exactly_one(&done)?;
        // Who was shut out meanwhile agreed to what was used, as it seemed.
        sqlx::query!(
            "UPDATE vote v SET void_at = p.disabled_at FROM principal p
             WHERE v.request_id = $1 AND p.id = v.principal_id AND p.disabled_at IS NOT NULL AND v.verdict = 'agreed'
               AND v.void_at IS NULL",
            id.uuid()
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// The open requests of a principal, and those that it agreed to and of which no lease was made yet, locked until the
    /// transaction ends: all in one order, so that of two who are shut out at once, and agreed to each other's, none waits
    /// for the other for ever.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lock_requests_with(&mut self, id: PrincipalId) -> Result<Vec<Request>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT id FROM request
             WHERE ended_at IS NULL AND id = ANY (ARRAY(
                 SELECT id FROM request WHERE principal_id = $1 AND ended_at IS NULL
                 UNION SELECT request_id FROM vote WHERE principal_id = $1 AND verdict = 'agreed' AND void_at IS NULL))
             ORDER BY id FOR UPDATE",
            id.uuid()
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let rows = request_rows!(
            "WHERE r.id = ANY ($1) AND (now.state IN ('pending', 'approved') OR l.state = 'provisioning') ORDER BY r.id",
            &ids
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.into_iter().map(Request::try_from).collect()
    }
}
