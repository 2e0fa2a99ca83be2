//! Expressions of policies as text: do they stay within their brackets, and whom do they ask about.
//!
//! PostgreSQL itself judges whether an expression makes sense. Here is only what it cannot see once the text
//! stands between the brackets of a statement: `true) OR (true` would be two halves of something else.

use crate::{
    document::did_you_mean,
    target::policies::tokens::{Kind, Token, tokens},
};

/// Says what is wrong with an expression as a piece of text: it must be one expression, and stay one between
/// the brackets of a statement.
pub(super) fn fault(expression: &str) -> Option<String> {
    let tokens = match tokens(expression) {
        Ok(tokens) => tokens,
        Err(fault) => return Some(fault),
    };
    let mut open = Vec::new();
    for token in &tokens {
        match (token.kind, token.text) {
            (Kind::Sign, "(") => open.push(")"),
            (Kind::Sign, "[") => open.push("]"),
            (Kind::Sign, close @ (")" | "]")) if open.pop() != Some(close) => {
                let place = expression.get(..token.start).unwrap_or_default().chars().count() + 1;
                return Some(format!("`{close}` at character {place} closes nothing"));
            }
            (Kind::Sign, ";") => return Some("`;` has no place in an expression".to_owned()),
            (Kind::Parameter, parameter) => {
                return Some(format!("`{parameter}` stands for nothing here"));
            }
            _ => {}
        }
    }
    match open.pop() {
        Some(missing) => Some(format!("`{missing}` is missing at the end")),
        None if tokens.is_empty() => Some("there is no expression in it".to_owned()),
        None => unknown_of_ours(&tokens),
    }
}

/// Functions that answer with a claim of the session's lease: the first takes its name.
const OURS: [&str; 5] = ["claim", "user_id", "tenant_id", "lease_id", "tool"];

/// A function of our schema that there is not.
fn unknown_of_ours(tokens: &[Token<'_>]) -> Option<String> {
    let names = tokens
        .windows(3)
        .filter(|three| matches!(three, [schema, dot, _] if schema.is("pgvalet") && dot.is(".")));
    let mut names = names.filter_map(|three| Some(three.last()?.text.to_ascii_lowercase()));
    let name = names.find(|name| !OURS.contains(&name.as_str()))?;
    let hint = did_you_mean(&name, OURS);
    Some(format!(
        "schema pgvalet has no `{name}`: it has claim(text), user_id(), tenant_id(), lease_id() and tool(){hint}"
    ))
}

/// What tells one session from another.
const ASKERS: [&str; 7] = [
    "pgvalet",
    "current_user",
    "session_user",
    "current_role",
    "user",
    "current_setting",
    "pg_has_role",
];

/// Does what the expression says depend on who asks? A function of somebody's own is taken to ask.
pub(super) fn asks_who(expression: &str) -> bool {
    let tokens = tokens(expression).unwrap_or_default();
    let is_call = |three: &[Token<'_>]| {
        matches!(three, [dot, name, open]
            if dot.is(".") && matches!(name.kind, Kind::Word | Kind::Name) && open.is("("))
    };
    tokens.iter().any(|token| ASKERS.iter().any(|word| token.kind == Kind::Word && token.is(word)))
        || tokens.windows(3).any(is_call)
}

/// The expression with functions of PostgreSQL's own in the place of ours, which take and give the same, for
/// a database that does not have ours yet; none if it names none.
pub(super) fn without_claims(expression: &str) -> Option<String> {
    let tokens = tokens(expression).ok()?;
    let (mut other, mut copied) = (String::new(), 0);
    for three in tokens.windows(3) {
        let [schema, dot, name] = three else { continue };
        let stand_in = match name.text.to_ascii_lowercase().as_str() {
            "claim" => "pg_catalog.lower",
            name if OURS.contains(&name) => "pg_catalog.version",
            _ => continue,
        };
        if schema.is("pgvalet") && dot.is(".") {
            other.push_str(expression.get(copied..schema.start)?);
            other.push_str(stand_in);
            copied = name.end();
        }
    }
    if copied == 0 {
        return None;
    }
    other.push_str(expression.get(copied..)?);
    Some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_stays_within_its_brackets() {
        for sound in [
            "true",
            "(a = ')' OR b = \"(\") AND c = $$)$$ -- )",
            "a = $x$ ( $$ $x$ /* ) /* ( */ */",
            "a = E'\\')' AND b[1] = ANY (ARRAY[1, 2])",
            "größe = 'a''b'",
        ] {
            assert_eq!(fault(sound), None, "{sound}");
        }
        for (broken, says) in [
            ("true) OR (true", "`)` at character 5 closes nothing"),
            ("(a", "`)` is missing"),
            ("(a]", "`]` at character 3"),
            ("true; DROP TABLE x", "`;`"),
            ("a = $1", "`$1`"),
            ("a = 'b", "a text is not closed"),
            ("a = \"b", "a quoted name"),
            ("a = $x$ $y$", "a dollar-quoted text"),
            ("a /* b", "a comment"),
            ("-- only", "no expression"),
            ("a = pgvalet.clam('b')", "did you mean `claim`?"),
        ] {
            let said = fault(broken).unwrap_or_default();
            assert!(said.contains(says), "{broken}: {said}");
        }
    }

    #[test]
    fn who_asks_matters_or_not() {
        for (expression, asks) in [
            ("true", false),
            ("is_public AND length(note) > 3", false),
            ("note = 'current_user'", false),
            ("owner = current_user", true),
            ("tenant_id = (SELECT pgvalet.claim('tenant_id'))::integer", true),
            ("private.sees(tenant_id)", true),
            ("pg_catalog.length(note) > 3", true),
        ] {
            assert_eq!(asks_who(expression), asks, "{expression}");
        }
    }

    #[test]
    fn functions_that_are_not_there_yet_are_stood_in_for() {
        assert_eq!(
            without_claims(
                "a = (SELECT pgvalet.claim('pgvalet.claim'))::int AND b = pgvalet.tool()"
            )
            .as_deref(),
            Some(
                "a = (SELECT pg_catalog.lower('pgvalet.claim'))::int AND b = pg_catalog.version()"
            )
        );
        assert_eq!(without_claims("a = 'pgvalet.claim'"), None);
    }
}
