//! The words for each event that is worth telling.

use chrono::{DateTime, Utc};

use crate::domain::{
    audit::Event,
    notice::{
        LONGEST_FACT, Severity, Topic, line,
        requests::{of_lease, of_request},
        reviews::of_review,
    },
};

/// The words of one notice, before they are cut.
pub(in crate::domain::notice) struct Words {
    pub(in crate::domain::notice) topic: Topic,
    pub(in crate::domain::notice) severity: Severity,
    pub(in crate::domain::notice) subject: String,
    pub(in crate::domain::notice) title: String,
    pub(in crate::domain::notice) text: String,
    /// The page about it.
    pub(in crate::domain::notice) path: Option<String>,
}

/// What is to be told of an event, if anything.
pub(in crate::domain::notice) fn words_of(
    event: &Event,
    by: &str,
    source: Option<&str>,
) -> Option<Words> {
    if let Event::Request(event) = event {
        return of_request(event, by);
    }
    if let Event::Review(event) = event {
        return of_review(event, by);
    }
    if let Event::LeaseIntended { request_id: Some(request_id), lease_id, .. } = event {
        return Some(of_lease(*request_id, *lease_id, by));
    }
    of_access(event, by)
        .or_else(|| of_targets(event))
        .or_else(|| of_rotations(event))
        .or_else(|| of_people(event, by, source))
        .or_else(|| of_digest(event))
}

fn words(
    topic: Topic,
    severity: Severity,
    subject: String,
    title: String,
    text: impl Into<String>,
) -> Option<Words> {
    Some(Words { topic, severity, subject, title, text: text.into(), path: None })
}

/// Leases and logins.
fn of_access(event: &Event, by: &str) -> Option<Words> {
    use Severity::{Critical, Warning};
    match event {
        Event::LeaseIntended {
            break_glass: true,
            lease_id,
            profile,
            target,
            tool,
            reason,
            ticket,
            expires_at,
            ..
        } => {
            let reason = reason.as_deref().map_or(String::new(), |it| line(it, LONGEST_FACT));
            let ticket = ticket
                .as_deref()
                .map_or(String::new(), |it| format!("Ticket: {}\n", line(it, LONGEST_FACT)));
            let text = format!(
                "Reason: {reason}\n{ticket}With: {}\nUntil: {}\nTo end it: pgvalet revoke {lease_id}",
                line(tool, 100),
                instant(*expires_at)
            );
            let title = format!("Emergency access: {by} to {target}, by profile {profile}");
            words(Topic::Emergencies, Critical, format!("lease:{lease_id}"), title, text)
        }
        Event::EmergencyClosed { lease_id, verdict, comment } => words(
            Topic::Emergencies,
            Severity::Info,
            format!("lease:{lease_id}"),
            format!("Emergency access was {} says {by}", verdict.as_str()),
            line(comment, LONGEST_FACT),
        ),
        Event::LoginBlocked { lease_id, role, why, .. } => words(
            Topic::StuckRevocations,
            Warning,
            format!("lease:{lease_id}"),
            format!("A login could not be removed yet: {role}"),
            format!("Why: {}\nLease: {lease_id}\nIt is tried again.", line(why, LONGEST_FACT)),
        ),
        Event::LoginBeyondLease { lease_id, role, changes, .. } => words(
            Topic::Sweeps,
            Critical,
            format!("lease:{lease_id}"),
            format!("A login had more than its lease says, and is ended: {role}"),
            list(changes),
        ),
        Event::LoginPutBack { lease_id, role, changes, .. } => words(
            Topic::Sweeps,
            Warning,
            format!("lease:{lease_id}"),
            format!("A login was changed by hand, and was put back: {role}"),
            list(changes),
        ),
        _ => None,
    }
}

/// Targets, and what is there.
fn of_targets(event: &Event) -> Option<Words> {
    use Severity::{Critical, Info, Warning};
    match event {
        Event::OrphanQuarantined { target, role, remove_at, .. } => words(
            Topic::Sweeps,
            Warning,
            format!("target:{target}"),
            format!("Target {target} has a login that no lease is known of: {role}"),
            format!("It is shut out, and is removed at {} or later.", instant(*remove_at)),
        ),
        Event::OrphanRemoved { target, role, .. } => words(
            Topic::Sweeps,
            Info,
            format!("target:{target}"),
            format!("A login that no lease was known of is gone from target {target}: {role}"),
            "",
        ),
        Event::CautionBegan { because } => words(
            Topic::Sweeps,
            Critical,
            "caution".to_owned(),
            "Nothing is removed: the record or the clock is not believed".to_owned(),
            format!(
                "{}\nLook at: pgvalet sweep --plan\nIf all of that is right: pgvalet sweep --accept PLAN",
                line(because, LONGEST_FACT)
            ),
        ),
        Event::CautionEnded { .. } => words(
            Topic::Sweeps,
            Info,
            "caution".to_owned(),
            "The record is believed again".to_owned(),
            "",
        ),
        Event::DriftFound { profile, target, statements, .. } => words(
            Topic::Drift,
            Warning,
            format!("profile:{profile}"),
            format!("Target {target} differs from what profile {profile} says"),
            format!(
                "{} statements would mend it.\nTo see them: pgvalet drift {profile}",
                statements.len()
            ),
        ),
        Event::DriftGone { profile, target, .. } => words(
            Topic::Drift,
            Info,
            format!("profile:{profile}"),
            format!("Target {target} is as profile {profile} says again"),
            "",
        ),
        Event::TargetAdminRefused { target, .. } => words(
            Topic::Targets,
            Critical,
            format!("target:{target}"),
            format!("Target {target} refuses its administrator"),
            "No lease is issued there and none is taken away but by VALID UNTIL, until it is let in again.\n\
             Somebody changed its password, or shut the role out.",
        ),
        Event::TargetAdminAccepted { target, .. } => words(
            Topic::Targets,
            Info,
            format!("target:{target}"),
            format!("Target {target} lets its administrator in again"),
            "",
        ),
        _ => None,
    }
}

