//! One table of a document, from which a reader takes the keys it knows.

use std::{fmt, fmt::Display, ops::RangeInclusive, rc::Rc, time::Duration};

use zeroize::Zeroizing;

use crate::document::{
    Fault, Places, Shared, did_you_mean, is_sensitive,
    value::{Entry, Node, Value},
};

/// A table whose keys are taken one by one; what is left when it is dropped is unknown, and a fault.
pub struct Table {
    shared: Rc<Shared>,
    /// The whole path from the root, empty for the root itself.
    path: String,
    at: usize,
    /// Whether what is in it must not be shown, because of the key that it stands under.
    sensitive: bool,
    left: Vec<Entry>,
    /// Where keys that were taken stand, for faults found later.
    taken: Vec<(String, usize)>,
    asked: Vec<&'static str>,
}

/// A text, or the file that holds it.
#[derive(PartialEq, Eq)]
pub enum TextSource {
    /// Written into the document.
    Inline(Zeroizing<String>),
    /// In a file of this path: `{ file = "…" }`.
    File(String),
}

/// One word that stands for all, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The word.
    Word,
    /// The listed names.
    Listed(Vec<String>),
}

impl fmt::Debug for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Table {
    pub(crate) fn root(shared: Rc<Shared>, left: Vec<Entry>) -> Self {
        Self::new(shared, String::new(), 0, left)
    }

    fn new(shared: Rc<Shared>, path: String, at: usize, left: Vec<Entry>) -> Self {
        Self { shared, path, at, sensitive: false, left, taken: Vec::new(), asked: Vec::new() }
    }

