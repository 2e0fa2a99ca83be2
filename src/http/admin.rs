//! Targets and profiles, one at a time. As code they are in `code`.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        admin::{AdminRotation, Profile, PutTarget, Target},
    },
    app::{self, App, targets::Given},
    domain::{
        administration::Right,
        diagnosis::Diagnosis,
        name::Name,
        profile::{self, ProfileSpec},
        schedule::Schedule,
        target::{self, DEFAULT_SCRAM_ITERATIONS, SslMode, TargetSpec},
    },
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Nothing, Paging, Path, Query},
        problem::Failure,
    },
    identity::Caller,
    ids::TargetId,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_targets))
        .routes(routes!(show_target, put_target, remove_target))
        .routes(routes!(diagnose_target))
        .routes(routes!(rotate_admin))
        .routes(routes!(list_profiles))
        .routes(routes!(show_profile, put_profile, remove_profile))
}

/// PostgreSQL's own port.
const DEFAULT_PORT: u16 = 5432;

/// List targets. Administrators only.
#[utoipa::path(
    get,
    path = "/v1/targets",
    tag = "targets", operation_id = "listTargets",
    params(Paging),
    responses((status = 200, body = Page<Target>))
)]
async fn list_targets(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Target>>, Failure> {
    let admin = signed_in.admin(&app, Right::Read, "listing targets").await?;
    let mut targets = app.targets(&admin).await?;
    targets.sort_by_key(|target| std::cmp::Reverse(target.id));
    let rotations = app.admin_rotations(&admin).await?;
    let shown = |target| shown_target(target, &rotations);
    Ok(Json(paging.page(targets, |target| target.id.to_string(), shown)?))
}

/// Show a target. Administrators only; the admin role's password is never shown.
#[utoipa::path(
    get,
    path = "/v1/targets/{name}",
    tag = "targets", operation_id = "showTarget",
    params(("name" = Name, Path, description = "The target")),
    responses((status = 200, body = Target))
)]
async fn show_target(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Target>, Failure> {
    let admin = signed_in.admin(&app, Right::Read, "showing a target").await?;
    let target = app.target(&admin, &name).await?;
    Ok(Json(shown_target(target, &app.admin_rotations(&admin).await?)))
}

/// Record or change a target. Administrators only.
///
/// Connects to it first: what does not answer is not recorded.
#[utoipa::path(
    put,
    path = "/v1/targets/{name}",
    tag = "targets", operation_id = "putTarget",
    params(("name" = Name, Path, description = "The target")),
    request_body(content = PutTarget, example = json!({
        "environment": "prod", "host": "db1.internal", "sslmode": "verify-full",
        "admin_user": "pgvalet_admin", "admin_password": "…", "databases": ["shop"]
    })),
    responses(
        (status = 200, description = "It was there", body = Target),
        (status = 201, description = "It is new", body = Target),
    )
)]
async fn put_target(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<PutTarget>,
) -> Result<(StatusCode, Json<Target>), Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "changing a target").await?;
    if body.admin_password.is_some() && body.admin_source.is_some() {
        return Err(Failure::fault(
            "admin_password",
            "is kept, or comes from `admin_source`: give one of them",
        ));
    }
    let never = body.admin_source.as_ref().map(|_| Schedule::Never);
    let spec = TargetSpec {
        name,
        environment: body.environment,
        host: body.host,
        port: body.port.unwrap_or(DEFAULT_PORT),
        sslmode: body.sslmode.unwrap_or(SslMode::VerifyFull),
        sslrootcert_pem: body.sslrootcert_pem,
        sslcert_pem: body.sslcert_pem,
        admin_source: body.admin_source,
        admin_user: body.admin_user,
        databases: body.databases,
        max_live: body.max_live,
        scram_iterations: body.scram_iterations.unwrap_or(DEFAULT_SCRAM_ITERATIONS),
        rotate_admin: body.rotate_admin.or(never).unwrap_or_else(Schedule::ninety_days),
    };
    let given = Given { password: body.admin_password.as_ref(), ssl_key: body.ssl_key.as_ref() };
    let (target, is_new) = app.put_target(&admin, &signed_in.origin, spec, given).await?;
    let shown = shown_target(target, &app.admin_rotations(&admin).await?);
    Ok((made(is_new), Json(shown)))
}

/// Renew the password of a target's administrator. Administrators only.
///
/// The next one is sealed, set on the target, tried, and takes the place of the one before. Nobody is
/// told it. Connections that are open work on.
#[utoipa::path(
    post,
    path = "/v1/targets/{name}/rotate-admin",
    tag = "targets", operation_id = "rotateAdmin",
    params(("name" = Name, Path, description = "The target")),
    responses((status = 200, description = "Renewed", body = Target))
)]
async fn rotate_admin(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Target>, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "renewing an admin's password").await?;
    let target = app.rotate_admin(&admin, &signed_in.origin, &name).await?;
    Ok(Json(shown_target(target, &app.admin_rotations(&admin).await?)))
}