/// Rotations that are overdue.
fn of_rotations(event: &Event) -> Option<Words> {
    use Severity::Warning;
    match event {
        Event::TargetAdminOverdue { target, due_at, .. } => words(
            Topic::Rotations,
            Warning,
            format!("target:{target}"),
            format!(
                "The password of the administrator of target {target} should have been renewed"
            ),
            format!(
                "It was due at {}.\nWhy it was not: pgvalet target show {target}",
                instant(*due_at)
            ),
        ),
        Event::StandingRoleOverdue { standing_role, due_at, .. } => words(
            Topic::Rotations,
            Warning,
            format!("standing-role:{standing_role}"),
            format!("Standing role {standing_role} should have been rotated"),
            format!("It was due at {}.\nWhy it was not: pgvalet standing list", instant(*due_at)),
        ),
        _ => None,
    }
}

/// People, and who may administer.
fn of_people(event: &Event, by: &str, source: Option<&str>) -> Option<Words> {
    use Severity::{Info, Warning};
    match event {
        Event::SourceThrottled { .. } => {
            let source = source.unwrap_or("an unknown address");
            words(
                Topic::People,
                Warning,
                format!("source:{source}"),
                format!("Somebody guesses: {source} used up its failed sign-ins"),
                "To see what was tried: pgvalet audit tail --kind token.refused",
            )
        }
        Event::PersonGone { principal, answer, .. } => words(
            Topic::People,
            Info,
            format!("principal:{principal}"),
            format!("The identity provider does not vouch for {principal} any more"),
            line(answer, LONGEST_FACT),
        ),
        Event::PrincipalDisabled { principal, .. } => words(
            Topic::People,
            Info,
            format!("principal:{principal}"),
            format!("{principal} was shut out by {by}"),
            "",
        ),
        Event::OffboardingFinished { principal, .. } => words(
            Topic::People,
            Info,
            format!("principal:{principal}"),
            format!("All that {principal} had is gone, with proofs"),
            format!("The report: pgvalet offboard {principal}"),
        ),
        Event::PrincipalEnabled { principal, .. } => words(
            Topic::People,
            Info,
            format!("principal:{principal}"),
            format!("{principal} was let in again by {by}"),
            "",
        ),
        Event::AdministrationChanged { held } => {
            let rules =
                held.iter().map(|(role, rules)| format!("{}: {}", role.as_str(), rules.join(", ")));
            words(
                Topic::Administration,
                Warning,
                "administration".to_owned(),
                format!("Who holds which role in pgvalet was changed by {by}"),
                list(&rules.collect::<Vec<_>>()),
            )
        }
        Event::TokenCreated { principal, admin: true, .. } => words(
            Topic::Administration,
            Warning,
            "administration".to_owned(),
            format!("A token with an administrator's rights was made for {principal} by {by}"),
            "",
        ),
        _ => None,
    }
}

/// What still waits for somebody.
fn of_digest(event: &Event) -> Option<Words> {
    let Event::DigestMade {
        rotations_overdue,
        logins_stuck,
        notices_dead,
        emergencies_open,
        reviews_waiting,
    } = event
    else {
        return None;
    };
    let mut text = String::new();
    if *emergencies_open > 0 {
        text.push_str(&format!(
            "Emergencies that nobody else has looked at: {emergencies_open} (pgvalet emergency list)\n"
        ));
    }
    for (what, names) in [
        ("Rotations that are overdue", rotations_overdue),
        ("Logins that could not be removed", logins_stuck),
        ("Access reviews that are open", reviews_waiting),
    ] {
        if !names.is_empty() {
            text.push_str(&format!("{what}:\n{}", list(names)));
        }
    }
    if *notices_dead > 0 {
        text.push_str(&format!(
            "Notices that were given up: {notices_dead} (pgvalet notices --dead)\n"
        ));
    }
    let title = "What still waits for somebody".to_owned();
    words(Topic::Digest, Severity::Warning, "digest".to_owned(), title, text)
}

pub(in crate::domain::notice) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// Each on a line of its own.
fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {}\n", line(item, LONGEST_FACT))).collect()
}
