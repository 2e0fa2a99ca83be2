//! The audit: pages of it, a check of the chain, and all of it as JSON lines. The export is written
//! as it is read, so that its length costs no memory.

use std::{collections::VecDeque, fmt::Write as _, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        audit::{AuditEntry, Checkpoint, ExportLine, Verification},
    },
    app::{
        App, Listed,
        history::{ExportPage, SignedHead},
    },
    domain::administration::Right,
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Limit, Nothing, Query},
        problem::Failure,
    },
    identity::Caller,
    ids::{AuditId, LeaseId},
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(verify)).routes(routes!(export))
}

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// Only those of this kind.
    #[param(example = "lease.intended")]
    kind: Option<String>,
    /// Only those about this lease.
    lease_id: Option<LeaseId>,
    /// `next_cursor` of the page before.
    cursor: Option<AuditId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// List audit entries. Administrators only; newest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "audit", operation_id = "listAudit",
    params(AuditQuery),
    responses((status = 200, body = Page<AuditEntry>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditEntry>>, Failure> {
    let admin = signed_in.admin(&app, Right::Audit, "reading the audit").await?;
    let most = query.limit.with_one_more();
    let rows =
        app.audit_page(&admin, query.kind.as_deref(), query.lease_id, query.cursor, most).await?;
    Ok(Json(query.limit.page(rows, |row| row.id.to_string(), shown)))
}

/// Check the chain. Administrators only.
///
/// Hashes every sealed entry again and checks every checkpoint's signature.
#[utoipa::path(
    get,
    path = "/v1/audit/verify",
    tag = "audit", operation_id = "verifyAudit",
    responses((status = 200, body = Verification))
)]
async fn verify(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Verification>, Failure> {
    let admin = signed_in.admin(&app, Right::Audit, "checking the audit").await?;
    let found = app.verify_audit(&admin).await?;
    Ok(Json(Verification {
        intact: found.intact,
        entries: found.entries,
        head: found.head.to_string(),
        first_bad: found.first_bad,
        fault: found.fault,
        checkpoints: found.checkpoints,
        unsealed: found.unsealed,
        public_key: hexadecimal(&found.public_key),
    }))
}

/// Export the audit. Administrators only.
///
/// JSON lines: each sealed entry in the chain's order, each signed checkpoint after the entry that
/// it signs. An answer that breaks off is not whole, and HTTP says so.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    tag = "audit", operation_id = "exportAudit",
    responses((status = 200, description = "One JSON document a line", body = String,
               content_type = "application/x-ndjson"))
)]
async fn export(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Response, Failure> {
    let admin = signed_in.admin(&app, Right::Audit, "exporting the audit").await?;
    // The first page comes before the answer begins, so that a fault is still told as one.
    let first = app.export_audit(&admin, 0, PAGE).await?;
    let pages = Pages { app, caller: signed_in.caller, next: Some(first) };
    let lines = stream::try_unfold(pages, |mut pages| async move {
        Ok::<_, Broken>(pages.next_lines().await?.map(|lines| (lines, pages)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// Entries in one chunk of an export.
const PAGE: i64 = 500;

/// What is left of an export.
struct Pages {
    app: Arc<App>,
    caller: Caller,
    /// The page to be written next; none after the last.
    next: Option<ExportPage>,
}

/// An export that cannot go on. The connection is cut, so that the reader sees that it is not whole.
#[derive(Debug, thiserror::Error)]
#[error("the export broke off")]
struct Broken;

impl Pages {
    async fn next_lines(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some(page) = self.next.take() else { return Ok(None) };
        let Some(last) = page.entries.last().map(|entry| entry.position) else { return Ok(None) };
        let admin = self.caller.holding(Right::Audit).ok_or(Broken)?;
        let text = lines(page).map_err(|e| broken(&e))?;
        let following = self.app.export_audit(&admin, last, PAGE).await.map_err(|e| broken(&e))?;
        self.next = Some(following);
        Ok(Some(text))
    }
}

fn broken(cause: &(dyn std::error::Error + 'static)) -> Broken {
    tracing::error!(cause, "an export of the audit broke off");
    Broken
}

fn lines(page: ExportPage) -> Result<Bytes, serde_json::Error> {
    let mut text = Vec::new();
    let mut checkpoints = VecDeque::from(page.checkpoints);
    for entry in page.entries {
        let position = entry.position;
        write_line(&mut text, &ExportLine::Entry(entry))?;
        while let Some(head) = checkpoints.pop_front_if(|head| head.position <= position) {
            write_line(&mut text, &ExportLine::Checkpoint(shown_head(&head)))?;
        }
    }
    // One beyond the last entry tells that the end was cut off.
    for head in checkpoints {
        write_line(&mut text, &ExportLine::Checkpoint(shown_head(&head)))?;
    }
    Ok(Bytes::from(text))
}

fn write_line(text: &mut Vec<u8>, line: &ExportLine) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

fn shown_head(head: &SignedHead) -> Checkpoint {
    Checkpoint {
        position: head.position,
        head: head.head.to_string(),
        signed_at: head.signed_at,
        public_key: hexadecimal(&head.public_key),
        signature: hexadecimal(&head.signature),
    }
}

pub(in crate::http) fn shown(row: Listed) -> AuditEntry {
    AuditEntry {
        position: row.position,
        hash: row.hash.as_deref().map(hexadecimal),
        // An entry that is no JSON was altered: it is shown as it is, and `verify` says so.
        entry: serde_json::from_str(&row.body).unwrap_or(serde_json::Value::String(row.body)),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
