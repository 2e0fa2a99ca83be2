//! Pages for a browser: what a link must open. No script: what a page does is a link or a form, and what it may
//! load is its own style and icon. Texts pass through `maud`, which escapes each by itself.
//!
//! A page that is opened changes nothing, so that whoever looks at a link in advance (a chat, a scanner of mail)
//! uses nothing up. What changes something is sent by a form of ours: [`form`] says how that is known.

mod ask;
mod claim;
mod credential;
mod decision;
mod failure;
pub(in crate::http) mod form;
mod front;
pub(in crate::http) mod layout;
mod leases;
mod requests;
mod sign_in;
mod slack;
pub(in crate::http) mod visitor;

use std::sync::Arc;

use axum::{Router, http::header, middleware, response::IntoResponse, routing::get};

pub(in crate::http) use crate::http::pages::failure::{SaysItself, failed};
use crate::{
    app::App,
    http::pages::layout::{ICON, Page, STYLE},
};

/// The routes of pages. They are for browsers, and no part of the API.
pub(in crate::http) fn routes() -> Router<Arc<App>> {
    Router::new()
        .merge(front::routes())
        .merge(sign_in::routes())
        .merge(slack::routes())
        .merge(ask::routes())
        .merge(requests::routes())
        .merge(claim::routes())
        .merge(leases::routes())
        .layer(middleware::map_response(layout::mark))
        .route("/page.css", get(style))
        .route("/icon.svg", get(icon))
}

/// Is what is asked for a page, so that what is wrong is told as one?
pub(in crate::http) fn is_page(response: &axum::response::Response) -> bool {
    response.extensions().get::<Page>().is_some()
}

async fn style() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/css"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, STYLE)
}

async fn icon() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=86400")];
    (headers, ICON)
}
