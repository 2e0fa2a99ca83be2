//! Notes on tables and policies: one for each thing to know, with all that it is about, since a file may name
//! thousands of tables.

use std::collections::BTreeMap;

use crate::target::rights::some_of;

/// What is to be known.
#[derive(Default)]
pub(super) struct Notes(BTreeMap<String, Vec<(String, Option<String>)>>);

impl Notes {
    /// `about` is what it is true of.
    pub(super) fn tell(&mut self, what: String, about: String) {
        self.0.entry(what).or_default().push((about, None));
    }

    /// The same, with the SQL that mends it.
    pub(super) fn tell_with(&mut self, what: impl Into<String>, about: String, remedy: String) {
        self.0.entry(what.into()).or_default().push((about, Some(remedy)));
    }

    pub(super) fn into_list(self) -> Vec<String> {
        self.0.into_iter().map(|(what, about)| told(&what, &about)).collect()
    }
}

fn told(what: &str, about: &[(String, Option<String>)]) -> String {
    let names: Vec<_> = about.iter().map(|(name, _)| name.clone()).collect();
    let names = some_of(&names);
    let remedies: Vec<_> = about.iter().filter_map(|(_, remedy)| remedy.as_deref()).collect();
    match remedies.as_slice() {
        [] => format!("{names} {what}"),
        [remedy] => format!("{names} {what}: run `{remedy}`"),
        [remedy, ..] => format!("{names} {what}: run `{remedy}` for the first, and so on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once() {
        let mut notes = Notes::default();
        for table in ["s.a", "s.b"] {
            notes.tell_with("is not good", table.to_owned(), format!("MEND {table}"));
        }
        notes.tell("is odd".to_owned(), "s.c".to_owned());
        assert_eq!(
            notes.into_list(),
            ["s.a, s.b is not good: run `MEND s.a` for the first, and so on", "s.c is odd"]
        );
    }
}
