//! Policies that trust a setting which any session can set: found, and written anew to ask for a claim.

use crate::{
    domain::rights::context::is_claim_name,
    target::policies::tokens::{Kind, Token, tokens},
};

/// A setting that any session may set to anything: one with a dot in its name, which PostgreSQL itself knows
/// nothing of.
fn is_forgeable(setting: &str) -> bool {
    setting.contains('.')
}

/// The claim that a setting of that name stands for: `app.tenant_id` is `tenant_id`. What PostgREST sets
/// (`request.…`) is a claim of a token where it says so.
fn claim_of(setting: &str) -> Option<&str> {
    let of_token = setting.strip_prefix("request.jwt.claim.");
    of_token.or_else(|| {
        let (space, name) = setting.split_once('.')?;
        (space != "request" && !name.contains('.')).then_some(name)
    })
}

/// Does the expression trust a setting that any session may set?
pub(in crate::target) fn trusts_setting(expression: &str) -> bool {
    let tokens = tokens(expression).unwrap_or_default();
    (0..tokens.len()).any(|at| call(&tokens, at).is_some_and(|call| is_forgeable(&call.setting)))
}

/// A call of `current_setting` with a fixed name.
struct Call {
    setting: String,
    /// The first token behind it.
    next: usize,
}

fn call(tokens: &[Token<'_>], at: usize) -> Option<Call> {
    let sign = |n: usize, sign: &str| tokens.get(n).is_some_and(|token| token.is(sign));
    if !sign(at, "current_setting") || !sign(at + 1, "(") {
        return None;
    }
    let (setting, mut next) = text(tokens, at + 2)?;
    if sign(next, ",") {
        next += if sign(next + 1, "true") || sign(next + 1, "false") { 2 } else { return None };
    }
    sign(next, ")").then_some(Call { setting, next: next + 1 })
}

/// A plain text, with or without `::text` behind it, and the first token after that.
fn text(tokens: &[Token<'_>], at: usize) -> Option<(String, usize)> {
    let token = tokens.get(at).filter(|token| token.kind == Kind::Text)?;
    let inner = token.text.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'");
    Some((inner, cast(tokens, at + 1, &["text"]).unwrap_or(at + 1)))
}

/// The first token behind `::` and one of these types.
fn cast(tokens: &[Token<'_>], at: usize, types: &[&str]) -> Option<usize> {
    let sign = |n: usize, sign: &str| tokens.get(n).is_some_and(|token| token.is(sign));
    (sign(at, ":") && sign(at + 1, ":") && types.iter().any(|name| sign(at + 2, name)))
        .then_some(at + 3)
}

/// The expression with each setting that it trusts asked for as a claim instead, which no session can set.
/// None if it trusts none, or one in a way that is not known here.
pub(in crate::target) fn moved(expression: &str) -> Option<String> {
    let tokens = tokens(expression).ok()?;
    let (mut moved, mut copied, mut at) = (String::new(), 0, 0);
    while at < tokens.len() {
        let Some(call) = call(&tokens, at).filter(|call| is_forgeable(&call.setting)) else {
            at += 1;
            continue;
        };
        let (claim, from, next) = match call.setting.as_str() {
            "request.jwt.claims" => member(&tokens, at, call.next)?,
            setting => (claim_of(setting)?.to_owned(), at, call.next),
        };
        if !is_claim_name(&claim) {
            return None;
        }
        // A cast goes along into the sub-select, so that it is made once a statement, too.
        let (from, next, type_name) = match cast_around(&tokens, from, next) {
            Some((from, next, type_name)) => (from, next, format!("::{type_name}")),
            None => (from, next, String::new()),
        };
        moved.push_str(expression.get(copied..tokens.get(from)?.start)?);
        moved.push_str(&format!("(SELECT pgvalet.claim('{claim}'){type_name})"));
        copied = tokens.get(next.checked_sub(1)?)?.end();
        at = next;
    }
    if copied == 0 {
        return None;
    }
    moved.push_str(expression.get(copied..)?);
    Some(moved)
}

/// Without the brackets around it: the first token of it all, and the first behind it.
fn unwrapped(tokens: &[Token<'_>], mut from: usize, mut next: usize) -> (usize, usize) {
    let sign = |n: usize, sign: &str| tokens.get(n).is_some_and(|token| token.is(sign));
    while let Some(before) = from.checked_sub(1)
        && sign(before, "(")
        && sign(next, ")")
        && !is_callee(tokens, before)
    {
        from = before;
        next += 1;
    }
    (from, next)
}

/// Does the bracket at this place follow the name of what is called?
fn is_callee(tokens: &[Token<'_>], bracket: usize) -> bool {
    const BEFORE_BRACKETS: [&str; 10] =
        ["and", "or", "not", "in", "any", "case", "when", "then", "select", "where"];
    let before = bracket.checked_sub(1).and_then(|before| tokens.get(before));
    before.is_some_and(|token| match token.kind {
        Kind::Word => !BEFORE_BRACKETS.iter().any(|word| token.is(word)),
        Kind::Name => true,
        _ => false,
    })
}

/// A cast to a type of one word, around it or right behind it.
fn cast_around<'a>(
    tokens: &[Token<'a>],
    from: usize,
    next: usize,
) -> Option<(usize, usize, &'a str)> {
    const MORE_WORDS: [&str; 8] =
        [".", "(", "[", "with", "without", "varying", "precision", "zone"];
    let (from, next) = unwrapped(tokens, from, next);
    let sign = |n: usize, sign: &str| tokens.get(n).is_some_and(|token| token.is(sign));
    let name = tokens.get(next + 2).filter(|token| token.kind == Kind::Word)?;
    let is_whole = !MORE_WORDS.iter().any(|word| sign(next + 3, word));
    (sign(next, ":") && sign(next + 1, ":") && is_whole).then_some((from, next + 3, name.text))
}

/// `(…)::json ->> 'name'` around a call: the name, the first token of it all, and the first behind it.
fn member(tokens: &[Token<'_>], call: usize, behind: usize) -> Option<(String, usize, usize)> {
    let sign = |n: usize, sign: &str| tokens.get(n).is_some_and(|token| token.is(sign));
    let (from, next) = unwrapped(tokens, call, behind);
    let (from, next) = unwrapped(tokens, from, cast(tokens, next, &["json", "jsonb"])?);
    if !(sign(next, "-") && sign(next + 1, ">") && sign(next + 2, ">")) {
        return None;
    }
    let (name, next) = text(tokens, next + 3)?;
    Some((name, from, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trusts_a_setting_is_moved_to_a_claim_with_its_casts() {
        const SUB: &str = "(owner = (SELECT pgvalet.claim('sub')))";
        for (from, to) in [
            (
                "(tenant_id = (current_setting('app.tenant_id'::text, true))::integer)",
                "(tenant_id = (SELECT pgvalet.claim('tenant_id')::integer))",
            ),
            ("owner = current_setting('app.sub')", "owner = (SELECT pgvalet.claim('sub'))"),
            (
                "(a = NULLIF(current_setting('app.a'::text), ''::text)) OR (b = current_setting('app.b'::text, false))",
                "(a = NULLIF((SELECT pgvalet.claim('a')), ''::text)) OR (b = (SELECT pgvalet.claim('b')))",
            ),
            (
                "(owner = ((current_setting('request.jwt.claims'::text, true))::json ->> 'sub'::text))",
                "(owner = ((SELECT pgvalet.claim('sub'))))",
            ),
            (
                "(at > (current_setting('app.from'::text))::timestamp with time zone)",
                "(at > ((SELECT pgvalet.claim('from')))::timestamp with time zone)",
            ),
            (
                "(t = ((current_setting('request.jwt.claims'::text, true))::jsonb ->> 't'::text)::uuid)",
                "(t = (SELECT pgvalet.claim('t')::uuid))",
            ),
            (
                "a = lower(current_setting('app.a'))::uuid",
                "a = lower((SELECT pgvalet.claim('a')))::uuid",
            ),
            ("(owner = current_setting('request.jwt.claims', true)::jsonb ->> 'sub')", SUB),
            ("(owner = ((current_setting('request.jwt.claims'))::jsonb) ->> 'sub')", SUB),
            ("(owner = current_setting('request.jwt.claim.sub'::text))", SUB),
            ("(owner = current_setting('myapp.sub'::text))", SUB),
        ] {
            assert!(trusts_setting(from), "{from}");
            assert_eq!(moved(from).as_deref(), Some(to), "{from}");
        }
        for left in [
            "true",
            "current_setting('timezone'::text) = 'UTC'",
            "note = 'current_setting(''app.x'')'",
            "current_setting('app.x.y') = 'a'",
            "current_setting('request.method') = 'GET'",
            "(current_setting('request.jwt.claims')::json -> 'a' ->> 'b') = 'c'",
        ] {
            assert_eq!(moved(left), None, "{left}");
        }
        assert!(!trusts_setting("note = 'current_setting(''app.x'')'"));
        assert!(trusts_setting("current_setting('app.x.y') = 'a'"));
    }
}
