//! Which account at Slack is whose: a person who is signed in here says "it is mine". To open the page does nothing;
//! the account that is linked is named on it, because a link that somebody else sent would link theirs.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use maud::{Markup, html};
use serde::Deserialize;

use crate::{
    app::App,
    domain::slack::ISSUER,
    http::{
        pages::{
            form::Sent,
            layout::{facts, page, text},
            visitor::{Anybody, Visitor},
        },
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http::pages) fn routes() -> Router<Arc<App>> {
    Router::new().route("/slack/link", get(show).post(link))
}

/// What a link has in it.
#[derive(Debug, Deserialize)]
struct Code {
    #[serde(default)]
    code: String,
}

async fn show(
    State(app): State<Arc<App>>,
    Anybody(visitor): Anybody,
    Query(Code { code }): Query<Code>,
) -> Result<Response, Failure> {
    let Some(visitor) = visitor else {
        // Only the letters of our own codes are carried along.
        let code: String =
            code.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
        let address = format!("/sign-in?next=/slack/link%3Fcode%3D{code}");
        let body = html! {
            p { "Sign in as yourself first: then you are asked whether an account at Slack is yours." }
            p { a.button href=(address) { "Sign in" } }
        };
        return Ok(page("Link your Slack account", None, &body));
    };
    let link = app.slack_link(&code).await?;
    let account = html! { "@" (link.user_name) ", " code { (link.subject) } };
    let workspace = link.issuer.strip_prefix(ISSUER).unwrap_or(&link.issuer);
    let body = html! {
        (facts(&[
            ("Slack account", Some(account)),
            ("Workspace", Some(html! { code { (workspace) } })),
            ("Will be", text(&visitor.caller.principal().to_string())),
        ]))
        p {
            "Whoever uses this Slack account will be able to ask for access as you, and to agree to other people's requests as you."
        }
        p { strong { "Say yes only if you wrote to pgvalet in Slack yourself just now and this is your own account." } }
        (confirm(&code, &visitor))
    };
    Ok(page("Is this Slack account yours?", Some(&visitor), &body))
}

fn confirm(code: &str, visitor: &Visitor) -> Markup {
    html! {
        form method="post" action="/slack/link" {
            (visitor.form_token)
            input type="hidden" name="code" value=(code);
            button { "Yes, it is mine" }
        }
        p { a href="/" { "No" } }
    }
}

async fn link(
    State(app): State<Arc<App>>,
    Sent { visitor, fields }: Sent,
) -> Result<Response, Failure> {
    let code = fields.text("code").unwrap_or_default();
    let linked = app.link_slack(&visitor.caller, &visitor.origin, code).await?;
    let body = html! {
        p role="status" {
            "The Slack account @" (linked.user_name) " is " strong { (visitor.caller.principal()) } " now. Go back to Slack and write your command again."
        }
        p { a href="/" { "To what you have" } }
    };
    Ok(page("Linked", Some(&visitor), &body))
}
