//! Targets and profiles as code: what a file would change, the change, and the file that says what
//! there is.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::admin::{Adopt, Code, Export, Plan, PlanLine},
    app::{
        App,
        apply::{self, PlannedLine},
    },
    domain::{administration::Right, plan::Action},
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Nothing, Query},
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(plan))
        .routes(routes!(apply))
        .routes(routes!(export))
        .routes(routes!(adopt))
}

/// What would this file change? Administrators only.
///
/// Changes nothing, and shows the statements that an apply would run.
#[utoipa::path(
    post,
    path = "/v1/plan",
    tag = "code", operation_id = "plan",
    request_body(content = Code, example = json!({
        "name": "profiles.toml", "text": "[profile.shop-read]\n…", "secrets": {"file:shop-admin.secret": "…"}
    })),
    responses((status = 200, body = Plan))
)]
async fn plan(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(code): Json<Code>,
) -> Result<Json<Plan>, Failure> {
    let admin = signed_in.admin_of(&app, &Right::OF_A_FILE, "planning a change").await?;
    Ok(Json(shown(app.plan(&admin, &read(code)).await?)))
}

/// Make it as this file says. Administrators only.
///
/// The same file again changes nothing. What a file does not name stays as it is.
#[utoipa::path(
    post,
    path = "/v1/apply",
    tag = "code", operation_id = "apply",
    request_body(content = Code, example = json!({
        "name": "profiles.toml", "text": "[profile.shop-read]\n…", "secrets": {"file:shop-admin.secret": "…"}
    })),
    responses((status = 200, body = Plan))
)]
async fn apply(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(code): Json<Code>,
) -> Result<Json<Plan>, Failure> {
    let admin = signed_in.admin_of(&app, &Right::OF_A_FILE, "applying a change").await?;
    Ok(Json(shown(app.apply(&admin, &signed_in.origin, &read(code)).await?)))
}

/// All targets and profiles as a file. Administrators only; no password is in it.
#[utoipa::path(get, path = "/v1/export", tag = "code", operation_id = "export", responses((status = 200, body = Export)))]
async fn export(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Export>, Failure> {
    let admin = signed_in.admin(&app, Right::Read, "exporting targets and profiles").await?;
    Ok(Json(Export { text: app.export(&admin).await? }))
}

/// A first file of profiles from the grants that a database has already. Administrators only; nothing is changed.
#[utoipa::path(
    post,
    path = "/v1/adopt",
    tag = "code", operation_id = "adopt",
    request_body(content = Adopt, example = json!({ "target": "shop", "database": "shop", "roles": ["reporting"] })),
    responses((status = 200, body = Export))
)]
async fn adopt(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<Adopt>,
) -> Result<Json<Export>, Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "adopting a database's grants").await?;
    let text = app.adopt(&admin, &body.target, &body.database, &body.roles).await?;
    Ok(Json(Export { text }))
}

fn read(code: Code) -> apply::Code {
    apply::Code { name: code.name, text: code.text, secrets: code.secrets }
}

fn shown(lines: Vec<PlannedLine>) -> Plan {
    // A target that somebody changed by hand is to be mended, although the record stays.
    let is_change = |line: &PlannedLine| line.action != Action::Keep || !line.statements.is_empty();
    let changes = lines.iter().any(is_change);
    let lines = lines
        .into_iter()
        .map(|line| PlanLine {
            what: line.what.to_owned(),
            name: line.name,
            action: line.action,
            changed: line.changed.into_iter().map(str::to_owned).collect(),
            statements: line.statements,
            notes: line.notes,
        })
        .collect();
    Plan { lines, changes }
}
