//! The words for what happens to requests that others must agree to.

use crate::{
    domain::{
        audit::RequestEvent,
        duration::Seconds,
        notice::{
            LONGEST_FACT, Severity, Topic,
            events::{Words, instant},
            line,
        },
        request::State,
    },
    ids::AccessRequestId,
};

/// What is to be told of an event, if anything.
pub(in crate::domain::notice) fn of_request(event: &RequestEvent, by: &str) -> Option<Words> {
    let (request_id, title, text) = match event {
        RequestEvent::Created { .. } => return asked_for(event, by),
        RequestEvent::Agreed { request_id, comment, .. } => {
            (request_id, format!("{by} agreed; more must"), said(comment.as_deref()))
        }
        RequestEvent::Approved { request_id, comment, seconds, use_by, .. } => {
            let length = length(*seconds);
            let text = format!(
                "{}For: {length}\nTo fetch it, until {}: pgvalet claim {request_id}",
                said(comment.as_deref()),
                instant(*use_by)
            );
            (request_id, format!("Approved by {by}"), text)
        }
        RequestEvent::Denied { request_id, comment, .. } => {
            (request_id, format!("Denied by {by}"), said(Some(comment)))
        }
        RequestEvent::Withdrawn { request_id } => {
            (request_id, format!("Withdrawn by {by}"), String::new())
        }
        RequestEvent::Lapsed { request_id, from: State::Approved } => {
            (request_id, "Lapsed: nobody fetched it".to_owned(), String::new())
        }
        RequestEvent::Lapsed { request_id, .. } => {
            (request_id, "Lapsed: not all agreed in time".to_owned(), String::new())
        }
        RequestEvent::Claimed { request_id, lease_id } => {
            (request_id, format!("Fetched by {by}"), format!("Lease: {lease_id}"))
        }
        RequestEvent::Failed { request_id } => {
            let text = "Others agreed, and the lease could not be made until its time was over.";
            (request_id, "Failed".to_owned(), text.to_owned())
        }
        // Somebody tried what they may not: it is theirs to know, and in the audit.
        RequestEvent::Refused { .. } => return None,
    };
    let title = format!("{title} ({request_id})");
    Some(words_of(*request_id, Severity::Info, title, text))
}

fn asked_for(event: &RequestEvent, by: &str) -> Option<Words> {
    let RequestEvent::Created {
        request_id,
        profile,
        target,
        database,
        tool,
        reason,
        ticket,
        ttl,
        needs,
        extends,
        start_at,
        lapse_at,
        ..
    } = event
    else {
        return None;
    };
    let fact = |name: &str, value: Option<String>| {
        value.map_or(String::new(), |value| format!("{name}: {}\n", line(&value, LONGEST_FACT)))
    };
    let text = [
        fact("Profile", Some(profile.clone())),
        fact("Database", Some(format!("{database} on target {target}"))),
        fact("For", Some(ttl.granted.to_string())),
        fact("With", Some(tool.clone())),
        fact("Reason", reason.clone()),
        fact("Ticket", ticket.clone()),
        fact("Makes a lease last longer", extends.map(|lease| lease.to_string())),
        fact("From", start_at.map(instant)),
        fact("Must agree", Some(needs.clone())),
        fact("Lapses", Some(instant(*lapse_at))),
        format!("To decide: pgvalet approve {request_id}, pgvalet deny {request_id}\n"),
    ];
    let title = format!("{by} asks for profile {profile} on target {target}");
    Some(words_of(*request_id, Severity::Warning, title, text.concat()))
}

fn words_of(request_id: AccessRequestId, severity: Severity, title: String, text: String) -> Words {
    Words {
        topic: Topic::Requests,
        severity,
        subject: format!("request:{request_id}"),
        title,
        text,
        path: Some(format!("/requests/{request_id}")),
    }
}

fn said(comment: Option<&str>) -> String {
    comment.map_or(String::new(), |comment| format!("Comment: {}\n", line(comment, LONGEST_FACT)))
}

fn length(seconds: i64) -> String {
    Seconds::new(seconds).map_or_else(|_| format!("{seconds} s"), |length| length.to_string())
}
