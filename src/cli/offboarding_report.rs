//! The report of somebody's leaving, for a terminal and for a ticket: the same parts in the same order.

use std::fmt::Write as _;

use crate::{
    api::{
        leases::Lease,
        offboarding::{Offboarding, PendingTarget, StandingSecret},
    },
    cli::{
        Io,
        failure::Failure,
        leases,
        output::{self, instant, plain},
    },
};

/// One part: what it is about, the names of its columns, its rows.
struct Part {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// For a terminal.
///
/// # Errors
/// If standard output fails.
pub fn text(report: &Offboarding, io: &mut Io<'_>) -> Result<(), Failure> {
    output::facts(io, &summary(report))?;
    for part in parts(report) {
        writeln!(io.out, "\n{}", part.title)?;
        output::table(io, part.columns, part.rows)?;
    }
    Ok(())
}

/// For a ticket.
#[must_use]
pub fn markdown(report: &Offboarding) -> String {
    let mut text = format!("# Offboarding of {}\n\n", cell(&report.principal));
    for (name, value) in summary(report).iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "- {name}: {}", cell(value));
    }
    for part in parts(report) {
        let _ = writeln!(text, "\n## {}\n", part.title);
        let _ = writeln!(text, "| {} |", part.columns.join(" | "));
        let _ = writeln!(text, "|{}", " --- |".repeat(part.columns.len()));
        for row in part.rows {
            let row: Vec<String> = row.iter().map(|value| cell(value)).collect();
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
    }
    text
}

/// A text that stays one cell of a table, and is nothing but text there.
fn cell(text: &str) -> String {
    let mut safe = String::new();
    for letter in plain(text).chars() {
        if matches!(letter, '|' | '\\' | '<' | '>' | '[' | ']' | '*' | '`' | '#') {
            safe.push('\\');
        }
        safe.push(letter);
    }
    safe
}

fn summary(report: &Offboarding) -> Vec<(&'static str, String)> {
    let stands = if report.complete {
        "complete: shut out, and nothing is left on any target".to_owned()
    } else {
        format!("not complete: {} proofs, {} pending", report.proofs, report.pending)
    };
    let out = &report.shut_out;
    let at = |at: Option<_>| at.map(instant).unwrap_or_default();
    vec![
        ("person", report.principal.clone()),
        ("stands", stands),
        ("proofs", report.proofs.to_string()),
        ("pending", report.pending.to_string()),
        ("began", format!("{} by {}", instant(report.started_at), report.started_by)),
        ("finished", at(report.finished_at)),
        ("let in again", at(report.ended_at)),
        ("shut out", at(out.disabled_at)),
        ("sessions ended", out.sessions_ended.to_string()),
        ("API tokens refused", out.tokens.to_string()),
        ("certificates refused", out.certificates.join(", ")),
        ("identities refused", out.identities.join(", ")),
        ("services shut out with them", out.agents.join(", ")),
        ("was in the groups", out.groups.join(", ")),
        ("requests withdrawn", joined(&report.requests_withdrawn)),
        ("need new sealed codes", report.codes_withdrawn.join(", ")),
    ]
}

fn joined<T: ToString>(ids: &[T]) -> String {
    ids.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// Those parts that have something to say.
fn parts(report: &Offboarding) -> Vec<Part> {
    let pending = Part {
        title: "Targets with something left",
        columns: &["target", "logins", "in the way"],
        rows: report.pending_targets.iter().map(pending_row).collect(),
    };
    let leases = Part {
        title: "Leases",
        columns: &["lease", "target", "profile", "login", "state", "proof"],
        rows: report.leases.iter().map(lease_row).collect(),
    };
    let secrets = Part {
        title: "Passwords of standing roles that they were given",
        columns: &["standing role", "target", "login", "read", "replaced", "proof"],
        rows: report.standing_secrets.iter().map(secret_row).collect(),
    };
    let named = report.still_named.iter().map(|one| vec![one.place.clone(), one.rule.clone()]);
    let named = Part {
        title: "Still named: take it out of the file, and apply it",
        columns: &["where", "rule"],
        rows: named.collect(),
    };
    let agreed = report.approvals_given.iter().map(|given| {
        let lease = given.lease_id.map(|id| id.to_string()).unwrap_or_default();
        let (at, state) = (instant(given.at), given.state.as_str().to_owned());
        vec![
            given.request_id.to_string(),
            given.principal.clone(),
            given.profile.clone(),
            at,
            state,
            lease,
        ]
    });
    let agreed = Part {
        title: "What they agreed to",
        columns: &["request", "asked by", "profile", "agreed", "state", "lease"],
        rows: agreed.collect(),
    };
    let made = report.tokens_made.iter().map(|token| {
        let used = token.last_used_at.map_or_else(|| "never".to_owned(), instant);
        vec![token.id.to_string(), token.principal.clone(), token.name.clone(), used]
    });
    let made = Part {
        title: "Tokens that they made for others, and have seen: replace them",
        columns: &["token", "whose", "for", "last used"],
        rows: made.collect(),
    };
    let all = [pending, leases, secrets, agreed, named, made];
    all.into_iter().filter(|part| !part.rows.is_empty()).collect()
}

fn pending_row(target: &PendingTarget) -> Vec<String> {
    let why = if target.why.is_empty() {
        "nothing: it is being done".to_owned()
    } else {
        target.why.join("; ")
    };
    vec![target.target.clone(), target.logins.to_string(), why]
}

fn lease_row(lease: &Lease) -> Vec<String> {
    let proof = match (&lease.proof, &lease.blocked_by) {
        (Some(proof), _) => output::proof(proof),
        (None, Some(why)) => format!("pending: {why}"),
        (None, None) => "pending".to_owned(),
    };
    vec![
        lease.id.to_string(),
        lease.target.clone(),
        lease.profile.clone(),
        lease.role.clone().unwrap_or_default(),
        leases::state(lease),
        proof,
    ]
}

fn secret_row(secret: &StandingSecret) -> Vec<String> {
    let proof = match (&secret.proof, &secret.blocked_by) {
        (Some(proof), _) => output::proof(proof),
        (None, Some(why)) => format!("pending: {why}"),
        (None, None) => "pending".to_owned(),
    };
    vec![
        secret.standing_role.clone(),
        secret.target.clone(),
        secret.role.clone().unwrap_or_default(),
        instant(secret.read_at),
        if secret.replaced { "yes" } else { "not yet" }.to_owned(),
        proof,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_somebody_else_stays_one_cell_and_no_markup() {
        let hostile = "a|b\n# c <img src=x> [d](e) `f` \u{1b}[31m";
        let safe = cell(hostile);
        assert!(!safe.contains('\n') && !safe.contains('\u{1b}'), "{safe}");
        for letter in ["|", "#", "<", ">", "[", "]", "`"] {
            let escaped = format!("\\{letter}");
            assert_eq!(safe.matches(letter).count(), safe.matches(&escaped).count(), "{safe}");
        }
    }
}