    /// The whole path of this table, such as `profile.orders-read`; empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the key is written here and was not taken yet.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.left.iter().any(|entry| entry.key == key)
    }

    /// Reports each of the keys that is not written. To be called before they are taken.
    pub fn require(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.asked.push(key);
            if !self.has(key) {
                self.report(self.at, key, &format!("{} is missing", self.called(key)));
            }
        }
    }

    /// A string that must be written, and not be empty.
    pub fn required_string(&mut self, key: &'static str) -> Option<String> {
        self.require(&[key]);
        self.optional_string(key)
    }

    /// A string. An empty one is a fault: leaving the key out says the same without doubt.
    pub fn optional_string(&mut self, key: &'static str) -> Option<String> {
        self.text(key).map(|(_, text)| text.as_str().to_owned())
    }

    /// A string that `parse` turns into a value. `write` says what to write instead, and completes
    /// the sentence "write …".
    pub fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        write: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (at, text) = self.text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                let name = self.called_with(key, text.as_str());
                // The error may quote the value, so a secret one is left out as well.
                let why = if self.hides(key) { String::new() } else { format!(" ({error})") };
                self.report(at, key, &format!("{name} cannot be used{why}; write {write}"));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn integer_in<N>(&mut self, key: &'static str, range: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let write = format!("a whole number from {} to {}", range.start(), range.end());
        let node = self.take(key)?;
        let Value::Integer(number) = node.value else {
            return self.wrong_kind(key, &node, &write);
        };
        let within = number.and_then(|n| N::try_from(n).ok()).filter(|n| range.contains(n));
        if within.is_none() {
            let name = number.map_or_else(|| self.called(key), |n| self.called_with(key, n));
            self.report(node.at, key, &format!("{name} is out of range; write {write}"));
        }
        within
    }

    /// A length of time in words, such as `"1h 30m"`.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.duration_in(key, Duration::ZERO..=Duration::MAX)
    }

    /// A length of time within bounds. A bare number is refused, because it does not say of what.
    pub fn duration_in(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let node = self.take(key)?;
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Integer(Some(number)) => {
                return self.wrong_kind(key, &node, &format!("a length of time: \"{number}s\""));
            }
            _ => return self.wrong_kind(key, &node, "a length of time, such as \"30s\""),
        };
        let name = self.called_with(key, text.as_str());
        let Ok(duration) = humantime::parse_duration(text) else {
            let message = format!(
                "{name} is no length of time; write for example \"30s\", \"1h\" or \"1h 30m\""
            );
            self.report(node.at, key, &message);
            return None;
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let least = humantime::format_duration(*range.start());
        let write = if *range.end() == Duration::MAX {
            format!("\"{least}\" or more")
        } else {
            format!("from \"{least}\" to \"{}\"", humantime::format_duration(*range.end()))
        };
        self.report(node.at, key, &format!("{name} is out of range; write {write}"));
        None
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.take(key)?;
        match node.value {
            Value::Boolean(value) => Some(value),
            _ => self.wrong_kind(key, &node, "true or false, without quotes"),
        }
    }

    /// One of a few words. Answers the word from the list.
    pub fn one_of(
        &mut self,
        key: &'static str,
        words: &'static [&'static str],
    ) -> Option<&'static str> {
        let (at, text) = self.text(key)?;
        let found = words.iter().copied().find(|word| *word == text.as_str());
        if found.is_none() {
            let list = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
            let hint = if self.hides(key) {
                String::new()
            } else {
                did_you_mean(&text, words.iter().copied())
            };
            let name = self.called_with(key, text.as_str());
            let message = format!("{name} is not known; write one of {list}{hint}");
            self.report(at, key, &message);
        }
        found
    }

    /// A list of strings. The list may be empty; its strings may not.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.take(key)?;
        self.listed(key, node, "a list of strings, such as [\"a\", \"b\"]")
    }

    /// Values that are compared as texts: one (a string, a whole number, or true or false), or a list of them.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.take(key)?;
        let text = |value: &Value| match value {
            Value::Text(text) if !text.trim().is_empty() => Some(text.as_str().to_owned()),
            Value::Integer(Some(number)) => Some(number.to_string()),
            Value::Boolean(truth) => Some(truth.to_string()),
            _ => None,
        };
        let found = match &node.value {
            Value::List(items) if !items.is_empty() => {
                items.iter().map(|item| text(&item.value)).collect()
            }
            one => text(one).map(|text| vec![text]),
        };
        if found.is_none() {
            let name = self.called(key);
            self.report(node.at, key, &format!("{name} is empty, or not what can be compared; write a string, or a list of strings"));
        }
        found
    }

    /// A list of strings, or one word that stands for all of them.
    pub fn strings_or(&mut self, key: &'static str, word: &'static str) -> Option<Choice> {
        let write = format!("{word:?} or a list of strings, such as [\"a\", \"b\"]");
        let node = self.take(key)?;
        match &node.value {
            Value::Text(text) if text.as_str() == word => Some(Choice::Word),
            _ => self.listed(key, node, &write).map(Choice::Listed),
        }
    }

    /// A text, or `{ file = "…" }`.
    pub fn text_or_file(&mut self, key: &'static str) -> Option<TextSource> {
        let write = "a string, or { file = \"…\" }";
        match self.left.iter().find(|entry| entry.key == key).map(|entry| &entry.node.value) {
            Some(Value::Text(_)) | None => self.text(key).map(|(_, text)| TextSource::Inline(text)),
            Some(Value::Table(_)) => self.table(key)?.required_string("file").map(TextSource::File),
            Some(_) => {
                let node = self.take(key)?;
                self.wrong_kind(key, &node, write)
            }
        }
    }

    /// A table of names that the reader does not know beforehand, each with a string, as written.
    pub fn strings_by_name(&mut self, key: &'static str) -> Option<Vec<(String, String)>> {
        let node = self.take(key)?;
        let Value::Table(entries) = node.value else {
            return self.wrong_kind(key, &node, "a table, such as { name = \"value\" }");
        };
        let mut found = Vec::new();
        for Entry { key: name, node, .. } in entries {
            if let Value::Text(text) = &node.value {
                found.push((name, text.as_str().to_owned()));
            } else {
                let inside = format!("{key}.{}", quoted(&name));
                let kind = node.value.kind();
                let called = self.called(&inside);
                self.report(
                    node.at,
                    &inside,
                    &format!("{called} is {kind}; write a string, in quotes"),
                );
            }
        }
        Some(found)
    }

    /// The table under a key.
    pub fn table(&mut self, key: &'static str) -> Option<Self> {
        let node = self.take(key)?;
        self.opened(key, quoted(key), node)
    }

    /// The tables under a key that is written as `[[key]]`, any number of times.
    pub fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let Value::List(items) = node.value else {
            let header = format!("[[{}]]", self.whole(key));
            let _: Option<()> = self.wrong_kind(key, &node, &format!("a table headed {header}"));
            return Vec::new();
        };
        let numbered = items.into_iter().enumerate();
        numbered.filter_map(|(n, item)| self.opened(key, format!("{key}[{n}]"), item)).collect()
    }

    /// The tables under a key that is written as `[key.NAME]`, with their names, as written.
    pub fn map_of_tables(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let Value::Table(entries) = node.value else {
            let header = format!("[{}.NAME]", self.whole(key));
            let _: Option<()> = self.wrong_kind(key, &node, &format!("a table headed {header}"));
            return Vec::new();
        };
        let mut found = Vec::new();
        for Entry { key: name, key_at, mut node } in entries {
            node.at = key_at;
            if let Some(table) = self.opened(key, format!("{key}.{}", quoted(&name)), node) {
                found.push((name, table));
            }
        }
        found
    }

    /// Refuses a key that is known but does nothing in this release, so that nobody relies on it.
    pub fn not_yet(&mut self, key: &'static str, why: &str) {
        let Some(entry) = self.entry(key) else { return };
        let name = self.called(key);
        self.report(
            entry.key_at,
            key,
            &format!("{name} is not supported yet: {why}; leave it out"),
        );
    }

    /// Refuses a key that people write for another; `instead` says which, and why.
    pub fn not_for(&mut self, key: &'static str, instead: &str) {
        let Some(entry) = self.entry(key) else { return };
        let name = self.called(key);
        self.report(entry.key_at, key, &format!("{name} cannot be used: {instead}"));
    }

    /// Leaves what was not taken alone: what it may be cannot be known, and the fault that this comes of is told.
    pub fn leave_unread(&mut self) {
        self.left.clear();
    }

    /// Reports something about a key that only the reader can know, at the place of its value, or of
    /// the table if it is not written. `message` says what is wrong and what to write instead, and
    /// must not hold the value of a secret.
    pub fn fault(&self, key: &str, message: &str) {
        let at =
            self.taken.iter().rev().find(|(name, _)| name == key).map_or(self.at, |(_, at)| *at);
        self.report(at, key, &format!("{}: {message}", self.called(key)));
    }

    /// Whether the key is written, and a table.
    #[must_use]
    pub fn is_table(&self, key: &str) -> bool {
        let found = self.left.iter().find(|entry| entry.key == key);
        found.is_some_and(|entry| matches!(entry.node.value, Value::Table(_)))
    }

    /// A string as it is written: an empty one is one, too.
    pub fn text_as_written(&mut self, key: &'static str) -> Option<String> {
        let node = self.take(key)?;
        match node.value {
            Value::Text(text) => Some(text.as_str().to_owned()),
            _ => self.wrong_kind(key, &node, "a string, in quotes"),
        }
    }

    /// Reports something at a place that was kept ([`Table::place`]), or at that of the nearest table around
    /// it. `path` is the key's, within this table.
    pub fn fault_near(&self, places: &Places, path: &str, message: &str) {
        let Some(place) = places.nearest(path) else { return self.fault(path, message) };
        let message = format!("{}: {message}", self.called(path));
        let key = self.whole(path);
        self.shared.faults.borrow_mut().push(Fault { key, message, ..place.clone() });
    }

    /// Where a key stands that was taken, or the table if it is not written: a fault without a message, to be
    /// filled in by who finds out later.
    #[must_use]
    pub fn place(&self, key: &str) -> Fault {
        let at =
            self.taken.iter().rev().find(|(name, _)| name == key).map_or(self.at, |(_, at)| *at);
        let whole = if key.is_empty() { self.path.clone() } else { self.whole(key) };
        self.shared.source.fault(at, whole, String::new())
    }

    /// Ends the reading of this table. Dropping it does the same; this says so.
    pub fn finish(self) {}

    fn entry(&mut self, key: &'static str) -> Option<Entry> {
        self.asked.push(key);
        let index = self.left.iter().position(|entry| entry.key == key)?;
        let entry = self.left.remove(index);
        self.taken.push((entry.key.clone(), entry.node.at));
        Some(entry)
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.entry(key).map(|entry| entry.node)
    }

    fn text(&mut self, key: &'static str) -> Option<(usize, Zeroizing<String>)> {
        let node = self.take(key)?;
        match node.value {
            Value::Text(text) if text.trim().is_empty() => {
                let name = self.called(key);
                self.report(
                    node.at,
                    key,
                    &format!("{name} is empty; write a value or leave it out"),
                );
                None
            }
            Value::Text(text) => Some((node.at, text)),
            _ => self.wrong_kind(key, &node, "a string, in quotes"),
        }
    }

    fn listed(&mut self, key: &'static str, node: Node, write: &str) -> Option<Vec<String>> {
        let Value::List(items) = node.value else { return self.wrong_kind(key, &node, write) };
        let (mut texts, count) = (Vec::new(), items.len());
        for item in items {
            match &item.value {
                Value::Text(text) if !text.trim().is_empty() => {
                    texts.push(text.as_str().to_owned())
                }
                Value::Text(_) => {
                    let name = self.called(key);
                    self.report(item.at, key, &format!("{name} has an empty string; take it out"));
                }
                other => {
                    let (name, kind) = (self.called(key), other.kind());
                    self.report(item.at, key, &format!("{name} has {kind} in it; write {write}"));
                }
            }
        }
        (texts.len() == count).then_some(texts)
    }

    fn opened(&self, key: &'static str, inside: String, node: Node) -> Option<Self> {
        let Value::Table(entries) = node.value else {
            let name = self.called(&inside);
            let kind = node.value.kind();
            self.report(node.at, &inside, &format!("{name} is {kind}; write a table"));
            return None;
        };
        let mut table = Self::new(Rc::clone(&self.shared), self.whole(&inside), node.at, entries);
        table.sensitive = self.hides(key);
        Some(table)
    }

    fn wrong_kind<T>(&self, key: &str, node: &Node, write: &str) -> Option<T> {
        let message = format!("{} is {}; write {write}", self.called(key), node.value.kind());
        self.report(node.at, key, &message);
        None
    }

    fn hides(&self, key: &str) -> bool {
        self.sensitive || is_sensitive(key)
    }

    /// The key with its value as a message names them, without the value if it must not be shown.
    fn called_with(&self, key: &str, value: impl fmt::Debug) -> String {
        if self.hides(key) {
            return self.called(key);
        }
        let written = format!("`{key} = {value:?}`");
        if self.path.is_empty() { written } else { format!("{written} in [{}]", self.path) }
    }

    /// The key as a message names it.
    fn called(&self, key: &str) -> String {
        if self.path.is_empty() {
            format!("`{key}`")
        } else {
            format!("`{key}` in [{}]", self.path)
        }
    }

    fn whole(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn report(&self, at: usize, key: &str, message: &str) {
        let fault = self.shared.source.fault(at, self.whole(key), message.to_owned());
        self.shared.faults.borrow_mut().push(fault);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for entry in std::mem::take(&mut self.left) {
            let hint = did_you_mean(&entry.key, self.asked.iter().copied());
            let name = self.called(&quoted(&entry.key));
            self.report(entry.key_at, &quoted(&entry.key), &format!("unknown key {name}{hint}"));
        }
    }
}

/// A key as it is written in TOML: bare where that is possible.
fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") }
}
