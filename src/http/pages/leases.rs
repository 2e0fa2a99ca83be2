//! A lease: what it is for, how long it holds, the form that makes it last longer, and the button that gives it back.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use maud::{Markup, html};

use crate::{
    app::{App, renew::Renewal},
    domain::lease::{Cause, Lease, Proof, State as LeaseState},
    http::{
        pages::{
            decision::FIELD,
            failure::refused,
            form::{Fields, NOTHING, Sent},
            layout::{At, LENGTH, facts, instant, page, text},
            requests,
            visitor::Visitor,
        },
        parameters::{Path, parse},
        problem::Failure,
    },
    ids::LeaseId,
};

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new().route("/leases/{id}", get(show).post(act))
}

/// What a form is to do, in [`decision::FIELD`](FIELD): make it last longer.
const RENEW: &str = "renew";
/// Give it back.
const GIVE_BACK: &str = "give-back";

async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path(id): Path<LeaseId>,
) -> Result<Response, Failure> {
    let lease = app.lease(&visitor.caller, id).await?;
    Ok(page(&title(&lease), Some(&visitor), &whole(&lease, &visitor, &NOTHING)))
}

async fn act(
    State(app): State<Arc<App>>,
    Path(id): Path<LeaseId>,
    Sent { visitor, fields }: Sent,
) -> Result<Response, Failure> {
    let failure = match do_as_sent(&app, id, &visitor, &fields).await {
        Ok(next) => return Ok(Redirect::to(&next).into_response()),
        Err(failure) => failure,
    };
    let Ok(lease) = app.lease(&visitor.caller, id).await else { return Err(failure) };
    Ok(refused(failure, (&title(&lease), &whole(&lease, &visitor, &fields)), &visitor))
}

/// Does what one of the forms on the page says; gives where that is to be seen.
async fn do_as_sent(
    app: &App,
    id: LeaseId,
    Visitor { caller, origin, .. }: &Visitor,
    fields: &Fields,
) -> Result<String, Failure> {
    match fields.text(FIELD) {
        Some(RENEW) => {
            let mut faults = Vec::new();
            let ttl = parse("ttl", fields.text("ttl"), &mut faults);
            if !faults.is_empty() {
                return Err(Failure::invalid(faults));
            }
            if let Renewal::Waits(request) = app.renew(caller, origin, id, ttl).await? {
                return Ok(requests::address(request.id));
            }
        }
        Some(GIVE_BACK) => {
            app.revoke(caller, origin, id).await?;
        }
        _ => {
            let known = [RENEW, GIVE_BACK].join(", ");
            return Err(Failure::fault(FIELD, format!("must be one of {known}")));
        }
    }
    Ok(address(id))
}

fn title(lease: &Lease) -> String {
    format!("Lease of {}", lease.profile)
}

fn address(id: LeaseId) -> String {
    format!("/leases/{id}")
}

/// A lease in a list.
pub(in crate::http::pages) fn in_short(lease: &Lease, visitor: &Visitor) -> Markup {
    let title = format!("lease-{}", lease.id.uuid().simple());
    html! {
        h3 id=(title) { a href=(address(lease.id)) { (lease.profile) } }
        p {
            "Database " code { (lease.database) } " on " (lease.target) ", for " (lease.tool) ". "
            (state(lease))
        }
        @if may_end(lease) {
            form method="post" action=(address(lease.id)) {
                (visitor.form_token)
                @if may_last_longer(lease) {
                    button name=(FIELD) value=(RENEW) aria-describedby=(title) { "Renew" }
                    " "
                }
                (give_back(&title))
            }
        }
    }
}

