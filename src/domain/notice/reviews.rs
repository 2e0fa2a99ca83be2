//! The words for what happens to access reviews.

use crate::domain::{
    audit::ReviewEvent,
    notice::{
        LONGEST_FACT, Severity, Topic,
        events::{Words, instant},
        line,
    },
    review::OnDue,
};

/// What is to be told of an event, if anything. Each item that is decided stands in the audit, and in the review.
pub(in crate::domain::notice) fn of_review(event: &ReviewEvent, by: &str) -> Option<Words> {
    let (id, severity, title, text) = match event {
        ReviewEvent::Opened { review_id, principal, items, due_at, .. } => {
            let of = principal.as_deref().unwrap_or("everybody");
            let title = format!("An access review of {of} is open: {items} items");
            let until = instant(*due_at);
            let text = format!("To decide, until {until}: pgvalet review walk {review_id}");
            (review_id, Severity::Info, title, text)
        }
        ReviewEvent::Extended { review_id, principal, items, .. } => {
            let title = format!("An access review of {principal} has {items} items more");
            let text = format!("To decide: pgvalet review walk {review_id}");
            (review_id, Severity::Info, title, text)
        }
        ReviewEvent::DueSoon { review_id, due_at, undecided, on_due } => {
            let then = match on_due {
                OnDue::Escalate => "is told again, louder",
                OnDue::Remove => "is taken away",
            };
            let until = instant(*due_at);
            let title = format!("An access review is due at {until}: {undecided} items wait");
            let text = format!(
                "What nobody decides by then {then}. To decide: pgvalet review walk {review_id}"
            );
            (review_id, Severity::Warning, title, text)
        }
        ReviewEvent::Escalated { review_id, undecided } => {
            let title = format!("An access review is overdue: {undecided} items wait");
            let text = format!("To see them: pgvalet review items {review_id} --undecided");
            (review_id, Severity::Critical, title, text)
        }
        ReviewEvent::LapsedItemsRemoved { review_id, removed } => {
            let title = format!("Access was removed that nobody reviewed in time: {removed} items");
            let text = format!("To see them: pgvalet review items {review_id}");
            (review_id, Severity::Warning, title, text)
        }
        ReviewEvent::SignedOff { review_id, comment, .. } => {
            let title = format!("An access review was signed off by {by}");
            let text = comment.as_deref().map_or(String::new(), |it| line(it, LONGEST_FACT));
            (review_id, Severity::Info, title, text)
        }
        ReviewEvent::Decided { .. } | ReviewEvent::Restored { .. } => return None,
    };
    let (topic, subject) = (Topic::Reviews, format!("review:{id}"));
    Some(Words { topic, severity, subject, title, text, path: None })
}
