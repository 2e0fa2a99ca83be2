//! Drift: what is known of it, and a fresh look.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::drift::{AskForDrift, DriftReport, ProfileDrift},
    app::{App, drift::Looked},
    domain::administration::Right,
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Nothing, Query},
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(known, look))
}

/// How targets were last seen to differ from what profiles say. Administrators only.
#[utoipa::path(
    get,
    path = "/v1/drift",
    tag = "drift", operation_id = "knownDrift",
    responses((status = 200, body = DriftReport))
)]
async fn known(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<DriftReport>, Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "looking at drift").await?;
    let known = app.known_drift(&admin).await?;
    let shown = known.into_iter().map(|drift| ProfileDrift {
        profile: drift.profile,
        target: drift.target,
        found_at: Some(drift.found_at),
        statements: drift.statements,
        notes: drift.notes,
        mended: false,
        fault: None,
    });
    Ok(Json(DriftReport { profiles: shown.collect() }))
}

/// Look now whether targets hold what profiles say, and mend what differs if asked to. Administrators only.
#[utoipa::path(
    post,
    path = "/v1/drift",
    tag = "drift", operation_id = "lookForDrift",
    request_body(content = AskForDrift, example = json!({ "profiles": ["shop-read"], "mend": false })),
    responses((status = 200, body = DriftReport))
)]
async fn look(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<AskForDrift>,
) -> Result<Json<DriftReport>, Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "looking for drift").await?;
    let looked = app.look_for_drift(&admin, &signed_in.origin, &body.profiles, body.mend).await?;
    let shown = |looked: Looked| ProfileDrift {
        profile: looked.profile.to_string(),
        target: looked.target.to_string(),
        found_at: None,
        statements: looked.statements,
        notes: looked.notes,
        mended: looked.mended,
        fault: looked.fault,
    };
    Ok(Json(DriftReport { profiles: looked.into_iter().map(shown).collect() }))
}
