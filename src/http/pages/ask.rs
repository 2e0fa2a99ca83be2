//! Asking for access: what a profile permits in plain sentences, and the form.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use maud::{Markup, html};
use uuid::Uuid;

use crate::{
    api::problem::ProblemFault,
    app::{App, requests::Outcome},
    domain::{
        access::{Asked, Wish},
        name::Name,
        profile::{ProfileSpec, Reason},
        rights::sentence,
    },
    http::{
        pages::{
            credential,
            failure::refused,
            form::{Fields, NOTHING, Sent},
            layout::{LENGTH, facts, page, text},
            requests,
            visitor::Visitor,
        },
        parameters::Path,
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new().route("/ask/{profile}", get(show).post(ask))
}

/// The tool of somebody who does not say which: the first that this page shows how to use.
const TOOL: &str = "psql";

async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path(name): Path<Name>,
) -> Result<Response, Failure> {
    let profile = app.profile(&visitor.caller, &name).await?;
    let title = title(&name);
    Ok(page(&title, Some(&visitor), &form(&profile.spec, &visitor, &NOTHING)))
}

async fn ask(
    State(app): State<Arc<App>>,
    Path(name): Path<Name>,
    sent: Sent,
) -> Result<Response, Failure> {
    let failure = match answered(&app, &name, &sent).await {
        Ok(response) => return Ok(response),
        Err(failure) => failure,
    };
    let Sent { visitor, fields } = sent;
    let Ok(profile) = app.profile(&visitor.caller, &name).await else { return Err(failure) };
    let form = form(&profile.spec, &visitor, &fields);
    Ok(refused(failure, (&title(&name), &form), &visitor))
}

async fn answered(
    app: &App,
    name: &Name,
    Sent { visitor, fields }: &Sent,
) -> Result<Response, Failure> {
    let asked = wish(name, fields)?;
    // The same form sent twice, as a reload does, makes one lease.
    let key = fields.text("once");
    Ok(match app.ask(&visitor.caller, &visitor.origin, asked, key).await? {
        Outcome::Issued(answer) => credential::handed_out(*answer, visitor),
        Outcome::Waits(request) => Redirect::to(&requests::address(request.id)).into_response(),
    })
}

fn title(profile: &Name) -> String {
    format!("Ask for {profile}")
}

fn wish(profile: &Name, fields: &Fields) -> Result<Asked, Failure> {
    let wish = Wish {
        profile: profile.as_str(),
        ttl: fields.text("ttl"),
        tool: Some(fields.text("tool").unwrap_or(TOOL)),
        reason: fields.lines("reason"),
        ticket: fields.text("ticket").map(str::to_owned),
        start_at: None,
    };
    Asked::check(wish)
        .map_err(|faults| Failure::invalid(faults.into_iter().map(ProblemFault::from).collect()))
}

/// What a profile is, for somebody who thinks about asking for it or about saying yes.
pub(in crate::http::pages) fn what_it_permits(spec: &ProfileSpec) -> Markup {
    html! {
        @if !spec.description.is_empty() { p { (spec.description) } }
        ul { @for one in sentence::permits(spec) { li { (one) } } }
    }
}

fn form(spec: &ProfileSpec, visitor: &Visitor, fields: &Fields) -> Markup {
    let needs_reason = spec.reason == Reason::Required;
    let needs_ticket = spec.conditions.ticket == Reason::Required;
    let approval = spec.conditions.approval.as_ref();
    html! {
        section aria-labelledby="permits" {
            h2 #permits { "What it permits" }
            (what_it_permits(spec))
        }
        (facts(&[
            ("Database", Some(html! { code { (spec.database) } " on " (spec.target) })),
            ("Usual length", text(&spec.ttl.to_string())),
            ("Longest", text(&spec.max_ttl.to_string())),
            ("Must agree", approval.and_then(|needs| text(&needs.in_words()))),
        ]))
        form.fields method="post" {
            (visitor.form_token)
            input type="hidden" name="once" value=(Uuid::now_v7());
            label for="ttl" { "For how long" }
            input #ttl name="ttl" value=(fields.again("ttl", &spec.ttl.to_string())) pattern=(LENGTH.0) title=(LENGTH.1) required autocomplete="off" aria-describedby="ttl-hint";
            p.hint #ttl-hint { "Such as 15m or 1h 30m; at most " (spec.max_ttl) "." }
            label for="reason" { "Why" @if !needs_reason { " (may be left out)" } }
            textarea #reason name="reason" rows="2" maxlength="1000" required[needs_reason] { (fields.again("reason", "")) }
            label for="ticket" { "Ticket" @if !needs_ticket { " (may be left out)" } }
            input #ticket name="ticket" value=(fields.again("ticket", "")) maxlength="200" autocomplete="off" required[needs_ticket];
            label for="tool" { "Tool" }
            input #tool name="tool" value=(fields.again("tool", TOOL)) required autocomplete="off" autocapitalize="none" aria-describedby="tool-hint";
            p.hint #tool-hint { "What will use the login. Its name becomes a part of the login's." }
            button { "Ask" }
        }
    }
}
