//! Text of others in a message of ours. Slack gives a meaning to `<…>` alone, and takes `&`, `<` and `>` as
//! themselves when they are written as entities; so that is done first, and the text is cut after, between two
//! characters as Slack counts them: an entity cut in half would be text again.

use chrono::{DateTime, Utc};

use crate::domain::letters::turns_text_around;

/// The longest text that a section of a message may have.
pub const SECTION: usize = 3000;

/// A name, a ticket, one line.
pub const LINE: usize = 200;

/// What takes the place of a backtick: with a real one, a text could end its own code block.
const BACKTICK: char = '\u{2cb}';

const CUT: char = '…';

/// A text on one line, as it may stand in a message: of at most `most` characters as Slack counts them.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c });
    escaped(plain, most)
}

/// A text of several lines in a block of code, where nothing is formatted.
#[must_use]
pub fn block(text: &str, most: usize) -> String {
    const FENCE: usize = 8;
    let plain = text.chars().map(|c| match c {
        '\n' => '\n',
        '`' => BACKTICK,
        c if c.is_whitespace() || c.is_control() => ' ',
        c => c,
    });
    format!("```\n{}\n```", escaped(plain, most.saturating_sub(FENCE)))
}

/// A text on one line in code, where nothing is formatted.
#[must_use]
pub fn code(text: &str, most: usize) -> String {
    let plain = text.replace('`', &BACKTICK.to_string());
    format!("`{}`", line(&plain, most.saturating_sub(2)))
}

/// An instant in the zone of whoever reads it.
#[must_use]
pub fn instant(at: DateTime<Utc>) -> String {
    let plain = at.format("%Y-%m-%d %H:%M UTC");
    format!("<!date^{}^{{date_short_pretty}} {{time}}|{plain}>", at.timestamp())
}

/// A link of ours; nobody else's text is made one.
#[must_use]
pub fn link(url: &str, words: &str) -> String {
    // None of these stands in an address of ours; in one that somebody else made, they would end the link.
    let url: String = url.chars().filter(|c| !matches!(c, '<' | '>' | '|')).collect();
    format!("<{}|{}>", url.replace('&', "&amp;"), line(words, LINE))
}

/// How long a text is as Slack counts.
#[must_use]
pub fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

fn escaped(text: impl Iterator<Item = char>, most: usize) -> String {
    let mut safe = String::new();
    let mut length = 0;
    // Where the text would have to end if it had to be cut.
    let mut end = 0;
    for letter in text.filter(|c| !turns_text_around(*c)) {
        let before = safe.len();
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            letter => safe.push(letter),
        }
        length += safe.get(before..).unwrap_or_default().encode_utf16().count();
        if length < most {
            end = safe.len();
        }
        if length > most {
            safe.truncate(end);
            safe.push(CUT);
            return safe;
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_somebody_wrote_has_a_meaning_to_slack() {
        for hostile in [
            "<!channel>",
            "<@U123>",
            "<https://evil.example|https://good.example>",
            "a & b",
            "<!date^1^{time}|now>",
        ] {
            for safe in [line(hostile, 200), block(hostile, 200), code(hostile, 200)] {
                assert!(!safe.contains('<') && !safe.contains('>'), "{safe}");
            }
        }
        assert_eq!(line("a & <b>\nc", 200), "a &amp; &lt;b&gt; c");
        assert_eq!(code("`x`", 200), "`\u{2cb}x\u{2cb}`");
        assert_eq!(block("```\n*bold*", 200), "```\n\u{2cb}\u{2cb}\u{2cb}\n*bold*\n```");
        assert_eq!(line("evil\u{202e}live", 200), "evillive");
        assert_eq!(
            link("https://a.example/x?a=1&b=2|c>", "<Go>"),
            "<https://a.example/x?a=1&amp;b=2c|&lt;Go&gt;>"
        );
    }

    #[test]
    fn a_text_is_cut_after_it_was_escaped_and_never_within_an_entity() {
        assert_eq!(line("abcd", 4), "abcd");
        assert_eq!(line("abcde", 4), "abc…");
        assert_eq!(line("ab<<", 6), "ab…");
        assert_eq!(line("<", 4), "&lt;");
        for most in 1..40 {
            let cut = line(&"x<&>😀".repeat(4000), most);
            assert!(cut.encode_utf16().count() <= most, "{most}: {cut}");
            let rest = cut.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "");
            assert!(!rest.contains(['&', '<', '>', ';']), "{most}: {cut}");
        }
        assert!(block(&"`\n".repeat(20_000), SECTION).encode_utf16().count() <= SECTION);
    }

    #[test]
    fn an_instant_says_itself_where_slack_does_not() {
        let at = "2026-11-21T20:00:00Z".parse().unwrap();
        assert_eq!(
            instant(at),
            "<!date^1795291200^{date_short_pretty} {time}|2026-11-21 20:00 UTC>"
        );
    }
}
