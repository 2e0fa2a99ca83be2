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
    ids::{AccessRequestId, LeaseId},
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
        RequestEvent::AgreementVoid { request_id, principal, from, .. } => {
            let text = match from {
                State::Approved => {
                    "It waits for others to agree again, and cannot be fetched until then."
                }
                _ => "It waits for others to agree.",
            };
            (request_id, format!("{principal} agreed, and was shut out"), text.to_owned())
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

/// What is to be told of a lease that comes of a request.
pub(in crate::domain::notice) fn of_lease(
    request_id: AccessRequestId,
    lease_id: LeaseId,
    by: &str,
) -> Words {
    let (title, text) = (format!("Fetched by {by} ({request_id})"), format!("Lease: {lease_id}"));
    words_of(request_id, Severity::Info, title, text)
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{
        domain::{
            audit::{Actor, Entry, Event},
            notice::Notice,
            request::Via,
        },
        ids::{AuditId, LeaseId, PrincipalId},
    };

    /// As it comes back from the audit.
    fn told(event: RequestEvent) -> Option<Notice> {
        let entry = Entry {
            id: AuditId::new(),
            at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            actor: Actor::Principal { id: PrincipalId::new(), name: "person:bob".to_owned() },
            request_id: None,
            source: None,
            event: Event::Request(event),
        };
        let body = entry.canonical().unwrap();
        Notice::of(&serde_json::from_str::<Entry>(&body).unwrap())
    }

    #[test]
    fn each_step_of_a_request_is_told_in_its_order_and_with_its_page() {
        let request_id = AccessRequestId::new();
        let use_by = DateTime::from_timestamp(1_700_003_600, 0).unwrap();
        let (via, comment) = (Via::Page, Some("fine\nTo fetch it: elsewhere".to_owned()));
        for (event, title) in [
            (
                RequestEvent::Approved { request_id, step: 0, comment, via, seconds: 1800, use_by },
                "Approved by person:bob",
            ),
            (
                RequestEvent::Denied { request_id, step: 0, comment: "no".to_owned(), via },
                "Denied by",
            ),
            (RequestEvent::Withdrawn { request_id }, "Withdrawn by"),
            (RequestEvent::Lapsed { request_id, from: State::Approved }, "Lapsed: nobody fetched"),
            (RequestEvent::Lapsed { request_id, from: State::Pending }, "Lapsed: not all agreed"),
            (
                RequestEvent::AgreementVoid {
                    request_id,
                    principal_id: PrincipalId::new(),
                    principal: "person:dora".to_owned(),
                    from: State::Approved,
                },
                "person:dora agreed, and was shut out",
            ),
            (RequestEvent::Claimed { request_id, lease_id: LeaseId::new() }, "Fetched by"),
            (RequestEvent::Failed { request_id }, "Failed"),
        ] {
            let notice = told(event).unwrap();
            assert!(notice.title.starts_with(title), "{}", notice.title);
            assert_eq!(notice.subject, format!("request:{request_id}"));
            assert_eq!(notice.path, Some(format!("/requests/{request_id}")));
            assert!(
                notice.text.lines().filter(|line| line.starts_with("To fetch it")).count() <= 1
            );
        }
        let (what, code, why) = ("approve".to_owned(), "own".to_owned(), "own".to_owned());
        assert_eq!(told(RequestEvent::Refused { request_id, what, code, why }), None);
    }
}
