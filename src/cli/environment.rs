//! The client's environment variables, read in this one place.

use std::path::PathBuf;

use crate::secret::Secret;

/// Gives a variable by its name.
type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// Looks variables up. A test gives a table of its own instead of changing the process's.
#[expect(missing_debug_implementations, reason = "a variable may be a secret")]
pub struct Environment {
    lookup: Lookup,
}

impl Environment {
    /// The process's own.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line has no configuration of the daemon's: its address and token come from here"
    )]
    pub fn of_process() -> Self {
        Self { lookup: Box::new(|name| std::env::var(name).ok()) }
    }

    /// A table of names and values.
    #[must_use]
    pub fn of_table(table: Vec<(String, String)>) -> Self {
        let find = move |name: &str| {
            table.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        Self { lookup: Box::new(find) }
    }

    /// A variable; an empty one is as good as none.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// A variable that holds a secret.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<Secret<String>> {
        self.text(name).map(Secret::new)
    }

    /// pgvalet's folder for what the client keeps, as the XDG base directory specification has it: a
    /// relative `XDG_CONFIG_HOME` is to be ignored.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        let absolute =
            |name: &str| self.text(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
        absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .map(|folder| folder.join("pgvalet"))
    }

    /// Is there such a program on the search path?
    #[must_use]
    pub fn finds_program(&self, name: &str) -> bool {
        self.text("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        })
    }
}
