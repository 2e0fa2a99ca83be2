//! A function as a file names it: `name`, or `name(integer, text)` for one of several.
//!
//! PostgreSQL could read the types itself, but answers an unknown one with an error, which would end our
//! transaction.

/// A function's name, and its types if the file says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature<'a> {
    pub(crate) name: &'a str,
    types: Option<Vec<String>>,
}

/// What people write for PostgreSQL's own types, and what it calls them itself.
const ALIASES: [(&str, &str); 16] = [
    ("int", "integer"),
    ("int4", "integer"),
    ("int2", "smallint"),
    ("int8", "bigint"),
    ("bool", "boolean"),
    ("float", "double precision"),
    ("float8", "double precision"),
    ("float4", "real"),
    ("decimal", "numeric"),
    ("char", "character"),
    ("bpchar", "character"),
    ("varchar", "character varying"),
    ("varbit", "bit varying"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("time", "time without time zone"),
];

impl<'a> Signature<'a> {
    /// Reads one.
    pub(crate) fn read(text: &'a str) -> Self {
        match text.strip_suffix(')').and_then(|open| open.split_once('(')) {
            Some((name, types)) => {
                let types = types.split(',').map(plain_type).filter(|one| !one.is_empty());
                Self { name: name.trim(), types: Some(types.collect()) }
            }
            None => Self { name: text, types: None },
        }
    }

    /// The name of something that takes nothing.
    pub(crate) const fn of_name(name: &'a str) -> Self {
        Self { name, types: None }
    }

    /// Does it name the function that takes these types, as PostgreSQL writes them? A type of a schema of
    /// its own may be written without that.
    pub(crate) fn takes(&self, arguments: &str) -> bool {
        let Some(written) = &self.types else { return true };
        let there = arguments.split(", ").filter(|one| !one.is_empty());
        let there: Vec<&str> = there.collect();
        let is_same = |(written, there): (&String, &&str)| {
            let unquoted = there.replace('"', "");
            *written == unquoted
                || unquoted.split_once('.').is_some_and(|(_, name)| *written == name)
        };
        written.len() == there.len() && written.iter().zip(&there).all(is_same)
    }

    /// Does it say the types?
    pub(crate) const fn is_exact(&self) -> bool {
        self.types.is_some()
    }
}

fn plain_type(written: &str) -> String {
    let written = written.replace('"', "");
    let words: Vec<&str> = written.split_whitespace().collect();
    let word = words.join(" ");
    let word =
        word.strip_prefix("VARIADIC ").or_else(|| word.strip_prefix("variadic ")).unwrap_or(&word);
    let (name, array) = match word.split_once('[') {
        Some((name, _)) => (name, "[]"),
        None => (word, ""),
    };
    let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
    let lower = name.to_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == lower).map(|(_, name)| *name);
    // Names of one's own may have capitals; those of PostgreSQL that have a space have none.
    let name = match alias {
        Some(name) => name,
        None if lower.contains(' ') => &lower,
        None => name,
    };
    format!("{name}{array}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_the_names_that_people_use() {
        for (written, arguments, is) in [
            ("f", "integer, text", true),
            ("f()", "", true),
            ("f()", "integer", false),
            ("f(int, text)", "integer, text", true),
            ("f( integer ,text )", "integer, text", true),
            ("f(varchar)", "character varying", true),
            ("f(timestamptz)", "timestamp with time zone", true),
            ("f(timestamp with time zone)", "timestamp with time zone", true),
            ("f(int[])", "integer[]", true),
            ("f(variadic text[])", "text[]", true),
            ("f(order_status)", "public.order_status", true),
            ("f(public.order_status)", "public.order_status", true),
            ("f(sales.order_status)", "public.order_status", false),
            ("f(bigint)", "integer", false),
            ("f(Odd)", "public.\"Odd\"", true),
        ] {
            let signature = Signature::read(written);
            assert_eq!((signature.name, signature.takes(arguments)), ("f", is), "{written}");
        }
    }
}
