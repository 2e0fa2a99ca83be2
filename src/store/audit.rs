//! The audit: entries are written in the transaction of their change; the chain is sealed behind
//! them by one writer at a time, so that issuing never waits for it.

use chrono::{DateTime, Utc};

use crate::{
    domain::audit::{Entry, Hash, Sealed, Walk, chain},
    ids::{AuditId, LeaseId},
    store::{Store, Tx, error::Error},
};

/// An entry as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: AuditId,
    /// Its place in the chain, once sealed.
    pub position: Option<i64>,
    /// Its hash, once sealed.
    pub hash: Option<Vec<u8>>,
    /// Its canonical bytes.
    pub body: String,
}

/// A signed head of the chain.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The position that it signs.
    pub position: i64,
    /// The hash there.
    pub head: Vec<u8>,
    /// When it was signed.
    pub signed_at: DateTime<Utc>,
    /// The key.
    pub public_key: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// What is kept of an entry.
pub(in crate::store) fn body(entry: &Entry) -> Result<String, Error> {
    entry.canonical().map_err(|_| Error::Unreadable("audit entry"))
}

impl Tx {
    /// Writes an entry.
    ///
    /// # Errors
    /// If the database does not answer.
    #[tracing::instrument(
        target = "pgvalet::trace",
        name = "INSERT audit_entry",
        skip_all,
        fields(
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = "INSERT",
            db.collection.name = "audit_entry",
            audit.id = %entry.id,
        )
    )]
    pub async fn audit(&mut self, entry: &Entry) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO audit_entry (id, body, created_at) VALUES ($1, $2, $3)",
            entry.id.uuid(),
            body(entry)?,
            entry.at
        )
        .execute(&mut *self.inner)
        .await?;
        self.audited += 1;
        Ok(())
    }

    /// The same for many entries at once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn audit_all(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let (mut ids, mut bodies, mut instants) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            ids.push(entry.id.uuid());
            bodies.push(body(entry)?);
            instants.push(entry.at);
        }
        sqlx::query!(
            "INSERT INTO audit_entry (id, body, created_at)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])",
            &ids,
            &bodies,
            &instants
        )
        .execute(&mut *self.inner)
        .await?;
        self.audited += u64::try_from(entries.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

impl Store {
    /// Seals up to `limit` entries; how many it were. If another daemon seals, none: it does the work.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn seal_audit(&self, limit: i64) -> Result<usize, Error> {
        let mut tx = crate::store::begin(self.pool.clone()).await?;
        // A crash of the database may take this back: the entries are sealed again then. A checkpoint
        // is durable, and with it all that was committed before.
        sqlx::query!("SET LOCAL synchronous_commit = off").execute(&mut *tx).await?;
        let Some(head) =
            sqlx::query!("SELECT position, hash FROM audit_head FOR UPDATE SKIP LOCKED")
                .fetch_optional(&mut *tx)
                .await?
        else {
            return Ok(0);
        };
        let unsealed = sqlx::query!(
            "SELECT id, body FROM audit_entry WHERE position IS NULL ORDER BY id LIMIT $1",
            limit
        )
        .fetch_all(&mut *tx)
        .await?;
        if unsealed.is_empty() {
            return Ok(0);
        }
        let mut walk = Walk {
            position: head.position,
            head: Hash::from_bytes(&head.hash).ok_or(Error::Unreadable("hash"))?,
        };
        let (mut ids, mut positions, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &unsealed {
            let position = walk.position + 1;
            walk = Walk { position, head: chain(position, walk.head, &entry.body) };
            ids.push(entry.id);
            positions.push(position);
            hashes.push(walk.head.as_bytes().to_vec());
        }
        sqlx::query!(
            "UPDATE audit_entry a SET position = s.position, hash = s.hash
             FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS s (id, position, hash)
             WHERE a.id = s.id",
            &ids,
            &positions,
            &hashes
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE audit_head SET position = $1, hash = $2",
            walk.position,
            walk.head.as_bytes()
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(unsealed.len())
    }

    /// The head of the chain: how far it goes, and its hash.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn audit_head(&self) -> Result<Walk, Error> {
        let head =
            sqlx::query!("SELECT position, hash FROM audit_head").fetch_one(&self.pool).await?;
        let hash = Hash::from_bytes(&head.hash).ok_or(Error::Unreadable("hash"))?;
        Ok(Walk { position: head.position, head: hash })
    }

    /// Entries older than an instant that are not sealed.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn unsealed_audit(&self, older_than: DateTime<Utc>) -> Result<i64, Error> {
        Ok(sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM audit_entry WHERE position IS NULL AND created_at < $1"#,
            older_than
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// A page of the chain after a position, in its order.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn sealed_audit(&self, after: i64, limit: i64) -> Result<Vec<Sealed>, Error> {
        let rows = sqlx::query!(
            r#"SELECT position AS "position!", hash AS "hash!", body FROM audit_entry
               WHERE position > $1 ORDER BY position LIMIT $2"#,
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        let sealed = |position, hash: Vec<u8>, body| {
            Hash::from_bytes(&hash)
                .map(|hash| Sealed { position, hash, body })
                .ok_or(Error::Unreadable("hash"))
        };
        rows.into_iter().map(|row| sealed(row.position, row.hash, row.body)).collect()
    }

    /// A page of entries, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn audit_entries(
        &self,
        kind: Option<&str>,
        lease: Option<LeaseId>,
        before: Option<AuditId>,
        limit: i64,
    ) -> Result<Vec<Listed>, Error> {
        let mut tx = self.begin_list().await?;
        let entries = sqlx::query_as!(
            Listed,
            "SELECT id, position, hash, body FROM audit_entry
             WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR lease_id = $2)
               AND ($3::uuid IS NULL OR id < $3)
             ORDER BY id DESC LIMIT $4",
            kind as Option<&str>,
            lease.map(|id| id.to_string()) as Option<String>,
            before.map(AuditId::uuid) as Option<uuid::Uuid>,
            limit
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(entries)
    }

    /// Records a signed head.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn add_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO audit_checkpoint (position, head, signed_at, public_key, signature)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            checkpoint.position,
            checkpoint.head,
            checkpoint.signed_at,
            checkpoint.public_key,
            checkpoint.signature
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The signed heads after a position, in order.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn checkpoints(&self, after: i64, limit: i64) -> Result<Vec<Checkpoint>, Error> {
        Ok(sqlx::query_as!(
            Checkpoint,
            "SELECT position, head, signed_at, public_key, signature FROM audit_checkpoint
             WHERE position > $1 ORDER BY position LIMIT $2",
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The last signed head.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        Ok(sqlx::query_as!(
            Checkpoint,
            "SELECT position, head, signed_at, public_key, signature FROM audit_checkpoint
             ORDER BY position DESC LIMIT 1"
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// How far the chain was told to others.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn told(&self) -> Result<i64, Error> {
        Ok(sqlx::query_scalar!("SELECT position FROM audit_told").fetch_one(&self.pool).await?)
    }

    /// Records that the chain was told from one position to another; nothing if another daemon told
    /// that meanwhile.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mark_told(&self, from: i64, to: i64) -> Result<(), Error> {
        sqlx::query!("UPDATE audit_told SET position = $2 WHERE position = $1", from, to)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