/// Remove a target. Administrators only; refused while a profile or a live lease needs it.
#[utoipa::path(
    delete,
    path = "/v1/targets/{name}",
    tag = "targets", operation_id = "removeTarget",
    params(("name" = Name, Path, description = "The target")),
    responses((status = 204, description = "Removed"))
)]
async fn remove_target(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "removing a target").await?;
    app.remove_target(&admin, &signed_in.origin, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Look what can and cannot be done on a target. Administrators only.
///
/// What is tried there is undone. A target that cannot be reached is a finding, and no failure.
#[utoipa::path(
    get,
    path = "/v1/targets/{name}/doctor",
    tag = "targets", operation_id = "diagnoseTarget",
    params(("name" = Name, Path, description = "The target")),
    responses((status = 200, body = Diagnosis))
)]
async fn diagnose_target(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Diagnosis>, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "examining a target").await?;
    Ok(Json(app.diagnose(&admin, &name).await?))
}

/// List profiles.
///
/// Those that the caller may ask for, or all for an administrator.
#[utoipa::path(
    get,
    path = "/v1/profiles",
    tag = "profiles", operation_id = "listProfiles",
    params(Paging),
    responses((status = 200, body = Page<Profile>))
)]
async fn list_profiles(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Profile>>, Failure> {
    let mut profiles = app.profiles(&signed_in.caller).await?;
    profiles.sort_by_key(|profile| std::cmp::Reverse(profile.id));
    let caller = &signed_in.caller;
    let shown = |profile| shown_to(caller, profile);
    Ok(Json(paging.page(profiles, |profile| profile.id.to_string(), shown)?))
}

/// Show a profile.
#[utoipa::path(
    get,
    path = "/v1/profiles/{name}",
    tag = "profiles", operation_id = "showProfile",
    params(("name" = Name, Path, description = "The profile")),
    responses((status = 200, body = Profile))
)]
async fn show_profile(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Profile>, Failure> {
    let profile = app.profile(&signed_in.caller, &name).await?;
    Ok(Json(shown_to(&signed_in.caller, profile)))
}

/// Record or change a profile. Administrators only.
///
/// Its group role and grants are made on the target at once.
#[utoipa::path(
    put,
    path = "/v1/profiles/{name}",
    tag = "profiles", operation_id = "putProfile",
    params(("name" = Name, Path, description = "The profile: the same as in the body")),
    request_body(content = ProfileSpec, example = json!({
        "name": "shop-read", "description": "Read the shop", "target": "shop", "database": "shop",
        "preset": "readonly", "schemas": ["sales"], "ttl": "1h", "max_ttl": "8h",
        "connection_limit": 3, "settings": {"statement_timeout": "30s"},
        "allow": ["group:engineering"], "reason": "optional"
    })),
    responses(
        (status = 200, description = "It was there", body = Profile),
        (status = 201, description = "It is new", body = Profile),
    )
)]
async fn put_profile(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
    Json(spec): Json<ProfileSpec>,
) -> Result<(StatusCode, Json<Profile>), Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "changing a profile").await?;
    if spec.name != name {
        let message = format!("is `{}`, and the path says `{name}`: write the same", spec.name);
        return Err(Failure::fault("name", message));
    }
    let (profile, is_new) = app.put_profile(&admin, &signed_in.origin, spec).await?;
    Ok((made(is_new), Json(shown_profile(profile))))
}

/// Remove a profile. Administrators only; refused while a lease under it is live.
#[utoipa::path(
    delete,
    path = "/v1/profiles/{name}",
    tag = "profiles", operation_id = "removeProfile",
    params(("name" = Name, Path, description = "The profile")),
    responses((status = 204, description = "Removed"))
)]
async fn remove_profile(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "removing a profile").await?;
    app.remove_profile(&admin, &signed_in.origin, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http) const fn made(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::OK }
}

fn shown_target(target: target::Target, rotations: &[(TargetId, app::AdminRotation)]) -> Target {
    let stands = rotations.iter().find(|(id, _)| *id == target.id);
    let admin_rotation = stands.map_or_else(AdminRotation::default, |(_, stands)| AdminRotation {
        rotated_at: stands.rotated_at,
        due_at: stands.due_at,
        blocked_by: stands.blocked_by.clone(),
        refused_at: stands.refused_at,
    });
    Target { id: target.id, version: target.version, admin_rotation, spec: target.spec }
}

/// Who else may ask for a profile is not every caller's business.
fn shown_to(caller: &Caller, mut profile: profile::Profile) -> Profile {
    if !caller.may(Right::Read) {
        profile.spec.allow.clear();
        profile.bounds.clear();
    }
    shown_profile(profile)
}

pub(in crate::http) fn shown_profile(profile: profile::Profile) -> Profile {
    Profile {
        id: profile.id,
        version: profile.version,
        prepared: profile.is_prepared(),
        failed_checks: profile.failed_checks,
        bounds: profile.bounds,
        effective_group_role: profile.spec.group_role(),
        spec: profile.spec,
    }
}
