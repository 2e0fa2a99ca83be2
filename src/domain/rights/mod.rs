//! What a profile gives inside its database, as code: grants down to the column, row-level security,
//! the context that policies see, hardening, and the checks that prove it.

use std::collections::BTreeMap;

pub mod adopt;
pub mod check;
pub mod context;
pub mod grant;
pub mod preset;
pub mod rls;
pub mod sentence;

use self::{check::Check, context::Template, grant::Grant, rls::TableRls};
use crate::domain::words::words;

words! {
    /// What a profile asks of its database beside its own grants. It takes from PUBLIC, and gives nothing
    /// back when the profile no longer asks for it: others may rely on it by then.
    Hardening {
        /// Nobody makes objects in schema `public` by being anybody.
        NoPublicCreate = "no-public-create",
        /// Nobody makes temporary tables by being anybody.
        NoPublicTemp = "no-public-temp",
        /// Nobody calls a volatile SECURITY DEFINER function by being anybody.
        NoPublicExecute = "no-public-execute",
    }
}

words! {
    /// What becomes of a profile whose checks fail.
    FailedChecks {
        /// It gives no leases until they pass.
        Block = "block",
        /// It goes on; the failure is recorded.
        Warn = "warn",
    }
}

words! {
    /// What is done about a target that differs from the profile.
    OnDrift {
        /// It is told.
        Report = "report",
        /// It is told, and mended.
        Mend = "mend",
    }
}

/// All of it. JSON has the same keys as the file, under `rights`.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// Grants beside those of the preset.
    #[serde(default, rename = "grant", skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Row-level security of tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rls: Vec<TableRls>,
    /// What is asked of the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub harden: Vec<Hardening>,
    /// What is logged of each session, by setting (`log_statement`, `pgaudit.log`), where the server lets our
    /// admin set it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub log: BTreeMap<String, String>,
    /// What policies see of a lease, by name: `pgvalet.claim(name)` on the target.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub context: BTreeMap<String, Template>,
    /// Statements that prove it.
    #[serde(default, rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// What becomes of the profile when they fail; `block` if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_checks: Option<FailedChecks>,
    /// What is done about a target that differs; `report` if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<OnDrift>,
}

impl Rights {
    /// Does the database have to tell policies of leases?
    #[must_use]
    pub fn needs_context(&self) -> bool {
        !self.context.is_empty() || !self.rls.is_empty()
    }

    /// Does it say nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of the server's own log that a profile may turn on for its leases.
const LOGS: [&str; 4] =
    ["log_statement", "log_min_duration_statement", "pgaudit.log", "pgaudit.log_parameter"];

/// What is wrong with it; each fault names the key it is about, as in a file (`grant[0].tables`).
#[must_use]
pub fn faults(rights: &Rights) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let grants = rights.grants.iter().enumerate();
    for (n, grant) in grants {
        let within = |(key, message): (&str, String)| (format!("grant[{n}].{key}"), message);
        faults.extend(grant::faults(grant).into_iter().map(within));
    }
    for (n, table) in rights.rls.iter().enumerate() {
        let within = |(key, message): (String, String)| (format!("rls[{n}].{key}"), message);
        faults.extend(rls::faults(table).into_iter().map(within));
    }
    for name in rights.context.keys().filter(|name| !context::is_claim_name(name)) {
        let message =
            format!("`{name}` is no name of a claim: write lower-case letters, digits and `_`");
        faults.push(("context".to_owned(), message));
    }
    for name in rights.context.keys().filter(|name| context::RESERVED.contains(&name.as_str())) {
        let message =
            format!("`{name}` is what pgvalet itself says of each lease: take another name");
        faults.push(("context".to_owned(), message));
    }
    for key in rights.log.keys().filter(|key| !LOGS.contains(&key.as_str())) {
        let hint = crate::document::did_you_mean(key, LOGS);
        let message = format!("`{key}` is none of {}{hint}", LOGS.join(", "));
        faults.push(("log".to_owned(), message));
    }
    for (n, check) in rights.checks.iter().enumerate() {
        let within = |(key, message): (&str, String)| (format!("check[{n}].{key}"), message);
        faults.extend(check::faults(check, rights).into_iter().map(within));
    }
    faults
}
