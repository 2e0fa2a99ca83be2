//! Signing in on another device, for `pgvalet login`; and out, everywhere. These routes are open to whoever
//! asks: what one source may begin and guess is bounded in `app`.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::people::{DeviceProgress, DeviceSignIn, PollDevice, SignedOut},
    app::{App, people::device::Progress},
    http::{
        caller::{From, SignedIn},
        json::Json,
        parameters::{Nothing, Query},
        problem::Failure,
        tokens,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(poll))
        .routes(routes!(sign_out_everywhere))
}

/// Begin to sign in on another device.
///
/// Answers where a person goes, and with which code; poll until they have been there.
#[utoipa::path(
    post,
    path = "/v1/sign-in/device",
    tag = "sign-in", operation_id = "beginDeviceSignIn",
    responses((status = 200, body = DeviceSignIn))
)]
async fn begin(
    State(app): State<Arc<App>>,
    From(origin): From,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<DeviceSignIn>, Failure> {
    let begun = app.begin_device(&origin).await?;
    Ok(Json(DeviceSignIn {
        secret: begun.secret.expose().clone(),
        user_code: begun.user_code,
        address: begun.address,
        address_with_code: begun.address_with_code,
        interval_seconds: begun.interval.num_seconds(),
        ends_at: begun.ends_at,
    }))
}

/// Ask how it stands.
///
/// With a session, once the person has been there; it is handed out once. Asked too soon, it says how long to wait.
#[utoipa::path(
    post,
    path = "/v1/sign-in/device/poll",
    tag = "sign-in", operation_id = "pollDeviceSignIn",
    responses((status = 200, body = DeviceProgress))
)]
async fn poll(
    State(app): State<Arc<App>>,
    From(origin): From,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<PollDevice>,
) -> Result<Json<DeviceProgress>, Failure> {
    let progress = app.poll_device(&origin, body.secret.expose()).await?;
    Ok(Json(match progress {
        Progress::Waiting(interval) => DeviceProgress {
            interval_seconds: Some(interval.num_seconds()),
            token: None,
            secret: None,
        },
        Progress::Done(made) => DeviceProgress {
            interval_seconds: None,
            token: Some(tokens::shown(made.token)),
            secret: Some(made.secret.expose().clone()),
        },
    }))
}

/// Sign out everywhere.
///
/// All sessions of the caller end; its API tokens stay.
#[utoipa::path(
    delete,
    path = "/v1/sessions",
    tag = "sign-in", operation_id = "signOutEverywhere",
    responses((status = 200, body = SignedOut))
)]
async fn sign_out_everywhere(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<SignedOut>, Failure> {
    let sessions = app.sign_out_everywhere(&signed_in.caller, &signed_in.origin).await?;
    Ok(Json(SignedOut { sessions }))
}
