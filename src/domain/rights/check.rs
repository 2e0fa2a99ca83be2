//! A check: a statement, run in a lease of the profile, and what must come of it.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};

use crate::domain::{name::Name, rights::Rights};

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

/// What came of a statement.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran.
    Ran {
        /// The rows that it gave or changed.
        rows: u64,
        /// The first column of the first row, as text; none without a row, and if it is null.
        value: Option<String>,
    },
    /// PostgreSQL refused it.
    Refused {
        /// Why, for programs.
        sqlstate: String,
        /// Why, in PostgreSQL's words.
        message: String,
    },
    /// It was not run.
    NotRun {
        /// Why.
        why: String,
    },
}

/// A privilege is lacking; rows that are against a policy have it, too.
const DENIED: &str = "42501";

impl Expect {
    /// Did it come as it must?
    #[must_use]
    pub fn is_met_by(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Allowed, Outcome::Ran { .. }) => true,
            (Self::Denied, Outcome::Refused { sqlstate, .. }) => sqlstate == DENIED,
            (Self::Rows(expected), Outcome::Ran { rows, .. }) => expected == rows,
            (Self::Value(expected), Outcome::Ran { value, .. }) => Some(expected) == value.as_ref(),
            _ => false,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied => f.write_str("denied"),
            Self::Rows(rows) => write!(f, "{rows} rows"),
            Self::Value(value) => write!(f, "the value `{value}`"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran { rows, value: Some(value) } => write!(f, "{rows} rows, the value `{value}`"),
            Self::Ran { rows, value: None } => write!(f, "{rows} rows"),
            Self::Refused { sqlstate, message } => write!(f, "{sqlstate}: {message}"),
            Self::NotRun { why } => write!(f, "not run: {why}"),
        }
    }
}

/// One check that was run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Checked {
    /// The check.
    #[serde(flatten)]
    pub check: Check,
    /// Did it come as it must?
    pub passed: bool,
    /// What came.
    pub got: Outcome,
    /// How long the statement took, in milliseconds.
    pub ms: u64,
}

/// All checks of a profile, run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct CheckRun {
    /// The profile.
    pub profile: Name,
    /// Its version.
    pub version: i32,
    /// When.
    pub checked_at: DateTime<Utc>,
    /// Did all pass?
    pub passed: bool,
    /// Does the profile give no leases until they do?
    pub blocked: bool,
    /// Each, in the order of the file.
    pub checks: Vec<Checked>,
}

/// Statements that would end the transaction which is rolled back.
const OF_TRANSACTIONS: [&str; 9] =
    ["abort", "begin", "commit", "end", "prepare", "release", "rollback", "savepoint", "start"];

/// What is wrong with a check; each fault names its key.
#[must_use]
pub fn faults(check: &Check, rights: &Rights) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if check.sql.trim().is_empty() || check.sql.contains('\0') {
        faults.push(("sql", "write one SQL statement".to_owned()));
    }
    let first = check.sql.split_whitespace().next().unwrap_or_default().to_lowercase();
    if OF_TRANSACTIONS.contains(&first.trim_end_matches(';')) {
        faults.push(("sql", format!("`{first}` cannot be used: each check is a transaction of its own, and is rolled back")));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expectation_is_met_by_what_it_says_and_nothing_else() {
        let ran =
            |rows, value: Option<&str>| Outcome::Ran { rows, value: value.map(str::to_owned) };
        let refused = |sqlstate: &str| Outcome::Refused {
            sqlstate: sqlstate.to_owned(),
            message: String::new(),
        };
        let not_run = Outcome::NotRun { why: "a claim is missing".to_owned() };
        for (expect, met, unmet) in [
            (Expect::Allowed, ran(0, None), refused("42501")),
            (Expect::Denied, refused("42501"), refused("42P01")),
            (Expect::Rows(2), ran(2, Some("a")), ran(3, None)),
            (Expect::Value("a".to_owned()), ran(2, Some("a")), ran(1, None)),
        ] {
            assert!(expect.is_met_by(&met) && !expect.is_met_by(&unmet), "{expect}");
            assert!(!expect.is_met_by(&not_run), "{expect}");
        }
    }

    #[test]
    fn a_check_does_not_end_its_transaction() {
        let check = |sql: &str| Check {
            name: String::new(),
            sql: sql.to_owned(),
            claims: BTreeMap::new(),
            expect: Expect::Allowed,
        };
        for sql in [
            "commit",
            " ROLLBACK;",
            "Begin\nisolation level serializable",
            "PREPARE TRANSACTION 'x'",
        ] {
            assert_eq!(faults(&check(sql), &Rights::default()).len(), 1, "{sql}");
        }
        assert_eq!(faults(&check("select 1"), &Rights::default()), []);
    }
}
