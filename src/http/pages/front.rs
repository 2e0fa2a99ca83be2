//! The front page: what somebody has, what waits for them, and what they may ask for.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use maud::{Markup, html};

use crate::{
    app::{App, LeaseFilter, requests::Wished},
    domain::{
        lease::{Lease, State as LeaseState},
        profile::Profile,
        request::Request,
    },
    http::{
        pages::{
            layout::{At, page},
            leases, requests,
            visitor::{Anybody, Visitor},
        },
        problem::Failure,
    },
};

/// Leases shown at most: a page is read by a person.
const MOST_LEASES: i64 = 50;

/// The newest of each kind: the API and `pgvalet requests` list all.
const MOST_REQUESTS: i64 = 20;

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(front))
}

async fn front(
    State(app): State<Arc<App>>,
    Anybody(visitor): Anybody,
) -> Result<Response, Failure> {
    match visitor {
        Some(visitor) => signed_in(&app, &visitor).await,
        None if app.has_provider() => Ok(page("pgvalet", None, &welcome())),
        None => Ok(Redirect::temporary("/docs/").into_response()),
    }
}

fn welcome() -> Markup {
    html! {
        p {
            "Valet keys for PostgreSQL: logins that are yours, for what you may see, and that end by themselves."
        }
        p { a.button href="/sign-in" { "Sign in" } }
    }
}

async fn signed_in(app: &App, visitor: &Visitor) -> Result<Response, Failure> {
    let caller = &visitor.caller;
    let filter = LeaseFilter {
        principal_id: Some(caller.principal().id),
        states: Some(vec![LeaseState::Provisioning, LeaseState::Active, LeaseState::Revoking]),
        ..LeaseFilter::default()
    };
    let leases = app.leases(caller, filter, None, MOST_LEASES).await?;
    let to_decide = Wished { to_decide: true, ..Wished::default() };
    let to_decide = app.requests(caller, &to_decide, None, MOST_REQUESTS).await?;
    let own = Wished { own: true, ..Wished::default() };
    let own = app.requests(caller, &own, None, MOST_REQUESTS).await?;
    let mut profiles = app.profiles(caller).await?;
    profiles
        .retain(|profile| profile.spec.allow.iter().any(|rule| rule.matches(caller.principal())));
    let body = html! {
        (whoever(visitor))
        @if !to_decide.is_empty() {
            (listed("decide", "What waits for your decision", &to_decide, visitor))
        }
        (live(&leases, visitor))
        @if !own.is_empty() { (listed("requests", "Your requests", &own, visitor)) }
        (to_ask_for(&profiles))
    };
    Ok(page("Your access", Some(visitor), &body))
}

fn whoever(visitor: &Visitor) -> Markup {
    let principal = visitor.caller.principal();
    let groups: Vec<String> = principal.groups.iter().map(ToString::to_string).collect();
    html! {
        p {
            "You are " strong { (principal) }
            @if !groups.is_empty() { ", in " (groups.join(", ")) }
            "."
            @if let Some(ends_at) = visitor.caller.proof_ends_at() {
                " Your session ends at " (At(ends_at)) " at the latest."
            }
        }
    }
}

fn live(leases: &[Lease], visitor: &Visitor) -> Markup {
    html! {
        section aria-labelledby="leases" {
            h2 #leases { "Your live leases" }
            @if leases.is_empty() {
                p { "You have no live leases." }
            } @else {
                ul.items {
                    @for lease in leases { li { (leases::in_short(lease, visitor)) } }
                }
            }
        }
    }
}

fn listed(id: &str, title: &str, requests: &[Request], visitor: &Visitor) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 #(id) { (title) }
            ul.items {
                @for request in requests { li { (requests::in_short(request, visitor)) } }
            }
        }
    }
}

fn to_ask_for(profiles: &[Profile]) -> Markup {
    html! {
        section aria-labelledby="profiles" {
            h2 #profiles { "What you may ask for" }
            @if profiles.is_empty() {
                p {
                    "No profile names you, or a group that you are in. Who keeps the profiles can change that: "
                    code { "access.allow" } " in a profile's file."
                }
            } @else {
                ul.items {
                    @for Profile { spec, .. } in profiles {
                        li {
                            h3 { a href={ "/ask/" (spec.name) } { (spec.name) } }
                            p {
                                @if spec.description.is_empty() {
                                    "Database " code { (spec.database) } " on " (spec.target)
                                } @else { (spec.description) }
                                @if spec.conditions.approval.is_some() { span.hint { " (others must agree)" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