fn whole(lease: &Lease, visitor: &Visitor, fields: &Fields) -> Markup {
    let is_own = lease.principal_id == visitor.caller.principal().id;
    html! {
        p role="status" { (state(lease)) }
        @if let Some(blocked_by) = &lease.blocked_by {
            p { "Its removal is held up, and is tried again: " (blocked_by) }
        }
        @if is_own && may_last_longer(lease) { (renewing(lease, visitor, fields)) }
        @if may_end(lease) {
            form method="post" action=(address(lease.id)) {
                (visitor.form_token)
                (give_back("content"))
            }
        }
        (facts(&[
            ("Whose", text(&lease.principal)),
            ("Database", Some(html! { code { (lease.database) } " on " (lease.target) })),
            ("Tool", text(&lease.tool)),
            ("Reason", lease.reason.as_deref().and_then(text)),
            ("Ticket", lease.ticket.as_deref().and_then(text)),
            ("Login", lease.role_name.as_ref().map(|role| html! { code { (role) } })),
            ("Works as", Some(html! { code { (lease.group_role) } })),
            ("Since", instant(lease.created_at)),
            ("Ends", instant(lease.expires_at)),
            ("Gone", lease.ended_at.and_then(instant)),
            ("Lease", Some(html! { code { (lease.id) } })),
        ]))
        @if let Some(proof) = &lease.proof { (proven(proof)) }
        @else if is_own && lease.state == LeaseState::Active {
            p {
                "The password was shown once. If it is lost, " code { "pgvalet rotate " (lease.id) }
                " gives a fresh one."
            }
        }
    }
}

/// How it stands, as a sentence.
fn state(lease: &Lease) -> Markup {
    let why = match lease.cause {
        Some(Cause::Expired) => "its time was over",
        Some(Cause::Revoked) => "it was given back or revoked",
        Some(Cause::Failed) => "it was never finished",
        Some(Cause::Lost) => "its login vanished from the database",
        Some(Cause::Rotated) | None => "it ended",
    };
    html! {
        @match lease.state {
            LeaseState::Provisioning => "It is being made.",
            LeaseState::Active => { "It is live, until " (At(lease.expires_at)) "." }
            LeaseState::Revoking => { "It is being removed: " (why) "." }
            LeaseState::Revoked => { "It is gone: " (why) "." }
        }
    }
}

fn may_end(lease: &Lease) -> bool {
    matches!(lease.state, LeaseState::Provisioning | LeaseState::Active)
}

fn may_last_longer(lease: &Lease) -> bool {
    lease.state == LeaseState::Active && lease.expires_at < lease.max_expires_at
}

fn renewing(lease: &Lease, visitor: &Visitor, fields: &Fields) -> Markup {
    html! {
        form.fields method="post" action=(address(lease.id)) {
            (visitor.form_token)
            label for="ttl" { "How much longer (may be left out)" }
            input #ttl name="ttl" value=(fields.again("ttl", "")) pattern=(LENGTH.0) title=(LENGTH.1) autocomplete="off" aria-describedby="ttl-hint";
            p.hint #ttl-hint {
                "From now, such as 1h; left out, as long as its profile gives. At the latest it ends at " (At(lease.max_expires_at)) "."
            }
            button.second name=(FIELD) value=(RENEW) { "Renew" }
        }
    }
}

fn give_back(described_by: &str) -> Markup {
    html! {
        button name=(FIELD) value=(GIVE_BACK) aria-describedby=(described_by) { "Give back" }
    }
}

fn proven(proof: &Proof) -> Markup {
    html! {
        section aria-labelledby="proof" {
            h2 #proof { "What was seen when it was gone" }
            (facts(&[
                ("Login", Some(html! {
                    code { (proof.role) } @if proof.role_absent { " is not there any more" } @else { " was there" }
                })),
                ("Sessions ended", Some(html! { (proof.sessions_ended) })),
                ("Sessions left", Some(html! { (proof.sessions_left) })),
                ("Seen", instant(proof.seen_at)),
            ]))
            @if !proof.left.is_empty() {
                p { "Left of it, to be looked after:" }
                ul { @for left in &proof.left { li { (left) } } }
            }
        }
    }
}
