//! Fetching what others agreed to. To open the page uses nothing up: whoever looks at links in advance may open
//! it. The button on it makes the login and shows it, once.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use maud::{Markup, html};

use crate::{
    app::{App, error::Error, requests::Claimed},
    domain::{
        policy::Wanted,
        request::{Request, State as RequestState},
    },
    http::{
        pages::{
            credential,
            form::Sent,
            layout::page,
            requests::{address, is_own, state},
            visitor::Visitor,
        },
        parameters::Path,
        problem::Failure,
    },
    ids::AccessRequestId,
};

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new().route("/requests/{id}/claim", get(show).post(claim))
}

async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path(id): Path<AccessRequestId>,
) -> Result<Response, Failure> {
    let request = app.request(&visitor.caller, id).await?;
    if let Some(page) = fetched_before(&app, &visitor, &request).await? {
        return Ok(page);
    }
    Ok(page("Fetch the login", Some(&visitor), &button(&request, &visitor)))
}

async fn claim(
    State(app): State<Arc<App>>,
    Path(id): Path<AccessRequestId>,
    Sent { visitor, .. }: Sent,
) -> Result<Response, Failure> {
    let request = app.request(&visitor.caller, id).await?;
    // Sent again, as a reload does.
    if let Some(page) = fetched_before(&app, &visitor, &request).await? {
        return Ok(page);
    }
    let Visitor { caller, origin, .. } = &visitor;
    Ok(match Box::pin(app.claim(caller, origin, id, Wanted::default())).await? {
        Claimed::Issued(answer) => credential::handed_out(*answer, &visitor),
        Claimed::Renewed(renewed) => {
            Redirect::to(&format!("/leases/{}", renewed.lease.id)).into_response()
        }
    })
}

/// What is said to who asked, once the login was shown.
async fn fetched_before(
    app: &App,
    visitor: &Visitor,
    request: &Request,
) -> Result<Option<Response>, Error> {
    let lease = request.lease_id.filter(|_| request.state == RequestState::Claimed);
    let Some(lease) = lease.filter(|_| is_own(request, visitor)) else { return Ok(None) };
    let lease = app.lease(&visitor.caller, lease).await?;
    Ok(Some(page("Shown already", Some(visitor), &credential::shown_already(&lease))))
}

fn button(request: &Request, visitor: &Visitor) -> Markup {
    let is_ready = request.state == RequestState::Approved;
    html! {
        p role="status" { (state(request)) }
        @if !is_own(request, visitor) {
            p { "Only " strong { (request.principal) } " may fetch it: sign in as whoever asked." }
        } @else if is_ready && request.extends.is_some() {
            p { "The lease then lasts " (request.length()) " from when you press the button." }
            (sending(request, visitor, "Make it last longer"))
        } @else if is_ready {
            p {
                "The login is made when you press the button, lasts " (request.length())
                " from then on, and is shown once: have the place ready where it goes."
            }
            (sending(request, visitor, "Make the login and show it"))
        }
        p { a href=(address(request.id)) { "To the request" } }
    }
}

fn sending(request: &Request, visitor: &Visitor, words: &str) -> Markup {
    html! {
        form method="post" action={ (address(request.id)) "/claim" } {
            (visitor.form_token)
            button { (words) }
        }
    }
}
