//! Rows of `emergency_code`: sealed codes as hashes. Which were used stands in `spent_token`, as it does of the
//! tokens of CI jobs: a code whose lease failed is not used, and the same statement records both.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::{
    domain::{
        emergency::EmergencyCode,
        name::Name,
        principal::{Principal, PrincipalName},
    },
    ids::{EmergencyCodeId, PrincipalId},
    store::{Store, Tx, error::Error, people::principal_in},
};

/// A code as it is needed to let whoever has it open an emergency.
#[derive(Debug)]
pub struct KnownCode {
    /// Whose it is.
    pub principal: Principal,
    /// Is that one disabled?
    pub disabled: bool,
    /// The code.
    pub code: EmergencyCode,
    /// argon2id, PHC string.
    pub hash: String,
}

/// A new code.
#[derive(Debug)]
pub struct NewCode<'a> {
    /// Its id.
    pub id: EmergencyCodeId,
    /// Its number in the set.
    pub number: i32,
    /// argon2id, PHC string.
    pub hash: &'a str,
}

/// What all codes of a set have in common.
#[derive(Debug, Clone, Copy)]
pub struct SetTerms<'a> {
    /// Whose they are.
    pub principal: PrincipalId,
    /// The only profiles that they open.
    pub profiles: &'a [Name],
    /// Who made them.
    pub made_by: PrincipalId,
    /// When they end.
    pub ends_at: DateTime<Utc>,
}

/// A set of codes as it is listed.
#[derive(Debug)]
pub struct CodeSet {
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// The same, in words.
    pub principal: String,
    /// How many there were.
    pub made: i64,
    /// How many were not used yet.
    pub left: i64,
    /// The only profiles that they open; any of the preset, if empty.
    pub profiles: Vec<String>,
    /// Who made them.
    pub made_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When they end.
    pub ends_at: DateTime<Utc>,
}

impl Store {
    /// The code of that number of that person; none if there is none.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn emergency_code(
        &self,
        person: &PrincipalName,
        number: i32,
    ) -> Result<Option<KnownCode>, Error> {
        let row = sqlx::query!(
            r#"SELECT p.id, p.issuer, p.subject, p.kind, p.groups || p.provider_groups AS "groups!", p.admin, p.acts_for,
                      p.claims AS "claims: Json<BTreeMap<String, String>>", p.disabled_at IS NOT NULL AS "disabled!",
                      c.id AS code_id, c.number, c.hash, c.profiles, c.made_by, c.ends_at
               FROM principal p JOIN emergency_code c ON c.principal_id = p.id
               WHERE p.kind = $1 AND p.subject = $2 AND c.number = $3"#,
            person.kind.as_str(),
            person.subject.as_str(),
            number
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let read = |text: &String| text.parse().map_err(|_| Error::Unreadable("profile's name"));
        let code = EmergencyCode {
            id: EmergencyCodeId::from(row.code_id),
            number: row.number,
            profiles: row.profiles.iter().map(read).collect::<Result<_, _>>()?,
            made_by: PrincipalId::from(row.made_by),
            ends_at: row.ends_at,
        };
        let (disabled, hash) = (row.disabled, row.hash);
        let principal = principal_in!(row);
        Ok(Some(KnownCode { principal: principal.try_into()?, disabled, code, hash }))
    }

    /// The sets of codes that have not ended, by name of their person: there are as many as people who may need
    /// one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn code_sets(&self, now: DateTime<Utc>) -> Result<Vec<CodeSet>, Error> {
        Ok(sqlx::query_as!(
            CodeSet,
            r#"SELECT c.principal_id, p.kind || ':' || p.subject AS "principal!", count(*) AS "made!",
                      count(*) FILTER (WHERE NOT EXISTS (
                          SELECT FROM spent_token s WHERE s.hash = uuid_send(c.id) AND NOT EXISTS (
                              SELECT FROM lease l WHERE l.id = s.lease_id AND l.cause = 'failed'))) AS "left!",
                      c.profiles, m.kind || ':' || m.subject AS "made_by!", min(c.created_at) AS "created_at!", c.ends_at
               FROM emergency_code c JOIN principal p ON p.id = c.principal_id JOIN principal m ON m.id = c.made_by
               WHERE c.ends_at > $1
               GROUP BY c.principal_id, p.kind, p.subject, c.profiles, m.kind, m.subject, c.ends_at
               ORDER BY p.kind, p.subject"#,
            now
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

impl Tx {
    /// Records a set of codes.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn create_codes(
        &mut self,
        set: SetTerms<'_>,
        codes: &[NewCode<'_>],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let ids: Vec<_> = codes.iter().map(|code| code.id.uuid()).collect();
        let numbers: Vec<_> = codes.iter().map(|code| code.number).collect();
        let hashes: Vec<_> = codes.iter().map(|code| code.hash.to_owned()).collect();
        let profiles: Vec<_> = set.profiles.iter().map(Name::to_string).collect();
        sqlx::query!(
            "INSERT INTO emergency_code (id, principal_id, number, hash, profiles, made_by, created_at, ends_at)
             SELECT id, $4, number, hash, $5, $6, $7, $8
             FROM unnest($1::uuid[], $2::int[], $3::text[]) AS new (id, number, hash)",
            &ids,
            &numbers,
            &hashes,
            set.principal.uuid(),
            &profiles,
            set.made_by.uuid(),
            now,
            set.ends_at
        )
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Forgets the codes of a person. Gives how many there were.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn withdraw_codes(&mut self, of: PrincipalId) -> Result<u64, Error> {
        let done = sqlx::query!("DELETE FROM emergency_code WHERE principal_id = $1", of.uuid())
            .execute(&mut *self.inner)
            .await?;
        Ok(done.rows_affected())
    }

    /// Forgets the codes that somebody made for others, and has seen. Gives for whom, and how many there were.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn withdraw_codes_made_by(
        &mut self,
        maker: PrincipalId,
    ) -> Result<Vec<(PrincipalId, String, u64)>, Error> {
        let rows = sqlx::query!(
            r#"WITH gone AS (DELETE FROM emergency_code WHERE made_by = $1 RETURNING principal_id)
               SELECT g.principal_id, p.kind || ':' || p.subject AS "principal!", count(*) AS "count!"
               FROM gone g JOIN principal p ON p.id = g.principal_id
               GROUP BY g.principal_id, p.kind, p.subject ORDER BY p.kind, p.subject"#,
            maker.uuid()
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let gone = rows.into_iter().map(|row| {
            (
                PrincipalId::from(row.principal_id),
                row.principal,
                u64::try_from(row.count).unwrap_or(0),
            )
        });
        Ok(gone.collect())
    }
}
