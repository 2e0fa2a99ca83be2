//! A review as a file for those who were not there: CSV for a spreadsheet, Markdown to be read.

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::{
    duration::Seconds,
    request::Via,
    review::{Item, Review, exercise::Exercise},
};

const COLUMNS: [&str; 17] = [
    "review",
    "item",
    "principal",
    "profile",
    "rule",
    "leases_90d",
    "last_used",
    "live",
    "never_used",
    "profile_exercised",
    "verdict",
    "max_ttl",
    "reason",
    "decided_by",
    "via",
    "decided_at",
    "signed_off_by",
];

/// All items of a review as CSV (RFC 4180).
#[must_use]
pub fn csv(review: &Review, items: &[Item], exercised: &BTreeMap<String, Exercise>) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for item in items {
        let cells: Vec<_> = cells(review, item, exercised.get(&item.profile))
            .iter()
            .map(|cell| cell_of_csv(cell))
            .collect();
        text += &cells.join(",");
        text += "\r\n";
    }
    text
}

/// A review as Markdown: how it stands, its items as a table, and how the grants of its profiles were exercised.
#[must_use]
pub fn markdown(review: &Review, items: &[Item], exercised: &BTreeMap<String, Exercise>) -> String {
    let mut text = format!("# Access review {}\n\n", review.id);
    let counts = review.counts;
    let facts = [
        ("Of", review.principal.clone().unwrap_or_else(|| "everybody".to_owned())),
        ("Opened", format!("{} ({})", instant(review.opened_at), review.cause.as_str())),
        ("Due", instant(review.due_at)),
        ("State", review.state.as_str().to_owned()),
        ("Signed off", signed_off(review)),
        (
            "Items",
            format!(
                "{}: {} kept, {} narrowed, {} removed, {} undecided",
                counts.items, counts.kept, counts.narrowed, counts.removed, counts.undecided
            ),
        ),
    ];
    for (name, value) in facts {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "- {name}: {}", cell_of_markdown(&value));
    }
    text += "\n| who | profile | rule | leases (90 days) | last used | verdict | reason | decided by |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for item in items {
        let decision = item.decision.as_ref();
        let verdict = decision.map(|decision| match decision.max_ttl {
            Some(ttl) => format!("{} to {ttl}", decision.verdict.as_str()),
            None => decision.verdict.as_str().to_owned(),
        });
        let by = decision.map(|decision| format!("{}, {}", decision.by, instant(decision.at)));
        let row = [
            item.principal.clone(),
            item.profile.clone(),
            item.rule.clone(),
            item.facts.leases.to_string(),
            item.facts.last_used.map_or_else(|| "never".to_owned(), instant),
            verdict.unwrap_or_else(|| "undecided".to_owned()),
            decision.map(|decision| decision.reason.clone()).unwrap_or_default(),
            by.unwrap_or_default(),
        ];
        let row: Vec<_> = row.iter().map(|cell| cell_of_markdown(cell)).collect();
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    if !exercised.is_empty() {
        text += "\n## What statements exercised\n\n";
    }
    for (profile, exercise) in exercised {
        let words = cell_of_markdown(&exercise.in_words());
        let _ = writeln!(text, "- {}: {words}", cell_of_markdown(profile));
        let Exercise::Known(known) = exercise else { continue };
        for line in known.never_in_words() {
            let _ = writeln!(text, "  - {}", cell_of_markdown(&line));
        }
    }
    text
}

fn cells(review: &Review, item: &Item, exercise: Option<&Exercise>) -> [String; COLUMNS.len()] {
    let Item { facts, decision, .. } = item;
    let decision = decision.as_ref();
    let ttl = decision.and_then(|decision| decision.max_ttl);
    let via = decision.and_then(|decision| decision.via);
    [
        review.id.to_string(),
        item.id.to_string(),
        item.principal.clone(),
        item.profile.clone(),
        item.rule.clone(),
        facts.leases.to_string(),
        facts.last_used.map(instant).unwrap_or_default(),
        facts.live.to_string(),
        facts.last_used.is_none().to_string(),
        exercise.map(Exercise::in_words).unwrap_or_default(),
        decision.map(|decision| decision.verdict.as_str().to_owned()).unwrap_or_default(),
        ttl.map(|ttl: Seconds| ttl.to_string()).unwrap_or_default(),
        decision.map(|decision| decision.reason.clone()).unwrap_or_default(),
        decision.map(|decision| decision.by.clone()).unwrap_or_default(),
        via.map(Via::as_str).unwrap_or_default().to_owned(),
        decision.map(|decision| instant(decision.at)).unwrap_or_default(),
        review.signed_off_by.clone().unwrap_or_default(),
    ]
}

fn signed_off(review: &Review) -> String {
    let by = review.signed_off_by.as_deref().zip(review.signed_off_at);
    by.map_or_else(|| "no".to_owned(), |(by, at)| format!("by {by} at {}", instant(at)))
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A spreadsheet takes a text that begins with one of these for a formula, and would run what a reason says.
const BEGINS_A_FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

fn cell_of_csv(text: &str) -> String {
    let safe =
        if text.starts_with(BEGINS_A_FORMULA) { format!("'{text}") } else { text.to_owned() };
    if safe.contains(['"', ',', '\n', '\r', '\'', '\t']) {
        return format!("\"{}\"", safe.replace('"', "\"\""));
    }
    safe
}

/// One line of plain text: nothing in it is a link, a picture, or the end of a cell.
fn cell_of_markdown(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '!' | '#' | '~' | '&' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}
