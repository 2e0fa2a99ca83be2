//! What somebody may do about a request, as forms; and why not, where they may not. What is offered here is only
//! help: the decision is made again when a form is sent ([`crate::domain::approval`]).

use maud::{Markup, html};

use crate::{
    app::error::Error,
    domain::{
        approval::{self, NotTheirs},
        request::{Request, State as RequestState},
    },
    http::pages::{
        form::{Fields, NOTHING},
        layout::LENGTH,
        requests::address,
        visitor::Visitor,
    },
};

/// The field that says what is to be done, and what it says.
pub(in crate::http::pages) const FIELD: &str = "do";
/// Agree.
pub(in crate::http::pages) const APPROVE: &str = "approve";
/// Say no.
pub(in crate::http::pages) const DENY: &str = "deny";
/// Take it back.
pub(in crate::http::pages) const WITHDRAW: &str = "withdraw";

/// For whom the request waits: the two answers, or why they cannot give any.
pub(in crate::http::pages) fn of_approver(
    request: &Request,
    visitor: &Visitor,
    fields: &Fields,
) -> Markup {
    let sent_to = |what| if fields.text(FIELD) == Some(what) { fields } else { &NOTHING };
    let may = approval::may_decide(request, visitor.caller.as_decider());
    html! {
        @match may {
            Ok(_) => section aria-labelledby="decision" {
                h2 #decision { "Your decision" }
                div.decide { (approving(request, visitor, sent_to(APPROVE))) (denying(request, visitor, sent_to(DENY))) }
            },
            // That it is over is said already, and so is what they said themselves.
            Err(NotTheirs::Over | NotTheirs::SaidAlready) => {},
            Err(why) => p.hint {
                "You cannot decide: " (Error::NotTheirsToDecide { why, state: request.state }.detail()) "."
            },
        }
    }
}

fn approving(request: &Request, visitor: &Visitor, fields: &Fields) -> Markup {
    html! {
        form.fields method="post" action=(address(request.id)) {
            (visitor.form_token)
            label for="ttl" { "For how long" }
            input #ttl name="ttl" value=(fields.again("ttl", &request.length().to_string())) pattern=(LENGTH.0) title=(LENGTH.1) required autocomplete="off" aria-describedby="ttl-hint";
            p.hint #ttl-hint { "Less than was asked for, if that will do." }
            label for="approve-comment" { "Comment (may be left out)" }
            textarea #approve-comment name="comment" rows="2" maxlength="1000" { (fields.again("comment", "")) }
            button name=(FIELD) value=(APPROVE) { "Approve" }
        }
    }
}

fn denying(request: &Request, visitor: &Visitor, fields: &Fields) -> Markup {
    html! {
        form.fields method="post" action=(address(request.id)) {
            (visitor.form_token)
            label for="deny-comment" { "Why not" }
            textarea #deny-comment name="comment" rows="2" maxlength="1000" required aria-describedby="deny-hint" { (fields.again("comment", "")) }
            p.hint #deny-hint { "Whoever asked reads it, and what to do instead." }
            button.danger name=(FIELD) value=(DENY) { "Deny" }
        }
    }
}

/// For who asked: fetch what was agreed to, or take it back.
pub(in crate::http::pages) fn of_requester(request: &Request, visitor: &Visitor) -> Markup {
    html! {
        @if request.state == RequestState::Approved {
            p { a.button href={ (address(request.id)) "/claim" } { "Fetch the login" } }
        }
        @if let Some(lease) = request.lease_id.filter(|_| request.state == RequestState::Claimed) {
            p { a.button href={ "/leases/" (lease) } { "To the lease" } }
        }
        @if request.state.is_open() {
            form method="post" action=(address(request.id)) {
                (visitor.form_token)
                button.second name=(FIELD) value=(WITHDRAW) { "Withdraw" }
            }
        }
        @if matches!(request.state, RequestState::Denied | RequestState::Lapsed | RequestState::Failed) {
            p { a.button.second href={ "/ask/" (request.profile) } { "Ask again" } }
        }
    }
}
