//! How the installation stands. Administrators only: it names targets, and says how busy others are.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::status::{LastMinute, LeaseCounts, PartStatus, QueueDepth, Status, TargetStatus},
    app::{self, App},
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
    OpenApiRouter::new().routes(routes!(status))
}

/// How does it stand? Administrators only.
///
/// Leases by state, what happened in the last minute, what waits, and how each target and part is:
/// not older than two seconds. `pgvalet top` shows it.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "health", operation_id = "status",
    responses((status = 200, body = Status))
)]
async fn status(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Status>, Failure> {
    let admin = signed_in.admin(&app, Right::Read, "looking at the status").await?;
    Ok(Json(shown(app.status(&admin).await?)))
}

fn shown(status: app::status::Status) -> Status {
    let app::status::Status { at, counts, recent, queues, targets, parts } = status;
    Status {
        at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leases: LeaseCounts {
            provisioning: counts.provisioning,
            active: counts.active,
            revoking: counts.revoking,
        },
        logins_overdue: counts.overdue,
        logins_stuck: counts.stuck,
        audit_unsealed: counts.unsealed,
        audit_untold: counts.untold,
        last_minute: LastMinute {
            issued: recent.issued,
            refused: recent.refused,
            failed: recent.failed,
            renewed: recent.renewed,
            rotated: recent.rotated,
            removed: recent.removed,
        },
        queues: queues
            .into_iter()
            .map(|(queue, waiting)| QueueDepth { queue: queue.to_owned(), waiting })
            .collect(),
        targets: targets
            .into_iter()
            .map(|(part, leases)| TargetStatus {
                name: part.name,
                leases,
                ready: part.ready,
                detail: part.detail,
            })
            .collect(),
        parts: parts
            .into_iter()
            .map(|part| PartStatus { name: part.name, ready: part.ready, detail: part.detail })
            .collect(),
    }
}
