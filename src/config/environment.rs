//! The environment as a source of settings: one flat table whose unknown names are refused too.

use std::{collections::BTreeMap, fmt::Display};

use zeroize::Zeroizing;

use crate::document::{Fault, Faults, did_you_mean, is_sensitive, nearest};

/// What faults call the place.
const PLACE: &str = "environment";

/// The beginning of every variable that is ours.
const PREFIX: &str = "PGVALET_";

/// Variables that the daemon reads.
const OURS: &[&str] = &[
    "PGVALET_CONFIG",
    "PGVALET_LISTEN",
    "PGVALET_TLS_CERT",
    "PGVALET_TLS_KEY",
    "PGVALET_ALLOW_PLAINTEXT",
    "PGVALET_PUBLIC_URL",
    "PGVALET_DATA_DIR",
    "PGVALET_POSTGRES_DIR",
    "PGVALET_STATE_URL",
    "PGVALET_STATE_URL_FILE",
    "PGVALET_MASTER_KEY",
    "PGVALET_MASTER_KEY_FILE",
    "PGVALET_LOG_FORMAT",
    "PGVALET_LOG",
];

/// Variables that the command line reads. The daemon may inherit them from the shell it is tried
/// out in, so they are known to it, and do nothing.
const CLIENTS: &[&str] = &[
    "PGVALET_URL",
    "PGVALET_TOKEN",
    "PGVALET_TOKEN_FILE",
    "PGVALET_PROFILE",
    "PGVALET_FORMAT",
    "PGVALET_CA_FILE",
    "PGVALET_CLIENT_CERT",
    "PGVALET_CLIENT_KEY",
];

/// The variables, and what is wrong with ours. Those of others may be meant for them: they are left alone.
pub(crate) struct Environment {
    values: BTreeMap<String, Zeroizing<String>>,
    pub(crate) faults: Faults,
}

/// The variables of this process. One that is not UTF-8 is kept in a lossy form, so that it is
/// refused by its name if it is ours.
pub(crate) fn of_process() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect()
}

impl Environment {
    pub(crate) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut made = Self { values: BTreeMap::new(), faults: Faults::default() };
        for (name, value) in variables {
            if name.starts_with(PREFIX) && !known().any(|known| known == name) {
                let hint = closest(&name);
                made.fault(&name, &format!("unknown variable{hint}"));
            }
            made.values.insert(name, value.into());
        }
        made
    }

    /// A variable's text, if it is set to something. An empty one counts as unset, because that is
    /// what `VARIABLE= command` and empty entries in compose files mean.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A variable that `parse` turns into a value. `write` completes the sentence "write …".
    pub(crate) fn parsed<T, E: Display>(
        &mut self,
        name: &str,
        write: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let shown = if is_sensitive(name) {
                    "the value".to_owned()
                } else {
                    format!("{text:?} ({error})")
                };
                self.fault(name, &format!("{shown} cannot be used; write {write}"));
                None
            }
        }
    }

    /// Reports something about a variable.
    pub(crate) fn fault(&mut self, name: &str, message: &str) {
        let message = format!("{name}: {message}");
        self.faults.push(Fault::without_position(PLACE, name, message));
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    OURS.iter().chain(CLIENTS).copied()
}

/// The suggestion is made on what follows the prefix: with it, every two names would look alike.
fn closest(name: &str) -> String {
    let bare = |name: &'static str| name.trim_start_matches(PREFIX);
    let word = name.trim_start_matches(PREFIX);
    let near = nearest(word, known().map(bare));
    let near = near.and_then(|near| known().find(|known| bare(known) == near));
    near.map_or_else(String::new, |near| did_you_mean(near, [near]))
}
