//! Rows of `administration`: who holds which role in pgvalet.

use std::collections::BTreeMap;

use sqlx::types::Json;

use crate::{
    domain::{
        administration::{Administration, Role},
        principal::AllowRule,
    },
    store::{Store, Tx, error::Error},
};

/// All of it, as one value.
pub(in crate::store) type Row = Json<BTreeMap<String, Vec<String>>>;

/// None if a rule or role is of a later release: then nobody is taken for an administrator by it.
pub(in crate::store) fn read(row: Option<Row>) -> Option<Administration> {
    let rules = |allow: Vec<String>| {
        allow.iter().map(|rule| rule.parse::<AllowRule>().ok()).collect::<Option<Vec<_>>>()
    };
    let held = row.map(|Json(held)| held).unwrap_or_default().into_iter();
    let held = held.map(|(role, allow)| Some((Role::from_text(&role)?, rules(allow)?)));
    held.collect::<Option<_>>().map(Administration)
}

impl Store {
    /// Who holds which role.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn administration(&self) -> Result<Administration, Error> {
        administration(&self.pool).await
    }
}

async fn administration(on: impl sqlx::PgExecutor<'_>) -> Result<Administration, Error> {
    let held = sqlx::query_scalar!(
        r#"SELECT jsonb_object_agg(role, allow) AS "held: Row" FROM administration"#
    );
    read(held.fetch_one(on).await?).ok_or(Error::Unreadable("role's rules"))
}

impl Tx {
    /// Who holds which role.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn administration(&mut self) -> Result<Administration, Error> {
        administration(&mut *self.inner).await
    }

    /// Records who holds which role, in place of what was recorded.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn replace_administration(&mut self, new: &Administration) -> Result<(), Error> {
        sqlx::query!("DELETE FROM administration").execute(&mut *self.inner).await?;
        for (role, rules) in &new.0 {
            let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
            sqlx::query!(
                "INSERT INTO administration (role, allow) VALUES ($1, $2)",
                role.as_str(),
                &rules
            )
            .execute(&mut *self.inner)
            .await?;
        }
        Ok(())
    }
}
