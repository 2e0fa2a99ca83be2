//! A request that others must agree to: who asks for what, what was said to it so far, and what who looks at it may
//! do now. The forms to decide with are in [`decision`].

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use maud::{Markup, html};

use crate::{
    app::{App, requests::Agreement},
    domain::{
        approval,
        profile::Profile,
        request::{Request, State as RequestState, Verdict, Via, Vote},
    },
    http::{
        pages::{
            ask, decision,
            failure::refused,
            form::{Fields, NOTHING, Sent},
            layout::{At, facts, instant, page, text},
            visitor::Visitor,
        },
        parameters::{Path, parse},
        problem::Failure,
    },
    ids::AccessRequestId,
};

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new().route("/requests/{id}", get(show).post(act))
}

/// Where a request is.
pub(in crate::http::pages) fn address(id: AccessRequestId) -> String {
    format!("/requests/{id}")
}

async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path(id): Path<AccessRequestId>,
) -> Result<Response, Failure> {
    let (title, body) = shown(&app, id, &visitor, &NOTHING).await?;
    Ok(page(&title, Some(&visitor), &body))
}

async fn act(
    State(app): State<Arc<App>>,
    Path(id): Path<AccessRequestId>,
    Sent { visitor, fields }: Sent,
) -> Result<Response, Failure> {
    let Err(failure) = do_as_sent(&app, id, &visitor, &fields).await else {
        return Ok(Redirect::to(&address(id)).into_response());
    };
    match shown(&app, id, &visitor, &fields).await {
        Ok((title, body)) => Ok(refused(failure, (&title, &body), &visitor)),
        Err(_) => Err(failure),
    }
}

/// The title of the page and what is in it, with what was written into a form that was refused.
async fn shown(
    app: &App,
    id: AccessRequestId,
    visitor: &Visitor,
    fields: &Fields,
) -> Result<(String, Markup), Failure> {
    let request = app.request(&visitor.caller, id).await?;
    let profile = app.profile_of_request(&request).await?;
    let title = format!("Request for {}", request.profile);
    Ok((title, whole(&request, profile.as_ref(), visitor, fields)))
}

/// What one of the forms on the page says.
async fn do_as_sent(
    app: &App,
    id: AccessRequestId,
    Visitor { caller, origin, .. }: &Visitor,
    fields: &Fields,
) -> Result<(), Failure> {
    match fields.text(decision::FIELD) {
        Some(decision::APPROVE) => {
            let agreement = agreement(fields)?;
            app.approve(caller, origin, id, agreement).await?;
        }
        Some(decision::DENY) => {
            let comment = fields.lines("comment").unwrap_or_default();
            app.deny(caller, origin, id, &comment).await?;
        }
        Some(decision::WITHDRAW) => {
            app.withdraw(caller, origin, id).await?;
        }
        _ => {
            let known = [decision::APPROVE, decision::DENY, decision::WITHDRAW].join(", ");
            return Err(Failure::fault(decision::FIELD, format!("must be one of {known}")));
        }
    }
    Ok(())
}

fn agreement(fields: &Fields) -> Result<Agreement, Failure> {
    let mut faults = Vec::new();
    let ttl = parse("ttl", fields.text("ttl"), &mut faults);
    if !faults.is_empty() {
        return Err(Failure::invalid(faults));
    }
    Ok(Agreement { ttl, comment: fields.lines("comment") })
}

/// A request in a list.
pub(in crate::http::pages) fn in_short(request: &Request, visitor: &Visitor) -> Markup {
    html! {
        h3 { a href=(address(request.id)) { (request.profile) } }
        p {
            @if !is_own(request, visitor) { (request.principal) ", for " } @else { "For " }
            (request.length()) ", asked " (At(request.created_at)) ". " (state(request))
        }
    }
}

/// Did who looks at it ask?
pub(in crate::http::pages) fn is_own(request: &Request, visitor: &Visitor) -> bool {
    request.principal_id == visitor.caller.principal().id
}

