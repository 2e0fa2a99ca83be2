//! What is wrong with a document: where, and what to write instead.
//!
//! A fault is plain data, because the API returns it as JSON while the command line prints it as a
//! line in the form compilers use, which editors and CI turn into a link.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fault {
    /// The document's name: a path, or what else the text came from, such as `environment`.
    pub file: String,
    /// The line, from 1; absent where there are no lines, as in the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The whole path of the key, such as `profile.orders-read.grant[0].schema`; empty where the
    /// fault is not about a key.
    pub key: String,
    /// What is wrong and what to write instead. It never holds the value of a secret setting.
    pub message: String,
}

impl Fault {
    /// A fault in something that has no lines.
    #[must_use]
    pub fn without_position(file: &str, key: &str, message: String) -> Self {
        Self { file: file.to_owned(), line: None, column: None, key: key.to_owned(), message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All that is wrong, by position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one, at its place.
    pub fn push(&mut self, fault: Fault) {
        let before = self.0.partition_point(|other| position(other) <= position(&fault));
        self.0.insert(before, fault);
    }

    /// Adds all of another list.
    pub fn append(&mut self, others: Self) {
        for fault in others.0 {
            self.push(fault);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults, sorted by file and position.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }

    /// `value` if nothing is wrong.
    ///
    /// # Errors
    /// The faults, if there are any.
    pub fn or_value<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

fn position(fault: &Fault) -> (&str, Option<usize>, Option<usize>) {
    (&fault.file, fault.line, fault.column)
}

/// A text with a name, which turns a byte offset into a line and a column.
pub(crate) struct Source {
    name: String,
    text: zeroize::Zeroizing<String>,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned().into() }
    }

    /// A fault at a byte offset.
    pub(crate) fn fault(&self, at: usize, key: String, message: String) -> Fault {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Fault { file: self.name.clone(), line: Some(line), column: Some(column), key, message }
    }

    /// A fault of the parser, whose messages name what is expected and never quote the text.
    pub(crate) fn syntax_fault(&self, span: Option<Range<usize>>, message: &str) -> Fault {
        let message = format!("this is not TOML: {message}");
        self.fault(span.map_or(0, |span| span.start), String::new(), message)
    }
}
