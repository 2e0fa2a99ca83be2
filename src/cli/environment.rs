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

    /// The headers of the trace that a pipeline is in, from `TRACEPARENT` and `TRACESTATE`, as
    /// OpenTelemetry has them. Empty if there is none, or it cannot be read: no command fails for it.
    #[must_use]
    pub fn trace(&self) -> Vec<(&'static str, String)> {
        let Some(parent) = self.text("TRACEPARENT").filter(|parent| is_traceparent(parent)) else {
            return Vec::new();
        };
        let is_header = |text: &String| text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let state = self.text("TRACESTATE").filter(is_header);
        let state = state.map(|state| ("tracestate", state));
        [("traceparent", parent)].into_iter().chain(state).collect()
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

/// Version, trace, span and flags, in lower-case hexadecimal (W3C Trace Context, section 3.2).
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = text.split('-').map(str::len);
    lengths.eq([2, 32, 16, 2]) && text.split('-').all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn trace(parent: &str, state: &str) -> Vec<(&'static str, String)> {
        let table = [("TRACEPARENT", parent), ("TRACESTATE", state)];
        let table = table.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Environment::of_table(table.to_vec()).trace()
    }

    #[test]
    fn a_trace_is_taken_from_the_environment_if_it_can_be_read() {
        let parent = ("traceparent", PARENT.to_owned());
        assert_eq!(trace(PARENT, ""), std::slice::from_ref(&parent));
        assert_eq!(trace(PARENT, "a=b\nc: d"), std::slice::from_ref(&parent));
        assert_eq!(trace(PARENT, "a=b, c=d"), [parent, ("tracestate", "a=b, c=d".to_owned())]);
        for wrong in ["", "00", "x\ny", &PARENT.to_uppercase(), &format!("{PARENT}-00")] {
            assert_eq!(trace(wrong, "a=b"), [], "{wrong}");
        }
    }
}