fn whole(
    request: &Request,
    profile: Option<&Profile>,
    visitor: &Visitor,
    fields: &Fields,
) -> Markup {
    html! {
        p role="status" { (state(request)) }
        @if is_own(request, visitor) { (decision::of_requester(request, visitor)) }
        (asked(request, profile))
        (said(request))
        @if !is_own(request, visitor) || request.state == RequestState::Pending {
            (decision::of_approver(request, visitor, fields))
        }
    }
}

/// What is asked for, by whom, and what it comes to.
fn asked(request: &Request, profile: Option<&Profile>) -> Markup {
    let is_shorter = request.agreed.is_some_and(|agreed| agreed < request.ttl.granted);
    html! {
        (facts(&[
            ("Who asks", text(&request.principal)),
            ("With", text(&request.tool)),
            ("For how long", Some(html! {
                (request.length())
                @if is_shorter { ", of " (request.ttl.granted) " that were asked for" }
            })),
            ("Database", Some(html! {
                code { (request.database) } " on " (request.target)
                @if !request.environment.is_empty() { ", " strong { (request.environment) } }
            })),
            ("Reason", request.reason.as_deref().and_then(text)),
            ("Ticket", request.ticket.as_deref().and_then(text)),
            ("Makes longer", request.extends.map(|lease| html! { code { (lease) } })),
            ("Wanted from", request.start_at.and_then(instant)),
            ("Asked", instant(request.created_at)),
            ("Request", Some(html! { code { (request.id) } })),
        ]))
        section aria-labelledby="permits" {
            h2 #permits { "What it permits" }
            @match profile {
                Some(profile) => {
                    (ask::what_it_permits(&profile.spec))
                    @if profile.version != request.profile_version {
                        p { "The profile was changed since: what is agreed to is what was asked for then, so it may have to be asked for again." }
                    }
                }
                None => p { "The profile was removed: nothing can come of this." },
            }
        }
    }
}

/// How it stands, as a sentence.
pub(in crate::http::pages) fn state(request: &Request) -> Markup {
    html! {
        @match request.state {
            RequestState::Pending => {
                "It waits for "
                @match approval::open_step(request) {
                    Some((_, step)) => {
                        (step.from_in_words())
                    }
                    None => "others",
                }
                ", until " (At(request.lapse_at)) "."
            }
            RequestState::Approved => {
                "It was agreed to. The login may be fetched"
                @if let Some(start) = request.start_at { " from " (At(start)) }
                @if let Some(by) = request.use_by { " until " (At(by)) }
                "."
            }
            RequestState::Denied => {
                @match request.votes.iter().find(|vote| vote.verdict == Verdict::Denied) {
                    Some(vote) => { (vote.principal) " said no." }
                    None => "Somebody said no.",
                }
            }
            RequestState::Withdrawn => "It was withdrawn.",
            RequestState::Lapsed => {
                @if request.decided_at.is_some() { "It was agreed to, and not used in time." }
                @else { "Nobody decided in time." }
            }
            RequestState::Claimed => "It was agreed to and fetched.",
            RequestState::Failed => "It was agreed to, and the login could not be made in time.",
        }
    }
}

/// What was said so far, step by step.
fn said(request: &Request) -> Markup {
    let of_step = |n: usize| {
        request
            .votes
            .iter()
            .filter(move |vote| usize::try_from(vote.step).is_ok_and(|step| step == n))
    };
    html! {
        section aria-labelledby="said" {
            h2 #said { "What was said" }
            ol.steps {
                @for (n, step) in request.needs.steps.iter().enumerate() {
                    li {
                        (step.in_words())
                        @if of_step(n).next().is_none() { ": nothing yet" }
                        @for vote in of_step(n) { p.said { (one(vote)) } }
                    }
                }
            }
        }
    }
}

fn one(vote: &Vote) -> Markup {
    let way = match vote.via {
        Via::Api => "over the API",
        Via::CommandLine => "on the command line",
        Via::Page => "on this page",
        Via::Slack => "in Slack",
    };
    html! {
        strong { (vote.principal) } @if vote.verdict == Verdict::Agreed { " agreed" } @else { " said no" }
        ", " (At(vote.at)) ", " (way)
        @if let Some(comment) = &vote.comment { ": " (comment) } @else { "." }
        @if let Some(since) = vote.void_at { " It counts no more: they were shut out " (At(since)) "." }
    }
}
