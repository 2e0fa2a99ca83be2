//! A TOML document read with every fault at once: where it is, what is wrong, what to write instead.
//!
//! Deserialising with serde would stop at the first fault, which makes a person run the program
//! once per mistake, and it would quote the text around it, which may be a password. Here a reader
//! asks a [`Table`] for the keys it knows; each answer that cannot be given is written down and the
//! reading goes on. A key that nobody asked for is a fault as soon as its table is dropped, so no
//! reader can forget to refuse unknown keys.
//!
//! Every taker answers `None` both for "not written" and for "written, but wrong": the wrong one has
//! been reported by then, and [`Document::read`] hands the value out together with the faults.

mod fault;
mod places;
mod table;
mod value;

use std::{cell::RefCell, rc::Rc};

use crate::document::{
    fault::Source,
    value::{Entry, entries},
};
pub use crate::document::{
    fault::{Fault, Faults},
    places::Places,
    table::{Choice, Table, TextSource},
};

/// A text that is TOML; what is in it has not been looked at.
pub struct Document {
    source: Source,
    entries: Vec<Entry>,
}

impl Document {
    /// Parses a text. `name` is what faults call it: its path as the user wrote it.
    ///
    /// # Errors
    /// Every place where the text is not TOML.
    pub fn parse(name: &str, text: &str) -> Result<Self, Faults> {
        let source = Source::new(name, text);
        let (root, errors) = toml::de::DeTable::parse_recoverable(text);
        let mut faults = Faults::default();
        for error in errors {
            faults.push(source.syntax_fault(error.span(), error.message()));
        }
        faults.or_value(Self { source, entries: entries(root.into_inner()) })
    }

    /// Reads the document: `reader` takes what it knows from the root table. Answers what it made,
    /// and everything that was wrong; the value holds only if nothing was.
    pub fn read<T>(self, reader: impl FnOnce(&mut Table) -> T) -> (T, Faults) {
        let shared = Rc::new(Shared { source: self.source, faults: RefCell::default() });
        let mut root = Table::root(Rc::clone(&shared), self.entries);
        let value = reader(&mut root);
        root.finish();
        (value, shared.faults.take())
    }
}

/// What all tables of one document write to.
pub(crate) struct Shared {
    source: Source,
    faults: RefCell<Faults>,
}

/// The candidate that `word` was most likely meant to be, if one is near enough to be worth saying.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            // A third of the letters may differ; more would suggest any short name for any other.
            *distance <= (word.chars().count().max(candidate.chars().count()) / 3).max(1)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean X?`, or nothing.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Whether a setting of this name holds something that must not be shown.
#[must_use]
pub fn is_sensitive(name: &str) -> bool {
    let name = name.to_lowercase();
    ["password", "secret", "token", "key", "url"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests;
