//! Sweeps, and the yes to what one would remove.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::sweep::{AcceptPlan, AskForSweep, Caution, Finding, Sweep, SweptTarget},
    app::{
        App,
        sweep::{self, Swept, Told},
    },
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
    OpenApiRouter::new().routes(routes!(sweep)).routes(routes!(accept))
}

/// Compare targets with the record, and act on it. Administrators only.
///
/// With `plan`, and while the daemon is cautious, it only shows what would be done.
#[utoipa::path(
    post,
    path = "/v1/sweep",
    tag = "sweep", operation_id = "sweep",
    request_body(content = AskForSweep, example = json!({ "targets": ["shop"], "plan": true })),
    responses((status = 200, body = Sweep))
)]
async fn sweep(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<AskForSweep>,
) -> Result<Json<Sweep>, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "sweeping targets").await?;
    let swept = app.sweep(&admin, &signed_in.origin, &body.targets, body.plan).await?;
    Ok(Json(shown(swept)))
}

/// Say yes to what a plan showed, and end the caution. Administrators only.
///
/// Refused if something else would be removed by now; then look at the plan again.
#[utoipa::path(
    post,
    path = "/v1/sweep/accept",
    tag = "sweep", operation_id = "acceptSweep",
    request_body(content = AcceptPlan, example = json!({ "plan": "3b6a27bc0de41f55" })),
    responses((status = 200, body = Sweep))
)]
async fn accept(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<AcceptPlan>,
) -> Result<Json<Sweep>, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "ending a caution").await?;
    let swept = app.accept_plan(&admin, &signed_in.origin, &body.plan).await?;
    Ok(Json(shown(swept)))
}

fn shown(sweep: sweep::Sweep) -> Sweep {
    let told = |told: Told| Finding {
        kind: told.finding.kind,
        role: told.finding.role,
        lease_id: told.finding.lease_id,
        what: told.finding.what,
        done: told.done,
        failed: told.failed,
    };
    let target = |swept: Swept| SweptTarget {
        target: swept.target.to_string(),
        fault: swept.fault,
        logins: swept.logins,
        findings: swept.findings.into_iter().map(told).collect(),
    };
    let caution = sweep.caution.map(|it| Caution { since: it.since, because: it.because });
    Sweep { caution, plan: sweep.plan, targets: sweep.targets.into_iter().map(target).collect() }
}
