//! A lease: what it is for, how long it holds, and the button that gives it back.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use maud::{Markup, html};

use crate::{
    app::App,
    domain::lease::{Cause, Lease, Proof, State as LeaseState},
    http::{
        pages::{
            form::Sent,
            layout::{At, facts, instant, page, text},
            visitor::Visitor,
        },
        parameters::Path,
        problem::Failure,
    },
    ids::LeaseId,
};

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new().route("/leases/{id}", get(show).post(give_back))
}

async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path(id): Path<LeaseId>,
) -> Result<Response, Failure> {
    let lease = app.lease(&visitor.caller, id).await?;
    let title = format!("Lease of {}", lease.profile);
    Ok(page(&title, Some(&visitor), &whole(&lease, &visitor)))
}

/// Nothing but giving back can be done to a lease here, so the form says no more than that it was sent.
async fn give_back(
    State(app): State<Arc<App>>,
    Path(id): Path<LeaseId>,
    Sent { visitor, .. }: Sent,
) -> Result<Response, Failure> {
    app.revoke(&visitor.caller, &visitor.origin, id).await?;
    Ok(Redirect::to(&address(id)).into_response())
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
        @if may_end(lease) { (giving_back(lease, visitor, &title)) }
    }
}

fn whole(lease: &Lease, visitor: &Visitor) -> Markup {
    let is_own = lease.principal_id == visitor.caller.principal().id;
    html! {
        p role="status" { (state(lease)) }
        @if let Some(blocked_by) = &lease.blocked_by {
            p { "Its removal is held up, and is tried again: " (blocked_by) }
        }
        @if may_end(lease) { (giving_back(lease, visitor, "content")) }
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

fn giving_back(lease: &Lease, visitor: &Visitor, described_by: &str) -> Markup {
    html! {
        form method="post" action=(address(lease.id)) {
            (visitor.form_token)
            button aria-describedby=(described_by) { "Give back" }
        }
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
