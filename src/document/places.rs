//! Where keys stand, kept for faults that are found when the document is long closed.

use std::collections::BTreeMap;

use crate::document::Fault;

/// Places by the path of their key (`grant[0].tables`): faults without a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, Fault>);

impl Places {
    /// Keeps one.
    pub fn keep(&mut self, path: String, place: Fault) {
        self.0.insert(path, place);
    }

    /// Keeps all of another list, which stand within the table of this path.
    pub fn keep_within(&mut self, table: &str, others: Self) {
        for (path, place) in others.0 {
            let whole = if path.is_empty() { table.to_owned() } else { format!("{table}.{path}") };
            self.0.insert(whole, place);
        }
    }

    /// The place of a key, or of the nearest table around it that is known.
    #[must_use]
    pub fn nearest(&self, path: &str) -> Option<&Fault> {
        let mut around = path;
        loop {
            if let Some(place) = self.0.get(around) {
                return Some(place);
            }
            around = &around[..around.rfind(['.', '['])?];
        }
    }
}
