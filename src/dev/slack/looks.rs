//! How Slack shows what is sent to it: what in a text has a meaning to it, has one here too, so that a text which
//! mentions somebody is seen to.

use std::fmt::Write as _;

use serde_json::Value;

/// Slack's own markup, as a page shows it.
pub(in crate::dev::slack) fn shown(text: &str) -> String {
    let mut page = String::new();
    for (n, piece) in text.split("```").enumerate() {
        if n % 2 == 1 {
            let _ = write!(page, "<pre>{}</pre>", lines(piece.trim_matches('\n')));
            continue;
        }
        for (n, piece) in piece.split('`').enumerate() {
            match n % 2 {
                1 => {
                    let _ = write!(page, "<code>{}</code>", meant(piece));
                }
                _ => page.push_str(&bold(&lines(piece))),
            }
        }
    }
    page
}

fn lines(text: &str) -> String {
    meant(text).replace('\n', "<br>")
}

fn bold(text: &str) -> String {
    let mut page = String::new();
    for (n, piece) in text.split('*').enumerate() {
        page.push_str(match (n, n % 2) {
            (0, _) => "",
            (_, 1) => "<b>",
            (_, _) => "</b>",
        });
        page.push_str(piece);
    }
    page
}

/// What stands between `<` and `>` means something; entities stand for themselves, in a page too.
fn meant(text: &str) -> String {
    let mut page = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('<') {
        page.push_str(&before.replace('"', "&quot;"));
        let (inside, after) = behind.split_once('>').unwrap_or((behind, ""));
        let (target, label) = inside.split_once('|').unwrap_or((inside, inside));
        let _ = if target.starts_with("!date") {
            write!(page, "<time>{label}</time>")
        } else if target.starts_with(['!', '@', '#']) {
            write!(page, "<mark>@{}</mark>", target.trim_start_matches(['!', '@', '#']))
        } else {
            write!(
                page,
                "<a href=\"{}\" rel=\"noreferrer\">{label}</a>",
                target.replace('"', "&quot;")
            )
        };
        rest = after;
    }
    page.push_str(rest);
    for (name, sign) in [
        (":warning:", "⚠"),
        (":white_check_mark:", "✅"),
        (":hourglass_flowing_sand:", "⏳"),
        (":black_square_button:", "⏹"),
    ] {
        page = page.replace(name, sign);
    }
    page
}

/// The blocks of a message; `button` makes a button of what is one.
pub(in crate::dev::slack) fn blocks(blocks: &[Value], button: impl Fn(&Value) -> String) -> String {
    let text = |value: &Value| value.pointer("/text/text").and_then(Value::as_str).map(shown);
    let own = |value: &Value| value.get("text").and_then(Value::as_str).map(shown);
    let mut page = String::new();
    for block in blocks {
        let each =
            |name: &str| block.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let _ = match block.get("type").and_then(Value::as_str) {
            Some("header") => write!(page, "<h3>{}</h3>", text(block).unwrap_or_default()),
            Some("actions") => {
                let buttons: String = each("elements").iter().map(&button).collect();
                write!(page, "<p>{buttons}</p>")
            }
            Some("context") => {
                let words: String = each("elements").iter().filter_map(own).collect();
                write!(page, "<p><small>{words}</small></p>")
            }
            _ => {
                let words =
                    text(block).map(|words| format!("<div>{words}</div>")).unwrap_or_default();
                let fields: String = each("fields")
                    .iter()
                    .filter_map(own)
                    .map(|field| format!("<li>{field}</li>"))
                    .collect();
                write!(
                    page,
                    "{words}{}",
                    if fields.is_empty() { fields } else { format!("<ul>{fields}</ul>") }
                )
            }
        };
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_slack_is_seen_to() {
        assert_eq!(shown("<!channel> hi"), "<mark>@channel</mark> hi");
        assert_eq!(
            shown("&lt;!channel&gt; &amp; `a` *b*"),
            "&lt;!channel&gt; &amp; <code>a</code> <b>b</b>"
        );
        assert_eq!(
            shown("<https://a.example|words>"),
            "<a href=\"https://a.example\" rel=\"noreferrer\">words</a>"
        );
        assert_eq!(shown("<!date^1^{time}|20:00>"), "<time>20:00</time>");
        assert_eq!(shown("```\na\n*b*\n```"), "<pre>a<br>*b*</pre>");
    }
}
