//! Standing roles: recorded, shown, rotated, removed, and read by their consumers.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        standing::{RotateStandingRole, StandingCredential, StandingRole},
    },
    app::{App, rotate_standing::Before},
    clock::Clock,
    domain::{
        administration::Right,
        name::Name,
        standing::{self, StandingRoleSpec},
    },
    http::{
        admin::made,
        caller::SignedIn,
        json::Json,
        leases::shown_credential,
        parameters::{Nothing, Paging, Path, Query},
        problem::Failure,
    },
    identity::Caller,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, remove))
        .routes(routes!(read))
        .routes(routes!(rotate))
}

/// List standing roles.
///
/// Those whose credential the caller may read, or all for an administrator.
#[utoipa::path(
    get,
    path = "/v1/standing-roles",
    tag = "standing roles", operation_id = "listStandingRoles",
    params(Paging),
    responses((status = 200, body = Page<StandingRole>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<StandingRole>>, Failure> {
    let mut roles = app.standing_roles(&signed_in.caller).await?;
    roles.sort_by_key(|role| std::cmp::Reverse(role.id));
    let shown = |role| shown_to(&signed_in.caller, role);
    Ok(Json(paging.page(roles, |role| role.id.to_string(), shown)?))
}

/// Show a standing role.
///
/// Its `generation` tells a consumer whether there is something new to read.
#[utoipa::path(
    get,
    path = "/v1/standing-roles/{name}",
    tag = "standing roles", operation_id = "showStandingRole",
    params(("name" = Name, Path, description = "The standing role")),
    responses((status = 200, body = StandingRole))
)]
async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<StandingRole>, Failure> {
    let role = app.standing_role(&signed_in.caller, &name).await?;
    Ok(Json(shown_to(&signed_in.caller, role)))
}

/// Record or change a standing role. Administrators only.
///
/// The first login of a new one is made at once, in the background.
#[utoipa::path(
    put,
    path = "/v1/standing-roles/{name}",
    tag = "standing roles", operation_id = "putStandingRole",
    params(("name" = Name, Path, description = "The standing role: the same as in the body")),
    request_body(content = StandingRoleSpec, example = json!({
        "name": "orders-api", "description": "The shop's own program", "profile": "orders-write",
        "rotate": "90d", "window": "1h", "jitter": "2h", "grace": "1h", "allow": ["service:orders-api"]
    })),
    responses(
        (status = 200, description = "It was there", body = StandingRole),
        (status = 201, description = "It is new", body = StandingRole),
    )
)]
async fn put(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
    Json(spec): Json<StandingRoleSpec>,
) -> Result<(StatusCode, Json<StandingRole>), Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "changing a standing role").await?;
    if spec.name != name {
        let message = format!("is `{}`, and the path says `{name}`: write the same", spec.name);
        return Err(Failure::fault("name", message));
    }
    let (role, is_new) = app.put_standing_role(&admin, &signed_in.origin, spec).await?;
    Ok((made(is_new), Json(shown(role))))
}

/// Remove a standing role. Administrators only; its logins are ended.
#[utoipa::path(
    delete,
    path = "/v1/standing-roles/{name}",
    tag = "standing roles", operation_id = "removeStandingRole",
    params(("name" = Name, Path, description = "The standing role")),
    responses((status = 204, description = "Removed"))
)]
async fn remove(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "removing a standing role").await?;
    app.remove_standing_role(&admin, &signed_in.origin, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read the credential of a standing role.
///
/// For whom its `allow` names; each reading is an audit entry. Take user and password together: both
/// are fresh after a rotation, and those of before work for the grace.
#[utoipa::path(
    get,
    path = "/v1/standing-roles/{name}/credential",
    tag = "standing roles", operation_id = "readStandingRole",
    params(("name" = Name, Path, description = "The standing role")),
    responses(
        (status = 200, description = "What it hands out now", body = StandingCredential),
        (status = 409, description = "There is no login yet: ask again in a few seconds"),
    )
)]
async fn read(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<StandingCredential>, Failure> {
    let (caller, origin) = (&signed_in.caller, &signed_in.origin);
    let (role, credential) = app.standing_credential(caller, origin, &name).await?;
    let (standing_role, credential) = (shown_to(caller, role), shown_credential(credential));
    Ok(Json(StandingCredential { standing_role, credential }))
}

/// Rotate a standing role now. Administrators only. The body may be left out.
#[utoipa::path(
    post,
    path = "/v1/standing-roles/{name}/rotate",
    tag = "standing roles", operation_id = "rotateStandingRole",
    params(("name" = Name, Path, description = "The standing role")),
    request_body(content = Option<RotateStandingRole>, example = json!({"now": false})),
    responses((status = 200, description = "It hands out a fresh login", body = StandingRole))
)]
async fn rotate(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<RotateStandingRole>>,
) -> Result<Json<StandingRole>, Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "rotating a standing role").await?;
    let at_once = body.is_some_and(|Json(body)| body.now);
    let before = if at_once { Before::Now } else { Before::AfterGrace };
    let role = app.rotate_standing_role(&admin, &signed_in.origin, &name, before).await?;
    Ok(Json(shown(role)))
}

/// Who else may read it is not every caller's business.
fn shown_to(caller: &Caller, mut role: standing::StandingRole) -> StandingRole {
    if !caller.may(Right::Read) {
        role.spec.allow.clear();
    }
    shown(role)
}

fn shown(role: standing::StandingRole) -> StandingRole {
    let now = Clock.now();
    let (due, overdue) = (role.is_due(now), role.is_overdue(now));
    let present = role.present.as_ref();
    StandingRole {
        id: role.id,
        version: role.version,
        generation: role.generation,
        target: role.target,
        database: role.database,
        role: present.map(|present| present.role_name.clone()),
        lease_id: present.map(|present| present.lease_id),
        state: present.map(|present| present.state),
        valid_until: present.map(|present| present.valid_until),
        rotated_at: role.rotated_at,
        due_at: role.due_at,
        due,
        overdue,
        blocked_by: role.blocked_by,
        spec: role.spec,
    }
}
