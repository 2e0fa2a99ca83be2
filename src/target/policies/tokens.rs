//! The text of an expression cut into its pieces, as PostgreSQL does it.

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a key word, not quoted.
    Word,
    /// A number.
    Number,
    /// `'…'`, with what stands before it (`E`, `U&`).
    Text,
    /// `"…"`.
    Name,
    /// `$tag$…$tag$`.
    Dollar,
    /// `$1`.
    Parameter,
    /// Any other character.
    Sign,
}

/// A piece of text; blanks and comments are left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl Token<'_> {
    /// Is it this sign or word?
    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self.kind, Kind::Sign | Kind::Word) && self.text.eq_ignore_ascii_case(sign)
    }

    pub(super) const fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// What the rest of a text begins with.
enum Piece {
    Blank,
    Is(Kind),
    /// It begins, and does not end.
    Open(&'static str),
}

/// Cuts a text into its pieces, as PostgreSQL does with `standard_conforming_strings` on.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let (piece, length) = first(rest);
        match piece {
            Piece::Blank => {}
            Piece::Is(kind) => {
                tokens.push(Token { kind, text: rest.get(..length).unwrap_or_default(), start });
            }
            Piece::Open(what) => return Err(format!("{what} is not closed")),
        }
        start += length.max(1);
    }
    Ok(tokens)
}

fn first(rest: &str) -> (Piece, usize) {
    let Some(letter) = rest.chars().next() else { return (Piece::Blank, 0) };
    let until = |length: Option<usize>, kind, open| match length {
        Some(length) => (Piece::Is(kind), length),
        None => (Piece::Open(open), rest.len()),
    };
    if letter.is_whitespace() {
        return (Piece::Blank, letter.len_utf8());
    }
    if rest.starts_with("--") {
        return (Piece::Blank, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return match comment(rest) {
            Some(length) => (Piece::Blank, length),
            None => (Piece::Open("a comment"), rest.len()),
        };
    }
    match letter {
        '\'' => until(quoted(rest, '\'', false), Kind::Text, "a text"),
        '"' => until(quoted(rest, '"', false), Kind::Name, "a quoted name"),
        '$' => match dollar(rest) {
            Some((kind, length)) => until(length, kind, "a dollar-quoted text"),
            None => (Piece::Is(Kind::Sign), 1),
        },
        _ if letter.is_ascii_digit() => {
            let is_number = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
            (Piece::Is(Kind::Number), rest.find(|c| !is_number(c)).unwrap_or(rest.len()))
        }
        _ if is_word(letter) => {
            let prefixes = [
                ("e'", 1, true),
                ("u&'", 2, false),
                ("b'", 1, false),
                ("x'", 1, false),
                ("n'", 1, false),
            ];
            for (prefix, before, escapes) in prefixes {
                if rest.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix)) {
                    let text = rest.get(before..).unwrap_or_default();
                    return until(
                        quoted(text, '\'', escapes).map(|n| n + before),
                        Kind::Text,
                        "a text",
                    );
                }
            }
            let inside = |c: char| is_word(c) || c.is_ascii_digit() || c == '$';
            (Piece::Is(Kind::Word), rest.find(|c| !inside(c)).unwrap_or(rest.len()))
        }
        other => (Piece::Is(Kind::Sign), other.len_utf8()),
    }
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_' || !letter.is_ascii()
}

/// The length of what begins with a quote, doubled quotes and escapes passed over.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if escapes && letter == '\\' {
            letters.next();
        } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + letter.len_utf8());
        }
    }
    None
}

/// The length of a comment; they nest.
fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// `$1`, or `$tag$…$tag$` with its length if it is closed.
fn dollar(text: &str) -> Option<(Kind, Option<usize>)> {
    let rest = text.strip_prefix('$')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    if digits > 0 {
        return Some((Kind::Parameter, Some(1 + digits)));
    }
    let tag = rest.get(..rest.find('$')?)?;
    if !tag.chars().all(|c| is_word(c) || c.is_ascii_digit()) {
        return None;
    }
    let open = tag.len() + 2;
    let (tag, body) = (text.get(..open)?, text.get(open..)?);
    Some((Kind::Dollar, body.find(tag).map(|at| open + at + open)))
}
