//! Tables, instants in words, and a sign of life for what takes longer than a second.

use std::{future::Future, io, pin::pin, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use crate::{
    cli::{Io, failure::Failure},
    domain::lease::{HandedOver, Proof},
};

/// A text without control characters: what somebody else wrote (a reason, a tool's name) must not
/// move the cursor, set colours or hide a line of a terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// An instant to the second.
#[must_use]
pub fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A length of time in its two largest units.
#[must_use]
pub fn length(seconds: i64) -> String {
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// How long until an instant, or that it is over.
#[must_use]
pub fn ends_in(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (at - now).num_seconds();
    if seconds > 0 { length(seconds) } else { "over".to_owned() }
}

/// Writes a table: with lines and fitted to the width on a terminal; without lines, one row a line,
/// when piped. The first column is never wrapped: it holds what is copied into the next command.
///
/// # Errors
/// If standard output fails.
pub fn table(io: &mut Io<'_>, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let mut table = Table::new();
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    if io.terminals.out {
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if let Some(first) = table.column_mut(0) {
            first.set_constraint(ColumnConstraint::ContentWidth);
        }
    } else {
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    for line in table.lines() {
        writeln!(io.out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Writes a list of names and values, the values under each other.
///
/// # Errors
/// If standard output fails.
pub fn facts(io: &mut Io<'_>, facts: &[(&str, String)]) -> io::Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(io.out, "{name:width$}  {}", plain(value))?;
    }
    Ok(())
}

/// Writes a JSON value with a newline.
///
/// # Errors
/// If standard output fails.
pub fn json<T: serde::Serialize>(io: &mut Io<'_>, value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::Unreadable)?;
    Ok(writeln!(io.out, "{text}")?)
}

/// Reads the items of a list.
///
/// # Errors
/// If one is not what the API promises.
pub fn read_items<T: serde::de::DeserializeOwned>(
    items: Vec<serde_json::Value>,
) -> Result<Vec<T>, Failure> {
    items
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()
        .map_err(Failure::Unreadable)
}

/// A proof in one line.
#[must_use]
pub fn proof(proof: &Proof) -> String {
    let role = if proof.role_absent { "no role" } else { "the role is still there" };
    let Proof { sessions_left, sessions_ended, took_ms, .. } = proof;
    let seen = instant(proof.seen_at);
    format!(
        "{role}, {sessions_left} sessions left, {sessions_ended} ended; seen {seen}, took {took_ms} ms"
    )
}

/// What else a proof says, as facts with their names.
#[must_use]
pub fn proof_details(proof: &Proof) -> Vec<(&'static str, String)> {
    let steps: Vec<_> =
        proof.steps.iter().map(|took| format!("{} {} ms", took.step.as_str(), took.ms)).collect();
    let mut details = Vec::new();
    if !steps.is_empty() {
        details.push(("steps", steps.join(", ")));
    }
    for given in &proof.handed_over {
        let HandedOver { object, database, to } = given;
        details.push(("handed over", format!("{object} in database {database}, to {to}")));
    }
    let named = i64::try_from(proof.handed_over.len()).unwrap_or(i64::MAX);
    if proof.objects_handed_over > named {
        details.push(("handed over", format!("and {} more", proof.objects_handed_over - named)));
    }
    if proof.grants_taken_back > 0 {
        details
            .push(("taken back", format!("{} grants on others' objects", proof.grants_taken_back)));
    }
    details.extend(proof.dropped.iter().map(|what| ("dropped", what.clone())));
    details.extend(proof.left.iter().map(|what| ("left", what.clone())));
    if !proof.databases_not_seen.is_empty() {
        details.push(("not seen", format!("databases {}", proof.databases_not_seen.join(", "))));
    }
    details
}

/// Waits for something; after a second a terminal shows what for, and for how long.
pub async fn watched<T>(io: &mut Io<'_>, what: &str, future: impl Future<Output = T>) -> T {
    if !io.terminals.err {
        return future.await;
    }
    let mut future = pin!(future);
    let mut seconds = 0_u32;
    let mut shown = false;
    loop {
        match tokio::time::timeout(Duration::from_secs(1), &mut future).await {
            Ok(value) => {
                if shown {
                    // The line is decoration: a standard error that is gone must not fail the command.
                    let _ = write!(io.err, "\r\u{1b}[K").and_then(|()| io.err.flush());
                }
                return value;
            }
            Err(_) => {
                seconds = seconds.saturating_add(1);
                shown = true;
                let _ =
                    write!(io.err, "\r\u{1b}[K{what} ({seconds} s)").and_then(|()| io.err.flush());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_two_units() {
        for (seconds, text) in
            [(-1, "0s"), (0, "0s"), (59, "59s"), (3600, "1h"), (3661, "1h 1m"), (90_061, "1d 1h")]
        {
            assert_eq!(length(seconds), text);
        }
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
    }
}
