//! A check: a statement, run in a lease of the profile, and what must come of it.

use std::collections::BTreeMap;

use crate::domain::rights::Rights;

/// What must come of a statement.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// It runs.
    Allowed,
    /// PostgreSQL refuses it: a privilege is lacking (SQLSTATE 42501), or a row is against a policy.
    Denied,
    /// It gives, or changes, this many rows.
    Rows(u64),
    /// Its first row's first column is this, as text.
    Value(String),
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What it shows, to be read when it fails; the statement if left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// One statement.
    pub sql: String,
    /// The claims of the lease that it is run in, in place of those of the profile's templates.
    #[serde(default, rename = "as", skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// What must come of it.
    pub expect: Expect,
}

impl Check {
    /// What it is called.
    #[must_use]
    pub fn title(&self) -> &str {
        if self.name.is_empty() { &self.sql } else { &self.name }
    }
}

/// What is wrong with a check; each fault names its key.
#[must_use]
pub fn faults(check: &Check, rights: &Rights) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if check.sql.trim().is_empty() || check.sql.contains('\0') {
        faults.push(("sql", "write one SQL statement".to_owned()));
    }
    for name in check.claims.keys() {
        if !rights.context.contains_key(name) {
            let hint =
                crate::document::did_you_mean(name, rights.context.keys().map(String::as_str));
            faults.push(("as", format!("the profile's context has no claim `{name}`{hint}")));
        }
    }
    faults
}
